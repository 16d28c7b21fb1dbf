/* Bridges: what is forwarded where, what a bridge learns and forgets, and what forged addresses, full buffers and ports
   that come and go in the middle of traffic can do to it. */
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
  frames_forget(); /* what the taps said before they were ports */
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

static void bring(int port, const struct packet *packet) { interface_receive(ports[port], packet->bytes, packet->length); }

/* The frames that a port would send now, and they are gone; but for what the host says by itself, each must be the
   packet. */
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

/* Brings one frame by the first port; returns the ports that send it, one bit each. */
static uint32_t ways_from(int port, const struct packet *packet) {
  bring(port, packet);
  host_turn(0);
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
  static int turn;
  uint8_t *address = addresses[turn++ % 4];
  address[0] = 2;
  address[1] = 0xee;
  put32(address + 2, number);
  return address;
}

static void forwarding_follows_what_was_learned(void) {
  open_bridge();
  struct packet packet = frame_of(station(2), station(1), 0x88b5, 60);
  CHECK_EQUAL(ways_from(0, &packet), 0xe); /* unknown: everywhere but back */
  packet = frame_of(station(1), station(2), 0x0000, 60);
  CHECK_EQUAL(ways_from(1, &packet), 1); /* known; any type or length field passes */
  packet = frame_of(station(2), station(1), 0x0800, 1514); /* no IP packet at all: that is for the stations to see */
  CHECK_EQUAL(ways_from(0, &packet), 2);
  packet = frame_of(station(2), station(3), 0x88b5, 60);
  CHECK_EQUAL(ways_from(1, &packet), 0); /* both are behind the second port */
  packet = frame_of(BROADCAST, station(1), 0x0806, 60);
  CHECK_EQUAL(ways_from(0, &packet), 0xe);
  packet = frame_of((const uint8_t[]){0x33, 0x33, 0, 0, 0, 9}, station(1), 0x86dd, 60);
  CHECK_EQUAL(ways_from(0, &packet), 0xe);
  CHECK_EQUAL(abi_bridge_learned(bridge), 3);
  packet = frame_of(station(9), station(1), 0x88b5, 60); /* the first station moves */
  CHECK_EQUAL(ways_from(3, &packet), 7);
  packet = frame_of(station(1), station(2), 0x88b5, 60);
  CHECK_EQUAL(ways_from(1, &packet), 8);
  CHECK_EQUAL(abi_bridge_learned(bridge), 3);
  close_bridge();
}

static void what_is_not_forwarded_or_learned(void) {
  open_bridge();
  struct packet packet;
  for (uint8_t last = 0; last < 16; last++) { /* of one link, such as spanning tree's */
    packet = frame_of((const uint8_t[]){1, 0x80, 0xc2, 0, 0, last}, station(1), 0x0026, 60);
    CHECK_EQUAL(ways_from(0, &packet), 0);
  }
  packet = frame_of((const uint8_t[]){1, 0x80, 0xc2, 0, 0, 16}, station(1), 0x0026, 60);
  CHECK_EQUAL(ways_from(0, &packet), 0xe);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  packet = frame_of(station(7), BROADCAST, 0x88b5, 60); /* no station has such an address */
  CHECK_EQUAL(ways_from(0, &packet), 0xe);
  uint32_t malformed = interface_words(ports[0])[ABI_BLOCK_DROPPED_MALFORMED];
  packet = frame_of(station(7), BRIDGE_MAC, 0x88b5, 60);
  CHECK_EQUAL(ways_from(0, &packet), 0);
  packet.length = 13;
  CHECK_EQUAL(ways_from(0, &packet), 0);
  packet.length = 0;
  CHECK_EQUAL(ways_from(0, &packet), 0);
  CHECK_EQUAL(interface_words(ports[0])[ABI_BLOCK_DROPPED_MALFORMED], malformed + 3);
  packet = frame_of(BRIDGE_MAC, station(1), 0x0800, 60); /* for the bridge alone */
  CHECK_EQUAL(ways_from(0, &packet), 0);
  CHECK_EQUAL(interface_words(bridge)[ABI_BLOCK_DROPPED_MALFORMED], 2); /* that for the group, and this one */
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  packet = frame_of(station(2), station(1), 0x0800, 1515);
  CHECK_EQUAL(ways_from(0, &packet), 0);
  CHECK_EQUAL(interface_words(ports[1])[ABI_BLOCK_DROPPED_TOO_LONG], 1);
  packet = frame_of(station(2), station(1), 0x8100, 1518); /* a tag is not part of the packet */
  CHECK_EQUAL(ways_from(0, &packet), 0xe);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  close_bridge();
}

