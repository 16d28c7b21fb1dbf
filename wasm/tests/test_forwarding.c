/* A stack that routes: what it forwards and how, what it must not forward, and which errors it sends. One side is a tun, the
   other a tun or a tap; the test plays all other nodes. */
#include "support.h"
#include "ip/forward.h"
#include "ip/routes.h"
#include "port/heap.h"

#include <string.h>

enum { NEAR_MTU = 1500, ICMP_ERROR = 8 };
enum { UNREACHABLE4 = 3, EXPIRED4 = 11, UNREACHABLE6 = 1, TOO_BIG6 = 2, EXPIRED6 = 3 };

static int32_t near, far;
static const uint8_t FAR4[4] = {10, 0, 1, 1}, THERE4[4] = {10, 0, 1, 2}, NOWHERE4[4] = {192, 0, 2, 1};
static const uint8_t FAR6[16] = {0xfd, 1, [15] = 1}, THERE6[16] = {0xfd, 1, [15] = 2}, NOWHERE6[16] = {0x20, 1, [15] = 1};
static const uint8_t THERE_MAC[6] = {2, 0, 0, 0, 0, 9};

static void open_router(int32_t kind, int32_t far_mtu) {
  near = interface_open(ABI_KIND_TUN, NEAR_MTU);
  far = interface_open(kind, far_mtu);
  CHECK_EQUAL(interface_set_ipv4(near, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(near, HOST6), 0);
  CHECK_EQUAL(interface_set_ipv4(far, FAR4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(far, FAR6), 0);
  CHECK_EQUAL(abi_forwarding(1), 0);
  host_jump(2 * SECOND); /* the rate limit of errors refills */
  frames_forget();
}

static void close_router(void) {
  CHECK_EQUAL(abi_forwarding(0), 0);
  CHECK_EQUAL(abi_interface_remove(near), 0);
  CHECK_EQUAL(abi_interface_remove(far), 0);
}

static uint32_t dropped(void) {
  abi_statistics();
  return tw_forward_drops();
}

static void update_checksum(struct packet *packet) {
  put16(packet->bytes + 10, 0);
  put16(packet->bytes + 10, (uint16_t)~reference_checksum(packet->bytes, (packet->bytes[0] & 15u) * 4, 0));
}

/* From the near side to the far one. */
static struct packet *transit_packet(int32_t family, uint8_t protocol, uint32_t length) {
  static struct packet packet;
  static uint8_t payload[PACKET_CAPACITY];
  bool four = family == ABI_FAMILY_IPV4;
  memset(payload, 0, 20);
  pattern_fill(payload + 20, length - 20, length);
  if (protocol == PROTOCOL_TCP) {
    payload[12] = 0x50;
  } else if (protocol == PROTOCOL_UDP) {
    put16(payload + 4, length);
  } else {
    payload[0] = four ? 8 : 128;
  }
  packet_ip(&packet, family, four ? PEER4 : PEER6, four ? THERE4 : THERE6, protocol, payload, length);
  packet.bytes[1] = four ? 3 : 0x30; /* congestion was experienced (RFC 3168): the mark is the receiver's */
  if (four) {
    update_checksum(&packet);
  }
  return &packet;
}

static void receive_near(const struct packet *packet) {
  interface_receive(near, packet->bytes, packet->length);
  host_poll();
}

/* The packet, with its hop limit one less and a valid checksum, behind `at` bytes of link header. */
static void expect_forwarded(const struct packet *packet, uint32_t at) {
  struct frame frame = frame_next();
  CHECK_EQUAL(frame.length, packet->length + at);
  const uint8_t *bytes = frame.bytes + at;
  bool four = bytes[0] >> 4 == 4;
  uint32_t hops = four ? 8 : 7, header = four ? (bytes[0] & 15u) * 4 : 40;
  CHECK_EQUAL(bytes[hops], packet->bytes[hops] - 1);
  CHECK(!four || reference_checksum(bytes, header, 0) == 0xffff);
  CHECK(memcmp(bytes + header, packet->bytes + header, packet->length - header) == 0);
  for (uint32_t i = 0; i < header; i++) {
    CHECK(i == hops || (four && (i == 10 || i == 11)) || bytes[i] == packet->bytes[i]);
  }
}

/* An ICMP error about the packet, from the near address to its sender; returns its second word. */
static uint32_t expect_error(const struct packet *packet, uint8_t type, uint8_t code) {
  struct frame frame = frame_next();
  CHECK(frame.length > 0);
  const uint8_t *bytes = frame.bytes;
  bool four = bytes[0] >> 4 == 4;
  uint32_t header = four ? 20 : 40, most = (four ? 576 : 1280) - header - ICMP_ERROR;
  CHECK_EQUAL(four ? get16(bytes + 2) : get16(bytes + 4) + 40, frame.length);
  CHECK(!four || reference_checksum(bytes, header, 0) == 0xffff);
  CHECK(!four || reference_checksum(bytes + header, frame.length - header, 0) == 0xffff);
  CHECK_EQUAL(bytes[four ? 9 : 6], four ? PROTOCOL_ICMP : PROTOCOL_ICMPV6);
  CHECK(memcmp(bytes + (four ? 12 : 8), four ? HOST4 : HOST6, four ? 4 : 16) == 0);
  CHECK(memcmp(bytes + (four ? 16 : 24), four ? PEER4 : PEER6, four ? 4 : 16) == 0);
  CHECK_EQUAL(bytes[header], type);
  CHECK_EQUAL(bytes[header + 1], code);
  uint32_t quoted = LWIP_MIN(packet->length, most);
  CHECK_EQUAL(frame.length, header + ICMP_ERROR + quoted);
  uint32_t hops = four ? 8 : 7; /* an error raised after the hop limit was decremented quotes that and its checksum */
  for (uint32_t i = 0; i < quoted; i++) {
    CHECK(i == hops || (four && (i == 10 || i == 11)) || bytes[header + ICMP_ERROR + i] == packet->bytes[i]);
  }
  return get32(bytes + header + 4);
}

static void expect_silence(void) { CHECK_EQUAL(frame_next().length, 0); }

static const struct {
  int32_t family;
  uint8_t protocol;
} kinds[] = {
    {ABI_FAMILY_IPV4, PROTOCOL_TCP}, {ABI_FAMILY_IPV4, PROTOCOL_UDP}, {ABI_FAMILY_IPV4, PROTOCOL_ICMP},
    {ABI_FAMILY_IPV6, PROTOCOL_TCP}, {ABI_FAMILY_IPV6, PROTOCOL_UDP}, {ABI_FAMILY_IPV6, PROTOCOL_ICMPV6},
    {ABI_FAMILY_IPV4, 132},          {ABI_FAMILY_IPV6, 132},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void every_protocol_is_forwarded(void) {
  open_router(ABI_KIND_TUN, 1500);
  for (int i = 0; i < KINDS; i++) {
    for (uint32_t length = 20; length < 1460; length += 479) {
      struct packet *packet = transit_packet(kinds[i].family, kinds[i].protocol, length);
      receive_near(packet);
      expect_forwarded(packet, 0);
    }
  }
  expect_silence();
  /* A router does not check what only the end nodes interpret: transport options and checksums. */
  struct packet *packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_TCP, 40);
  packet->bytes[40] = 7;
  packet->bytes[41] = 0;
  receive_near(packet);
  expect_forwarded(packet, 0);
  packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_UDP, 40); /* fragments as they come, the last first */
  for (uint32_t word = 0x2005; word != 0x2000; word = word == 0x2005 ? 5 : 0x2000) {
    put16(packet->bytes + 6, word);
    update_checksum(packet);
    receive_near(packet);
    expect_forwarded(packet, 0);
  }
  struct packet extended;
  packet_ip_extended(&extended, PEER6, THERE6, 0, PROTOCOL_UDP, packet->bytes, 40); /* hop-by-hop, RFC 8200, section 4 */
  receive_near(&extended);
  expect_forwarded(&extended, 0);
  close_router();
}

/* Eight packets are queued while the neighbour is resolved, and leave in order when it answers. */
static void packets_are_queued_while_a_neighbour_resolves(void) {
  open_router(ABI_KIND_TAP, 1500);
  struct packet kept[KINDS], answer;
  for (int i = 0; i < KINDS; i++) {
    kept[i] = *transit_packet(kinds[i].family, kinds[i].protocol, 700);
    receive_near(&kept[i]);
  }
  uint32_t asked = 0;
  for (struct frame frame; (frame = frame_next()).length != 0; asked++) {
    CHECK(get16(frame.bytes + 12) == 0x0806 || frame.bytes[54] == 135);
  }
  CHECK_EQUAL(asked, 2);
  packet_arp(&answer, 2, THERE_MAC, THERE4, FAR4);
  memcpy(answer.bytes + 18, HOST_MAC, 6);
  packet_ethernet(&answer, HOST_MAC, 0x0806);
  interface_receive(far, answer.bytes, answer.length);
  uint8_t message[32] = {136, [4] = 0x60, [24] = 2, 1, 2, 0, 0, 0, 0, 9};
  memcpy(message + 8, THERE6, 16);
  packet_ip(&answer, ABI_FAMILY_IPV6, THERE6, FAR6, PROTOCOL_ICMPV6, message, sizeof message);
  packet_ethernet(&answer, HOST_MAC, 0x86dd);
  interface_receive(far, answer.bytes, answer.length);
  host_poll();
  for (int family = 4; family <= 6; family += 2) {
    for (int i = 0; i < KINDS; i++) {
      if (kinds[i].family == family) {
        expect_forwarded(&kept[i], 14);
      }
    }
  }
  expect_silence();
  /* And from the tap to the tun, with the padding of a short frame. */
  struct packet back;
  uint8_t datagram[12] = {0, 7, 0, 7, 0, 12};
  packet_ip(&back, ABI_FAMILY_IPV4, THERE4, PEER4, PROTOCOL_UDP, datagram, sizeof datagram);
  struct packet frame = back;
  memset(frame.bytes + frame.length, 0x55, 40);
  packet_ethernet(&frame, HOST_MAC, 0x0800);
  interface_receive(far, frame.bytes, 60);
  host_poll();
  expect_forwarded(&back, 0);
  /* A link-layer broadcast is not forwarded, whatever its destination address (RFC 1812, section 5.3.4). */
  memset(frame.bytes, 255, 6);
  interface_receive(far, frame.bytes, 60);
  frame.bytes[0] = 2; /* nor a frame for another station */
  interface_receive(far, frame.bytes, 60);
  host_poll();
  expect_silence();
  close_router();
}

/* Packets to neighbours that do not exist take no room from an existing one: the queue of each neighbour is bounded. */
static void queues_of_unresolved_neighbours_are_bounded(void) {
  open_router(ABI_KIND_TAP, 1500);
  for (int six = 0; six < 2; six++) {
    uint32_t before = tw_heap_used();
    for (int i = 0; i < 2000; i++) {
      struct packet *packet = transit_packet(six ? ABI_FAMILY_IPV6 : ABI_FAMILY_IPV4, PROTOCOL_UDP, 1400);
      packet->bytes[six ? 39 : 19] = (uint8_t)(100 + i % 20);
      if (!six) {
        update_checksum(packet);
      }
      interface_receive(near, packet->bytes, packet->length);
      if (i % 100 == 99) {
        host_poll();
        frames_forget();
      }
    }
    CHECK(tw_heap_used() - before < 20 * 64 * 2048u);
    struct packet *packet = transit_packet(six ? ABI_FAMILY_IPV6 : ABI_FAMILY_IPV4, PROTOCOL_UDP, 700), answer;
    receive_near(packet);
    frames_forget();
    uint8_t message[32] = {136, [4] = 0x60, [24] = 2, 1, 2, 0, 0, 0, 0, 9};
    memcpy(message + 8, THERE6, 16);
    if (six) {
      packet_ip(&answer, ABI_FAMILY_IPV6, THERE6, FAR6, PROTOCOL_ICMPV6, message, sizeof message);
    } else {
      packet_arp(&answer, 2, THERE_MAC, THERE4, FAR4);
    }
    packet_ethernet(&answer, HOST_MAC, six ? 0x86dd : 0x0806);
    interface_receive(far, answer.bytes, answer.length);
    host_poll();
    expect_forwarded(packet, 14);
    host_advance(30 * (int64_t)SECOND);
    frames_forget();
    CHECK(tw_heap_used() <= before);
  }
  close_router();
}

static void expired_hop_limit_is_reported(void) {
  open_router(ABI_KIND_TUN, 1500);
  for (int i = 0; i < KINDS; i++) {
    bool four = kinds[i].family == ABI_FAMILY_IPV4;
    struct packet *packet = transit_packet(kinds[i].family, kinds[i].protocol, 1400);
    for (uint8_t hops = 0; hops < 2; hops++) {
      packet->bytes[four ? 8 : 7] = hops;
      if (four) {
        update_checksum(packet);
      }
      receive_near(packet);
      CHECK_EQUAL(expect_error(packet, four ? EXPIRED4 : EXPIRED6, 0), 0);
    }
    packet->bytes[four ? 8 : 7] = 2;
    if (four) {
      update_checksum(packet);
    }
    receive_near(packet);
    expect_forwarded(packet, 0);
  }
  expect_silence();
  close_router();
}

/* RFC 1122, section 3.2.2, and RFC 4443, section 2.4 (e): no errors about errors, nor about later fragments. */
static void no_errors_about_errors_and_later_fragments(void) {
  static const uint8_t errors4[] = {3, 4, 5, 11, 12}, errors6[] = {1, 2, 3, 4, 127, 137};
  open_router(ABI_KIND_TUN, 1500);
  struct packet *packet;
  uint32_t before = dropped(), count = 0;
  for (unsigned i = 0; i < sizeof errors4; i++, count++) {
    packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_ICMP, 40);
    packet->bytes[20] = errors4[i];
    packet->bytes[8] = 1;
    update_checksum(packet);
    receive_near(packet);
    expect_silence();
  }
  for (unsigned i = 0; i < sizeof errors6; i++, count++) {
    packet = transit_packet(ABI_FAMILY_IPV6, PROTOCOL_ICMPV6, 40);
    packet->bytes[40] = errors6[i];
    packet->bytes[7] = 1;
    receive_near(packet);
    expect_silence();
  }
  struct packet extended;
  uint8_t message[8] = {1};
  packet_ip_extended(&extended, PEER6, THERE6, 60, PROTOCOL_ICMPV6, message, sizeof message);
  extended.bytes[7] = 1;
  receive_near(&extended);
  expect_silence();
  packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_UDP, 40);
  packet->bytes[8] = 1;
  put16(packet->bytes + 6, 100);
  update_checksum(packet);
  receive_near(packet);
  expect_silence();
  CHECK_EQUAL(dropped(), before + count + 2);
  close_router();
}

