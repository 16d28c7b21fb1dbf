/* Out of memory, at each allocation in turn: a call may fail, a connection may end, a frame may be lost; nothing leaks, nothing
   is used after it was freed, and when memory is available again the stack serves as before. */
#include "support.h"

#include <string.h>

enum { LENGTH = 20000 };

static uint8_t sent[LENGTH], got[LENGTH];

static int64_t left = -1; /* allocations_left, but for the stack alone */

static void limit_on(void) { allocations_left = left; }

static void limit_off(void) {
  left = allocations_left;
  allocations_left = -1;
}

static void poll_once(int64_t duration) {
  limit_on();
  host_poll_once(duration);
  limit_off();
}

static void take_all(int32_t *accepted, uint32_t *length, bool *ended) {
  struct event event;
  while ((event = event_next()).kind != 0) {
    if (event.kind == ABI_EVENT_ACCEPTED) {
      CHECK_EQUAL(*accepted, 0);
      *accepted = event.value;
      limit_on();
      abi_tcp_accepted(event.value);
      limit_off();
    } else if (event.kind == ABI_EVENT_DATA) {
      CHECK(*length + event.length <= LENGTH);
      memcpy(got + *length, event.payload, event.length);
      *length += event.length;
      limit_on();
      abi_tcp_received(host_clock_or_none(), event.handle, (int32_t)event.length);
      limit_off();
    } else if (event.kind == ABI_EVENT_EOF || event.kind == ABI_EVENT_CLOSED) {
      *ended |= event.handle == *accepted;
    }
  }
}

/* A client and a server in the same stack exchange data over its loopback interface. Returns whether all of it succeeded. */
static bool exchange(int32_t family) {
  int32_t accepted = 0, listener, client, loopback;
  uint32_t length = 0;
  int32_t taken = 0;
  bool ended = false;
  limit_on();
  loopback = interface_open(ABI_KIND_LOOPBACK, 1500);
  limit_off();
  if (loopback > 0) {
    interface_set_ipv4(loopback, LOCAL4, 8);
    interface_set_ipv6(loopback, LOCAL6);
  }
  limit_on();
  listener = tcp_listener(family, NULL, 80, 4);
  client = tcp_open(family, family == ABI_FAMILY_IPV4 ? LOCAL4 : LOCAL6, 80);
  limit_off();
  for (int i = 0; i < 400 && client > 0 && listener > 0 && !(ended && length == LENGTH); i++) {
    poll_once(25 * MILLISECOND);
    take_all(&accepted, &length, &ended);
    if (accepted > 0 && taken < LENGTH) {
      limit_on();
      int32_t step = tcp_put_at(host_clock_or_none(), client, sent + taken, LENGTH - taken);
      if (step > 0) {
        taken += step;
      }
      if (taken == LENGTH) {
        abi_tcp_shutdown(client);
      }
      limit_off();
    }
  }
  pattern_check(got, length, 0);
  bool whole = ended && length == LENGTH;
  limit_on();
  if (accepted > 0) {
    CHECK_EQUAL(abi_tcp_close(accepted), 0);
  }
  if (client > 0) {
    CHECK_EQUAL(abi_tcp_close(client), 0);
  }
  if (listener > 0) {
    CHECK_EQUAL(abi_tcp_close(listener), 0);
  }
  limit_off();
  for (int i = 0; i < 10; i++) {
    poll_once(25 * MILLISECOND);
  }
  allocations_left = -1;
  host_advance(200 * (int64_t)SECOND);
  struct event event;
  while ((event = event_next()).kind == ABI_EVENT_ACCEPTED) {
    CHECK_EQUAL(abi_tcp_abort(event.value), 0);
  }
  CHECK_EQUAL(event.kind, 0);
  if (loopback > 0) {
    CHECK_EQUAL(abi_interface_remove(loopback), 0);
  }
  return whole;
}

static void each_allocation_fails(int32_t family, bool once) {
  bool untouched = false;
  int64_t allocation = 0;
  for (; !untouched; allocation++) {
    CHECK(allocation < 2000);
    allocations_fail_once = once;
    left = allocation;
    bool whole = exchange(family);
    untouched = left > 0;
    CHECK(!untouched || whole);
    host_expect_clean();
  }
  CHECK(allocation > 20);
  left = -1;
  CHECK(exchange(family));
}

static void each_single_allocation_fails_over_ipv4(void) { each_allocation_fails(ABI_FAMILY_IPV4, true); }

static void each_single_allocation_fails_over_ipv6(void) { each_allocation_fails(ABI_FAMILY_IPV6, true); }

static void all_allocations_fail_from_some_point(void) { each_allocation_fails(ABI_FAMILY_IPV4, false); }

