/* Every connection ends within a bounded time, in every state, where the peer is silent, where it acknowledges but takes no
   data, and where no route leads to it any more. In virtual time. */
#include "support.h"
#include "tcp/connection.h"

#include <string.h>

enum { HOUR = 3600 };

static int32_t interface, listener;

static const uint8_t FAR[4] = {192, 0, 2, 9};

static void open_interface(void) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
}

static struct peer open_peer(uint16_t window) {
  open_interface();
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer.window = window;
  peer_open(&peer, listener);
  return peer;
}

static void close_interface(void) {
  frames_forget();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void peer_sends_fin(struct peer *peer) {
  peer_send(peer, FIN | ACK, NULL, 0);
  host_poll();
  event_expect(ABI_EVENT_EOF, peer->handle);
  frames_forget();
}

/* How long the stack keeps the connection when nothing arrives any more, at most an hour. */
static int64_t time_until_closed(void) {
  int64_t passed = 0;
  while (tw_tcp_connections() > 0 && passed < HOUR) {
    host_advance(SECOND);
    frames_forget();
    passed++;
  }
  CHECK_EQUAL(tw_tcp_connections(), 0);
  return passed;
}

/* RFC 1122, section 4.2.3.5: no less than 100 seconds. Unacknowledged data or FIN, in all states that have some: the handle
   open or closed, the peer's FIN before, after, or never. */
static void silent_peer_times_out(void) {
  for (int way = 0; way < 16; way++) {
    bool data = way & 1, closed = way & 2, finished = way & 4, crossing = way & 8;
    if (finished && crossing) {
      continue;
    }
    struct peer peer = open_peer(65535);
    if (finished) {
      peer_sends_fin(&peer);
    }
    if (data) {
      CHECK_EQUAL(tcp_put(peer.handle, "silence", 7), 7);
    }
    CHECK_EQUAL(closed ? abi_tcp_close(peer.handle) : abi_tcp_shutdown(peer.handle), 0);
    host_poll();
    frames_forget();
    if (crossing) { /* to CLOSING: this FIN does not acknowledge ours */
      peer_send(&peer, FIN | ACK, NULL, 0);
      host_poll();
    }
    int64_t passed = time_until_closed();
    CHECK(passed >= 100 && passed < 1000);
    if (!closed) {
      if (crossing) {
        event_expect(ABI_EVENT_EOF, peer.handle);
      }
      CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
      CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    }
    event_expect_none();
    close_interface();
    host_expect_clean();
  }
}

/* The window stays closed and each probe is answered. With an open handle the connection is kept for any time (RFC 9293,
   section 3.8.6.1); with a closed one it ends. */
static void orphan_with_a_closed_window_ends(void) {
  for (int way = 0; way < 4; way++) {
    bool finished = way & 1, held = way & 2;
    struct peer peer = open_peer(0);
    CHECK_EQUAL(tcp_put(peer.handle, "unwanted", 8), 8);
    if (finished) {
      peer_sends_fin(&peer);
    }
    CHECK_EQUAL(held ? abi_tcp_shutdown(peer.handle) : abi_tcp_close(peer.handle), 0);
    int64_t passed = 0;
    uint32_t resets = 0;
    for (; tw_tcp_connections() > 0 && passed < 2 * HOUR; passed++) {
      host_advance(SECOND);
      struct segment segment;
      while ((segment = peer_peek(&peer)).flags != 0) {
        resets += (segment.flags & RST) != 0;
        peer_send(&peer, ACK, NULL, 0);
      }
    }
    event_expect_none();
    CHECK_EQUAL(resets, !held);
    if (held) {
      CHECK_EQUAL(passed, 2 * HOUR);
      CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
    } else {
      CHECK(passed >= 300 && passed < 310);
    }
    close_interface();
    host_expect_clean();
  }
}

/* A slow reader opens its window by a byte every four minutes. A byte is less than a segment, so that the stack takes up to
   another probe interval to use it: all data arrives. */
static void slowly_opening_window_receives_everything(void) {
  static const char sent[] = "one at a time";
  struct peer peer = open_peer(0);
  CHECK_EQUAL(tcp_put(peer.handle, sent, sizeof sent), sizeof sent);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  uint32_t length = 0;
  for (int second = 1; length < sizeof sent; second++) {
    CHECK(second < 300 * (int)sizeof sent);
    host_advance(SECOND);
    bool answer = second % 240 == 0;
    struct segment segment;
    while ((segment = peer_peek(&peer)).flags != 0) {
      CHECK_EQUAL(segment.flags & RST, 0);
      answer = true;
      if (peer.window != 0 && segment.length != 0) {
        CHECK_EQUAL(segment.sequence, peer.acknowledgement);
        CHECK_EQUAL(segment.length, 1);
        CHECK_EQUAL(segment.data[0], sent[length]);
        length++;
        peer.acknowledgement++;
        peer.window = 0;
      }
    }
    if (second % 240 == 0) {
      peer.window = 1;
    }
    if (answer) {
      peer_send(&peer, ACK, NULL, 0);
      host_poll();
    }
  }
  peer_send(&peer, RST | ACK, NULL, 0);
  host_poll();
  close_interface();
}

/* A reader that takes 1,000 bytes each 12 s, always within one tick, so that its window is closed whenever a timer looks at it:
   it receives everything, though that takes twice as long as a peer without progress is given. */
static void slow_reader_receives_everything(void) {
  enum { LENGTH = 60000, PART = 1000 };
  static uint8_t sent[LENGTH];
  pattern_fill(sent, LENGTH, 0);
  struct peer peer = open_peer(PART);
  CHECK_EQUAL(tcp_put(peer.handle, sent, LENGTH), LENGTH);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  uint32_t length = 0;
  bool finished = false;
  for (int time = 0; !finished; time++) {
    CHECK(time < 2 * LENGTH / PART);
    peer.window = PART;
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
    bool taken = true;
    for (uint32_t open = PART; taken && open > 0;) {
      taken = false;
      struct segment segment;
      while ((segment = peer_peek(&peer)).flags != 0) {
        CHECK_EQUAL(segment.flags & RST, 0);
        if (segment.sequence == peer.acknowledgement && segment.length != 0 && segment.length <= open) {
          pattern_check(segment.data, segment.length, length);
          length += segment.length;
          open -= segment.length;
          finished = (segment.flags & FIN) != 0;
          peer.acknowledgement += segment.length + finished;
          taken = true;
        }
      }
      peer.window = (uint16_t)open;
      peer_send(&peer, ACK, NULL, 0);
      host_poll();
    }
    peer.window = 0;
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
    for (int second = 0; second < 12 && !finished; second++) {
      host_advance(SECOND);
      struct segment segment;
      while ((segment = peer_peek(&peer)).flags != 0) { /* window probes */
        CHECK_EQUAL(segment.flags & RST, 0);
        peer_send(&peer, ACK, NULL, 0);
      }
    }
  }
  CHECK_EQUAL(length, LENGTH);
  peer_send(&peer, RST | ACK, NULL, 0);
  host_poll();
  close_interface();
}

/* A peer that has all data and sends no FIN, but an acknowledgement every ten seconds: nothing else can follow. */
static void acknowledgements_do_not_keep_an_orphan(void) {
  struct peer peer = open_peer(65535);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  host_poll();
  peer_expect(&peer, FIN | ACK);
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  int64_t passed = 0;
  for (; tw_tcp_connections() > 0 && passed < HOUR; passed += 10) {
    host_advance(10 * (int64_t)SECOND);
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
  }
  CHECK(passed >= 20 && passed <= 320);
  close_interface();
}

static void change_route(bool add) {
  memset(tw_scratch.bytes, 0, 32);
  memcpy(tw_scratch.bytes, FAR, sizeof FAR);
  if (add) {
    CHECK(abi_route_add(ABI_FAMILY_IPV4, 32, interface, 0, 0) > 0);
  } else {
    CHECK_EQUAL(abi_route_remove(ABI_FAMILY_IPV4, 32, 0), 0);
  }
}

/* What was written while there was no route has never left, so that no retransmission could be counted. */
static void connection_without_a_route_times_out(void) {
  for (int way = 0; way < 4; way++) {
    bool closed = way & 1, small = way & 2;
    open_interface();
    change_route(true);
    struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
    peer.from = FAR;
    peer.window = small ? 3 : 65535;
    peer_open(&peer, listener);
    frames_forget();
    if (!small) {
      change_route(false);
    }
    CHECK_EQUAL(tcp_put(peer.handle, "nowhere", 7), 7);
    host_poll();
    if (small) { /* the route is removed while data beyond the window waits for the probe's timer */
      change_route(false);
    }
    if (closed) {
      CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    }
    int64_t passed = time_until_closed();
    CHECK(passed >= 100 && passed < 1000);
    if (!closed) {
      CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
      CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    }
    close_interface();
    host_expect_clean();
  }
}

/* The route returns before the time-out. */
static void connection_survives_a_short_route_loss(void) {
  open_interface();
  change_route(true);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer.from = FAR;
  peer_open(&peer, listener);
  change_route(false);
  CHECK_EQUAL(tcp_put(peer.handle, "after all", 9), 9);
  host_advance(60 * SECOND);
  peer_expect_silence(&peer);
  change_route(true);
  host_advance(SECOND);
  struct segment segment = peer_expect(&peer, ACK);
  CHECK_EQUAL(segment.length, 9);
  CHECK(memcmp(segment.data, "after all", 9) == 0);
  peer_send(&peer, ACK, NULL, 0);
  host_advance(HOUR * (int64_t)SECOND);
  event_expect_none();
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  change_route(false);
  close_interface();
}

/* RFC 6298, section 2.5: a round trip that the peer makes a minute long. Its retransmission time-out, doubled each time, would
   reach half an hour; it is limited to two minutes, also after an outage. */
static void retransmission_timeout_is_limited(void) {
  struct peer peer = open_peer(65535);
  for (int i = 0; i < 3; i++) {
    CHECK_EQUAL(tcp_put(peer.handle, "measure", 7), 7);
    host_poll();
    struct segment first = peer_peek(&peer);
    CHECK_EQUAL(first.length, 7);
    host_jump(50 * (int64_t)SECOND); /* as after a suspended process: no time-out between */
    peer.acknowledgement += 7;
    peer_send(&peer, ACK, NULL, 0);
    host_poll();
    frames_forget();
  }
  CHECK_EQUAL(tcp_put(peer.handle, "silence", 7), 7);
  host_poll();
  peer_expect(&peer, ACK);
  int64_t since = 0;
  for (int64_t second = 0; tw_tcp_connections() > 0; second++) {
    CHECK(second < HOUR);
    host_advance(SECOND);
    since = peer_peek(&peer).length != 0 ? 0 : since + 1;
    CHECK(since <= 121);
  }
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  close_interface();
}

/* Keep-alive continues after our FIN: an application that reads until the peer's FIN must not wait for a peer that is gone. */
static void keep_alive_after_our_fin_ends_a_dead_connection(void) {
  struct peer peer = open_peer(65535);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE, 1), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_IDLE, 20000), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_INTERVAL, 5000), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_COUNT, 3), 0);
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
  host_poll();
  peer_expect(&peer, FIN | ACK);
  peer_send(&peer, ACK, NULL, 0);
  host_advance(21 * SECOND);
  peer_expect(&peer, ACK);
  peer_send(&peer, ACK, NULL, 0); /* the peer answers */
  host_advance(30 * SECOND);
  event_expect_none();
  host_advance(10 * SECOND);
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  close_interface();
}

