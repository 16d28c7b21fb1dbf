/* The life of a connection from both ends: opened, refused, closed in every order, reset, closed with unread data, never
   accepted. */
#include "support.h"
#include "tcp/connection.h"

#include <string.h>

static int32_t interface;

static void with_interface(void (*test)(int32_t family)) {
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    interface = interface_open(ABI_KIND_TUN, 1500);
    CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
    CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
    host_poll();
    frames_forget();
    test(family);
    host_poll();
    CHECK_EQUAL(abi_interface_remove(interface), 0);
    host_expect_clean();
  }
}

static struct peer accepted(int32_t family, int32_t *listener) {
  *listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  CHECK(*listener > 0);
  struct peer peer = peer_new(interface, family, 80);
  peer_open(&peer, *listener);
  CHECK_EQUAL(abi_tcp_accepted(peer.handle), 0);
  return peer;
}

static void active_open_connects(int32_t family) {
  struct peer peer = peer_new(interface, family, 0);
  peer.from_port = 7;
  peer.handle = tcp_open(family, peer.from, 7);
  CHECK(peer.handle > 0);
  CHECK_EQUAL(tcp_put(peer.handle, "early", 5), ABI_ERROR_NOT_CONNECTED);
  peer_answer(&peer);
  CHECK_EQUAL(tcp_put(peer.handle, "hello", 5), 5);
  host_poll();
  struct segment segment = peer_expect(&peer, ACK);
  CHECK_EQUAL(segment.length, 5);
  CHECK(memcmp(segment.data, "hello", 5) == 0);
  peer_send(&peer, ACK, "world", 5);
  host_poll();
  uint8_t data[8];
  CHECK_EQUAL(event_expect_data(peer.handle, data, sizeof data), 5);
  CHECK(memcmp(data, "world", 5) == 0);
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, 6), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, 5), 0);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  peer_finish(&peer);
}

static void active_open_is_refused(int32_t family) {
  struct peer peer = peer_new(interface, family, 0);
  peer.from_port = 7;
  peer.handle = tcp_open(family, peer.from, 7);
  host_poll();
  struct segment syn = peer_peek(&peer);
  CHECK_EQUAL(syn.flags, SYN);
  peer.to_port = syn.from_port;
  peer.acknowledgement = syn.sequence; /* acknowledges another sequence number: not an answer to this SYN */
  peer_send(&peer, RST | ACK, NULL, 0);
  host_poll();
  event_expect_none();
  peer.acknowledgement = syn.sequence + 1;
  peer_send(&peer, RST | ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_REFUSED);
  CHECK_EQUAL(tcp_put(peer.handle, "late", 4), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
}

static void closed_port_resets(int32_t family) {
  struct peer peer = peer_new(interface, family, 81);
  peer_send(&peer, SYN, NULL, 0);
  host_poll();
  CHECK_EQUAL(peer_peek(&peer).flags, RST | ACK);
  event_expect_none();
}

static void reset_by_the_peer_is_reported(int32_t family) {
  int32_t listener;
  struct peer peer = accepted(family, &listener);
  peer_send_at(&peer, RST, 2000000, NULL, 0); /* beyond the window: ignored, RFC 5961, section 3.2 */
  host_poll();
  event_expect_none();
  peer_send(&peer, RST, NULL, 0);
  host_poll();
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_RESET);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
}

