/* A hundred thousand mutated frames: those of a recorded exchange, with bytes changed, removed, repeated or moved, half of them
   with corrected checksums so that they get past the first check. The stack must stay consistent, report only events of open
   handles, and serve legitimate peers afterwards. */
#include "support.h"
#include "abi/handles.h"
#include "port/heap.h"
#include "tcp/connection.h"

#include <string.h>

enum { MUTATIONS = 100000, RECORDED = 64 };

static int32_t interface, listeners[2];
static struct packet recorded[RECORDED];
static uint32_t recorded_count;

static struct packet *record(void) {
  CHECK(recorded_count < RECORDED);
  return &recorded[recorded_count++];
}

static void record_segment(int32_t family, uint16_t from_port, uint32_t sequence, uint32_t acknowledgement, uint32_t flags,
                           const uint8_t *options, uint32_t options_length, uint32_t length) {
  static uint8_t data[1400];
  bool four = family == ABI_FAMILY_IPV4;
  struct segment segment = {
      .family = family,
      .from = four ? PEER4 : PEER6,
      .to = four ? HOST4 : HOST6,
      .from_port = from_port,
      .to_port = 80,
      .sequence = sequence,
      .acknowledgement = acknowledgement,
      .flags = flags,
      .window = 8192,
      .options = options,
      .options_length = options_length,
      .data = data,
      .length = length,
  };
  pattern_fill(data, length, sequence);
  struct packet *packet = record();
  packet_tcp(packet, &segment);
  packet_ethernet(packet, HOST_MAC, four ? 0x0800 : 0x86dd);
}

/* All that a neighbour may send: a complete connection, and the messages around it. */
static void record_exchange(int32_t family, uint16_t port, uint32_t start) {
  static const uint8_t syn_options[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7};
  static const uint8_t data_options[] = {1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 1};
  static const uint8_t sack_options[] = {1, 1, 5, 10, 0, 0, 4, 0, 0, 0, 8, 0};
  record_segment(family, port, 1000, 0, SYN, syn_options, sizeof syn_options, 0);
  record_segment(family, port, 1001, start + 1, ACK, data_options, sizeof data_options, 0);
  record_segment(family, port, 1001, start + 1, ACK | PSH, data_options, sizeof data_options, 700);
  record_segment(family, port, 3001, start + 1, ACK, data_options, sizeof data_options, 1400);
  record_segment(family, port, 1701, start + 1, ACK, sack_options, sizeof sack_options, 1300);
  record_segment(family, port, 4401, start + 1, FIN | ACK, data_options, sizeof data_options, 10);
  record_segment(family, port, 4412, start + 2, RST | ACK, NULL, 0, 0);
}

static const uint8_t datagram[20] = {0x30, 0x39, 0, 7, 0, 20};

static void record_ipv6_messages(void) {
  static const uint8_t router[16] = {0xfe, 0x80, [15] = 9}, all_nodes[16] = {0xff, 2, [15] = 1};
  static const uint8_t advertisement[64] = {134,  [4] = 64, [6] = 7,  [16] = 1, 1,    2,         0,        0,           0,
                                            0,    9,        [24] = 5, 1,        0,    0,         0,        0,           5,
                                            0xdc, [32] = 3, 4,        64,       0xc0, [39] = 99, [43] = 9, [48] = 0xfd, 9};
  static const uint8_t neighbour[32] = {136, [4] = 0x60, [8] = 0xfd, [23] = 2, [24] = 2, 1, 2, 0, 0, 0, 0, 2};
  static const uint8_t redirect[40] = {137, [8] = 0xfe, 0x80, [23] = 9, [24] = 0xfd, [39] = 7};
  static const uint8_t too_big[56] = {2, [6] = 5, [8] = 0x60, [14] = 6, 64, [16] = 0xfd, [31] = 1, [32] = 0xfd, [47] = 2};
  static const uint8_t listener_query[24] = {130, [4] = 3};
  struct {
    const uint8_t *from, *to;
    uint8_t protocol;
    const uint8_t *message;
    uint32_t length;
  } six[] = {
      {router, all_nodes, PROTOCOL_ICMPV6, advertisement, 64},
      {PEER6, HOST6, PROTOCOL_ICMPV6, neighbour, 32},
      {PEER6, all_nodes, PROTOCOL_ICMPV6, neighbour, 32},
      {router, HOST6, PROTOCOL_ICMPV6, redirect, 40},
      {PEER6, HOST6, PROTOCOL_ICMPV6, too_big, 56},
      {router, all_nodes, PROTOCOL_ICMPV6, listener_query, 24},
      {PEER6, HOST6, PROTOCOL_UDP, datagram, 20},
  };
  for (unsigned i = 0; i < sizeof six / sizeof *six; i++) {
    struct packet *packet = record();
    packet_ip(packet, ABI_FAMILY_IPV6, six[i].from, six[i].to, six[i].protocol, six[i].message, six[i].length);
    packet_ethernet(packet, HOST_MAC, 0x86dd);
  }
  for (uint8_t extension = 0; extension <= 60; extension += 60) { /* hop-by-hop, destination options */
    struct packet *packet = record();
    packet_ip_extended(packet, PEER6, HOST6, extension, PROTOCOL_ICMPV6, neighbour, 32);
    packet_ethernet(packet, HOST_MAC, 0x86dd);
  }
}

