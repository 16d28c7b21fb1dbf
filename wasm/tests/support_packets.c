/* Packets as the remote side of an interface writes and reads them: ARP (RFC 826), IPv4 (RFC 791), IPv6 (RFC 8200), ICMP,
   ICMPv6 and TCP. No code is shared with the stack under test, so that an error in one is not an error in both. */
#include "support.h"

#include <string.h>

const uint8_t HOST4[4] = {10, 0, 0, 1}, PEER4[4] = {10, 0, 0, 2}, LOCAL4[4] = {127, 0, 0, 1};
const uint8_t HOST6[16] = {0xfd, [15] = 1}, PEER6[16] = {0xfd, [15] = 2}, LOCAL6[16] = {[15] = 1};
const uint8_t HOST_MAC[6] = {2, 0, 0, 0, 0, 1}, PEER_MAC[6] = {2, 0, 0, 0, 0, 2};

void put16(uint8_t *bytes, uint32_t value) {
  bytes[0] = (uint8_t)(value >> 8);
  bytes[1] = (uint8_t)value;
}

void put32(uint8_t *bytes, uint32_t value) {
  put16(bytes, value >> 16);
  put16(bytes + 2, value);
}

uint32_t get16(const uint8_t *bytes) { return (uint32_t)bytes[0] << 8 | bytes[1]; }

uint32_t get32(const uint8_t *bytes) { return get16(bytes) << 16 | get16(bytes + 2); }