static void missing_route_is_reported(void) {
  open_router(ABI_KIND_TUN, 1500);
  for (int six = 0; six < 2; six++) {
    struct packet *packet = transit_packet(six ? ABI_FAMILY_IPV6 : ABI_FAMILY_IPV4, PROTOCOL_UDP, 100);
    memcpy(packet->bytes + (six ? 24 : 16), six ? NOWHERE6 : NOWHERE4, six ? 16 : 4);
    if (!six) {
      update_checksum(packet);
    }
    receive_near(packet);
    CHECK_EQUAL(expect_error(packet, six ? UNREACHABLE6 : UNREACHABLE4, 0), 0);
    /* Sent back along a point-to-point link, it would return. */
    packet->bytes[six ? 39 : 19] = 77;
    memcpy(packet->bytes + (six ? 24 : 16), six ? HOST6 : HOST4, six ? 15 : 3);
    if (!six) {
      update_checksum(packet);
    }
    receive_near(packet);
    CHECK_EQUAL(expect_error(packet, six ? UNREACHABLE6 : UNREACHABLE4, six ? 3 : 1), 0);
  }
  expect_silence();
  close_router();
}

static void unresolved_neighbour_is_reported(void) {
  open_router(ABI_KIND_TAP, 1500);
  for (int six = 0; six < 2; six++) {
    struct packet *packet = transit_packet(six ? ABI_FAMILY_IPV6 : ABI_FAMILY_IPV4, PROTOCOL_UDP, 100);
    receive_near(packet);
    receive_near(packet);
    uint32_t reported = 0;
    for (int tenth = 0; tenth < 300; tenth++) {
      host_advance(SECOND / 10);
      for (struct frame frame; (frame = frame_next()).length != 0;) {
        const uint8_t *bytes = frame.bytes;
        if (bytes[0] == (six ? 0x60 : 0x45)) {
          CHECK_EQUAL(bytes[six ? 40 : 20], six ? UNREACHABLE6 : UNREACHABLE4);
          CHECK_EQUAL(bytes[six ? 41 : 21], six ? 3 : 1);
          CHECK(memcmp(bytes + (six ? 40 : 20) + 8 + (six ? 40 : 20), packet->bytes + (six ? 40 : 20), 60) == 0);
          reported++;
        }
      }
    }
    CHECK_EQUAL(reported, 2);
  }
  close_router();
}

