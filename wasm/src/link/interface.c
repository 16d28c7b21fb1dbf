/* Loopback, tun, tap and bridge interfaces: lwIP's netif on one side, two record buffers that the embedder fills and empties on
   the other. A record has the same form in both, so that a cable copies once and a loopback exchanges pointers. */
#include "link/interface.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "ip/dhcp_client.h"
#include "ip/routes.h"
#include "link/bridge.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/ip.h"
#include "lwip/nd6.h"
#include "netif/ethernet.h"

#include <string.h>

static struct interface *interfaces; /* newest first */
static struct interface *loopback;
static uint32_t interface_count;

struct interface *tw_interface_first(void) { return interfaces; }

/* lwIP's driver entry. A full buffer refuses the frame: TCP keeps the segment and is called again, other frames are counted as
   lost. */
err_t tw_interface_transmit(struct netif *netif, struct pbuf *packet) {
  struct interface *interface = netif->state;
  uint32_t at = interface->block[ABI_BLOCK_TRANSMIT_LENGTH], size = record_size(packet->tot_len);
  if (at + size > ABI_TRANSMIT_CAPACITY) {
    interface->block[ABI_BLOCK_DROPPED_TRANSMIT_FULL]++;
    return ERR_BUF;
  }
  struct abi_record_header *record = record_at(interface->transmit, at);
  uint32_t length = packet->tot_len;
  record->length = length;
  if (packet->next == NULL) {
    memcpy(record + 1, packet->payload, length);
  } else {
    pbuf_copy_partial(packet, record + 1, (u16_t)length, 0);
  }
  interface->block[ABI_BLOCK_TRANSMIT_LENGTH] = at + size;
  interface->block[ABI_BLOCK_TRANSMITTED_FRAMES]++;
  if (interface->kind != ABI_KIND_LOOPBACK) { /* read after tcp_send and tcp_received only, which clear it first */
    tw_control[ABI_CONTROL_SENT_AT_ONCE] = (uint32_t)interface->handle;
  }
  return ERR_OK;
}

static err_t transmit4(struct netif *netif, struct pbuf *packet, const ip4_addr_t *next_hop) {
  (void)next_hop;
  return tw_interface_transmit(netif, packet);
}

static err_t transmit6(struct netif *netif, struct pbuf *packet, const ip6_addr_t *next_hop) {
  (void)next_hop;
  return tw_interface_transmit(netif, packet);
}

static err_t netif_start(struct netif *netif) {
  struct interface *interface = netif->state;
  netif->name[0] = "lttb"[interface->kind];
  netif->name[1] = "oupr"[interface->kind];
  netif->linkoutput = interface->kind == ABI_KIND_BRIDGE ? tw_bridge_transmit : tw_interface_transmit;
  netif->flags = NETIF_FLAG_UP | NETIF_FLAG_LINK_UP;
  if (interface_is_ethernet(interface)) {
    netif->flags |= NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_IGMP | NETIF_FLAG_MLD6;
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->hwaddr_len = ETH_HWADDR_LEN;
    memcpy(netif->hwaddr, tw_scratch.mac_address.address, sizeof tw_scratch.mac_address.address);
  } else {
    netif->flags |= interface->kind == ABI_KIND_TUN ? NETIF_FLAG_IGMP : 0; /* the link supports multicast */
    netif->output = transmit4;
    netif->output_ip6 = transmit6;
  }
  return ERR_OK;
}

static void release(struct interface *interface) {
  tw_heap_free(interface->table);
  tw_heap_free(interface->receive);
  tw_heap_free(interface->transmit);
  tw_heap_free(interface);
}

