/* UDP (RFC 768), fragments (RFC 791, RFC 8200) and ICMP errors (RFC 792, RFC 4443) as the remote side writes and reads them. No
   code is shared with the stack under test. */
#include "support.h"
#include "abi/staging.h"

#include <string.h>

void endpoint_put(int32_t family, const uint8_t *address, uint16_t port) {
  uint32_t head[3] = {(uint32_t)family, port, 0};
  memset(tw_scratch.bytes, 0, ABI_ENDPOINT_SIZE);
  memcpy(tw_scratch.bytes, head, sizeof head);
  memcpy(tw_scratch.bytes + sizeof head, address, family == ABI_FAMILY_IPV4 ? 4 : 16);
}

int32_t udp_socket_open(int32_t family, const uint8_t *address, int32_t port) {
  memset(tw_scratch.bytes, 0, 16);
  if (address != NULL) {
    memcpy(tw_scratch.bytes, address, (family & ~(ABI_SHARE_ADDRESS | ABI_SHARE_PORT)) == ABI_FAMILY_IPV4 ? 4 : 16);
  }
  return abi_udp_open(family, port, 0);
}

int32_t udp_put(int32_t handle, int32_t family, const uint8_t *to, uint16_t port, const void *bytes, int32_t length) {
  if (length > 0) {
    memcpy((void *)(uintptr_t)tw_staging(), bytes, (size_t)length);
  }
  endpoint_put(family, to, port);
  return abi_udp_send(handle, length, 1);
}

void packet_udp(struct packet *packet, const struct datagram *datagram) {
  static uint8_t bytes[PACKET_CAPACITY];
  put16(bytes, datagram->from_port);
  put16(bytes + 2, datagram->to_port);
  put16(bytes + 4, 8 + datagram->length);
  put16(bytes + 6, 0);
  if (datagram->length > 0) {
    memcpy(bytes + 8, datagram->data, datagram->length);
  }
  packet_ip(packet, datagram->family, datagram->from, datagram->to, PROTOCOL_UDP, bytes, 8 + datagram->length);
}

bool datagram_parse(struct datagram *datagram, const uint8_t *packet, uint32_t length) {
  static struct packet same;
  bool four = length > 0 && packet[0] >> 4 == 4;
  uint32_t at = four ? 20 : 40;
  if (length < at + 8 || packet[four ? 9 : 6] != PROTOCOL_UDP) {
    return false;
  }
  const uint8_t *bytes = packet + at;
  *datagram = (struct datagram){
      .family = four ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6,
      .from = packet + (four ? 12 : 8),
      .to = packet + (four ? 16 : 24),
      .from_port = (uint16_t)get16(bytes),
      .to_port = (uint16_t)get16(bytes + 2),
      .data = bytes + 8,
      .length = length - at - 8,
  };
  CHECK_EQUAL(get16(bytes + 4), length - at);
  packet_udp(&same, datagram); /* the expected packet, checksums included */
  CHECK(memcmp(same.bytes + at, bytes, length - at) == 0);
  CHECK(!four || reference_checksum(packet, 20, 0) == 0xffff);
  return true;
}

struct datagram datagram_expect(int32_t handle) {
  struct event event = event_expect(ABI_EVENT_DATAGRAM, handle);
  uint32_t source[3], local[3];
  memcpy(source, event.payload, sizeof source);
  memcpy(local, event.payload + ABI_ENDPOINT_SIZE, sizeof local);
  CHECK_EQUAL(source[0], local[0]);
  CHECK(event.length >= ABI_DATAGRAM_SIZE + (uint32_t)event.value);
  return (struct datagram){
      .family = (int32_t)source[0],
      .from = event.payload + sizeof source,
      .to = event.payload + ABI_ENDPOINT_SIZE + sizeof local,
      .from_port = (uint16_t)source[1],
      .to_port = (uint16_t)local[1],
      .data = event.payload + ABI_DATAGRAM_SIZE,
      .length = (uint32_t)event.value,
  };
}

bool packet_fragment(struct packet *fragment, const struct packet *whole, uint32_t size, uint32_t part,
                     uint16_t identification) {
  bool four = whole->bytes[0] >> 4 == 4;
  uint32_t header = four ? 20 : 40, content = whole->length - header, at = part * size;
  if (at >= content) {
    return false;
  }
  bool last = at + size >= content;
  uint32_t length = last ? content - at : size;
  const uint8_t *bytes = whole->bytes + header + at;
  if (four) {
    packet_ip(fragment, ABI_FAMILY_IPV4, whole->bytes + 12, whole->bytes + 16, 0, bytes, length);
    fragment->bytes[9] = whole->bytes[9];
    put16(fragment->bytes + 4, identification);
    put16(fragment->bytes + 6, (last ? 0 : 0x2000u) | at / 8);
    put16(fragment->bytes + 10, 0);
    put16(fragment->bytes + 10, (uint16_t)~reference_checksum(fragment->bytes, 20, 0));
    return true;
  }
  static uint8_t payload[PACKET_CAPACITY];
  memset(payload, 0, 8);
  payload[0] = whole->bytes[6];
  put16(payload + 2, at | !last);
  put32(payload + 4, identification);
  memcpy(payload + 8, bytes, length);
  packet_ip(fragment, ABI_FAMILY_IPV6, whole->bytes + 8, whole->bytes + 24, 44, payload, 8 + length);
  return true;
}

void packet_icmp_error(struct packet *packet, const uint8_t *from, uint8_t type, uint8_t code, const uint8_t *about,
                       uint32_t quoted) {
  static uint8_t message[PACKET_CAPACITY];
  bool four = about[0] >> 4 == 4;
  memset(message, 0, 8);
  message[0] = type;
  message[1] = code;
  memcpy(message + 8, about, quoted);
  packet_ip(packet, four ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6, from, about + (four ? 12 : 8),
            four ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, message, 8 + quoted);
}
