/* Segments out of order, overlapping, repeated, beyond the window, with FINs at unusual positions: the application receives
   exactly the stream. */
#include "support.h"
#include "abi/handles.h"
#include "port/heap.h"
#include "tcp/connection.h"
#include "tcp/tcp_early.h"

#include <string.h>

enum { STREAM = 50000000 };

static int32_t interface, listener;
static uint8_t stream[STREAM], got[STREAM];
static uint32_t got_length;

static struct peer open_peer_behind(int64_t round_trip, int32_t mtu, bool scaled) {
  static const uint8_t scale[] = {1, 3, 3, 7}, sack[] = {1, 1, 4, 2}, mss[] = {2, 4, 0xff, 0xd7};
  interface = interface_open(ABI_KIND_TUN, mtu);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_option(&peer, mss, sizeof mss);
  if (scaled) {
    peer_option(&peer, scale, sizeof scale);
  }
  peer_option(&peer, sack, sizeof sack);
  peer.round_trip = round_trip;
  peer_open(&peer, listener);
  pattern_fill(stream, STREAM, 0);
  got_length = 0;
  return peer;
}

static struct peer open_peer(int32_t mtu, bool scaled) { return open_peer_behind(0, mtu, scaled); }

/* Sends the part of the stream from `from` to `to`, independently of the peer's sequence number. */
static void send_part(const struct peer *peer, uint32_t flags, uint32_t from, uint32_t to) {
  peer_send_at(peer, ACK | flags, (int32_t)from, stream + from, to - from);
}

/* Takes what has arrived and checks it; unread bytes keep the window closed. */
static void expect_stream(const struct peer *peer, uint32_t upto, bool read) {
  uint32_t before = got_length;
  host_poll();
  if (upto > before) {
    got_length += event_expect_data(peer->handle, got + got_length, STREAM - got_length);
  }
  CHECK_EQUAL(got_length, upto);
  pattern_check(got + before, upto - before, before);
  if (read) {
    CHECK_EQUAL(abi_tcp_received(host_clock_or_none(), peer->handle, (int32_t)(got_length - before)), 0);
  }
}

