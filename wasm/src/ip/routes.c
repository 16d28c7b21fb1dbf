/* The routing table, for IPv4 and IPv6: the next hop of a packet. Networks in which an interface has an address are implied and
   not in the table; where there is no route, lwIP's own rules apply (a default gateway from DHCP, an advertised router). An
   IPv4 address is stored as IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2), so that there is one table and one
   comparison. */
#include "ip/routes.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "link/interface.h"
#include "lwip/ip.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"

#include <string.h>

enum { MAPPED = 96, LINK_PREFIX = 64 };

struct route {
  uint8_t network[16], gateway[16];
  struct interface *interface;
  uint32_t metric;
  uint8_t prefix;
  bool via; /* else the network is a link of the interface */
};

uint32_t tw_route_count;
static struct route routes[ABI_MAX_ROUTES]; /* the longest prefix first, then the lowest metric */

struct next_hop {
  struct interface *interface;
  const uint8_t *gateway; /* or NULL */
};

static void map4(uint8_t key[16], const void *address) {
  memset(key, 0, 16);
  key[10] = key[11] = 0xff;
  memcpy(key + 12, address, 4);
}

static bool within(const uint8_t *address, const uint8_t *network, uint32_t bits) {
  uint32_t whole = bits / 8, rest = bits % 8;
  return memcmp(address, network, whole) == 0 && (rest == 0 || (address[whole] ^ network[whole]) >> (8 - rest) == 0);
}

static bool is_ipv4(const uint8_t *key) {
  static const uint8_t mapped[12] = {[10] = 0xff, 0xff};
  return memcmp(key, mapped, sizeof mapped) == 0;
}

bool tw_route_on_link6(const struct netif *netif, int index, const ip6_addr_t *destination) {
  const struct interface *interface = netif->state;
  return within((const uint8_t *)destination->addr, (const uint8_t *)netif_ip6_addr(netif, index)->addr,
                interface->prefixes[index]);
}

/* The longest prefix of an interface's own networks that an address is in, or -1. */
static int connected(const struct interface *interface, const uint8_t *key) {
  const struct netif *netif = &interface->netif;
  int longest = -1;
  if (!netif_is_up(netif)) {
    return -1;
  }
  if (is_ipv4(key)) {
    ip4_addr_t address;
    memcpy(&address, key + 12, 4);
    return !ip4_addr_isany(netif_ip4_addr(netif)) && ip4_addr_net_eq(&address, netif_ip4_addr(netif), netif_ip4_netmask(netif))
               ? MAPPED + __builtin_popcount(netif_ip4_netmask(netif)->addr)
               : -1;
  }
  ip6_addr_t address;
  memcpy(address.addr, key, 16);
  for (int i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
    if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) && netif_ip6_addr_isstatic(netif, i) &&
        interface->prefixes[i] > longest && tw_route_on_link6(netif, i, &address)) {
      longest = interface->prefixes[i];
    }
  }
  for (int i = 0; i < LWIP_ND6_NUM_PREFIXES; i++) { /* RFC 4861, section 6.3.4: advertised prefixes are on the link */
    if (prefix_list[i].netif == netif && prefix_list[i].invalidation_timer > 0 && longest < LINK_PREFIX &&
        within(key, (const uint8_t *)prefix_list[i].prefix.addr, LINK_PREFIX)) {
      longest = LINK_PREFIX;
    }
  }
  return longest;
}

static bool find(const uint8_t *key, struct next_hop *hop) {
  int longest = -1;
  hop->gateway = NULL;
  for (struct interface *interface = tw_interface_first(); interface != NULL; interface = interface->next) {
    int prefix = connected(interface, key);
    if (prefix > longest) {
      longest = prefix;
      hop->interface = interface;
    }
  }
  for (const struct route *route = routes; route < routes + tw_route_count && route->prefix > longest; route++) {
    if (within(key, route->network, route->prefix) && netif_is_up(&route->interface->netif) &&
        (route->prefix >= MAPPED || !is_ipv4(key))) {
      hop->interface = route->interface;
      hop->gateway = route->via ? route->gateway : NULL;
      return true;
    }
  }
  return longest >= 0;
}

struct netif *tw_route_find4(const ip4_addr_t *destination, ip4_addr_t *next) {
  uint8_t key[16];
  struct next_hop hop;
  map4(key, destination);
  if (!find(key, &hop)) {
    return NULL;
  }
  memcpy(next, hop.gateway != NULL ? hop.gateway + 12 : key + 12, 4);
  return &hop.interface->netif;
}