static void record_ipv4_messages(void) {
  static const uint8_t group_query[8] = {0x11, 100};
  static const uint8_t unreachable[36] = {3, 4, [8] = 0x45, [11] = 28, [17] = 6, [20] = 10, 0, 0, 1, 10, 0, 0, 2};
  struct {
    uint8_t protocol;
    const uint8_t *message;
    uint32_t length;
  } four[] = {
      {PROTOCOL_ICMP, unreachable, 36},
      {PROTOCOL_UDP, datagram, 20},
      {2, group_query, 8},
  };
  for (unsigned i = 0; i < sizeof four / sizeof *four; i++) {
    struct packet *packet = record();
    packet_ip(packet, ABI_FAMILY_IPV4, PEER4, HOST4, four[i].protocol, four[i].message, four[i].length);
    packet_ethernet(packet, HOST_MAC, 0x0800);
  }
}

/* An echo request in three fragments, over both. */
static void record_fragments(const uint8_t *data) {
  for (uint32_t part = 0; part < 3; part++) {
    struct packet *packet = record();
    uint8_t message[208] = {8};
    memcpy(message + 8, data, 200);
    packet_ip(packet, ABI_FAMILY_IPV4, PEER4, HOST4, PROTOCOL_ICMP, message, part == 0 ? 208 : 200);
    put16(packet->bytes + 6, (part < 2 ? 0x2000u : 0u) | (part * 208u / 8u));
    packet_ethernet(packet, HOST_MAC, 0x0800);
    packet = record();
    uint8_t fragment[216] = {PROTOCOL_ICMPV6};
    put16(fragment + 2, part * 208u | (part < 2));
    memcpy(fragment + 8, data, 208);
    packet_ip(packet, ABI_FAMILY_IPV6, PEER6, HOST6, 44, fragment, 216);
    packet_ethernet(packet, HOST_MAC, 0x86dd);
  }
}

static void record_all(uint16_t port, uint32_t start4, uint32_t start6) {
  uint8_t data[600];
  pattern_fill(data, sizeof data, 0);
  recorded_count = 0;
  record_exchange(ABI_FAMILY_IPV4, port, start4);
  record_exchange(ABI_FAMILY_IPV6, port, start6);
  record_exchange(ABI_FAMILY_IPV4, 9999, 0);
  record_ipv6_messages();
  record_ipv4_messages();
  record_fragments(data);
  for (uint16_t operation = 1; operation <= 2; operation++) {
    struct packet *packet = record();
    packet_arp(packet, operation, PEER_MAC, PEER4, HOST4);
    packet_ethernet(packet, HOST_MAC, 0x0806);
  }
  struct packet *packet = record();
  packet_neighbour_solicitation(packet, HOST6, PEER_MAC);
  packet_ethernet(packet, HOST_MAC, 0x86dd);
  packet = record();
  packet_icmp_echo(packet, ABI_FAMILY_IPV4, data, 100);
  packet_ethernet(packet, HOST_MAC, 0x0800);
  packet = record();
  packet_icmp_echo(packet, ABI_FAMILY_IPV6, data, 100);
  packet_ethernet(packet, HOST_MAC, 0x86dd);
}

