/* The DHCP client's messages and times (RFC 2131, sections 4.1 and 4.4), and how it probes for the address and defends it
   (RFC 5227). */
#include "support_leases.h"
#include "abi/module.h"
#include "link/interface.h"
#include "port/statistics.h"
#include "lwip/stats.h"

#include <string.h>

static const uint8_t OTHER_SERVER[4] = {10, 0, 0, 253};

static void receive_arp(uint16_t operation, const uint8_t *mac, const uint8_t *from, const uint8_t *to) {
  packet_arp(&packet, operation, mac, from, to);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
}

/* Advances by tenths of a second until a message of this type is sent; returns how many. */
static int wait_for(uint8_t type, int most, const uint8_t **message) {
  for (int tenths = 0; tenths <= most; tenths++) {
    if ((*message = dhcp_sent(type)) != NULL) {
      return tenths;
    }
    host_advance(100 * MILLISECOND);
  }
  return -1;
}

static const uint8_t *destination_of(const uint8_t *message) { return message - 12; }

static void each_message_has_its_options(void) {
  static const uint8_t discover[] = {53, 1, DISCOVER, 57, 2, 1500 >> 8, 1500 & 255, 55, 6, 1, 3, 28, 6, 15, 119, 255};
  static const uint8_t request[] = {53,  1,  REQUEST, 50,        4,          10, 0, 0, 50, 54, 4, 10, 0,   0,
                                    254, 57, 2,       1500 >> 8, 1500 & 255, 55, 6, 1, 3,  28, 6, 15, 119, 255};
  static const uint8_t renewal[] = {53, 1, REQUEST, 57, 2, 1500 >> 8, 1500 & 255, 55, 6, 1, 3, 28, 6, 15, 119, 255};
  static const uint8_t release[] = {53, 1, RELEASE, 54, 4, 10, 0, 0, 254, 255};
  static const uint8_t head[] = {1, 1, 6, 0}, zeros[202];
  tap = interface_open(ABI_KIND_TAP, 1500);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_dhcp_start(tap), 0);
  host_poll();
  const uint8_t *message = dhcp_sent(DISCOVER);
  CHECK(message != NULL && memcmp(message, head, sizeof head) == 0);
  CHECK(memcmp(message + 8, zeros, 20) == 0); /* no seconds, flags or addresses */
  CHECK(memcmp(message + 28, HOST_MAC, 6) == 0 && memcmp(message + 34, zeros, 202) == 0);
  CHECK_EQUAL(get32(message + 236), 0x63825363);
  CHECK(memcmp(message + OPTIONS, discover, sizeof discover) == 0);
  CHECK(memcmp(message + OPTIONS + sizeof discover, zeros, 60 - sizeof discover) == 0); /* 300 bytes in all */
  CHECK(memcmp(destination_of(message), ALL, 4) == 0);
  reply_send(OFFER, 3600);
  message = dhcp_sent(REQUEST);
  CHECK(message != NULL && memcmp(message + OPTIONS, request, sizeof request) == 0);
  CHECK(memcmp(message + 12, UNSPECIFIED, 4) == 0 && memcmp(destination_of(message), ALL, 4) == 0);
  reply_send(ACKNOWLEDGE, 3600);
  host_advance(1790 * (int64_t)SECOND);
  frames_forget();
  wait_for_arp();
  receive_arp(2, PEER_MAC, SERVER, LEASED);
  message = dhcp_sent(REQUEST);
  CHECK(message != NULL && memcmp(message + OPTIONS, renewal, sizeof renewal) == 0);
  CHECK(memcmp(message + 12, LEASED, 4) == 0 && memcmp(destination_of(message), SERVER, 4) == 0);
  CHECK_EQUAL(abi_dhcp_stop(tap), 0);
  host_poll();
  message = dhcp_sent(RELEASE);
  CHECK(message != NULL && memcmp(message + OPTIONS, release, sizeof release) == 0);
  CHECK(memcmp(message + 12, LEASED, 4) == 0 && memcmp(destination_of(message), SERVER, 4) == 0);
  close_tap();
}

