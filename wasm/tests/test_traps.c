/* Peers whose packets, together with a writing program, made an assertion of lwIP fail, which is a trap that ends the stack:
   small windows and segment sizes, a shrinking MSS, and FINs at contradicting positions. */
#include "support.h"

#include <string.h>

enum { STREAM = 200000 };

static int32_t interface, listener;
static uint8_t stream[STREAM], got[STREAM];

static struct peer open_peer(uint16_t window, uint16_t mss, bool timestamps) {
  static const uint8_t timestamp[] = {8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1};
  uint8_t option[] = {2, 4, (uint8_t)(mss >> 8), (uint8_t)mss};
  interface = interface_open(ABI_KIND_TUN, 65535);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_option(&peer, option, sizeof option);
  if (timestamps) {
    peer_option(&peer, timestamp, sizeof timestamp);
  }
  peer.window = window;
  peer_open(&peer, listener);
  pattern_fill(stream, STREAM, 0);
  return peer;
}

static void close_peer(const struct peer *peer) {
  host_poll();
  frames_forget();
  event_expect_none();
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* The program writes a part of the stream; data beyond a closed window is queued. */
static void write_part(const struct peer *peer, uint32_t from, uint32_t to) {
  while (from < to) { /* a call builds a limited number of small segments, and WRITABLE follows */
    int32_t taken = tcp_put_at(host_clock_or_none(), peer->handle, stream + from, (int32_t)(to - from));
    CHECK(taken > 0);
    from += (uint32_t)taken;
    host_poll();
    if (from < to) {
      event_expect(ABI_EVENT_WRITABLE, peer->handle);
    }
  }
}

/* Receives what the stack sends, with windows of `window` bytes, until `total` bytes of the stream have arrived; returns the
   largest segment, options included. A segment beyond the window is not accepted. */
static uint32_t receive_stream(struct peer *peer, uint32_t total) {
  uint32_t largest = 0;
  for (int polls = 0; peer->acknowledgement - peer->start - 1 < total; polls++) {
    CHECK(polls < 20000);
    uint32_t before = peer->acknowledgement, edge = before + LWIP_MAX(peer->window, 1);
    host_advance(20 * MILLISECOND);
    for (struct segment segment; (segment = peer_peek(peer)).flags != 0;) {
      uint32_t at = segment.sequence - peer->start - 1;
      CHECK_EQUAL(segment.flags & (RST | FIN), 0);
      largest = LWIP_MAX(largest, segment.options_length + segment.length);
      if (segment.length != 0) {
        CHECK(at + segment.length <= total);
        pattern_check(segment.data, segment.length, at);
      }
      if (segment.sequence == peer->acknowledgement && segment.length <= edge - peer->acknowledgement) {
        peer->acknowledgement += segment.length;
      }
    }
    if (peer->acknowledgement != before) {
      peer_send(peer, ACK, NULL, 0);
    }
  }
  host_poll();
  frames_forget();
  return largest;
}

static void nagle(const struct peer *peer) { CHECK_EQUAL(abi_tcp_option(peer->handle, ABI_OPTION_NODELAY, 0), 0); }

/* A window of 0 or 1 in the SYN, then one that is smaller than the queued segment. */
static void a_zero_window_that_opens_by_a_few_bytes(void) {
  static const uint16_t later[] = {1, 2, 47, 95, 96, 97, 100, 1000, 3000};
  for (unsigned way = 0; way < 8 * sizeof later / sizeof *later; way++) {
    struct peer peer = open_peer(way & 1, 1460, way & 2);
    if (way & 4) {
      nagle(&peer);
    }
    write_part(&peer, 0, 700);
    write_part(&peer, 700, 710); /* with room in it, while Nagle's algorithm delays it */
    host_poll();
    peer.window = later[way / 8];
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
    frames_forget();
    write_part(&peer, 710, 720);
    write_part(&peer, 720, 1200);
    receive_stream(&peer, 1200);
    write_part(&peer, 1200, 1300);
    receive_stream(&peer, 1300);
    close_peer(&peer);
  }
}

/* An MSS that leaves no room beside a timestamp; Linux has the same minimum. */
static void the_smallest_mss(void) {
  for (uint16_t mss = 1; mss <= 50; mss++) {
    for (int way = 0; way < 4; way++) {
      struct peer peer = open_peer(65535, mss, way & 1);
      if (way & 2) {
        nagle(&peer);
      }
      write_part(&peer, 0, 5);
      write_part(&peer, 5, 1000);
      write_part(&peer, 1000, 3000);
      CHECK_EQUAL(receive_stream(&peer, 3000), LWIP_MAX(mss, 48));
      close_peer(&peer);
    }
  }
}

/* No window is ever large enough for a full segment. */
static void windows_below_the_mss(void) {
  for (uint16_t window = 1; window <= 100; window += window < 30 ? 1 : 7) {
    for (int way = 0; way < 4; way++) {
      struct peer peer = open_peer(window, 1460, way & 1);
      if (way & 2) {
        nagle(&peer);
      }
      write_part(&peer, 0, 100);
      write_part(&peer, 100, 120);
      host_poll();
      write_part(&peer, 120, 300);
      receive_stream(&peer, 300);
      close_peer(&peer);
    }
  }
}

/* A large write, which refers to the staging area instead of being copied, into such a connection. */
static void large_writes_into_small_windows(void) {
  static const uint16_t windows[] = {0, 1, 200, 65535};
  for (unsigned way = 0; way < 2 * sizeof windows / sizeof *windows; way++) {
    struct peer peer = open_peer(windows[way / 2], 1, way & 1);
    write_part(&peer, 0, 40000);
    peer.window = 30000;
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
    write_part(&peer, 40000, 40100);
    write_part(&peer, 40100, 60000);
    receive_stream(&peer, 60000);
    close_peer(&peer);
  }
}

/* Sends the part of the stream from `from` to `to`, independently of the peer's sequence number. */
static void send_part(const struct peer *peer, uint32_t flags, uint32_t from, uint32_t to) {
  peer_send_at(peer, ACK | flags, (int32_t)from, stream + from, to - from);
}

/* Sends what is missing, whatever arrived before, and checks that the stream ends once, at a FIN of the peer's. */
static void expect_end(const struct peer *peer, uint32_t end) {
  host_poll();
  uint32_t length = 0;
  struct event event;
  while ((event = event_next()).kind == ABI_EVENT_DATA) {
    CHECK(length + event.length <= end);
    memcpy(got + length, event.payload, event.length);
    length += event.length;
  }
  CHECK_EQUAL(event.kind, ABI_EVENT_EOF);
  CHECK_EQUAL(length, end);
  pattern_check(got, length, 0);
  host_poll();
  struct segment last = {0};
  for (struct segment segment; (segment = peer_peek(peer)).flags != 0; last = segment) {
    CHECK_EQUAL(segment.flags, ACK);
  }
  CHECK_EQUAL(last.acknowledgement, peer->sequence + end + 1);
}

/* A FIN that came out of order, alone or with data, and segments with data beyond it: in order, or out of order as well. The
   window ends at each position around them. */
static void segments_that_cover_an_out_of_order_fin(void) {
  enum { WINDOW = 65535, FIRST = 60000, LEFT = WINDOW - FIRST, AT = 500 };
  for (int32_t behind = -2; behind <= LEFT - AT; behind += behind < 2 || behind > LEFT - AT - 4 ? 1 : 500) {
    for (int way = 0; way < 8; way++) {
      struct peer peer = open_peer(65535, 1460, false); /* no scaling: the window is 65,535 bytes */
      send_part(&peer, 0, 0, FIRST); /* which no program reads */
      uint32_t fin = FIRST + AT, cover = (uint32_t)((int32_t)fin + LWIP_MIN(behind, LEFT - AT));
      send_part(&peer, FIN, fin - (way & 1 ? 100 : 0), fin);
      if (way & 2) {
        send_part(&peer, 0, FIRST + 100, cover); /* out of order, too */
      }
      if (way & 4) {
        send_part(&peer, 0, fin - 200, fin - 50);
      }
      send_part(&peer, 0, FIRST, way & 2 ? FIRST + 100 : cover);
      if (behind < 0) {
        send_part(&peer, 0, FIRST, fin);
      }
      expect_end(&peer, fin);
      send_part(&peer, FIN, FIRST, cover);
      send_part(&peer, 0, fin, fin + 100);
      close_peer(&peer);
    }
  }
}

/* Segments with and without FIN in every order around the edge of the window: at most one of the contradicting ends may be
   accepted. */
static void contradicting_fins(void) {
  enum { FIRST = 65300, ROOM = 235 };
  for (int round = 0; round < 4000; round++) {
    struct peer peer = open_peer(65535, 1460, round & 1);
    send_part(&peer, 0, 0, FIRST);
    for (int part = 0; part < 12; part++) {
      uint32_t from = FIRST - 5 + random_next() % (ROOM + 10), to = from + random_next() % (ROOM + 10);
      send_part(&peer, random_next() % 3 == 0 ? FIN : 0, from, to);
      if (random_next() % 4 == 0) {
        host_poll();
        frames_forget();
      }
    }
    send_part(&peer, 0, FIRST, FIRST + ROOM);
    host_poll();
    uint32_t length = 0, ends = 0;
    for (struct event event; (event = event_next()).kind != 0;) {
      CHECK_EQUAL(ends, 0); /* no data after the end */
      ends += event.kind == ABI_EVENT_EOF;
      CHECK(length + event.length <= FIRST + ROOM);
      memcpy(got + length, event.payload, event.length);
      length += event.length;
    }
    pattern_check(got, length, 0);
    CHECK(ends == 1 || length == FIRST + ROOM);
    close_peer(&peer);
  }
}

int main(void) {
  host_start();
  RUN(a_zero_window_that_opens_by_a_few_bytes);
  RUN(the_smallest_mss);
  RUN(windows_below_the_mss);
  RUN(large_writes_into_small_windows);
  RUN(segments_that_cover_an_out_of_order_fin);
  RUN(contradicting_fins);
  return 0;
}