static void packet_too_big_is_reported(void) {
  open_router(ABI_KIND_TUN, 1300);
  struct packet *packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_TCP, 1281);
  put16(packet->bytes + 6, 0x4000);
  update_checksum(packet);
  receive_near(packet);
  CHECK_EQUAL(expect_error(packet, UNREACHABLE4, 4), 1300); /* RFC 1191, section 4 */
  packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_TCP, 1280);
  put16(packet->bytes + 6, 0x4000);
  update_checksum(packet);
  receive_near(packet);
  expect_forwarded(packet, 0);
  packet = transit_packet(ABI_FAMILY_IPV6, PROTOCOL_UDP, 1261);
  receive_near(packet);
  CHECK_EQUAL(expect_error(packet, TOO_BIG6, 0), 1300);
  packet = transit_packet(ABI_FAMILY_IPV6, PROTOCOL_UDP, 1260);
  receive_near(packet);
  expect_forwarded(packet, 0);
  expect_silence();
  close_router();
}

/* RFC 791, section 3.2: what is reassembled equals what was sent; also with fragments of fragments, and with options. */
static void forwarded_packets_are_fragmented(void) {
  for (int round = 0; round < 6; round++) {
    static const uint32_t mtus[] = {68, 576, 577, 583, 1000, 1499};
    uint32_t mtu = mtus[round], offset = round % 2 ? 0 : 100, options = round % 3 ? 0 : 8;
    open_router(ABI_KIND_TUN, (int32_t)mtu);
    struct packet packet = *transit_packet(ABI_FAMILY_IPV4, PROTOCOL_UDP, 1470);
    uint32_t header = 20 + options;
    if (options != 0) { /* one option that is copied to each fragment (RFC 791, section 3.1), one that is not */
      static const uint8_t two[8] = {0x94, 4, 0, 0, 7, 3, 4, 0};
      memmove(packet.bytes + 28, packet.bytes + 20, 1470);
      memcpy(packet.bytes + 20, two, 8);
      packet.bytes[0] = 0x47;
      packet.length += 8;
      put16(packet.bytes + 2, packet.length);
    }
    put16(packet.bytes + 6, offset | (offset ? 0x2000 : 0));
    update_checksum(&packet);
    receive_near(&packet);
    uint8_t whole[1500];
    uint32_t length = 0;
    bool last = false;
    for (struct frame frame; (frame = frame_next()).length != 0;) {
      const uint8_t *bytes = frame.bytes;
      CHECK(frame.length <= mtu && !last);
      CHECK_EQUAL(get16(bytes + 2), frame.length);
      CHECK_EQUAL(reference_checksum(bytes, header, 0), 0xffff);
      CHECK_EQUAL(get16(bytes + 6) & 0x1fff, offset + length / 8);
      CHECK_EQUAL(bytes[8], 63);
      CHECK(memcmp(bytes + 12, packet.bytes + 12, 8) == 0);
      if (options != 0) {
        CHECK_EQUAL(bytes[20], 0x94);
        CHECK_EQUAL(bytes[24], length == 0 ? 7 : 1);
        CHECK_EQUAL(bytes[26], length == 0 ? 4 : 1);
      }
      memcpy(whole + length, bytes + header, frame.length - header);
      length += frame.length - header;
      last = length == packet.length - header;
      CHECK_EQUAL((get16(bytes + 6) & 0x2000) != 0, !last || offset != 0);
    }
    CHECK(last);
    CHECK(memcmp(whole, packet.bytes + header, length) == 0);
    close_router();
  }
}

