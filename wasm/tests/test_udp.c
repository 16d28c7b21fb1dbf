/* UDP sockets: receive and send, demultiplexing, malformed datagrams, and bounded queues. */
#include "support.h"
#include "abi/staging.h"

#include <string.h>

static const uint8_t OTHER4[4] = {10, 0, 0, 3}, BROADCAST[4] = {255, 255, 255, 255}, SUBNET[4] = {10, 0, 0, 255};
static const uint8_t GROUP4[4] = {239, 1, 2, 3}, GROUP6[16] = {0xff, 5, [15] = 9}, FAR4[4] = {192, 168, 7, 7};
static int32_t interface;
static struct packet packet;

static void open_interface(int32_t kind) {
  interface = interface_open(kind, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  host_poll();
  frames_forget();
}

static void close_all(int32_t socket) {
  if (socket > 0) {
    CHECK_EQUAL(abi_udp_close(socket), 0);
  }
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static struct datagram from_peer(int32_t family, uint16_t to_port, const void *data, uint32_t length) {
  bool four = family == ABI_FAMILY_IPV4;
  return (struct datagram){.family = family,
                           .from = four ? PEER4 : PEER6,
                           .to = four ? HOST4 : HOST6,
                           .from_port = 4000,
                           .to_port = to_port,
                           .data = data,
                           .length = length};
}

static void deliver(void) {
  interface_receive(interface, packet.bytes, packet.length);
  host_poll();
}

static void datagrams_are_received_and_answered(void) {
  uint8_t data[1400];
  open_interface(ABI_KIND_TUN);
  int32_t socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 53);
  CHECK(socket > 0);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    for (uint32_t length = 0; length <= sizeof data; length += 35) {
      pattern_fill(data, length, length);
      struct datagram sent = from_peer(family, 53, data, length), there, back;
      packet_udp(&packet, &sent);
      deliver();
      there = datagram_expect(socket);
      uint32_t size = family == ABI_FAMILY_IPV4 ? 4 : 16;
      CHECK_EQUAL(there.family, family);
      CHECK(memcmp(there.from, sent.from, size) == 0 && memcmp(there.to, sent.to, size) == 0);
      CHECK(there.from_port == 4000 && there.to_port == 53 && there.length == length);
      pattern_check(there.data, length, length);
      CHECK_EQUAL(udp_put(socket, family, sent.from, 4000, data, (int32_t)length), 0);
      host_poll();
      struct frame frame = frame_next();
      CHECK(datagram_parse(&back, frame.bytes, frame.length));
      CHECK(back.from_port == 53 && back.to_port == 4000 && back.length == length);
      CHECK_EQUAL(frame.bytes[family == ABI_FAMILY_IPV4 ? 8 : 7], 64);
      pattern_check(back.data, length, length);
    }
  }
  close_all(socket);
}

/* The UDP length field against the length of the packet. */
static void wrong_udp_lengths_are_dropped(void) {
  uint8_t data[40];
  pattern_fill(data, sizeof data, 0);
  open_interface(ABI_KIND_TUN);
  int32_t socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 53);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    uint32_t at = family == ABI_FAMILY_IPV4 ? 20 : 40;
    for (uint32_t claimed = 0; claimed <= 8 + sizeof data + 100; claimed++) {
      struct datagram sent = from_peer(family, 53, data, LWIP_MIN(claimed - 8, sizeof data));
      bool valid = claimed >= 8 && claimed <= 8 + sizeof data;
      if (!valid) {
        sent.length = sizeof data;
      }
      packet_udp(&packet, &sent);
      if (valid) { /* a whole datagram, and bytes after it */
        uint32_t whole = at + 8 + sizeof data;
        memset(packet.bytes + packet.length, 0xee, whole - packet.length);
        packet.length = whole;
        put16(packet.bytes + (at == 20 ? 2 : 4), at == 20 ? whole : whole - 40);
        if (at == 20) {
          put16(packet.bytes + 10, 0);
          put16(packet.bytes + 10, (uint16_t)~reference_checksum(packet.bytes, 20, 0));
        }
      } else {
        put16(packet.bytes + at + 4, claimed);
      }
      deliver();
      if (valid) {
        struct datagram there = datagram_expect(socket);
        CHECK_EQUAL(there.length, claimed - 8);
        pattern_check(there.data, there.length, 0);
      }
      event_expect_none();
    }
    /* Without a checksum: valid in IPv4, invalid in IPv6 (RFC 8200, section 8.1). */
    struct datagram sent = from_peer(family, 53, data, sizeof data);
    packet_udp(&packet, &sent);
    put16(packet.bytes + at + 6, 0);
    deliver();
    if (family == ABI_FAMILY_IPV4) {
      CHECK_EQUAL(datagram_expect(socket).length, sizeof data);
    }
    event_expect_none();
    put16(packet.bytes + at + 6, 0x1234);
    deliver();
    event_expect_none();
  }
  close_all(socket);
}

