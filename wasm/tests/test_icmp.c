/* ICMP and ICMPv6: errors about our own packets, errors about packets that were never sent, and ping. */
#include "support.h"
#include "abi/staging.h"
#include "ip/icmp.h"
#include "ip/icmp_limit.h"

#include <string.h>

static const uint8_t ROUTER4[4] = {10, 0, 0, 254}, ROUTER6[16] = {0xfd, [15] = 254};
static int32_t interface;
static struct packet packet, sent;

static void open_interface(void) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  host_poll();
  frames_forget();
}

static void close_interface(void) { CHECK_EQUAL(abi_interface_remove(interface), 0); }

static void deliver(void) {
  interface_receive(interface, packet.bytes, packet.length);
  host_poll();
}

static uint32_t unmatched(void) {
  abi_statistics();
  return tw_icmp_unmatched;
}

static const uint8_t *peer_of(int32_t family) { return family == ABI_FAMILY_IPV4 ? PEER4 : PEER6; }

static const uint8_t *router_of(int32_t family) { return family == ABI_FAMILY_IPV4 ? ROUTER4 : ROUTER6; }

/* Keeps the first frame that leaves. */
static void keep_sent(void) {
  host_poll();
  struct frame frame = frame_next();
  CHECK(frame.length > 0);
  memcpy(sent.bytes, frame.bytes, frame.length);
  sent.length = frame.length;
  frames_forget();
}

static int32_t connected(int32_t family, uint32_t length) {
  static uint8_t data[3000];
  int32_t socket = udp_socket_open(family, NULL, 0);
  endpoint_put(family, peer_of(family), 7);
  CHECK_EQUAL(abi_udp_connect(socket), 0);
  CHECK_EQUAL(udp_put(socket, family, peer_of(family), 7, data, (int32_t)length), 0);
  keep_sent();
  return socket;
}

static void errors_are_reported_to_the_socket(void) {
  static const struct {
    int32_t family;
    uint8_t type, code;
    int32_t error;
  } cases[] = {
      {4, 3, 0, ABI_ERROR_NO_ROUTE},
      {4, 3, 1, ABI_ERROR_HOST_UNREACHABLE},
      {4, 3, 3, ABI_ERROR_REFUSED},
      {4, 3, 13, ABI_ERROR_HOST_UNREACHABLE},
      {4, 11, 0, ABI_ERROR_HOST_UNREACHABLE},
      {4, 5, 0, 0},
      {4, 12, 0, 0},
      {6, 1, 0, ABI_ERROR_NO_ROUTE},
      {6, 1, 1, ABI_ERROR_NOT_PERMITTED},
      {6, 1, 3, ABI_ERROR_HOST_UNREACHABLE},
      {6, 1, 4, ABI_ERROR_REFUSED},
      {6, 1, 99, ABI_ERROR_HOST_UNREACHABLE},
      {6, 3, 0, ABI_ERROR_HOST_UNREACHABLE},
      {6, 4, 0, 0},
      {6, 100, 0, 0},
  };
  open_interface();
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (uint32_t length = 0; length <= 3000; length += 1500) { /* the second and third are quoted as a fragment */
      int32_t socket = connected(cases[i].family, length);
      uint32_t before = unmatched();
      packet_icmp_error(&packet, router_of(cases[i].family), cases[i].type, cases[i].code, sent.bytes,
                        LWIP_MIN(sent.length, 200));
      deliver();
      if (cases[i].error != 0) {
        CHECK_EQUAL(event_expect(ABI_EVENT_DATAGRAM_ERROR, socket).value, -cases[i].error);
      }
      event_expect_none();
      CHECK_EQUAL(unmatched(), before + (cases[i].error == 0));
      CHECK_EQUAL(abi_udp_close(socket), 0);
      deliver(); /* after the socket was closed */
      event_expect_none();
      frames_forget();
    }
  }
  close_interface();
}

