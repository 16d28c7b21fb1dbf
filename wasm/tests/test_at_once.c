/* What tcp_send and tcp_received with the host's clock let leave within the call: which writes and windows do, that
   SENT_AT_ONCE names the interface then and is 0 wherever a poll is still needed, that this poll sends what is left and
   nothing twice, and that no time, handle, full buffer or closed window makes anything of the stream go missing. */
#include "support.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { LARGE = 32768, TICK = 25 * MILLISECOND };

static int32_t interface, listener;
static uint8_t stream[1 << 20], got[1 << 20];

static void (*current)(int32_t family);

static void over_both(void) {
  pattern_fill(stream, sizeof stream, 0);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    interface = interface_open(ABI_KIND_TUN, 1500);
    CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
    CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
    listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
    current(family);
    CHECK_EQUAL(abi_tcp_close(listener), 0);
    CHECK_EQUAL(abi_interface_remove(interface), 0);
    host_expect_clean();
  }
}

static struct peer open_peer(int32_t family, uint16_t port) {
  static const uint8_t options[] = {2, 4, 5, 0xa0, 1, 3, 3, 5}; /* MSS 1440, and windows in steps of 32 bytes */
  struct peer peer = peer_new(interface, family, 80);
  peer.from_port = port;
  peer_option(&peer, options, sizeof options);
  peer_open(&peer, listener);
  CHECK_EQUAL(abi_tcp_accepted(peer.handle), 0);
  return peer;
}

/* What a call has sent at once. */
static uint32_t sent_at_once(void) { return tw_control[ABI_CONTROL_SENT_AT_ONCE]; }

static uint32_t waiting(void) { return interface_words(interface)[ABI_BLOCK_TRANSMIT_LENGTH]; }

/* Writes the next bytes of the stream, which have to be taken, at this time. */
static void write_at(double time, const struct peer *peer, uint32_t from, uint32_t length) {
  CHECK_EQUAL(tcp_put_at(time, peer->handle, stream + from, (int32_t)length), length);
}

/* Nothing has left, and the host knows that it has to poll. */
static void expect_unsent(uint32_t before) {
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK_EQUAL(waiting(), before);
}

static void expect_data(struct peer *peer, uint32_t from, uint32_t length) {
  struct segment segment = peer_expect(peer, ACK);
  CHECK_EQUAL(segment.sequence, peer->start + 1 + from);
  CHECK_EQUAL(segment.acknowledgement, peer->sequence);
  CHECK_EQUAL(segment.length, length);
  CHECK(memcmp(segment.data, stream + from, length) == 0);
}

static void expect_quiet(const struct peer *peer) {
  host_poll();
  peer_expect_silence(peer);
}

static void acknowledge(struct peer *peer) {
  peer_send(peer, ACK, NULL, 0);
  host_poll();
}

/* Takes and acknowledges all segments until the stream has arrived up to there; each byte of it comes once. */
static void expect_stream(struct peer *peer, uint32_t from, uint32_t to) {
  uint32_t first = from;
  for (int turn = 0; from < to; turn++) {
    CHECK(turn < 1000);
    struct segment segment;
    while ((segment = peer_peek(peer)).flags != 0) {
      CHECK_EQUAL(segment.sequence, peer->start + 1 + from);
      memcpy(got + from, segment.data, segment.length);
      from += segment.length;
      peer->acknowledgement += segment.length;
    }
    acknowledge(peer);
  }
  CHECK_EQUAL(from, to);
  pattern_check(got + first, to - first, first);
}

static void end(struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  host_poll();
  for (struct event event; (event = event_next()).kind != 0;) {
    CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
  }
  frames_forget();
}

/* A head and its body leave within their calls; what follows waits for the poll, and joins one segment. */
static void two_small_writes(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  for (uint32_t at = 0; at < 3000; at += 1000) { /* again when all is acknowledged */
    write_at(host_clock(), &peer, at, 100);
    CHECK_EQUAL(host_take_sent(), interface);
    expect_data(&peer, at, 100);
    write_at(host_clock(), &peer, at + 100, 200);
    CHECK_EQUAL(host_take_sent(), interface);
    expect_data(&peer, at + 100, 200);
    write_at(host_clock(), &peer, at + 300, 300);
    expect_unsent(0);
    write_at(host_clock(), &peer, at + 600, 400);
    expect_unsent(0);
    CHECK_EQUAL(host_take_sent(), 0);
    host_poll();
    expect_data(&peer, at + 300, 700);
    expect_quiet(&peer);
    acknowledge(&peer);
  }
  write_at(host_clock(), &peer, 3000, 0); /* nothing at all */
  expect_unsent(0);
  expect_quiet(&peer);
  end(&peer);
}

