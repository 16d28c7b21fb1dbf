/* Calls that cannot send at once: a full transmit buffer, a closed window, a missing route, refused calls. SENT_AT_ONCE is 0
   then, and the stream is delivered later. */
#include "support_at_once.h"

/* Fills the transmit buffer with echo replies, which are not fetched, until `room` bytes and less than a segment are left. */
static void fill_buffer(int32_t family, uint32_t room) {
  static struct packet packet;
  uint32_t smallest = family == ABI_FAMILY_IPV4 ? 32 : 52;
  host_fetch_frames(false);
  for (uint32_t left; (left = ABI_TRANSMIT_CAPACITY - queued_bytes() - room) >= smallest;) {
    packet_icmp_echo(&packet, family, stream, left > 3000 ? 1400 : 0);
    interface_receive(interface, packet.bytes, packet.length);
    host_poll_once(0);
    CHECK(ABI_TRANSMIT_CAPACITY - queued_bytes() - room < left);
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

/* No segment fits: the poll sends the data when there is room. */
static void a_full_buffer_delays_to_the_poll(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  uint32_t *words = interface_words(interface);
  uint32_t lengths[] = {100, LARGE};
  uint32_t at = 0;
  for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    fill_buffer(family, 0);
    uint32_t full = queued_bytes(), dropped = words[ABI_BLOCK_DROPPED_TRANSMIT_FULL];
    write_at(host_clock(), &peer, at, lengths[i]);
    expect_unsent(full);
    CHECK_EQUAL(words[ABI_BLOCK_DROPPED_TRANSMIT_FULL], dropped + 1);
    host_poll();
    CHECK_EQUAL(queued_bytes(), full);
    write_at(host_clock(), &peer, at + lengths[i], 100); /* nothing is unacknowledged, but the earlier data is sent first */
    expect_unsent(full);
    expect_replies();
    host_poll();
    expect_stream(&peer, at, at + lengths[i] + 100);
    expect_quiet(&peer);
    at += lengths[i] + 100;
  }
  end(&peer);
}

/* Some of the segments fit: these are in the buffer, and SENT_AT_ONCE is 0 because of the others. */
static void a_buffer_that_fills_sends_a_part(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  fill_buffer(family, 5000);
  uint32_t before = queued_bytes();
  write_at(host_clock(), &peer, 0, LARGE);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(queued_bytes() > before + 1500);
  uint32_t some = queued_bytes();
  host_poll();
  CHECK_EQUAL(queued_bytes(), some);
  host_fetch_frames(true);
  host_poll();
  host_poll();
  expect_stream(&peer, 0, LARGE);
  expect_quiet(&peer);
  end(&peer);
}

/* The window update does not fit, either. */
static void a_window_update_waits_for_room(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  fill_buffer(family, 0);
  for (uint32_t at = 0; at < 20 * 1440; at += 1440) {
    peer_send(&peer, ACK, stream + at, 1440);
  }
  host_poll_once(0);
  CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), 20 * 1440);
  pattern_check(got, 20 * 1440, 0);
  uint32_t full = queued_bytes();
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
  CHECK_EQUAL((uint32_t)last.window << TCP_RCV_SCALE, ABI_TCP_FIRST_WINDOW);
  expect_quiet(&peer);
  end(&peer);
}

/* The peer closes its window; then the stack has no pending timer. */
static void close_window(struct peer *peer) {
  uint8_t data[2];
  peer_send(peer, ACK, "x", 1); /* with another sequence number than the segment that opened the window */
  peer->window = 0;
  peer_send(peer, ACK, "y", 1);
  host_poll();
  CHECK_EQUAL(event_expect_data(peer->handle, data, 2), 2);
  CHECK_EQUAL(abi_tcp_received(0, peer->handle, 2), 0);
  host_advance(10 * SECOND);
  frames_forget();
  CHECK_EQUAL(host_deadline(), -1);
}

/* Nothing is sent into a closed window; the stack probes it by a timer, and the data is delivered when the window opens (RFC
   9293, section 3.8.6.1). */
static void a_closed_window_is_probed(int32_t family) {
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

static void far_route(bool add) {
  static const uint8_t network[] = {192, 0, 2, 0};
  memcpy(tw_scratch.bytes, network, sizeof network);
  CHECK_EQUAL(add ? abi_route_add(ABI_FAMILY_IPV4, 24, interface, 0, 1) : abi_route_remove(ABI_FAMILY_IPV4, 24, 1),
              add ? interface : 0);
}

/* Without a route nothing leaves, by the call or by a poll; with one again the data is sent, else the connection times out.
   Over IPv4: an IPv6 packet without a route leaves by the interface that has its source address. */
static void a_missing_route_sends_nothing(int32_t family) {
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

/* The FIN alone waits for the window. */
static void a_fin_is_sent_into_a_closed_window(int32_t family) {
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

/* A refused call names no interface, also after a call that named one. */
static void refused_calls_send_nothing(int32_t family) {
  struct peer peer = open_peer(family, 40000);
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
  /* Sends after the FIN, and before the handshake is complete. */
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

/* A connection that its peer has reset, with unread data, and one that is closed. */
static void ended_connections_send_nothing(int32_t family) {
  struct peer peer = open_peer(family, 40000), other = open_peer(family, 40001);
  uint8_t data[8];
  uint32_t at = 0;
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
  end(&peer);
}

int main(void) {
  host_start();
  host_reserve_handles(32);
  RUN_OVER_BOTH(a_full_buffer_delays_to_the_poll);
  RUN_OVER_BOTH(a_buffer_that_fills_sends_a_part);
  RUN_OVER_BOTH(a_window_update_waits_for_room);
  RUN_OVER_BOTH(a_closed_window_is_probed);
  RUN_OVER_BOTH(a_missing_route_sends_nothing);
  RUN_OVER_BOTH(a_fin_is_sent_into_a_closed_window);
  RUN_OVER_BOTH(refused_calls_send_nothing);
  RUN_OVER_BOTH(ended_connections_send_nothing);
  return 0;
}