/* Frames of every kind while no allocation succeeds, and once more with memory. */
static void frames_without_memory_are_lost_only(void) {
  static struct packet packet;
  int32_t interface = interface_open(ABI_KIND_TAP, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  for (int64_t allocation = 0; allocation < 12; allocation++) {
    allocations_left = allocation;
    packet_arp(&packet, 1, PEER_MAC, PEER4, HOST4);
    packet_ethernet(&packet, HOST_MAC, 0x0806);
    interface_receive(interface, packet.bytes, packet.length);
    packet_neighbour_solicitation(&packet, HOST6, PEER_MAC);
    packet_ethernet(&packet, HOST_MAC, 0x86dd);
    interface_receive(interface, packet.bytes, packet.length);
    for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
      packet_icmp_echo(&packet, family, "memory", 6);
      packet_ethernet(&packet, HOST_MAC, family == ABI_FAMILY_IPV4 ? 0x0800 : 0x86dd);
      interface_receive(interface, packet.bytes, packet.length);
      bool four = family == ABI_FAMILY_IPV4;
      struct segment segment = {
          .family = family,
          .from = four ? PEER4 : PEER6,
          .to = four ? HOST4 : HOST6,
          .from_port = 40000,
          .to_port = 9,
          .flags = SYN,
          .window = 1000,
      };
      packet_tcp(&packet, &segment); /* answered with a reset */
      packet_ethernet(&packet, HOST_MAC, four ? 0x0800 : 0x86dd);
      interface_receive(interface, packet.bytes, packet.length);
    }
    host_poll();
    allocations_left = -1;
  }
  frames_forget();
  packet_icmp_echo(&packet, ABI_FAMILY_IPV4, "memory", 6);
  packet_ethernet(&packet, HOST_MAC, 0x0800);
  interface_receive(interface, packet.bytes, packet.length);
  host_poll();
  struct frame reply = frame_next();
  CHECK_EQUAL(reply.length, 14 + 20 + 8 + 6);
  CHECK(memcmp(reply.bytes + 14 + 28, "memory", 6) == 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* An empty send queue is no reason for WRITABLE where memory is what was missing: a refused writer is notified after a delay,
   not at once and repeatedly; then its write succeeds. */
static void a_writer_without_memory_is_notified_after_a_delay(void) {
  int32_t interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  int32_t listener = tcp_listener(ABI_FAMILY_IPV4, NULL, 80, 4);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_open(&peer, listener);
  host_advance(SECOND);
  for (int time = 0; time < 5; time++) {
    allocations_left = 0;
    CHECK_EQUAL(tcp_put(peer.handle, sent, 500), 0);
    CHECK_EQUAL(tw_control[ABI_CONTROL_SEND_FULL], 1);
    allocations_left = time < 4 ? 0 : -1;
    for (int millisecond = 0; millisecond < (20 << time) - 5; millisecond++) {
      host_poll_once(MILLISECOND);
      event_expect_none();
    }
    CHECK(host_deadline() != -1);
    host_advance(50 * MILLISECOND);
    event_expect(ABI_EVENT_WRITABLE, peer.handle);
    event_expect_none();
  }
  CHECK_EQUAL(tcp_put(peer.handle, sent, 500), 500);
  host_poll();
  CHECK_EQUAL(peer_expect(&peer, ACK).length, 500);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* An interface that was added while memory was short joins multicast groups as any other, once memory is available. */
static void an_interface_made_without_memory_joins_groups_later(void) {
  static const uint8_t group[4] = {239, 1, 2, 3};
  bool complete = false;
  for (int64_t count = 0; !complete; count++) {
    CHECK(count < 100);
    for (int forever = 0; forever < 2; forever++) {
      allocations_left = count;
      allocations_fail_once = !forever;
      int32_t interface = interface_open(ABI_KIND_TAP, 1500);
      complete = allocations_left > 0;
      allocations_left = -1;
      if (interface > 0) {
        CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
        int32_t socket = udp_socket_open(ABI_FAMILY_IPV4, NULL, 5000);
        endpoint_put(ABI_FAMILY_IPV4, group, 0);
        CHECK_EQUAL(abi_udp_group(socket, 1, interface), 0);
        host_poll();
        uint32_t reports = 0;
        for (struct frame frame; (frame = frame_next()).length != 0;) {
          reports += get16(frame.bytes + 12) == 0x0800 && frame.bytes[23] == 2 && memcmp(frame.bytes + 30, group, 4) == 0;
        }
        CHECK(reports > 0);
        CHECK_EQUAL(abi_udp_close(socket), 0);
        host_poll();
        frames_forget();
        CHECK_EQUAL(abi_interface_remove(interface), 0);
      }
    }
  }
  allocations_fail_once = false;
}

int main(void) {
  pattern_fill(sent, LENGTH, 0);
  host_start();
  RUN(frames_without_memory_are_lost_only);
  RUN(a_writer_without_memory_is_notified_after_a_delay);
  RUN(each_single_allocation_fails_over_ipv4);
  RUN(each_single_allocation_fails_over_ipv6);
  RUN(all_allocations_fail_from_some_point);
  RUN(an_interface_made_without_memory_joins_groups_later);
  return 0;
}
