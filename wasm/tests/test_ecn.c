/* Explicit congestion notification (RFC 3168): what is agreed, which packets are marked, and what marks cause. */
#include "support.h"

#include "tcp/connection.h"
#include "tcp/tcp_flight.h"
#include "abi/handles.h"

#include <string.h>

enum { MSS = 1000, ROUND_TRIP = 40 * MILLISECOND, ECT0 = 2, CE = 3 };

static int32_t interface, listener, family;
static uint8_t data[60000];

static void send_marked(struct peer *peer, uint32_t flags, uint8_t congestion, const void *bytes, uint32_t length) {
  static struct packet packet;
  struct segment segment = {
      .family = peer->family,
      .from = peer->from,
      .to = peer->to,
      .from_port = peer->from_port,
      .to_port = peer->to_port,
      .window = peer->window,
      .sequence = peer->sequence,
      .acknowledgement = flags & ACK ? peer->acknowledgement : 0,
      .flags = flags,
      .congestion = congestion,
      .data = bytes,
      .length = length,
      .options = peer->options,
      .options_length = flags & SYN ? peer->options_length : 0,
  };
  packet_tcp(&packet, &segment);
  interface_receive(peer->interface, packet.bytes, packet.length);
  peer->sequence += length + (flags & SYN ? 1 : 0);
  host_poll();
}

static struct peer new_peer(uint16_t port) {
  static const uint8_t options[] = {2, 4, MSS >> 8, MSS & 255, 1, 1, 4, 2};
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(family == ABI_FAMILY_IPV4 ? interface_set_ipv4(interface, HOST4, 24) : interface_set_ipv6(interface, HOST6), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, family, port);
  peer_option(&peer, options, sizeof options);
  pattern_fill(data, sizeof data, 0);
  host_jump(2 * SECOND);
  frames_forget();
  return peer;
}

static void close_peer(const struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* The peer connects, and asks with these flags. */
static struct peer accepted(uint8_t asks, uint8_t answer) {
  struct peer peer = new_peer(80);
  send_marked(&peer, SYN, asks, NULL, 0);
  CHECK_EQUAL(peer_expect(&peer, SYN | ACK).congestion, answer);
  host_pass(ROUND_TRIP);
  send_marked(&peer, ACK, 0, NULL, 0);
  peer.handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  return peer;
}

static struct tcp_pcb *pcb_of(const struct peer *peer) {
  return ((struct connection *)tw_handle_object(peer->handle, HANDLE_CONNECTION))->pcb;
}

/* Takes the next segment of data, which has these marks. */
static void expect_data(struct peer *peer, uint32_t at, uint8_t congestion) {
  struct segment segment = peer_expect(peer, ACK);
  CHECK_EQUAL(segment.sequence - peer->start - 1, at);
  CHECK_EQUAL(segment.length, MSS);
  CHECK_EQUAL(segment.congestion, congestion);
  pattern_check(segment.data, MSS, at);
}

static void put(const struct peer *peer, uint32_t at, uint32_t length) {
  CHECK_EQUAL(tcp_put(peer->handle, data + at, (int32_t)length), (int32_t)length);
  host_poll();
}

/* Section 6.1.1: both flags ask, and ECE alone agrees. */
static void agreed_with_an_opener(void) {
  struct peer peer = accepted(ECE | CWR, ECE);
  put(&peer, 0, 2 * MSS);
  expect_data(&peer, 0, ECT0);
  expect_data(&peer, MSS, ECT0);
  close_peer(&peer);
  for (uint8_t asks = 0; asks < 3; asks++) {
    peer = accepted(asks == 0 ? 0 : asks == 1 ? ECE : CWR, 0);
    put(&peer, 0, MSS);
    expect_data(&peer, 0, 0);
    close_peer(&peer);
  }
}

static struct peer opened(uint8_t answer) {
  struct peer peer = new_peer(0);
  peer.from_port = 9;
  memset(tw_scratch.bytes, 0, 32);
  memcpy(tw_scratch.bytes, peer.from, family == ABI_FAMILY_IPV4 ? 4 : 16);
  peer.handle = abi_tcp_connect(family | ABI_CONNECT_ECN, 9, 0, 0);
  CHECK(peer.handle > 0);
  host_poll();
  struct segment segment = peer_peek(&peer);
  CHECK_EQUAL(segment.flags, SYN);
  CHECK_EQUAL(segment.congestion, ECE | CWR);
  peer.to_port = segment.from_port;
  peer.start = segment.sequence;
  peer.acknowledgement = segment.sequence + 1;
  if (answer == 1) { /* section 6.1.1.1: without an answer, the next SYN does not ask */
    host_advance(4 * SECOND);
    CHECK_EQUAL(peer_expect(&peer, SYN).congestion, 0);
    frames_forget();
    answer = ECE;
  }
  send_marked(&peer, SYN | ACK, answer, NULL, 0);
  event_expect(ABI_EVENT_CONNECTED, peer.handle);
  CHECK_EQUAL(peer_expect(&peer, ACK).congestion, 0);
  return peer;
}

static void agreed_with_a_listener(void) {
  struct peer peer = opened(ECE);
  put(&peer, 0, MSS);
  expect_data(&peer, 0, ECT0);
  close_peer(&peer);
  const uint8_t refusals[] = {0, ECE | CWR, CWR, 1};
  for (uint32_t i = 0; i < sizeof refusals; i++) {
    peer = opened(refusals[i]);
    put(&peer, 0, MSS);
    expect_data(&peer, 0, 0);
    close_peer(&peer);
  }
}

/* Section 6.1.3: ECE is in each acknowledgement from a marked packet on, until the peer sends CWR. */
static void marks_are_echoed(void) {
  struct peer peer = accepted(ECE | CWR, ECE);
  for (uint32_t i = 0; i < 6; i++) {
    send_marked(&peer, ACK, i == 1 ? CE : i == 4 ? ECT0 | CWR : ECT0, data + i * MSS, MSS);
    host_advance(SECOND);
    CHECK_EQUAL(peer_expect(&peer, ACK).congestion, i >= 1 && i < 4 ? ECE : 0);
  }
  send_marked(&peer, ACK, CE | CWR, data + 6 * MSS, MSS); /* a mark after the reduction is another */
  host_advance(SECOND);
  CHECK_EQUAL(peer_expect(&peer, ACK).congestion, ECE);
  put(&peer, 0, MSS);
  expect_data(&peer, 0, ECT0 | ECE);
  uint8_t got[7 * MSS];
  CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), sizeof got);
  CHECK_EQUAL(memcmp(got, data, sizeof got), 0);
  close_peer(&peer);
}

