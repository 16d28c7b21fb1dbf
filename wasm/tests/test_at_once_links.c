/* SENT_AT_ONCE where sending reaches another interface than a tun: loopback, and the ports of a bridge. */
#include "support_at_once.h"

/* Receives the stream from byte `from` to `to`, behind its first 100 bytes. */
static void receive_all(int32_t server, uint32_t from, uint32_t to) {
  for (struct event event; from < to; host_advance(TICK)) {
    CHECK((event = event_next()).kind != 0);
    for (; event.kind != 0; event = event_next()) {
      if (event.kind == ABI_EVENT_DATA) {
        CHECK_EQUAL(event.handle, server);
        pattern_check(event.payload, event.length, 100 + from);
        from += event.length;
        CHECK_EQUAL(abi_tcp_received(host_clock(), server, (int32_t)event.length), 0);
      } else {
        CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
      }
    }
  }
  CHECK_EQUAL(from, to);
}

/* A packet to the stack itself needs a poll to arrive: no call over loopback reports that it has sent, nor does one over
   another interface while loopback frames are queued. */
static void loopback_needs_a_poll(int32_t family) {
  int32_t loopback_interface = interface_open(ABI_KIND_LOOPBACK, 65535);
  CHECK_EQUAL(interface_set_ipv4(loopback_interface, LOCAL4, 8), 0);
  CHECK_EQUAL(interface_set_ipv6(loopback_interface, LOCAL6), 0);
  struct peer peer = open_peer(family, 40000);
  int32_t client = tcp_open(family, family == ABI_FAMILY_IPV4 ? LOCAL4 : LOCAL6, 80), server = 0;
  host_poll();
  for (struct event event; (event = event_next()).kind != 0;) {
    server = event.kind == ABI_EVENT_ACCEPTED ? event.value : server;
  }
  CHECK(client > 0 && server > 0);
  CHECK_EQUAL(abi_tcp_accepted(server), 0);
  uint32_t length = 0, put = 0;
  CHECK_EQUAL(tcp_put_at(host_clock(), client, stream, 100), 100);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(interface_words(loopback_interface)[ABI_BLOCK_TRANSMIT_LENGTH] > 0);
  write_at(host_clock(), &peer, 0, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  expect_data(&peer, 0, 100);
  CHECK_EQUAL(event_expect_data(server, got, sizeof got), 100);
  pattern_check(got, 100, 0);
  CHECK_EQUAL(abi_tcp_received(host_clock(), server, 100), 0);
  acknowledge(&peer);
  /* The window is full, and is opened again. */
  for (int32_t step; (step = tcp_put_at(host_clock(), client, stream + 100 + put, LARGE)) > 0;) {
    put += (uint32_t)step;
    CHECK_EQUAL(sent_at_once(), 0);
    CHECK(100 + put + LARGE <= sizeof stream);
    host_advance(TICK);
  }
  length = event_expect_data(server, got, sizeof got);
  pattern_check(got, length, 100);
  CHECK(length > ABI_TCP_FIRST_WINDOW / 2 && length < put);
  CHECK_EQUAL(interface_words(loopback_interface)[ABI_BLOCK_TRANSMIT_LENGTH], 0);
  CHECK_EQUAL(abi_tcp_received(host_clock(), server, (int32_t)length), 0);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(interface_words(loopback_interface)[ABI_BLOCK_TRANSMIT_LENGTH] > 0);
  write_at(host_clock(), &peer, 100, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  expect_data(&peer, 100, 100);
  receive_all(server, length, put);
  CHECK_EQUAL(abi_tcp_abort(client), 0);
  CHECK_EQUAL(abi_tcp_abort(server), 0);
  CHECK_EQUAL(abi_interface_remove(loopback_interface), 0);
  end(&peer);
}

static uint32_t queued_bytes_at(int32_t port) { return interface_words(port)[ABI_BLOCK_TRANSMIT_LENGTH]; }

/* Receives a segment of the peer at a port, in an Ethernet frame. */
static void receive_at_port(int32_t port, uint16_t from_port, uint32_t sequence, uint32_t acknowledgement, uint32_t flags) {
  static const uint8_t far[] = {192, 0, 2, 7}, own[] = {192, 0, 2, 1};
  static struct packet packet;
  struct segment segment = {.family = ABI_FAMILY_IPV4,
                            .from = far,
                            .to = own,
                            .from_port = from_port,
                            .to_port = 80,
                            .sequence = sequence,
                            .acknowledgement = acknowledgement,
                            .flags = flags,
                            .window = 65535};
  packet_arp(&packet, 1, PEER_MAC, far, own);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  interface_receive(port, packet.bytes, packet.length);
  packet_tcp(&packet, &segment);
  packet_ethernet(&packet, HOST_MAC, 0x0800);
  interface_receive(port, packet.bytes, packet.length);
  host_poll();
}

/* Checks that the next TCP frame is a segment of the connection over the bridge, with this data. */
static struct segment expect_frame(uint32_t flags, uint32_t from, uint32_t length) {
  struct segment segment;
  struct frame frame;
  do { /* ARP replies, and announcements of the interfaces */
    frame = frame_next();
    CHECK(frame.length != 0);
  } while (!segment_parse(&segment, frame.bytes + 14, frame.length - 14));
  CHECK_EQUAL(segment.flags & ~(uint32_t)PSH, flags);
  CHECK_EQUAL(segment.length, length);
  CHECK(memcmp(segment.data, stream + from, length) == 0);
  return segment;
}

/* A bridge that has learned where the peer is sends by one port, which the call names; otherwise it floods, and only a poll
   reports several ports, also for what leaves after that. */
static void a_bridge_reports_one_port_only(int32_t family) {
  static const uint8_t own[] = {192, 0, 2, 1};
  int32_t bridge = interface_open(ABI_KIND_BRIDGE, 1500), ports[2];
  CHECK_EQUAL(interface_set_ipv4(bridge, own, 24), 0);
  for (int i = 0; i < 2; i++) {
    ports[i] = interface_open(ABI_KIND_TAP, 1500);
    CHECK_EQUAL(abi_bridge_add_port(bridge, ports[i]), 0);
  }
  struct peer peer = open_peer(family, 40000);
  receive_at_port(ports[0], 41000, 99, 0, SYN);
  struct segment answer = expect_frame(SYN | ACK, 0, 0);
  receive_at_port(ports[0], 41000, 100, answer.sequence + 1, ACK);
  int32_t handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  CHECK_EQUAL(abi_tcp_accepted(handle), 0);
  frames_forget();
  CHECK_EQUAL(tcp_put_at(host_clock(), handle, stream, 100), 100);
  CHECK_EQUAL(host_take_sent(), ports[0]);
  expect_frame(ACK, 0, 100);
  CHECK_EQUAL(queued_bytes_at(ports[0]), 0);
  CHECK_EQUAL(queued_bytes_at(ports[1]), 0);

  CHECK_EQUAL(abi_bridge_ageing(bridge, 0), 0); /* ageing time 0: a hub */
  CHECK_EQUAL(tcp_put_at(host_clock(), handle, stream + 100, 100), 100);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(queued_bytes_at(ports[0]) > 0);
  CHECK(queued_bytes_at(ports[1]) > 0);
  write_at(host_clock(), &peer, 0, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  uint32_t seen[2] = {0};
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    bool bridged = segment_parse(&segment, frame.bytes + 14, frame.length - 14);
    CHECK(bridged || segment_parse(&segment, frame.bytes, frame.length));
    CHECK_EQUAL(segment.to_port, bridged ? 41000 : 40000);
    CHECK_EQUAL(segment.length, 100);
    CHECK(memcmp(segment.data, stream + (bridged ? 100 : 0), 100) == 0);
    seen[bridged]++;
  }
  CHECK_EQUAL(seen[0], 1);
  CHECK_EQUAL(seen[1], 2);
  CHECK_EQUAL(abi_tcp_abort(handle), 0);
  for (int i = 0; i < 2; i++) {
    CHECK_EQUAL(abi_interface_remove(ports[i]), 0);
  }
  CHECK_EQUAL(abi_interface_remove(bridge), 0);
  end(&peer);
}

int main(void) {
  host_start();
  host_reserve_handles(32);
  RUN_OVER_BOTH(loopback_needs_a_poll);
  RUN_OVER_BOTH(a_bridge_reports_one_port_only);
  return 0;
}
