/* Interfaces that are removed under open connections, pending address resolution and incomplete datagrams; and the limits on
   interfaces and their addresses. */
#include "support.h"
#include "link/interface.h"
#include "tcp/connection.h"
#include "tcp/tcp_lookup.h"

#include <string.h>

static void number_of_interfaces_is_limited(void) {
  int32_t handles[ABI_MAX_INTERFACES];
  host_reserve_handles(ABI_MAX_INTERFACES);
  CHECK_EQUAL(interface_open(4, 1500), ABI_ERROR_INVALID);
  CHECK_EQUAL(interface_open(-1, 1500), ABI_ERROR_INVALID);
  CHECK_EQUAL(interface_open(ABI_KIND_TUN, 67), ABI_ERROR_INVALID);
  CHECK_EQUAL(interface_open(ABI_KIND_TUN, ABI_MAX_FRAME + 1), ABI_ERROR_INVALID);
  for (int round = 0; round < 5; round++) { /* lwIP numbers interfaces in eight bits: 640 of them in all */
    for (int i = 0; i < ABI_MAX_INTERFACES; i++) {
      handles[i] = interface_open(i == 0 ? ABI_KIND_LOOPBACK : 1 + i % 3, 1500);
      CHECK(handles[i] > 0);
    }
    CHECK_EQUAL(interface_open(ABI_KIND_TUN, 1500), ABI_ERROR_LIMIT);
    host_poll();
    for (int i = 0; i < ABI_MAX_INTERFACES; i++) {
      CHECK_EQUAL(abi_interface_remove(handles[(i * 7) % ABI_MAX_INTERFACES]), 0);
    }
  }
  handles[0] = interface_open(ABI_KIND_LOOPBACK, 1500);
  CHECK_EQUAL(interface_open(ABI_KIND_LOOPBACK, 1500), ABI_ERROR_LIMIT);
  CHECK_EQUAL(abi_interface_remove(handles[0]), 0);
}

static void number_of_addresses_is_limited(void) {
  int32_t interface = interface_open(ABI_KIND_TUN, 1500);
  uint8_t address[16] = {0xfd};
  int count = 0;
  for (; count < 20; count++) {
    address[15] = (uint8_t)(count + 1);
    int32_t error = interface_set_ipv6(interface, address);
    if (error != 0) {
      CHECK_EQUAL(error, ABI_ERROR_LIMIT);
      break;
    }
    CHECK_EQUAL(interface_set_ipv6(interface, address), 0); /* adding the same address again takes no second slot */
  }
  CHECK_EQUAL(count, 7); /* eight, of which the first is reserved for the link-local one */
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 33), ABI_ERROR_INVALID);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, -1), ABI_ERROR_INVALID);
  for (int32_t prefix = 0; prefix <= 32; prefix++) {
    CHECK_EQUAL(interface_set_ipv4(interface, HOST4, prefix), 0);
  }
  memcpy(tw_scratch.bytes, HOST4, 4);
  CHECK_EQUAL(abi_interface_address(interface, 5, 24), ABI_ERROR_INVALID);
  host_poll();
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static struct peer open_peer(int32_t interface, int32_t listener, uint16_t port) {
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer.from_port = port;
  peer_open(&peer, listener);
  return peer;
}