/* Section 6.1.2: the window is reduced once in a round trip, and the next new segment says so; what is sent again is not
   marked (section 6.1.5). */
static void an_echo_reduces_the_window(void) {
  struct peer peer = accepted(ECE | CWR, ECE);
  put(&peer, 0, 40 * MSS);
  for (uint32_t at = 0; at < 10; at++) {
    expect_data(&peer, at * MSS, ECT0);
  }
  host_pass(ROUND_TRIP);
  uint32_t reduced = 0, end = 10;
  for (uint32_t acknowledged = 1; acknowledged <= 10; acknowledged++) {
    peer.acknowledgement = peer.start + 1 + acknowledged * MSS;
    send_marked(&peer, ACK, ECE, NULL, 0);
    struct segment segment;
    while ((segment = peer_peek(&peer)).flags != 0) {
      CHECK_EQUAL(segment.sequence - peer.start - 1, end * MSS);
      CHECK_EQUAL(segment.congestion, end == 10 ? ECT0 | CWR : ECT0);
      end++;
    }
    reduced = pcb_of(&peer)->ssthresh;
    CHECK_EQUAL(reduced, 7 * MSS); /* as after a loss, RFC 9438, section 4.6 */
  }
  CHECK(end >= 16 && end <= 18);
  CHECK_EQUAL(pcb_of(&peer)->cwnd, 7 * MSS);
  host_advance(SECOND);
  struct segment segment;
  while ((segment = peer_peek(&peer)).flags != 0) {
    CHECK_EQUAL(segment.congestion, segment.sequence - peer.start - 1 < end * MSS ? 0 : ECT0);
  }
  close_peer(&peer);
}

static void over_both(void (*test)(void)) {
  for (family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += ABI_FAMILY_IPV6 - ABI_FAMILY_IPV4) {
    test();
  }
}

#define OVER_BOTH(test) \
  static void test##_over_both(void) { over_both(test); }
OVER_BOTH(agreed_with_an_opener)
OVER_BOTH(agreed_with_a_listener)
OVER_BOTH(marks_are_echoed)
OVER_BOTH(an_echo_reduces_the_window)

int main(void) {
  host_start();
  RUN(agreed_with_an_opener_over_both);
  RUN(agreed_with_a_listener_over_both);
  RUN(marks_are_echoed_over_both);
  RUN(an_echo_reduces_the_window_over_both);
  return 0;
}