static void reset_before_accept_frees_the_backlog_slot(int32_t family) {
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 1);
  struct peer peer = peer_new(interface, family, 80);
  for (int round = 0; round < 4; round++) { /* each time its backlog slot must be free again */
    peer.from_port++;
    peer_send(&peer, SYN, NULL, 0);
    host_poll();
    peer_expect(&peer, SYN | ACK);
    peer_send(&peer, RST, NULL, 0);
    host_poll();
    event_expect_none();
  }
  peer.from_port++;
  peer_open(&peer, listener);
  peer_send(&peer, RST, NULL, 0);
  host_poll();
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_RESET);
  CHECK_EQUAL(abi_tcp_accepted(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  peer.from_port++;
  peer_open(&peer, listener);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  host_poll();
  peer_expect(&peer, RST | ACK);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
}

static void half_close_by_the_stack_first(int32_t family) {
  int32_t listener;
  struct peer peer = accepted(family, &listener);
  CHECK_EQUAL(tcp_put(peer.handle, "last bytes", 10), 10);
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
  CHECK_EQUAL(tcp_put(peer.handle, "more", 4), ABI_ERROR_NOT_CONNECTED);
  host_poll();
  struct segment segment = peer_expect(&peer, FIN | ACK);
  CHECK_EQUAL(segment.length, 10);
  CHECK(memcmp(segment.data, "last bytes", 10) == 0);
  static uint8_t sent[100000], data[100000];
  pattern_fill(sent, sizeof sent, 0);
  uint32_t got = 0;
  for (uint32_t at = 0; at < sizeof sent; at += 1000) {
    peer_send(&peer, ACK, sent + at, 1000);
    host_poll();
    got += event_expect_data(peer.handle, data + got, sizeof data - got);
    CHECK_EQUAL(abi_tcp_received(0, peer.handle, (int32_t)(got - at)), 0);
  }
  CHECK_EQUAL(got, sizeof sent);
  pattern_check(data, got, 0);
  peer_send(&peer, FIN | ACK, NULL, 0);
  host_poll();
  event_expect(ABI_EVENT_EOF, peer.handle);
  frames_forget();
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
}

static void half_close_by_the_peer_first(int32_t family) {
  int32_t listener;
  struct peer peer = accepted(family, &listener);
  peer_send(&peer, FIN | ACK, "question", 8);
  host_poll();
  uint8_t data[8];
  CHECK_EQUAL(event_expect_data(peer.handle, data, sizeof data), 8);
  CHECK(memcmp(data, "question", 8) == 0);
  event_expect(ABI_EVENT_EOF, peer.handle);
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, 8), 0);
  host_poll();
  CHECK_EQUAL(peer_expect(&peer, ACK).acknowledgement, peer.sequence);
  CHECK_EQUAL(tcp_put(peer.handle, "answer", 6), 6);
  host_poll();
  struct segment segment = peer_expect(&peer, ACK);
  CHECK_EQUAL(segment.length, 6);
  CHECK(memcmp(segment.data, "answer", 6) == 0);
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
  host_poll();
  peer_expect(&peer, FIN | ACK);
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, 0);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
}

static void simultaneous_close(int32_t family) {
  int32_t listener;
  struct peer peer = accepted(family, &listener);
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), 0);
  peer_send(&peer, FIN | ACK, NULL, 0); /* crosses the FIN of the stack, so that it does not acknowledge it */
  host_poll();
  event_expect(ABI_EVENT_EOF, peer.handle);
  struct segment segment = peer_expect(&peer, FIN | ACK);
  CHECK_EQUAL(segment.length, 0);
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  frames_forget();
  abi_statistics();
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
}

/* Data that the application has not read when it closes: a reset in the place of the FIN (RFC 2525, section 2.17), as soon as
   what was written has arrived. */
static void close_with_unread_data_resets(int32_t family) {
  for (int written = 0; written < 2; written++) {
    int32_t listener;
    struct peer peer = accepted(family, &listener);
    peer_send(&peer, ACK, "unread", 6);
    host_poll();
    uint8_t data[8];
    CHECK_EQUAL(event_expect_data(peer.handle, data, sizeof data), 6);
    CHECK_EQUAL(memcmp(data, "unread", 6), 0);
    CHECK_EQUAL(abi_tcp_received(0, peer.handle, 5), 0);
    host_advance(100 * MILLISECOND);
    CHECK_EQUAL(peer_expect(&peer, ACK).acknowledgement, peer.sequence);
    if (written) {
      CHECK_EQUAL(tcp_put(peer.handle, "answer", 6), 6);
    }
    CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    host_poll();
    if (written) {
      struct segment answer = peer_expect(&peer, ACK);
      CHECK_EQUAL(answer.length, 6);
      CHECK_EQUAL(memcmp(answer.data, "answer", 6), 0);
      peer_expect_silence(&peer);
      peer_send(&peer, ACK, NULL, 0);
      host_poll();
    }
    CHECK_EQUAL(peer_expect(&peer, RST | ACK).sequence, peer.acknowledgement);
    CHECK_EQUAL(abi_tcp_close(listener), 0);
  }
}