struct netif *tw_route_find6(const ip6_addr_t *destination, ip6_addr_t *next) {
  struct next_hop hop;
  if (!find((const uint8_t *)destination->addr, &hop)) {
    return NULL;
  }
  ip6_addr_copy(*next, *destination);
  if (hop.gateway != NULL) {
    memcpy(next->addr, hop.gateway, 16);
    ip6_addr_assign_zone(next, IP6_UNICAST, &hop.interface->netif);
  }
  return &hop.interface->netif;
}

/* lwIP asks, for an interface that it has chosen, whose link-layer address a packet is to have. */
const ip4_addr_t *tw_route_next_hop4(const struct netif *netif, const ip4_addr_t *destination) {
  static ip4_addr_t next;
  return tw_route_find4(destination, &next) == netif ? &next : NULL;
}

const ip6_addr_t *tw_route_next_hop6(const struct netif *netif, const ip6_addr_t *destination) {
  static ip6_addr_t next;
  return tw_route_find6(destination, &next) == netif ? &next : NULL;
}

/* --- The table changes ------------------------------------------------------------------------------------------ */

static void delete(uint32_t index) {
  memmove(&routes[index], &routes[index + 1], (--tw_route_count - index) * sizeof *routes);
  nd6_clear_destination_cache();
}

void tw_routes_forget(const struct interface *interface) {
  for (uint32_t i = tw_route_count; i-- > 0;) {
    if (routes[i].interface == interface) {
      delete(i);
    }
  }
}

/* Reads a network with its prefix length from scratch; the fields after it follow there. */
static bool read_route(struct route *route, int32_t family, int32_t prefix) {
  bool four = family == ABI_FAMILY_IPV4;
  if ((!four && family != ABI_FAMILY_IPV6) || prefix < 0 || prefix > (four ? 32 : 128)) {
    return false;
  }
  if (four) {
    map4(route->network, tw_scratch.route.network);
    map4(route->gateway, tw_scratch.route.gateway);
  } else {
    memcpy(route->network, tw_scratch.route.network, sizeof route->network);
    memcpy(route->gateway, tw_scratch.route.gateway, sizeof route->gateway);
  }
  route->prefix = (uint8_t)(four ? MAPPED + prefix : prefix);
  return true;
}

static bool same_route(const struct route *a, const struct route *b) {
  return a->prefix == b->prefix && a->metric == b->metric && within(a->network, b->network, a->prefix) &&
         is_ipv4(a->network) == is_ipv4(b->network);
}

int32_t abi_route_add(int32_t family, int32_t prefix, int32_t handle, int32_t via, int32_t metric) {
  struct route route = {.interface = tw_handle_object(handle, HANDLE_INTERFACE), .via = via != 0, .metric = (uint32_t)metric};
  ip_addr_t gateway;
  if ((handle != 0 || !via) && route.interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  if (!read_route(&route, family, prefix) || metric < 0) {
    return ABI_ERROR_INVALID;
  }
  tw_address_read(&gateway, family, tw_scratch.route.gateway, 0);
  bool local = IP_IS_V6(&gateway) && ip6_addr_islinklocal(ip_2_ip6(&gateway));
  if (via && (tw_interface_owns(&gateway) || (local && route.interface == NULL))) {
    return ABI_ERROR_INVALID;
  }
  if (via && !local) {
    int longest = -1;
    for (struct interface *interface = tw_interface_first(); interface != NULL; interface = interface->next) {
      int length = handle == 0 || interface == route.interface ? connected(interface, route.gateway) : -1;
      if (length > longest) {
        longest = length;
        route.interface = interface;
      }
    }
    if (longest < 0) {
      return ABI_ERROR_NO_ROUTE;
    }
  }
  uint32_t at = 0;
  for (; at < tw_route_count; at++) {
    if (same_route(&routes[at], &route)) {
      return ABI_ERROR_EXISTS;
    }
    if (routes[at].prefix < route.prefix || (routes[at].prefix == route.prefix && routes[at].metric > route.metric)) {
      break;
    }
  }
  if (tw_route_count == ABI_MAX_ROUTES) {
    return ABI_ERROR_LIMIT;
  }
  memmove(&routes[at + 1], &routes[at], (tw_route_count++ - at) * sizeof route);
  routes[at] = route;
  nd6_clear_destination_cache(); /* it holds next hops */
  return route.interface->handle;
}

int32_t abi_route_remove(int32_t family, int32_t prefix, int32_t metric) {
  struct route route = {.metric = (uint32_t)metric};
  if (!read_route(&route, family, prefix)) {
    return ABI_ERROR_INVALID;
  }
  for (uint32_t i = 0; i < tw_route_count; i++) {
    if (same_route(&routes[i], &route)) {
      delete(i);
      return 0;
    }
  }
  return ABI_ERROR_NOT_FOUND;
}
