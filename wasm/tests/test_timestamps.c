/* Timestamps (RFC 7323): which segments carry one, and which arrive too late to be taken. */
#include "support.h"

#include <string.h>

enum { VALUE = 1000000, DAY = 86400 };

static int32_t interface, listener;

static void stamp(struct peer *peer, uint32_t value) { put32(peer->options + 4, value); }

static struct peer open_peer(void) {
  static const uint8_t option[12] = {1, 1, 8, 10};
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_option(&peer, option, sizeof option);
  stamp(&peer, VALUE);
  peer_send(&peer, SYN, NULL, 0);
  host_poll();
  struct segment segment = peer_expect(&peer, SYN | ACK);
  CHECK_EQUAL(get32(segment_option(&segment, 8) + 6), VALUE);
  peer_send_stamped(&peer, ACK, NULL, 0);
  host_poll();
  peer.handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  return peer;
}

static void close_peer(const struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* The next segment carries a timestamp that answers the peer's latest. */
static struct segment expect_stamped(struct peer *peer, uint32_t value) {
  struct segment segment = peer_expect(peer, ACK);
  const uint8_t *option = segment_option(&segment, 8);
  CHECK(option != NULL);
  CHECK_EQUAL(get32(option + 6), value);
  return segment;
}

/* Section 3.2: every segment but a reset, once both ends have agreed on it. */
static void every_segment_carries_one(void) {
  struct peer peer = open_peer();
  CHECK_EQUAL(tcp_put(peer.handle, "data", 4), 4);
  host_poll();
  CHECK_EQUAL(expect_stamped(&peer, VALUE).length, 4);
  stamp(&peer, VALUE + 1);
  peer_send_stamped(&peer, ACK, NULL, 0);
  host_poll();

  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE, 1), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_IDLE, 1000), 0);
  host_advance(1200 * MILLISECOND);
  struct segment probe = expect_stamped(&peer, VALUE + 1);
  CHECK_EQUAL(probe.sequence, peer.acknowledgement - 1);
  CHECK_EQUAL(probe.length, 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE, 0), 0);

  peer.window = 0;
  stamp(&peer, VALUE + 2);
  peer_send_stamped(&peer, ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(tcp_put(peer.handle, "late", 4), 4);
  host_poll();
  peer_expect_silence(&peer);
  host_advance(2 * (int64_t)SECOND);
  probe = expect_stamped(&peer, VALUE + 2);
  CHECK_EQUAL(probe.length, 1);
  CHECK_EQUAL(probe.data[0], 'l');
  frames_forget();
  close_peer(&peer);
}

/* Section 5.3, PAWS: data with an older timestamp than the latest is dropped and answered; a reset is obeyed (section 5.2). */
static void older_data_is_dropped(void) {
  struct peer peer = open_peer();
  stamp(&peer, VALUE + 10);
  peer_send_stamped(&peer, ACK, "some", 4);
  host_poll();
  char bytes[8];
  CHECK_EQUAL(event_expect_data(peer.handle, bytes, sizeof bytes), 4);
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, 4), 0);
  host_advance(100 * MILLISECOND);
  expect_stamped(&peer, VALUE + 10);

  struct peer old = peer;
  for (uint32_t age = 1; age < 0x80000000u; age *= 2) {
    old.sequence = peer.sequence;
    stamp(&old, VALUE + 10 - age);
    peer_send_stamped(&old, ACK, "data", 4);
    host_poll();
    event_expect_none();
    CHECK_EQUAL(expect_stamped(&peer, VALUE + 10).acknowledgement, peer.sequence);
  }
  stamp(&peer, VALUE + 10); /* as old as the latest is not older */
  peer_send_stamped(&peer, ACK, "data", 4);
  host_poll();
  CHECK_EQUAL(event_expect_data(peer.handle, bytes, sizeof bytes), 4);
  CHECK_EQUAL(memcmp(bytes, "data", 4), 0);
  old.sequence = peer.sequence;
  peer_send_stamped(&old, RST, NULL, 0);
  host_poll();
  event_expect(ABI_EVENT_CLOSED, peer.handle);
  frames_forget();
  close_peer(&peer);
}

/* An acknowledgement that others have overtaken is not answered, and acknowledges nothing. */
static void an_older_acknowledgement_is_ignored(void) {
  struct peer peer = open_peer();
  CHECK_EQUAL(tcp_put(peer.handle, "data", 4), 4);
  host_poll();
  expect_stamped(&peer, VALUE);
  struct peer old = peer;
  stamp(&old, VALUE - 1);
  peer_send_stamped(&old, ACK, NULL, 0);
  host_poll();
  peer_expect_silence(&peer);
  CHECK_EQUAL(abi_tcp_information(peer.handle), 0);
  CHECK_EQUAL(tw_scratch.information.unacknowledged, 4);
  peer_send_stamped(&peer, ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(abi_tcp_information(peer.handle), 0);
  CHECK_EQUAL(tw_scratch.information.unacknowledged, 0);
  close_peer(&peer);
}

/* Section 5.5: a clock of a millisecond goes round in 49.7 days; after 24 without a segment no timestamp is too old. */
static void after_24_days_none_is_old(void) {
  struct peer peer = open_peer();
  char bytes[4];
  for (int64_t days = 23; days <= 25; days += 2) {
    struct peer old = peer;
    stamp(&old, VALUE - 5);
    host_jump(days * DAY * SECOND);
    peer_send_stamped(&old, ACK, "data", 4);
    host_poll();
    frames_forget();
    if (days < 24) {
      event_expect_none();
      stamp(&peer, VALUE);
      peer_send_stamped(&peer, ACK, "more", 4);
      host_poll();
    }
    CHECK_EQUAL(event_expect_data(peer.handle, bytes, sizeof bytes), 4);
    frames_forget();
  }
  close_peer(&peer);
}

int main(void) {
  host_start();
  RUN(every_segment_carries_one);
  RUN(older_data_is_dropped);
  RUN(an_older_acknowledgement_is_ignored);
  RUN(after_24_days_none_is_old);
  return 0;
}