/* A wrong checksum would end most frames at the first check. */
static void correct_checksums(struct packet *packet) {
  static struct packet corrected;
  uint8_t *ip = packet->bytes + 14;
  if (packet->length < 14 + 40) {
    return;
  }
  uint32_t length = packet->length - 14, type = get16(packet->bytes + 12), total;
  if (type == 0x0800 && (ip[0] & 15) >= 5 && (ip[0] & 15) * 4u <= length) {
    uint32_t header = (ip[0] & 15) * 4u;
    total = get16(ip + 2);
    if (header == 20 && total >= 20 && total <= length && (get16(ip + 6) & 0x3fff) == 0) {
      packet_ip(&corrected, ABI_FAMILY_IPV4, ip + 12, ip + 16, ip[9], ip + 20, total - 20);
      memcpy(ip + 20, corrected.bytes + 20, total - 20);
    }
    put16(ip + 10, 0);
    put16(ip + 10, (uint16_t)~reference_checksum(ip, header, 0));
  } else if (type == 0x86dd && (total = get16(ip + 4)) <= length - 40) {
    packet_ip(&corrected, ABI_FAMILY_IPV6, ip + 8, ip + 24, ip[6], ip + 40, total);
    memcpy(ip + 40, corrected.bytes + 40, total);
  }
}

static void mutate(struct packet *packet) {
  static const uint8_t telling[] = {0, 1, 2, 4, 5, 8, 0x7f, 0x80, 0xff, 6, 58, 44, 60, 43, 0x11, 0x45, 0x60};
  uint32_t changes = 1 + random_next() % 4;
  for (uint32_t i = 0; i < changes; i++) {
    uint32_t headers = packet->length < 110 ? packet->length : 110;
    uint32_t at = random_next() % 8 == 0 ? random_next() % packet->length : random_next() % headers;
    switch (random_next() % 6) {
      case 0:
        packet->bytes[at] ^= (uint8_t)(1u << random_next() % 8);
        break;
      case 1:
        packet->bytes[at] = (uint8_t)random_next();
        break;
      case 2:
      case 3:
        packet->bytes[at] = telling[random_next() % sizeof telling];
        break;
      case 4: /* truncated, or extended by the bytes that follow in the buffer */
        packet->length = random_next() % 3 == 0 ? packet->length + random_next() % 64 : 1 + random_next() % packet->length;
        break;
      default:
        if (at + 8 < packet->length) {
          memcpy(packet->bytes + at, packet->bytes + random_next() % (packet->length - 7), 8);
        }
    }
  }
}

static int32_t open_handles[1 << 16]; /* by their index: handles for which events may still be reported */
static uint32_t accepted, ended, taken; /* how far the exchange proceeded */

/* Fetches what has left within a call, or leaves it to the next poll. */
static void take_sent(void) {
  if (random_next() % 2 == 0) {
    host_take_sent();
  }
}

static void take_events(void) {
  static const char answer[] = "an answer";
  struct event event;
  while ((event = event_next()).kind != 0) {
    switch (event.kind) {
      case ABI_EVENT_ACCEPTED:
        CHECK(event.handle == listeners[0] || event.handle == listeners[1]);
        CHECK_EQUAL(open_handles[event.value & 0xffff], 0);
        open_handles[event.value & 0xffff] = event.value;
        accepted++;
        CHECK_EQUAL(abi_tcp_accepted(event.value), 0);
        tcp_put_at(host_clock_or_none(), event.value, answer, sizeof answer);
        take_sent();
        break;
      case ABI_EVENT_DATA:
        CHECK_EQUAL(open_handles[event.handle & 0xffff], event.handle);
        CHECK_EQUAL(abi_tcp_received(host_clock_or_none(), event.handle, event.value), 0);
        take_sent();
        taken += (uint32_t)event.value;
        break;
      case ABI_EVENT_EOF:
        CHECK_EQUAL(open_handles[event.handle & 0xffff], event.handle);
        abi_tcp_shutdown(event.handle);
        break;
      default:
        CHECK_EQUAL(event.kind, ABI_EVENT_CLOSED);
        CHECK_EQUAL(open_handles[event.handle & 0xffff], event.handle);
        open_handles[event.handle & 0xffff] = 0;
        ended++;
        CHECK_EQUAL(abi_tcp_close(event.handle), 0);
    }
    CHECK(tw_heap_used() < 64u << 20);
  }
}

static void deliver(const struct packet *packet) {
  interface_receive(interface, packet->bytes, packet->length);
  if (random_next() % 4 == 0) {
    host_poll_once(random_next() % 16 == 0 ? random_next() % SECOND : 0);
    take_events();
    frames_forget();
  }
}

/* Opens a connection from that port. Returns the initial sequence number of the stack, so that what is recorded matches it; 0
   if it did not answer, because a mutation replaced the neighbour's address. */
