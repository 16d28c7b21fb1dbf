/* A hundred thousand neighbours that do not exist, claimed by every kind of message: the tables of ARP and of neighbour
   discovery stay bounded, and an active neighbour is not resolved again. And the path MTU: what a Packet Too Big message must
   quote to be accepted, RFC 8201. */
#include "support.h"
#include "abi/address_codec.h"
#include "link/interface.h"
#include "port/heap.h"
#include "tcp/connection.h"
#include "lwip/nd6.h"

#include <string.h>

enum { FORGED = 100000 };

static struct packet packet;
static int32_t tap;

static void open_tap(void) {
  tap = interface_open(ABI_KIND_TAP, 1500);
  CHECK_EQUAL(interface_set_ipv4(tap, HOST4, 8), 0);
  CHECK_EQUAL(interface_set_ipv6(tap, HOST6), 0);
  host_poll();
  frames_forget();
}

static void receive(uint16_t type) {
  packet_ethernet(&packet, HOST_MAC, type);
  interface_receive(tap, packet.bytes, packet.length);
}

/* The answer to an echo request leaves at once, to the neighbour's address. */
static void expect_known(int32_t family) {
  frames_forget();
  packet_icmp_echo(&packet, family, "now", 3);
  receive(family == ABI_FAMILY_IPV4 ? 0x0800 : 0x86dd);
  host_poll();
  uint32_t at = family == ABI_FAMILY_IPV4 ? 34 : 54, reply = family == ABI_FAMILY_IPV4 ? 0 : 129;
  struct frame frame;
  while ((frame = frame_next()).length != 0) {
    if (memcmp(frame.bytes, PEER_MAC, 6) == 0 && frame.length > at && frame.bytes[at] == reply) {
      return;
    }
  }
  check_failed(__FILE__, __LINE__, "the entry of an active neighbour was evicted");
}

static void learn(void) {
  packet_arp(&packet, 1, PEER_MAC, PEER4, HOST4);
  receive(0x0806);
  packet_neighbour_solicitation(&packet, HOST6, PEER_MAC);
  receive(0x86dd);
  host_poll();
}

static void forge(int way, uint32_t number) {
  static const uint8_t echo[16] = {8}, echo6[16] = {128};
  uint8_t mac[6] = {2, 1}, four[4] = {10}, six[16] = {0xfd}, message[32] = {0};
  put32(mac + 2, number);
  put32(four, 10u << 24 | (number + 1000));
  put32(six + 12, number + 1000);
  switch (way) {
    case 0: /* ARP requests to this stack, and ARP answers to it */
      packet_arp(&packet, (uint16_t)(1 + number % 2), mac, four, HOST4);
      receive(0x0806);
      return;
    case 1: /* packets to be answered to hosts that do not exist */
      packet_ip(&packet, ABI_FAMILY_IPV4, four, HOST4, PROTOCOL_ICMP, echo, sizeof echo);
      receive(0x0800);
      return;
    case 2: /* solicitations to this stack */
      message[0] = 135;
      memcpy(message + 8, HOST6, 16);
      message[24] = message[25] = 1;
      memcpy(message + 26, mac, 6);
      packet_ip(&packet, ABI_FAMILY_IPV6, six, HOST6, PROTOCOL_ICMPV6, message, sizeof message);
      receive(0x86dd);
      return;
    case 3: /* advertisements, solicited or not */
      message[0] = 136;
      message[4] = 0x60;
      memcpy(message + 8, six, 16);
      message[24] = 2;
      message[25] = 1;
      memcpy(message + 26, mac, 6);
      packet_ip(&packet, ABI_FAMILY_IPV6, six, HOST6, PROTOCOL_ICMPV6, message, sizeof message);
      receive(0x86dd);
      return;
    default:
      packet_ip(&packet, ABI_FAMILY_IPV6, six, HOST6, PROTOCOL_ICMPV6, echo6, sizeof echo6);
      receive(0x86dd);
  }
}

