/* Regression tests of faults that the fuzzer (../fuzz) found, each reduced as far as possible. */
#include "support.h"
#include "link/interface.h"

#include "lwip/nd6.h"

#include <string.h>

static const uint8_t GROUP_MAC[6] = {1, 0, 0x5e, 0, 0, 9};

static struct frame next_to_peer(uint32_t type) {
  struct frame frame;
  while ((frame = frame_next()).length != 0 && get16(frame.bytes + 12) != type) {
  }
  return frame;
}

/* RFC 1812, section 3.3.2: a group address is not the link-layer address of a host. A valid answer still resolves the
   neighbour. */
static void group_link_layer_addresses_are_not_learned(void) {
  struct packet packet;
  int32_t tap = interface_open(ABI_KIND_TAP, 1500);
  CHECK_EQUAL(interface_set_ipv4(tap, HOST4, 24), 0);
  int32_t handle = udp_socket_open(ABI_FAMILY_IPV4, NULL, 0);
  CHECK_EQUAL(udp_put(handle, ABI_FAMILY_IPV4, PEER4, 9, "question", 8), 0);
  host_poll();
  CHECK(next_to_peer(0x0806).length != 0);
  packet_arp(&packet, 2, GROUP_MAC, PEER4, HOST4);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  CHECK_EQUAL(next_to_peer(0x0800).length, 0);
  packet_arp(&packet, 2, PEER_MAC, PEER4, HOST4);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  struct frame frame = next_to_peer(0x0800);
  CHECK(frame.length != 0 && memcmp(frame.bytes, PEER_MAC, 6) == 0);
  CHECK_EQUAL(abi_udp_close(handle), 0);
  CHECK_EQUAL(abi_interface_remove(tap), 0);
}

/* A routing header of an unknown type (RFC 8200, section 4.4), to all nodes, where the stack has no IPv6 address. */
static void no_error_without_a_source_address(void) {
  static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1};
  uint8_t content[16] = {58, 0, 99, 1, [8] = 128};
  struct packet packet;
  int32_t tap = interface_open(ABI_KIND_TAP, 576);
  packet_ip(&packet, ABI_FAMILY_IPV6, PEER6, all_nodes, 43, content, sizeof content);
  packet_ethernet(&packet, (const uint8_t[]){0x33, 0x33, 0, 0, 0, 1}, 0x86dd);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  CHECK_EQUAL(abi_interface_remove(tap), 0);
}

/* RFC 4861, section 6.3.4: an advertised MTU also applies to destinations that are in the destination cache already. */
static void advertised_mtu_limits_known_paths(void) {
  static const uint8_t router[16] = {0xfe, 0x80, [15] = 9}, all_nodes[16] = {0xff, 2, [15] = 1};
  static const uint8_t advertisement[24] = {134, [4] = 64, [6] = 7, [16] = 5, 1, [22] = 5, 0xdc};
  struct packet packet;
  int32_t tap = interface_open(ABI_KIND_TAP, 9000), handle = udp_socket_open(ABI_FAMILY_IPV6, NULL, 0);
  CHECK_EQUAL(interface_set_ipv6(tap, HOST6), 0);
  CHECK_EQUAL(abi_interface_autoconfigure(tap, 1), 0);
  CHECK_EQUAL(udp_put(handle, ABI_FAMILY_IPV6, PEER6, 9, "question", 8), 0);
  struct netif *netif = &tw_interface_object(tap)->netif;
  ip6_addr_t peer = {.zone = IP6_NO_ZONE};
  memcpy(peer.addr, PEER6, sizeof PEER6);
  CHECK_EQUAL(nd6_get_destination_mtu(&peer, netif), 9000);
  packet_ip(&packet, ABI_FAMILY_IPV6, router, all_nodes, PROTOCOL_ICMPV6, advertisement, sizeof advertisement);
  packet_ethernet(&packet, (const uint8_t[]){0x33, 0x33, 0, 0, 0, 1}, 0x86dd);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  CHECK_EQUAL(nd6_get_destination_mtu(&peer, netif), 1500);
  CHECK_EQUAL(abi_udp_close(handle), 0);
  CHECK_EQUAL(abi_interface_remove(tap), 0);
  host_poll();
  while (event_next().kind != 0) { /* of addresses, and of the advertisement */
  }
}

/* The path MTU of a destination may be reported on an interface without neighbours, although packets for it leave through
   another one: they are still sent to the neighbour, and none is larger. */
static void a_path_mtu_from_another_interface_leaves_the_neighbour(void) {
  static const uint8_t router[16] = {0xfd, 1, [15] = 9}, other[16] = {0xfd, 1, [15] = 1};
  static uint8_t data[1400], message[8 + 100] = {2};
  struct packet packet;
  struct frame frame;
  int32_t tap = interface_open(ABI_KIND_TAP, 1500), tun = interface_open(ABI_KIND_TUN, 1500);
  int32_t handle = udp_socket_open(ABI_FAMILY_IPV6, NULL, 0);
  CHECK_EQUAL(interface_set_ipv6(tap, HOST6), 0);
  packet_neighbour_solicitation(&packet, HOST6, PEER_MAC);
  packet_ethernet(&packet, HOST_MAC, 0x86dd);
  interface_receive(tap, packet.bytes, packet.length);
  host_poll();
  frames_forget(); /* the answer */
  CHECK_EQUAL(udp_put(handle, ABI_FAMILY_IPV6, PEER6, 9, data, sizeof data), 0);
  host_poll();
  frame = next_to_peer(0x86dd);
  CHECK_EQUAL(frame.length, 14 + 40 + 8 + sizeof data);
  put32(message + 4, 1300);
  memcpy(message + 8, frame.bytes + 14, 100);
  packet_ip(&packet, ABI_FAMILY_IPV6, router, HOST6, PROTOCOL_ICMPV6, message, sizeof message);
  CHECK_EQUAL(interface_set_ipv6(tun, other), 0); /* removes all destinations: their next hops may change */
  interface_receive(tun, packet.bytes, packet.length);
  host_poll();
  CHECK_EQUAL(udp_put(handle, ABI_FAMILY_IPV6, PEER6, 9, data, sizeof data), 0);
  host_poll();
  uint32_t length = 0;
  while ((frame = frame_next()).length != 0) {
    CHECK(memcmp(frame.bytes, PEER_MAC, 6) == 0 && frame.length <= 14 + 1300);
    CHECK_EQUAL(frame.bytes[20], 44); /* a fragment */
    length += frame.length - 14 - 48;
  }
  CHECK_EQUAL(length, 8 + sizeof data);
  CHECK_EQUAL(abi_udp_close(handle), 0);
  CHECK_EQUAL(abi_interface_remove(tun), 0);
  CHECK_EQUAL(abi_interface_remove(tap), 0);
}

int main(void) {
  host_start();
  RUN(group_link_layer_addresses_are_not_learned);
  RUN(no_error_without_a_source_address);
  RUN(advertised_mtu_limits_known_paths);
  RUN(a_path_mtu_from_another_interface_leaves_the_neighbour);
  return 0;
}
