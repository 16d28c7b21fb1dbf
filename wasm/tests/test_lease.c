/* DHCP with a scripted server: the life of a lease (RFC 2131, sections 3 and 4), and messages from other servers, forged or
   malformed, that must have no effect. */
#include "support_leases.h"

#include <string.h>

static void lease_is_renewed_and_expires(void) {
  obtain_lease(3600);
  CHECK(count_arp() >= 4); /* three probes, announcements */
  host_advance(5 * SECOND);
  frames_forget();
  int64_t wakes = host_deadline();
  CHECK(wakes > 0);
  uint32_t first = transaction;
  host_advance(1780 * (int64_t)SECOND);
  CHECK_EQUAL(host_deadline(), wakes); /* nothing is sent in between */
  CHECK(dhcp_sent(REQUEST) == NULL);
  wait_for_arp();
  /* Renewed with the server that granted it, whose MAC is resolved first. */
  packet_arp(&packet, 2, PEER_MAC, SERVER, LEASED);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  const uint8_t *request = dhcp_sent(REQUEST);
  CHECK(request != NULL && memcmp(request + 12, LEASED, 4) == 0);
  CHECK(transaction != first); /* the transaction identifier is a new one */
  reply_send(ACKNOWLEDGE, 1000);
  expect_lease(1000);
  host_advance(880 * (int64_t)SECOND);
  CHECK(dhcp_sent(REQUEST) != NULL); /* renewal, unanswered, then rebinding */
  while (dhcp_sent(REQUEST) != NULL) {
  }
  CHECK_EQUAL(address_now(), get32(LEASED));
  event_expect_none();
  host_advance(130 * (int64_t)SECOND);
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  CHECK_EQUAL(address_now(), 0);
  CHECK(dhcp_sent(DISCOVER) != NULL);
  close_tap();
}

static void any_server_may_answer_a_rebind(void) {
  static const uint8_t other[4] = {10, 0, 0, 253};
  obtain_lease(1000);
  frames_forget();
  host_advance(890 * (int64_t)SECOND);
  while (dhcp_sent(REQUEST) != NULL) {
  }
  reply_begin(ACKNOWLEDGE, LEASED);
  reply_option(54, 4, other);
  reply_option32(51, 500);
  reply_option(1, 4, MASK);
  reply_finish();
  event_expect(ABI_EVENT_LEASE_MESSAGE, tap);
  struct event event = event_expect(ABI_EVENT_LEASE, tap);
  CHECK(memcmp(event.payload + 12, other, 4) == 0);
  close_tap();
}

static void release_is_sent(void) {
  obtain_lease(3600);
  packet_arp(&packet, 1, PEER_MAC, SERVER, LEASED);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_dhcp_stop(tap), 0);
  host_poll();
  const uint8_t *message = dhcp_sent(RELEASE);
  CHECK(message != NULL && memcmp(message + 12, LEASED, 4) == 0);
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  CHECK_EQUAL(address_now(), 0);
  CHECK_EQUAL(abi_dhcp_stop(tap), 0);
  host_advance(10 * SECOND);
  event_expect_none();
  CHECK_EQUAL(abi_dhcp_start(tap), 0);
  host_poll();
  CHECK(dhcp_sent(DISCOVER) != NULL);
  close_tap();
}

static void refusal_restarts_discovery(void) {
  obtain_lease(1000);
  host_advance(490 * (int64_t)SECOND);
  frames_forget();
  wait_for_arp();
  packet_arp(&packet, 2, PEER_MAC, SERVER, LEASED);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  CHECK(dhcp_sent(REQUEST) != NULL);
  reply_send(REFUSE, 0);
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  CHECK_EQUAL(address_now(), 0);
  CHECK(dhcp_sent(DISCOVER) != NULL);
  close_tap();
}

static void conflict_is_declined(void) {
  open_tap();
  reply_send(OFFER, 3600);
  CHECK(dhcp_sent(REQUEST) != NULL);
  reply_send(ACKNOWLEDGE, 3600);
  host_advance(500 * MILLISECOND);
  packet_arp(&packet, 2, PEER_MAC, LEASED, LEASED);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  const uint8_t *message = dhcp_sent(DECLINE);
  CHECK(message != NULL);
  static const uint8_t said[] = {53, 1, DECLINE, 50, 4, 10, 0, 0, 50, 54, 4, 10, 0, 0, 254, 255};
  CHECK(memcmp(message + OPTIONS, said, sizeof said) == 0);
  CHECK(memcmp(message + 12, UNSPECIFIED, 4) == 0);
  event_expect(ABI_EVENT_LEASE_MESSAGE, tap);
  event_expect_none();
  CHECK_EQUAL(address_now(), 0);
  host_advance(9 * SECOND);
  CHECK(dhcp_sent(DISCOVER) == NULL); /* RFC 2131, section 3.1 (5): ten seconds */
  host_advance(2 * SECOND);
  CHECK(dhcp_sent(DISCOVER) != NULL);
  close_tap();
}