static uint32_t open_connection(int32_t family, uint16_t port) {
  recorded_count = 0;
  record_exchange(family, port, 0);
  interface_receive(interface, recorded[0].bytes, recorded[0].length);
  host_poll();
  take_events();
  struct frame frame;
  struct segment segment;
  uint32_t start = 0;
  while ((frame = frame_next()).length != 0) {
    if (segment_parse(&segment, frame.bytes + 14, frame.length - 14) && segment.flags == (SYN | ACK) &&
        segment.to_port == port) {
      start = segment.sequence;
    }
  }
  recorded_count = 0;
  record_exchange(family, port, start);
  interface_receive(interface, recorded[1].bytes, recorded[1].length);
  host_poll();
  take_events();
  frames_forget();
  return start;
}

static void deliver_mutations(void) {
  static struct packet packet, arp, solicitation;
  interface = interface_open(ABI_KIND_TAP, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  listeners[0] = tcp_listener(ABI_FAMILY_IPV4, NULL, 80, 100);
  listeners[1] = tcp_listener(ABI_FAMILY_IPV6, NULL, 80, 100);
  packet_arp(&arp, 1, PEER_MAC, PEER4, HOST4);
  packet_ethernet(&arp, HOST_MAC, 0x0806);
  packet_neighbour_solicitation(&solicitation, HOST6, PEER_MAC);
  packet_ethernet(&solicitation, HOST_MAC, 0x86dd);
  for (int i = 0; i < MUTATIONS; i++) {
    if (i % 50 == 0) { /* a new connection, so that there is something to disturb */
      host_poll();
      take_events();
      frames_forget();
      interface_receive(interface, arp.bytes, arp.length);
      interface_receive(interface, solicitation.bytes, solicitation.length);
      uint16_t port = (uint16_t)(10000 + i / 50);
      uint32_t start4 = open_connection(ABI_FAMILY_IPV4, port), start6 = open_connection(ABI_FAMILY_IPV6, port);
      record_all(port, start4, start6);
    }
    const struct packet *original = &recorded[random_next() % recorded_count];
    if (random_next() % 3 == 0) {
      deliver(original);
    }
    memcpy(packet.bytes, original->bytes, original->length + 64);
    packet.length = original->length;
    mutate(&packet);
    memcpy(packet.bytes, HOST_MAC, 6); /* frames to another station are dropped */
    if (random_next() % 2 == 0) {
      correct_checksums(&packet);
    }
    deliver(&packet);
  }
  host_poll();
  take_events();
  frames_forget();
  /* Most connections were established and carried data. That they end is checked by all_connections_end. */
  CHECK(accepted > MUTATIONS / 50);
  CHECK(taken > 1000 * 1000);
}

/* Whatever its tables contain, the stack must resolve this neighbour again. */
static void expect_service(void) {
  packet_arp(&recorded[0], 1, PEER_MAC, PEER4, HOST4);
  packet_ethernet(&recorded[0], HOST_MAC, 0x0806);
  interface_receive(interface, recorded[0].bytes, recorded[0].length);
  packet_icmp_echo(&recorded[1], ABI_FAMILY_IPV4, "alive", 5);
  packet_ethernet(&recorded[1], HOST_MAC, 0x0800);
  interface_receive(interface, recorded[1].bytes, recorded[1].length);
  host_poll();
  bool answered = false;
  struct frame frame;
  while ((frame = frame_next()).length != 0) {
    answered |= frame.length == 14 + 20 + 8 + 5 && frame.bytes[34] == 0 && memcmp(frame.bytes + 42, "alive", 5) == 0;
  }
  CHECK(answered);
}

/* The neighbour falls silent. Whatever state a connection is in, the stack must time it out: no mutation keeps one for ever. */
static void all_connections_end(void) {
  for (int minute = 0; minute < 30; minute++) { /* twelve retransmissions, two minutes apart at most */
    host_advance(60 * SECOND);
    take_events();
    frames_forget();
  }
  CHECK_EQUAL(ended, accepted);
  CHECK_EQUAL(tw_tcp_connections(), 0);
}

static void close_all(void) {
  CHECK_EQUAL(abi_tcp_close(listeners[0]), 0);
  CHECK_EQUAL(abi_tcp_close(listeners[1]), 0);
  CHECK_EQUAL(tw_handle_count(), 1);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void mutated_frames_do_not_break_the_stack(void) {
  host_reserve_handles(8192);
  deliver_mutations();
  expect_service();
  all_connections_end();
  close_all();
}

int main(void) {
  host_start();
  RUN(mutated_frames_do_not_break_the_stack);
  return 0;
}
