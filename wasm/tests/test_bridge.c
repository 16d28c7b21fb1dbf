/* Bridges: forwarding, learning and ageing of addresses; forged addresses, full buffers, and ports that are removed while they
   carry traffic. */
#include "support.h"
#include "abi/handles.h"
#include "link/interface.h"
#include "port/heap.h"

#include <string.h>

enum { PORTS = 4 };

static int32_t bridge, ports[PORTS];
static const uint8_t BRIDGE_MAC[6] = {2, 0, 0, 0, 0, 1}, BROADCAST[6] = {255, 255, 255, 255, 255, 255};

static void open_bridge(void) {
  host_reserve_handles(PORTS + 1);
  bridge = interface_open(ABI_KIND_BRIDGE, 1500);
  CHECK(bridge > 0);
  for (int i = 0; i < PORTS; i++) {
    ports[i] = interface_open(ABI_KIND_TAP, 1500);
    CHECK_EQUAL(abi_bridge_add_port(bridge, ports[i]), 0);
  }
  host_poll();
  frames_forget(); /* what the taps sent before they were ports */
  host_fetch_frames(false);
}

static void close_bridge(void) {
  for (int i = 0; i < PORTS; i++) {
    CHECK_EQUAL(abi_interface_remove(ports[i]), 0);
  }
  CHECK_EQUAL(abi_interface_remove(bridge), 0);
  host_fetch_frames(true);
}

static struct packet frame_of(const uint8_t *to, const uint8_t *from, uint16_t type, uint32_t length) {
  static struct packet packet;
  memcpy(packet.bytes, to, 6);
  memcpy(packet.bytes + 6, from, 6);
  put16(packet.bytes + 12, type);
  pattern_fill(packet.bytes + 14, length - 14, length);
  packet.length = length;
  return packet;
}

static void receive_at(int port, const struct packet *packet) { interface_receive(ports[port], packet->bytes, packet->length); }

/* Takes the frames that a port has queued, without those that the stack itself sends; each must equal the packet. */
static uint32_t taken_from(int port, const struct packet *packet) {
  struct interface *interface = tw_handle_object(ports[port], HANDLE_INTERFACE);
  uint32_t end = interface->block[ABI_BLOCK_TRANSMIT_LENGTH], count = 0, length;
  for (uint32_t at = 0; at < end; at += record_size(length)) {
    memcpy(&length, interface->transmit + at, sizeof length);
    if (memcmp(interface->transmit + at + ABI_RECORD_HEADER_SIZE + 6, BRIDGE_MAC, 6) == 0) {
      continue;
    }
    count++;
    if (packet != NULL) {
      CHECK_EQUAL(length, packet->length);
      CHECK(memcmp(interface->transmit + at + ABI_RECORD_HEADER_SIZE, packet->bytes, length) == 0);
    }
  }
  interface->block[ABI_BLOCK_TRANSMIT_LENGTH] = 0;
  return count;
}

/* Receives one frame at the first port; returns the ports that forward it, one bit each. */
static uint32_t ports_that_forward(int port, const struct packet *packet) {
  receive_at(port, packet);
  host_poll_once(0);
  uint32_t ways = 0;
  for (int i = 0; i < PORTS; i++) {
    uint32_t count = taken_from(i, packet);
    CHECK(count <= 1);
    ways |= count << i;
  }
  return ways;
}

static uint8_t *station(uint32_t number) {
  static uint8_t addresses[4][6];
  static int round;
  uint8_t *address = addresses[round++ % 4];
  address[0] = 2;
  address[1] = 0xee;
  put32(address + 2, number);
  return address;
}

static void frames_follow_learned_addresses(void) {
  open_bridge();
  struct packet packet = frame_of(station(2), station(1), 0x88b5, 60);
  CHECK_EQUAL(ports_that_forward(0, &packet), 0xe); /* unknown destination: flooded to all other ports */
  packet = frame_of(station(1), station(2), 0x0000, 60);
  CHECK_EQUAL(ports_that_forward(1, &packet), 1); /* known destination; any EtherType or length field is forwarded */
  packet = frame_of(station(2), station(1), 0x0800, 1514); /* not an IP packet: forwarding does not depend on the payload */
  CHECK_EQUAL(ports_that_forward(0, &packet), 2);
  packet = frame_of(station(2), station(3), 0x88b5, 60);
  CHECK_EQUAL(ports_that_forward(1, &packet), 0); /* both are behind the second port */
  packet = frame_of(BROADCAST, station(1), 0x0806, 60);
  CHECK_EQUAL(ports_that_forward(0, &packet), 0xe);
  packet = frame_of((const uint8_t[]){0x33, 0x33, 0, 0, 0, 9}, station(1), 0x86dd, 60);
  CHECK_EQUAL(ports_that_forward(0, &packet), 0xe);
  CHECK_EQUAL(abi_bridge_learned(bridge), 3);
  packet = frame_of(station(9), station(1), 0x88b5, 60); /* the first station moves */
  CHECK_EQUAL(ports_that_forward(3, &packet), 7);
  packet = frame_of(station(1), station(2), 0x88b5, 60);
  CHECK_EQUAL(ports_that_forward(1, &packet), 8);
  CHECK_EQUAL(abi_bridge_learned(bridge), 3);
  close_bridge();
}

