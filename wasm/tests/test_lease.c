/* DHCP with a scripted server: the life of a lease (RFC 2131, sections 3 and 4), and messages from other servers, forged or
   malformed, that must have no effect. */
#include "support.h"
#include "link/interface.h"

#include <string.h>

enum { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACKNOWLEDGE, REFUSE, RELEASE };
enum { OPTIONS = 240 };

static const uint8_t SERVER[4] = {10, 0, 0, 254}, LEASED[4] = {10, 0, 0, 50}, ALL[4] = {255, 255, 255, 255}, UNSPECIFIED[4];
static const uint8_t MASK[4] = {255, 255, 255, 0};

static struct packet packet;
static int32_t tap;
static uint8_t reply[600];
static uint32_t reply_length, transaction;

static void begin(uint8_t type, const uint8_t *address) {
  memset(reply, 0, sizeof reply);
  reply[0] = 2;
  reply[1] = 1;
  reply[2] = 6;
  put32(reply + 4, transaction);
  memcpy(reply + 16, address, 4);
  memcpy(reply + 28, HOST_MAC, 6);
  put32(reply + 236, 0x63825363);
  reply_length = OPTIONS;
  reply[reply_length++] = 53;
  reply[reply_length++] = 1;
  reply[reply_length++] = type;
}

static void option(uint8_t code, uint8_t length, const uint8_t *value) {
  reply[reply_length++] = code;
  reply[reply_length++] = length;
  memcpy(reply + reply_length, value, length);
  reply_length += length;
}

static void option32(uint8_t code, uint32_t value) {
  uint8_t bytes[4];
  put32(bytes, value);
  option(code, 4, bytes);
}

static void send_datagram(uint32_t length) {
  static uint8_t datagram[8 + sizeof reply];
  put16(datagram, 67);
  put16(datagram + 2, 68);
  put16(datagram + 4, 8 + length);
  memcpy(datagram + 8, reply, length);
  packet_ip(&packet, ABI_FAMILY_IPV4, SERVER, ALL, PROTOCOL_UDP, datagram, 8 + length);
  packet_ethernet(&packet, HOST_MAC, 0x0800);
  interface_receive(tap, packet.bytes, packet.length);
}

static void finish(void) {
  reply[reply_length++] = 255;
  send_datagram(reply_length);
  host_poll();
}

static void send_reply(uint8_t type, uint32_t seconds) {
  begin(type, type == REFUSE ? UNSPECIFIED : LEASED);
  option(54, 4, SERVER);
  if (type != REFUSE) {
    option32(51, seconds);
    option(1, 4, MASK);
    option(3, 4, SERVER);
    option(6, 4, SERVER);
  }
  finish();
}

/* The next DHCP message of this type from the stack, from its UDP payload on; NULL if there is none. */
static const uint8_t *sent(uint8_t type) {
  struct frame frame;
  while ((frame = frame_next()).length != 0) {
    const uint8_t *message = frame.bytes + 14 + 28;
    if (frame.length > 14 + 28 + OPTIONS + 3 && get16(frame.bytes + 12) == 0x0800 && frame.bytes[23] == PROTOCOL_UDP &&
        get16(frame.bytes + 36) == 67 && message[OPTIONS] == 53 && message[OPTIONS + 2] == type) {
      transaction = get32(message + 4);
      return message;
    }
  }
  return NULL;
}

static int count_arp(void) {
  int count = 0;
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    count += get16(frame.bytes + 12) == 0x0806;
  }
  return count;
}

static void wait_for_arp(void) {
  for (int seconds = 0; count_arp() == 0; seconds++) {
    CHECK(seconds < 60);
    host_advance(SECOND);
  }
}

static void open_tap(void) {
  tap = interface_open(ABI_KIND_TAP, 1500);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_dhcp_start(tap), 0);
  host_poll();
  CHECK(sent(DISCOVER) != NULL);
}

static void close_tap(void) {
  CHECK_EQUAL(abi_interface_remove(tap), 0);
  host_poll();
  while (event_next().kind != 0) {
  }
  frames_forget();
}

static uint32_t address_now(void) { return get32((const uint8_t *)&netif_ip4_addr(tw_interface_netif(tap))->addr); }