/* Section 4.1: after 2, 4, 8, 16, 32 and 64 seconds, give or take one. */
static void messages_without_an_answer_are_repeated(void) {
  static const int seconds[] = {2, 4, 8, 16, 32, 64, 64};
  const uint8_t *message;
  int passed = 0, exact = 0;
  open_tap();
  uint32_t first = transaction;
  for (unsigned i = 0; i < sizeof seconds / sizeof *seconds; i++) {
    int tenths = wait_for(DISCOVER, 700, &message);
    CHECK(tenths >= 10 * seconds[i] - 10 && tenths <= 10 * seconds[i] + 11);
    exact += tenths % 10 <= 1;
    passed += tenths;
    CHECK_EQUAL(transaction, first);
    CHECK(get16(message + 8) + 1 >= (uint32_t)passed / 10 && get16(message + 8) <= (uint32_t)passed / 10);
  }
  CHECK(exact < 5); /* the times are random */
  reply_send(OFFER, 3600);
  message = dhcp_sent(REQUEST);
  CHECK(message != NULL);
  uint32_t since = get16(message + 8);
  for (unsigned i = 0; i < 4; i++) {
    int tenths = wait_for(REQUEST, 700, &message);
    CHECK(tenths >= 10 * seconds[i] - 10 && tenths <= 10 * seconds[i] + 11);
    CHECK_EQUAL(transaction, first);
    CHECK_EQUAL(get16(message + 8), since); /* section 4.4.1 */
  }
  CHECK(wait_for(DISCOVER, 340, &message) >= 310);
  CHECK(transaction != first);
  close_tap();
}

/* Section 4.4.5: half of the time until rebinding, then half of the time until the end, but a minute at least. */
static void a_renewal_is_repeated(void) {
  static const int renewals[] = {0, 675, 337, 169, 85, 60}, rebindings[] = {24, 225, 112, 60};
  const uint8_t *message;
  obtain_lease(3600);
  host_advance(5 * SECOND);
  frames_forget();
  host_advance(1790 * (int64_t)SECOND);
  wait_for_arp();
  receive_arp(2, PEER_MAC, SERVER, LEASED);
  CHECK(dhcp_sent(REQUEST) != NULL);
  uint32_t first = transaction;
  for (unsigned i = 1; i < sizeof renewals / sizeof *renewals; i++) {
    int tenths = 0;
    do { /* the server's MAC has to be resolved again */
      receive_arp(2, PEER_MAC, SERVER, LEASED);
      message = dhcp_sent(REQUEST);
      host_advance(100 * MILLISECOND);
    } while (message == NULL && ++tenths < 7000);
    CHECK(message != NULL && tenths >= 10 * renewals[i] - 20 && tenths <= 10 * renewals[i] + 20);
    CHECK_EQUAL(transaction, first);
  }
  for (unsigned i = 0; i < sizeof rebindings / sizeof *rebindings; i++) {
    int tenths = wait_for(REQUEST, 3000, &message);
    CHECK(tenths >= 10 * rebindings[i] - 20 && tenths <= 10 * rebindings[i] + 20);
    CHECK(memcmp(destination_of(message), ALL, 4) == 0 && memcmp(message + 12, LEASED, 4) == 0);
    CHECK(transaction != first);
  }
  event_expect_none();
  CHECK(wait_for(DISCOVER, 700, &message) >= 0);
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  close_tap();
}

/* Nothing was polled for half an hour; the request for the server's MAC is not given up by the ticks of that time. */
static void a_renewal_resolves_the_server(void) {
  obtain_lease(3600);
  host_advance(5 * SECOND);
  frames_forget();
  host_advance(1793 * (int64_t)SECOND);
  int requests = count_arp(); /* a second after the first, the next */
  CHECK(requests == 1 || requests == 2);
  receive_arp(2, PEER_MAC, SERVER, LEASED);
  CHECK(dhcp_sent(REQUEST) != NULL);
  close_tap();
}

static void an_infinite_lease_wakes_nothing(void) {
  obtain_lease(0xffffffff);
  host_advance(60 * SECOND);
  CHECK_EQUAL(host_deadline(), -1);
  host_jump(1000000000 * (int64_t)SECOND);
  CHECK_EQUAL(address_now(), get32(LEASED));
  event_expect_none();
  close_tap();
}

static void a_lease_ends_while_the_embedder_is_suspended(void) {
  obtain_lease(3600);
  host_advance(SECOND);
  frames_forget();
  host_jump(7200 * (int64_t)SECOND);
  CHECK_EQUAL(address_now(), 0);
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  CHECK(dhcp_sent(DISCOVER) != NULL);
  close_tap();
  obtain_lease(3600);
  host_advance(SECOND);
  frames_forget();
  host_jump(3300 * (int64_t)SECOND); /* between T2 and the end: straight to any server */
  CHECK_EQUAL(address_now(), get32(LEASED));
  const uint8_t *message = dhcp_sent(REQUEST);
  CHECK(message != NULL && memcmp(destination_of(message), ALL, 4) == 0);
  close_tap();
}

