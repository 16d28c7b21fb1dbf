/* Lost segments are retransmitted with increasing intervals until the connection times out; a zero window is probed for as long
   as the peer answers. In virtual time: the clock moves from deadline to deadline. */
#include "support.h"

#include <string.h>

static int32_t interface, listener;

static struct peer open_peer(uint16_t window) {
  static const uint8_t mss[] = {2, 4, 5, 0xb4};
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_option(&peer, mss, sizeof mss);
  peer.window = window;
  peer_open(&peer, listener);
  return peer;
}

static void close_interface(void) {
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* Moves to the next deadlines until the stack sends to this peer; returns how long that took, or -1. */
static int64_t wait_for(struct peer *peer, struct segment *segment) {
  int64_t waited = 0;
  host_poll();
  for (int polls = 0; polls < 100000; polls++) {
    *segment = peer_peek(peer);
    if (segment->flags != 0 || host_deadline() == -1) {
      return segment->flags != 0 ? waited : -1;
    }
    host_advance(5 * MILLISECOND);
    waited += 5 * MILLISECOND;
  }
  return -1;
}

static void lost_data_is_retransmitted_with_backoff(void) {
  struct peer peer = open_peer(65535);
  CHECK_EQUAL(tcp_put(peer.handle, "payload", 7), 7);
  host_poll();
  struct segment segment = peer_expect(&peer, ACK);
  uint32_t sequence = segment.sequence;
  int64_t total = 0, previous = 0, waited;
  int times = 0;
  while ((waited = wait_for(&peer, &segment)) >= 0) {
    CHECK_EQUAL(segment.sequence, sequence);
    CHECK_EQUAL(segment.length, 7);
    CHECK(memcmp(segment.data, "payload", 7) == 0);
    CHECK(times == 0 || waited + 100 * MILLISECOND >= previous);
    CHECK(times == 0 || times > 5 || waited >= previous * 3 / 2);
    previous = waited;
    total += waited;
    times++;
  }
  CHECK(times >= 8); /* RFC 1122, section 4.2.3.5: at least 100 seconds */
  CHECK(total >= 100 * (int64_t)SECOND);
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  close_interface();
}

static void unanswered_syns_time_out(void) {
  struct peer peer = open_peer(65535);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  frames_forget();
  peer.from_port = 7;
  peer.handle = tcp_open(ABI_FAMILY_IPV4, PEER4, 7);
  host_poll();
  struct segment segment = peer_peek(&peer);
  CHECK_EQUAL(segment.flags, SYN);
  uint32_t sequence = segment.sequence;
  int64_t waited, expected = SECOND, end = 127 * (int64_t)SECOND;
  for (; (waited = wait_for(&peer, &segment)) >= 0; expected *= 2, end -= waited) {
    CHECK_EQUAL(segment.flags, SYN);
    CHECK_EQUAL(segment.sequence, sequence);
    CHECK(waited > expected - 60 * MILLISECOND && waited <= expected + 10 * MILLISECOND); /* RFC 6298, section 5.5 */
  }
  CHECK_EQUAL(expected, 64 * (int64_t)SECOND);
  CHECK(end > 63 * (int64_t)SECOND && end < 65 * (int64_t)SECOND); /* the limit of wait_for */
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  close_interface();
}

/* RFC 6298, section 5.7: the retransmission of a SYN is no sample of the round-trip time; a SYN that was sent once is. */
static void first_timeout_after_lost_syns_is_three_seconds(void) {
  struct peer peer = open_peer(65535);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  frames_forget();
  for (int lost = 0; lost < 3; lost += 2) {
    peer = peer_new(interface, ABI_FAMILY_IPV4, 0);
    peer.from_port = 7;
    peer.handle = tcp_open(ABI_FAMILY_IPV4, PEER4, 7);
    host_poll();
    struct segment segment = peer_peek(&peer);
    for (int i = 0; i < lost; i++) {
      CHECK(wait_for(&peer, &segment) > 0);
    }
    peer.to_port = segment.from_port;
    peer.acknowledgement = segment.sequence + 1;
    peer_send(&peer, SYN | ACK, NULL, 0);
    host_poll();
    event_expect(ABI_EVENT_CONNECTED, peer.handle);
    CHECK_EQUAL(tcp_put(peer.handle, "payload", 7), 7);
    host_poll();
    frames_forget();
    int64_t waited = wait_for(&peer, &segment), expected = lost ? 3 * SECOND : 250 * MILLISECOND;
    CHECK(waited > expected - 60 * MILLISECOND && waited <= expected + 60 * MILLISECOND);
    CHECK_EQUAL(segment.length, 7);
    CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
    host_poll();
    frames_forget();
  }
  close_interface();
}

/* The stack sends a stream to a peer that loses some segments, each of them in turn. */
static void each_lost_segment_is_retransmitted(void) {
  enum { LENGTH = 20000 };
  static uint8_t sent[LENGTH], got[LENGTH];
  pattern_fill(sent, LENGTH, 0);
  for (uint32_t lost = 0; lost < 16; lost++) {
    struct peer peer = open_peer(65535);
    CHECK_EQUAL(tcp_put(peer.handle, sent, LENGTH), LENGTH);
    CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
    uint32_t length = 0, number = 0;
    bool finished = false;
    while (!finished) {
      struct segment segment;
      CHECK(wait_for(&peer, &segment) >= 0);
      if (number++ == lost) {
        continue;
      }
      if (segment.sequence == peer.acknowledgement) {
        CHECK(length + segment.length <= LENGTH);
        memcpy(got + length, segment.data, segment.length);
        length += segment.length;
        finished = (segment.flags & FIN) != 0;
        peer.acknowledgement += segment.length + finished;
      }
      peer_send(&peer, ACK, NULL, 0);
    }
    CHECK_EQUAL(length, LENGTH);
    pattern_check(got, length, 0);
    peer_send(&peer, FIN | ACK, NULL, 0);
    host_poll();
    event_expect(ABI_EVENT_EOF, peer.handle);
    CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    frames_forget();
    close_interface();
    host_expect_clean();
  }
}

/* RFC 5681, section 3.2: three duplicate acknowledgements suffice, without a timer. */
static void three_duplicates_cause_a_fast_retransmission(void) {
  static uint8_t sent[10000];
  struct peer peer = open_peer(65535);
  pattern_fill(sent, sizeof sent, 0);
  CHECK_EQUAL(tcp_put(peer.handle, sent, sizeof sent), sizeof sent);
  host_poll();
  struct segment first = peer_peek(&peer);
  CHECK(first.length > 0);
  frames_forget();
  for (int i = 0; i < 3; i++) {
    peer_send(&peer, ACK, NULL, 0);
  }
  host_poll();
  struct segment again = peer_peek(&peer);
  CHECK_EQUAL(again.sequence, peer.acknowledgement);
  CHECK_EQUAL(again.length, 1460);
  pattern_check(again.data, again.length, 0);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

/* A fast retransmission that waits for the flush, because the duplicates came with data, takes neither new data nor a FIN into
   its segment: others follow it in the queue. */
static void nothing_joins_a_retransmission(bool end) {
  uint8_t sent[400];
  struct peer peer = open_peer(65535);
  pattern_fill(sent, sizeof sent, 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_NODELAY, 1), 0);
  for (uint32_t at = 0; at < 300; at += 100) {
    CHECK_EQUAL(tcp_put(peer.handle, sent + at, 100), 100);
    host_poll();
    CHECK_EQUAL(peer_peek(&peer).length, 100);
  }
  frames_forget();
  for (int i = 0; i < 3; i++) {
    peer_send(&peer, ACK, NULL, 0);
  }
  peer_send(&peer, ACK | PSH, "data", 4);
  host_poll_once(0);
  if (end) {
    CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
  } else {
    CHECK_EQUAL(tcp_put(peer.handle, sent + 300, 100), 100);
  }
  host_poll();
  struct segment segment;
  uint32_t start = peer.acknowledgement, most = 0, fin = 0;
  while ((segment = peer_peek(&peer)).flags != 0) {
    uint32_t at = segment.sequence - start;
    CHECK(at + segment.length <= sizeof sent);
    pattern_check(segment.data, segment.length, at);
    most = LWIP_MAX(most, at + segment.length);
    if ((segment.flags & FIN) != 0) {
      fin = at + segment.length;
    }
  }
  CHECK_EQUAL(most, end ? 300 : 400);
  CHECK_EQUAL(fin, end ? 300 : 0);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  event_expect(ABI_EVENT_DATA, peer.handle);
  close_interface();
}

static void new_data_joins_no_retransmission(void) { nothing_joins_a_retransmission(false); }

static void a_fin_joins_no_retransmission(void) { nothing_joins_a_retransmission(true); }

/* RFC 9293, section 3.8.6.1: a zero window is probed, without an end while the peer answers. */
static void zero_window_is_probed(void) {
  static uint8_t sent[5000], got[5000];
  struct peer peer = open_peer(1000);
  pattern_fill(sent, sizeof sent, 0);
  CHECK_EQUAL(tcp_put(peer.handle, sent, sizeof sent), sizeof sent);
  host_poll();
  uint32_t length = 0;
  struct segment segment;
  CHECK(wait_for(&peer, &segment) >= 0);
  CHECK(segment.length > 0 && segment.length <= 1000);
  memcpy(got, segment.data, segment.length);
  length = segment.length;
  peer.acknowledgement += segment.length;
  peer.window = 0;
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  frames_forget();
  for (int probe = 0; probe < 20; probe++) {
    CHECK(wait_for(&peer, &segment) > 0);
    CHECK(segment.length <= 1);
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
    event_expect_none();
  }
  peer.window = 1; /* one byte at a time, then all */
  bool closed = true;
  while (length < sizeof sent) {
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
    CHECK(wait_for(&peer, &segment) >= 0);
    if (segment.sequence != peer.acknowledgement) {
      continue;
    }
    CHECK(segment.length <= peer.window);
    memcpy(got + length, segment.data, segment.length);
    length += segment.length;
    peer.acknowledgement += segment.length;
    if (closed && length > 1010) {
      peer.window = 3000;
      closed = false;
    }
  }
  pattern_check(got, length, 0);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

/* A window opens by 65,536 bytes in the same poll in which its next probe is due, while the answer to the data that came with
   it is still delayed: the 16-bit fields that hold a segment's length must not overflow. */
static void window_opens_before_a_probe_without_overflow(void) {
  static const uint8_t scale[] = {1, 3, 3, 7};
  static uint8_t sent[3000];
  pattern_fill(sent, sizeof sent, 0);
  for (int64_t wait = 0; wait < 1000 * MILLISECOND; wait += 25 * MILLISECOND) {
    interface = interface_open(ABI_KIND_TUN, 1500);
    CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
    listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
    struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
    peer_option(&peer, scale, sizeof scale);
    peer.window = 0;
    peer_open(&peer, listener);
    CHECK_EQUAL(tcp_put(peer.handle, sent, sizeof sent), sizeof sent);
    host_advance(wait);
    frames_forget();
    peer.window = 512;
    peer_send(&peer, ACK, "da", 2);
    peer_send(&peer, ACK, "ta", 2); /* two: the fast timer runs only after delayed acknowledgements */
    host_poll_once(0);
    uint8_t data[4];
    CHECK_EQUAL(event_expect_data(peer.handle, data, sizeof data), 4);
    CHECK(memcmp(data, "data", 4) == 0);
    host_poll_once(100 * MILLISECOND);
    host_poll();
    struct segment segment = peer_peek(&peer);
    CHECK_EQUAL(segment.sequence, peer.start + 1);
    CHECK_EQUAL(segment.length, 536);
    pattern_check(segment.data, segment.length, 0);
    CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
    close_interface();
    host_expect_clean();
  }
}

/* The peer accepts the byte, or the FIN, of a probe, and leaves its window closed: nothing is left to probe with. */
static void acknowledged_probe_stops_probing(void) {
  for (int kind = 0; kind < 3; kind++) {
    struct peer peer = open_peer(0);
    if (kind != 1) {
      CHECK_EQUAL(tcp_put(peer.handle, "x", 1), 1);
    }
    if (kind > 0) {
      CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
    }
    struct segment segment;
    CHECK(wait_for(&peer, &segment) >= 0);
    CHECK_EQUAL(segment.sequence, peer.acknowledgement);
    CHECK_EQUAL(segment.length, kind == 1 ? 0 : 1);
    peer.acknowledgement++;
    peer_send(&peer, ACK, NULL, 0);
    host_advance(10 * SECOND);
    event_expect_none();
    frames_forget();
    peer.window = 1000;
    peer_send(&peer, ACK, "and on", 6);
    host_poll();
    uint8_t data[6];
    CHECK_EQUAL(event_expect_data(peer.handle, data, sizeof data), 6);
    if (kind == 2) { /* the byte was sent alone, its FIN stays queued */
      do {
        CHECK(wait_for(&peer, &segment) >= 0);
      } while ((segment.flags & FIN) == 0);
      CHECK_EQUAL(segment.sequence + segment.length, peer.acknowledgement);
    }
    CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
    close_interface();
    host_expect_clean();
  }
}

static void unanswered_probes_time_out(void) {
  struct peer peer = open_peer(0);
  CHECK_EQUAL(tcp_put(peer.handle, "blocked", 7), 7);
  host_advance(7200 * (int64_t)SECOND);
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  close_interface();
}

/* Windows smaller than a segment, of many sizes: queued segments are split. */
static void small_windows_split_queued_segments(void) {
  static uint8_t sent[3000], got[3000];
  static const uint16_t windows[] = {1, 2, 3, 7, 100, 535, 536, 1459, 1461};
  pattern_fill(sent, sizeof sent, 0);
  for (unsigned i = 0; i < sizeof windows / sizeof *windows; i++) {
    struct peer peer = open_peer(windows[i]);
    CHECK_EQUAL(tcp_put(peer.handle, sent, 1700), 1700);
    CHECK_EQUAL(tcp_put(peer.handle, sent + 1700, 1300), 1300);
    CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
    host_poll();
    uint32_t length = 0;
    bool finished = false;
    while (!finished) {
      struct segment segment;
      CHECK(wait_for(&peer, &segment) >= 0);
      CHECK(segment.length <= windows[i]);
      if (segment.sequence != peer.acknowledgement) {
        continue;
      }
      memcpy(got + length, segment.data, segment.length);
      length += segment.length;
      finished = (segment.flags & FIN) != 0;
      peer.acknowledgement += segment.length + finished;
      peer_send(&peer, ACK, NULL, 0);
    }
    CHECK_EQUAL(length, sizeof sent);
    pattern_check(got, length, 0);
    CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
    close_interface();
    host_expect_clean();
  }
}

/* The data fills the window, and the FIN is queued: it leaves with the next window update, not with a timer. */
static void a_queued_fin_leaves_with_the_window_update(void) {
  struct peer peer = open_peer(6);
  CHECK_EQUAL(tcp_put(peer.handle, "filled", 6), 6);
  host_poll();
  for (uint32_t length = 0; length < 6;) { /* a sender uses half of a small window for a segment */
    length += peer_expect(&peer, ACK).length;
  }
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
  host_poll();
  CHECK_EQUAL(peer_peek(&peer).flags, 0);
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  peer_expect(&peer, FIN | ACK);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
  host_expect_clean();
}

/* A write returns how much was taken, and WRITABLE follows when the buffer has room again. */
static void check_report_of_room(int64_t round_trip, uint32_t room) {
  static uint8_t sent[ABI_STAGING_CAPACITY];
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer.round_trip = round_trip;
  peer_open(&peer, listener);
  pattern_fill(sent, sizeof sent, 0);
  uint32_t taken = 0;
  int32_t step;
  while ((step = tcp_put(peer.handle, sent, sizeof sent)) == (int32_t)sizeof sent) {
    taken += (uint32_t)step;
  }
  CHECK(step >= 0);
  taken += (uint32_t)step;
  CHECK(taken >= 65536 && taken <= ABI_TCP_SEND_BUFFER); /* it grows with demand */
  CHECK_EQUAL(tcp_put(peer.handle, sent, 1), 0);
  uint32_t length = 0;
  bool reported = false;
  while (length < taken) {
    struct segment segment;
    CHECK(wait_for(&peer, &segment) >= 0);
    if (segment.sequence != peer.acknowledgement) {
      continue;
    }
    for (uint32_t i = 0; i < segment.length; i += 97) {
      CHECK_EQUAL(segment.data[i], sent[(length + i) % sizeof sent]);
    }
    length += segment.length;
    peer.acknowledgement += segment.length;
    host_advance(round_trip);
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
    struct event event = event_next();
    if (event.kind != 0) {
      CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
      CHECK_EQUAL(event.handle, peer.handle);
      CHECK(!reported && (uint32_t)event.value >= room && (uint32_t)event.value < room + 2 * 1460);
      reported = true;
    }
  }
  CHECK(reported);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

/* On a cable 128 KiB are asked for at once, over a distance a quarter of the buffer: less is unsent there by then. */
static void full_send_buffer_reports_writable(void) {
  check_report_of_room(100, 131072);
  check_report_of_room(50 * MILLISECOND, 65536);
}

/* An embedder that does not fetch frames: the transmit buffer fills, and no data that TCP has taken is lost. */
static void full_transmit_buffer_loses_no_tcp_data(void) {
  enum { LENGTH = 1500000 };
  static uint8_t sent[LENGTH], got[LENGTH];
  static const uint8_t scale[] = {1, 3, 3, 10};
  pattern_fill(sent, LENGTH, 0);
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_option(&peer, scale, sizeof scale);
  peer_open(&peer, listener);
  uint32_t length = 0, put = 0;
  for (int polls = 0; length < LENGTH; polls++) {
    CHECK(polls < 20000);
    for (int32_t step = 1; put < LENGTH && step > 0; put += (uint32_t)step) {
      step = tcp_put_at(host_clock_or_none(), peer.handle, sent + put, (int32_t)LWIP_MIN(LENGTH - put, 60000u));
      CHECK(step >= 0);
    }
    host_fetch_frames(polls % 3 == 2);
    host_advance(20 * MILLISECOND); /* before a time-out reduces the window */
    struct segment segment;
    while ((segment = peer_peek(&peer)).flags != 0) {
      if (segment.sequence == peer.acknowledgement) {
        memcpy(got + length, segment.data, segment.length);
        length += segment.length;
        peer.acknowledgement += segment.length;
        peer_send(&peer, ACK, NULL, 0);
      }
    }
  }
  host_fetch_frames(true);
  CHECK(interface_words(interface)[ABI_BLOCK_DROPPED_TRANSMIT_FULL] > 0);
  pattern_check(got, length, 0);
  struct event event;
  while ((event = event_next()).kind != 0) {
    CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
  }
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

int main(void) {
  host_start();
  RUN(lost_data_is_retransmitted_with_backoff);
  RUN(unanswered_syns_time_out);
  RUN(first_timeout_after_lost_syns_is_three_seconds);
  RUN(each_lost_segment_is_retransmitted);
  RUN(three_duplicates_cause_a_fast_retransmission);
  RUN(new_data_joins_no_retransmission);
  RUN(a_fin_joins_no_retransmission);
  RUN(zero_window_is_probed);
  RUN(unanswered_probes_time_out);
  RUN(full_send_buffer_reports_writable);
  RUN(full_transmit_buffer_loses_no_tcp_data);
  RUN(window_opens_before_a_probe_without_overflow);
  RUN(acknowledged_probe_stops_probing);
  RUN(small_windows_split_queued_segments);
  RUN(a_queued_fin_leaves_with_the_window_update);
  return 0;
}