static void floods_do_not_evict_active_neighbours(void) {
  for (int way = 0; way < 5; way++) {
    open_tap();
    learn();
    expect_known(ABI_FAMILY_IPV4);
    expect_known(ABI_FAMILY_IPV6);
    uint32_t most = 0;
    for (uint32_t i = 0; i < FORGED; i++) {
      forge(way, i);
      if (i % 50 == 49) { /* some of them between two packets of the active neighbour */
        host_poll();
        host_poll_once(MILLISECOND);
        frames_forget();
        expect_known(ABI_FAMILY_IPV4);
        expect_known(ABI_FAMILY_IPV6);
      }
      if (i == FORGED / 10) {
        most = tw_heap_used() + 4096;
      }
      if (most != 0) {
        CHECK(tw_heap_used() < most);
      }
    }
    CHECK_EQUAL(abi_interface_remove(tap), 0);
    host_poll();
    frames_forget();
    host_expect_clean();
  }
}

/* One neighbour is still learned when the table is full. */
static void a_full_table_learns_a_new_neighbour(void) {
  for (int way = 0; way < 5; way += 2) {
    open_tap();
    for (uint32_t i = 0; i < 1000; i++) {
      forge(way, i);
      host_poll();
      frames_forget();
    }
    learn();
    expect_known(ABI_FAMILY_IPV4);
    expect_known(ABI_FAMILY_IPV6);
    CHECK_EQUAL(abi_interface_remove(tap), 0);
    host_poll();
    frames_forget();
  }
}

/* --- The MTU of a path -------------------------------------------------------------------------------------------- */

/* A router reports that `mtu` is the maximum for a packet whose beginning it quotes. */
static void too_big(int32_t interface, uint32_t mtu, const uint8_t *shown, uint32_t length) {
  static const uint8_t router[16] = {0xfd, [15] = 9};
  uint8_t message[8 + 100] = {2};
  put32(message + 4, mtu);
  memcpy(message + 8, shown, length);
  packet_ip(&packet, ABI_FAMILY_IPV6, router, HOST6, PROTOCOL_ICMPV6, message, 8 + length);
  interface_receive(interface, packet.bytes, packet.length);
  host_poll();
}

static void packet_too_big_must_quote_a_sent_packet(void) {
  static uint8_t data[ABI_STAGING_CAPACITY];
  int32_t tun = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv6(tun, HOST6), 0);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(tun, ABI_FAMILY_IPV6, 80);
  static const uint8_t mss[4] = {2, 4, 5, 0xa0};
  peer_option(&peer, mss, sizeof mss);
  peer_open(&peer, listener);
  pattern_fill(data, sizeof data, 0);
  CHECK_EQUAL(tcp_put(peer.handle, data, sizeof data), sizeof data);
  host_poll();
  struct frame first = frame_next();
  CHECK_EQUAL(first.length, 1500);
  uint8_t shown[100], wrong[100];
  memcpy(shown, first.bytes, sizeof shown);
  frames_forget();
  for (int way = 0; way < 8; way++) { /* none of these quotes a packet that was sent, or has a possible MTU */
    memcpy(wrong, shown, sizeof wrong);
    wrong[way == 0 ? 8 : way == 1 ? 39 : way == 2 ? 40 : way == 3 ? 43 : way == 4 ? 45 : 0] ^= way > 4 ? 0 : 0x55;
    wrong[6] = way == 5 ? 44 : wrong[6];
    too_big(tun, way == 6 ? 1279 : way == 7 ? 1500 : 1400, wrong, way == 5 ? 48 : sizeof wrong);
    CHECK(frame_next().length == 0);
  }
  too_big(tun, 0, shown, sizeof shown);
  too_big(tun, 1400, shown, 47);
  CHECK(frame_next().length == 0);
  ip_addr_t to;
  tw_address_read(&to, ABI_FAMILY_IPV6, PEER6, 0);
  CHECK_EQUAL(nd6_get_destination_mtu(ip_2_ip6(&to), tw_interface_netif(tun)), 1500);
  too_big(tun, 1400, shown, sizeof shown); /* this one is */
  CHECK_EQUAL(nd6_get_destination_mtu(ip_2_ip6(&to), tw_interface_netif(tun)), 1400);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(tun), 0);
}

int main(void) {
  host_start();
  RUN(floods_do_not_evict_active_neighbours);
  RUN(a_full_table_learns_a_new_neighbour);
  RUN(packet_too_big_must_quote_a_sent_packet);
  return 0;
}