static void reserved_groups_and_group_sources_are_ignored(void) {
  open_bridge();
  struct packet packet;
  for (uint8_t last = 0; last < 16;
       last++) { /* link-local group addresses, such as spanning tree's (IEEE 802.1D, table 7-10) */
    packet = frame_of((const uint8_t[]){1, 0x80, 0xc2, 0, 0, last}, station(1), 0x0026, 60);
    CHECK_EQUAL(ports_that_forward(0, &packet), 0);
  }
  packet = frame_of((const uint8_t[]){1, 0x80, 0xc2, 0, 0, 16}, station(1), 0x0026, 60);
  CHECK_EQUAL(ports_that_forward(0, &packet), 0xe);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  packet = frame_of(station(7), BROADCAST, 0x88b5, 60); /* a group address is not a valid source */
  CHECK_EQUAL(ports_that_forward(0, &packet), 0xe);
  uint32_t malformed = interface_words(ports[0])[ABI_BLOCK_DROPPED_MALFORMED];
  packet = frame_of(station(7), BRIDGE_MAC, 0x88b5, 60);
  CHECK_EQUAL(ports_that_forward(0, &packet), 0);
  packet.length = 13;
  CHECK_EQUAL(ports_that_forward(0, &packet), 0);
  packet.length = 0;
  CHECK_EQUAL(ports_that_forward(0, &packet), 0);
  CHECK_EQUAL(interface_words(ports[0])[ABI_BLOCK_DROPPED_MALFORMED], malformed + 3);
  packet = frame_of(BRIDGE_MAC, station(1), 0x0800, 60); /* to the bridge itself */
  CHECK_EQUAL(ports_that_forward(0, &packet), 0);
  CHECK_EQUAL(interface_words(bridge)[ABI_BLOCK_DROPPED_MALFORMED], 2); /* a group: flooded, and received by the bridge */
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  packet = frame_of(station(2), station(1), 0x0800, 1515);
  CHECK_EQUAL(ports_that_forward(0, &packet), 0);
  CHECK_EQUAL(interface_words(ports[1])[ABI_BLOCK_DROPPED_TOO_LONG], 1);
  packet = frame_of(station(2), station(1), 0x8100, 1518); /* a VLAN tag is not part of the packet */
  CHECK_EQUAL(ports_that_forward(0, &packet), 0xe);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  close_bridge();
}

static void learned_addresses_expire(void) {
  open_bridge();
  struct packet out = frame_of(station(2), station(1), 0x88b5, 60), back = frame_of(station(1), station(2), 0x88b5, 60);
  ports_that_forward(0, &out);
  host_poll_once(299 * (int64_t)SECOND);
  CHECK_EQUAL(ports_that_forward(1, &back), 1);
  host_poll_once(2 * (int64_t)SECOND);
  CHECK_EQUAL(ports_that_forward(1, &back), 0xd);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  CHECK_EQUAL(abi_bridge_ageing(bridge, 0), 0); /* ageing time 0: a hub */
  CHECK_EQUAL(ports_that_forward(0, &out), 0xe);
  CHECK_EQUAL(ports_that_forward(1, &back), 0xd);
  CHECK_EQUAL(abi_bridge_learned(bridge), 0);
  CHECK_EQUAL(abi_bridge_ageing(bridge, -1), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_bridge_ageing(ports[0], 1), ABI_ERROR_BAD_HANDLE);
  close_bridge();
}

/* A hundred thousand forged addresses: memory stays bounded, active stations are not displaced, and new stations are
   learned. */
