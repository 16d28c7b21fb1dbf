/* IPv6 address autoconfiguration, and the neighbour discovery messages that must not affect it: RFC 4861, RFC 4862, RFC 6980,
   RFC 8201. Any node on the link can send each message used here. */
#include "support.h"
#include "abi/staging.h"
#include "link/interface.h"

#include <string.h>

static const uint8_t ALL_NODES[16] = {0xff, 2, [15] = 1}, ANY[16];
static const uint8_t ROUTER[16] = {0xfe, 0x80, [15] = 9}, OTHER_ROUTER[16] = {0xfe, 0x80, [15] = 8};
static const uint8_t ROUTER_MAC[6] = {2, 0, 0, 0, 0, 9}, FAR[16] = {0x20, 1, 0xd, 0xb8, [15] = 7};
static const uint8_t PREFIX[16] = {0x20, 1, 0xd, 0xb8, 0, 1};
/* HOST_MAC as an interface identifier: RFC 4291, appendix A */
static const uint8_t LINK_LOCAL[16] = {0xfe, 0x80, [8] = 0, 0, 0, 0xff, 0xfe, 0, 0, 1};
static const uint8_t GLOBAL[16] = {0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 1};

static struct packet packet;
static int32_t tap;

static void receive6(const uint8_t *from, const uint8_t *to, const uint8_t *message, uint32_t length) {
  packet_ip(&packet, ABI_FAMILY_IPV6, from, to, PROTOCOL_ICMPV6, message, length);
  packet_ethernet(&packet, HOST_MAC, 0x86dd);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
}

struct advertisement {
  uint32_t lifetime, mtu, valid, preferred, reachable;
  const uint8_t *prefix;
};

static uint32_t write_advertisement(uint8_t *message, struct advertisement given) {
  memset(message, 0, 64);
  message[0] = 134;
  put16(message + 6, given.lifetime);
  put32(message + 8, given.reachable);
  message[16] = message[17] = 1;
  memcpy(message + 18, ROUTER_MAC, 6);
  message[24] = 5;
  message[25] = 1;
  put32(message + 28, given.mtu);
  message[32] = 3;
  message[33] = 4;
  message[34] = 64;
  message[35] = 0xc0;
  put32(message + 36, given.valid);
  put32(message + 40, given.preferred);
  memcpy(message + 48, given.prefix == NULL ? PREFIX : given.prefix, 16);
  return 64;
}

static void advertise(const uint8_t *from, struct advertisement given) {
  uint8_t message[64];
  receive6(from, ALL_NODES, message, write_advertisement(message, given));
}

static void open_tap(void) {
  tap = interface_open(ABI_KIND_TAP, 1500);
  host_poll();
  frames_forget();
}

static struct netif *netif(void) { return tw_interface_netif(tap); }

static void address_expect(const uint8_t *address, int32_t state) {
  struct event event = event_expect(ABI_EVENT_ADDRESS, tap);
  CHECK_EQUAL(event.value, state);
  CHECK_EQUAL(event.length, ABI_ADDRESS_REPORT_SIZE);
  CHECK(memcmp(event.payload + 12, address, 16) == 0);
}

static void events_forget(void) {
  while (event_next().kind != 0) {
  }
}

/* The next frame that is an ICMPv6 message of this type, from its Ethernet header on; NULL if there is none. */
static const uint8_t *expect_icmp6(uint8_t type) {
  struct frame frame;
  while ((frame = frame_next()).length != 0) {
    if (frame.length > 54 && get16(frame.bytes + 12) == 0x86dd && frame.bytes[20] == 58 && frame.bytes[54] == type) {
      return frame.bytes + 14;
    }
  }
  return NULL;
}

static void configure(void) {
  open_tap();
  CHECK_EQUAL(abi_interface_autoconfigure(tap, 1), 0);
  host_advance(3 * SECOND);
  frames_forget();
  events_forget();
  advertise(ROUTER, (struct advertisement){.lifetime = 1800, .valid = 3600, .preferred = 1800});
  host_advance(3 * SECOND);
  events_forget();
  frames_forget();
}

static void close_tap(void) {
  CHECK_EQUAL(abi_interface_remove(tap), 0);
  host_poll();
  events_forget();
  frames_forget();
}