/* Each byte of the four-tuple and of the UDP protocol number, changed; then every length of the quotation. */
static void forged_errors_are_ignored(void) {
  open_interface();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    uint32_t header = family == ABI_FAMILY_IPV4 ? 20 : 40, from = family == ABI_FAMILY_IPV4 ? 12 : 8;
    int32_t socket = connected(family, 20);
    int32_t other = udp_socket_open(ABI_FAMILY_ANY, NULL, 9);
    uint8_t type = family == ABI_FAMILY_IPV4 ? 3 : 1, code = family == ABI_FAMILY_IPV4 ? 3 : 4;
    for (uint32_t at = from; at < header + 4; at++) {
      uint32_t before = unmatched();
      sent.bytes[at] ^= 0x10;
      packet_icmp_error(&packet, peer_of(family), type, code, sent.bytes, header + 8);
      if (at < header - (family == ABI_FAMILY_IPV4 ? 4 : 16)) { /* the destination of the message itself stays ours */
        packet_ip(&packet, family, peer_of(family), family == ABI_FAMILY_IPV4 ? HOST4 : HOST6,
                  family == ABI_FAMILY_IPV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, packet.bytes + header, 8 + header + 8);
      }
      deliver();
      event_expect_none();
      CHECK_EQUAL(unmatched(), before + 1);
      sent.bytes[at] ^= 0x10;
    }
    for (uint32_t quoted = 0; quoted < header + 8; quoted++) {
      packet_icmp_error(&packet, peer_of(family), type, code, sent.bytes, quoted);
      deliver();
      event_expect_none();
    }
    if (family == ABI_FAMILY_IPV4) { /* wrong header lengths, a later fragment, a wrong checksum */
      for (uint8_t words = 0; words < 16; words++) {
        if (words == 5) {
          continue;
        }
        sent.bytes[0] = 0x40 | words;
        packet_icmp_error(&packet, peer_of(family), type, code, sent.bytes, header + 8);
        deliver();
      }
      sent.bytes[0] = 0x45;
      sent.bytes[7] = 1;
      packet_icmp_error(&packet, peer_of(family), type, code, sent.bytes, header + 8);
      deliver();
      sent.bytes[7] = 0;
      packet_icmp_error(&packet, peer_of(family), type, code, sent.bytes, header + 8);
      packet.bytes[20 + 2] ^= 1;
      deliver();
      event_expect_none();
    }
    packet_icmp_error(&packet, peer_of(family), type, code, sent.bytes, header + 8);
    deliver();
    event_expect(ABI_EVENT_DATAGRAM_ERROR, socket);
    CHECK_EQUAL(abi_udp_close(socket), 0);
    CHECK_EQUAL(abi_udp_close(other), 0);
  }
  close_interface();
}

/* An unconnected socket is not notified, because it does not know which datagram failed; the message does not count as
   forged. */
static void unconnected_sockets_get_no_errors(void) {
  open_interface();
  int32_t socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 53);
  CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, PEER4, 7, "x", 1), 0);
  keep_sent();
  uint32_t before = unmatched();
  packet_icmp_error(&packet, PEER4, 3, 3, sent.bytes, 28);
  deliver();
  event_expect_none();
  CHECK_EQUAL(unmatched(), before);
  CHECK_EQUAL(abi_udp_close(socket), 0);
  close_interface();
}

/* RFC 1122, section 4.2.3.9: the handshake continues; if it times out, the ICMP reason is reported, and if it succeeds, the
   reason is dropped. */
static void connect_reports_the_icmp_reason(void) {
  open_interface();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    for (int forge = 0; forge < 2; forge++) {
      int32_t connection = tcp_open(family, peer_of(family), 80);
      keep_sent();
      uint32_t header = family == ABI_FAMILY_IPV4 ? 20 : 40, before = unmatched();
      sent.bytes[header + 7] ^= forge; /* the sequence number */
      packet_icmp_error(&packet, router_of(family), family == ABI_FAMILY_IPV4 ? 3 : 1, family == ABI_FAMILY_IPV4 ? 1 : 3,
                        sent.bytes, header + 8);
      deliver();
      event_expect_none();
      CHECK_EQUAL(unmatched(), before + (uint32_t)forge);
      host_advance((forge ? 126 : 6) * (int64_t)SECOND); /* the normal time-out, or after two more transmissions */
      event_expect_none();
      host_advance(2 * SECOND);
      struct event event = event_expect(ABI_EVENT_CLOSED, connection);
      CHECK_EQUAL(event.value, forge ? -ABI_ERROR_TIMED_OUT : -ABI_ERROR_HOST_UNREACHABLE);
      CHECK_EQUAL(abi_tcp_close(connection), 0);
      frames_forget();
    }
  }
  close_interface();
}

