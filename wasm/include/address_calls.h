/* lwIP's address macros as calls (src/port/address_calls.c). An address is 24 bytes of one of two kinds, so that each use of a
   macro is some 30 to 100 bytes of code, and a call is ten. Included at the end of lwip/ip_addr.h, which documents the macros.
   Where a transfer spends its time they stay macros. */
#if !defined(ADDRESS_CALLS_H) && !defined(HOT)
#define ADDRESS_CALLS_H

#include <stdbool.h>

struct netif;

/* `void` are the bytes alone, which may lie in a packet at any alignment: four, or the 16 of an IPv6 address without zone. */
bool tw_addresses_equal(const ip_addr_t *one, const ip_addr_t *other);
bool tw_addresses6_equal(const ip6_addr_t *one, const ip6_addr_t *other);
bool tw_addresses6_equal_bytes(const void *one, const void *other);
bool tw_address_is_any(const ip_addr_t *address);
bool tw_address6_is_any(const void *bytes);
bool tw_address_is_multicast(const ip_addr_t *address);
bool tw_address6_is_solicited_node(const void *bytes);
bool tw_address6_lacks_zone(const ip6_addr_t *address, bool unicast);
void tw_address_copy(ip_addr_t *to, const ip_addr_t *from);
void tw_address_copy4(ip_addr_t *to, const void *bytes);
void tw_address_copy6(ip_addr_t *to, const ip6_addr_t *from);
void tw_address6_copy(ip6_addr_t *to, const ip6_addr_t *from);
void tw_address6_read(ip6_addr_t *to, const void *bytes);
void tw_address6_write(void *to, const void *bytes);
void tw_address6_clear(ip6_addr_t *address);
void tw_address6_assign_zone(ip6_addr_t *address, bool unicast, const struct netif *netif);
void tw_address6_select_zone(ip6_addr_t *address, const ip6_addr_t *source);
void tw_address6_set_solicited_node(ip6_addr_t *address, u32_t identifier);

#undef ip_addr_copy
#undef ip_addr_set
#undef ip_addr_copy_from_ip4
#undef ip_addr_copy_from_ip6
#undef ip_addr_eq
#undef ip_addr_isany
#undef ip_addr_isany_val
#undef ip_addr_ismulticast
#undef ip6_addr_copy
#undef ip6_addr_set
#undef ip6_addr_copy_from_packed
#undef ip6_addr_copy_to_packed
#undef ip6_addr_set_zero
#undef ip6_addr_eq
#undef ip6_addr_zoneless_eq
#undef ip6_addr_packed_eq
#undef ip6_addr_isany
#undef ip6_addr_isany_val
#undef ip6_addr_issolicitednode
#undef ip6_addr_set_solicitednode
#undef ip6_addr_assign_zone
#undef ip6_addr_lacks_zone
#undef ip6_addr_select_zone

#define ip_addr_copy(to, from) tw_address_copy(&(to), &(from))
#define ip_addr_set(to, from) tw_address_copy(to, from)
#define ip_addr_copy_from_ip4(to, from) tw_address_copy4(&(to), &(from))
#define ip_addr_copy_from_ip6(to, from) tw_address_copy6(&(to), &(from))
#define ip_addr_eq(one, other) tw_addresses_equal(one, other)
#define ip_addr_isany(address) tw_address_is_any(address)
#define ip_addr_isany_val(address) tw_address_is_any(&(address))
#define ip_addr_ismulticast(address) tw_address_is_multicast(address)
#define ip6_addr_copy(to, from) tw_address6_copy(&(to), &(from))
#define ip6_addr_set(to, from) tw_address6_copy(to, from)
#define ip6_addr_copy_from_packed(to, from) tw_address6_read(&(to), &(from))
#define ip6_addr_copy_to_packed(to, from) tw_address6_write(&(to), &(from))
#define ip6_addr_set_zero(address) tw_address6_clear(address)
#define ip6_addr_eq(one, other) tw_addresses6_equal(one, other)
#define ip6_addr_zoneless_eq(one, other) tw_addresses6_equal_bytes(one, other)
#define ip6_addr_packed_eq(one, bytes, zone_index) \
  (tw_addresses6_equal_bytes(one, bytes) && ip6_addr_equals_zone(one, zone_index))
#define ip6_addr_isany(address) tw_address6_is_any(address)
#define ip6_addr_isany_val(address) tw_address6_is_any(&(address))
#define ip6_addr_issolicitednode(address) tw_address6_is_solicited_node(address)
#define ip6_addr_set_solicitednode(address, identifier) tw_address6_set_solicited_node(address, identifier)
#define ip6_addr_assign_zone(address, type, netif) tw_address6_assign_zone(address, (type) == IP6_UNICAST, netif)
#define ip6_addr_lacks_zone(address, type) tw_address6_lacks_zone(address, (type) == IP6_UNICAST)
#define ip6_addr_select_zone(address, source) tw_address6_select_zone(address, source)

#endif
