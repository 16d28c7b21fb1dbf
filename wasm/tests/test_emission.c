/* Long flushes (src/tcp/tcp_emit.c), and large writes by reference (src/abi/staging.c): every frame is parsed, both checksums
   are verified, and the stream is compared, under loss, retransmission and failing allocations. Staging areas are freed exactly
   once: the heap returns to its size, and AddressSanitizer checks each access. */
#include "support.h"
#include "lwip/def.h"

#include <string.h>

enum { STREAM = 1 << 21, RUNS = 40 };

static uint8_t stream[STREAM];
static int32_t interface, listener, kind, family, connection;
static uint32_t sequence, expected, first, window;
static uint8_t peer_mac[6];

static uint32_t below(uint32_t bound) { return random_next() % bound; }

static void deliver(struct packet *packet, uint16_t type) {
  if (kind == ABI_KIND_TAP) {
    packet_ethernet(packet, HOST_MAC, type);
  }
  interface_receive(interface, packet->bytes, packet->length);
}

static void send_flags(uint32_t flags) {
  static const uint8_t options[] = {2, 4, 5, 0xa0, 1, 3, 3, 5};
  static struct packet packet;
  bool four = family == ABI_FAMILY_IPV4;
  struct segment segment = {.family = family,
                            .from = four ? PEER4 : PEER6,
                            .to = four ? HOST4 : HOST6,
                            .from_port = 40000,
                            .to_port = 80,
                            .window = (uint16_t)window,
                            .sequence = sequence,
                            .acknowledgement = expected,
                            .flags = flags,
                            .options = options,
                            .options_length = flags & SYN ? sizeof options : 0};
  packet_tcp(&packet, &segment);
  deliver(&packet, four ? 0x0800 : 0x86dd);
}

/* Announces `peer_mac` to the stack, in an ARP request or a neighbour solicitation of the peer. */
static void announce_neighbour(void) {
  static struct packet packet;
  if (family == ABI_FAMILY_IPV4) {
    packet_arp(&packet, 1, peer_mac, PEER4, HOST4);
    deliver(&packet, 0x0806);
  } else {
    packet_neighbour_solicitation(&packet, HOST6, peer_mac);
    deliver(&packet, 0x86dd);
  }
}

/* The next segment of the stack, or flags 0; checks its link-layer header. */
static struct segment next_segment(bool check_mac) {
  struct frame frame;
  while ((frame = frame_next()).length != 0) {
    uint32_t link = kind == ABI_KIND_TAP ? 14 : 0;
    struct segment segment;
    bool asks =
        link != 0 && (get16(frame.bytes + 12) == 0x0806 || (frame.bytes[20] == PROTOCOL_ICMPV6 && frame.bytes[54] == 135));
    if (asks) {
      announce_neighbour();
    }
    if (asks || !segment_parse(&segment, frame.bytes + link, frame.length - link)) {
      continue;
    }
    if (link != 0) {
      CHECK(memcmp(frame.bytes + 6, HOST_MAC, 6) == 0);
      CHECK(!check_mac || memcmp(frame.bytes, peer_mac, 6) == 0);
      CHECK_EQUAL(get16(frame.bytes + 12), family == ABI_FAMILY_IPV4 ? 0x0800 : 0x86dd);
    }
    CHECK_EQUAL(segment.from_port, 80);
    CHECK_EQUAL(segment.to_port, 40000);
    return segment;
  }
  return (struct segment){0};
}