static void addresses_age(void) {
  open_bridge();
  struct packet out = frame_of(station(2), station(1), 0x88b5, 60), back = frame_of(station(1), station(2), 0x88b5, 60);
  ways_from(0, &out);
  host_turn(299 * (int64_t)SECOND);
  CHECK_EQUAL(ways_from(1, &back), 1);
  host_turn(2 * (int64_t)SECOND);
  CHECK_EQUAL(ways_from(1, &back), 0xd);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  CHECK_EQUAL(abi_bridge_ageing(bridge, 0), 0); /* a hub */
  CHECK_EQUAL(ways_from(0, &out), 0xe);
  CHECK_EQUAL(ways_from(1, &back), 0xd);
  CHECK_EQUAL(abi_bridge_learned(bridge), 0);
  CHECK_EQUAL(abi_bridge_ageing(bridge, -1), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_bridge_ageing(ports[0], 1), ABI_ERROR_BAD_HANDLE);
  close_bridge();
}

/* A hundred thousand forged addresses: no memory, nobody who talks is forgotten, and who comes later is heard. */
static void a_flood_of_addresses(void) {
  open_bridge();
  struct packet out = frame_of(station(2), station(1), 0x88b5, 60), back = frame_of(station(1), station(2), 0x88b5, 60);
  ways_from(0, &out);
  ways_from(1, &back);
  uint32_t before = tw_heap_used();
  for (uint32_t i = 0; i < 100000; i++) {
    struct packet forged = frame_of(station(1), station(1000000 + i), 0x88b5, 60);
    bring(3, &forged);
    if (i % 2000 == 1999) {
      host_turn(SECOND);
      CHECK_EQUAL(taken_from(0, NULL), 2000);
      CHECK_EQUAL(taken_from(1, NULL) + taken_from(2, NULL), 0);
    }
  }
  CHECK_EQUAL(tw_heap_used(), before);
  CHECK_EQUAL(abi_bridge_learned(bridge), ABI_MAX_LEARNED / 2 + 2);
  CHECK_EQUAL(ways_from(0, &out), 2);
  CHECK_EQUAL(ways_from(1, &back), 1);
  uint32_t known = 0; /* of new stations behind another port, nearly all find a place */
  for (uint32_t i = 0; i < 100; i++) {
    struct packet hello = frame_of(station(1), station(100 + i), 0x88b5, 60);
    CHECK_EQUAL(ways_from(2, &hello), 1);
    struct packet answer = frame_of(station(100 + i), station(1), 0x88b5, 60);
    uint32_t ways = ways_from(0, &answer);
    CHECK(ways == 4 || ways == 0xe);
    known += ways == 4;
  }
  CHECK(known > 80);
  /* When the forged ones have aged, the port may have others again. */
  host_turn(400 * (int64_t)SECOND);
  struct packet late = frame_of(station(9), station(500), 0x88b5, 60);
  ways_from(3, &late);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  close_bridge();
}

/* A port that nobody empties loses its copies, and costs the others nothing. */
static void a_full_port(void) {
  open_bridge();
  struct packet packet = frame_of(BROADCAST, station(1), 0x88b5, 1514);
  uint32_t sent = 0, lost;
  for (int turn = 0; turn < 4; turn++) {
    for (int i = 0; i < 100; i++, sent++) {
      bring(0, &packet);
    }
    host_turn(0);
    CHECK_EQUAL(taken_from(1, &packet), 100);
    CHECK_EQUAL(taken_from(3, &packet), 100);
  }
  lost = interface_words(ports[2])[ABI_BLOCK_DROPPED_TRANSMIT_FULL];
  CHECK_EQUAL(taken_from(2, &packet) + lost, sent);
  CHECK(lost > 0);
  close_bridge();
}

/* More than one poll may copy: the rest waits, and nothing is lost by it. */
static void a_storm_is_taken_in_pieces(void) {
  open_bridge();
  struct packet packet = frame_of(BROADCAST, station(1), 0x88b5, 60);
  uint32_t polls = 0, copies = 0;
  for (int i = 0; i < 4000; i++) {
    bring(0, &packet);
  }
  while (interface_words(ports[0])[ABI_BLOCK_RECEIVE_LENGTH] != 0) {
    host_turn(0);
    copies += taken_from(1, &packet);
    polls++;
  }
  CHECK_EQUAL(copies, 4000);
  CHECK_EQUAL(polls, 8); /* 8,192 copies, a quarter for each port, four of each frame */
  close_bridge();
}

