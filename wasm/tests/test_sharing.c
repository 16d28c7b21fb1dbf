/* Ports that several sockets share, datagrams for several sockets, multicast to members on the same stack, and connection
   options that are visible on the wire. */
#include "support.h"
#include "abi/staging.h"

#include <string.h>

enum { BOTH = ABI_SHARE_ADDRESS | ABI_SHARE_PORT, FLOWS = 256 };

static const uint8_t GROUP4[4] = {239, 1, 2, 3}, GROUP6[16] = {0xff, 5, [15] = 9};
static const uint8_t LINK_GROUP6[16] = {0xff, 2, [15] = 0xfb}, SUBNET[4] = {10, 0, 0, 255};
static int32_t interface;
static struct packet packet;

static void open_kind(int32_t kind) {
  interface = interface_open(kind, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  host_poll();
  frames_forget();
}

static void open_interface(void) { open_kind(ABI_KIND_TAP); }

static void close_interface(void) {
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void deliver(int32_t family, const uint8_t *to, uint16_t from_port, uint16_t to_port, uint32_t length) {
  static uint8_t data[1400];
  bool four = family == ABI_FAMILY_IPV4;
  struct datagram sent = {.family = family,
                          .from = four ? PEER4 : PEER6,
                          .to = to,
                          .from_port = from_port,
                          .to_port = to_port,
                          .data = data,
                          .length = length};
  packet_udp(&packet, &sent);
  packet_ethernet(&packet, HOST_MAC, four ? 0x0800 : 0x86dd);
  interface_receive(interface, packet.bytes, packet.length);
  host_poll();
}

static void a_port_is_bound_twice_only_when_shared(void) {
  open_interface();
  for (int32_t family = ABI_FAMILY_ANY; family <= ABI_FAMILY_IPV6; family += family == 0 ? 4 : 2) {
    for (int32_t one = 0; one <= BOTH; one += 256) {
      for (int32_t two = 0; two <= BOTH; two += 256) {
        int32_t first = udp_socket_open(family | one, NULL, 53), second = udp_socket_open(family | two, NULL, 53);
        CHECK(first > 0 && ((one & two) != 0 ? second > 0 : second == ABI_ERROR_ADDRESS_IN_USE));
        CHECK_EQUAL(abi_udp_close(first), 0);
        CHECK(second < 0 || abi_udp_close(second) == 0);
      }
    }
  }
  /* An ephemeral port is never one in use, though both sockets would share it. */
  int32_t sockets[64];
  uint16_t ports[64];
  for (int i = 0; i < 64; i++) {
    sockets[i] = udp_socket_open(ABI_FAMILY_IPV4 | BOTH, NULL, 0);
    CHECK(sockets[i] > 0 && abi_udp_local(sockets[i]) == 0);
    memcpy(&ports[i], tw_scratch.bytes + 4, sizeof ports[i]);
    for (int j = 0; j < i; j++) {
      CHECK(ports[i] != ports[j]);
    }
  }
  int32_t with = udp_socket_open(ABI_FAMILY_IPV4 | BOTH, NULL, ports[0]);
  CHECK(with > 0 && abi_udp_close(with) == 0);
  for (int i = 0; i < 64; i++) {
    CHECK_EQUAL(abi_udp_close(sockets[i]), 0);
  }
  close_interface();
}

static void the_latest_of_equal_sockets_receives(void) {
  open_interface();
  int32_t first = udp_socket_open(ABI_FAMILY_IPV4 | ABI_SHARE_ADDRESS, NULL, 53);
  int32_t second = udp_socket_open(ABI_FAMILY_IPV4 | ABI_SHARE_ADDRESS, NULL, 53);
  deliver(ABI_FAMILY_IPV4, HOST4, 4000, 53, 3);
  datagram_expect(second);
  int32_t exact = udp_socket_open(ABI_FAMILY_IPV4 | ABI_SHARE_ADDRESS, HOST4, 53);
  int32_t other = udp_socket_open(ABI_FAMILY_IPV4 | ABI_SHARE_ADDRESS, NULL, 53);
  deliver(ABI_FAMILY_IPV4, HOST4, 4000, 53, 3);
  datagram_expect(exact);
  endpoint_put(ABI_FAMILY_IPV4, PEER4, 4000);
  CHECK_EQUAL(abi_udp_connect(first), 0);
  for (int i = 0; i < 3; i++) {
    deliver(ABI_FAMILY_IPV4, HOST4, 4000, 53, 3);
    datagram_expect(first);
    deliver(ABI_FAMILY_IPV4, HOST4, 4001, 53, 3);
    datagram_expect(exact);
  }
  event_expect_none();
  int32_t all[] = {first, second, exact, other};
  for (int i = 0; i < 4; i++) {
    CHECK_EQUAL(abi_udp_close(all[i]), 0);
  }
  close_interface();
}

static int32_t owners(int32_t *owner, const int32_t *sockets, int count, int32_t family) {
  int32_t used[4] = {0};
  for (int flow = 0; flow < FLOWS; flow++) {
    deliver(family, family == ABI_FAMILY_IPV4 ? HOST4 : HOST6, (uint16_t)(1024 + flow), 53, 5);
    struct event event = event_next();
    CHECK_EQUAL(event.kind, ABI_EVENT_DATAGRAM);
    owner[flow] = event.handle;
    for (int i = 0; i < count; i++) {
      used[i] += event.handle == sockets[i];
    }
  }
  event_expect_none();
  int32_t least = FLOWS;
  for (int i = 0; i < count; i++) {
    least = LWIP_MIN(least, used[i]);
  }
  return least;
}

static void a_flow_stays_with_one_socket(void) {
  static int32_t before[FLOWS], after[FLOWS];
  open_interface();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    int32_t sockets[4];
    for (int i = 0; i < 4; i++) {
      sockets[i] = udp_socket_open(family | BOTH, NULL, 53);
    }
    CHECK(owners(before, sockets, 4, family) > FLOWS / 8); /* a quarter is the expected share of each */
    CHECK(owners(after, sockets, 4, family) > FLOWS / 8);
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK_EQUAL(abi_udp_close(sockets[1]), 0);
    owners(after, sockets, 4, family);
    for (int flow = 0; flow < FLOWS; flow++) { /* the flows of the closed socket are distributed, and no others move */
      CHECK(before[flow] == sockets[1] ? after[flow] != sockets[1] : after[flow] == before[flow]);
    }
    for (int i = 0; i < 4; i++) {
      CHECK(i == 1 || abi_udp_close(sockets[i]) == 0);
    }
  }
  close_interface();
}

static void expect_each(const int32_t *sockets, int count, uint32_t length) {
  for (int i = 0; i < count; i++) {
    int found = 0;
    struct event event = event_next();
    CHECK_EQUAL(event.kind, ABI_EVENT_DATAGRAM);
    CHECK_EQUAL(event.value, length);
    for (int j = 0; j < count; j++) {
      found += event.handle == sockets[j];
    }
    CHECK_EQUAL(found, 1);
  }
  event_expect_none();
}

static void every_member_receives_a_group_datagram(void) {
  open_interface();
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    const uint8_t *group = family == ABI_FAMILY_IPV4 ? GROUP4 : GROUP6;
    int32_t all[3] = {udp_socket_open(family | BOTH, NULL, 53), udp_socket_open(family | BOTH, NULL, 53),
                      udp_socket_open(ABI_FAMILY_ANY | BOTH, NULL, 53)};
    int32_t elsewhere = udp_socket_open(family | BOTH, family == ABI_FAMILY_IPV4 ? HOST4 : HOST6, 53);
    endpoint_put(family, group, 0);
    CHECK_EQUAL(abi_udp_group(all[0], 1, 0), 0);
    host_poll();
    deliver(family, group, 4000, 53, 7);
    expect_each(all, 3, 7);
    if (family == ABI_FAMILY_IPV4) {
      int32_t every[4] = {all[0], all[1], all[2], elsewhere};
      deliver(family, SUBNET, 4000, 53, 9);
      expect_each(every, 4, 9);
    }
    /* A socket connected to another peer does not receive it. */
    endpoint_put(family, family == ABI_FAMILY_IPV4 ? PEER4 : PEER6, 4001);
    CHECK_EQUAL(abi_udp_connect(all[1]), 0);
    deliver(family, group, 4000, 53, 11);
    int32_t rest[2] = {all[0], all[2]};
    expect_each(rest, 2, 11);
    for (int i = 0; i < 3; i++) {
      CHECK_EQUAL(abi_udp_close(all[i]), 0);
    }
    CHECK_EQUAL(abi_udp_close(elsewhere), 0);
  }
  close_interface();
}