static void truncated_datagrams_are_dropped(void) {
  uint8_t data[20] = {1};
  static struct packet whole;
  open_interface(ABI_KIND_TUN);
  int32_t socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 53);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    struct datagram sent = from_peer(family, 53, data, sizeof data);
    packet_udp(&whole, &sent);
    uint32_t header = family == ABI_FAMILY_IPV4 ? 20 : 40;
    for (uint32_t length = header; length < whole.length; length++) {
      memcpy(packet.bytes, whole.bytes, length);
      packet.length = length;
      put16(packet.bytes + (header == 20 ? 2 : 4), header == 20 ? length : length - 40);
      if (header == 20) {
        put16(packet.bytes + 10, 0);
        put16(packet.bytes + 10, (uint16_t)~reference_checksum(packet.bytes, 20, 0));
      }
      deliver();
    }
  }
  event_expect_none();
  close_all(socket);
}

/* RFC 1122, section 4.1.3.1; no answer to a broadcast or multicast (section 3.2.2). */
static void closed_port_is_answered_with_port_unreachable(void) {
  open_interface(ABI_KIND_TUN);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    struct datagram sent = from_peer(family, 99, "?", 1);
    packet_udp(&packet, &sent);
    deliver();
    struct frame frame = frame_next();
    uint32_t header = family == ABI_FAMILY_IPV4 ? 20 : 40;
    CHECK(frame.length >= 2 * header + 16);
    CHECK(frame.bytes[header] == (header == 20 ? 3 : 1) && frame.bytes[header + 1] == (header == 20 ? 3 : 4));
    CHECK(memcmp(frame.bytes + 2 * header + 8, packet.bytes + header, 8) == 0);
  }
  struct datagram sent = from_peer(ABI_FAMILY_IPV4, 99, "?", 1);
  sent.to = BROADCAST;
  packet_udp(&packet, &sent);
  deliver();
  CHECK_EQUAL(frame_next().length, 0);
  close_all(0);
}

static void connected_socket_receives_from_its_peer_only(void) {
  open_interface(ABI_KIND_TUN);
  int32_t socket = udp_socket_open(ABI_FAMILY_IPV4, NULL, 53);
  endpoint_put(ABI_FAMILY_IPV4, PEER4, 4000);
  CHECK_EQUAL(abi_udp_connect(socket), 0);
  CHECK_EQUAL(abi_udp_local(socket), 0);
  CHECK(memcmp(tw_scratch.bytes + 12, HOST4, 4) == 0);
  struct datagram sent = from_peer(ABI_FAMILY_IPV4, 53, "yes", 3);
  packet_udp(&packet, &sent);
  deliver();
  CHECK_EQUAL(datagram_expect(socket).length, 3);
  sent.from_port = 4001;
  packet_udp(&packet, &sent);
  deliver();
  sent.from_port = 4000;
  sent.from = OTHER4;
  packet_udp(&packet, &sent);
  deliver();
  event_expect_none();
  frames_forget();
  memcpy((void *)(uintptr_t)tw_staging(), "out", 3);
  CHECK_EQUAL(abi_udp_send(socket, 3, 0), 0);
  host_poll();
  struct frame frame = frame_next();
  struct datagram out;
  CHECK(datagram_parse(&out, frame.bytes, frame.length));
  CHECK(out.to_port == 4000 && memcmp(out.to, PEER4, 4) == 0 && memcmp(out.data, "out", 3) == 0);
  close_all(socket);
}

