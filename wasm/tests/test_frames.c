/* Frames that lwIP must not receive, or must survive: each truncation of valid frames, options that overrun or have length
   zero, wrong length fields, loopback addresses on other interfaces. The receive buffer is poisoned behind what was written,
   and a copied frame has an allocation of its own, so that the sanitizer reports each byte read beyond the frame. */
#include "support.h"

#include <string.h>

static int32_t interface;

static uint32_t dropped(void) { return interface_words(interface)[ABI_BLOCK_DROPPED_MALFORMED]; }

static uint32_t received(void) { return interface_words(interface)[ABI_BLOCK_RECEIVED_FRAMES]; }

static void open_interface(int32_t kind) {
  interface = interface_open(kind, 1500);
  CHECK(interface > 0);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  host_poll();
  frames_forget();
}

static void close_interface(void) { CHECK_EQUAL(abi_interface_remove(interface), 0); }

static void deliver(const struct packet *packet) {
  interface_receive(interface, packet->bytes, packet->length);
  host_poll();
}

static bool delivered_is_dropped(const struct packet *packet) {
  uint32_t before = dropped();
  deliver(packet);
  return dropped() != before;
}

/* Sends an echo request and expects its reply. Earlier frames are dropped. */
static void expect_echo_reply(void) {
  static struct packet echo;
  uint8_t data[] = "echo data";
  frames_forget();
  packet_icmp_echo(&echo, ABI_FAMILY_IPV4, data, sizeof data);
  deliver(&echo);
  struct frame reply = frame_next();
  CHECK_EQUAL(reply.length, 20 + 8 + sizeof data);
  CHECK_EQUAL(reply.bytes[20], 0);
  CHECK(memcmp(reply.bytes + 28, data, sizeof data) == 0);
  packet_icmp_echo(&echo, ABI_FAMILY_IPV6, data, sizeof data);
  deliver(&echo);
  reply = frame_next();
  CHECK_EQUAL(reply.length, 40 + 8 + sizeof data);
  CHECK_EQUAL(reply.bytes[40], 129);
  CHECK(memcmp(reply.bytes + 48, data, sizeof data) == 0);
}

static const uint8_t SYN_OPTIONS[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7};

static void build_syn(struct packet *packet, int32_t family) {
  bool four = family == ABI_FAMILY_IPV4;
  struct segment segment = {
      .family = family,
      .from = four ? PEER4 : PEER6,
      .to = four ? HOST4 : HOST6,
      .from_port = 40000,
      .to_port = 80,
      .flags = SYN,
      .window = 1000,
      .options = SYN_OPTIONS,
      .options_length = sizeof SYN_OPTIONS,
  };
  packet_tcp(packet, &segment);
}

/* Truncated as it is, and truncated with a matching length field, which passes more checks. */
static void truncations(const struct packet *whole, uint32_t link_header) {
  static struct packet part;
  for (uint32_t length = 0; length <= whole->length; length++) {
    memcpy(part.bytes, whole->bytes, length);
    part.length = length;
    uint32_t before = received();
    bool refused = delivered_is_dropped(&part);
    CHECK_EQUAL(received(), before + 1);
    CHECK_EQUAL(refused, length < whole->length);
    uint8_t *packet = part.bytes + link_header;
    if (length >= link_header + 20 && packet[0] >> 4 == 4) {
      put16(packet + 2, length - link_header);
      put16(packet + 10, 0);
      put16(packet + 10, (uint16_t)~reference_checksum(packet, 20, 0));
      deliver(&part);
    } else if (length >= link_header + 40 && packet[0] >> 4 == 6) {
      put16(packet + 4, length - link_header - 40);
      deliver(&part);
    }
  }
  frames_forget();
}

static void truncated_packets_on_tun_are_dropped(void) {
  static struct packet packet;
  const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  open_interface(ABI_KIND_TUN);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 100);
  packet_icmp_echo(&packet, ABI_FAMILY_IPV4, data, sizeof data);
  truncations(&packet, 0);
  packet_icmp_echo(&packet, ABI_FAMILY_IPV6, data, sizeof data);
  truncations(&packet, 0);
  packet_neighbour_solicitation(&packet, HOST6, PEER_MAC);
  truncations(&packet, 0);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    build_syn(&packet, family);
    truncations(&packet, 0);
  }
  expect_echo_reply();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  close_interface();
}