/* The stack is closed: what each peer receives, and what counts as not delivered. */
static void closing_the_stack_resets_connections(void) {
  enum { IDLE, WRITTEN, PEER_FINISHED, CLOSED, CLOSED_WRITTEN, FINISHED, DELIVERED, WAYS };
  static const uint8_t bytes[100];
  for (int way = IDLE; way < WAYS; way++) {
    struct peer peer = open_peer(65535);
    if (way == PEER_FINISHED) {
      peer_sends_fin(&peer);
    }
    if (way == WRITTEN || way == CLOSED_WRITTEN) {
      CHECK_EQUAL(tcp_put(peer.handle, bytes, sizeof bytes), sizeof bytes);
    }
    if (way == FINISHED || way == DELIVERED) {
      CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
    } else if (way == CLOSED || way == CLOSED_WRITTEN) {
      CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    }
    bool finishing = way >= CLOSED;
    CHECK_EQUAL(abi_tcp_undelivered(), finishing);
    if (way != IDLE && way != PEER_FINISHED) {
      host_poll();
      if (way == DELIVERED) {
        peer_expect(&peer, FIN | ACK);
        peer_send(&peer, ACK, NULL, 0);
        host_poll();
        CHECK_EQUAL(abi_tcp_undelivered(), 0);
      }
      frames_forget();
    }
    CHECK_EQUAL(abi_tcp_end(), way != DELIVERED);
    host_poll();
    if (way == DELIVERED) {
      peer_expect_silence(&peer);
      peer_send(&peer, RST | ACK, NULL, 0);
      host_poll();
    } else {
      bool quiet = way == IDLE || way == PEER_FINISHED;
      peer_expect(&peer, (quiet ? FIN : RST) | ACK);
      if (quiet) {
        peer_send(&peer, RST | ACK, NULL, 0);
        host_poll();
      }
    }
    CHECK_EQUAL(tw_tcp_connections(), 0);
    if (way != CLOSED && way != CLOSED_WRITTEN) {
      event_expect(ABI_EVENT_CLOSED, peer.handle);
      CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    }
    event_expect_none();
    close_interface();
  }
}

