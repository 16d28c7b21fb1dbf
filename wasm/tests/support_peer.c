/* A scripted TCP peer behind a tun interface: it sends the segments that a test names, keeps count of sequence numbers, and
   checks the segments of the stack. It does nothing by itself, so that a protocol violation of its is one that the test asked
   for. */
#include "support.h"

#include <string.h>

struct peer peer_new(int32_t interface, int32_t family, uint16_t port) {
  bool four = family == ABI_FAMILY_IPV4;
  return (struct peer){
      .family = family,
      .interface = interface,
      .from = four ? PEER4 : PEER6,
      .to = four ? HOST4 : HOST6,
      .from_port = 40000,
      .to_port = port,
      .window = 65535,
      .sequence = 0xfffffff0, /* so that it wraps early */
  };
}

void peer_option(struct peer *peer, const void *option, uint32_t length) {
  CHECK(peer->options_length + length <= sizeof peer->options);
  memcpy(peer->options + peer->options_length, option, length);
  peer->options_length += length;
}

static void send_segment(const struct peer *peer, uint32_t flags, int32_t offset, const void *data, uint32_t length,
                         bool options) {
  static struct packet packet;
  struct segment segment = {
      .family = peer->family,
      .from = peer->from,
      .to = peer->to,
      .from_port = peer->from_port,
      .to_port = peer->to_port,
      .window = peer->window,
      .sequence = peer->sequence + (uint32_t)offset,
      .acknowledgement = flags & ACK ? peer->acknowledgement : 0,
      .flags = flags,
      .data = data,
      .length = length,
      .options = peer->options,
      .options_length = options ? peer->options_length : 0,
  };
  packet_tcp(&packet, &segment);
  interface_receive(peer->interface, packet.bytes, packet.length);
}

void peer_send_at(const struct peer *peer, uint32_t flags, int32_t offset, const void *data, uint32_t length) {
  send_segment(peer, flags, offset, data, length, (flags & SYN) != 0);
}

void peer_send_options(const struct peer *peer, uint32_t flags) { send_segment(peer, flags, 0, NULL, 0, true); }

void peer_send_stamped(struct peer *peer, uint32_t flags, const void *data, uint32_t length) {
  send_segment(peer, flags, 0, data, length, true);
  peer->sequence += length + (flags & FIN ? 1 : 0);
}

const uint8_t *segment_option(const struct segment *segment, uint8_t kind) {
  const uint8_t *option = segment->options, *end = option + segment->options_length;
  while (option < end && *option != 0) {
    if (*option == kind) {
      return option;
    }
    option += *option == 1 ? 1 : option[1];
  }
  return NULL;
}

void peer_send(struct peer *peer, uint32_t flags, const void *data, uint32_t length) {
  peer_send_at(peer, flags, 0, data, length);
  peer->sequence += length + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0);
}

struct segment peer_peek(const struct peer *peer) {
  struct segment segment;
  struct frame frame;
  while ((frame = frame_next()).length != 0) {
    if (segment_parse(&segment, frame.bytes, frame.length) && segment.to_port == peer->from_port) {
      return segment;
    }
  }
  return (struct segment){0};
}

struct segment peer_expect(struct peer *peer, uint32_t flags) {
  struct segment segment = peer_peek(peer);
  CHECK_EQUAL(segment.flags & ~(uint32_t)PSH, flags);
  CHECK_EQUAL(segment.from_port, peer->to_port);
  CHECK_EQUAL(segment.family, peer->family);
  if ((flags & SYN) != 0) {
    peer->start = segment.sequence;
    peer->acknowledgement = segment.sequence + 1;
  } else if (segment.sequence == peer->acknowledgement) {
    peer->acknowledgement += segment.length + (flags & FIN ? 1 : 0);
  }
  return segment;
}

void peer_expect_silence(const struct peer *peer) { CHECK_EQUAL(peer_peek(peer).flags, 0); }

void peer_open(struct peer *peer, int32_t listener) {
  peer_send(peer, SYN, NULL, 0);
  host_poll();
  CHECK_EQUAL(peer_expect(peer, SYN | ACK).acknowledgement, peer->sequence);
  host_pass(peer->round_trip);
  peer_send(peer, ACK, NULL, 0);
  host_poll();
  peer->handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  CHECK(peer->handle > 0);
}

void peer_answer(struct peer *peer) {
  host_poll();
  struct segment segment = peer_peek(peer);
  CHECK_EQUAL(segment.flags, SYN);
  peer->to_port = segment.from_port;
  peer->start = segment.sequence;
  peer->acknowledgement = segment.sequence + 1;
  peer_send(peer, SYN | ACK, NULL, 0);
  host_poll();
  event_expect(ABI_EVENT_CONNECTED, peer->handle);
  CHECK_EQUAL(peer_expect(peer, ACK).acknowledgement, peer->sequence);
}

void peer_finish(struct peer *peer) {
  host_poll();
  peer_expect(peer, FIN | ACK);
  peer_send(peer, FIN | ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(peer_expect(peer, ACK).acknowledgement, peer->sequence);
}