/* Two forged frames in ten seconds must not take the address away. */
static void forged_conflicts_do_not_remove_the_address(void) {
  obtain_lease(3600);
  host_advance(3 * SECOND);
  for (int i = 0; i < 20; i++) {
    packet_arp(&packet, 2, PEER_MAC, LEASED, LEASED);
    packet_ethernet(&packet, HOST_MAC, 0x0806);
    interface_receive(tap, packet.bytes, packet.length);
    host_advance(SECOND);
  }
  CHECK_EQUAL(address_now(), get32(LEASED));
  event_expect_none();
  close_tap();
}

/* Each of these is not a valid answer: the stack sends its request again. */
static void invalid_offers_are_ignored(void) {
  static const uint8_t bad[][4] = {{0},          {255, 255, 255, 255}, {224, 0, 0, 1}, {127, 0, 0, 1},
                                   {0, 0, 0, 5}, {10, 0, 0, 255},      {10, 0, 0, 0},  {240, 0, 0, 1}};
  static const uint8_t masks[][4] = {{255, 0, 255, 0}, {0}, {0, 0, 0, 255}};
  open_tap();
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    reply_begin(OFFER, bad[i]);
    reply_option(54, 4, SERVER);
    reply_option32(51, 3600);
    reply_option(1, 4, MASK);
    reply_finish();
  }
  for (unsigned i = 0; i < sizeof masks / sizeof *masks; i++) {
    reply_begin(OFFER, LEASED);
    reply_option(54, 4, SERVER);
    reply_option(1, 4, masks[i]);
    reply_finish();
  }
  reply_begin(OFFER, LEASED); /* without a source address */
  reply_finish();
  transaction++;
  reply_send(OFFER, 3600); /* of another transaction */
  transaction--;
  reply_begin(OFFER, LEASED);
  reply[0] = 1; /* a request */
  reply_option(54, 4, SERVER);
  reply_finish();
  reply_begin(OFFER, LEASED);
  put32(reply + 236, 0x63825364); /* another magic cookie */
  reply_option(54, 4, SERVER);
  reply_finish();
  reply_begin(OFFER, LEASED);
  reply[33]++; /* for another client hardware address */
  reply_option(54, 4, SERVER);
  reply_finish();
  reply_begin(OFFER, LEASED);
  reply_option(54, 4, SERVER);
  reply[reply_length - 5] = 255; /* an option that ends behind the message */
  reply_send_datagram(reply_length);
  host_poll();
  reply_begin(OFFER, LEASED);
  static const uint8_t overload[1] = {3};
  reply_option(52, 1,
               overload); /* more in the fields `sname` and `file`: an option that repeats another, and one without an end */
  memset(reply + 44, 52, 192);
  reply_option(54, 4, SERVER);
  reply_finish();
  for (uint32_t length = 0; length < OPTIONS + 3; length += 7) {
    reply_begin(OFFER, LEASED);
    reply_send_datagram(length);
  }
  host_poll();
  CHECK(dhcp_sent(REQUEST) == NULL);
  event_expect_none();
  reply_send(OFFER, 3600);
  CHECK(dhcp_sent(REQUEST) != NULL);
  close_tap();
}

static void invalid_acknowledgements_are_ignored(void) {
  static const uint8_t other[4] = {10, 0, 0, 51};
  open_tap();
  reply_send(OFFER, 3600);
  CHECK(dhcp_sent(REQUEST) != NULL);
  frames_forget();
  reply_send(ACKNOWLEDGE, 0); /* with a lease time of zero */
  reply_begin(ACKNOWLEDGE, LEASED);
  reply_option(54, 4, SERVER); /* without a lease time */
  reply_finish();
  reply_begin(ACKNOWLEDGE, other); /* of another address */
  reply_option(54, 4, SERVER);
  reply_option32(51, 3600);
  reply_finish();
  reply_begin(ACKNOWLEDGE, LEASED);
  reply_option(54, 4, other); /* from a server that was not selected */
  reply_option32(51, 3600);
  reply_finish();
  reply_begin(REFUSE, UNSPECIFIED);
  reply_option(54, 4, other);
  reply_finish();
  host_advance(SECOND);
  CHECK_EQUAL(count_arp(), 0);
  event_expect_none();
  close_tap();
}

