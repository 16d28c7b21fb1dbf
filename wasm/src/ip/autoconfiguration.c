/* How an interface gets its own IPv6 addresses: from router advertisements (RFC 4862), only where the embedder asks for it,
   with duplicate address detection (section 5.4); and the advertisements that a router sends and the solicitations it receives
   (RFC 4861, section 6). lwIP keeps the tables. Here the embedder is notified of the state of its addresses, and gets whole
   advertisements, whose further options it interprets. */
#include "ip/autoconfiguration.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/events.h"
#include "abi/module.h"
#include "abi/staging.h"
#include "ip/lease.h"
#include "link/interface.h"
#include "port/timers.h"
#include "lwip/icmp6.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/ip6.h"
#include "lwip/mld6.h"
#include "lwip/nd6.h"
#include "lwip/prot/icmp6.h"
#include "lwip/prot/nd6.h"

#include <string.h>

enum {
  HOP_LIMIT = 255, /* RFC 4861: proof that no router has forwarded the message */
  ADVERTISEMENT_MIN = sizeof(struct ra_header),
  ADVERTISEMENT_MAX = 1280 - IP6_HLEN,
};

/* A tap or a bridge with a link-local address, from which a router advertises (RFC 4861, section 6.1.2). */
static struct interface *router_interface(int32_t handle) {
  struct interface *interface = tw_interface_object(handle);
  if (interface == NULL || interface->kind < ABI_KIND_TAP) {
    return NULL;
  }
  return ip6_addr_isinvalid(netif_ip6_addr_state(&interface->netif, 0)) ? NULL : interface;
}

static struct interface *ready_interface(int32_t handle) {
  struct interface *interface = router_interface(handle);
  return interface == NULL || interface->kind != ABI_KIND_TAP ? NULL : interface;
}

static void check_for_duplicate(struct interface *interface, int8_t index) {
  netif_ip6_addr_set_state(&interface->netif, index, IP6_ADDR_TENTATIVE);
  interface->watched = true;
  tw_timers_changed();
}

int32_t abi_interface_autoconfigure(int32_t handle, int32_t enabled) {
  struct interface *interface = ready_interface(handle);
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct netif *netif = &interface->netif;
  netif->ip6_autoconfig_enabled = enabled != 0;
  netif->rs_count = enabled ? LWIP_ND6_MAX_MULTICAST_SOLICIT : 0;
  netif->mtu6 = netif->mtu;
  if (enabled) {
    if (!interface->link_local_checked) {
      interface->link_local_checked = true;
      check_for_duplicate(interface, 0);
    }
    interface->watched = true;
  } else {
    for (int8_t i = 1; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
      if (!ip6_addr_isinvalid(netif_ip6_addr_state(netif, i)) && !netif_ip6_addr_isstatic(netif, i)) {
        netif_ip6_addr_set_state(netif, i, IP6_ADDR_INVALID);
      }
    }
    nd6_cleanup_netif(netif);
  }
  tw_timers_changed();
  return 0;
}

/* Scratch: one of the interface's addresses, which was not used yet. */
int32_t abi_interface_check_address(int32_t handle, int32_t keep) {
  struct interface *interface = ready_interface(handle);
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  ip_addr_t address;
  tw_address_read(&address, ABI_FAMILY_IPV6, tw_scratch.ip_address.address, 0);
  ip6_addr_assign_zone(ip_2_ip6(&address), IP6_UNICAST, &interface->netif);
  int8_t index = netif_get_ip6_addr_match(&interface->netif, ip_2_ip6(&address));
  if (index < 0) {
    return ABI_ERROR_ADDRESS_NOT_AVAILABLE;
  }
  if (keep) {
    check_for_duplicate(interface, index);
  } else {
    netif_ip6_addr_set_state(&interface->netif, index, IP6_ADDR_INVALID);
  }
  return 0;
}

static void all_routers(ip6_addr_t *address, struct netif *netif) {
  ip6_addr_set_allrouters_linklocal(address);
  ip6_addr_assign_zone(address, IP6_MULTICAST, netif);
}

