/* Which segments of an open connection are taken, and what of them (RFC 9293, section 3.10.7.4; RFC 5961, section 5). */
#include "support.h"

#include <string.h>

enum { WINDOW = 65535 };

static int32_t interface, listener;

static struct peer open_peer(void) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_open(&peer, listener);
  return peer;
}

static void close_peer(const struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* Lets the host send so many bytes, and takes and acknowledges them. */
static void host_sends(struct peer *peer, uint32_t length) {
  static uint8_t bytes[WINDOW];
  pattern_fill(bytes, length, 0);
  CHECK_EQUAL(tcp_put(peer->handle, bytes, (int32_t)length), (int32_t)length);
  host_poll();
  for (uint32_t got = 0; got < length;) {
    struct segment segment = peer_expect(peer, ACK);
    pattern_check(segment.data, segment.length, got);
    got += segment.length;
    peer_send(peer, ACK, NULL, 0);
    host_poll();
  }
}

static void expect_data(const struct peer *peer, const char *text) {
  char got[100];
  CHECK_EQUAL(event_expect_data(peer->handle, got, sizeof got), strlen(text));
  CHECK_EQUAL(memcmp(got, text, strlen(text)), 0);
}

/* Sends data with an acknowledgement so many numbers from the right one; it is taken, or dropped and answered. */
static void data_with_acknowledgement(struct peer *peer, int32_t distance, uint32_t flags, bool taken) {
  struct peer forged = *peer;
  forged.acknowledgement += (uint32_t)distance;
  peer_send(&forged, flags, "data", 4);
  host_poll();
  if (taken) {
    expect_data(peer, "data");
    peer->sequence += 4;
    CHECK_EQUAL(abi_tcp_received(0, peer->handle, 4), 0);
    host_advance(30 * MILLISECOND);
  }
  event_expect_none();
  struct segment answer = peer_expect(peer, ACK);
  CHECK_EQUAL(answer.acknowledgement, peer->sequence);
  CHECK_EQUAL(answer.length, 0);
  peer_expect_silence(peer);
}

static void acknowledgement_beyond_what_was_sent(void) {
  struct peer peer = open_peer();
  host_sends(&peer, 1000);
  data_with_acknowledgement(&peer, 1, ACK, false);
  data_with_acknowledgement(&peer, 0x7fffffff, ACK, false);
  data_with_acknowledgement(&peer, 0, ACK, true);
  close_peer(&peer);
}

static void acknowledgement_older_than_the_window(void) {
  struct peer peer = open_peer();
  host_sends(&peer, 3000);
  data_with_acknowledgement(&peer, -WINDOW - 1, ACK, false);
  data_with_acknowledgement(&peer, INT32_MIN, ACK, false);
  data_with_acknowledgement(&peer, -WINDOW, ACK, true);
  data_with_acknowledgement(&peer, -1, ACK, true);
  close_peer(&peer);
}

static void data_without_acknowledgement(void) {
  struct peer peer = open_peer();
  data_with_acknowledgement(&peer, 0, PSH, false);
  data_with_acknowledgement(&peer, 0, FIN, false);
  data_with_acknowledgement(&peer, 0, ACK, true);
  close_peer(&peer);
}

/* What is not acceptable keeps no silent connection alive, either. */
static void garbage_does_not_answer_keep_alives(void) {
  struct peer peer = open_peer();
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE, 1), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_IDLE, 1000), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_INTERVAL, 1000), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_COUNT, 2), 0);
  for (int i = 0; i < 40; i++) {
    host_advance(100 * MILLISECOND);
    struct peer forged = peer;
    forged.acknowledgement += 100;
    peer_send(&forged, ACK, NULL, 0);
  }
  host_poll();
  event_expect(ABI_EVENT_CLOSED, peer.handle);
  frames_forget();
  close_peer(&peer);
}

/* A segment that acknowledges less than another has nothing to say about the window, though its data may be new. */
static void an_older_acknowledgement_moves_no_window(void) {
  struct peer peer = open_peer();
  host_sends(&peer, 1000);
  peer_send(&peer, ACK, "some", 4);
  struct peer late = peer;
  late.acknowledgement -= 500;
  late.window = 0;
  peer_send(&late, ACK, "data", 4);
  host_poll();
  expect_data(&peer, "somedata");
  peer.sequence += 4;
  CHECK_EQUAL(peer_expect(&peer, ACK).acknowledgement, peer.sequence);
  host_sends(&peer, 1000);
  close_peer(&peer);
}

static void the_same_segment_closes_the_window(void) {
  struct peer peer = open_peer();
  host_sends(&peer, 1000);
  peer.window = 2000; /* smaller, and may be older: it is not believed */
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  host_sends(&peer, 3000);
  struct peer closed = peer;
  closed.window = 0;
  peer_send(&closed, ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(tcp_put(peer.handle, "late", 4), 4);
  host_poll();
  peer_expect_silence(&peer);
  peer.window = WINDOW;
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  struct segment segment = peer_expect(&peer, ACK);
  CHECK_EQUAL(segment.length, 4);
  CHECK_EQUAL(memcmp(segment.data, "late", 4), 0);
  close_peer(&peer);
}

static void a_filled_gap_is_acknowledged_at_once(void) {
  struct peer peer = open_peer();
  peer_send_at(&peer, ACK, 4, "late", 4);
  host_poll();
  CHECK_EQUAL(peer_expect(&peer, ACK).acknowledgement, peer.sequence);
  peer_send_at(&peer, ACK, 12, "last", 4);
  host_poll();
  CHECK_EQUAL(peer_expect(&peer, ACK).acknowledgement, peer.sequence);
  peer_send_at(&peer, ACK, 0, "some", 4); /* one gap of two */
  host_poll();
  CHECK_EQUAL(peer_expect(&peer, ACK).acknowledgement, peer.sequence + 8);
  peer_send_at(&peer, ACK, 8, "more", 4);
  host_poll();
  CHECK_EQUAL(peer_expect(&peer, ACK).acknowledgement, peer.sequence + 16);
  peer_expect_silence(&peer);
  expect_data(&peer, "somelatemorelast");
  host_advance(100 * MILLISECOND);
  peer_expect_silence(&peer);
  close_peer(&peer);
}

int main(void) {
  host_start();
  RUN(acknowledgement_beyond_what_was_sent);
  RUN(acknowledgement_older_than_the_window);
  RUN(data_without_acknowledgement);
  RUN(garbage_does_not_answer_keep_alives);
  RUN(an_older_acknowledgement_moves_no_window);
  RUN(the_same_segment_closes_the_window);
  RUN(a_filled_gap_is_acknowledged_at_once);
  return 0;
}