/* More copies of one frame than the event buffer has room for: some are counted as lost, and nothing breaks. */
static void copies_beyond_the_event_buffer_are_counted(void) {
  static int32_t sockets[2000];
  open_interface();
  for (int i = 0; i < 2000; i++) {
    sockets[i] = udp_socket_open(ABI_FAMILY_IPV4 | BOTH, NULL, 53);
    CHECK(sockets[i] > 0);
  }
  deliver(ABI_FAMILY_IPV4, SUBNET, 4000, 53, 1400);
  int received = 0;
  while (event_next().kind == ABI_EVENT_DATAGRAM) {
    received++;
  }
  CHECK(received > 250 && received < 2000);
  for (int i = 0; i < 2000; i++) {
    CHECK_EQUAL(abi_udp_close(sockets[i]), 0);
  }
  close_interface();
}

static void own_members_receive_group_datagrams(void) {
  open_interface();
  for (int way = 0; way < 3; way++) {
    int32_t family = way == 0 ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6;
    const uint8_t *group = way == 0 ? GROUP4 : way == 1 ? GROUP6 : LINK_GROUP6;
    int32_t all[2] = {udp_socket_open(family | BOTH, NULL, 53), udp_socket_open(family | BOTH, NULL, 53)};
    CHECK_EQUAL(udp_put(all[1], family, group, 53, "before", 6), 0);
    host_poll();
    event_expect_none(); /* not a member yet */
    endpoint_put(family, group, 0);
    CHECK_EQUAL(abi_udp_group(all[0], 1, 0), 0);
    host_poll();
    frames_forget();
    CHECK_EQUAL(udp_put(all[1], family, group, 53, "hello", 5), 0);
    host_poll();
    CHECK_EQUAL(frame_next().length, 14 + (family == ABI_FAMILY_IPV4 ? 20 : 40) + 8 + 5); /* it also leaves once on the wire */
    CHECK_EQUAL(frame_next().length, 0);
    expect_each(all, 2, 5);
    CHECK_EQUAL(udp_put(all[1], family, group, 53, "hello", 5), 0);
    host_poll();
    struct datagram there = datagram_expect(event_next().handle == all[0] ? all[1] : all[0]);
    CHECK(memcmp(there.data, "hello", 5) == 0 && there.from_port == 53 && there.to_port == 53);
    CHECK(way == 2 || /* an address of the link, which the socket has, too */
          memcmp(there.from, family == ABI_FAMILY_IPV4 ? HOST4 : HOST6, family == ABI_FAMILY_IPV4 ? 4 : 16) == 0);
    CHECK(memcmp(there.to, group, family == ABI_FAMILY_IPV4 ? 4 : 16) == 0);
    CHECK_EQUAL(abi_udp_option(all[1], ABI_OPTION_MULTICAST_LOOP, 0), 0);
    CHECK_EQUAL(abi_udp_option(all[1], ABI_OPTION_MULTICAST_LOOP, 2), ABI_ERROR_INVALID);
    CHECK_EQUAL(udp_put(all[1], family, group, 53, "hello", 5), 0);
    host_poll();
    event_expect_none();
    CHECK_EQUAL(abi_udp_option(all[1], ABI_OPTION_MULTICAST_LOOP, 1), 0);
    frames_forget();
    for (int i = 0; i < 2; i++) {
      CHECK_EQUAL(abi_udp_close(all[i]), 0);
    }
  }
  int32_t socket = udp_socket_open(ABI_FAMILY_IPV4, NULL, 53);
  CHECK_EQUAL(abi_udp_option(socket, ABI_OPTION_BROADCAST, 1), 0);
  CHECK_EQUAL(abi_udp_option(socket, ABI_OPTION_MULTICAST_LOOP, 0), 0); /* for groups, not for broadcasts: as on Linux */
  CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, SUBNET, 53, "all", 3), 0);
  host_poll();
  CHECK_EQUAL(datagram_expect(socket).length, 3);
  event_expect_none();
  CHECK_EQUAL(abi_udp_close(socket), 0);
  close_interface();
}