static void expect_lease(uint32_t seconds) {
  event_expect(ABI_EVENT_LEASE_MESSAGE, tap);
  struct event event = event_expect(ABI_EVENT_LEASE, tap);
  uint32_t words[7];
  CHECK_EQUAL(event.length, sizeof words);
  memcpy(words, event.payload, sizeof words);
  CHECK(memcmp(words, LEASED, 4) == 0 && memcmp(words + 1, MASK, 4) == 0);
  CHECK(memcmp(words + 2, SERVER, 4) == 0 && memcmp(words + 3, SERVER, 4) == 0);
  CHECK_EQUAL(words[4], seconds);
  CHECK_EQUAL(address_now(), get32(LEASED));
}

/* From no address to a lease of this duration. */
static void obtain_lease(uint32_t seconds) {
  open_tap();
  send_reply(OFFER, seconds);
  CHECK(sent(REQUEST) != NULL);
  send_reply(ACKNOWLEDGE, seconds);
  CHECK_EQUAL(address_now(), 0); /* RFC 5227: not before the address was probed */
  host_advance(3 * SECOND);
  expect_lease(seconds);
}

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
  CHECK(sent(REQUEST) == NULL);
  wait_for_arp();
  /* Renewed with the server that granted it, whose MAC is resolved first. */
  packet_arp(&packet, 2, PEER_MAC, SERVER, LEASED);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  const uint8_t *request = sent(REQUEST);
  CHECK(request != NULL && memcmp(request + 12, LEASED, 4) == 0);
  CHECK(transaction != first); /* the transaction identifier is a new one */
  send_reply(ACKNOWLEDGE, 1000);
  expect_lease(1000);
  host_advance(880 * (int64_t)SECOND);
  CHECK(sent(REQUEST) != NULL); /* renewal, unanswered, then rebinding */
  while (sent(REQUEST) != NULL) {
  }
  CHECK_EQUAL(address_now(), get32(LEASED));
  event_expect_none();
  host_advance(130 * (int64_t)SECOND);
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  CHECK_EQUAL(address_now(), 0);
  CHECK(sent(DISCOVER) != NULL);
  close_tap();
}

static void any_server_may_answer_a_rebind(void) {
  static const uint8_t other[4] = {10, 0, 0, 253};
  obtain_lease(1000);
  frames_forget();
  host_advance(890 * (int64_t)SECOND);
  while (sent(REQUEST) != NULL) {
  }
  begin(ACKNOWLEDGE, LEASED);
  option(54, 4, other);
  option32(51, 500);
  option(1, 4, MASK);
  finish();
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
  const uint8_t *message = sent(RELEASE);
  CHECK(message != NULL && memcmp(message + 12, LEASED, 4) == 0);
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  CHECK_EQUAL(address_now(), 0);
  CHECK_EQUAL(abi_dhcp_stop(tap), 0);
  host_advance(10 * SECOND);
  event_expect_none();
  CHECK_EQUAL(abi_dhcp_start(tap), 0);
  host_poll();
  CHECK(sent(DISCOVER) != NULL);
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
  CHECK(sent(REQUEST) != NULL);
  send_reply(REFUSE, 0);
  event_expect(ABI_EVENT_LEASE_LOST, tap);
  CHECK_EQUAL(address_now(), 0);
  CHECK(sent(DISCOVER) != NULL);
  close_tap();
}