/* Connections of a removed interface end, in each state and with data in each direction. */
static void removing_an_interface_ends_its_connections(void) {
  int32_t interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer idle = open_peer(interface, listener, 1), busy = open_peer(interface, listener, 2);
  struct peer waiting = open_peer(interface, listener, 3), half = peer_new(interface, ABI_FAMILY_IPV4, 80);
  half.from_port = 4;
  peer_send(&half, SYN, NULL, 0);
  int32_t connecting = tcp_open(ABI_FAMILY_IPV4, PEER4, 9);
  static uint8_t data[50000];
  CHECK_EQUAL(tcp_put(busy.handle, data, sizeof data), sizeof data);
  host_poll();
  peer_send_at(&busy, ACK, 1000, data, 500); /* out of order: waits for the missing segment */
  host_poll();
  CHECK_EQUAL(tcp_put(waiting.handle, data, 10), 10);
  CHECK_EQUAL(abi_tcp_close(waiting.handle), 0);
  peer_send(&idle, ACK, data, 100); /* in the receive buffer when the interface is removed */
  CHECK_EQUAL(abi_interface_remove(interface), 0);
  host_poll();
  bool idle_ended = false, busy_ended = false, connecting_ended = false;
  struct event event;
  while ((event = event_next()).kind != 0) {
    CHECK_EQUAL(event.kind, ABI_EVENT_CLOSED);
    idle_ended |= event.handle == idle.handle;
    busy_ended |= event.handle == busy.handle;
    connecting_ended |= event.handle == connecting;
  }
  CHECK(idle_ended && busy_ended && connecting_ended);
  CHECK_EQUAL(tcp_put(idle.handle, data, 1), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(abi_tcp_received(0, busy.handle, 0), 0);
  CHECK_EQUAL(abi_tcp_close(idle.handle), 0);
  CHECK_EQUAL(abi_tcp_close(busy.handle), 0);
  CHECK_EQUAL(abi_tcp_close(connecting), 0);
  /* The listener, bound to no address, accepts on the next interface. */
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  struct peer again = open_peer(interface, listener, 5);
  CHECK_EQUAL(abi_tcp_abort(again.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void removing_an_interface_in_time_wait(void) {
  int32_t interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = open_peer(interface, listener, 1);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  peer_finish(&peer);
  CHECK_EQUAL(tw_tcp_time_wait_count(), 1);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
  host_poll();
}

/* Packets are queued for the address of a neighbour, IPv4 and IPv6, when their interface is removed. */
static void removing_an_interface_drops_queued_packets(void) {
  for (int round = 0; round < 20; round++) {
    int32_t interface = interface_open(ABI_KIND_TAP, 1500);
    CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
    CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
    int32_t four = tcp_open(ABI_FAMILY_IPV4, PEER4, 80), six = tcp_open(ABI_FAMILY_IPV6, PEER6, 80);
    CHECK(four > 0);
    CHECK(six > 0 || six == ABI_ERROR_NO_ROUTE);
    host_poll();
    CHECK_EQUAL(abi_interface_remove(interface), 0);
    host_poll();
    CHECK_EQUAL(event_next().kind, ABI_EVENT_CLOSED);
    CHECK_EQUAL(abi_tcp_close(four), 0);
    if (six > 0) {
      CHECK_EQUAL(event_next().kind, ABI_EVENT_CLOSED);
      CHECK_EQUAL(abi_tcp_close(six), 0);
    }
    frames_forget();
  }
}

/* A first fragment waits for the others; at its time-out an ICMP error is due, but its interface is gone. */
static void removing_an_interface_with_incomplete_datagrams(void) {
  static struct packet packet;
  static const uint8_t message[64] = {8}, fragment[72] = {PROTOCOL_ICMPV6, 0, 0, 1, 0, 0, 0, 5, 128};
  static const uint8_t link_local[16] = {0xfe, 0x80, [15] = 9};
  const uint8_t *sources[] = {PEER6, link_local};
  for (int source = 0; source < 2; source++) {
    int32_t interface = interface_open(ABI_KIND_TAP, 1500);
    CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
    CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
    packet_ip(&packet, ABI_FAMILY_IPV4, PEER4, HOST4, PROTOCOL_ICMP, message, sizeof message);
    put16(packet.bytes + 6, 0x2000);
    put16(packet.bytes + 10, 0);
    put16(packet.bytes + 10, (uint16_t)~reference_checksum(packet.bytes, 20, 0));
    packet_ethernet(&packet, HOST_MAC, 0x0800);
    interface_receive(interface, packet.bytes, packet.length);
    packet_ip(&packet, ABI_FAMILY_IPV6, sources[source], HOST6, 44, fragment, sizeof fragment);
    packet_ethernet(&packet, HOST_MAC, 0x86dd);
    interface_receive(interface, packet.bytes, packet.length);
    host_poll();
    CHECK(host_deadline() != -1);
    CHECK_EQUAL(abi_interface_remove(interface), 0);
    int32_t other = source == 0 ? 0 : interface_open(ABI_KIND_TUN, 1500);
    host_advance(120 * (int64_t)SECOND);
    if (other > 0) {
      CHECK_EQUAL(abi_interface_remove(other), 0);
    }
    frames_forget();
    host_expect_clean();
  }
}

/* After a change of the interface's address, connections of the old address end and those of the new one work. */
static void address_change_ends_connections_of_the_old_one(void) {
  static const uint8_t other[4] = {10, 0, 0, 99};
  int32_t interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = open_peer(interface, listener, 1);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0); /* the same address: no effect */
  host_poll();
  event_expect_none();
  CHECK_EQUAL(interface_set_ipv4(interface, other, 24), 0);
  host_poll();
  event_expect(ABI_EVENT_CLOSED, peer.handle);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  frames_forget();
  struct peer next = peer_new(interface, ABI_FAMILY_IPV4, 80);
  next.to = other;
  peer_open(&next, listener);
  CHECK_EQUAL(abi_tcp_abort(next.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* An embedder that observes a loopback interface carries each packet over; when it stops, the module does so again. */
static void observed_loopback_delivers_through_the_embedder(void) {
  static uint8_t data[1000];
  int32_t loopback = interface_open(ABI_KIND_LOOPBACK, 65535);
  CHECK_EQUAL(interface_set_ipv4(loopback, LOCAL4, 8), 0);
  uint32_t *words = interface_words(loopback);
  int32_t listener = tcp_listener(ABI_FAMILY_IPV4, NULL, 80, 8), accepted = 0, packets = 0;
  words[ABI_BLOCK_OBSERVED] = 1;
  int32_t client = tcp_open(ABI_FAMILY_IPV4, LOCAL4, 80);
  host_poll();
  host_poll();
  event_expect_none();
  for (struct frame frame; (frame = frame_next()).length != 0; packets++) {
    interface_receive(loopback, frame.bytes, frame.length);
    host_poll();
  }
  CHECK_EQUAL(packets, 3);
  struct event event;
  bool connected = false;
  while ((event = event_next()).kind != 0) {
    connected |= event.kind == ABI_EVENT_CONNECTED;
    accepted = event.kind == ABI_EVENT_ACCEPTED ? event.value : accepted;
  }
  CHECK(connected && accepted > 0);
  CHECK_EQUAL(abi_tcp_accepted(accepted), 0);
  for (int round = 0; round < 4; round++) { /* its buffers have been swapped an odd number of times, too */
    words[ABI_BLOCK_OBSERVED] = 0;
    CHECK_EQUAL(tcp_put(client, data, sizeof data), sizeof data);
    host_poll();
    CHECK_EQUAL(event_expect_data(accepted, data, sizeof data), sizeof data);
    CHECK_EQUAL(abi_tcp_received(0, accepted, sizeof data), 0);
    host_advance(SECOND);
    CHECK_EQUAL(frame_next().length, 0);
    words[ABI_BLOCK_OBSERVED] = 1;
    CHECK_EQUAL(tcp_put(client, data, sizeof data), sizeof data);
    host_poll();
    event_expect_none();
    /* The transmit buffer is where the block says. */
    const struct interface *object = tw_interface_object(loopback);
    CHECK_EQUAL(words[ABI_BLOCK_TRANSMIT_BUFFER], (uint32_t)(uintptr_t)object->transmit);
    CHECK_EQUAL(words[ABI_BLOCK_RECEIVE_BUFFER], (uint32_t)(uintptr_t)object->receive);
    for (struct frame frame; (frame = frame_next()).length != 0;) {
      interface_receive(loopback, frame.bytes, frame.length);
      host_poll();
    }
    CHECK_EQUAL(event_expect_data(accepted, data, sizeof data), sizeof data);
    CHECK_EQUAL(abi_tcp_received(0, accepted, sizeof data), 0);
    host_poll();
    for (struct frame frame; (frame = frame_next()).length != 0;) {
      interface_receive(loopback, frame.bytes, frame.length);
      host_poll();
    }
  }
  words[ABI_BLOCK_OBSERVED] = 0;
  CHECK_EQUAL(abi_tcp_abort(client), 0);
  host_poll();
  event_expect(ABI_EVENT_CLOSED, accepted);
  CHECK_EQUAL(abi_tcp_close(accepted), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(loopback), 0);
}

int main(void) {
  host_start();
  RUN(number_of_interfaces_is_limited);
  RUN(number_of_addresses_is_limited);
  RUN(removing_an_interface_ends_its_connections);
  RUN(removing_an_interface_in_time_wait);
  RUN(removing_an_interface_drops_queued_packets);
  RUN(removing_an_interface_with_incomplete_datagrams);
  RUN(address_change_ends_connections_of_the_old_one);
  RUN(observed_loopback_delivers_through_the_embedder);
  return 0;
}
