/* Shared by the programs that test SENT_AT_ONCE: what tcp_send and tcp_received send within the call, when the embedder hands
   in the time. Each program has its own state, one tun interface and one listener. */
#ifndef SUPPORT_AT_ONCE_H
#define SUPPORT_AT_ONCE_H

#include "support.h"

#include <string.h>

enum { LARGE = 32768, TICK = 25 * MILLISECOND };

static int32_t interface, listener;
static uint8_t stream[1 << 20], got[1 << 20];

static void (*current)(int32_t family);

static inline void over_both(void) {
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

static inline struct peer open_peer(int32_t family, uint16_t port) {
  static const uint8_t options[] = {2, 4, 5, 0xa0, 1, 3, 3, 5}; /* MSS 1440, and windows in steps of 32 bytes */
  struct peer peer = peer_new(interface, family, 80);
  peer.from_port = port;
  peer_option(&peer, options, sizeof options);
  peer_open(&peer, listener);
  CHECK_EQUAL(abi_tcp_accepted(peer.handle), 0);
  return peer;
}

/* What a call has sent at once. */
static inline uint32_t sent_at_once(void) { return tw_control[ABI_CONTROL_SENT_AT_ONCE]; }

static inline uint32_t queued_bytes(void) { return interface_words(interface)[ABI_BLOCK_TRANSMIT_LENGTH]; }

/* Writes the next bytes of the stream, which have to be taken, at this time. */
static inline void write_at(double time, const struct peer *peer, uint32_t from, uint32_t length) {
  CHECK_EQUAL(tcp_put_at(time, peer->handle, stream + from, (int32_t)length), length);
}

/* Nothing has left, and the control block requires a poll. */
static inline void expect_unsent(uint32_t before) {
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK_EQUAL(queued_bytes(), before);
}

static inline void expect_data(struct peer *peer, uint32_t from, uint32_t length) {
  struct segment segment = peer_expect(peer, ACK);
  CHECK_EQUAL(segment.sequence, peer->start + 1 + from);
  CHECK_EQUAL(segment.acknowledgement, peer->sequence);
  CHECK_EQUAL(segment.length, length);
  CHECK(memcmp(segment.data, stream + from, length) == 0);
}

static inline void expect_quiet(const struct peer *peer) {
  host_poll();
  peer_expect_silence(peer);
}

static inline void acknowledge(struct peer *peer) {
  peer_send(peer, ACK, NULL, 0);
  host_poll();
}

/* Receives and acknowledges segments until the stream has arrived up to `to`; each byte of it comes once. */
static inline void expect_stream(struct peer *peer, uint32_t from, uint32_t to) {
  uint32_t first = from;
  for (int rounds = 0; from < to; rounds++) {
    CHECK(rounds < 1000);
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

static inline void end(struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  host_poll();
  for (struct event event; (event = event_next()).kind != 0;) {
    CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
  }
  frames_forget();
}

#define RUN_OVER_BOTH(test) (current = (test), test_run(#test, over_both))

#endif