/* Data that arrives after the close. */
static void close_resets_late_data(int32_t family) {
  int32_t listener;
  struct peer peer = accepted(family, &listener);
  peer_send(&peer, ACK, "read", 4);
  host_poll();
  uint8_t data[8];
  CHECK_EQUAL(event_expect_data(peer.handle, data, sizeof data), 4);
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, 4), 0);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  host_poll();
  struct segment fin = peer_expect(&peer, FIN | ACK);
  CHECK_EQUAL(fin.acknowledgement, peer.sequence);
  peer_send(&peer, ACK, "late", 4);
  host_poll();
  event_expect_none();
  CHECK((peer_peek(&peer).flags & RST) != 0); /* the application does not read it */
  CHECK_EQUAL(abi_tcp_close(listener), 0);
}

/* What was written before the close is delivered although the peer goes on sending. */
static void orphan_delivers_what_was_written(int32_t family) {
  int32_t listener;
  static uint8_t sent[60000], data[60000];
  struct peer peer = accepted(family, &listener);
  pattern_fill(sent, sizeof sent, 0);
  CHECK_EQUAL(tcp_put(peer.handle, sent, sizeof sent), sizeof sent);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  uint32_t got = 0;
  bool finished = false;
  for (int round = 0; round < 1000 && !finished; round++) {
    host_poll();
    struct segment segment;
    while ((segment = peer_peek(&peer)).flags != 0) {
      CHECK((segment.flags & RST) == 0);
      if (segment.sequence == peer.acknowledgement) {
        CHECK(got + segment.length <= sizeof data);
        memcpy(data + got, segment.data, segment.length);
        got += segment.length;
        finished = (segment.flags & FIN) != 0;
        peer.acknowledgement += segment.length + finished;
      }
    }
    if (!finished) {
      peer_send(&peer, ACK, "noise", 5);
    }
    host_advance(50 * MILLISECOND);
  }
  CHECK_EQUAL(got, sizeof sent);
  pattern_check(data, got, 0);
  peer_send(&peer, FIN | ACK, NULL, 0);
  host_poll();
  frames_forget();
  event_expect_none();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
}

static void abort_resets_and_frees(int32_t family) {
  int32_t listener;
  struct peer peer = accepted(family, &listener);
  CHECK_EQUAL(tcp_put(peer.handle, "never read", 10), 10);
  peer_send(&peer, ACK, "nor this", 8);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), ABI_ERROR_BAD_HANDLE);
  host_poll();
  CHECK((peer_peek(&peer).flags & RST) != 0);
  event_expect_none();
  frames_forget();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
}

static void backlog_bounds_pending_connections(int32_t family) {
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 2);
  struct peer peers[3];
  for (uint16_t i = 0; i < 3; i++) {
    peers[i] = peer_new(interface, family, 80);
    peers[i].from_port = (uint16_t)(40000 + i);
  }
  peer_open(&peers[0], listener);
  peer_open(&peers[1], listener);
  peer_send_at(&peers[2], SYN, 0, NULL, 0);
  host_poll();
  peer_expect_silence(&peers[2]); /* it sends its SYN again */
  CHECK_EQUAL(abi_tcp_accepted(peers[0].handle), 0);
  CHECK_EQUAL(abi_tcp_accepted(peers[0].handle), 0); /* two calls free one slot only */
  peer_open(&peers[2], listener);
  struct peer fourth = peer_new(interface, family, 80);
  fourth.from_port = 40003;
  peer_send_at(&fourth, SYN, 0, NULL, 0);
  host_poll();
  peer_expect_silence(&fourth);
  for (int i = 0; i < 3; i++) {
    CHECK_EQUAL(abi_tcp_abort(peers[i].handle), 0);
  }
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  host_poll();
}

/* A listener is closed while one handshake is half done and another connection waits to be accepted. */
static void closing_a_listener_resets_pending_connections(int32_t family) {
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer half = peer_new(interface, family, 80), waiting = half;
  waiting.from_port++;
  peer_open(&waiting, listener);
  peer_send(&half, SYN, NULL, 0);
  host_poll();
  peer_expect(&half, SYN | ACK);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  peer_send(&half, ACK, NULL, 0);
  host_poll();
  CHECK((peer_peek(&half).flags & RST) != 0);
  event_expect_none();
  peer_send(&waiting, ACK, "still", 5);
  host_poll();
  uint8_t data[8];
  CHECK_EQUAL(event_expect_data(waiting.handle, data, sizeof data), 5);
  CHECK_EQUAL(abi_tcp_accepted(waiting.handle), 0);
  CHECK_EQUAL(abi_tcp_received(0, waiting.handle, 5), 0);
  CHECK_EQUAL(abi_tcp_close(waiting.handle), 0);
  peer_finish(&waiting);
  int32_t again = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8); /* TIME-WAIT does not keep the port */
  CHECK(again > 0);
  CHECK_EQUAL(abi_tcp_close(again), 0);
}