static void forged_addresses_do_not_displace_active_stations(void) {
  open_bridge();
  struct packet out = frame_of(station(2), station(1), 0x88b5, 60), back = frame_of(station(1), station(2), 0x88b5, 60);
  ports_that_forward(0, &out);
  ports_that_forward(1, &back);
  uint32_t before = tw_heap_used();
  for (uint32_t i = 0; i < 100000; i++) {
    struct packet forged = frame_of(station(1), station(1000000 + i), 0x88b5, 60);
    receive_at(3, &forged);
    if (i % 2000 == 1999) {
      host_poll_once(SECOND);
      CHECK_EQUAL(taken_from(0, NULL), 2000);
      CHECK_EQUAL(taken_from(1, NULL) + taken_from(2, NULL), 0);
    }
  }
  CHECK_EQUAL(tw_heap_used(), before);
  CHECK_EQUAL(abi_bridge_learned(bridge), ABI_MAX_LEARNED / 2 + 2);
  CHECK_EQUAL(ports_that_forward(0, &out), 2);
  CHECK_EQUAL(ports_that_forward(1, &back), 1);
  uint32_t known = 0; /* of new stations behind another port, nearly all are learned */
  for (uint32_t i = 0; i < 100; i++) {
    struct packet hello = frame_of(station(1), station(100 + i), 0x88b5, 60);
    CHECK_EQUAL(ports_that_forward(2, &hello), 1);
    struct packet answer = frame_of(station(100 + i), station(1), 0x88b5, 60);
    uint32_t ways = ports_that_forward(0, &answer);
    CHECK(ways == 4 || ways == 0xe);
    known += ways == 4;
  }
  CHECK(known > 80);
  /* When the forged addresses have aged, the port may learn others. */
  host_poll_once(400 * (int64_t)SECOND);
  struct packet late = frame_of(station(9), station(500), 0x88b5, 60);
  ports_that_forward(3, &late);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  close_bridge();
}

/* A port whose frames are not fetched loses its copies without effect on the others. */
static void a_full_port_does_not_block_others(void) {
  open_bridge();
  struct packet packet = frame_of(BROADCAST, station(1), 0x88b5, 1514);
  uint32_t sent = 0, lost;
  for (int round = 0; round < 4; round++) {
    for (int i = 0; i < 100; i++, sent++) {
      receive_at(0, &packet);
    }
    host_poll_once(0);
    CHECK_EQUAL(taken_from(1, &packet), 100);
    CHECK_EQUAL(taken_from(3, &packet), 100);
  }
  lost = interface_words(ports[2])[ABI_BLOCK_DROPPED_TRANSMIT_FULL];
  CHECK_EQUAL(taken_from(2, &packet) + lost, sent);
  CHECK(lost > 0);
  close_bridge();
}

/* More copies than one poll may make: the rest is copied by the next polls, and none is lost. */
static void a_broadcast_storm_takes_several_polls(void) {
  open_bridge();
  struct packet packet = frame_of(BROADCAST, station(1), 0x88b5, 60);
  uint32_t polls = 0, copies = 0;
  for (int i = 0; i < 4000; i++) {
    receive_at(0, &packet);
  }
  while (interface_words(ports[0])[ABI_BLOCK_RECEIVE_LENGTH] != 0) {
    host_poll_once(0);
    copies += taken_from(1, &packet);
    polls++;
  }
  CHECK_EQUAL(copies, 4000);
  CHECK_EQUAL(polls, 8); /* 8,192 copies, a quarter for each port, four of each frame */
  close_bridge();
}