int32_t abi_interface_add(int32_t kind, int32_t mtu, int32_t ipv6) {
  if (kind < ABI_KIND_LOOPBACK || kind > ABI_KIND_BRIDGE || mtu < 68 || mtu > ABI_MAX_FRAME) {
    return ABI_ERROR_INVALID; /* 68: RFC 791, section 3.2 */
  }
  if (interface_count == ABI_MAX_INTERFACES || (kind == ABI_KIND_LOOPBACK && loopback != NULL)) {
    return ABI_ERROR_LIMIT;
  }
  struct interface *interface = tw_heap_allocate_zeroed(1, sizeof *interface);
  if (interface == NULL) {
    return ABI_ERROR_NO_MEMORY;
  }
  interface->kind = kind;
  bool complete;
  if (kind == ABI_KIND_BRIDGE) {
    complete = tw_bridge_start(interface);
    interface->block[ABI_BLOCK_RECEIVE_LENGTH] = ABI_RECEIVE_CAPACITY; /* full: the embedder must not write there */
  } else {
    interface->receive = tw_heap_allocate(ABI_RECEIVE_CAPACITY);
    interface->transmit = tw_heap_allocate(ABI_TRANSMIT_CAPACITY);
    complete = interface->receive != NULL && interface->transmit != NULL;
  }
  interface->handle = complete ? tw_handle_open(HANDLE_INTERFACE, interface) : ABI_ERROR_NO_MEMORY;
  if (interface->handle < 0) {
    release(interface);
    return ABI_ERROR_NO_MEMORY;
  }
  interface->block[ABI_BLOCK_RECEIVE_BUFFER] = (uint32_t)(uintptr_t)interface->receive;
  interface->block[ABI_BLOCK_TRANSMIT_BUFFER] = (uint32_t)(uintptr_t)interface->transmit;
  netif_add_noaddr(&interface->netif, interface, netif_start, interface_is_ethernet(interface) ? ethernet_input : ip_input);
  uint32_t most = interface_is_ethernet(interface) ? ABI_MAX_FRAME - SIZEOF_ETH_HDR : ABI_MAX_FRAME;
  interface->netif.ip6_autoconfig_enabled = 0; /* addresses are those that the embedder sets */
  interface->netif.rs_count = 0;
  interface->netif.mtu = interface->netif.mtu6 = (u16_t)LWIP_MIN((uint32_t)mtu, most);
  if (kind == ABI_KIND_LOOPBACK) {
    loopback = interface;
    NETIF_SET_CHECKSUM_CTRL(&interface->netif, NETIF_CHECKSUM_DISABLE_ALL);
  } else if (ipv6 && interface_is_ethernet(interface) && mtu >= 1280) { /* RFC 8200, section 5: IPv6 needs 1280 */
    netif_create_ip6_linklocal_address(&interface->netif, 1);
    netif_ip6_addr_set_state(&interface->netif, 0, IP6_ADDR_PREFERRED);
    interface->prefixes[0] = 64; /* RFC 4291, section 2.5.6 */
  }
  interface->next = interfaces;
  interfaces = interface;
  interface_count++;
  return interface->handle;
}

struct interface *tw_interface_object(int32_t handle) { return tw_handle_object(handle, HANDLE_INTERFACE); }

int32_t abi_interface_remove(int32_t handle) {
  struct interface *interface = tw_interface_object(handle);
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct interface **link = &interfaces;
  while (*link != interface) {
    link = &(*link)->next;
  }
  *link = interface->next;
  interface_count--;
  if (loopback == interface) {
    loopback = NULL;
  }
  tw_bridge_forget(interface);
  tw_routes_forget(interface);
  tw_dhcp_client_stop(&interface->dhcp);
  netif_remove(&interface->netif);
  tw_handle_close(handle);
  release(interface);
  return 0;
}

int32_t abi_interface_block(int32_t handle) {
  struct interface *interface = tw_interface_object(handle);
  return interface == NULL ? ABI_ERROR_BAD_HANDLE : (int32_t)(uintptr_t)interface->block;
}