/* The host fetches late: both segments wait in the buffer, and the poll tells of them once. */
static void frames_wait_for_the_host(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  write_at(host_clock(), &peer, 0, 100);
  uint32_t first = waiting();
  CHECK_EQUAL(sent_at_once(), interface);
  CHECK(first > 0);
  write_at(host_clock(), &peer, 100, 100);
  CHECK_EQUAL(sent_at_once(), interface);
  CHECK_EQUAL(waiting(), 2 * first);
  write_at(host_clock(), &peer, 200, 100);
  expect_unsent(2 * first);
  host_poll();
  expect_data(&peer, 0, 100);
  expect_data(&peer, 100, 100);
  expect_data(&peer, 200, 100);
  expect_quiet(&peer);
  end(&peer);
}

/* A write of 32,768 bytes leaves at once whatever is under way, as far as the peer's window and the network's allow. */
static void large_writes(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  write_at(0, &peer, 0, 1440 * 3);
  host_poll();
  expect_data(&peer, 0, 1440);
  expect_data(&peer, 1440, 1440);
  expect_data(&peer, 2880, 1440);
  write_at(host_clock(), &peer, 4320, LARGE - 1);
  expect_unsent(0);
  write_at(host_clock(), &peer, 4320 + LARGE - 1, LARGE); /* it takes along what waited */
  CHECK(waiting() > 1440);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&peer, 4320, 1440);
  expect_stream(&peer, 5760, 4320 + 2 * LARGE - 1);
  expect_quiet(&peer);
  uint32_t at = 4320 + 2 * LARGE - 1;
  write_at(host_clock(), &peer, at, LARGE); /* by now all of it */
  CHECK_EQUAL(host_take_sent(), interface);
  for (uint32_t sent = 0; sent < LARGE; sent += 1440) {
    expect_data(&peer, at + sent, LWIP_MIN(1440u, LARGE - sent));
  }
  expect_quiet(&peer);
  end(&peer);
}

/* The peer has filled the window: that the application has read is told within the call, once it is worth a segment. */
static void an_opened_window(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  for (int round = 0; round < 3; round++) {
    uint32_t length = 0;
    while (length < ABI_TCP_FIRST_WINDOW) {
      uint32_t piece = LWIP_MIN(1440u, ABI_TCP_FIRST_WINDOW - length);
      peer_send(&peer, ACK | PSH, stream + length, piece);
      length += piece;
    }
    host_poll();
    CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), length);
    pattern_check(got, length, 0);
    struct segment segment, last = {0};
    while ((segment = peer_peek(&peer)).flags != 0) {
      last = segment;
    }
    CHECK_EQUAL(last.acknowledgement, peer.sequence);
    CHECK_EQUAL(last.window, 0);
    CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, 100), 0); /* too little to speak of */
    expect_unsent(0);
    expect_quiet(&peer);
    if (round < 2) {
      CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, (int32_t)length - 100), 0);
      CHECK_EQUAL(host_take_sent(), interface);
    } else { /* the other way: the poll tells it */
      CHECK_EQUAL(abi_tcp_received(0, peer.handle, (int32_t)length - 100), 0);
      expect_unsent(0);
      host_poll();
    }
    segment = peer_expect(&peer, ACK);
    CHECK_EQUAL(segment.length, 0);
    CHECK_EQUAL(segment.acknowledgement, peer.sequence);
    CHECK_EQUAL((uint32_t)segment.window << 5, ABI_TCP_FIRST_WINDOW);
    expect_quiet(&peer);
    CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, 1), ABI_ERROR_INVALID);
    expect_unsent(0);
  }
  end(&peer);
}

/* A request of so many segments waits for its acknowledgement: that goes with the answer, and no other follows. */
static void waiting_acknowledgements(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  uint8_t data[16];
  for (int segments = 1; segments <= 4; segments++) {
    for (int reading = 0; reading < 2; reading++) {
      for (int i = 0; i < segments; i++) {
        peer_send(&peer, ACK | PSH, "ask", 3);
      }
      host_turn(0);
      CHECK_EQUAL(event_expect_data(peer.handle, data, sizeof data), 3 * segments);
      peer_expect_silence(&peer);
      if (reading) {
        CHECK_EQUAL(abi_tcp_received(0, peer.handle, 3 * segments), 0);
      }
      uint32_t at = (uint32_t)(segments * 2 + reading) * 100;
      write_at(host_clock(), &peer, at - 200, 100);
      CHECK_EQUAL(host_take_sent(), interface);
      expect_data(&peer, at - 200, 100);
      expect_quiet(&peer);
      if (!reading) {
        CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, 3 * segments), 0);
        expect_unsent(0);
      }
      expect_quiet(&peer);
      acknowledge(&peer);
      host_advance(SECOND); /* and none is delayed */
      peer_expect_silence(&peer);
    }
  }
  end(&peer);
}