static void close_peer(const struct peer *peer) {
  host_poll();
  event_expect_none();
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void out_of_order_segments_wait_for_the_missing_one(void) {
  struct peer peer = open_peer(1500, true);
  send_part(&peer, 0, 2000, 3000);
  send_part(&peer, 0, 1000, 2000);
  send_part(&peer, 0, 4000, 5000);
  host_poll();
  struct segment segment = {0}, last = {0};
  while ((segment = peer_peek(&peer)).flags != 0) {
    last = segment;
    CHECK_EQUAL(segment.acknowledgement, peer.sequence);
  }
  CHECK_EQUAL(last.options_length, 20); /* two blocks of a selective acknowledgement, the latest first */
  CHECK_EQUAL(get32(last.options + 4) - peer.sequence, 4000);
  CHECK_EQUAL(get32(last.options + 8) - peer.sequence, 5000);
  CHECK_EQUAL(get32(last.options + 12) - peer.sequence, 1000);
  CHECK_EQUAL(get32(last.options + 16) - peer.sequence, 3000);
  event_expect_none();
  send_part(&peer, 0, 0, 1000);
  expect_stream(&peer, 3000, true);
  send_part(&peer, 0, 3000, 4000);
  expect_stream(&peer, 5000, true);
  close_peer(&peer);
}

static void overlapping_segments_deliver_each_byte_once(void) {
  struct peer peer = open_peer(1500, true);
  uint32_t base = 0;
  for (uint32_t start = 0; start <= 500; start += 50) { /* of the second segment, against 100..400 of the first */
    for (uint32_t end = start + 50; end <= 500; end += 50) {
      send_part(&peer, 0, base + 100, base + 400);
      send_part(&peer, 0, base + start, base + end);
      send_part(&peer, 0, base + 450, base + 500);
      send_part(&peer, 0, base, base + 500);
      base += 500;
      expect_stream(&peer, base, true);
      frames_forget();
    }
  }
  close_peer(&peer);
}

static void random_segments_in_random_order(void) {
  struct peer peer = open_peer(65535, true);
  uint32_t base = 0;
  for (int round = 0; round < 60; round++) {
    for (int number = 0; number < 60; number++) {
      uint32_t from = random_next() % 20000, to = from + 1 + random_next() % 3000;
      send_part(&peer, 0, base + 1 + from, base + LWIP_MIN(to + 1, 20000u));
    }
    for (uint32_t at = 0; at < 20000; at += 1000) {
      send_part(&peer, 0, base + at, base + at + 1000);
    }
    base += 20000;
    expect_stream(&peer, base, true);
    frames_forget();
  }
  close_peer(&peer);
}

/* Up to which byte of the stream the stack last offered its window; all its frames are taken. */
static uint32_t offered_edge(struct peer *peer) {
  struct segment segment, last = {0};
  while ((segment = peer_peek(peer)).flags != 0) {
    last = segment;
  }
  CHECK_EQUAL(last.flags, ACK);
  return last.acknowledgement - peer->sequence + ((uint32_t)last.window << TCP_RCV_SCALE);
}

/* Sends window after window to an application that reads, with a network's delay in between: the window grows to at least a size,
   and its right edge never moves back. Returns how long that took. */
static uint32_t grow_window(struct peer *peer, uint32_t size) {
  uint32_t at = 0, window = ABI_TCP_FIRST_WINDOW, edge = 0;
  while (window < size) {
    for (uint32_t end = at + window; at < end; at += LWIP_MIN(end - at, 50000u)) {
      send_part(peer, 0, at, at + LWIP_MIN(end - at, 50000u));
      expect_stream(peer, at + LWIP_MIN(end - at, 50000u), true);
      frames_forget();
    }
    host_advance(30 * MILLISECOND);
    send_part(peer, 0, at, at + 1);
    expect_stream(peer, ++at, true);
    host_advance(30 * MILLISECOND);
    uint32_t before = edge;
    edge = offered_edge(peer);
    CHECK(edge + (1 << TCP_RCV_SCALE) >= before && edge > at); /* the field counts in such steps */
    window = edge - at;
  }
  return at;
}

/* One frame fills the hole before a whole window of queued segments: all of it is delivered at once, and its length exceeds 16
   bits. */
static void filling_a_hole_delivers_a_full_window(void) {
  struct peer peer = open_peer_behind(60 * MILLISECOND, 65535, true);
  uint32_t base = grow_window(&peer, ABI_TCP_WINDOW / 8 * 7), end = base + ABI_TCP_WINDOW;
  for (uint32_t at = base + 65000; at + 65000 <= end; at += 65000) {
    send_part(&peer, 0, at, at + 65000);
    host_poll();
    event_expect_none();
  }
  send_part(&peer, 0, base, base + 65000);
  expect_stream(&peer, base + ABI_TCP_WINDOW / 65000 * 65000, false);
  /* Nothing has been read: data beyond the window is cut off, and segments outside of it are dropped. */
  send_part(&peer, 0, got_length, got_length + 65000);
  expect_stream(&peer, end, false);
  send_part(&peer, 0, end, end + 1);
  send_part(&peer, 0, end + 1, end + 1000);
  host_poll();
  event_expect_none();
  frames_forget();
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, ABI_TCP_WINDOW), 0);
  host_poll(); /* the window update is sent without a segment of the peer's */
  CHECK(offered_edge(&peer) >= end + ABI_TCP_WINDOW / 8 * 7);
  send_part(&peer, 0, end, end + 1000);
  expect_stream(&peer, end + 1000, true);
  close_peer(&peer);
}

/* A gap that is filled releases more than one poll delivers: the next ones deliver the rest, in order, also where segments arrive in
   between, and the FIN last, in each state in which it may come. */
