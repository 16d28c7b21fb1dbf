/* Invalid calls of the routing table are refused, its size is bounded, and removing an interface removes its routes. */
#include "support.h"
#include "ip/routes.h"
#include "link/interface.h"

#include <string.h>

static const uint8_t NETWORK4[4] = {192, 0, 2, 0}, GATEWAY4[4] = {10, 0, 0, 9};
static const uint8_t NETWORK6[16] = {0x20, 1, 0xd, 0xb8}, GATEWAY6[16] = {0xfd, [15] = 9},
                     LINK_LOCAL6[16] = {0xfe, 0x80, [15] = 9};

static int32_t add(int32_t family, const uint8_t *network, int32_t prefix, const uint8_t *gateway, int32_t interface,
                   int32_t metric) {
  uint32_t size = family == ABI_FAMILY_IPV6 ? 16 : 4;
  memset(tw_scratch.bytes, 0, 32);
  memcpy(tw_scratch.bytes, network, size);
  if (gateway != NULL) {
    memcpy(tw_scratch.bytes + 16, gateway, size);
  }
  return abi_route_add(family, prefix, interface, gateway != NULL, metric);
}

static int32_t remove_route(int32_t family, const uint8_t *network, int32_t prefix, int32_t metric) {
  memset(tw_scratch.bytes, 0, 32);
  memcpy(tw_scratch.bytes, network, family == ABI_FAMILY_IPV6 ? 16 : 4);
  return abi_route_remove(family, prefix, metric);
}

static int32_t open_interface(void) {
  int32_t interface = interface_open(ABI_KIND_TAP, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  return interface;
}

static void invalid_routes_are_refused(void) {
  int32_t interface = open_interface();
  for (int32_t prefix = -1; prefix <= 129; prefix++) {
    int32_t four = add(ABI_FAMILY_IPV4, NETWORK4, prefix, GATEWAY4, 0, 0),
            six = add(ABI_FAMILY_IPV6, NETWORK6, prefix, GATEWAY6, 0, 0);
    CHECK_EQUAL(four, prefix >= 0 && prefix <= 32 ? interface : ABI_ERROR_INVALID);
    CHECK_EQUAL(six, prefix >= 0 && prefix <= 128 ? interface : ABI_ERROR_INVALID);
  }
  CHECK_EQUAL(tw_route_count, 33 + 129);
  CHECK_EQUAL(add(5, NETWORK4, 24, GATEWAY4, 0, 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(add(ABI_FAMILY_IPV4, NETWORK4, 24, GATEWAY4, 0, 0), ABI_ERROR_EXISTS);
  CHECK_EQUAL(add(ABI_FAMILY_IPV4, NETWORK4, 24, GATEWAY4, 0, -1), ABI_ERROR_INVALID);
  CHECK_EQUAL(add(ABI_FAMILY_IPV4, NETWORK4, 24, HOST4, 0, 1), ABI_ERROR_INVALID);
  CHECK_EQUAL(add(ABI_FAMILY_IPV4, NETWORK4, 24, NETWORK4, 0, 1), ABI_ERROR_NO_ROUTE);
  CHECK_EQUAL(add(ABI_FAMILY_IPV4, NETWORK4, 24, NULL, 0, 1), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(add(ABI_FAMILY_IPV4, NETWORK4, 24, GATEWAY4, interface + 1, 1), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(add(ABI_FAMILY_IPV6, NETWORK6, 24, LINK_LOCAL6, 0, 1), ABI_ERROR_INVALID);
  CHECK_EQUAL(add(ABI_FAMILY_IPV6, NETWORK6, 24, LINK_LOCAL6, interface, 1), interface);
  CHECK_EQUAL(remove_route(ABI_FAMILY_IPV4, NETWORK4, 24, 7), ABI_ERROR_NOT_FOUND);
  CHECK_EQUAL(remove_route(ABI_FAMILY_IPV4, NETWORK4, 33, 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(remove_route(7, NETWORK4, 24, 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(remove_route(ABI_FAMILY_IPV4, NETWORK4, 24, 0), 0);
  CHECK_EQUAL(remove_route(ABI_FAMILY_IPV4, NETWORK4, 24, 0), ABI_ERROR_NOT_FOUND);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
  CHECK_EQUAL(tw_route_count, 0);
}

/* An IPv4 network is stored as an IPv4-mapped IPv6 network: neither default route applies to the other family. */
static void default_routes_apply_to_one_family(void) {
  int32_t interface = open_interface();
  ip4_addr_t four, next4;
  ip6_addr_t six = {0}, next6;
  memcpy(&four, NETWORK4, 4);
  memcpy(six.addr, NETWORK6, 16);
  static const uint8_t any[16] = {0};
  CHECK_EQUAL(add(ABI_FAMILY_IPV6, any, 0, GATEWAY6, 0, 0), interface);
  CHECK(tw_route_find4(&four, &next4) == NULL);
  CHECK(tw_route_find6(&six, &next6) != NULL && memcmp(next6.addr, GATEWAY6, 16) == 0);
  CHECK_EQUAL(remove_route(ABI_FAMILY_IPV6, any, 0, 0), 0);
  CHECK_EQUAL(add(ABI_FAMILY_IPV4, any, 0, GATEWAY4, 0, 0), interface);
  CHECK(tw_route_find6(&six, &next6) == NULL);
  CHECK(tw_route_find4(&four, &next4) != NULL && memcmp(&next4, GATEWAY4, 4) == 0);
  memcpy(&four, PEER4, 4);
  CHECK(tw_route_find4(&four, &next4) != NULL && memcmp(&next4, PEER4, 4) == 0); /* of the interface's own network */
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void number_of_routes_is_bounded(void) {
  host_reserve_handles(2);
  int32_t interface = open_interface(), other = interface_open(ABI_KIND_TUN, 1500);
  for (int32_t i = 0; i < ABI_MAX_ROUTES; i++) {
    CHECK(add(ABI_FAMILY_IPV4, NETWORK4, 24, NULL, i % 2 ? interface : other, (i * 37) % ABI_MAX_ROUTES) > 0);
  }
  CHECK_EQUAL(add(ABI_FAMILY_IPV4, NETWORK4, 25, NULL, other, 0), ABI_ERROR_LIMIT);
  ip4_addr_t address, next;
  memcpy(&address, NETWORK4, 4);
  CHECK(tw_route_find4(&address, &next) == tw_interface_netif(other)); /* the first had the lowest metric */
  CHECK_EQUAL(abi_interface_remove(other), 0);
  CHECK_EQUAL(tw_route_count, ABI_MAX_ROUTES / 2);
  CHECK(tw_route_find4(&address, &next) == tw_interface_netif(interface));
  CHECK_EQUAL(abi_interface_remove(interface), 0);
  CHECK(tw_route_find4(&address, &next) == NULL);
}

int main(void) {
  host_start();
  RUN(invalid_routes_are_refused);
  RUN(default_routes_apply_to_one_family);
  RUN(number_of_routes_is_bounded);
  return 0;
}