/* RFC 1071, section 1, word by word in network order. */
uint16_t reference_checksum(const uint8_t *bytes, uint32_t length, uint32_t start) {
  uint32_t sum = start;
  for (uint32_t i = 0; i < length; i++) {
    sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return (uint16_t)sum;
}

static uint16_t transport_checksum(int32_t family, const uint8_t *from, const uint8_t *to, uint8_t protocol,
                                   const uint8_t *payload, uint32_t length) {
  uint32_t size = family == ABI_FAMILY_IPV4 ? 4 : 16;
  uint32_t sum = reference_checksum(from, size, protocol);
  sum = reference_checksum(to, size, sum);
  sum += length;
  return reference_checksum(payload, length, (sum & 0xffff) + (sum >> 16));
}

static void set_payload(uint8_t *at, int32_t family, const uint8_t *from, const uint8_t *to, uint8_t protocol,
                        const void *payload, uint32_t length) {
  memmove(at, payload, length);
  uint32_t where = protocol == PROTOCOL_TCP ? 16 : protocol == PROTOCOL_UDP ? 6 : 2;
  bool has_pseudo_header = protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_ICMPV6;
  if ((!has_pseudo_header && protocol != PROTOCOL_ICMP) || length < where + 2) {
    return;
  }
  put16(at + where, 0);
  put16(at + where, (uint16_t)~(has_pseudo_header ? transport_checksum(family, from, to, protocol, at, length)
                                                  : reference_checksum(at, length, 0)));
}

void packet_ip(struct packet *packet, int32_t family, const uint8_t *from, const uint8_t *to, uint8_t protocol,
               const void *payload, uint32_t length) {
  uint8_t *bytes = packet->bytes;
  uint32_t header = family == ABI_FAMILY_IPV4 ? 20 : 40;
  CHECK(header + length <= PACKET_CAPACITY);
  set_payload(bytes + header, family, from, to, protocol, payload, length);
  memset(bytes, 0, header);
  if (family == ABI_FAMILY_IPV4) {
    bytes[0] = 0x45;
    put16(bytes + 2, header + length);
    bytes[8] = 64;
    bytes[9] = protocol;
    memcpy(bytes + 12, from, 4);
    memcpy(bytes + 16, to, 4);
    put16(bytes + 10, (uint16_t)~reference_checksum(bytes, header, 0));
  } else {
    bytes[0] = 0x60;
    put16(bytes + 4, length);
    bytes[6] = protocol;
    bytes[7] = 255; /* required by neighbour discovery, RFC 4861, section 6.1 */
    memcpy(bytes + 8, from, 16);
    memcpy(bytes + 24, to, 16);
  }
  packet->length = header + length;
}

void packet_ip_extended(struct packet *packet, const uint8_t *from, const uint8_t *to, uint8_t extension, uint8_t protocol,
                        const void *payload, uint32_t length) {
  static const uint8_t padding[6] = {1, 4}; /* PadN, RFC 8200, section 4.2 */
  packet_ip(packet, ABI_FAMILY_IPV6, from, to, protocol, payload, length);
  memmove(packet->bytes + 48, packet->bytes + 40, length);
  packet->bytes[40] = protocol;
  packet->bytes[41] = 0;
  memcpy(packet->bytes + 42, padding, sizeof padding);
  packet->bytes[6] = extension;
  put16(packet->bytes + 4, length + 8);
  packet->length += 8;
}

void packet_ethernet(struct packet *packet, const uint8_t *to, uint16_t type) {
  memmove(packet->bytes + 14, packet->bytes, packet->length);
  memcpy(packet->bytes, to, 6);
  memcpy(packet->bytes + 6, PEER_MAC, 6);
  put16(packet->bytes + 12, type);
  packet->length += 14;
}

void packet_arp(struct packet *packet, uint16_t operation, const uint8_t *mac, const uint8_t *from, const uint8_t *to) {
  static const uint8_t ethernet_and_ipv4[] = {0, 1, 8, 0, 6, 4};
  memset(packet->bytes, 0, 28);
  memcpy(packet->bytes, ethernet_and_ipv4, sizeof ethernet_and_ipv4);
  put16(packet->bytes + 6, operation);
  memcpy(packet->bytes + 8, mac, 6);
  memcpy(packet->bytes + 14, from, 4);
  memcpy(packet->bytes + 24, to, 4);
  packet->length = 28;
}

void packet_icmp_echo(struct packet *packet, int32_t family, const void *data, uint32_t length) {
  uint8_t message[2048] = {family == ABI_FAMILY_IPV4 ? 8 : 128, 0, 0, 0, 0x12, 0x34, 0, 1};
  CHECK(8 + length <= sizeof message);
  memcpy(message + 8, data, length);
  if (family == ABI_FAMILY_IPV4) {
    packet_ip(packet, family, PEER4, HOST4, PROTOCOL_ICMP, message, 8 + length);
  } else {
    packet_ip(packet, family, PEER6, HOST6, PROTOCOL_ICMPV6, message, 8 + length);
  }
}

void packet_neighbour_solicitation(struct packet *packet, const uint8_t *target, const uint8_t *mac) {
  uint8_t message[32] = {135};
  memcpy(message + 8, target, 16);
  message[24] = message[25] = 1; /* source link-layer address, of eight bytes */
  memcpy(message + 26, mac, 6);
  packet_ip(packet, ABI_FAMILY_IPV6, PEER6, target, PROTOCOL_ICMPV6, message, sizeof message);
}

void packet_tcp(struct packet *packet, const struct segment *segment) {
  static uint8_t bytes[PACKET_CAPACITY];
  uint32_t padded = (segment->options_length + 3) & ~3u, header = 20 + padded;
  CHECK(padded <= 40 && header + segment->length <= sizeof bytes);
  memset(bytes, 0, header);
  put16(bytes, segment->from_port);
  put16(bytes + 2, segment->to_port);
  put32(bytes + 4, segment->sequence);
  put32(bytes + 8, segment->acknowledgement);
  bytes[12] = (uint8_t)(header / 4 << 4);
  bytes[13] = (uint8_t)(segment->flags | (segment->congestion & (ECE | CWR)));
  put16(bytes + 14, segment->window);
  put16(bytes + 18, segment->urgent);
  if (segment->options_length > 0) {
    memcpy(bytes + 20, segment->options, segment->options_length);
  }
  if (segment->length > 0) {
    memcpy(bytes + header, segment->data, segment->length);
  }
  packet_ip(packet, segment->family, segment->from, segment->to, PROTOCOL_TCP, bytes, header + segment->length);
  if (segment->family == ABI_FAMILY_IPV4) {
    packet->bytes[1] = segment->congestion & 3;
    put16(packet->bytes + 10, 0);
    put16(packet->bytes + 10, (uint16_t)~reference_checksum(packet->bytes, 20, 0));
  } else {
    packet->bytes[1] = (uint8_t)((segment->congestion & 3) << 4);
  }
}

bool segment_parse(struct segment *segment, const uint8_t *packet, uint32_t length) {
  memset(segment, 0, sizeof *segment);
  if (length < 20) {
    return false;
  }
  bool four = packet[0] >> 4 == 4;
  uint32_t at = four ? 20 : 40;
  if ((four && packet[9] != PROTOCOL_TCP) || (!four && packet[6] != PROTOCOL_TCP)) {
    return false;
  }
  segment->family = four ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6;
  segment->from = packet + (four ? 12 : 8);
  segment->to = packet + (four ? 16 : 24);
  CHECK_EQUAL(four ? get16(packet + 2) : get16(packet + 4) + 40, length);
  CHECK(!four || reference_checksum(packet, 20, 0) == 0xffff);
  const uint8_t *bytes = packet + at;
  uint32_t header = (bytes[12] >> 4) * 4u;
  CHECK(header >= 20 && at + header <= length);
  CHECK_EQUAL(transport_checksum(segment->family, segment->from, segment->to, PROTOCOL_TCP, bytes, length - at), 0xffff);
  segment->from_port = (uint16_t)get16(bytes);
  segment->to_port = (uint16_t)get16(bytes + 2);
  segment->sequence = get32(bytes + 4);
  segment->acknowledgement = get32(bytes + 8);
  segment->flags = bytes[13] & 0x3f;
  segment->congestion = (uint8_t)((bytes[13] & (ECE | CWR)) | ((four ? packet[1] : packet[1] >> 4) & 3));
  segment->window = (uint16_t)get16(bytes + 14);
  segment->options = bytes + 20;
  segment->options_length = header - 20;
  segment->data = bytes + header;
  segment->length = length - at - header;
  return true;
}