/* Datagrams queued for the stack's own sockets are bounded, and dropped with their interface or when memory is short. */
static void datagrams_for_own_members_are_bounded(void) {
  open_interface();
  static uint8_t data[1200];
  int32_t socket = udp_socket_open(ABI_FAMILY_IPV4, NULL, 53);
  CHECK_EQUAL(abi_udp_option(socket, ABI_OPTION_BROADCAST, 1), 0);
  int sent = 0, received = 0;
  while (udp_put(socket, ABI_FAMILY_IPV4, SUBNET, 53, data, sizeof data) == 0) {
    sent++;
  }
  host_poll();
  while (event_next().kind == ABI_EVENT_DATAGRAM) {
    received++;
  }
  CHECK(received > 100 && received <= sent && received * (int)sizeof data <= 262144);
  frames_forget();
  for (int64_t allowed = 0; allowed < 8; allowed++) {
    allocations_left = allowed;
    udp_put(socket, ABI_FAMILY_IPV4, SUBNET, 53, data, 9);
    allocations_left = -1;
    host_poll();
    while (event_next().kind != 0) {
    }
  }
  CHECK_EQUAL(udp_put(socket, ABI_FAMILY_IPV4, SUBNET, 53, data, 9), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
  host_poll();
  event_expect_none();
  CHECK_EQUAL(abi_udp_close(socket), 0);
}

static void listeners_share_a_port_by_flow(void) {
  open_kind(ABI_KIND_TUN);
  int32_t listener[3], alone = tcp_listener(ABI_FAMILY_IPV4, NULL, 81, 8);
  for (int i = 0; i < 3; i++) {
    listener[i] = tcp_listener(ABI_FAMILY_IPV4 | ABI_SHARE_PORT, NULL, 80, 8);
    CHECK(listener[i] > 0);
  }
  CHECK_EQUAL(tcp_listener(ABI_FAMILY_IPV4, NULL, 80, 8), ABI_ERROR_ADDRESS_IN_USE);
  CHECK_EQUAL(tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8), ABI_ERROR_ADDRESS_IN_USE);
  CHECK_EQUAL(tcp_listener(ABI_FAMILY_IPV4 | ABI_SHARE_PORT, NULL, 81, 8), ABI_ERROR_ADDRESS_IN_USE);
  int32_t first[60], count[3] = {0};
  for (int round = 0; round < 2; round++) {
    for (int flow = 0; flow < 60; flow++) {
      struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
      peer.from_port = (uint16_t)(20000 + flow);
      peer_send(&peer, SYN, NULL, 0);
      host_poll();
      peer_expect(&peer, SYN | ACK);
      peer_send(&peer, ACK, NULL, 0);
      host_poll();
      struct event event = event_next();
      CHECK_EQUAL(event.kind, ABI_EVENT_ACCEPTED);
      CHECK(round == 0 || first[flow] == event.handle);
      first[flow] = event.handle;
      for (int i = 0; i < 3; i++) {
        count[i] += event.handle == listener[i];
      }
      CHECK_EQUAL(abi_tcp_abort(event.value), 0);
      host_poll();
      frames_forget();
    }
  }
  CHECK(count[0] > 10 && count[1] > 10 && count[2] > 10);
  CHECK_EQUAL(count[0] + count[1] + count[2], 120);
  for (int i = 0; i < 3; i++) {
    CHECK_EQUAL(abi_tcp_close(listener[i]), 0);
  }
  CHECK_EQUAL(abi_tcp_close(alone), 0);
  close_interface();
}