static void conflict_is_declined(void) {
  open_tap();
  send_reply(OFFER, 3600);
  CHECK(sent(REQUEST) != NULL);
  send_reply(ACKNOWLEDGE, 3600);
  host_advance(500 * MILLISECOND);
  packet_arp(&packet, 2, PEER_MAC, LEASED, LEASED);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  const uint8_t *message = sent(DECLINE);
  CHECK(message != NULL);
  static const uint8_t said[] = {53, 1, DECLINE, 50, 4, 10, 0, 0, 50, 54, 4, 10, 0, 0, 254, 255};
  CHECK(memcmp(message + OPTIONS, said, sizeof said) == 0);
  CHECK(memcmp(message + 12, UNSPECIFIED, 4) == 0);
  event_expect(ABI_EVENT_LEASE_MESSAGE, tap);
  event_expect_none();
  CHECK_EQUAL(address_now(), 0);
  host_advance(9 * SECOND);
  CHECK(sent(DISCOVER) == NULL); /* RFC 2131, section 3.1 (5): ten seconds */
  host_advance(2 * SECOND);
  CHECK(sent(DISCOVER) != NULL);
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
    begin(OFFER, bad[i]);
    option(54, 4, SERVER);
    option32(51, 3600);
    option(1, 4, MASK);
    finish();
  }
  for (unsigned i = 0; i < sizeof masks / sizeof *masks; i++) {
    begin(OFFER, LEASED);
    option(54, 4, SERVER);
    option(1, 4, masks[i]);
    finish();
  }
  begin(OFFER, LEASED); /* without a source address */
  finish();
  transaction++;
  send_reply(OFFER, 3600); /* of another transaction */
  transaction--;
  begin(OFFER, LEASED);
  reply[0] = 1; /* a request */
  option(54, 4, SERVER);
  finish();
  begin(OFFER, LEASED);
  put32(reply + 236, 0x63825364); /* another magic cookie */
  option(54, 4, SERVER);
  finish();
  begin(OFFER, LEASED);
  reply[33]++; /* for another client hardware address */
  option(54, 4, SERVER);
  finish();
  begin(OFFER, LEASED);
  option(54, 4, SERVER);
  reply[reply_length - 5] = 255; /* an option that ends behind the message */
  send_datagram(reply_length);
  host_poll();
  begin(OFFER, LEASED);
  static const uint8_t overload[1] = {3};
  option(52, 1, overload); /* more in the fields `sname` and `file`: an option that repeats another, and one without an end */
  memset(reply + 44, 52, 192);
  option(54, 4, SERVER);
  finish();
  for (uint32_t length = 0; length < OPTIONS + 3; length += 7) {
    begin(OFFER, LEASED);
    send_datagram(length);
  }
  host_poll();
  CHECK(sent(REQUEST) == NULL);
  event_expect_none();
  send_reply(OFFER, 3600);
  CHECK(sent(REQUEST) != NULL);
  close_tap();
}

static void invalid_acknowledgements_are_ignored(void) {
  static const uint8_t other[4] = {10, 0, 0, 51};
  open_tap();
  send_reply(OFFER, 3600);
  CHECK(sent(REQUEST) != NULL);
  frames_forget();
  send_reply(ACKNOWLEDGE, 0); /* with a lease time of zero */
  begin(ACKNOWLEDGE, LEASED);
  option(54, 4, SERVER); /* without a lease time */
  finish();
  begin(ACKNOWLEDGE, other); /* of another address */
  option(54, 4, SERVER);
  option32(51, 3600);
  finish();
  begin(ACKNOWLEDGE, LEASED);
  option(54, 4, other); /* from a server that was not selected */
  option32(51, 3600);
  finish();
  begin(REFUSE, UNSPECIFIED);
  option(54, 4, other);
  finish();
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
      {2, 1, 1, 1},
      {0xfffffffe, 0xffffffff, 0xffffffff, 0x7fffffff},
      {0xffffffff, 5, 6, 0xffffffff},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    open_tap();
    send_reply(OFFER, cases[i].lease);
    CHECK(sent(REQUEST) != NULL);
    begin(ACKNOWLEDGE, LEASED);
    option(54, 4, SERVER);
    option32(51, cases[i].lease);
    option32(58, cases[i].renewal);
    option32(59, cases[i].rebinding);
    option(1, 4, MASK);
    finish();
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
    CHECK(sent(DISCOVER) != NULL);
    close_tap();
  }
}

/* Mutated answers in each state: nothing crashes, and a valid one is still processed. */
static void mutated_messages_do_not_break_the_client(void) {
  open_tap();
  for (int i = 0; i < 60000; i++) {
    begin((uint8_t)(random_next() % 9), LEASED);
    option(54, 4, SERVER);
    option32(51, 1 + random_next() % 5000);
    option(1, 4, MASK);
    option(3, 4, SERVER);
    for (uint32_t at = reply_length; at < sizeof reply; at++) {
      reply[at] = random_next() % 2 ? 255 : (uint8_t)random_next();
    }
    for (uint32_t changes = random_next() % 5; changes > 0; changes--) {
      reply[random_next() % 3 ? OPTIONS + random_next() % 40 : random_next() % OPTIONS] = (uint8_t)random_next();
    }
    send_datagram(random_next() % 4 ? reply_length + random_next() % (sizeof reply - reply_length)
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