/* Each chain of extension headers, truncated after each of its bytes: no header is read before its length is known. */
static void truncated_extension_headers_are_dropped(void) {
  static const uint8_t extensions[] = {0, 43, 44, 60}; /* hop-by-hop, routing, fragment, destination */
  enum { COUNT = sizeof extensions, CHAIN = 3 };
  static struct packet packet;
  open_interface(ABI_KIND_TUN);
  for (int chain = 0; chain < COUNT * COUNT * COUNT; chain++) {
    uint8_t headers[8 * CHAIN] = {0};
    uint8_t kinds[CHAIN] = {extensions[chain % COUNT], extensions[chain / COUNT % COUNT], extensions[chain / COUNT / COUNT]};
    for (int at = 0; at < CHAIN; at++) {
      headers[8 * at] = at + 1 < CHAIN ? kinds[at + 1] : 59; /* and no next header, RFC 8200, section 4.7 */
      headers[8 * at + 2] = kinds[at] == 0 || kinds[at] == 60 ? 1 : 0; /* PadN */
      headers[8 * at + 3] = kinds[at] == 0 || kinds[at] == 60 ? 4 : 0;
    }
    for (uint32_t length = 0; length <= sizeof headers; length++) {
      packet_ip(&packet, ABI_FAMILY_IPV6, PEER6, HOST6, kinds[0], headers, length);
      deliver(&packet);
    }
  }
  expect_echo_reply();
  frames_forget();
  close_interface();
}

static void truncated_frames_on_tap_are_dropped(void) {
  static struct packet packet;
  open_interface(ABI_KIND_TAP);
  packet_arp(&packet, 1, PEER_MAC, PEER4, HOST4);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  truncations(&packet, 14);
  packet_neighbour_solicitation(&packet, HOST6, PEER_MAC);
  packet_ethernet(&packet, HOST_MAC, 0x86dd);
  truncations(&packet, 14);
  build_syn(&packet, ABI_FAMILY_IPV4);
  packet_ethernet(&packet, HOST_MAC, 0x0800);
  truncations(&packet, 14);
  packet_arp(&packet, 1, PEER_MAC, PEER4, HOST4);
  packet_ethernet(&packet, HOST_MAC, 0x0806);
  deliver(&packet);
  struct frame reply = frame_next();
  CHECK_EQUAL(reply.length, 42);
  CHECK_EQUAL(get16(reply.bytes + 20), 2);
  CHECK(memcmp(reply.bytes + 22, HOST_MAC, 6) == 0);
  close_interface();
}

/* Option fields in a header of every size: each kind and each length at each position. */
static void overrunning_tcp_options_are_dropped(void) {
  static struct packet packet;
  open_interface(ABI_KIND_TUN);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 100);
  for (uint32_t size = 4; size <= 40; size += 4) {
    for (uint32_t at = 0; at < size; at++) {
      for (uint32_t kind = 0; kind <= 9; kind++) {
        for (uint32_t length = 0; length <= 12; length++) {
          uint8_t options[40];
          memset(options, 1, sizeof options);
          options[at] = (uint8_t)kind;
          if (at + 1 < size) {
            options[at + 1] = (uint8_t)length;
          }
          struct segment segment = {
              .family = ABI_FAMILY_IPV4,
              .from = PEER4,
              .to = HOST4,
              .from_port = 40000,
              .to_port = 80,
              .flags = SYN,
              .options = options,
              .options_length = size,
          };
          packet_tcp(&packet, &segment);
          bool refused = delivered_is_dropped(&packet);
          if (kind > 1) {
            bool valid = at + 1 < size && length >= 2 && at + length <= size;
            CHECK_EQUAL(refused, !valid);
          }
          segment.flags = RST;
          segment.sequence = 1;
          segment.options_length = 0;
          packet_tcp(&packet, &segment);
          deliver(&packet);
          frames_forget();
        }
      }
    }
  }
  expect_echo_reply();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  close_interface();
}

/* The same where the check of frames does not see it: the segment arrives in two fragments. The last byte of its header is the
   kind of an option whose length would lie behind the packet. */
static void overrunning_tcp_options_in_fragments_are_dropped(void) {
  static struct packet whole, part;
  static const uint8_t kinds[] = {2, 3, 4, 5, 8, 254};
  open_interface(ABI_KIND_TUN);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 100);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    bool four = family == ABI_FAMILY_IPV4;
    for (unsigned kind = 0; kind < sizeof kinds; kind++) {
      for (uint32_t size = 8; size <= 40; size += 4) {
        uint8_t options[40];
        memset(options, 1, sizeof options);
        options[size - 1] = kinds[kind];
        struct segment segment = {
            .family = family,
            .from = four ? PEER4 : PEER6,
            .to = four ? HOST4 : HOST6,
            .from_port = 40000,
            .to_port = 80,
            .flags = SYN,
            .window = 1000,
            .options = options,
            .options_length = size,
        };
        packet_tcp(&whole, &segment);
        for (uint32_t n = 0; packet_fragment(&part, &whole, (16 + size) & ~7u, n, (uint16_t)(kind * 100 + size)); n++) {
          deliver(&part);
        }
        struct frame frame = frame_next();
        struct segment answer;
        CHECK(segment_parse(&answer, frame.bytes, frame.length));
        CHECK_EQUAL(answer.flags, SYN | ACK);
        segment.flags = RST;
        segment.sequence = 1;
        segment.options_length = 0;
        packet_tcp(&whole, &segment);
        deliver(&whole);
        frames_forget();
      }
    }
  }
  expect_echo_reply();
  event_expect_none();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  close_interface();
}