static void solicits_routers_and_detects_duplicate_addresses(void) {
  open_tap();
  CHECK_EQUAL(abi_interface_autoconfigure(tap, 1), 0);
  host_poll();
  address_expect(LINK_LOCAL, ABI_ADDRESS_TENTATIVE);
  host_advance(3 * SECOND);
  address_expect(LINK_LOCAL, ABI_ADDRESS_PREFERRED);
  const uint8_t *solicitation = expect_icmp6(135);
  CHECK(solicitation != NULL);
  CHECK(memcmp(solicitation + 8, ANY, 16) == 0);
  CHECK(memcmp(solicitation + 48, LINK_LOCAL, 16) == 0);
  CHECK_EQUAL(solicitation[7], 255);
  host_advance(20 * SECOND);
  int asked = 0;
  while (expect_icmp6(133) != NULL) {
    asked++;
  }
  CHECK_EQUAL(asked, 3); /* RFC 4861, section 10: MAX_RTR_SOLICITATIONS, less one that left with the first above */
  CHECK_EQUAL(host_deadline(), -1);
  advertise(ROUTER, (struct advertisement){.lifetime = 60, .valid = 100, .preferred = 50});
  struct event event = event_expect(ABI_EVENT_ROUTER_ADVERTISEMENT, tap);
  CHECK_EQUAL(event.value, 64);
  CHECK_EQUAL(event.length, 80);
  CHECK(memcmp(event.payload, ROUTER, 16) == 0);
  CHECK_EQUAL(event.payload[16], 134);
  address_expect(GLOBAL, ABI_ADDRESS_TENTATIVE);
  host_advance(3 * SECOND);
  address_expect(GLOBAL, ABI_ADDRESS_PREFERRED);
  frames_forget();
  host_advance(50 * SECOND);
  address_expect(GLOBAL, ABI_ADDRESS_DEPRECATED);
  host_advance(50 * SECOND);
  address_expect(GLOBAL, ABI_ADDRESS_GONE);
  event_expect_none();
  close_tap();
}

static void default_router_expires_with_its_lifetime(void) {
  configure();
  static const uint8_t ping[8] = {128};
  receive6(FAR, GLOBAL, ping, sizeof ping);
  struct frame frame = frame_next();
  CHECK(frame.length != 0 && memcmp(frame.bytes, ROUTER_MAC, 6) == 0);
  advertise(ROUTER, (struct advertisement){.lifetime = 0, .valid = 3600, .preferred = 1800});
  host_advance(10 * SECOND);
  frames_forget();
  receive6(FAR, GLOBAL, ping, sizeof ping);
  CHECK(expect_icmp6(129) == NULL);
  /* An advertisement with a router lifetime of 0 does not make its sender a router. */
  advertise(OTHER_ROUTER, (struct advertisement){.lifetime = 0, .valid = 3600, .preferred = 1800});
  receive6(FAR, GLOBAL, ping, sizeof ping);
  CHECK(expect_icmp6(129) == NULL);
  close_tap();
}

/* Is there a route off the link? With one interface only, lwIP would use that interface. */
static int32_t default_route(void) {
  int32_t other = interface_open(ABI_KIND_LOOPBACK, 1500), handle = tcp_open(ABI_FAMILY_IPV6, FAR, 80);
  if (handle > 0) {
    CHECK_EQUAL(abi_tcp_abort(handle), 0);
  }
  CHECK_EQUAL(abi_interface_remove(other), 0);
  return handle;
}

static void unsolicited_advertisements_do_not_add_routers(void) {
  open_tap();
  advertise(ROUTER, (struct advertisement){.lifetime = 1800, .mtu = 1300, .valid = 3600, .preferred = 1800});
  host_advance(3 * SECOND);
  event_expect_none();
  CHECK_EQUAL(netif()->mtu6, 1500);
  CHECK_EQUAL(default_route(), ABI_ERROR_NO_ROUTE);
  close_tap();
}

static void invalid_advertisements_are_ignored(void) {
  uint8_t message[64];
  uint32_t length = write_advertisement(message, (struct advertisement){.lifetime = 1800, .valid = 3600, .preferred = 9});
  open_tap();
  CHECK_EQUAL(abi_interface_autoconfigure(tap, 1), 0);
  host_advance(3 * SECOND);
  events_forget();
  receive6(PEER6, ALL_NODES, message, length); /* a source address that is not link-local */
  packet_ip(&packet, ABI_FAMILY_IPV6, ROUTER, ALL_NODES, PROTOCOL_ICMPV6, message, length);
  packet.bytes[7] = 254; /* a hop limit that shows it has passed a router */
  packet_ethernet(&packet, HOST_MAC, 0x86dd);
  interface_receive(tap, packet.bytes, packet.length);
  packet_ip_extended(&packet, ROUTER, ALL_NODES, 44, PROTOCOL_ICMPV6, message, length); /* RFC 6980: a fragment */
  memset(packet.bytes + 41, 0, 7);
  packet_ethernet(&packet, HOST_MAC, 0x86dd);
  interface_receive(tap, packet.bytes, packet.length);
  message[1] = 1; /* a wrong code */
  receive6(ROUTER, ALL_NODES, message, length);
  host_advance(2 * SECOND);
  event_expect_none();
  close_tap();
}

