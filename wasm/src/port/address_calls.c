/* What lwIP's address macros do, as functions: see include/address_calls.h. None is to be inlined again. */
#include "lwip/ip6.h"
#include "lwip/netif.h"

#include <string.h>

enum { IPV6_SIZE = 16 };

#define OUTLINE __attribute__((noinline))

OUTLINE uint16_t tw_swap16(uint16_t value) { return __builtin_bswap16(value); }

OUTLINE uint32_t tw_swap32(uint32_t value) { return __builtin_bswap32(value); }

/* Not by memcmp, which goes byte by byte: a transfer over IPv6 compares addresses for each segment. */
OUTLINE bool tw_addresses6_equal_bytes(const void *one, const void *other) {
  uint64_t left[2], right[2];
  memcpy(left, one, sizeof left);
  memcpy(right, other, sizeof right);
  return left[0] == right[0] && left[1] == right[1];
}

OUTLINE bool tw_addresses6_equal(const ip6_addr_t *one, const ip6_addr_t *other) {
  return one->zone == other->zone && tw_addresses6_equal_bytes(one->addr, other->addr);
}

OUTLINE bool tw_addresses_equal(const ip_addr_t *one, const ip_addr_t *other) {
  if (one->type != other->type) {
    return false;
  }
  return one->type == IPADDR_TYPE_V6 ? tw_addresses6_equal(ip_2_ip6(one), ip_2_ip6(other))
                                     : ip_2_ip4(one)->addr == ip_2_ip4(other)->addr;
}

OUTLINE bool tw_address6_is_any(const void *bytes) {
  return bytes == NULL || tw_addresses6_equal_bytes(bytes, IP6_ADDR_ANY6->addr);
}

OUTLINE bool tw_address_is_any(const ip_addr_t *address) {
  if (address == NULL) {
    return true;
  }
  return address->type == IPADDR_TYPE_V6 ? tw_address6_is_any(ip_2_ip6(address)) : ip_2_ip4(address)->addr == 0;
}

OUTLINE bool tw_address_is_multicast(const ip_addr_t *address) {
  return IP_IS_V6(address) ? ip6_addr_ismulticast(ip_2_ip6(address)) : ip4_addr_ismulticast(ip_2_ip4(address));
}

/* Without its second word: as lwIP has it. */
OUTLINE bool tw_address6_is_solicited_node(const void *bytes) {
  static const uint8_t prefix[4] = {0xff, 2}, suffix[5] = {0, 0, 0, 1, 0xff};
  const uint8_t *address = bytes;
  return memcmp(address, prefix, sizeof prefix) == 0 && memcmp(address + 8, suffix, sizeof suffix) == 0;
}

OUTLINE void tw_address6_set_solicited_node(ip6_addr_t *address, uint32_t identifier) {
  IP6_ADDR(address, PP_HTONL(0xff020000), 0, PP_HTONL(1), PP_HTONL(0xff000000) | identifier);
}

OUTLINE void tw_address6_clear(ip6_addr_t *address) { memset(address, 0, sizeof *address); }

OUTLINE void tw_address6_write(void *to, const void *bytes) { memmove(to, bytes, IPV6_SIZE); }

OUTLINE void tw_address6_read(ip6_addr_t *to, const void *bytes) {
  tw_address6_write(to->addr, bytes);
  to->zone = IP6_NO_ZONE;
}

OUTLINE void tw_address6_copy(ip6_addr_t *to, const ip6_addr_t *from) {
  if (from == NULL) {
    tw_address6_clear(to);
  } else {
    tw_address6_write(to->addr, from->addr);
    to->zone = from->zone;
  }
}

OUTLINE void tw_address_copy4(ip_addr_t *to, const void *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  tw_address6_clear(ip_2_ip6(to));
  ip_2_ip4(to)->addr = word;
  to->type = IPADDR_TYPE_V4;
}

OUTLINE void tw_address_copy6(ip_addr_t *to, const ip6_addr_t *from) {
  tw_address6_copy(ip_2_ip6(to), from);
  to->type = IPADDR_TYPE_V6;
}

OUTLINE void tw_address_copy(ip_addr_t *to, const ip_addr_t *from) {
  if (IP_IS_V6(from)) {
    tw_address_copy6(to, ip_2_ip6(from));
  } else if (from == NULL) {
    tw_address6_clear(ip_2_ip6(to));
    to->type = IPADDR_TYPE_V4;
  } else {
    uint8_t type = from->type; /* may be IPADDR_TYPE_ANY */
    tw_address_copy4(to, ip_2_ip4(from));
    to->type = type;
  }
}

static bool has_scope(const ip6_addr_t *address, bool unicast) {
  return ip6_addr_islinklocal(address) ||
         (!unicast && (ip6_addr_ismulticast_iflocal(address) || ip6_addr_ismulticast_linklocal(address)));
}

OUTLINE bool tw_address6_lacks_zone(const ip6_addr_t *address, bool unicast) {
  return !ip6_addr_has_zone(address) && has_scope(address, unicast);
}

OUTLINE void tw_address6_assign_zone(ip6_addr_t *address, bool unicast, const struct netif *netif) {
  address->zone = has_scope(address, unicast) ? netif_get_index(netif) : IP6_NO_ZONE;
}

OUTLINE void tw_address6_select_zone(ip6_addr_t *address, const ip6_addr_t *source) {
  const struct netif *netif = ip6_route(source, address);
  if (netif != NULL) {
    tw_address6_assign_zone(address, false, netif);
  }
}