int32_t abi_interface_hear_solicitations(int32_t handle, int32_t enabled) {
  struct interface *interface = router_interface(handle);
  ip6_addr_t group;
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  all_routers(&group, &interface->netif);
  if (interface->router != (enabled != 0)) {
    err_t error = enabled ? mld6_joingroup_netif(&interface->netif, &group) : mld6_leavegroup_netif(&interface->netif, &group);
    if (error != ERR_OK) {
      return tw_error_from_lwip(error);
    }
    interface->router = enabled != 0;
  }
  return 0;
}

/* Staging: a router advertisement without its checksum. It goes to all nodes of the link. */
int32_t abi_interface_advertise(int32_t handle, int32_t length) {
  struct interface *interface = router_interface(handle);
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct netif *netif = &interface->netif;
  if (length < ADVERTISEMENT_MIN || length > ADVERTISEMENT_MAX) {
    return ABI_ERROR_INVALID;
  }
  if (!ip6_addr_isvalid(netif_ip6_addr_state(netif, 0))) {
    return ABI_ERROR_ADDRESS_NOT_AVAILABLE;
  }
  struct pbuf *packet = pbuf_alloc(PBUF_IP, (u16_t)length, PBUF_RAM);
  if (packet == NULL) {
    return ABI_ERROR_NO_MEMORY;
  }
  ip6_addr_t nodes;
  const ip6_addr_t *source = netif_ip6_addr(netif, 0);
  ip6_addr_set_allnodes_linklocal(&nodes);
  ip6_addr_assign_zone(&nodes, IP6_MULTICAST, netif);
  memcpy(packet->payload, tw_staging(), (size_t)length);
  struct ra_header *header = packet->payload;
  header->type = ICMP6_TYPE_RA;
  header->code = 0;
  header->chksum = 0;
  IF__NETIF_CHECKSUM_ENABLED(netif, NETIF_CHECKSUM_GEN_ICMP6) {
    header->chksum = ip6_chksum_pseudo(packet, IP6_NEXTH_ICMP6, packet->tot_len, source, &nodes);
  }
  err_t error = ip6_output_if(packet, source, &nodes, HOP_LIMIT, 0, IP6_NEXTH_ICMP6, netif);
  pbuf_free(packet);
  return tw_error_from_lwip(error);
}

/* A router advertisement that has passed the checks of RFC 4861, section 6.1.2. It is truncated to the smallest MTU of IPv6. */
void tw_router_advertised(struct netif *netif, const struct pbuf *message) {
  uint16_t length = LWIP_MIN(message->tot_len, ADVERTISEMENT_MAX);
  struct abi_router_advertisement *head =
      tw_event_append(ABI_EVENT_ROUTER_ADVERTISEMENT, tw_interface_handle(netif), length, sizeof *head + length);
  memcpy(head->router, ip6_current_src_addr()->addr, sizeof head->router);
  pbuf_copy_partial(message, head + 1, length, 0);
  tw_timers_changed();
}

/* Each option has a length, and a host without an address does not name its link-layer address. */
static bool options_valid(const struct pbuf *solicitation) {
  uint32_t offset = sizeof(struct rs_header);
  while (offset + 2 <= solicitation->tot_len) {
    uint32_t length = pbuf_get_at(solicitation, (u16_t)(offset + 1)) * 8u;
    if (length == 0 ||
        (ip6_addr_isany(ip6_current_src_addr()) && pbuf_get_at(solicitation, (u16_t)offset) == ND6_OPTION_TYPE_SOURCE_LLADDR)) {
      return false;
    }
    offset += length;
  }
  return true;
}

/* RFC 4861, section 6.1.1. However many solicitations arrive, the embedder is notified once in a poll. */
void tw_router_solicited(struct netif *netif, const struct pbuf *message) {
  struct interface *interface = netif->state;
  if (interface->router && IP6H_HOPLIM(ip6_current_header()) == HOP_LIMIT && message->tot_len >= sizeof(struct rs_header) &&
      ((const struct rs_header *)message->payload)->code == 0 && options_valid(message)) {
    interface->solicited = true;
  }
}