/* A complete advertisement, in two fragments. */
static void fragmented_advertisements_are_ignored(void) {
  uint8_t message[64], fragment[72];
  uint32_t length = write_advertisement(message, (struct advertisement){.lifetime = 1800, .valid = 3600, .preferred = 9});
  open_tap();
  CHECK_EQUAL(abi_interface_autoconfigure(tap, 1), 0);
  host_advance(3 * SECOND);
  events_forget();
  packet_ip(&packet, ABI_FAMILY_IPV6, ROUTER, ALL_NODES, PROTOCOL_ICMPV6, message, length);
  memcpy(message, packet.bytes + 40, length); /* with its checksum */
  for (uint32_t part = 0; part < 2; part++) {
    memset(fragment, 0, 8);
    fragment[0] = PROTOCOL_ICMPV6;
    put16(fragment + 2, part * 32 | (part == 0));
    memcpy(fragment + 8, message + part * 32, 32);
    packet_ip(&packet, ABI_FAMILY_IPV6, ROUTER, ALL_NODES, 44, fragment, 40);
    packet_ethernet(&packet, HOST_MAC, 0x86dd);
    interface_receive(tap, packet.bytes, packet.length);
  }
  host_poll();
  event_expect_none();
  close_tap();
}

static void advertised_mtu_is_bounded(void) {
  static const struct {
    uint32_t said, used;
  } cases[] = {
      {1400, 1400}, {1279, 1400}, {0, 1400}, {65536 + 1300, 1400}, {9000, 1500}, {1280, 1280}, {1500, 1500},
  };
  configure();
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    advertise(ROUTER, (struct advertisement){.lifetime = 9, .mtu = cases[i].said, .valid = 3600, .preferred = 9});
    CHECK_EQUAL(netif()->mtu6, cases[i].used);
  }
  close_tap();
}

static void unusable_prefixes_make_no_addresses(void) {
  static const uint8_t multicast[16] = {0xff, 0xe}, link_local[16] = {0xfe, 0x80}, none[16];
  const uint8_t *prefixes[] = {multicast, link_local, none};
  configure();
  for (int i = 0; i < 3; i++) {
    advertise(ROUTER, (struct advertisement){.lifetime = 9, .valid = 3600, .preferred = 9, .prefix = prefixes[i]});
    CHECK_EQUAL(event_next().kind, ABI_EVENT_ROUTER_ADVERTISEMENT);
    event_expect_none();
  }
  uint8_t prefix[16] = {0x20, 2};
  for (int i = 0; i < 200; i++) { /* no more addresses than the interface has slots, however many prefixes are advertised */
    prefix[7] = (uint8_t)i;
    advertise(OTHER_ROUTER, (struct advertisement){.lifetime = 9, .valid = 3600, .preferred = 9, .prefix = prefix});
  }
  int addresses = 0;
  for (struct event event; (event = event_next()).kind != 0;) {
    addresses += event.kind == ABI_EVENT_ADDRESS;
  }
  CHECK_EQUAL(addresses, LWIP_IPV6_NUM_ADDRESSES - 2);
  /* A later advertisement leaves an address a lifetime of two hours at least: RFC 4862, section 5.5.3 (e). */
  advertise(ROUTER, (struct advertisement){.lifetime = 9, .valid = 1, .preferred = 1});
  host_advance(60 * SECOND);
  CHECK(ip6_addr_isvalid(netif_ip6_addr_state(netif(), 1)));
  close_tap();
}

static void solicit(const uint8_t *from, const uint8_t *target) {
  uint8_t message[24] = {135}, group[16] = {0xff, 2, [11] = 1, 0xff};
  memcpy(message + 8, target, 16);
  memcpy(group + 13, target + 13, 3);
  receive6(from, group, message, sizeof message);
}

static void claim(const uint8_t *target) {
  uint8_t message[32] = {136, [4] = 0x20, [24] = 2, 1, 2, 0, 0, 0, 0, 66};
  memcpy(message + 8, target, 16);
  receive6(target, ALL_NODES, message, sizeof message);
}

