/* Selective acknowledgements on segments with data (RFC 2018, section 4). */
#include "support.h"

#include <string.h>

enum { MSS = 500, LENGTH = 3000 };

static int32_t interface, listener;
static uint8_t data[LENGTH];

static struct peer open_peer(bool stamped) {
  static const uint8_t options[] = {2, 4, MSS >> 8, MSS & 255, 1, 1, 4, 2, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0};
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_option(&peer, options, stamped ? 20 : 8);
  peer_open(&peer, listener);
  pattern_fill(data, LENGTH, 0);
  return peer;
}

static void close_peer(const struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* What leaves while gaps are open names what lies behind them, the latest first, and carries its data whole. */
static void data_carries_blocks(void) {
  for (int stamped = 0; stamped < 2; stamped++) {
    struct peer peer = open_peer(stamped);
    peer_send_at(&peer, ACK, 10, "later", 5);
    peer_send_at(&peer, ACK, 30, "latest", 6);
    host_poll();
    frames_forget();
    CHECK_EQUAL(tcp_put(peer.handle, data, 100), 100);
    host_poll();
    struct segment segment = peer_expect(&peer, ACK);
    CHECK_EQUAL(segment.length, 100);
    pattern_check(segment.data, 100, 0);
    CHECK_EQUAL(segment.acknowledgement, peer.sequence);
    const uint8_t *option = segment_option(&segment, 5);
    CHECK(option != NULL);
    CHECK_EQUAL(option[1], 2 + 2 * 8);
    CHECK_EQUAL(get32(option + 2), peer.sequence + 30);
    CHECK_EQUAL(get32(option + 6), peer.sequence + 36);
    CHECK_EQUAL(get32(option + 10), peer.sequence + 10);
    CHECK_EQUAL(get32(option + 14), peer.sequence + 15);
    CHECK_EQUAL(segment_option(&segment, 8) != NULL, stamped);
    close_peer(&peer);
  }
}

/* No segment becomes larger than the peer takes: a full one names nothing, and none is divided for it. */
static void segments_stay_within_the_mss(void) {
  struct peer peer = open_peer(false);
  peer_send_at(&peer, ACK, 10, "later", 5);
  host_poll();
  frames_forget();
  CHECK_EQUAL(tcp_put(peer.handle, data, 2 * MSS + 495), 2 * MSS + 495);
  host_poll();
  for (uint32_t at = 0, length = MSS; at < 2 * MSS + 495; at += length) {
    struct segment segment = peer_expect(&peer, ACK);
    length = segment.length;
    CHECK_EQUAL(length, at < 2 * MSS ? MSS : 495);
    pattern_check(segment.data, length, at);
    CHECK(length + segment.options_length <= MSS);
    CHECK(segment_option(&segment, 5) == NULL);
  }
  close_peer(&peer);
}

static void without_a_gap_there_is_no_block(void) {
  struct peer peer = open_peer(false);
  peer_send_at(&peer, ACK, 4, "late", 4);
  host_poll();
  peer_send(&peer, ACK, "some", 4);
  peer.sequence += 4;
  host_poll();
  frames_forget();
  CHECK_EQUAL(tcp_put(peer.handle, data, 100), 100);
  host_poll();
  struct segment segment = peer_expect(&peer, ACK);
  CHECK_EQUAL(segment.acknowledgement, peer.sequence);
  CHECK(segment_option(&segment, 5) == NULL);
  char bytes[8];
  CHECK_EQUAL(event_expect_data(peer.handle, bytes, sizeof bytes), 8);
  CHECK_EQUAL(memcmp(bytes, "somelate", 8), 0);
  close_peer(&peer);
}

int main(void) {
  host_start();
  RUN(data_carries_blocks);
  RUN(segments_stay_within_the_mss);
  RUN(without_a_gap_there_is_no_block);
  return 0;
}