/* The transmit buffer is full when connections are aborted: each reset leaves once there is room. */
static void resets_leave_once_the_buffer_has_room(void) {
  enum { PEERS = 40 };
  static struct peer aborted[PEERS];
  static uint8_t datagram[1400];
  int32_t tun = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(tun, HOST4, 24), 0);
  int32_t listening = tcp_listener(ABI_FAMILY_ANY, NULL, 80, PEERS);
  int32_t udp = udp_socket_open(ABI_FAMILY_ANY, NULL, 5000);
  for (int i = 0; i < PEERS; i++) {
    aborted[i] = peer_new(tun, ABI_FAMILY_IPV4, 80);
    aborted[i].from_port = (uint16_t)(1024 + i);
    peer_open(&aborted[i], listening);
  }
  host_fetch_frames(false);
  for (int32_t size = sizeof datagram; size > 0; size -= sizeof datagram - 1) {
    while (udp_put(udp, ABI_FAMILY_IPV4, PEER4, 9, datagram, size) >= 0) {
    }
  }
  for (int i = 0; i < PEERS; i++) {
    CHECK_EQUAL(abi_tcp_abort(aborted[i].handle), 0);
  }
  host_poll_once(0);
  CHECK_EQUAL(tw_tcp_connections(), PEERS);
  CHECK(host_deadline() - (int64_t)tw_now <= 25 * MILLISECOND + 1);
  host_fetch_frames(true);
  host_advance(100 * MILLISECOND);
  CHECK_EQUAL(tw_tcp_connections(), 0);
  uint32_t resets = 0;
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    resets += segment_parse(&segment, frame.bytes, frame.length) && (segment.flags & RST) != 0;
  }
  CHECK_EQUAL(resets, PEERS);
  CHECK_EQUAL(abi_udp_close(udp), 0);
  while (event_next().kind != 0) {
  }
  CHECK_EQUAL(abi_tcp_close(listening), 0);
  CHECK_EQUAL(abi_interface_remove(tun), 0);
}