/* Frames wait in both buffers of a port when it goes, and when its bridge does. */
static void ports_go_in_the_middle(void) {
  open_bridge();
  struct packet out = frame_of(station(2), station(1), 0x88b5, 60), back = frame_of(station(1), station(2), 0x88b5, 60);
  ways_from(0, &out);
  ways_from(1, &back);
  bring(0, &out);
  bring(1, &back);
  CHECK_EQUAL(abi_bridge_remove_port(bridge, ports[1]), 0);
  CHECK_EQUAL(abi_bridge_remove_port(bridge, ports[1]), ABI_ERROR_NOT_FOUND);
  host_turn(0);
  CHECK_EQUAL(taken_from(2, &out), 1); /* the second station is forgotten */
  CHECK_EQUAL(taken_from(1, NULL), 0);
  CHECK_EQUAL(interface_words(ports[1])[ABI_BLOCK_DROPPED_FOREIGN], 1); /* a station of its own now */
  CHECK_EQUAL(taken_from(3, &out), 1);
  CHECK_EQUAL(abi_bridge_learned(bridge), 1);
  CHECK_EQUAL(abi_bridge_add_port(bridge, ports[1]), 0);
  CHECK_EQUAL(abi_bridge_add_port(bridge, ports[1]), ABI_ERROR_EXISTS);
  CHECK_EQUAL(abi_bridge_add_port(bridge, bridge), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_bridge_add_port(ports[0], ports[1]), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(ways_from(1, &back), 1);
  bring(1, &back);
  CHECK_EQUAL(abi_interface_remove(ports[0]), 0);
  host_turn(0); /* with a frame for who was behind it */
  ports[0] = interface_open(ABI_KIND_TAP, 1500);
  int32_t other = interface_open(ABI_KIND_BRIDGE, 1500);
  CHECK_EQUAL(abi_bridge_add_port(other, ports[0]), 0);
  CHECK_EQUAL(abi_bridge_add_port(bridge, ports[0]), ABI_ERROR_EXISTS);
  CHECK_EQUAL(abi_bridge_remove_port(bridge, ports[0]), ABI_ERROR_NOT_FOUND);
  bring(1, &back);
  CHECK_EQUAL(abi_interface_remove(bridge), 0); /* its ports stay, and are taps */
  host_turn(0);
  CHECK_EQUAL(abi_bridge_learned(bridge), ABI_ERROR_BAD_HANDLE);
  bridge = other;
  for (int i = 1; i < PORTS; i++) {
    taken_from(i, NULL);
    CHECK_EQUAL(abi_bridge_add_port(bridge, ports[i]), 0);
  }
  CHECK_EQUAL(ways_from(3, &out), 7);
  close_bridge();
}

/* The host talks through its bridge: to a station it has learned, by one port; and it never hears its ports' addresses. */
static void the_host_on_its_bridge(void) {
  open_bridge();
  host_fetch_frames(true);
  CHECK_EQUAL(interface_set_ipv4(bridge, HOST4, 24), 0);
  host_poll();
  frames_forget();
  struct packet packet;
  packet_arp(&packet, 1, PEER_MAC, PEER4, HOST4);
  packet_ethernet(&packet, BROADCAST, 0x0806);
  bring(2, &packet);
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
  bring(2, &packet);
  host_poll();
  frame = frame_next();
  CHECK(frame.length > 40 && frame.bytes[23] == PROTOCOL_ICMP && frame.bytes[34] == 0);
  CHECK_EQUAL(frame_next().length, 0);
  close_bridge();
}

/* A tap that is no port: what is addressed to another station is not for it, group addresses are. */
static void a_tap_hears_what_is_meant_for_it(void) {
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

static void no_memory_for_a_bridge(void) {
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
  RUN(forwarding_follows_what_was_learned);
  RUN(what_is_not_forwarded_or_learned);
  RUN(addresses_age);
  RUN(a_flood_of_addresses);
  RUN(a_full_port);
  RUN(a_storm_is_taken_in_pieces);
  RUN(ports_go_in_the_middle);
  RUN(the_host_on_its_bridge);
  RUN(a_tap_hears_what_is_meant_for_it);
  RUN(no_memory_for_a_bridge);
  return 0;
}
