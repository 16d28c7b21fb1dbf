/* Output of UDP datagrams: by which interface, and from which address. */
#include "udp/udp_send.h"

#include "abi.h"
#include "abi/address_codec.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "abi/staging.h"
#include "ip/send_room.h"
#include "link/interface.h"
#include "udp/udp_calls.h"
#include "udp/udp_receive.h"
#include "lwip/ip.h"

enum { UDP_HEADER = 8 };

static bool is_limited_broadcast(const ip_addr_t *address) {
  return IP_IS_V4(address) && ip_2_ip4(address)->addr == IPADDR_BROADCAST;
}

/* Can this interface reach a group, or send a broadcast? */
static bool reaches(struct netif *netif, const ip_addr_t *destination) {
  uint8_t needed = is_limited_broadcast(destination) ? NETIF_FLAG_BROADCAST : NETIF_FLAG_IGMP;
  const ip_addr_t *own = ip_netif_get_local_ip(netif, destination);
  return (netif->flags & needed) != 0 && own != NULL && !ip_addr_isany(own);
}

/* The address that the socket is bound to, or NULL. */
static const ip_addr_t *own_address(const struct udp_socket *socket) {
  const ip_addr_t *own = &socket->pcb->local_ip;
  return ip_addr_isany(own) || ip_addr_ismulticast(own) ? NULL : own;
}

/* The interface for a group: the scope's, the socket's choice, that of the socket's own address, or the oldest that can. */
struct netif *tw_udp_group_route(const struct udp_socket *socket, const ip_addr_t *group) {
  const ip_addr_t *own = own_address(socket);
  struct netif *found = tw_interface_netif(socket->group_interface), *netif;
  if (IP_IS_V6(group) && ip6_addr_has_zone(ip_2_ip6(group))) {
    return netif_get_by_index(ip6_addr_zone(ip_2_ip6(group)));
  }
  if (found != NULL) {
    return found;
  }
  NETIF_FOREACH(netif) { /* newest first */
    bool fits = own == NULL     ? reaches(netif, group)
                : IP_IS_V4(own) ? ip4_addr_eq(ip_2_ip4(own), netif_ip4_addr(netif))
                                : netif_get_ip6_addr_match(netif, ip_2_ip6(own)) >= 0;
    found = fits ? netif : found;
  }
  return found;
}

int32_t tw_udp_route(const struct udp_socket *socket, const ip_addr_t *destination, const ip_addr_t **source,
                     struct netif **by) {
  const ip_addr_t *own = own_address(socket);
  bool broadcast = is_limited_broadcast(destination);
  int32_t error = 0;
  *source = own;
  if (broadcast) {
    *by = tw_interface_netif(socket->group_interface);
  } else if (ip_addr_ismulticast(destination)) {
    *by = tw_udp_group_route(socket, destination);
    error = *by == NULL ? ABI_ERROR_NO_ROUTE : 0;
  } else {
    error = tw_send_route(own, destination, source, by);
  }
  if (*by != NULL && *source == NULL) {
    *source = ip_netif_get_local_ip(*by, destination);
    /* With no address yet, a host may still broadcast a request for one. */
    error = *source == NULL || (ip_addr_isany(*source) && !broadcast) ? ABI_ERROR_NO_ROUTE : error;
  }
  if (error == 0 && !ip_get_option(socket->pcb, SOF_BROADCAST) && IP_IS_V4(destination) &&
      (broadcast || ip4_addr_isbroadcast(ip_2_ip4(destination), *by))) {
    return ABI_ERROR_NOT_PERMITTED;
  }
  return error;
}

static int32_t send_by(struct udp_socket *socket, struct netif *netif, const ip_addr_t *source, const ip_addr_t *destination,
                       uint16_t port, uint32_t length, bool loops) {
  if (!tw_send_has_room(netif, destination, UDP_HEADER + length)) {
    return tw_room_wait(&socket->waiter, socket->handle, netif);
  }
  struct pbuf *data = pbuf_alloc_reference((void *)(uintptr_t)tw_staging(), (u16_t)length, PBUF_REF);
  if (data == NULL) {
    return ABI_ERROR_NO_MEMORY;
  }
  err_t error = udp_sendto_if_src(socket->pcb, data, destination, port, netif, source);
  if (error == ERR_OK && loops) {
    tw_udp_loop(socket, netif, source, destination, port, data);
  }
  pbuf_free(data);
  return tw_room_result(&socket->waiter, socket->handle, netif, error);
}

/* RFC 1122, section 3.3.6 does not prescribe by which interfaces 255.255.255.255 leaves: by all that can, once all have
   room. */
static int32_t send_everywhere(struct udp_socket *socket, const ip_addr_t *own, const ip_addr_t *destination, uint16_t port,
                               uint32_t length) {
  int32_t result = ABI_ERROR_NO_ROUTE;
  bool first = true; /* own sockets receive it once */
  struct netif *netif;
  NETIF_FOREACH(netif) {
    if (reaches(netif, destination) && !tw_send_has_room(netif, destination, UDP_HEADER + length)) {
      return tw_room_wait(&socket->waiter, socket->handle, netif);
    }
  }
  NETIF_FOREACH(netif) {
    if (reaches(netif, destination)) {
      const ip_addr_t *source = own != NULL ? own : netif_ip_addr4(netif);
      result = send_by(socket, netif, source, destination, port, length, first);
      first = false;
    }
  }
  return result;
}

int32_t abi_udp_send(int32_t handle, int32_t length, int32_t named) {
  struct udp_socket *socket = tw_handle_object(handle, HANDLE_UDP);
  if (socket == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct udp_pcb *pcb = socket->pcb;
  ip_addr_t destination;
  uint16_t port = pcb->remote_port;
  if (named == 0) {
    if ((pcb->flags & UDP_FLAGS_CONNECTED) == 0) {
      return ABI_ERROR_NOT_CONNECTED;
    }
    ip_addr_copy(destination, pcb->remote_ip);
  } else if (!tw_address_read_endpoint(&destination, &port, &tw_scratch.endpoint) || port == 0) {
    return ABI_ERROR_INVALID;
  }
  if (length < 0 || !IP_ADDR_PCB_VERSION_MATCH(pcb, &destination)) {
    return ABI_ERROR_INVALID;
  }
  if (length > (IP_IS_V6(&destination) ? ABI_MAX_DATAGRAM6 : ABI_MAX_DATAGRAM)) {
    return ABI_ERROR_TOO_LONG;
  }
  const ip_addr_t *source;
  struct netif *netif;
  int32_t error = tw_udp_route(socket, &destination, &source, &netif);
  if (error != 0) {
    return error;
  }
  return netif == NULL ? send_everywhere(socket, source, &destination, port, (uint32_t)length)
                       : send_by(socket, netif, source, &destination, port, (uint32_t)length, true);
}