enum { HOP_BY_HOP = 0, FRAGMENT = 44, DESTINATION_OPTIONS = 60 };

/* Solicitation, advertisement, router advertisement and redirect with an option of each kind and length, truncated at each
   byte: as they are, and behind extension headers. */
static void overrunning_neighbour_discovery_options_are_dropped(void) {
  static struct packet packet;
  uint8_t router[16] = {0xfe, 0x80};
  static const uint8_t types[] = {133, 134, 135, 136, 137}, fixed[] = {8, 16, 24, 24, 40};
  static const uint8_t headers[] = {PROTOCOL_ICMPV6, HOP_BY_HOP, DESTINATION_OPTIONS};
  open_interface(ABI_KIND_TAP);
  for (unsigned type = 0; type < sizeof types; type++) {
    for (unsigned header = 0; header < sizeof headers; header++) {
      for (uint8_t kind = 1; kind <= 5; kind++) {
        for (uint32_t units = 0; units <= 5; units++) {
          for (uint32_t extra = 0; extra <= 40; extra++) {
            uint8_t message[96] = {types[type]};
            memcpy(message + 8, HOST6, fixed[type] > 24 ? 16 : 0);
            if (fixed[type] == 24) {
              memcpy(message + 8, HOST6, 16);
            }
            message[fixed[type]] = kind;
            put16(router + 14, get16(router + 14) + 1); /* from an unknown address: a neighbour's address is known already */
            message[fixed[type] + 1] = (uint8_t)units;
            if (headers[header] == PROTOCOL_ICMPV6) {
              packet_ip(&packet, ABI_FAMILY_IPV6, router, HOST6, PROTOCOL_ICMPV6, message, fixed[type] + extra);
            } else {
              packet_ip_extended(&packet, router, HOST6, headers[header], PROTOCOL_ICMPV6, message, fixed[type] + extra);
            }
            packet_ethernet(&packet, HOST_MAC, 0x86dd);
            bool refused = delivered_is_dropped(&packet);
            bool valid = extra == 0 || (extra >= 2 && units > 0 && units * 8 <= extra);
            if (!valid) {
              CHECK(refused);
            }
          }
        }
      }
    }
  }
  frames_forget();
  close_interface();
}

static void deliver_fragment(const uint8_t *message, uint32_t from, uint32_t length, bool more, uint32_t identification) {
  static struct packet packet;
  uint8_t payload[128] = {PROTOCOL_ICMPV6};
  put16(payload + 2, from | more);
  put32(payload + 4, identification);
  memcpy(payload + 8, message + from, length);
  packet_ip(&packet, ABI_FAMILY_IPV6, PEER6, HOST6, FRAGMENT, payload, 8 + length);
  deliver(&packet);
}

/* The same in two fragments: such a message is complete only inside lwIP. */
static void truncated_icmpv6_in_fragments_is_dropped(void) {
  static struct packet packet;
  static const uint8_t types[] = {128, 133, 134, 135, 136, 137};
  uint32_t identification = 0;
  open_interface(ABI_KIND_TUN);
  for (unsigned type = 0; type < sizeof types; type++) {
    for (uint32_t first = 8; first <= 48; first += 8) {
      for (uint32_t length = first + 1; length <= 72; length++) {
        for (uint32_t units = 0; units <= 3; units++) {
          uint8_t message[96] = {types[type]};
          memcpy(message + 8, HOST6, 16);
          message[24] = 1;
          message[25] = (uint8_t)units;
          packet_ip(&packet, ABI_FAMILY_IPV6, PEER6, HOST6, PROTOCOL_ICMPV6, message, length);
          memcpy(message, packet.bytes + 40, length);
          bool swapped = units % 2 != 0;
          deliver_fragment(message, swapped ? first : 0, swapped ? length - first : first, !swapped, identification);
          deliver_fragment(message, swapped ? 0 : first, swapped ? first : length - first, swapped, identification++);
          if (types[type] == 128) {
            struct frame reply = frame_next();
            CHECK_EQUAL(reply.length, 40 + length);
            CHECK(memcmp(reply.bytes + 44, message + 4, length - 4) == 0);
          }
          frames_forget();
        }
      }
    }
  }
  expect_echo_reply();
  close_interface();
}