static void what_a_gap_released_comes_in_several_polls(void) {
  enum { SIZE = 65000, COUNT = 40 };
  for (int way = 0; way < 6; way++) {
    struct peer peer = open_peer_behind(60 * MILLISECOND, 65535, true);
    uint32_t base = grow_window(&peer, COUNT * SIZE + SIZE), end = base + COUNT * SIZE;
    frames_forget();
    if (way >= 2) { /* FIN-WAIT-1, or FIN-WAIT-2 */
      CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
      host_poll();
      peer_expect(&peer, FIN | ACK);
      if (way >= 4) {
        peer.acknowledgement++;
        peer_send(&peer, ACK, NULL, 0);
      }
    }
    for (uint32_t at = base + SIZE; at < end; at += SIZE) {
      send_part(&peer, at + SIZE == end ? FIN : 0, at, at + SIZE);
    }
    host_poll();
    event_expect_none();
    frames_forget();
    send_part(&peer, 0, base, base + SIZE);
    int polls = 0;
    for (struct event event = {0}; event.kind != ABI_EVENT_EOF; polls++) {
      host_poll_once(0);
      CHECK_EQUAL(tw_control[ABI_CONTROL_MORE] & ABI_MORE_NOW, got_length + ABI_EVENT_CAPACITY < end ? ABI_MORE_NOW : 0);
      while ((event = event_next()).kind == ABI_EVENT_DATA) {
        memcpy(got + got_length, event.payload, event.length);
        pattern_check(got + got_length, event.length, got_length);
        got_length += event.length;
      }
      CHECK(event.kind == 0 || event.kind == ABI_EVENT_EOF);
      if (way & 1) { /* arrives again, in part before and in part behind what is delivered */
        send_part(&peer, 0, got_length - 5000, LWIP_MIN(got_length + 5000, end));
      }
    }
    CHECK_EQUAL(got_length, end);
    CHECK(polls > 3);
    host_poll();
    struct segment segment, last = {0};
    while ((segment = peer_peek(&peer)).flags != 0) {
      last = segment;
    }
    CHECK_EQUAL(last.acknowledgement, peer.sequence + end + 1);
    const struct connection *connection = tw_handle_object(peer.handle, HANDLE_CONNECTION);
    CHECK_EQUAL(connection->pcb->state, way >= 4 ? TIME_WAIT : way >= 2 ? CLOSING : CLOSE_WAIT);
    close_peer(&peer);
  }
}

/* With an application that does not read, and with one on a fast cable, the window keeps its first size. */
static void the_window_grows_only_with_demand(void) {
  for (int slow_reader = 0; slow_reader < 2; slow_reader++) {
    struct peer peer = open_peer(1500, true);
    for (uint32_t at = 0; at < 1000000; at += 50000) {
      if (slow_reader && at >= ABI_TCP_FIRST_WINDOW / 50000 * 50000) {
        break;
      }
      send_part(&peer, 0, at, at + 50000);
      expect_stream(&peer, at + 50000, !slow_reader);
      frames_forget();
      if (slow_reader) {
        host_advance(100 * MILLISECOND);
      }
    }
    send_part(&peer, 0, got_length, got_length + 1);
    expect_stream(&peer, got_length + 1, false);
    host_advance(30 * MILLISECOND);
    CHECK(offered_edge(&peer) <= got_length + ABI_TCP_FIRST_WINDOW);
    close_peer(&peer);
  }
}

/* A FIN needs no room in the window: it is accepted with the data that fills it. */
static void a_fin_at_the_window_edge_is_accepted(void) {
  struct peer peer = open_peer(65535, false); /* no scaling: the window is 65,535 bytes */
  send_part(&peer, 0, 0, 65000);
  expect_stream(&peer, 65000, false);
  send_part(&peer, FIN, 65000, 65535);
  expect_stream(&peer, 65535, false);
  CHECK_EQUAL(event_expect(ABI_EVENT_EOF, peer.handle).value, 0);
  close_peer(&peer);
}