/* The segments that wait in the host's answer to a poll, by connection. */
static void expect_both(struct peer *first, uint32_t first_at, uint32_t first_length, struct peer *second, uint32_t second_at,
                        uint32_t second_length) {
  uint32_t seen[2] = {0};
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    CHECK(segment_parse(&segment, frame.bytes, frame.length));
    bool is_first = segment.to_port == first->from_port;
    struct peer *peer = is_first ? first : second;
    uint32_t at = is_first ? first_at : second_at;
    CHECK_EQUAL(segment.to_port, peer->from_port);
    CHECK_EQUAL(seen[is_first]++, 0);
    CHECK_EQUAL(segment.acknowledgement, peer->sequence);
    CHECK_EQUAL(segment.sequence, peer->start + 1 + at);
    CHECK_EQUAL(segment.length, is_first ? first_length : second_length);
    CHECK(memcmp(segment.data, stream + at, segment.length) == 0);
    peer->acknowledgement += segment.length;
  }
  CHECK_EQUAL(seen[0], 1);
  CHECK_EQUAL(seen[1], 1);
}

/* Another connection has a write, or an acknowledgement, for the next poll. */
static void another_is_pending(int32_t family) {
  struct peer first = open_peer(family, 40000), second = open_peer(family, 40001);
  uint8_t data[16];
  write_at(0, &second, 0, 50);
  write_at(host_clock(), &first, 0, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(waiting() > 0); /* it has left, for the poll to tell */
  host_poll();
  expect_both(&first, 0, 100, &second, 0, 50);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  acknowledge(&first);
  acknowledge(&second);

  peer_send(&second, ACK, "ask", 3);
  peer_send(&second, ACK, "ask", 3);
  host_turn(0);
  CHECK_EQUAL(event_expect_data(second.handle, data, sizeof data), 6);
  CHECK_EQUAL(frame_next().length, 0);
  write_at(host_clock(), &first, 100, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  expect_both(&first, 100, 100, &second, 50, 0);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  acknowledge(&first);

  write_at(0, &first, 200, 100); /* its own mark does not count as another's */
  write_at(host_clock(), &first, 300, 100);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&first, 200, 200);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  CHECK_EQUAL(abi_tcp_received(host_clock(), second.handle, 6), 0);
  write_at(host_clock(), &second, 50, 100);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&second, 50, 100);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  CHECK_EQUAL(abi_tcp_close(second.handle), 0); /* the one that is pending may be gone: */
  write_at(host_clock(), &first, 400, 100);
  CHECK_EQUAL(abi_tcp_abort(first.handle), 0);
  host_poll();
  frames_forget();
  peer_send(&second, RST | ACK, NULL, 0);
  host_poll();
  event_expect_none();
}

/* A pending connection is reset before the poll that would have sent for it, and another sends at once meanwhile. */
static void the_other_is_gone(int32_t family) {
  struct peer first = open_peer(family, 40000), second = open_peer(family, 40001);
  write_at(0, &second, 0, 50);
  CHECK_EQUAL(abi_tcp_abort(second.handle), 0);
  write_at(host_clock(), &first, 0, 100);
  CHECK_EQUAL(sent_at_once(), 0); /* its reset waits for the poll */
  host_poll();
  CHECK_EQUAL(interface_words(interface)[ABI_BLOCK_TRANSMIT_LENGTH], 0);
  struct frame reset = frame_next();
  struct segment segment;
  CHECK(segment_parse(&segment, reset.bytes, reset.length));
  CHECK_EQUAL(segment.to_port, second.from_port);
  CHECK((segment.flags & RST) != 0);
  expect_data(&first, 0, 100);
  expect_quiet(&first);
  end(&first);
}