static uint32_t address_state(const struct netif *netif, int8_t index) {
  uint8_t state = netif_ip6_addr_state(netif, index);
  return ip6_addr_isinvalid(state)      ? ABI_ADDRESS_GONE
         : ip6_addr_isduplicated(state) ? ABI_ADDRESS_DUPLICATE
         : ip6_addr_istentative(state)  ? ABI_ADDRESS_TENTATIVE
         : ip6_addr_ispreferred(state)  ? ABI_ADDRESS_PREFERRED
                                        : ABI_ADDRESS_DEPRECATED;
}

_Static_assert(ABI_ADDRESS_REPORT_FAMILY_OFFSET == ABI_ENDPOINT_FAMILY_OFFSET &&
                   ABI_ADDRESS_REPORT_GIVEN_OFFSET == ABI_ENDPOINT_PORT_OFFSET &&
                   ABI_ADDRESS_REPORT_SCOPE_OFFSET == ABI_ENDPOINT_SCOPE_OFFSET &&
                   ABI_ADDRESS_REPORT_ADDRESS_OFFSET == ABI_ENDPOINT_ADDRESS_OFFSET &&
                   ABI_ADDRESS_REPORT_VALID_OFFSET == ABI_ENDPOINT_SIZE,
               "an address report begins with the fields of an endpoint");

static void report_address(const struct interface *interface, const struct known_address *known) {
  union {
    struct abi_endpoint endpoint; /* `given` takes the place of the port */
    struct abi_address_report report;
  } payload;
  tw_address_write(&payload.endpoint, &known->address, known->valid == IP6_ADDR_LIFE_STATIC ? 1 : 0);
  payload.report.valid = known->valid;
  payload.report.preferred = known->preferred;
  tw_event_add_bytes(ABI_EVENT_ADDRESS, interface->handle, (int32_t)known->state, &payload, sizeof payload.report);
}

static void report(struct interface *interface) {
  for (int8_t i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
    struct netif *netif = &interface->netif;
    struct known_address *known = &interface->known[i];
    uint32_t state = address_state(netif, i), valid = netif_ip6_addr_valid_life(netif, i);
    const ip_addr_t *address = &netif->ip6_addr[i];
    bool other = !ip_addr_eq(address, &known->address);
    if (other && known->state != ABI_ADDRESS_GONE) {
      known->state = ABI_ADDRESS_GONE;
      report_address(interface, known);
    }
    bool changed = state != known->state || (state != ABI_ADDRESS_GONE && (other || valid > known->valid));
    known->state = state;
    if (state != ABI_ADDRESS_GONE) { /* else what it was */
      known->valid = valid;
      known->preferred = netif_ip6_addr_pref_life(netif, i);
    }
    if (changed) {
      ip_addr_copy(known->address, *address);
      report_address(interface, known);
    }
  }
}

/* The reserve of events.c holds the most that all interfaces can report at once: two events for each address, a lease, three
   more. */
_Static_assert((LWIP_IPV6_NUM_ADDRESSES * 2 * (ABI_EVENT_HEADER_SIZE + ABI_ADDRESS_REPORT_SIZE) +
                4 * (ABI_EVENT_HEADER_SIZE + ABI_LEASE_SIZE)) *
                       ABI_MAX_INTERFACES <
                   131072,
               "room for all reports");

void tw_autoconfiguration_report(void) {
  for (struct interface *interface = tw_interface_first(); interface != NULL; interface = interface->next) {
    if (interface->watched) {
      report(interface);
    }
    if (interface->solicited) {
      interface->solicited = false;
      tw_event_add(ABI_EVENT_ROUTER_SOLICITATION, interface->handle, 0);
    }
    tw_lease_report(interface);
  }
}
