/* The UDP socket of the DHCP clients. It is there as long as one of them runs, and finds a client by the interface that a
   message arrives on. */
#include "ip/dhcp_socket.h"

#include "lwip_hooks.h"
#include "abi/module.h"
#include "link/interface.h"
#include "lwip/ip.h"
#include "lwip/stats.h"
#include "lwip/udp.h"

enum { SERVER_PORT = 67, CLIENT_PORT = 68 };

static struct udp_pcb *pcb;
static uint32_t clients;

static void receive(void *argument, struct udp_pcb *by, struct pbuf *packet, const ip_addr_t *from, uint16_t port) {
  union {
    struct dhcp_message message;
    uint8_t bytes[DHCP_RECEIVED];
  } copy;
  (void)argument, (void)by, (void)from;
  struct interface *interface = ip_current_input_netif()->state;
  uint32_t length = pbuf_copy_partial(packet, &copy, sizeof copy, 0);
  pbuf_free(packet);
  if (port != SERVER_PORT || !tw_dhcp_client_accept(&interface->dhcp, &copy.message, length)) {
    UDP_STATS_INC(udp.drop);
  }
}

/* LWIP_IP_ACCEPT_UDP_PORT: answers reach an interface that has no address yet, whatever their destination. */
bool tw_dhcp_awaits(const struct netif *netif, uint16_t port) {
  return port == PP_HTONS(CLIENT_PORT) && ((const struct interface *)netif->state)->dhcp.state != DHCP_OFF;
}

err_t tw_dhcp_socket_open(void) {
  if (clients == 0) {
    pcb = udp_new();
    if (pcb == NULL) {
      return ERR_MEM;
    }
    ip_set_option(pcb, SOF_BROADCAST);
    udp_recv(pcb, receive, NULL);
    if (udp_bind(pcb, IP4_ADDR_ANY, CLIENT_PORT) != ERR_OK) {
      udp_remove(pcb);
      return ERR_USE;
    }
  }
  clients++;
  return ERR_OK;
}

void tw_dhcp_socket_close(void) {
  if (--clients == 0) {
    udp_remove(pcb);
  }
}

/* Without memory nothing is sent, as if it had been lost. */
void tw_dhcp_socket_send(struct dhcp_client *client, uint8_t type) {
  bool known = client->state == DHCP_RENEWING || type == DHCP_RELEASE;
  client->asked = tw_now;
  ip_2_ip4(&client->to)->addr = known ? client->lease.server.addr : IPADDR_BROADCAST;
  struct pbuf *packet = tw_dhcp_message_write(client, type);
  if (packet != NULL) {
    udp_sendto_if_src(pcb, packet, &client->to, SERVER_PORT, client->netif, netif_ip_addr4(client->netif));
    pbuf_free(packet);
  }
}
