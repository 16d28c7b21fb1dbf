/* Segments that are not acceptable are answered with what is expected (RFC 9293, section 3.10.7.4; RFC 5961). Such an answer
   may be unacceptable, too: answers to answers have to end. */
#include "support.h"

#include "lwip/stats.h"

#include <string.h>

enum { OFTEN = 20, STREAM = 16 << 20, CHUNK = 32768 };

static int32_t interface, listener;

static struct peer new_peer(void) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  return peer_new(interface, ABI_FAMILY_IPV4, 80);
}

static struct peer open_peer(void) {
  struct peer peer = new_peer();
  peer_open(&peer, listener);
  return peer;
}

static void close_peer(const struct peer *peer) {
  host_poll();
  event_expect_none();
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* How many acknowledgements the host has sent, each of which has to name what it expects. */
static uint32_t answers(const struct peer *peer) {
  uint32_t count = 0;
  host_poll();
  for (struct segment segment; (segment = peer_peek(peer)).flags != 0; count++) {
    CHECK_EQUAL(segment.flags, ACK);
    CHECK_EQUAL(segment.acknowledgement, peer->sequence);
  }
  return count;
}

/* --- Two programs of a host that write to each other ------------------------------------------------------------- */

static uint8_t stream[STREAM + CHUNK];

static uint32_t write_all(int32_t handle, uint32_t at) {
  for (int32_t taken; (taken = tcp_put(handle, stream + at, CHUNK)) > 0; at += (uint32_t)taken) {
    CHECK(at < STREAM);
    host_advance(100 * MILLISECOND);
  }
  return at;
}

/* Neither reads, until both windows are closed, and a minute longer. Then each reads all that the other wrote. */
static void both_windows_closed(void) {
  interface = interface_open(ABI_KIND_LOOPBACK, 65535);
  CHECK_EQUAL(interface_set_ipv4(interface, LOCAL4, 8), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  int32_t ends[2] = {tcp_open(ABI_FAMILY_IPV4, LOCAL4, 80)};
  host_poll();
  for (struct event event; (event = event_next()).kind != 0;) {
    ends[1] = event.kind == ABI_EVENT_ACCEPTED ? event.value : ends[1];
  }
  CHECK(ends[0] > 0 && ends[1] > 0);
  pattern_fill(stream, sizeof stream, 0);
  uint32_t written[2] = {write_all(ends[0], 0), 0}, read[2] = {0}, unread[2] = {0};
  written[1] = write_all(ends[1], 0);
  host_advance(10 * SECOND);
  uint32_t before = lwip_stats.tcp.recv;
  host_advance(60 * SECOND);
  CHECK(lwip_stats.tcp.recv - before < 100); /* window probes, the longest wait between two is 6 s */
  while (read[0] < written[1] || read[1] < written[0]) {
    struct event event;
    while ((event = event_next()).kind != 0) {
      if (event.kind == ABI_EVENT_DATA) {
        int end = event.handle == ends[1];
        pattern_check(event.payload, (uint32_t)event.value, read[end]);
        read[end] += (uint32_t)event.value;
        unread[end] += (uint32_t)event.value;
      } else {
        CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
      }
    }
    CHECK(unread[0] + unread[1] > 0);
    for (int end = 0; end < 2; end++) {
      CHECK_EQUAL(abi_tcp_received(host_clock_or_none(), ends[end], (int32_t)unread[end]), 0);
      unread[end] = 0;
    }
    host_advance(10 * SECOND);
  }
  while (event_next().kind == ABI_EVENT_WRITABLE) {
  }
  CHECK_EQUAL(abi_tcp_abort(ends[0]), 0);
  CHECK_EQUAL(abi_tcp_abort(ends[1]), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* --- One segment of each kind ------------------------------------------------------------------------------------ */

enum kind { BEHIND, AHEAD, NOT_SENT_YET, CALL, INEXACT_RESET, KINDS };

static void send_wrong(struct peer peer, enum kind kind) {
  switch (kind) {
    case BEHIND:
      peer_send_at(&peer, ACK, -1000, NULL, 0);
      return;
    case AHEAD:
      peer_send_at(&peer, ACK, 1000000, NULL, 0);
      return;
    case NOT_SENT_YET:
      peer.acknowledgement += 1000;
      peer_send_at(&peer, ACK, 0, NULL, 0);
      return;
    case CALL: /* RFC 5961, section 4 */
      peer_send_at(&peer, SYN, 1000, NULL, 0);
      return;
    default: /* RFC 5961, section 3 */
      peer_send_at(&peer, RST, 1000, NULL, 0);
  }
}

/* RFC 5961, section 7. A peer that answers each answer like this comes to an end, too. */
static void answers_are_limited(void) {
  for (enum kind kind = 0; kind < KINDS; kind++) {
    struct peer peer = open_peer();
    for (uint32_t second = 0; second < 3; second++) { /* the first one of a connection is answered, too */
      for (uint32_t i = 0; i < OFTEN; i++) {
        send_wrong(peer, kind);
      }
      CHECK_EQUAL(answers(&peer), 1);
      for (uint32_t i = 0; i < OFTEN; i++) {
        host_advance(20 * MILLISECOND);
        send_wrong(peer, kind);
        CHECK_EQUAL(answers(&peer), 0);
      }
      host_advance(600 * MILLISECOND);
    }
    close_peer(&peer);
  }
}

/* RFC 1122, section 4.2.3.6: a probe that is not answered costs the connection. Some peers send them every tenth of a second;
   whatever else was answered just before. */
static void probes_are_answered(void) {
  struct peer peer = open_peer();
  for (uint32_t i = 0; i < OFTEN; i++) {
    send_wrong(peer, BEHIND);
    host_advance(100 * MILLISECOND);
    frames_forget();
    peer_send_at(&peer, ACK, -1, NULL, 0);
    CHECK_EQUAL(answers(&peer), 1);
  }
  for (uint32_t i = 0; i < OFTEN; i++) { /* with the byte that old ones have, RFC 1122 */
    peer_send_at(&peer, ACK, -1, "", 1);
    CHECK_EQUAL(answers(&peer), 1);
  }
  close_peer(&peer);
}

/* Where the window is closed, the next sequence number is the acceptable one, and there is nothing to answer. Data that is
   sent again because an acknowledgement was lost, and probes of the window (section 3.8.6.1), are answered each time. */
static void a_closed_window(void) {
  enum { WINDOW = 65535 }; /* without scaling */
  static uint8_t data[WINDOW + 1], got[sizeof data];
  struct peer peer = open_peer();
  pattern_fill(data, sizeof data, 0);
  for (uint32_t at = 0, size; at < WINDOW; at += size) {
    size = WINDOW - at < 1000 ? WINDOW - at : 1000;
    peer_send(&peer, ACK, data + at, size);
  }
  host_advance(100 * MILLISECOND);
  CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), WINDOW);
  pattern_check(got, WINDOW, 0);
  frames_forget();
  for (uint32_t i = 0; i < OFTEN; i++) {
    peer_send_at(&peer, ACK, 0, NULL, 0);
    CHECK_EQUAL(answers(&peer), 0);
    peer_send_at(&peer, ACK, 0, data + WINDOW, 1);
    CHECK_EQUAL(answers(&peer), 1);
    peer_send_at(&peer, ACK, -1000, data + WINDOW - 1000, 1000);
    CHECK_EQUAL(answers(&peer), 1);
  }
  CHECK_EQUAL(abi_tcp_received(host_clock_or_none(), peer.handle, WINDOW), 0);
  host_poll();
  CHECK_EQUAL(peer_expect(&peer, ACK).window, WINDOW);
  peer_send(&peer, FIN | ACK, data + WINDOW, 1);
  CHECK_EQUAL(answers(&peer), 1);
  CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), 1);
  pattern_check(got, 1, WINDOW);
  event_expect(ABI_EVENT_EOF, peer.handle);
  for (uint32_t i = 0; i < OFTEN; i++) {
    peer_send_at(&peer, FIN | ACK, -2, data + WINDOW, 1);
    CHECK_EQUAL(answers(&peer), 1);
  }
  close_peer(&peer);
}

/* What lies outside of the window belongs to another connection of the same ports, whatever it acknowledges: it neither
   opens the one that is being opened nor resets it. */
static void a_handshake_within_the_window(void) {
  uint8_t got[2];
  for (int32_t wrong = 0; wrong < 2; wrong++) {
    struct peer peer = new_peer();
    peer_send(&peer, SYN, NULL, 0);
    host_poll();
    peer_expect(&peer, SYN | ACK);
    peer.acknowledgement += (uint32_t)wrong;
    for (int32_t way = 0; way < 2; way++) {
      peer_send_at(&peer, ACK, way ? -1000 : 1000000, "not yours", 9);
      CHECK_EQUAL(answers(&peer), way ? 0 : 1);
    }
    event_expect_none();
    peer.acknowledgement -= (uint32_t)wrong;
    peer_send(&peer, ACK, "ok", 2);
    host_poll();
    peer.handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
    CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), 2);
    CHECK(memcmp(got, "ok", 2) == 0);
    close_peer(&peer);
  }
}

int main(void) {
  host_start();
  RUN(both_windows_closed);
  RUN(answers_are_limited);
  RUN(probes_are_answered);
  RUN(a_closed_window);
  RUN(a_handshake_within_the_window);
  return 0;
}