static void impossible_calls_are_refused(void) {
  open_interface(ABI_KIND_TAP);
  int32_t one = udp_socket_open(ABI_FAMILY_IPV4, HOST4, 53);
  CHECK(one > 0);
  CHECK_EQUAL(udp_socket_open(ABI_FAMILY_IPV4, HOST4, 53), ABI_ERROR_ADDRESS_IN_USE);
  CHECK_EQUAL(udp_socket_open(ABI_FAMILY_IPV4, NULL, 53), ABI_ERROR_ADDRESS_IN_USE);
  CHECK_EQUAL(udp_socket_open(ABI_FAMILY_ANY, NULL, 53), ABI_ERROR_ADDRESS_IN_USE);
  CHECK_EQUAL(udp_socket_open(ABI_FAMILY_IPV4, PEER4, 54), ABI_ERROR_ADDRESS_NOT_AVAILABLE);
  CHECK_EQUAL(udp_socket_open(5, NULL, 54), ABI_ERROR_INVALID);
  CHECK_EQUAL(udp_socket_open(ABI_FAMILY_IPV4, NULL, 65536), ABI_ERROR_INVALID);
  CHECK_EQUAL(udp_socket_open(ABI_FAMILY_IPV4, NULL, -1), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_udp_open(ABI_FAMILY_IPV6, 0, 12345), ABI_ERROR_INVALID);
  int32_t two = udp_socket_open(ABI_FAMILY_IPV6, NULL, 53);
  CHECK(two > 0);
  CHECK_EQUAL(udp_put(one, ABI_FAMILY_IPV6, PEER6, 1, "", 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(udp_put(one, ABI_FAMILY_IPV4, PEER4, 0, "", 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(udp_put(one, ABI_FAMILY_IPV4, FAR4, 1, "", 0), ABI_ERROR_NO_ROUTE);
  CHECK_EQUAL(udp_put(one, ABI_FAMILY_IPV4, (uint8_t[4]){0}, 1, "", 0), ABI_ERROR_NO_ROUTE);
  CHECK_EQUAL(udp_put(two, ABI_FAMILY_IPV6, LOCAL6, 1, "", 0), ABI_ERROR_NO_ROUTE);
  CHECK_EQUAL(udp_put(one, ABI_FAMILY_IPV4, PEER4, 1, "", -1), ABI_ERROR_INVALID);
  endpoint_put(ABI_FAMILY_IPV4, PEER4, 1);
  CHECK_EQUAL(abi_udp_send(one, ABI_MAX_DATAGRAM + 1, 1), ABI_ERROR_TOO_LONG);
  endpoint_put(ABI_FAMILY_IPV6, PEER6, 1);
  CHECK_EQUAL(abi_udp_send(two, ABI_MAX_DATAGRAM6 + 1, 1), ABI_ERROR_TOO_LONG);
  memset(tw_scratch.bytes, 0xff, ABI_SCRATCH_CAPACITY);
  CHECK_EQUAL(abi_udp_send(one, 1, 1), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_udp_connect(one), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_udp_group(one, 1, 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_udp_send(one, 1, 0), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(udp_put(one, ABI_FAMILY_IPV4, BROADCAST, 1, "", 0), ABI_ERROR_NOT_PERMITTED);
  CHECK_EQUAL(udp_put(one, ABI_FAMILY_IPV4, SUBNET, 1, "", 0), ABI_ERROR_NOT_PERMITTED);
  CHECK_EQUAL(abi_udp_option(one, ABI_OPTION_HOP_LIMIT, 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_udp_option(one, ABI_OPTION_MULTICAST_HOP_LIMIT, 256), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_udp_option(one, ABI_OPTION_MULTICAST_INTERFACE, 77), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_udp_option(one, ABI_OPTION_NODELAY, 1), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_udp_close(two), 0);
  int32_t stale = one;
  close_all(one);
  CHECK_EQUAL(abi_udp_close(stale), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_udp_send(stale, 0, 0), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_udp_connect(stale), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_udp_local(stale), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_udp_option(stale, 0, 0), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_udp_group(stale, 1, 0), ABI_ERROR_BAD_HANDLE);
}

/* A datagram without room is refused as a whole, and WRITABLE follows when there is room; accepted datagrams are not lost. */
static void full_buffer_refuses_and_reports_writable(void) {
  static uint8_t data[ABI_MAX_DATAGRAM];
  static const int32_t sizes[] = {10, 1400, 5000, ABI_MAX_DATAGRAM6};
  open_interface(ABI_KIND_TUN);
  int32_t socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 53);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      uint32_t taken = 0, seen = 0;
      int32_t result;
      host_fetch_frames(false);
      while ((result = udp_put(socket, family, family == 4 ? PEER4 : PEER6, 9, data, sizes[i])) == 0) {
        taken += (uint32_t)sizes[i] + 8;
        host_poll();
      }
      CHECK_EQUAL(result, ABI_ERROR_NO_ROOM);
      CHECK_EQUAL(udp_put(socket, family, family == 4 ? PEER4 : PEER6, 9, data, sizes[i]), ABI_ERROR_NO_ROOM);
      host_poll();
      event_expect_none();
      CHECK_EQUAL(interface_words(interface)[ABI_BLOCK_DROPPED_TRANSMIT_FULL], 0);
      host_fetch_frames(true);
      host_poll();
      host_poll();
      event_expect(ABI_EVENT_WRITABLE, socket);
      event_expect_none();
      for (struct frame frame; (frame = frame_next()).length != 0;) {
        bool fragment = family == 4 ? (get16(frame.bytes + 6) & 0x3fff) != 0 : frame.bytes[6] == 44;
        seen += frame.length - (family == 4 ? 20 : fragment ? 48 : 40);
      }
      CHECK_EQUAL(seen, taken);
    }
  }
  host_fetch_frames(false);
  while (udp_put(socket, ABI_FAMILY_IPV4, PEER4, 9, data, 1400) == 0) {
  }
  close_all(socket); /* while a socket waits for it */
  host_fetch_frames(true);
}

/* The queue of an unresolved neighbour is bounded: the next datagram is refused, and all leave when the neighbour answers. */
static void queue_of_an_unresolved_neighbour_is_bounded(void) {
  open_interface(ABI_KIND_TAP);
  int32_t socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 53);
  for (int round = 0; round < 2; round++) {
    const uint8_t *peer = round == 0 ? PEER4 : OTHER4;
    for (int i = 0; i < 64; i++) {
      CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, peer, 9, &i, 4), 0);
    }
    CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, peer, 9, "x", 1), ABI_ERROR_NO_ROOM);
    host_poll();
    event_expect_none();
    frames_forget();
    if (round == 1) { /* unresolved: given up after some seconds */
      host_advance(20 * (int64_t)SECOND);
      event_expect(ABI_EVENT_WRITABLE, socket);
      continue;
    }
    packet_arp(&packet, 2, PEER_MAC, peer, HOST4);
    packet_ethernet(&packet, HOST_MAC, 0x0806);
    deliver();
    event_expect(ABI_EVENT_WRITABLE, socket);
    for (int i = 0; i < 64; i++) {
      struct frame frame = frame_next();
      CHECK_EQUAL(frame.length, 14 + 28 + 4);
      CHECK(memcmp(frame.bytes + 42, &i, 4) == 0);
    }
    CHECK_EQUAL(frame_next().length, 0);
  }
  int32_t taken = 0, result;
  while ((result = udp_put(socket, ABI_FAMILY_IPV6, PEER6, 9, "x", 1)) == 0) {
    taken++;
  }
  CHECK_EQUAL(result, ABI_ERROR_NO_ROOM);
  CHECK_EQUAL(taken, 64);
  host_advance(20 * (int64_t)SECOND);
  event_expect(ABI_EVENT_WRITABLE, socket);
  close_all(socket);
}