/* A peer that acknowledges our FIN and never sends its own. */
static void orphan_in_fin_wait_2_times_out(int32_t family) {
  int32_t listener;
  struct peer peer = accepted(family, &listener);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  host_poll();
  peer_expect(&peer, FIN | ACK);
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(tw_tcp_connections(), 1);
  host_advance(10 * SECOND);
  CHECK_EQUAL(tw_tcp_connections(), 1);
  host_advance(30 * SECOND);
  CHECK_EQUAL(tw_tcp_connections(), 0);
}

static void close_during_connect(int32_t family) {
  struct peer peer = peer_new(interface, family, 0);
  int32_t handle = tcp_open(family, peer.from, 7);
  host_poll();
  CHECK_EQUAL(abi_tcp_shutdown(handle), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(abi_tcp_close(handle), 0);
  host_poll();
  handle = tcp_open(family, peer.from, 7);
  CHECK_EQUAL(abi_tcp_close(handle), 0);
  host_poll();
  frames_forget();
  event_expect_none();
}

/* RFC 9293, section 3.10.7.3: an answer to the SYN itself comes after a SYN that crossed it. */
static void simultaneous_open_stays_consistent(int32_t family) {
  struct peer peer = peer_new(interface, family, 0);
  peer.from_port = 7;
  peer.handle = tcp_open(family, peer.from, 7);
  host_poll();
  struct segment syn = peer_peek(&peer);
  peer.to_port = syn.from_port;
  peer.acknowledgement = syn.sequence + 1;
  peer_send_at(&peer, SYN, 0, NULL, 0);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_tcp_shutdown(peer.handle), ABI_ERROR_NOT_CONNECTED);
  peer_send(&peer, SYN | ACK, NULL, 0);
  host_poll();
  event_expect(ABI_EVENT_CONNECTED, peer.handle);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  host_poll();
}

#define TEST(name) \
  static void name##_over_both(void) { with_interface(name); }

TEST(active_open_connects)
TEST(active_open_is_refused)
TEST(closed_port_resets)
TEST(reset_by_the_peer_is_reported)
TEST(reset_before_accept_frees_the_backlog_slot)
TEST(half_close_by_the_stack_first)
TEST(half_close_by_the_peer_first)
TEST(simultaneous_close)
TEST(close_with_unread_data_resets)
TEST(close_resets_late_data)
TEST(orphan_delivers_what_was_written)
TEST(abort_resets_and_frees)
TEST(backlog_bounds_pending_connections)
TEST(closing_a_listener_resets_pending_connections)
TEST(orphan_in_fin_wait_2_times_out)
TEST(close_during_connect)
TEST(simultaneous_open_stays_consistent)

int main(void) {
  host_start();
  RUN(active_open_connects_over_both);
  RUN(active_open_is_refused_over_both);
  RUN(closed_port_resets_over_both);
  RUN(reset_by_the_peer_is_reported_over_both);
  RUN(reset_before_accept_frees_the_backlog_slot_over_both);
  RUN(half_close_by_the_stack_first_over_both);
  RUN(half_close_by_the_peer_first_over_both);
  RUN(simultaneous_close_over_both);
  RUN(close_with_unread_data_resets_over_both);
  RUN(close_resets_late_data_over_both);
  RUN(orphan_delivers_what_was_written_over_both);
  RUN(abort_resets_and_frees_over_both);
  RUN(backlog_bounds_pending_connections_over_both);
  RUN(closing_a_listener_resets_pending_connections_over_both);
  RUN(orphan_in_fin_wait_2_times_out_over_both);
  RUN(close_during_connect_over_both);
  RUN(simultaneous_open_stays_consistent_over_both);
  return 0;
}