/* With a tick of TCP due, the clock has to be moved by a poll. */
static void a_tick_is_due(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  for (int i = 0; i < 4; i++) {
    host_advance(TICK - (int64_t)(tw_now % TICK)); /* ticks come at whole multiples, since the clock began with one */
    CHECK_EQUAL(tw_now % TICK, 0);
    uint64_t start = tw_now;
    int64_t ahead[] = {TICK, TICK + 1, 3600 * (int64_t)SECOND, TICK - 1};
    write_at(host_seconds((int64_t)start + ahead[i]), &peer, (uint32_t)i * 100, 100);
    if (i < 3) {
      expect_unsent(0);
      CHECK_EQUAL(tw_now, start);
      CHECK_EQUAL(abi_tcp_received(host_seconds((int64_t)start + ahead[i]), peer.handle, 0), 0);
      expect_unsent(0);
      CHECK_EQUAL(tw_now, start);
      host_poll();
    } else {
      CHECK_EQUAL(host_take_sent(), interface);
      CHECK_EQUAL(tw_now, start + TICK - 1);
      host_pass(TICK - 1);
    }
    expect_data(&peer, (uint32_t)i * 100, 100);
    expect_quiet(&peer);
    acknowledge(&peer);
  }
  end(&peer);
}

/* Fills the transmit buffer with answers to pings, which the host does not fetch, until there is room for so many bytes
   and no segment more. */
static void fill_buffer(int32_t family, uint32_t room) {
  static struct packet packet;
  uint32_t smallest = family == ABI_FAMILY_IPV4 ? 32 : 52;
  host_fetch_frames(false);
  for (uint32_t left; (left = ABI_TRANSMIT_CAPACITY - waiting() - room) >= smallest;) {
    packet_icmp_echo(&packet, family, stream, left > 3000 ? 1400 : 0);
    interface_receive(interface, packet.bytes, packet.length);
    host_turn(0);
    CHECK(ABI_TRANSMIT_CAPACITY - waiting() - room < left);
  }
}

static void expect_replies(void) {
  host_fetch_frames(true);
  host_poll();
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    CHECK(!segment_parse(&segment, frame.bytes, frame.length));
  }
}

/* Nothing goes in: the poll sends it when there is room. */
static void a_full_buffer(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  uint32_t *words = interface_words(interface);
  uint32_t lengths[] = {100, LARGE};
  uint32_t at = 0;
  for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    fill_buffer(family, 0);
    uint32_t full = waiting(), dropped = words[ABI_BLOCK_DROPPED_TRANSMIT_FULL];
    write_at(host_clock(), &peer, at, lengths[i]);
    expect_unsent(full);
    CHECK_EQUAL(words[ABI_BLOCK_DROPPED_TRANSMIT_FULL], dropped + 1);
    host_poll();
    CHECK_EQUAL(waiting(), full);
    write_at(host_clock(), &peer, at + lengths[i], 100); /* nothing is under way, but the other has to go first */
    expect_unsent(full);
    expect_replies();
    host_poll();
    expect_stream(&peer, at, at + lengths[i] + 100);
    expect_quiet(&peer);
    at += lengths[i] + 100;
  }
  end(&peer);
}

/* There is room for some of the segments: these are in the buffer, and SENT_AT_ONCE is 0 because of the others. */
static void a_buffer_that_gets_full(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  fill_buffer(family, 5000);
  uint32_t before = waiting();
  write_at(host_clock(), &peer, 0, LARGE);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(waiting() > before + 1500);
  uint32_t some = waiting();
  host_poll();
  CHECK_EQUAL(waiting(), some);
  host_fetch_frames(true);
  host_poll();
  host_poll();
  expect_stream(&peer, 0, LARGE);
  expect_quiet(&peer);
  end(&peer);
}

/* The acknowledgement that tells of an opened window finds no room either. */
static void a_window_opens_at_a_full_buffer(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  fill_buffer(family, 0);
  for (uint32_t at = 0; at < 20 * 1440; at += 1440) {
    peer_send(&peer, ACK, stream + at, 1440);
  }
  host_turn(0);
  CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), 20 * 1440);
  pattern_check(got, 20 * 1440, 0);
  uint32_t full = waiting();
  CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, 20 * 1440), 0);
  expect_unsent(full);
  host_fetch_frames(true);
  host_poll();
  host_poll();
  struct segment segment, last = {0};
  while ((segment = peer_peek(&peer)).flags != 0) {
    last = segment;
  }
  CHECK_EQUAL(last.acknowledgement, peer.sequence);
  CHECK_EQUAL((uint32_t)last.window << 5, ABI_TCP_FIRST_WINDOW);
  expect_quiet(&peer);
  end(&peer);
}

/* The peer closes its window, and from then on the host waits for nothing. */
static void close_window(struct peer *peer) {
  uint8_t data[2];
  peer_send(peer, ACK, "x", 1); /* else the next would have the number of the one that opened it */
  peer->window = 0;
  peer_send(peer, ACK, "y", 1);
  host_poll();
  CHECK_EQUAL(event_expect_data(peer->handle, data, 2), 2);
  CHECK_EQUAL(abi_tcp_received(0, peer->handle, 2), 0);
  host_advance(10 * SECOND);
  frames_forget();
  CHECK_EQUAL(host_deadline(), -1);
}