static struct peer connected(int32_t *listener) {
  static const uint8_t mss[] = {2, 4, 1000 >> 8, 1000 & 255};
  open_kind(ABI_KIND_TUN);
  *listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_option(&peer, mss, sizeof mss);
  peer_open(&peer, *listener);
  return peer;
}

static void information_reports_the_connection(void) {
  int32_t listener;
  struct peer peer = connected(&listener);
  struct abi_information got;
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_HOP_LIMIT, 7), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_TYPE_OF_SERVICE, 0x28), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_HOP_LIMIT, 0), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_HOP_LIMIT, 256), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_TYPE_OF_SERVICE, 256), ABI_ERROR_INVALID);
  memset((void *)(uintptr_t)tw_staging(), 1, 700);
  CHECK_EQUAL(abi_tcp_send(0, peer.handle, 700), 700);
  host_poll();
  struct frame frame = frame_next();
  CHECK_EQUAL(frame.bytes[8], 7);
  CHECK_EQUAL(frame.bytes[1], 0x28);
  CHECK_EQUAL(abi_tcp_information(peer.handle), 0);
  memcpy(&got, tw_scratch.bytes, sizeof got);
  CHECK_EQUAL(got.state, 4); /* ESTABLISHED of lwIP */
  CHECK_EQUAL(got.segment_size, 1000);
  CHECK_EQUAL(got.unacknowledged, 700);
  CHECK_EQUAL(got.unsent, 0);
  CHECK_EQUAL(got.send_window, 65535);
  CHECK_EQUAL(got.features, 0);
  CHECK(got.rto >= 200 && got.congestion_window >= 1000);
  CHECK_EQUAL(abi_tcp_information(listener), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_information(peer.handle), ABI_ERROR_BAD_HANDLE);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  close_interface();
}