/* More connections than one flush visits have something to send, and the transmit buffer is full: the stack asks for no
   polls until there is room, and then sends everything. */
static void connections_that_wait_for_room_cause_no_polls(void) {
  enum { PEERS = 2500 }; /* WORK_SEGMENTS is 2048 */
  static struct peer waiting[PEERS];
  static uint8_t datagram[1400];
  host_reserve_handles(4096);
  int32_t tun = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(tun, HOST4, 24), 0);
  int32_t listening = tcp_listener(ABI_FAMILY_ANY, NULL, 80, PEERS);
  int32_t udp = udp_socket_open(ABI_FAMILY_ANY, NULL, 5000);
  for (int i = 0; i < PEERS; i++) {
    waiting[i] = peer_new(tun, ABI_FAMILY_IPV4, 80);
    waiting[i].from_port = (uint16_t)(1024 + i);
    peer_open(&waiting[i], listening);
  }
  host_fetch_frames(false);
  for (int32_t size = sizeof datagram; size > 0; size -= sizeof datagram - 1) {
    while (udp_put(udp, ABI_FAMILY_IPV4, PEER4, 9, datagram, size) >= 0) {
    }
  }
  for (int i = 0; i < PEERS; i++) {
    CHECK_EQUAL(tcp_put(waiting[i].handle, datagram, 10), 10);
  }
  host_poll(); /* fails if polls are asked for without end */
  host_fetch_frames(true);
  host_advance(100 * MILLISECOND);
  uint32_t sent = 0;
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    sent += segment_parse(&segment, frame.bytes, frame.length) && segment.length == 10;
  }
  CHECK(sent >= PEERS);
  CHECK_EQUAL(abi_udp_close(udp), 0);
  for (int i = 0; i < PEERS; i++) {
    CHECK_EQUAL(abi_tcp_abort(waiting[i].handle), 0);
  }
  host_advance(100 * MILLISECOND);
  frames_forget();
  while (event_next().kind != 0) {
  }
  CHECK_EQUAL(tw_tcp_connections(), 0);
  CHECK_EQUAL(abi_tcp_close(listening), 0);
  CHECK_EQUAL(abi_interface_remove(tun), 0);
}

int main(void) {
  host_start();
  RUN(silent_peer_times_out);
  RUN(orphan_with_a_closed_window_ends);
  RUN(slowly_opening_window_receives_everything);
  RUN(slow_reader_receives_everything);
  RUN(acknowledgements_do_not_keep_an_orphan);
  RUN(connection_without_a_route_times_out);
  RUN(connection_survives_a_short_route_loss);
  RUN(retransmission_timeout_is_limited);
  RUN(keep_alive_after_our_fin_ends_a_dead_connection);
  RUN(closing_the_stack_resets_connections);
  RUN(resets_leave_once_the_buffer_has_room);
  RUN(connections_that_wait_for_room_cause_no_polls);
  return 0;
}