/* RFC 2132, section 9.3. */
static void options_may_be_in_other_fields(void) {
  static const uint8_t overload[1] = {3};
  static const uint8_t in_file[] = {0, 51, 4, 0, 0, 2, 88, 255},
                       in_name[] = {1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 0, 254, 51, 4, 0, 0, 0, 1, 255};
  open_tap();
  reply_send(OFFER, 3600);
  CHECK(dhcp_sent(REQUEST) != NULL);
  reply_begin(ACKNOWLEDGE, LEASED);
  reply_option(52, 1, overload);
  reply_option(54, 4, SERVER);
  memcpy(reply + 108, in_file, sizeof in_file);
  memcpy(reply + 44, in_name, sizeof in_name);
  reply_finish();
  host_advance(2 * SECOND);
  expect_lease(600); /* the file's field comes before that of the name */
  close_tap();
}

static void a_mask_that_is_missing_is_that_of_the_class(void) {
  static const struct {
    uint8_t address[4], mask[4];
  } cases[] = {{{10, 1, 2, 3}, {255, 0, 0, 0}}, {{172, 16, 2, 3}, {255, 255, 0, 0}}, {{192, 168, 2, 3}, {255, 255, 255, 0}}};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (uint8_t type = OFFER; type <= ACKNOWLEDGE; type += ACKNOWLEDGE - OFFER) {
      if (type == OFFER) {
        open_tap();
      }
      reply_begin(type, cases[i].address);
      reply_option(54, 4, SERVER);
      reply_option32(51, 3600);
      reply_finish();
      CHECK(type != OFFER || dhcp_sent(REQUEST) != NULL);
    }
    host_advance(2 * SECOND);
    event_expect(ABI_EVENT_LEASE_MESSAGE, tap);
    struct event event = event_expect(ABI_EVENT_LEASE, tap);
    CHECK(memcmp(event.payload, cases[i].address, 4) == 0 && memcmp(event.payload + 4, cases[i].mask, 4) == 0);
    CHECK(memcmp(event.payload + 8, UNSPECIFIED, 4) == 0);
    close_tap();
  }
}

static void options_of_a_wrong_length_are_refused(void) {
  static const uint8_t codes[] = {1, 3, 51, 52, 53, 54, 58, 59}, bytes[16] = {10, 0, 0, 254, 0, 0, 0, 1};
  open_tap();
  for (unsigned i = 0; i < sizeof codes; i++) {
    for (uint8_t length = 0; length <= 16; length++) {
      bool right = codes[i] == 3 ? length >= 4 : length == (codes[i] == 52 || codes[i] == 53 ? 1 : 4);
      if (!right) {
        reply_begin(OFFER, LEASED);
        reply_option(54, 4, SERVER);
        reply_option(codes[i], length, bytes);
        reply_finish();
      }
    }
  }
  reply_begin(OFFER, LEASED);
  reply_option(54, 4, SERVER);
  reply_send_datagram(reply_length); /* without an end */
  host_poll();
  reply_begin(OFFER, LEASED);
  reply_option(54, 4, SERVER);
  reply[reply_length++] = 1; /* an option without a length */
  reply_send_datagram(reply_length);
  host_poll();
  CHECK(dhcp_sent(REQUEST) == NULL);
  reply_begin(OFFER, LEASED);
  reply_option(3, 16, bytes); /* several routers */
  reply_option(54, 4, SERVER);
  reply_finish();
  CHECK(dhcp_sent(REQUEST) != NULL);
  close_tap();
}

/* The longest message that is received, whose last option has no value. */
static void no_option_is_read_behind_the_message(void) {
  static uint8_t datagram[8 + 1500];
  open_tap();
  for (uint8_t code = 1; code < 64; code++) {
    reply_begin(OFFER, LEASED);
    reply_option(54, 4, SERVER);
    memset(datagram, 0, sizeof datagram);
    put16(datagram, 67);
    put16(datagram + 2, 68);
    put16(datagram + 4, sizeof datagram);
    memcpy(datagram + 8, reply, reply_length);
    datagram[sizeof datagram - 2] = code;
    packet_ip(&packet, ABI_FAMILY_IPV4, SERVER, ALL, PROTOCOL_UDP, datagram, sizeof datagram);
    packet_ethernet(&packet, HOST_MAC, 0x0800);
    interface_receive(tap, packet.bytes, packet.length);
    host_poll();
  }
  CHECK(dhcp_sent(REQUEST) == NULL);
  close_tap();
}