/* RFC 5482: the connection ends when an acknowledgement is overdue by this time, and not before, whatever its
   retransmissions. */
static void user_timeout_ends_the_connection(void) {
  int32_t listener;
  for (int32_t seconds = 1; seconds <= 64; seconds *= 4) {
    struct peer peer = connected(&listener);
    CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_USER_TIMEOUT, seconds * 1000), 0);
    host_advance(300 * SECOND); /* nothing is unacknowledged: silence has no limit */
    event_expect_none();
    for (int i = 0; i < 3; i++) { /* an acknowledgement restarts the time */
      CHECK_EQUAL(abi_tcp_send(0, peer.handle, 10), 10);
      host_poll();
      peer_expect(&peer, ACK);
      host_advance(seconds * SECOND * 3 / 4);
      frames_forget();
      peer_send(&peer, ACK, NULL, 0);
      host_poll();
    }
    event_expect_none();
    CHECK_EQUAL(abi_tcp_send(0, peer.handle, 10), 10);
    host_poll();
    host_advance(seconds * SECOND - SECOND / 10);
    event_expect_none();
    host_advance(SECOND / 5);
    CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
    CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
    CHECK_EQUAL(abi_tcp_close(listener), 0);
    close_interface();
  }
}

int main(void) {
  host_start();
  host_reserve_handles(2100);
  RUN(a_port_is_bound_twice_only_when_shared);
  RUN(the_latest_of_equal_sockets_receives);
  RUN(a_flow_stays_with_one_socket);
  RUN(every_member_receives_a_group_datagram);
  RUN(copies_beyond_the_event_buffer_are_counted);
  RUN(own_members_receive_group_datagrams);
  RUN(datagrams_for_own_members_are_bounded);
  RUN(listeners_share_a_port_by_flow);
  RUN(information_reports_the_connection);
  RUN(user_timeout_ends_the_connection);
  return 0;
}