static void begin(void) {
  memcpy(peer_mac, PEER_MAC, 6);
  interface = interface_open(kind, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  if (kind == ABI_KIND_TAP) {
    announce_neighbour();
  }
  sequence = 0xfffffff0;
  window = 4000;
  expected = 0;
  send_flags(SYN);
  host_poll();
  struct segment answer = next_segment(true);
  CHECK_EQUAL(answer.flags, SYN | ACK);
  first = expected = answer.sequence + 1;
  sequence++;
  send_flags(ACK);
  host_poll();
  connection = event_expect(ABI_EVENT_ACCEPTED, listener).value;
}

static void forget_events(void) {
  while (event_next().kind != 0) {
  }
}

/* Receives the segments of the stack, of which one in `loss` is lost at random, and acknowledges the stream. */
static void receive_segments(uint32_t loss) {
  struct segment segment;
  while ((segment = next_segment(false)).flags != 0) {
    uint32_t at = segment.sequence - first;
    CHECK(at + segment.length <= STREAM);
    CHECK(memcmp(segment.data, stream + at, segment.length) == 0);
    if (loss != 0 && below(loss) == 0) {
      continue;
    }
    if (expected - segment.sequence < segment.length) { /* or from the middle of a segment: a window probe has carried a byte */
      expected = segment.sequence + segment.length;
    }
    if (segment.length > 0) {
      send_flags(ACK);
    }
  }
}

static uint32_t put(uint32_t at) {
  uint32_t length = below(4) == 0 ? 32768 + below(32769) : below(2) == 0 ? 1 + below(40) : 1 + below(5000);
  length = LWIP_MIN(length, STREAM - at);
  host_pass(below(1500)); /* so that TCP's tick is sometimes due */
  int32_t taken = tcp_put_at(host_clock_or_none(), connection, stream + at, (int32_t)length);
  CHECK(taken >= 0 || taken == ABI_ERROR_NO_MEMORY);
  if (below(2) == 0) {
    host_take_sent();
  }
  return taken < 0 ? 0 : (uint32_t)taken;
}

enum ending { DELIVERED, ABORTED, CLOSED, REMOVED, ENDINGS };

static void run(bool memory_fails) {
  pattern_fill(stream, STREAM, 0);
  for (uint32_t number = 0; number < RUNS; number++) {
    random_restart(number + 1);
    enum ending ending = (enum ending)(number % ENDINGS);
    uint32_t loss = number % 3 == 0 ? 0 : 5 + number, written = 0, most = ending == DELIVERED ? 400000 : 10000 + below(300000);
    begin();
    for (int round = 0; ending == DELIVERED ? expected - first < most : written < most; round++) {
      CHECK(round < 100000);
      for (uint32_t count = below(6); count > 0 && written < most; count--) {
        allocations_left = memory_fails && below(3) == 0 ? (int64_t)below(40) : -1;
        written += put(written);
        allocations_left = -1;
      }
      window = below(20) == 0 ? below(100) : 100 + below(4000);
      if (kind == ABI_KIND_TAP && below(30) == 0) {
        peer_mac[5]++;
        announce_neighbour();
      }
      if (memory_fails && below(4) == 0) {
        allocations_left = below(20);
      }
      host_fetch_frames(below(5) != 0);
      host_poll_once(below(3000));
      allocations_left = -1;
      if (below(10) == 0) {
        host_advance(300 * MILLISECOND);
      }
      receive_segments(loss);
      forget_events();
    }
    host_fetch_frames(true);
    if (ending == REMOVED) {
      CHECK_EQUAL(abi_interface_remove(interface), 0);
      CHECK_EQUAL(abi_tcp_abort(connection), 0);
    } else if (ending == CLOSED) {
      CHECK_EQUAL(abi_tcp_close(connection), 0);
      window = 65535;
      send_flags(ACK);
      host_poll();
      receive_segments(0);
      send_flags(RST | ACK);
      host_poll();
      CHECK_EQUAL(abi_interface_remove(interface), 0);
    } else {
      CHECK_EQUAL(abi_tcp_abort(connection), 0);
      CHECK_EQUAL(abi_interface_remove(interface), 0);
    }
    CHECK_EQUAL(abi_tcp_close(listener), 0);
    forget_events();
    host_expect_clean();
  }
}

static void all(int32_t by, bool memory_fails) {
  kind = by;
  family = ABI_FAMILY_IPV4;
  run(memory_fails);
  family = ABI_FAMILY_IPV6;
  run(memory_fails);
}

static void stream_over_tun(void) { all(ABI_KIND_TUN, false); }

static void stream_over_tap_with_a_changing_neighbour(void) { all(ABI_KIND_TAP, false); }

static void stream_with_failing_allocations(void) { all(ABI_KIND_TUN, true); }

/* Nothing is read behind a transmit buffer that is full to its last byte: the neighbour's MAC is unknown, so that lwIP takes
   the first segment for its queue, and the next one looks at the record that may have left before. */
static void exactly_full_buffer_is_not_overread(void) {
  static const uint8_t other[] = {10, 0, 0, 99};
  enum { REPLY = 48, REPLIES = ABI_TRANSMIT_CAPACITY / REPLY }; /* a record of an ARP reply */
  static struct packet question;
  kind = ABI_KIND_TAP;
  family = ABI_FAMILY_IPV4;
  begin();
  host_jump(400 * (int64_t)SECOND); /* the ARP entry expires */
  host_jump(400 * (int64_t)SECOND);
  frames_forget();
  host_fetch_frames(false);
  packet_arp(&question, 1, PEER_MAC, other, HOST4);
  packet_ethernet(&question, HOST_MAC, 0x0806);
  for (int i = 0; i < REPLIES; i++) {
    interface_receive(interface, question.bytes, question.length);
    host_poll_once(0);
  }
  CHECK_EQUAL(interface_words(interface)[ABI_BLOCK_TRANSMIT_LENGTH], ABI_TRANSMIT_CAPACITY);
  window = 65535;
  send_flags(ACK);
  CHECK_EQUAL(tcp_put(connection, stream, 5000), 5000);
  host_poll_once(0);
  host_poll_once(0);
  CHECK_EQUAL(interface_words(interface)[ABI_BLOCK_TRANSMIT_LENGTH], ABI_TRANSMIT_CAPACITY);
  host_fetch_frames(true);
  host_poll_once(0);
  frames_forget(); /* the ARP replies */
  for (int round = 0; expected - first < 5000; round++) {
    CHECK(round < 100);
    host_advance(300 * MILLISECOND);
    receive_segments(0);
  }
  CHECK_EQUAL(abi_tcp_abort(connection), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

int main(void) {
  host_start();
  RUN(exactly_full_buffer_is_not_overread);
  RUN(stream_over_tun);
  RUN(stream_over_tap_with_a_changing_neighbour);
  RUN(stream_with_failing_allocations);
  return 0;
}