static void special_addresses_are_not_forwarded(void) {
  static const uint8_t bad_from4[][4] = {{0, 0, 0, 0},   {0, 1, 2, 3},   {127, 0, 0, 1},       {169, 254, 1, 1},
                                         {224, 0, 0, 1}, {240, 0, 0, 1}, {255, 255, 255, 255}, {10, 0, 0, 1},
                                         {10, 0, 1, 1},  {10, 0, 1, 255}};
  static const uint8_t bad_to4[][4] = {{0, 1, 2, 3},   {127, 0, 0, 1}, {169, 254, 1, 1},     {224, 0, 0, 9},
                                       {239, 1, 1, 1}, {240, 0, 0, 1}, {255, 255, 255, 255}, {10, 0, 1, 255}};
  static const uint8_t bad_from6[][16] = {{0},
                                          {[15] = 1},
                                          {0xfe, 0x80, [15] = 9},
                                          {0xff, 2, [15] = 1},
                                          {0xff, 0xe, [15] = 9},
                                          {0xfd, [15] = 1},
                                          {0xfd, 1, [15] = 1}};
  static const uint8_t bad_to6[][16] = {{0}, {[15] = 1}, {0xfe, 0x80, [15] = 9}, {0xff, 5, [15] = 9}, {0xff, 0xe, [15] = 9}};
  open_router(ABI_KIND_TAP, 1500);
  abi_statistics();
  struct packet *packet;
  for (unsigned i = 0; i < sizeof bad_from4 / 4 + sizeof bad_to4 / 4; i++) {
    bool from = i < sizeof bad_from4 / 4;
    packet = transit_packet(ABI_FAMILY_IPV4, 200, 40);
    memcpy(packet->bytes + (from ? 12 : 16), from ? bad_from4[i] : bad_to4[i - sizeof bad_from4 / 4], 4);
    update_checksum(packet);
    receive_near(packet);
    expect_silence();
  }
  for (unsigned i = 0; i < sizeof bad_from6 / 16 + sizeof bad_to6 / 16; i++) {
    bool from = i < sizeof bad_from6 / 16;
    packet = transit_packet(ABI_FAMILY_IPV6, 200, 40);
    memcpy(packet->bytes + (from ? 8 : 24), from ? bad_from6[i] : bad_to6[i - sizeof bad_from6 / 16], 16);
    receive_near(packet);
    expect_silence();
  }
  close_router();
}