/* Errors about datagrams to closed ports are limited, and each bucket is refilled by the clock. */
static void errors_are_limited(void) {
  open_interface();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    host_advance(2 * SECOND);
    for (int second = 0; second < 3; second++) {
      uint32_t limited = tw_icmp_limited;
      int errors = 0;
      for (int i = 0; i < 1000; i++) {
        struct datagram datagram = {.family = family,
                                    .from = peer_of(family),
                                    .to = family == ABI_FAMILY_IPV4 ? HOST4 : HOST6,
                                    .from_port = 9,
                                    .to_port = (uint16_t)(1000 + i),
                                    .data = (const uint8_t *)"?",
                                    .length = 1};
        packet_udp(&packet, &datagram);
        interface_receive(interface, packet.bytes, packet.length);
      }
      host_poll();
      while (frame_next().length != 0) {
        errors++;
      }
      int expected = second == 2 ? 50 : 100;
      CHECK(errors >= expected && errors <= expected + 5);
      CHECK_EQUAL(tw_icmp_limited - limited, 1000 - errors);
      packet_icmp_echo(&packet, family, "echo", 4); /* replies are not limited */
      deliver();
      CHECK(frame_next().length > 0);
      host_jump(second == 1 ? SECOND / 2 : 2 * SECOND);
    }
  }
  close_interface();
}

static int32_t session_open(int32_t family) {
  memcpy(tw_scratch.bytes, peer_of(family), family == ABI_FAMILY_IPV4 ? 4 : 16);
  return abi_ping_open(family, 0);
}

/* Turns an echo request into its reply, as the peer would. */
static void answer(int32_t family, const uint8_t *from) {
  uint32_t header = family == ABI_FAMILY_IPV4 ? 20 : 40;
  bool four = family == ABI_FAMILY_IPV4;
  CHECK_EQUAL(sent.bytes[header], four ? 8 : 128);
  static uint8_t message[PACKET_CAPACITY];
  memcpy(message, sent.bytes + header, sent.length - header);
  message[0] = four ? 0 : 129;
  packet_ip(&packet, family, from, four ? HOST4 : HOST6, four ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, message, sent.length - header);
}

static uint32_t sequence_of(const struct event *event) { return *(const uint32_t *)(const void *)(event->payload + 4); }

/* Requests of several sequence numbers and sizes: each reply is reported to its session, with its data. */
static void expect_replies(int32_t family, int32_t session, int32_t other) {
  uint32_t header = family == ABI_FAMILY_IPV4 ? 20 : 40;
  uint8_t data[1000];
  pattern_fill(data, sizeof data, 0);
  for (int32_t sequence = 0; sequence <= 65535; sequence += 13107) {
    memcpy((void *)(uintptr_t)tw_staging(), data, sizeof data);
    CHECK_EQUAL(abi_ping_send(session, sequence, sequence == 0 ? 0 : sizeof data, 1 + sequence % 255), 0);
    keep_sent();
    CHECK_EQUAL(sent.bytes[family == ABI_FAMILY_IPV4 ? 8 : 7], 1 + sequence % 255);
    static struct packet same;
    packet_ip(&same, family, family == ABI_FAMILY_IPV4 ? HOST4 : HOST6, peer_of(family),
              family == ABI_FAMILY_IPV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, sent.bytes + header, sent.length - header);
    CHECK_EQUAL(get16(sent.bytes + header + 2), get16(same.bytes + header + 2));
    CHECK_EQUAL(get16(sent.bytes + header + 4), abi_ping_identifier(session));
    answer(family, peer_of(family));
    CHECK(memcmp(packet.bytes + header + 8, data, sequence == 0 ? 0 : sizeof data) == 0);
    deliver();
    struct event event = event_expect(ABI_EVENT_ECHO_REPLY, session);
    CHECK_EQUAL(event.value, sequence == 0 ? 0 : sizeof data);
    CHECK_EQUAL(sequence_of(&event), sequence);
    CHECK(memcmp(event.payload + ABI_ENDPOINT_SIZE, data, (size_t)event.value) == 0);
    uint32_t before = unmatched();
    answer(family, router_of(family)); /* from another address, and with another identifier */
    deliver();
    sent.bytes[header + 4] ^= 0x55;
    sent.bytes[header + 5] ^= 0x55;
    answer(family, peer_of(family));
    deliver();
    if (get16(sent.bytes + header + 4) != (uint32_t)abi_ping_identifier(other)) {
      event_expect_none();
      CHECK_EQUAL(unmatched(), before + 2);
    }
  }
}