static void duplicate_addresses_are_not_used(void) {
  for (int way = 0; way < 2; way++) {
    open_tap();
    CHECK_EQUAL(interface_set_ipv6(tap, HOST6), 0);
    memcpy(tw_scratch.bytes, HOST6, 16);
    CHECK_EQUAL(abi_interface_check_address(tap, 1), 0);
    host_advance(SECOND);
    frames_forget();
    events_forget();
    if (way == 0) {
      claim(HOST6);
    } else {
      solicit(ANY, HOST6);
      CHECK(expect_icmp6(136) == NULL); /* RFC 4862, section 5.4.3: a tentative address is not defended */
    }
    address_expect(HOST6, ABI_ADDRESS_DUPLICATE);
    host_advance(5 * SECOND);
    event_expect_none();
    CHECK_EQUAL(tcp_listener(ABI_FAMILY_IPV6, HOST6, 80, 1), ABI_ERROR_ADDRESS_NOT_AVAILABLE);
    memcpy(tw_scratch.bytes, HOST6, 16);
    CHECK_EQUAL(abi_interface_check_address(tap, 0), 0);
    memcpy(tw_scratch.bytes, HOST6, 16);
    CHECK_EQUAL(abi_interface_check_address(tap, 0), ABI_ERROR_ADDRESS_NOT_AVAILABLE);
    close_tap();
  }
}

/* One forged frame must not take an address from a node that uses it. */
static void forged_claims_do_not_remove_addresses(void) {
  open_tap();
  CHECK_EQUAL(interface_set_ipv6(tap, HOST6), 0);
  host_poll();
  claim(HOST6);
  claim(LINK_LOCAL);
  solicit(ANY, HOST6);
  const uint8_t *answer = expect_icmp6(136);
  CHECK(answer != NULL && memcmp(answer + 24, ALL_NODES, 16) == 0);
  CHECK(ip6_addr_ispreferred(netif_ip6_addr_state(netif(), 0)));
  CHECK(ip6_addr_ispreferred(netif_ip6_addr_state(netif(), 1)));
  close_tap();
}

static void redirects_only_from_the_current_router(void) {
  static const uint8_t ping[8] = {128}, better_mac[6] = {2, 0, 0, 0, 0, 8};
  uint8_t message[48] = {137, [40] = 2, 1, 2, 0, 0, 0, 0, 8};
  memcpy(message + 8, OTHER_ROUTER, 16);
  memcpy(message + 24, FAR, 16);
  configure();
  receive6(FAR, GLOBAL, ping, sizeof ping);
  frames_forget();
  receive6(OTHER_ROUTER, GLOBAL, message, sizeof message); /* from a router that is not the one in use */
  memcpy(message + 8, PEER6, 16);
  receive6(ROUTER, GLOBAL, message, sizeof message); /* to a target that is neither a router's address nor the destination */
  frames_forget();
  receive6(FAR, GLOBAL, ping, sizeof ping);
  struct frame frame = frame_next();
  CHECK(frame.length != 0 && memcmp(frame.bytes, ROUTER_MAC, 6) == 0);
  memcpy(message + 8, OTHER_ROUTER, 16);
  receive6(ROUTER, GLOBAL, message, sizeof message);
  frames_forget();
  receive6(FAR, GLOBAL, ping, sizeof ping);
  frame = frame_next();
  CHECK(frame.length != 0 && memcmp(frame.bytes, better_mac, 6) == 0);
  host_advance(20 * SECOND);
  close_tap();
}

static void router_answers_solicitations_once(void) {
  static const uint8_t solicitation[8] = {133}, all_routers[16] = {0xff, 2, [15] = 2};
  static const uint8_t coded[8] = {133, 1};
  open_tap();
  receive6(PEER6, all_routers, solicitation, sizeof solicitation);
  event_expect_none();
  CHECK_EQUAL(abi_interface_hear_solicitations(tap, 1), 0);
  CHECK_EQUAL(abi_interface_hear_solicitations(tap, 1), 0);
  for (int i = 0; i < 100; i++) { /* several solicitations at once are answered by one advertisement */
    packet_ip(&packet, ABI_FAMILY_IPV6, ROUTER, all_routers, PROTOCOL_ICMPV6, solicitation, sizeof solicitation);
    packet_ethernet(&packet, HOST_MAC, 0x86dd);
    interface_receive(tap, packet.bytes, packet.length);
  }
  host_poll();
  event_expect(ABI_EVENT_ROUTER_SOLICITATION, tap);
  event_expect_none();
  receive6(ROUTER, all_routers, coded, sizeof coded);
  event_expect_none();
  write_advertisement((uint8_t *)(uintptr_t)tw_staging(), (struct advertisement){.lifetime = 9, .valid = 9, .preferred = 9});
  CHECK_EQUAL(abi_interface_advertise(tap, 15), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_interface_advertise(tap, 1241), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_interface_advertise(0, 64), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_interface_advertise(tap, 64), 0);
  host_poll();
  const uint8_t *sent = expect_icmp6(134);
  CHECK(sent != NULL && sent[7] == 255 && memcmp(sent + 8, LINK_LOCAL, 16) == 0 && memcmp(sent + 24, ALL_NODES, 16) == 0);
  CHECK_EQUAL(abi_interface_hear_solicitations(tap, 0), 0);
  receive6(ROUTER, all_routers, solicitation, sizeof solicitation);
  event_expect_none();
  close_tap();
}

