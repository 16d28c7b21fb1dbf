/* SYNs that cross (RFC 9293, section 3.5): both ends connect, and no listener is needed. */
#include "support.h"

#include <string.h>

static int32_t interface;

static struct peer connecting(int32_t family) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  struct peer peer = peer_new(interface, family, 0);
  peer.from_port = 7;
  peer.handle = tcp_open(family, peer.from, 7);
  host_poll();
  struct segment syn = peer_peek(&peer);
  CHECK_EQUAL(syn.flags, SYN);
  peer.to_port = syn.from_port;
  peer.start = syn.sequence;
  peer.acknowledgement = syn.sequence + 1;
  return peer;
}

static void close_peer(const struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* Our SYN is sent again, with an acknowledgement, and nothing counts as lost. */
static void expect_answer(struct peer *peer) {
  struct segment answer = peer_peek(peer);
  CHECK_EQUAL(answer.flags, SYN | ACK);
  CHECK_EQUAL(answer.sequence, peer->start);
  CHECK_EQUAL(answer.acknowledgement, peer->sequence);
}

static void exchange(struct peer *peer) {
  event_expect(ABI_EVENT_CONNECTED, peer->handle);
  frames_forget();
  CHECK_EQUAL(tcp_put(peer->handle, "host", 4), 4);
  host_poll();
  struct segment segment = peer_expect(peer, ACK);
  CHECK_EQUAL(segment.length, 4);
  CHECK_EQUAL(memcmp(segment.data, "host", 4), 0);
  peer_send(peer, ACK, "peer", 4);
  host_poll();
  char bytes[4];
  CHECK_EQUAL(event_expect_data(peer->handle, bytes, sizeof bytes), 4);
  CHECK_EQUAL(memcmp(bytes, "peer", 4), 0);
  CHECK_EQUAL(abi_tcp_information(peer->handle), 0);
  CHECK_EQUAL(tw_scratch.information.congestion_window >= 10 * tw_scratch.information.segment_size, 1);
}

/* Figure 8: the peer acknowledges by a SYN and ACK, as it has sent its own SYN before, or by an ACK alone. */
static void syns_cross(void) {
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    for (int again = 0; again < 2; again++) {
      struct peer peer = connecting(family);
      peer_send(&peer, SYN, NULL, 0);
      host_poll();
      event_expect_none();
      expect_answer(&peer);
      if (again) {
        peer_send_at(&peer, SYN | ACK, -1, NULL, 0);
      } else {
        peer_send(&peer, ACK, NULL, 0);
      }
      host_poll();
      exchange(&peer);
      close_peer(&peer);
    }
  }
}

/* The peer never acknowledges: the answer is repeated, and the connect ends like any other. */
static void an_unanswered_syn_times_out(void) {
  struct peer peer = connecting(ABI_FAMILY_IPV4);
  peer_send(&peer, SYN, NULL, 0);
  host_poll();
  expect_answer(&peer);
  host_advance(2 * (int64_t)SECOND);
  expect_answer(&peer);
  host_advance(200 * (int64_t)SECOND);
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
  frames_forget();
  close_peer(&peer);
}

/* A program that guesses the ports may send a SYN; the answer of the true peer is believed nevertheless. */
static void a_forged_syn_does_not_keep_the_peer_out(void) {
  struct peer peer = connecting(ABI_FAMILY_IPV4), forger = peer;
  forger.sequence = 12345;
  peer_send(&forger, SYN, NULL, 0);
  host_poll();
  expect_answer(&forger);
  peer_send(&peer, SYN | ACK, NULL, 0);
  host_poll();
  exchange(&peer);
  close_peer(&peer);
}

int main(void) {
  host_start();
  RUN(syns_cross);
  RUN(an_unanswered_syn_times_out);
  RUN(a_forged_syn_does_not_keep_the_peer_out);
  return 0;
}