static void a_refused_request_begins_anew(void) {
  open_tap();
  reply_send(OFFER, 3600);
  CHECK(dhcp_sent(REQUEST) != NULL);
  uint32_t first = transaction;
  reply_send(REFUSE, 0);
  CHECK(dhcp_sent(DISCOVER) != NULL && transaction != first);
  transaction = first;
  reply_send(ACKNOWLEDGE, 3600); /* too late */
  host_advance(900 * MILLISECOND);
  CHECK_EQUAL(count_arp(), 0);
  event_expect_none();
  close_tap();
}

static void refuse_from_another_server(void) {
  reply_begin(REFUSE, UNSPECIFIED);
  reply_option(54, 4, OTHER_SERVER);
  reply_finish();
}

static void other_servers_may_refuse_when_any_is_asked(void) {
  obtain_lease(1000);
  host_advance(490 * (int64_t)SECOND);
  frames_forget();
  wait_for_arp();
  receive_arp(2, PEER_MAC, SERVER, LEASED);
  CHECK(dhcp_sent(REQUEST) != NULL);
  refuse_from_another_server();
  CHECK_EQUAL(address_now(), get32(LEASED));
  const uint8_t *message;
  do {
    CHECK(wait_for(REQUEST, 4000, &message) >= 0);
  } while (memcmp(destination_of(message), ALL, 4) != 0);
  refuse_from_another_server();
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  CHECK_EQUAL(address_now(), 0);
  CHECK(dhcp_sent(DISCOVER) != NULL);
  close_tap();
}

static void bound_clients_take_no_message(void) {
  obtain_lease(3600);
  host_advance(3 * SECOND);
  frames_forget();
  reply_send(REFUSE, 0);
  reply_send(OFFER, 60);
  reply_send(ACKNOWLEDGE, 60);
  CHECK_EQUAL(address_now(), get32(LEASED));
  CHECK(dhcp_sent(DISCOVER) == NULL);
  event_expect_none();
  close_tap();
}

static void obtain_until_probes(void) {
  reply_send(OFFER, 3600);
  CHECK(dhcp_sent(REQUEST) != NULL);
  reply_send(ACKNOWLEDGE, 3600);
  event_expect(ABI_EVENT_LEASE_MESSAGE, tap);
  host_advance(500 * MILLISECOND);
  struct frame frame = frame_next();
  CHECK(frame.length >= 42 && get16(frame.bytes + 20) == 1 && memcmp(frame.bytes + 28, UNSPECIFIED, 4) == 0);
  CHECK(memcmp(frame.bytes + 38, LEASED, 4) == 0);
  frames_forget();
}

/* RFC 5227, section 2.1.1: another host probes for the same address; own frames that come back are no conflict. */
static void a_probe_of_another_host_is_a_conflict(void) {
  open_tap();
  obtain_until_probes();
  receive_arp(1, HOST_MAC, UNSPECIFIED, LEASED);
  receive_arp(1, PEER_MAC, UNSPECIFIED, SERVER);
  receive_arp(1, PEER_MAC, SERVER, LEASED);
  CHECK(dhcp_sent(DECLINE) == NULL);
  receive_arp(1, PEER_MAC, UNSPECIFIED, LEASED);
  CHECK(dhcp_sent(DECLINE) != NULL);
  host_advance(5 * SECOND);
  CHECK_EQUAL(address_now(), 0);
  event_expect_none();
  close_tap();
}

static void conflicts_in_a_row_are_rare(void) {
  const uint8_t *message;
  open_tap();
  for (int i = 1; i <= 8; i++) {
    obtain_until_probes();
    receive_arp(2, PEER_MAC, LEASED, LEASED);
    CHECK(dhcp_sent(DECLINE) != NULL);
    int tenths = wait_for(DISCOVER, 650, &message);
    CHECK(tenths >= 100 * LWIP_MIN(i, 6) - 1 && tenths <= 100 * LWIP_MIN(i, 6) + 1);
  }
  obtain_until_probes();
  host_advance(3 * SECOND);
  event_expect(ABI_EVENT_LEASE, tap);
  close_tap();
}