/* Out-of-order segments that exceed the window: before, in and after a hole. */
static void data_beyond_the_window_is_dropped(void) {
  struct peer peer = open_peer(65535, false); /* no scaling: the window is 65,535 bytes */
  enum { WINDOW = 65535 };
  send_part(&peer, FIN, 65000, 66000);
  send_part(&peer, 0, 64000, 65200);
  send_part(&peer, FIN, 63000, 70000);
  send_part(&peer, 0, WINDOW, WINDOW + 100);
  send_part(&peer, FIN, WINDOW - 1, WINDOW);
  send_part(&peer, 0, 30000, 63500);
  host_poll();
  event_expect_none();
  frames_forget();
  send_part(&peer, 0, 0, 30001);
  host_poll();
  got_length += event_expect_data(peer.handle, got, STREAM);
  CHECK(got_length <= WINDOW);
  CHECK(got_length >= 63500);
  pattern_check(got, got_length, 0);
  event_expect_none(); /* the FIN beyond the window was not accepted */
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, (int32_t)got_length), 0);
  uint32_t rest = got_length;
  send_part(&peer, 0, rest, rest + 10000);
  expect_stream(&peer, rest + 10000, true);
  close_peer(&peer);
}

static void a_fin_ends_the_stream_at_its_sequence_number(void) {
  struct peer peer = open_peer(1500, true);
  send_part(&peer, FIN, 3000, 3000); /* out of order and alone */
  send_part(&peer, FIN, 2000, 3000); /* out of order, with the last data */
  send_part(&peer, 0, 2500, 3000);
  send_part(&peer, 0, 1000, 2000);
  host_poll();
  event_expect_none();
  send_part(&peer, 0, 0, 1000);
  expect_stream(&peer, 3000, true);
  event_expect(ABI_EVENT_EOF, peer.handle);
  host_poll();
  struct segment segment, last = {0};
  while ((segment = peer_peek(&peer)).flags != 0) {
    last = segment;
  }
  CHECK_EQUAL(last.acknowledgement, peer.sequence + 3001);
  /* Again, and with data after it: neither a second end nor data after the end. */
  send_part(&peer, FIN, 2000, 3000);
  peer_send_at(&peer, ACK, 3001, "ghost", 5);
  host_poll();
  event_expect_none();
  frames_forget();
  close_peer(&peer);
}

static void repeated_and_old_segments_are_acknowledged(void) {
  struct peer peer = open_peer(1500, true);
  send_part(&peer, 0, 0, 1000);
  expect_stream(&peer, 1000, true);
  frames_forget();
  send_part(&peer, 0, 0, 1000);
  host_poll();
  event_expect_none();
  struct segment segment = peer_peek(&peer); /* RFC 9293, section 3.10.7.4: answered with an acknowledgement */
  CHECK_EQUAL(segment.flags, ACK);
  CHECK_EQUAL(segment.acknowledgement, peer.sequence + 1000);
  send_part(&peer, 0, 500, 1500);
  expect_stream(&peer, 1500, true);
  peer_send_at(&peer, ACK, -1000000, "from long ago", 13);
  peer_send_at(&peer, SYN | ACK, 1500, NULL, 0); /* RFC 5961, section 4 */
  peer_send_at(&peer, SYN, 1600, NULL, 0);
  host_poll();
  event_expect_none();
  frames_forget();
  send_part(&peer, 0, 1500, 2000);
  expect_stream(&peer, 2000, true);
  close_peer(&peer);
}

/* One byte a segment, every second one: the out-of-order queue must stay within its bound and the stream complete. */
static void tiny_out_of_order_segments_are_bounded(void) {
  struct peer peer = open_peer(1500, true);
  uint32_t before = tw_heap_used();
  for (uint32_t at = 1; at < 8000; at += 2) {
    send_part(&peer, 0, at, at + 1);
    if (at % 1001 == 0) {
      host_poll();
      frames_forget();
    }
  }
  host_poll();
  frames_forget();
  CHECK(tw_heap_used() - before < 512 * 1024);
  /* Without gaps, too, but for the first byte: what is charged includes a header for each. */
  for (uint32_t at = 1; at < 100000; at++) {
    send_part(&peer, 0, at, at + 1);
    if (at % 1001 == 0) {
      host_poll();
      frames_forget();
    }
  }
  host_poll();
  frames_forget();
  const struct connection *connection = tw_handle_object(peer.handle, HANDLE_CONNECTION);
  uint32_t bound = connection->pcb->rcv_wnd * 3 / 2;
  CHECK(tw_early_bytes(connection->pcb) <= bound && tw_early_bytes(connection->pcb) > bound / 2);
  CHECK(tw_heap_used() - before < 2 * bound);
  for (uint32_t at = 0; at < 8000; at += 500) {
    send_part(&peer, 0, at, at + 500);
  }
  expect_stream(&peer, 8000, true);
  close_peer(&peer);
}