/* A closed window takes nothing at once; the host asks after it by itself, though nothing else happens any more, and
   what was written arrives when it is open (RFC 9293, section 3.8.6.1). */
static void a_closed_window(int32_t family) {
  for (int at_once = 0; at_once < 2; at_once++) {
    struct peer peer = open_peer(family, 40000);
    close_window(&peer);
    write_at(at_once ? host_clock() : 0, &peer, 0, 100);
    expect_unsent(0);
    expect_quiet(&peer);
    CHECK(host_deadline() != -1);
    host_advance(5 * SECOND);
    struct segment probe = peer_peek(&peer);
    CHECK_EQUAL(probe.flags & ~(uint32_t)PSH, ACK);
    CHECK_EQUAL(probe.length, 1);
    CHECK_EQUAL(probe.data[0], stream[0]);
    frames_forget();
    write_at(at_once ? host_clock() : 0, &peer, 100, LARGE);
    expect_unsent(0);
    peer.window = 65535;
    acknowledge(&peer);
    expect_stream(&peer, 0, 100 + LARGE);
    expect_quiet(&peer);
    end(&peer);
  }
}

static void far_route(bool there) {
  static const uint8_t network[] = {192, 0, 2, 0};
  memcpy(tw_scratch.bytes, network, sizeof network);
  CHECK_EQUAL(there ? abi_route_add(ABI_FAMILY_IPV4, 24, interface, 0, 1) : abi_route_remove(ABI_FAMILY_IPV4, 24, 1),
              there ? interface : 0);
}

/* Without a route nothing leaves, by the call or by a poll; with one again it does, else the connection ends in time.
   Over IPv4: an IPv6 packet without a route leaves by the interface that has its source address. */
static void a_route_that_is_gone(int32_t family) {
  static const uint8_t far[] = {192, 0, 2, 7};
  for (int way = 0; family == ABI_FAMILY_IPV4 && way < 4; way++) {
    struct peer peer = peer_new(interface, family, 80);
    peer.from = far;
    far_route(true);
    peer_open(&peer, listener);
    host_advance(10 * SECOND);
    CHECK_EQUAL(host_deadline(), -1);
    far_route(false);
    write_at(way % 2 ? host_clock() : 0, &peer, 0, 100);
    expect_unsent(0);
    expect_quiet(&peer);
    CHECK(host_deadline() != -1);
    if (way < 2) {
      host_advance(3 * SECOND);
      far_route(true);
      host_poll();
      expect_data(&peer, 0, 100);
      expect_quiet(&peer);
      acknowledge(&peer);
      far_route(false);
      end(&peer);
    } else {
      host_advance(30 * 60 * (int64_t)SECOND);
      CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
      CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    }
  }
}

/* The FIN alone has to wait for the window. */
static void a_closed_window_and_the_end(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  close_window(&peer);
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
  host_poll();
  struct segment segment = peer_peek(&peer);
  for (int second = 0; second < 10 && segment.flags == 0; second++) {
    host_advance(SECOND);
    segment = peer_peek(&peer);
  }
  CHECK((segment.flags & FIN) != 0);
  end(&peer);
}