/* A SYN whose options overrun, behind extension headers. */
static void overrunning_tcp_options_behind_extension_headers_are_dropped(void) {
  static struct packet packet;
  static const uint8_t headers[] = {HOP_BY_HOP, DESTINATION_OPTIONS};
  open_interface(ABI_KIND_TUN);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 100);
  for (unsigned header = 0; header < sizeof headers; header++) {
    for (uint32_t offset = 0; offset < 16; offset++) {
      for (uint32_t length = 0; length <= 40; length++) {
        uint8_t segment[64] = {0x9c, 0x40, 0, 80, [12] = (uint8_t)(offset << 4), [13] = SYN, [20] = 2, [21] = 40};
        packet_ip_extended(&packet, PEER6, HOST6, headers[header], PROTOCOL_TCP, segment, length);
        deliver(&packet);
      }
    }
  }
  expect_echo_reply();
  event_expect_none();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  close_interface();
}

static void loopback_addresses_on_other_interfaces_are_dropped(void) {
  static struct packet packet;
  const uint8_t message[8] = {8}, message6[8] = {128};
  open_interface(ABI_KIND_TUN);
  packet_ip(&packet, ABI_FAMILY_IPV4, LOCAL4, HOST4, PROTOCOL_ICMP, message, sizeof message);
  CHECK(delivered_is_dropped(&packet));
  packet_ip(&packet, ABI_FAMILY_IPV4, PEER4, LOCAL4, PROTOCOL_ICMP, message, sizeof message);
  CHECK(delivered_is_dropped(&packet));
  packet_ip(&packet, ABI_FAMILY_IPV6, LOCAL6, HOST6, PROTOCOL_ICMPV6, message6, sizeof message6);
  CHECK(delivered_is_dropped(&packet));
  packet_ip(&packet, ABI_FAMILY_IPV6, PEER6, LOCAL6, PROTOCOL_ICMPV6, message6, sizeof message6);
  CHECK(delivered_is_dropped(&packet));
  CHECK_EQUAL(frame_next().length, 0);
  expect_echo_reply();
  close_interface();
}

static void wrong_length_fields_are_dropped(void) {
  static struct packet packet;
  open_interface(ABI_KIND_TUN);
  for (uint32_t lie = 0; lie < 0x10000; lie += 7) {
    packet_icmp_echo(&packet, ABI_FAMILY_IPV4, "abc", 3);
    put16(packet.bytes + 2, lie);
    put16(packet.bytes + 10, 0);
    put16(packet.bytes + 10, (uint16_t)~reference_checksum(packet.bytes, 20, 0));
    CHECK_EQUAL(delivered_is_dropped(&packet), lie < 20 || lie > packet.length);
    packet_icmp_echo(&packet, ABI_FAMILY_IPV6, "abc", 3);
    put16(packet.bytes + 4, lie);
    CHECK_EQUAL(delivered_is_dropped(&packet), lie < 8 || lie > packet.length - 40);
    frames_forget();
  }
  for (uint32_t header = 0; header < 16; header++) {
    packet_icmp_echo(&packet, ABI_FAMILY_IPV4, "abcdefgh", 8);
    packet.bytes[0] = (uint8_t)(0x40 | header);
    CHECK_EQUAL(delivered_is_dropped(&packet), header < 5 || header * 4 > packet.length);
  }
  expect_echo_reply();
  close_interface();
}

/* An embedder that writes wrong values into the shared words loses its frames, and nothing else breaks. */
static void wrong_record_lengths_lose_frames_only(void) {
  open_interface(ABI_KIND_TUN);
  static const uint8_t huge[4] = {0xff, 0xff, 0xff, 0xff};
  for (uint32_t length = 0; length < 12; length++) {
    interface_receive(interface, huge, 4);
    interface_words(interface)[ABI_BLOCK_RECEIVE_LENGTH] = length;
    host_poll();
    CHECK_EQUAL(interface_words(interface)[ABI_BLOCK_RECEIVE_LENGTH], 0);
  }
  interface_words(interface)[ABI_BLOCK_RECEIVE_LENGTH] = UINT32_MAX;
  host_poll();
  CHECK_EQUAL(interface_words(interface)[ABI_BLOCK_RECEIVE_LENGTH], 0);
  expect_echo_reply();
  close_interface();
}

int main(void) {
  host_start();
  RUN(truncated_packets_on_tun_are_dropped);
  RUN(truncated_extension_headers_are_dropped);
  RUN(truncated_frames_on_tap_are_dropped);
  RUN(overrunning_tcp_options_are_dropped);
  RUN(overrunning_tcp_options_in_fragments_are_dropped);
  RUN(loopback_addresses_on_other_interfaces_are_dropped);
  RUN(wrong_length_fields_are_dropped);
  RUN(wrong_record_lengths_lose_frames_only);
  RUN(overrunning_tcp_options_behind_extension_headers_are_dropped);
  RUN(truncated_icmpv6_in_fragments_is_dropped);
  RUN(overrunning_neighbour_discovery_options_are_dropped);
  return 0;
}
