/* Changes to the configuration: interfaces, bridge ports, addresses, routes, and for how long frames are not fetched. */
#include "fuzz.h"

static bool is_there(const struct link *link) { return link->handle != 0; }

static bool is_tap(const struct link *link) { return link->kind == ABI_KIND_TAP; }

static bool is_bridge(const struct link *link) { return link->kind == ABI_KIND_BRIDGE; }

static void change_ports(void) {
  struct link *bridge = link_that(is_bridge), *tap = link_that(is_tap);
  if (bridge == NULL || tap == NULL) {
    return;
  }
  if (tap->bridge >= 0) {
    int32_t result = abi_bridge_remove_port(bridge->handle, tap->handle);
    CHECK(result == (tap->bridge == bridge - links ? 0 : ABI_ERROR_NOT_FOUND), "%d", result);
    tap->bridge = result == 0 ? -1 : tap->bridge;
  } else if (abi_bridge_add_port(bridge->handle, tap->handle) == 0) {
    flows_forget(tap);
    tap->bridge = (int32_t)(bridge - links);
  }
  abi_bridge_ageing(bridge->handle, (int32_t)ONE_OF(0, 1, 300, 100000));
  CHECK(abi_bridge_learned(bridge->handle) <= ABI_MAX_LEARNED, "%d", abi_bridge_learned(bridge->handle));
}

static void change_addresses(struct link *link) {
  if (link->kind != ABI_KIND_TAP || percent(30)) {
    memcpy(tw_scratch.bytes, link->own4, 4);
    link->has4 = abi_interface_address(link->handle, ABI_FAMILY_IPV4, (int32_t)ONE_OF(24, 24, 24, 32, 0, 8, 31)) == 0;
  } else if (percent(50)) {
    link->leased = abi_dhcp_start(link->handle) == 0 || link->leased;
  } else if (percent(50)) {
    abi_dhcp_stop(link->handle);
  } else {
    link->automatic = abi_interface_autoconfigure(link->handle, (int32_t)below(2)) == 0;
  }
}

/* In most epochs the configuration stays; in the others, everything that refers to an interface is tested. */
void links_step(void) {
  struct link *link = link_that(is_there);
  if (percent(80)) { /* an embedder that does not fetch frames for some steps */
    if (link != NULL && percent(style.stalled)) {
      link->stalled = 1 + below(60);
    }
    return;
  }
  if (!percent(style.churn)) {
    return;
  }
  switch (below(8)) {
    case 0:
    case 1:
      link_add((int32_t)ONE_OF(ABI_KIND_LOOPBACK, ABI_KIND_TUN, ABI_KIND_TAP, ABI_KIND_TAP, ABI_KIND_BRIDGE));
      break;
    case 2:
      if (link != NULL && percent(30)) {
        link_remove(link);
      }
      break;
    case 3:
      change_ports();
      break;
    case 4:
      abi_forwarding((int32_t)below(2));
      break;
    default:
      if (link != NULL) {
        change_addresses(link);
      }
  }
}

void routes_step(void) {
  struct link *link = link_that(is_there);
  bool six = percent(style.six), via = percent(70), named = percent(70) && link != NULL;
  int32_t family = six ? ABI_FAMILY_IPV6 : ABI_FAMILY_IPV4,
          prefix = (int32_t)(six ? ONE_OF(0, 16, 32, 64, 128) : ONE_OF(0, 8, 16, 24, 32));
  memset(tw_scratch.bytes, 0, 32);
  tw_scratch.bytes[0] = six ? 0xfd : 10;
  tw_scratch.bytes[six ? 3 : 1] = (uint8_t)below(8);
  if (prefix == 0) {
    memset(tw_scratch.bytes, 0, 16);
  }
  if (percent(50)) {
    if (via && link != NULL) {
      peer_address(link, below(PEERS), six, tw_scratch.bytes + 16);
    }
    abi_route_add(family, prefix, named ? link->handle : 0, via, (int32_t)below(3));
  } else {
    abi_route_remove(family, prefix, (int32_t)below(3));
  }
}