/* Whatever a call is refused for, it names no interface: not that of the call before. */
static void refused_calls(int32_t family) {
  struct peer peer = open_peer(family, 40000), other = open_peer(family, 40001);
  uint8_t data[8];
  const int32_t bad[] = {0, -1, interface, listener, peer.handle + (1 << 16), 0x7fffffff};
  uint32_t at = 0;
  for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
    for (int received = 0; received < 2; received++, at += 10) {
      write_at(host_clock(), &peer, at, 10);
      CHECK_EQUAL(host_take_sent(), interface);
      CHECK_EQUAL(received ? abi_tcp_received(host_clock(), bad[i], 0) : abi_tcp_send(host_clock(), bad[i], 10),
                  ABI_ERROR_BAD_HANDLE);
      expect_unsent(0);
      expect_data(&peer, at, 10);
      acknowledge(&peer);
    }
  }
  const int32_t lengths[] = {-1, INT32_MIN, ABI_STAGING_CAPACITY + 1, INT32_MAX};
  for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++, at += 10) {
    write_at(host_clock(), &peer, at, 10);
    CHECK_EQUAL(host_take_sent(), interface);
    CHECK_EQUAL(abi_tcp_send(host_clock(), peer.handle, lengths[i]), ABI_ERROR_INVALID);
    expect_unsent(0);
    expect_data(&peer, at, 10);
    acknowledge(&peer);
    write_at(host_clock(), &peer, at += 10, 10);
    CHECK_EQUAL(host_take_sent(), interface);
    CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, lengths[i]), ABI_ERROR_INVALID);
    expect_unsent(0);
    expect_data(&peer, at, 10);
    acknowledge(&peer);
  }
  /* One whose peer has reset it, with bytes that were not read yet, and one that is gone. */
  peer_send(&other, ACK, "unread", 6);
  host_poll();
  CHECK_EQUAL(event_expect_data(other.handle, data, sizeof data), 6);
  peer_send(&other, RST | ACK, NULL, 0);
  host_poll();
  event_expect(ABI_EVENT_CLOSED, other.handle);
  frames_forget();
  for (int closed = 0; closed < 2; closed++) {
    write_at(host_clock(), &peer, at, 10);
    CHECK_EQUAL(host_take_sent(), interface);
    CHECK_EQUAL(abi_tcp_received(host_clock(), other.handle, 3), closed ? ABI_ERROR_BAD_HANDLE : 0);
    expect_unsent(0);
    expect_data(&peer, at, 10);
    write_at(host_clock(), &peer, at += 10, 10);
    CHECK_EQUAL(host_take_sent(), interface);
    CHECK_EQUAL(abi_tcp_send(host_clock(), other.handle, 10), closed ? ABI_ERROR_BAD_HANDLE : ABI_ERROR_NOT_CONNECTED);
    expect_unsent(0);
    expect_data(&peer, at, 10);
    acknowledge(&peer);
    at += 10;
    CHECK_EQUAL(abi_tcp_close(other.handle), closed ? ABI_ERROR_BAD_HANDLE : 0);
  }
  /* What is said after the FIN, and before the handshake. */
  int32_t half = tcp_open(family, peer.from, 7);
  CHECK_EQUAL(abi_tcp_send(host_clock(), half, 10), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK_EQUAL(abi_tcp_abort(half), 0);
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_send(host_clock(), peer.handle, 10), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  end(&peer);
}

/* The clock neither jumps nor steps back, and what was written arrives by the poll at the latest. */
static void odd_times(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  const double late[] = {-1, -0.0, -DBL_MAX, NAN, -NAN, INFINITY, -INFINITY, DBL_MAX, 1e12, 1.8e13, 1.9e13, 1e300};
  uint32_t at = 0;
  for (unsigned i = 0; i < sizeof late / sizeof *late; i++, at += 100) {
    uint64_t before = tw_now;
    write_at(late[i], &peer, at, 100);
    expect_unsent(0);
    CHECK_EQUAL(abi_tcp_received(late[i], peer.handle, 0), 0);
    expect_unsent(0);
    CHECK_EQUAL(tw_now, before);
    host_poll();
    expect_data(&peer, at, 100);
    expect_quiet(&peer);
    acknowledge(&peer);
  }
  const double early[] = {DBL_MIN, 4.9e-324, 1e-9, 1, 999.999999};
  for (unsigned i = 0; i < sizeof early / sizeof *early; i++, at += 100) {
    uint64_t before = tw_now;
    write_at(early[i], &peer, at, 100);
    CHECK_EQUAL(host_take_sent(), interface);
    CHECK_EQUAL(tw_now, before);
    expect_data(&peer, at, 100);
    expect_quiet(&peer);
    acknowledge(&peer);
  }
  end(&peer);
}

/* RFC 896: with an unacknowledged segment under way a small one waits, for neither call nor poll. */
static void nagle(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_NODELAY, 0), 0);
  write_at(host_clock(), &peer, 0, 100);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&peer, 0, 100);
  write_at(host_clock(), &peer, 100, 100);
  expect_unsent(0);
  expect_quiet(&peer);
  write_at(host_clock(), &peer, 200, 1440); /* a full one does not wait for what is behind it */
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&peer, 100, 1440);
  expect_quiet(&peer);
  acknowledge(&peer);
  expect_data(&peer, 1540, 100);
  write_at(host_clock(), &peer, 1640, 100);
  expect_unsent(0);
  expect_quiet(&peer);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_NODELAY, 1), 0);
  write_at(host_clock(), &peer, 1740, 100);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&peer, 1640, 200);
  expect_quiet(&peer);
  end(&peer);
}

/* The retransmission timer counts from the call, as from a poll: what leaves at once and is lost is sent again. */
static void lost_segments(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  for (uint32_t at = 0; at < 500; at += 100) {
    write_at(host_clock(), &peer, at, 100);
    CHECK_EQUAL(host_take_sent(), interface);
    frames_forget();
    host_poll(); /* as a host does soon after */
    CHECK(host_deadline() != -1);
    host_advance(3 * SECOND);
    expect_data(&peer, at, 100);
    frames_forget();
    acknowledge(&peer);
    host_advance(SECOND);
    peer_expect_silence(&peer);
  }
  end(&peer);
}