static uint32_t count_to(const uint8_t *mac) {
  uint32_t count = 0;
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    count += memcmp(frame.bytes, mac, 6) == 0 && get16(frame.bytes + 12) == 0x0800 && frame.bytes[14 + 9] == 17;
  }
  return count;
}

static void broadcasts_leave_by_each_capable_interface(void) {
  static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255}, second[4] = {10, 1, 0, 1};
  open_interface(ABI_KIND_TAP);
  int32_t other = interface_open(ABI_KIND_TAP, 1500), tun = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(other, second, 24), 0);
  CHECK_EQUAL(interface_set_ipv4(tun, FAR4, 24), 0);
  int32_t socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 53);
  CHECK_EQUAL(abi_udp_option(socket, ABI_OPTION_BROADCAST, 1), 0);
  host_poll();
  frames_forget();
  CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, BROADCAST, 9, "hi", 2), 0);
  host_poll();
  CHECK_EQUAL(count_to(everybody), 2);
  CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, SUBNET, 9, "hi", 2), 0);
  host_poll();
  CHECK_EQUAL(count_to(everybody), 1);
  CHECK_EQUAL(abi_udp_option(socket, ABI_OPTION_MULTICAST_INTERFACE, other), 0);
  CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, BROADCAST, 9, "hi", 2), 0);
  host_poll();
  CHECK_EQUAL(count_to(everybody), 1);
  struct datagram sent = from_peer(ABI_FAMILY_IPV4, 53, "to all", 6);
  sent.to = BROADCAST;
  packet_udp(&packet, &sent);
  packet_ethernet(&packet, everybody, 0x0800);
  deliver();
  CHECK_EQUAL(datagram_expect(socket).length, 6);
  /* A broadcast of one link is for the own address of that link alone. */
  int32_t here = udp_socket_open(ABI_FAMILY_IPV4, HOST4, 67), there = udp_socket_open(ABI_FAMILY_IPV4, second, 67);
  sent = from_peer(ABI_FAMILY_IPV4, 67, "to all", 6);
  sent.to = BROADCAST;
  packet_udp(&packet, &sent);
  packet_ethernet(&packet, everybody, 0x0800);
  deliver();
  CHECK_EQUAL(datagram_expect(here).length, 6);
  event_expect_none();
  CHECK_EQUAL(abi_udp_close(here), 0);
  CHECK_EQUAL(abi_udp_close(there), 0);
  CHECK_EQUAL(abi_interface_remove(other), 0); /* the interface of the socket's choice is removed: all that can, again */
  CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, BROADCAST, 9, "hi", 2), 0);
  host_poll();
  CHECK_EQUAL(count_to(everybody), 1);
  CHECK_EQUAL(abi_interface_remove(tun), 0);
  close_all(socket);
}