/* Frames are queued in both buffers of a port when it is removed, and when its bridge is removed. */
static void ports_and_bridges_are_removed_under_traffic(void) {
  open_bridge();
  struct packet out = frame_of(station(2), station(1), 0x88b5, 60), back = frame_of(station(1), station(2), 0x88b5, 60);
  ports_that_forward(0, &out);
  ports_that_forward(1, &back);
  receive_at(0, &out);
  receive_at(1, &back);
  CHECK_EQUAL(abi_bridge_remove_port(bridge, ports[1]), 0);
  CHECK_EQUAL(abi_bridge_remove_port(bridge, ports[1]), ABI_ERROR_NOT_FOUND);
  host_poll_once(0);
  CHECK_EQUAL(taken_from(2, &out), 1); /* the entry of the second station is removed */
  CHECK_EQUAL(taken_from(1, NULL), 0);
  CHECK_EQUAL(interface_words(ports[1])[ABI_BLOCK_DROPPED_FOREIGN], 1); /* an interface without a bridge now */
  CHECK_EQUAL(taken_from(3, &out), 1);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  CHECK_EQUAL(abi_bridge_add_port(bridge, ports[1]), 0);
  CHECK_EQUAL(abi_bridge_add_port(bridge, ports[1]), ABI_ERROR_EXISTS);
  CHECK_EQUAL(abi_bridge_add_port(bridge, bridge), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_bridge_add_port(ports[0], ports[1]), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(ports_that_forward(1, &back), 1);
  receive_at(1, &back);
  CHECK_EQUAL(abi_interface_remove(ports[0]), 0);
  host_poll_once(0); /* with a frame to the station that was behind it */
  ports[0] = interface_open(ABI_KIND_TAP, 1500);
  int32_t other = interface_open(ABI_KIND_BRIDGE, 1500);
  CHECK_EQUAL(abi_bridge_add_port(other, ports[0]), 0);
  CHECK_EQUAL(abi_bridge_add_port(bridge, ports[0]), ABI_ERROR_EXISTS);
  CHECK_EQUAL(abi_bridge_remove_port(bridge, ports[0]), ABI_ERROR_NOT_FOUND);
  receive_at(1, &back);
  CHECK_EQUAL(abi_interface_remove(bridge), 0); /* its ports stay, as tap interfaces */
  host_poll_once(0);
  CHECK_EQUAL(abi_bridge_learned(bridge), ABI_ERROR_BAD_HANDLE);
  bridge = other;
  for (int i = 1; i < PORTS; i++) {
    taken_from(i, NULL);
    CHECK_EQUAL(abi_bridge_add_port(bridge, ports[i]), 0);
  }
  CHECK_EQUAL(ports_that_forward(3, &out), 7);
  close_bridge();
}

/* The stack answers through its bridge with the MAC of the bridge, to a learned station by one port. */
static void the_stack_sends_through_its_bridge(void) {
  open_bridge();
  host_fetch_frames(true);
  CHECK_EQUAL(interface_set_ipv4(bridge, HOST4, 24), 0);
  host_poll();
  frames_forget();
  struct packet packet;
  packet_arp(&packet, 1, PEER_MAC, PEER4, HOST4);
  packet_ethernet(&packet, BROADCAST, 0x0806);
  receive_at(2, &packet);
  host_poll();
  struct frame frame, answer = {0};
  uint32_t copies = 0;
  while ((frame = frame_next()).length != 0) {
    if (get16(frame.bytes + 20) == 2) {
      CHECK_EQUAL(answer.length, 0);
      CHECK(memcmp(frame.bytes, PEER_MAC, 6) == 0 && memcmp(frame.bytes + 6, BRIDGE_MAC, 6) == 0);
      answer.length = frame.length;
    } else {
      copies++;
    }
  }
  CHECK(answer.length != 0);
  CHECK_EQUAL(copies, 3);
  packet_icmp_echo(&packet, ABI_FAMILY_IPV4, "hello", 5);
  packet_ethernet(&packet, BRIDGE_MAC, 0x0800);
  receive_at(2, &packet);
  host_poll();
  frame = frame_next();
  CHECK(frame.length > 40 && frame.bytes[23] == PROTOCOL_ICMP && frame.bytes[34] == 0);
  CHECK_EQUAL(frame_next().length, 0);
  close_bridge();
}

/* A tap that is no port drops frames to other stations, and accepts those to groups. */
static void a_tap_accepts_its_own_and_group_frames_only(void) {
  int32_t tap = interface_open(ABI_KIND_TAP, 1500);
  CHECK_EQUAL(interface_set_ipv4(tap, HOST4, 24), 0);
  host_poll();
  frames_forget();
  for (int i = 0; i < 3; i++) {
    static const uint8_t to[3][6] = {{2, 0, 0, 0, 0, 9}, {2, 0, 0, 0, 0, 1}, {255, 255, 255, 255, 255, 255}};
    struct packet packet;
    packet_arp(&packet, 1, PEER_MAC, PEER4, HOST4);
    packet_ethernet(&packet, to[i], 0x0806);
    interface_receive(tap, packet.bytes, packet.length);
    host_poll();
    CHECK_EQUAL(frame_next().length != 0, i > 0);
  }
  CHECK_EQUAL(interface_words(tap)[ABI_BLOCK_DROPPED_FOREIGN], 1);
  CHECK_EQUAL(abi_interface_remove(tap), 0);
}

static void a_bridge_without_memory_is_refused(void) {
  for (int left = 0; left < 3; left++) {
    allocations_left = left;
    int32_t handle = interface_open(ABI_KIND_BRIDGE, 1500);
    allocations_left = -1;
    if (handle > 0) {
      CHECK_EQUAL(abi_interface_remove(handle), 0);
    } else {
      CHECK_EQUAL(handle, ABI_ERROR_NO_MEMORY);
    }
  }
}

int main(void) {
  host_start();
  RUN(frames_follow_learned_addresses);
  RUN(reserved_groups_and_group_sources_are_ignored);
  RUN(learned_addresses_expire);
  RUN(forged_addresses_do_not_displace_active_stations);
  RUN(a_full_port_does_not_block_others);
  RUN(a_broadcast_storm_takes_several_polls);
  RUN(ports_and_bridges_are_removed_under_traffic);
  RUN(the_stack_sends_through_its_bridge);
  RUN(a_tap_accepts_its_own_and_group_frames_only);
  RUN(a_bridge_without_memory_is_refused);
  return 0;
}