/* What a host sends to itself needs a poll to arrive: of no call over loopback is it said that it has left, nor of one
   over another interface as long as some of it waits. */
static void loopback(int32_t family) {
  int32_t loopback_interface = interface_open(ABI_KIND_LOOPBACK, 65535);
  CHECK_EQUAL(interface_set_ipv4(loopback_interface, LOCAL4, 8), 0);
  CHECK_EQUAL(interface_set_ipv6(loopback_interface, LOCAL6), 0);
  struct peer peer = open_peer(family, 40000);
  int32_t client = tcp_open(family, family == ABI_FAMILY_IPV4 ? LOCAL4 : LOCAL6, 80), server = 0;
  host_poll();
  for (struct event event; (event = event_next()).kind != 0;) {
    server = event.kind == ABI_EVENT_ACCEPTED ? event.value : server;
  }
  CHECK(client > 0 && server > 0);
  CHECK_EQUAL(abi_tcp_accepted(server), 0);
  uint32_t length = 0, put = 0;
  CHECK_EQUAL(tcp_put_at(host_clock(), client, stream, 100), 100);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(interface_words(loopback_interface)[ABI_BLOCK_TRANSMIT_LENGTH] > 0);
  write_at(host_clock(), &peer, 0, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  expect_data(&peer, 0, 100);
  CHECK_EQUAL(event_expect_data(server, got, sizeof got), 100);
  pattern_check(got, 100, 0);
  CHECK_EQUAL(abi_tcp_received(host_clock(), server, 100), 0);
  acknowledge(&peer);
  /* The window is full, and is opened again. */
  for (int32_t step; (step = tcp_put_at(host_clock(), client, stream + 100 + put, LARGE)) > 0;) {
    put += (uint32_t)step;
    CHECK_EQUAL(sent_at_once(), 0);
    CHECK(100 + put + LARGE <= sizeof stream);
    host_advance(TICK);
  }
  length = event_expect_data(server, got, sizeof got);
  pattern_check(got, length, 100);
  CHECK(length > ABI_TCP_FIRST_WINDOW / 2 && length < put);
  CHECK_EQUAL(interface_words(loopback_interface)[ABI_BLOCK_TRANSMIT_LENGTH], 0);
  CHECK_EQUAL(abi_tcp_received(host_clock(), server, (int32_t)length), 0);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(interface_words(loopback_interface)[ABI_BLOCK_TRANSMIT_LENGTH] > 0);
  write_at(host_clock(), &peer, 100, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  expect_data(&peer, 100, 100);
  for (struct event event; length < put; host_advance(TICK)) {
    CHECK((event = event_next()).kind != 0);
    for (; event.kind != 0; event = event_next()) {
      if (event.kind == ABI_EVENT_DATA) {
        CHECK_EQUAL(event.handle, server);
        pattern_check(event.payload, event.length, 100 + length);
        length += event.length;
        CHECK_EQUAL(abi_tcp_received(host_clock(), server, (int32_t)event.length), 0);
      } else {
        CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
      }
    }
  }
  CHECK_EQUAL(length, put);
  CHECK_EQUAL(abi_tcp_abort(client), 0);
  CHECK_EQUAL(abi_tcp_abort(server), 0);
  CHECK_EQUAL(abi_interface_remove(loopback_interface), 0);
  end(&peer);
}

static uint32_t waiting_at(int32_t port) { return interface_words(port)[ABI_BLOCK_TRANSMIT_LENGTH]; }

/* Brings a segment of the peer to a port, in an Ethernet frame. */
static void bring(int32_t port, uint16_t from_port, uint32_t sequence, uint32_t acknowledgement, uint32_t flags) {
  static const uint8_t far[] = {192, 0, 2, 7}, own[] = {192, 0, 2, 1};
  static struct packet packet;
  struct segment segment = {.family = ABI_FAMILY_IPV4,
                            .from = far,
                            .to = own,
                            .from_port = from_port,
                            .to_port = 80,
                            .sequence = sequence,
                            .acknowledgement = acknowledgement,
                            .flags = flags,
                            .window = 65535};
  packet_arp(&packet, 1, PEER_MAC, far, own);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(port, packet.bytes, packet.length);
  packet_tcp(&packet, &segment);
  packet_ethernet(&packet, HOST_MAC, 0x0800);
  interface_receive(port, packet.bytes, packet.length);
  host_poll();
}

/* Checks that the next frame is such a segment of the connection over the bridge. */
static struct segment expect_frame(uint32_t flags, uint32_t from, uint32_t length) {
  struct segment segment;
  struct frame frame;
  do { /* answers to ARP, and what cards say by themselves */
    frame = frame_next();
    CHECK(frame.length != 0);
  } while (!segment_parse(&segment, frame.bytes + 14, frame.length - 14));
  CHECK_EQUAL(segment.flags & ~(uint32_t)PSH, flags);
  CHECK_EQUAL(segment.length, length);
  CHECK(memcmp(segment.data, stream + from, length) == 0);
  return segment;
}

/* A bridge that knows where the peer is sends by one port, which is named; one that does not, by all of them, which only
   a poll can tell: whatever leaves after that waits for it, too. */
static void a_bridge(int32_t family) {
  static const uint8_t own[] = {192, 0, 2, 1};
  int32_t bridge = interface_open(ABI_KIND_BRIDGE, 1500), ports[2];
  CHECK_EQUAL(interface_set_ipv4(bridge, own, 24), 0);
  for (int i = 0; i < 2; i++) {
    ports[i] = interface_open(ABI_KIND_TAP, 1500);
    CHECK_EQUAL(abi_bridge_add_port(bridge, ports[i]), 0);
  }
  struct peer peer = open_peer(family, 40000);
  bring(ports[0], 41000, 99, 0, SYN);
  struct segment answer = expect_frame(SYN | ACK, 0, 0);
  bring(ports[0], 41000, 100, answer.sequence + 1, ACK);
  int32_t handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  CHECK_EQUAL(abi_tcp_accepted(handle), 0);
  frames_forget();
  CHECK_EQUAL(tcp_put_at(host_clock(), handle, stream, 100), 100);
  CHECK_EQUAL(host_take_sent(), ports[0]);
  expect_frame(ACK, 0, 100);
  CHECK_EQUAL(waiting_at(ports[0]), 0);
  CHECK_EQUAL(waiting_at(ports[1]), 0);

  CHECK_EQUAL(abi_bridge_ageing(bridge, 0), 0); /* a hub */
  CHECK_EQUAL(tcp_put_at(host_clock(), handle, stream + 100, 100), 100);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(waiting_at(ports[0]) > 0);
  CHECK(waiting_at(ports[1]) > 0);
  write_at(host_clock(), &peer, 0, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  uint32_t seen[2] = {0};
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    bool bridged = segment_parse(&segment, frame.bytes + 14, frame.length - 14);
    CHECK(bridged || segment_parse(&segment, frame.bytes, frame.length));
    CHECK_EQUAL(segment.to_port, bridged ? 41000 : 40000);
    CHECK_EQUAL(segment.length, 100);
    CHECK(memcmp(segment.data, stream + (bridged ? 100 : 0), 100) == 0);
    seen[bridged]++;
  }
  CHECK_EQUAL(seen[0], 1);
  CHECK_EQUAL(seen[1], 2);
  CHECK_EQUAL(abi_tcp_abort(handle), 0);
  for (int i = 0; i < 2; i++) {
    CHECK_EQUAL(abi_interface_remove(ports[i]), 0);
  }
  CHECK_EQUAL(abi_interface_remove(bridge), 0);
  end(&peer);
}

#define RUN_OVER_BOTH(test) (current = (test), test_run(#test, over_both))

int main(void) {
  host_start();
  host_reserve_handles(32);
  RUN_OVER_BOTH(two_small_writes);
  RUN_OVER_BOTH(frames_wait_for_the_host);
  RUN_OVER_BOTH(large_writes);
  RUN_OVER_BOTH(an_opened_window);
  RUN_OVER_BOTH(waiting_acknowledgements);
  RUN_OVER_BOTH(another_is_pending);
  RUN_OVER_BOTH(the_other_is_gone);
  RUN_OVER_BOTH(a_tick_is_due);
  RUN_OVER_BOTH(a_full_buffer);
  RUN_OVER_BOTH(a_buffer_that_gets_full);
  RUN_OVER_BOTH(a_window_opens_at_a_full_buffer);
  RUN_OVER_BOTH(a_closed_window);
  RUN_OVER_BOTH(a_route_that_is_gone);
  RUN_OVER_BOTH(a_closed_window_and_the_end);
  RUN_OVER_BOTH(refused_calls);
  RUN_OVER_BOTH(odd_times);
  RUN_OVER_BOTH(nagle);
  RUN_OVER_BOTH(lost_segments);
  RUN_OVER_BOTH(loopback);
  RUN_OVER_BOTH(a_bridge);
  return 0;
}