static int32_t group_call(int32_t socket, int32_t family, const uint8_t *group, bool join) {
  endpoint_put(family, group, 0);
  return abi_udp_group(socket, join, 0);
}

static bool receives_group(int32_t socket, int32_t family, const uint8_t *group) {
  struct datagram sent = from_peer(family, 53, "group", 5);
  sent.to = group;
  packet_udp(&packet, &sent);
  packet_ethernet(&packet, HOST_MAC, family == ABI_FAMILY_IPV4 ? 0x0800 : 0x86dd);
  deliver();
  struct event event = event_next();
  CHECK(event.kind == 0 || event.handle == socket);
  return event.kind == ABI_EVENT_DATAGRAM;
}

static void groups_are_joined_and_left(void) {
  open_interface(ABI_KIND_TAP);
  int32_t one = udp_socket_open(ABI_FAMILY_ANY, NULL, 53), two = udp_socket_open(ABI_FAMILY_ANY, NULL, 54);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    const uint8_t *group = family == ABI_FAMILY_IPV4 ? GROUP4 : GROUP6;
    CHECK(!receives_group(one, family, group));
    CHECK_EQUAL(group_call(one, family, group, true), 0);
    CHECK_EQUAL(group_call(one, family, group, true), ABI_ERROR_ADDRESS_IN_USE);
    CHECK_EQUAL(group_call(two, family, group, true), 0);
    CHECK(receives_group(one, family, group));
    CHECK_EQUAL(group_call(one, family, group, false), 0);
    CHECK_EQUAL(group_call(one, family, group, false), ABI_ERROR_ADDRESS_NOT_AVAILABLE);
    CHECK(receives_group(one, family, group)); /* the stack is still a member */
    CHECK_EQUAL(group_call(two, family, group, false), 0);
    CHECK(!receives_group(one, family, group));
    CHECK_EQUAL(group_call(two, family, group, true), 0); /* left when the socket is closed */
    frames_forget();
    CHECK_EQUAL(udp_put(one, family, group, 99, "x", 1), 0);
    host_poll();
    struct frame frame = frame_next();
    CHECK_EQUAL(frame.bytes[14 + (family == ABI_FAMILY_IPV4 ? 8 : 7)], 1);
  }
  CHECK_EQUAL(group_call(one, ABI_FAMILY_IPV4, HOST4, true), ABI_ERROR_INVALID);
  uint8_t group[4] = {239, 9, 0, 0};
  for (int i = 0; i < ABI_MAX_MEMBERSHIPS; i++) {
    group[3] = (uint8_t)i;
    CHECK_EQUAL(group_call(one, ABI_FAMILY_IPV4, group, true), 0);
  }
  group[2] = 1;
  CHECK_EQUAL(group_call(one, ABI_FAMILY_IPV4, group, true), ABI_ERROR_LIMIT);
  CHECK_EQUAL(abi_udp_close(two), 0);
  CHECK(!receives_group(one, ABI_FAMILY_IPV4, GROUP4));
  CHECK(!receives_group(one, ABI_FAMILY_IPV6, GROUP6));
  CHECK_EQUAL(abi_interface_remove(interface), 0); /* removed with its groups */
  CHECK_EQUAL(abi_udp_close(one), 0);
}