static void malformed_packets_are_not_forwarded(void) {
  struct packet *packet;
  open_router(ABI_KIND_TAP, 1500);
  abi_statistics();
  /* Malformed packets, and those with a wrong checksum. */
  packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_UDP, 40);
  packet->bytes[10] ^= 1;
  receive_near(packet);
  packet->bytes[10] ^= 1;
  struct {
    int at;
    uint8_t value;
  } wrong[] = {{0, 0x44}, {0, 0x55}, {0, 0x65}, {2, 1}, {3, 19}, {3, 61}};
  for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    struct packet copy = *packet;
    copy.bytes[wrong[i].at] = wrong[i].value;
    update_checksum(&copy);
    receive_near(&copy);
  }
  struct packet copy = *packet;
  for (copy.length = 0; copy.length < packet->length; copy.length++) {
    receive_near(&copy);
  }
  packet = transit_packet(ABI_FAMILY_IPV6, PROTOCOL_UDP, 40);
  copy = *packet;
  for (copy.length = 0; copy.length < packet->length; copy.length++) {
    receive_near(&copy);
  }
  /* Source routes, and options that run past the header. */
  for (int i = 0; i < 5; i++) {
    static const uint8_t options[5][4] = {{131, 3, 4, 0}, {1, 137, 3, 4}, {7, 0, 0, 0}, {7, 1, 0, 0}, {7, 5, 0, 0}};
    packet = transit_packet(ABI_FAMILY_IPV4, 200, 40);
    packet->bytes[0] = 0x46;
    memcpy(packet->bytes + 20, options[i], 4);
    update_checksum(packet);
    receive_near(packet);
  }
  expect_silence();
  close_router();
}