/* An error about a request; then quotations and replies that are too short. */
static void expect_error(int32_t family, int32_t session) {
  uint32_t header = family == ABI_FAMILY_IPV4 ? 20 : 40;
  CHECK_EQUAL(abi_ping_send(session, 9, 10, 1), 0);
  keep_sent();
  packet_icmp_error(&packet, router_of(family), family == ABI_FAMILY_IPV4 ? 11 : 3, 0, sent.bytes, header + 8);
  deliver();
  struct event event = event_expect(ABI_EVENT_ECHO_ERROR, session);
  CHECK_EQUAL(event.value, (family == ABI_FAMILY_IPV4 ? 11 : 3) << 8);
  CHECK_EQUAL(sequence_of(&event), 9);
  CHECK(memcmp(event.payload + 12, router_of(family), family == ABI_FAMILY_IPV4 ? 4 : 16) == 0);
  for (uint32_t quoted = 0; quoted < header + 8; quoted++) {
    packet_icmp_error(&packet, router_of(family), family == ABI_FAMILY_IPV4 ? 11 : 3, 0, sent.bytes, quoted);
    deliver();
  }
  for (uint32_t length = 0; length < 8; length++) { /* truncated replies */
    uint8_t message[8] = {family == ABI_FAMILY_IPV4 ? 0 : 129};
    packet_ip(&packet, family, peer_of(family), family == ABI_FAMILY_IPV4 ? HOST4 : HOST6,
              family == ABI_FAMILY_IPV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, message, length);
    deliver();
  }
  event_expect_none();
}

static void ping_replies_are_matched(void) {
  open_interface();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    int32_t session = session_open(family), other = session_open(family);
    CHECK(session > 0 && other > 0);
    CHECK(abi_ping_identifier(session) != abi_ping_identifier(other));
    expect_replies(family, session, other);
    expect_error(family, session);
    CHECK_EQUAL(abi_ping_close(session), 0);
    CHECK_EQUAL(abi_ping_close(other), 0);
    CHECK_EQUAL(abi_ping_close(other), ABI_ERROR_BAD_HANDLE);
    CHECK_EQUAL(abi_ping_send(other, 1, 0, 64), ABI_ERROR_BAD_HANDLE);
    CHECK_EQUAL(abi_ping_identifier(other), ABI_ERROR_BAD_HANDLE);
    frames_forget();
  }
  close_interface();
}