/* RFC 5227, section 2.4 (c): once in ten seconds. */
static void an_address_is_defended(void) {
  obtain_lease(3600);
  host_advance(3 * SECOND);
  frames_forget();
  receive_arp(1, HOST_MAC, LEASED, LEASED);
  CHECK_EQUAL(count_arp(), 0);
  for (int i = 0; i < 21; i++) {
    receive_arp(1, PEER_MAC, LEASED, SERVER);
    host_advance(SECOND);
  }
  CHECK_EQUAL(count_arp(), 3);
  close_tap();
}

static void interfaces_have_their_own_lease(void) {
  open_tap();
  int32_t first = tap;
  uint32_t first_transaction = transaction;
  open_tap();
  CHECK(transaction != first_transaction);
  reply_send(OFFER, 3600);
  CHECK(dhcp_sent(REQUEST) != NULL);
  int32_t second = tap;
  tap = first;
  reply_send(ACKNOWLEDGE, 3600); /* of the other's transaction */
  host_advance(500 * MILLISECOND);
  CHECK_EQUAL(count_arp(), 0);
  tap = second;
  reply_send(ACKNOWLEDGE, 3600);
  host_advance(1500 * MILLISECOND);
  expect_lease(3600);
  CHECK_EQUAL(abi_interface_remove(first), 0);
  host_advance(1790 * (int64_t)SECOND);
  frames_forget();
  host_advance(10 * SECOND);
  CHECK(count_arp() > 0); /* the other's removal leaves its socket and its times */
  close_tap();
}

static void a_port_in_use_is_an_error(void) {
  memset(tw_scratch.bytes, 0, 16);
  int32_t socket = abi_udp_open(ABI_FAMILY_IPV4, 68, 0);
  CHECK(socket > 0);
  tap = interface_open(ABI_KIND_TAP, 1500);
  CHECK_EQUAL(abi_dhcp_start(tap), ABI_ERROR_ADDRESS_IN_USE);
  CHECK_EQUAL(abi_dhcp_stop(tap), 0);
  CHECK_EQUAL(abi_udp_close(socket), 0);
  CHECK_EQUAL(abi_dhcp_start(tap), 0);
  close_tap();
}

/* To another address, with a port in a later fragment, or without a whole header. */
static void ports_are_those_of_whole_headers(void) {
  static const uint8_t ports[8] = {0, 67, 0, 68, 0, 8, 0, 0}, elsewhere[4] = {10, 0, 0, 77};
  open_tap();
  for (int fragment = 0; fragment < 2; fragment++) {
    uint32_t fragments = lwip_stats.ip_frag.recv, malformed = lwip_stats.udp.lenerr, dropped = tw_statistics.drops;
    packet_ip(&packet, ABI_FAMILY_IPV4, SERVER, elsewhere, 200, ports, fragment ? 8 : 4);
    packet.bytes[9] = PROTOCOL_UDP;
    put16(packet.bytes + 6, fragment ? 10 : 0);
    put16(packet.bytes + 10, 0);
    put16(packet.bytes + 10, (uint16_t)~reference_checksum(packet.bytes, 20, 0));
    packet_ethernet(&packet, HOST_MAC, 0x0800);
    interface_receive(tap, packet.bytes, packet.length);
    host_poll();
    CHECK_EQUAL(lwip_stats.ip_frag.recv, fragments);
    CHECK_EQUAL(lwip_stats.udp.lenerr, malformed);
    CHECK_EQUAL(tw_statistics.drops, dropped + 1);
  }
  close_tap();
}

int main(void) {
  host_start();
  RUN(each_message_has_its_options);
  RUN(messages_without_an_answer_are_repeated);
  RUN(a_renewal_is_repeated);
  RUN(a_renewal_resolves_the_server);
  RUN(an_infinite_lease_wakes_nothing);
  RUN(a_lease_ends_while_the_embedder_is_suspended);
  RUN(options_may_be_in_other_fields);
  RUN(a_mask_that_is_missing_is_that_of_the_class);
  RUN(options_of_a_wrong_length_are_refused);
  RUN(no_option_is_read_behind_the_message);
  RUN(a_refused_request_begins_anew);
  RUN(other_servers_may_refuse_when_any_is_asked);
  RUN(bound_clients_take_no_message);
  RUN(a_probe_of_another_host_is_a_conflict);
  RUN(conflicts_in_a_row_are_rare);
  RUN(an_address_is_defended);
  RUN(interfaces_have_their_own_lease);
  RUN(a_port_in_use_is_an_error);
  RUN(ports_are_those_of_whole_headers);
  return 0;
}
