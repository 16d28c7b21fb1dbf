/* Paths narrower than the link that no router fragments for: one that says so (RFC 1191), and one that is silent (RFC 4821). */
#include "support.h"
#include "lwip/def.h"

#include <string.h>

enum { LENGTH = 60000, DONT_FRAGMENT = 0x4000, DISCOVER = 2 };

static const uint8_t ROUTER4[4] = {192, 0, 2, 254};
static int32_t interface, listener;
static uint8_t sent[LENGTH], got[LENGTH];

static struct peer open_peer(int32_t family) {
  static const uint8_t options[] = {2, 4, 5, 0xa0, 1, 3, 3, 5}; /* MSS 1440, window scale */
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, family, 80);
  peer_option(&peer, options, sizeof options);
  peer.window = 8000;
  peer_open(&peer, listener);
  pattern_fill(sent, LENGTH, 0);
  memset(got, 0, LENGTH);
  return peer;
}

static void close_peer(const struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void fragmentation_needed(const uint8_t *about, uint32_t length, uint32_t mtu) {
  static struct packet packet;
  packet_icmp_error(&packet, ROUTER4, 3, 4, about, LWIP_MIN(length, 548));
  uint8_t message[600];
  uint32_t size = packet.length - 20;
  memcpy(message, packet.bytes + 20, size);
  put16(message + 6, mtu);
  put16(message + 2, 0);
  put16(message + 2, reference_checksum(message, size, 0));
  packet_ip(&packet, ABI_FAMILY_IPV4, ROUTER4, HOST4, PROTOCOL_ICMP, message, size);
  interface_receive(interface, packet.bytes, packet.length);
}

/* Takes what the host sends for some seconds past a path that drops larger packets, and answers each if `says`. Returns how much
   has arrived without a gap; `largest` gets the size of the largest packet since the last that was dropped. */
static uint32_t receive(struct peer *peer, uint32_t mtu, bool says, int64_t seconds, uint32_t *largest) {
  uint32_t next = 0;
  bool whole = true;
  for (int64_t step = 0; step < seconds * 20 && next < LENGTH; step++) {
    struct frame frame;
    bool arrived = false;
    while ((frame = frame_next()).length != 0) {
      struct segment segment;
      CHECK(segment_parse(&segment, frame.bytes, frame.length));
      if (peer->family == ABI_FAMILY_IPV4) {
        whole &= (get16(frame.bytes + 6) & DONT_FRAGMENT) != 0;
      }
      if (frame.length > mtu) {
        *largest = 0;
        if (says) {
          fragmentation_needed(frame.bytes, frame.length, mtu);
        }
        continue;
      }
      *largest = LWIP_MAX(*largest, frame.length);
      uint32_t at = segment.sequence - peer->start - 1;
      CHECK(at + segment.length <= LENGTH);
      memcpy(got + at, segment.data, segment.length);
      next = at <= next ? LWIP_MAX(next, at + segment.length) : next;
      arrived = true;
    }
    if (arrived) {
      peer->acknowledgement = peer->start + 1 + next;
      peer_send(peer, ACK, NULL, 0);
    }
    host_advance(50 * MILLISECOND);
  }
  CHECK(peer->family == ABI_FAMILY_IPV6 || whole == says);
  CHECK_EQUAL(memcmp(got, sent, next), 0);
  return next;
}

/* IP_MTU_DISCOVER: packets of such a connection may not be fragmented, and what is too large is divided at once. */
static void a_router_says_what_fits(void) {
  for (uint32_t mtu = 1400; mtu >= 552; mtu -= 53) {
    struct peer peer = open_peer(ABI_FAMILY_IPV4);
    CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_PATH_MTU_DISCOVERY, DISCOVER), 0);
    CHECK_EQUAL(tcp_put(peer.handle, sent, LENGTH), LENGTH);
    host_poll();
    uint32_t largest = 0;
    CHECK_EQUAL(receive(&peer, mtu, true, 20, &largest), LENGTH);
    CHECK_EQUAL(largest, mtu);
    close_peer(&peer);
  }
}

/* Nothing is divided for a message about what was never sent, about a packet that was small enough, or without the option. */
static void forged_messages_are_ignored(void) {
  for (int kind = 0; kind < 3; kind++) {
    struct peer peer = open_peer(ABI_FAMILY_IPV4);
    CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_PATH_MTU_DISCOVERY, kind == 2 ? 0 : DISCOVER), 0);
    CHECK_EQUAL(tcp_put(peer.handle, sent, 1000), 1000);
    host_poll();
    struct frame frame = frame_next();
    CHECK_EQUAL(frame.length, 1040);
    uint8_t about[1040];
    memcpy(about, frame.bytes, sizeof about);
    if (kind == 0) {
      put32(about + 24, get32(about + 24) + 100000);
    }
    fragmentation_needed(about, sizeof about, kind == 1 ? 1200 : 600);
    host_poll();
    CHECK_EQUAL(abi_tcp_information(peer.handle), 0);
    CHECK_EQUAL(tw_scratch.information.segment_size, 1440);
    close_peer(&peer);
  }
}

/* Large packets vanish: after some time-outs a part that arrives shows that it was their size. */
static void silent_paths(void) {
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    struct peer peer = open_peer(family);
    CHECK_EQUAL(tcp_put(peer.handle, sent, LENGTH), LENGTH);
    host_poll();
    uint32_t largest = 0;
    CHECK_EQUAL(receive(&peer, 1200, false, 60, &largest), LENGTH);
    CHECK(largest > 1000);
    close_peer(&peer);
  }
}

/* A peer that is out of reach for a while, and back, costs no segment size. */
static void an_outage_is_no_black_hole(void) {
  struct peer peer = open_peer(ABI_FAMILY_IPV6);
  CHECK_EQUAL(tcp_put(peer.handle, sent, LENGTH), LENGTH);
  host_poll();
  frames_forget();
  uint32_t largest = 0;
  CHECK_EQUAL(receive(&peer, 0, false, 5, &largest), 0);
  CHECK_EQUAL(receive(&peer, 1500, false, 60, &largest), LENGTH);
  CHECK_EQUAL(abi_tcp_information(peer.handle), 0);
  CHECK_EQUAL(tw_scratch.information.segment_size, 1440);
  close_peer(&peer);
}

int main(void) {
  host_start();
  RUN(a_router_says_what_fits);
  RUN(forged_messages_are_ignored);
  RUN(silent_paths);
  RUN(an_outage_is_no_black_hole);
  return 0;
}