static void unusual_lease_times(void) {
  static const struct {
    uint32_t lease, renewal, rebinding, renews;
  } cases[] = {
      {3600, 0, 0, 1800},
      {3600, 5000, 6000, 1800},
      {3600, 2000, 1000, 1800},
      {3600, 100, 200, 100},
      {3600, 100, 0, 100},
      {3600, 0, 2000, 1800},
      {3600, 0, 1000, 1800},
      {2, 1, 1, 1},
      {0xfffffffe, 0xffffffff, 0xffffffff, 0x7fffffff},
      {0xffffffff, 5, 6, 0xffffffff},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    open_tap();
    reply_send(OFFER, cases[i].lease);
    CHECK(dhcp_sent(REQUEST) != NULL);
    reply_begin(ACKNOWLEDGE, LEASED);
    reply_option(54, 4, SERVER);
    reply_option32(51, cases[i].lease);
    reply_option32(58, cases[i].renewal);
    reply_option32(59, cases[i].rebinding);
    reply_option(1, 4, MASK);
    reply_finish();
    host_advance(2 * SECOND);
    event_expect(ABI_EVENT_LEASE_MESSAGE, tap);
    struct event event = event_expect(ABI_EVENT_LEASE, tap);
    uint32_t words[7];
    memcpy(words, event.payload, sizeof words);
    CHECK_EQUAL(words[4], cases[i].lease);
    CHECK_EQUAL(words[5], cases[i].renews);
    close_tap();
  }
}

static void interfaces_without_dhcp_refuse(void) {
  int32_t tun = interface_open(ABI_KIND_TUN, 1500), small = interface_open(ABI_KIND_TAP, 500);
  CHECK_EQUAL(abi_dhcp_start(tun), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_dhcp_start(small), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_dhcp_start(0), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_dhcp_stop(0), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_interface_remove(tun), 0);
  CHECK_EQUAL(abi_interface_remove(small), 0);
  tap = interface_open(ABI_KIND_TAP, 1500);
  CHECK_EQUAL(interface_set_ipv4(tap, HOST4, 24), 0);
  CHECK_EQUAL(abi_dhcp_start(tap), ABI_ERROR_ADDRESS_IN_USE);
  close_tap();
}

static void failing_allocations_end_without_a_leak(void) {
  for (int64_t left = 0; left < 8; left++) {
    tap = interface_open(ABI_KIND_TAP, 1500);
    allocations_left = left;
    int32_t error = abi_dhcp_start(tap);
    host_poll();
    allocations_left = -1;
    CHECK(error == 0 || error == ABI_ERROR_NO_MEMORY);
    CHECK_EQUAL(abi_dhcp_stop(tap), 0);
    CHECK_EQUAL(abi_dhcp_start(tap), 0);
    host_poll();
    CHECK(dhcp_sent(DISCOVER) != NULL);
    close_tap();
  }
}

/* Mutated answers in each state: nothing crashes, and a valid one is still processed. */
static void mutated_messages_do_not_break_the_client(void) {
  open_tap();
  for (int i = 0; i < 60000; i++) {
    reply_begin((uint8_t)(random_next() % 9), LEASED);
    reply_option(54, 4, SERVER);
    reply_option32(51, 1 + random_next() % 5000);
    reply_option(1, 4, MASK);
    reply_option(3, 4, SERVER);
    for (uint32_t at = reply_length; at < sizeof reply; at++) {
      reply[at] = random_next() % 2 ? 255 : (uint8_t)random_next();
    }
    for (uint32_t changes = random_next() % 5; changes > 0; changes--) {
      reply[random_next() % 3 ? OPTIONS + random_next() % 40 : random_next() % OPTIONS] = (uint8_t)random_next();
    }
    reply_send_datagram(random_next() % 4 ? reply_length + random_next() % (sizeof reply - reply_length)
                                          : random_next() % sizeof reply);
    if (i % 20 == 0) {
      host_advance((int64_t)(random_next() % 2000) * 20 * MILLISECOND);
    }
    host_poll();
    for (struct frame frame; (frame = frame_next()).length != 0;) { /* the forger sees each transaction identifier */
      if (frame.length > 300 && frame.bytes[23] == PROTOCOL_UDP) {
        transaction = get32(frame.bytes + 46);
      }
    }
    while (event_next().kind != 0) {
    }
  }
  CHECK_EQUAL(abi_dhcp_stop(tap), 0);
  host_poll();
  frames_forget();
  while (event_next().kind != 0) {
  }
  CHECK_EQUAL(abi_interface_remove(tap), 0);
  obtain_lease(3600);
  close_tap();
}

int main(void) {
  host_start();
  RUN(lease_is_renewed_and_expires);
  RUN(any_server_may_answer_a_rebind);
  RUN(release_is_sent);
  RUN(refusal_restarts_discovery);
  RUN(conflict_is_declined);
  RUN(forged_conflicts_do_not_remove_the_address);
  RUN(invalid_offers_are_ignored);
  RUN(invalid_acknowledgements_are_ignored);
  RUN(unusual_lease_times);
  RUN(interfaces_without_dhcp_refuse);
  RUN(failing_allocations_end_without_a_leak);
  RUN(mutated_messages_do_not_break_the_client);
  return 0;
}