static void impossible_pings_are_refused(void) {
  static const uint8_t group[4] = {224, 0, 0, 1}, nowhere[4] = {192, 168, 1, 1};
  open_interface();
  memcpy(tw_scratch.bytes, group, 4);
  CHECK_EQUAL(abi_ping_open(ABI_FAMILY_IPV4, 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_ping_open(ABI_FAMILY_ANY, 0), ABI_ERROR_INVALID);
  memset(tw_scratch.bytes, 0, 16);
  CHECK_EQUAL(abi_ping_open(ABI_FAMILY_IPV6, 0), ABI_ERROR_INVALID);
  int32_t session = session_open(ABI_FAMILY_IPV4);
  CHECK_EQUAL(abi_ping_send(session, 65536, 0, 64), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_ping_send(session, -1, 0, 64), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_ping_send(session, 0, -1, 64), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_ping_send(session, 0, 0, 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_ping_send(session, 0, 0, 256), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_ping_send(session, 0, ABI_MAX_DATAGRAM + 1, 64), ABI_ERROR_TOO_LONG);
  memcpy(tw_scratch.bytes, nowhere, 4);
  int32_t lost = abi_ping_open(ABI_FAMILY_IPV4, 0);
  CHECK_EQUAL(abi_ping_send(lost, 0, 0, 64), ABI_ERROR_NO_ROUTE);
  CHECK_EQUAL(abi_ping_close(lost), 0);
  int32_t tap = interface_open(ABI_KIND_TAP, 1500);
  static const uint8_t own[4] = {10, 7, 0, 1}, all[4] = {10, 7, 0, 255};
  CHECK_EQUAL(interface_set_ipv4(tap, own, 24), 0);
  memcpy(tw_scratch.bytes, all, 4);
  int32_t everybody = abi_ping_open(ABI_FAMILY_IPV4, 0);
  CHECK_EQUAL(abi_ping_send(everybody, 0, 0, 64), ABI_ERROR_NOT_PERMITTED);
  CHECK_EQUAL(abi_ping_close(everybody), 0);
  CHECK_EQUAL(abi_interface_remove(tap), 0);
  host_fetch_frames(false);
  int32_t result;
  while ((result = abi_ping_send(session, 0, 60000, 64)) == 0) {
  }
  CHECK_EQUAL(result, ABI_ERROR_NO_ROOM);
  host_fetch_frames(true);
  host_poll();
  host_poll();
  event_expect(ABI_EVENT_WRITABLE, session);
  for (int64_t allowed = 0; allowed < 10; allowed++) {
    allocations_left = allowed;
    result = abi_ping_send(session, 0, 3000, 64);
    CHECK(result == 0 || result == ABI_ERROR_NO_MEMORY);
    allocations_left = 0;
    CHECK_EQUAL(session_open(ABI_FAMILY_IPV4), ABI_ERROR_NO_MEMORY);
    allocations_left = -1;
    frames_forget();
    host_poll();
  }
  CHECK_EQUAL(abi_ping_close(session), 0);
  close_interface();
}

/* Errors, replies and datagrams with bytes changed, removed or added, and corrected checksums: the stack stays consistent, and
   each event has an open handle. */
static void mutated_messages_do_not_break_the_stack(void) {
  static struct packet originals[6];
  uint8_t data[64];
  uint32_t count = 0, events = 0;
  open_interface();
  int32_t handles[4];
  for (int i = 0; i < 2; i++) {
    int32_t family = i == 0 ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6;
    bool four = family == ABI_FAMILY_IPV4;
    handles[i] = connected(family, 1500);
    packet_icmp_error(&originals[count++], router_of(family), four ? 3 : 1, four ? 1 : 3, sent.bytes, 120);
    struct datagram back = {.family = family,
                            .from = peer_of(family),
                            .to = four ? HOST4 : HOST6,
                            .from_port = 7,
                            .data = data,
                            .length = sizeof data};
    endpoint_put(family, peer_of(family), 0);
    CHECK_EQUAL(abi_udp_local(handles[i]), 0);
    back.to_port = (uint16_t)*(const uint32_t *)(const void *)(tw_scratch.bytes + 4);
    packet_udp(&originals[count++], &back);
    handles[2 + i] = session_open(family);
    CHECK_EQUAL(abi_ping_send(handles[2 + i], 1, 40, 64), 0);
    keep_sent();
    answer(family, peer_of(family));
    originals[count++] = packet;
  }
  for (int round = 0; round < 60000; round++) {
    packet = originals[random_next() % count];
    uint32_t header = packet.bytes[0] >> 4 == 4 ? 20 : 40;
    for (uint32_t changes = random_next() % 4; changes > 0; changes--) {
      packet.bytes[header + random_next() % (packet.length - header)] = (uint8_t)random_next();
    }
    uint32_t length = packet.length - header;
    length = random_next() % 4 == 0 ? random_next() % (length + 1) : length;
    static struct packet corrected;
    uint8_t four = header == 20;
    packet_ip(&corrected, four ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6, packet.bytes + (four ? 12 : 8),
              packet.bytes + (four ? 16 : 24), packet.bytes[four ? 9 : 6], packet.bytes + header, length);
    interface_receive(interface, corrected.bytes, corrected.length);
    host_poll();
    for (struct event event; (event = event_next()).kind != 0; events++) {
      CHECK(event.handle == handles[0] || event.handle == handles[1] || event.handle == handles[2] ||
            event.handle == handles[3]);
      CHECK(event.value >= 0);
    }
    frames_forget();
  }
  CHECK(events > 10000);
  for (int i = 0; i < 4; i++) {
    CHECK_EQUAL(i < 2 ? abi_udp_close(handles[i]) : abi_ping_close(handles[i]), 0);
  }
  host_advance(70 * (int64_t)SECOND);
  frames_forget();
  close_interface();
}

int main(void) {
  host_start();
  host_reserve_handles(64);
  RUN(errors_are_reported_to_the_socket);
  RUN(forged_errors_are_ignored);
  RUN(unconnected_sockets_get_no_errors);
  RUN(connect_reports_the_icmp_reason);
  RUN(errors_are_limited);
  RUN(ping_replies_are_matched);
  RUN(impossible_pings_are_refused);
  RUN(mutated_messages_do_not_break_the_stack);
  return 0;
}