static void failing_allocations_refuse_datagrams(void) {
  uint8_t data[3000] = {0};
  open_interface(ABI_KIND_TAP);
  int32_t socket = 0;
  for (int64_t allowed = 0; socket <= 0; allowed++) {
    allocations_left = allowed;
    allocations_fail_once = true;
    socket = udp_socket_open(ABI_FAMILY_ANY, NULL, 0);
    CHECK(socket > 0 || socket == ABI_ERROR_NO_MEMORY);
  }
  int32_t result = -1;
  for (int64_t allowed = 0; result != 0; allowed++) {
    allocations_left = allowed;
    result = group_call(socket, ABI_FAMILY_IPV4, GROUP4, true);
    CHECK(result == 0 || result == ABI_ERROR_NO_MEMORY);
  }
  for (int64_t allowed = 0; allowed < 40; allowed++) {
    allocations_left = allowed;
    result = udp_put(socket, ABI_FAMILY_IPV4, PEER4, 9, data, allowed % 2 ? 100 : 3000);
    CHECK(result == 0 || result == ABI_ERROR_NO_MEMORY || result == ABI_ERROR_NO_ROOM);
    struct datagram sent = from_peer(ABI_FAMILY_IPV4, 53, data, 9);
    packet_udp(&packet, &sent);
    packet_ethernet(&packet, HOST_MAC, 0x0800);
    allocations_left = allowed;
    deliver();
  }
  allocations_left = -1;
  close_all(socket);
}

int main(void) {
  host_start();
  host_reserve_handles(64);
  RUN(datagrams_are_received_and_answered);
  RUN(wrong_udp_lengths_are_dropped);
  RUN(truncated_datagrams_are_dropped);
  RUN(closed_port_is_answered_with_port_unreachable);
  RUN(connected_socket_receives_from_its_peer_only);
  RUN(impossible_calls_are_refused);
  RUN(full_buffer_refuses_and_reports_writable);
  RUN(queue_of_an_unresolved_neighbour_is_bounded);
  RUN(broadcasts_leave_by_each_capable_interface);
  RUN(groups_are_joined_and_left);
  RUN(failing_allocations_refuse_datagrams);
  return 0;
}