static void acknowledgements_of_unsent_data_are_ignored(void) {
  struct peer peer = open_peer(1500, true);
  CHECK_EQUAL(tcp_put(peer.handle, stream, 1000), 1000);
  host_poll();
  peer_expect(&peer, ACK);
  static const int32_t wrong[] = {1, 1000, 0x7fffffff, -2000, -0x7fffffff};
  uint32_t right = peer.acknowledgement;
  for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    peer.acknowledgement = right + (uint32_t)wrong[i];
    peer_send_at(&peer, ACK, 0, NULL, 0);
    host_poll();
    frames_forget();
    event_expect_none();
  }
  peer.acknowledgement = right;
  peer_send(&peer, ACK, "ok", 2);
  host_poll();
  uint8_t data[2];
  CHECK_EQUAL(event_expect_data(peer.handle, data, 2), 2);
  CHECK(memcmp(data, "ok", 2) == 0);
  close_peer(&peer);
}

/* A peer that drops segments which it had room for and shrinks its window accepts nothing beyond that window: neither
   acknowledgements, which it needs to continue, nor resets. */
static void segments_stay_within_a_shrunken_window(void) {
  static const uint8_t lost[1000];
  for (int way = 0; way < 4; way++) {
    struct peer peer = open_peer(1500, way & 1);
    CHECK_EQUAL(tcp_put(peer.handle, lost, sizeof lost), sizeof lost);
    host_poll();
    frames_forget();
    peer.window = way & 2 ? 3 : 0;
    uint32_t edge = peer.acknowledgement + (peer.window << (way & 1 ? 7 : 0));
    peer_send(&peer, ACK, "on", 2);
    peer_send(&peer, ACK, "ward", 4);
    host_poll();
    uint8_t got[8];
    CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), 6);
    CHECK(memcmp(got, "onward", 6) == 0);
    struct segment segment = peer_peek(&peer);
    CHECK_EQUAL(segment.flags, ACK);
    CHECK_EQUAL(segment.sequence, edge);
    CHECK_EQUAL(segment.acknowledgement, peer.sequence);
    CHECK_EQUAL(segment.length, 0);
    CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
    host_poll();
    segment = peer_peek(&peer);
    CHECK_EQUAL(segment.flags, RST | ACK);
    CHECK_EQUAL(segment.sequence, edge);
    CHECK_EQUAL(abi_tcp_close(listener), 0);
    CHECK_EQUAL(abi_interface_remove(interface), 0);
  }
}

int main(void) {
  host_start();
  RUN(out_of_order_segments_wait_for_the_missing_one);
  RUN(overlapping_segments_deliver_each_byte_once);
  RUN(random_segments_in_random_order);
  RUN(filling_a_hole_delivers_a_full_window);
  RUN(what_a_gap_released_comes_in_several_polls);
  RUN(the_window_grows_only_with_demand);
  RUN(a_fin_at_the_window_edge_is_accepted);
  RUN(data_beyond_the_window_is_dropped);
  RUN(a_fin_ends_the_stream_at_its_sequence_number);
  RUN(repeated_and_old_segments_are_acknowledged);
  RUN(tiny_out_of_order_segments_are_bounded);
  RUN(acknowledgements_of_unsent_data_are_ignored);
  RUN(segments_stay_within_a_shrunken_window);
  return 0;
}