int32_t abi_interface_address(int32_t handle, int32_t family, int32_t prefix) {
  struct interface *interface = tw_interface_object(handle);
  ip_addr_t address;
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  tw_address_read(&address, family, tw_scratch.ip_address.address, 0);
  if (family == ABI_FAMILY_IPV4 && prefix >= 0 && prefix <= 32) {
    ip4_addr_t mask = {prefix == 0 ? 0 : lwip_htonl(0xffffffffu << (32 - prefix))}, none = {0};
    netif_set_addr(&interface->netif, ip_2_ip4(&address), &mask, &none);
    return 0;
  }
  if (family != ABI_FAMILY_IPV6 || prefix < 0 || prefix > 128) {
    return ABI_ERROR_INVALID;
  }
  s8_t index;
  ip6_addr_assign_zone(ip_2_ip6(&address), IP6_UNICAST, &interface->netif);
  if (netif_add_ip6_address(&interface->netif, ip_2_ip6(&address), &index) != ERR_OK) {
    return ABI_ERROR_LIMIT;
  }
  netif_ip6_addr_set_state(&interface->netif, index, IP6_ADDR_PREFERRED);
  interface->prefixes[index] = (uint8_t)prefix;
  nd6_clear_destination_cache();
  return 0;
}

int32_t abi_interface_checksums(int32_t handle, int32_t enabled) {
  struct interface *interface = tw_interface_object(handle);
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  NETIF_SET_CHECKSUM_CTRL(&interface->netif, enabled ? NETIF_CHECKSUM_ENABLE_ALL : NETIF_CHECKSUM_DISABLE_ALL);
  return 0;
}

struct netif *tw_interface_netif(int32_t handle) {
  struct interface *interface = tw_interface_object(handle);
  return interface == NULL ? NULL : &interface->netif;
}

int32_t tw_interface_handle(const struct netif *netif) {
  return netif == NULL ? 0 : ((const struct interface *)netif->state)->handle;
}

uint32_t tw_interface_room(const struct netif *netif) {
  return ABI_TRANSMIT_CAPACITY - ((const struct interface *)netif->state)->block[ABI_BLOCK_TRANSMIT_LENGTH];
}

/* RFC 1122, section 3.2.1.3 (g): all of 127/8 is this host, if it has a loopback interface. */
int tw_interface_accepts4(const struct netif *netif, const ip4_addr_t *destination) {
  return loopback != NULL && netif == &loopback->netif && ip4_addr_isloopback(destination);
}

bool tw_interface_owns(const ip_addr_t *address) {
  if (loopback != NULL && IP_IS_V4(address) && tw_interface_accepts4(&loopback->netif, ip_2_ip4(address))) {
    return true;
  }
  for (const struct interface *interface = interfaces; interface != NULL; interface = interface->next) {
    if (IP_IS_V4(address) && !ip4_addr_isany(ip_2_ip4(address)) &&
        ip4_addr_eq(ip_2_ip4(address), netif_ip4_addr(&interface->netif))) {
      return true;
    }
    int8_t index = IP_IS_V6(address) ? netif_get_ip6_addr_match((struct netif *)&interface->netif, ip_2_ip6(address)) : -1;
    if (index >= 0 && ip6_addr_isvalid(netif_ip6_addr_state(&interface->netif, index))) { /* not a duplicate */
      return true;
    }
  }
  return false;
}

/* A packet of a host to one of its own addresses passes through its loopback interface (RFC 1122, section 3.2.1.3). */
struct netif *tw_interface_route4(const ip4_addr_t *source, const ip4_addr_t *destination) {
  (void)source;
  ip_addr_t address;
  ip_addr_copy_from_ip4(address, *destination);
  ip4_addr_t next;
  return loopback != NULL && tw_interface_owns(&address) ? &loopback->netif : tw_route_find4(destination, &next);
}

struct netif *tw_interface_route6(const ip6_addr_t *source, const ip6_addr_t *destination) {
  (void)source;
  ip_addr_t address;
  ip_addr_copy_from_ip6(address, *destination);
  ip6_addr_t next;
  return loopback != NULL && tw_interface_owns(&address) ? &loopback->netif : tw_route_find6(destination, &next);
}