static void nothing_is_forwarded_when_off(void) {
  open_router(ABI_KIND_TAP, 1500);
  abi_forwarding(0);
  receive_near(transit_packet(ABI_FAMILY_IPV4, 200, 40));
  receive_near(transit_packet(ABI_FAMILY_IPV6, 200, 40));
  expect_silence();
  close_router();
}

/* A burst of a hundred, and a hundred a second: RFC 1812, section 4.3.2.8. Packet Too Big has a bucket of its own. */
static void error_rate_is_limited(void) {
  open_router(ABI_KIND_TUN, 1300);
  struct packet *packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_UDP, 40);
  packet->bytes[8] = 1;
  update_checksum(packet);
  uint32_t reported = 0;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 1000; i++) {
      interface_receive(near, packet->bytes, packet->length);
    }
    host_poll();
    while (frame_next().length != 0) {
      reported++;
    }
    CHECK_EQUAL(reported, 100 + 50 * round);
    host_poll_once(SECOND / 2);
  }
  packet = transit_packet(ABI_FAMILY_IPV6, PROTOCOL_UDP, 1400);
  receive_near(packet);
  CHECK_EQUAL(expect_error(packet, TOO_BIG6, 0), 1300);
  close_router();
}

static void failing_allocations_lose_packets_only(void) {
  for (int left = 0; left < 12; left++) {
    open_router(left % 2 ? ABI_KIND_TAP : ABI_KIND_TUN, 600 + 700 * (left % 3));
    for (int i = 0; i < KINDS; i++) {
      struct packet *packet = transit_packet(kinds[i].family, kinds[i].protocol, 1400);
      if (i % 2) {
        packet->bytes[kinds[i].family == ABI_FAMILY_IPV4 ? 8 : 7] = 1;
      }
      interface_receive(near, packet->bytes, packet->length);
    }
    allocations_left = left;
    host_poll_once(0);
    allocations_left = -1;
    host_advance(30 * (int64_t)SECOND);
    frames_forget();
    close_router();
  }
}