/* RFC 4861, section 6.1.1: a host without an address solicits from "::", without an option that names its link-layer
   address. Nothing else from there reaches all routers. */
static void solicitations_are_validated(void) {
  static const uint8_t all_routers[16] = {0xff, 2, [15] = 2};
  static const uint8_t bare[8] = {133}, named[16] = {133, [8] = 1, 1}, endless[16] = {133, [8] = 14};
  static const uint8_t ping[8] = {128};
  uint8_t neighbour[24] = {135};
  open_tap();
  CHECK_EQUAL(abi_interface_hear_solicitations(tap, 1), 0);
  receive6(ANY, all_routers, bare, sizeof bare);
  event_expect(ABI_EVENT_ROUTER_SOLICITATION, tap);
  receive6(PEER6, all_routers, named, sizeof named);
  event_expect(ABI_EVENT_ROUTER_SOLICITATION, tap);
  frames_forget();
  receive6(ANY, all_routers, named, sizeof named);
  receive6(ANY, all_routers, endless, sizeof endless);
  receive6(PEER6, all_routers, endless, sizeof endless);
  receive6(ANY, ALL_NODES, bare, sizeof bare);
  receive6(ANY, all_routers, ping, sizeof ping);
  memcpy(neighbour + 8, LINK_LOCAL, 16);
  receive6(ANY, all_routers, neighbour, sizeof neighbour);
  event_expect_none();
  CHECK_EQUAL(frame_next().length, 0);
  close_tap();
}

static void stopping_removes_addresses_and_routers(void) {
  configure();
  CHECK(default_route() > 0);
  CHECK_EQUAL(abi_interface_autoconfigure(tap, 0), 0);
  host_poll();
  address_expect(GLOBAL, ABI_ADDRESS_GONE);
  CHECK_EQUAL(default_route(), ABI_ERROR_NO_ROUTE);
  int32_t tun = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(abi_interface_autoconfigure(tun, 1), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_interface_remove(tun), 0);
  close_tap();
}

/* Random changes to neighbour discovery messages, with valid checksums: nothing crashes, and valid messages are still
   processed. */
static void damaged_messages_do_not_break_the_stack(void) {
  uint8_t message[128];
  configure();
  for (int i = 0; i < 60000; i++) {
    uint32_t length = write_advertisement(message, (struct advertisement){.lifetime = 9, .valid = 99, .preferred = 9});
    for (uint32_t at = length; at < sizeof message; at++) {
      message[at] = (uint8_t)random_next();
    }
    message[0] = (uint8_t)(133 + random_next() % 5);
    length = 8 + random_next() % (sizeof message - 7);
    for (uint32_t changes = random_next() % 6; changes > 0; changes--) {
      message[1 + random_next() % (length - 1)] = (uint8_t)random_next();
    }
    receive6(random_next() % 4 ? ROUTER : ANY, random_next() % 2 ? ALL_NODES : GLOBAL, message, length);
    if (i % 500 == 0) {
      host_advance(SECOND);
      frames_forget();
    }
    events_forget();
  }
  frames_forget();
  solicit(ANY, LINK_LOCAL);
  CHECK(expect_icmp6(136) != NULL);
  close_tap();
}

int main(void) {
  host_start();
  RUN(solicits_routers_and_detects_duplicate_addresses);
  RUN(default_router_expires_with_its_lifetime);
  RUN(unsolicited_advertisements_do_not_add_routers);
  RUN(invalid_advertisements_are_ignored);
  RUN(fragmented_advertisements_are_ignored);
  RUN(advertised_mtu_is_bounded);
  RUN(unusable_prefixes_make_no_addresses);
  RUN(duplicate_addresses_are_not_used);
  RUN(forged_claims_do_not_remove_addresses);
  RUN(redirects_only_from_the_current_router);
  RUN(router_answers_solicitations_once);
  RUN(solicitations_are_validated);
  RUN(stopping_removes_addresses_and_routers);
  RUN(damaged_messages_do_not_break_the_stack);
  return 0;
}