/* Random changes to packets: nothing is read beyond the packet, nothing leaks, and valid packets are forwarded afterwards. */
static void mutated_packets_do_not_break_forwarding(void) {
  open_router(ABI_KIND_TAP, 1280);
  for (int i = 0; i < 30000; i++) {
    struct packet packet = *transit_packet(kinds[i % KINDS].family, kinds[i % KINDS].protocol, 20 + random_next() % 1440);
    for (uint32_t count = random_next() % 4; count > 0; count--) {
      packet.bytes[random_next() % LWIP_MIN(packet.length, 64)] = (uint8_t)random_next();
    }
    packet.length -= random_next() % 8 == 0 ? random_next() % packet.length : 0;
    if (packet.length >= 20 && packet.bytes[0] >> 4 == 4 && (packet.bytes[0] & 15u) * 4 <= packet.length) {
      update_checksum(&packet);
    }
    interface_receive(near, packet.bytes, packet.length);
    if (random_next() % 8 == 0) {
      host_poll_once(random_next() % 64 == 0 ? SECOND : 0);
      while (event_next().kind != 0) {
      }
      frames_forget();
    }
  }
  host_advance(60 * (int64_t)SECOND);
  frames_forget();
  struct packet *packet = transit_packet(ABI_FAMILY_IPV4, PROTOCOL_UDP, 40);
  packet->bytes[8] = 1;
  update_checksum(packet);
  receive_near(packet);
  CHECK_EQUAL(expect_error(packet, EXPIRED4, 0), 0);
  close_router();
}

int main(void) {
  host_start();
  RUN(every_protocol_is_forwarded);
  RUN(packets_are_queued_while_a_neighbour_resolves);
  RUN(queues_of_unresolved_neighbours_are_bounded);
  RUN(expired_hop_limit_is_reported);
  RUN(no_errors_about_errors_and_later_fragments);
  RUN(missing_route_is_reported);
  RUN(unresolved_neighbour_is_reported);
  RUN(packet_too_big_is_reported);
  RUN(forwarded_packets_are_fragmented);
  RUN(special_addresses_are_not_forwarded);
  RUN(malformed_packets_are_not_forwarded);
  RUN(nothing_is_forwarded_when_off);
  RUN(error_rate_is_limited);
  RUN(failing_allocations_lose_packets_only);
  RUN(mutated_packets_do_not_break_forwarding);
  return 0;
}
