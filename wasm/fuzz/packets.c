/* IP packets of peers (RFC 791, RFC 8200), and what a network may do to them: options, extension headers, fragments in any
   order, damage. No code is shared with the stack. */
#include "fuzz.h"

static uint8_t whole[66000];

uint32_t get16(const uint8_t *bytes) { return (uint32_t)bytes[0] << 8 | bytes[1]; }

uint32_t get32(const uint8_t *bytes) { return get16(bytes) << 16 | get16(bytes + 2); }

void put16(uint8_t *bytes, uint32_t value) {
  bytes[0] = (uint8_t)(value >> 8);
  bytes[1] = (uint8_t)value;
}

void put32(uint8_t *bytes, uint32_t value) {
  put16(bytes, value >> 16);
  put16(bytes + 2, value);
}

/* RFC 1071, in the machine's byte order, four bytes at a time: folded and swapped at the end. */
uint32_t checksum_add(const uint8_t *bytes, uint32_t length, uint32_t start) {
  uint64_t sum = start;
  uint32_t word;
  for (; length >= 4; length -= 4, bytes += 4) {
    memcpy(&word, bytes, 4);
    sum += word;
  }
  uint8_t rest[4] = {0};
  memcpy(rest, bytes, length);
  memcpy(&word, rest, 4);
  sum += word;
  sum = (sum & 0xffffffff) + (sum >> 32);
  return (uint32_t)((sum & 0xffffffff) + (sum >> 32));
}

uint16_t checksum_fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)(sum << 8 | sum >> 8);
}

uint16_t transport_checksum(bool six, const uint8_t *from, const uint8_t *to, uint8_t protocol, const uint8_t *payload,
                            uint32_t length) {
  uint32_t size = six ? 16 : 4;
  uint8_t rest[8] = {0};
  put32(rest, length);
  rest[7] = protocol;
  uint32_t sum = checksum_add(to, size, checksum_add(from, size, checksum_add(rest, 8, 0)));
  return checksum_fold(checksum_add(payload, length, sum));
}

void ethernet_send(struct link *link, uint32_t peer, const uint8_t *to, uint32_t type, const uint8_t *bytes, uint32_t length) {
  static uint8_t frame[66100];
  memcpy(frame, to, 6);
  peer_mac(link, peer, frame + 6);
  put16(frame + 12, type);
  memcpy(frame + 14, bytes, length);
  link_put(link, peer, frame, length + 14);
}

static void emit(const struct route_to *route, const uint8_t *bytes, uint32_t length) {
  if (!link_is_ethernet(route->link)) {
    link_put(route->link, route->peer, bytes, length);
    return;
  }
  uint8_t to[6] = {0x33, 0x33};
  if (route->six && route->to[0] == 0xff) {
    memcpy(to + 2, route->to + 12, 4);
  } else if (!route->six && route->to[0] >= 224) {
    static const uint8_t group[3] = {1, 0, 0x5e};
    memset(to, 0xff, 6);
    if (route->to[0] < 240) {
      memcpy(to, group, 3);
      memcpy(to + 3, route->to + 1, 3);
      to[3] &= 0x7f;
    }
  } else {
    memcpy(to, route->link->mac, 6);
  }
  ethernet_send(route->link, route->peer, to, route->six ? 0x86dd : 0x0800, bytes, length);
}

/* Neither the addresses nor the first four bytes of the payload: a damaged packet must not reach another connection, whose
   bytes are checked. */
static bool damage(const struct route_to *route, uint8_t *bytes, uint32_t *length) {
  if (route->exact || !percent(style.damaged)) {
    return false;
  }
  uint32_t header = route->six ? 40 : 20;
  for (uint32_t times = 1 + below(3); times > 0; times--) {
    switch (below(4)) {
      case 0:
        bytes[below(route->six ? 8 : 12)] = (uint8_t)any();
        break;
      case 1:
        if (*length > header + 8) {
          bytes[header + 4 + below(SMALLER(*length - header - 4, 60))] = (uint8_t)any();
        }
        break;
      case 2:
        *length = below(*length + 1);
        break;
      default:
        bytes[below(route->six ? 8 : 12)] ^= (uint8_t)(1u << below(8));
    }
  }
  return true;
}

static uint32_t header4(const struct route_to *route, uint8_t protocol, uint32_t offset_and_flags, uint32_t identification,
                        uint32_t length) {
  uint32_t options = !route->exact && percent(style.extended) ? below(11) * 4 : 0, header = 20 + options;
  memset(whole, 0, header);
  whole[0] = (uint8_t)(0x40 | header / 4);
  put16(whole + 2, header + length);
  put16(whole + 4, identification);
  put16(whole + 6, offset_and_flags);
  whole[8] = route->hop_limit != 0 ? route->hop_limit : 64;
  whole[9] = protocol;
  memcpy(whole + 12, route->from, 4);
  memcpy(whole + 16, route->to, 4);
  for (uint32_t i = 0; i < options; i++) {
    whole[20 + i] = percent(80) ? 1 : (uint8_t)any();
  }
  put16(whole + 10, (uint16_t)~checksum_fold(checksum_add(whole, header, 0)));
  return header;
}

/* Hop-by-hop, routing and destination options (RFC 8200, section 4): valid ones, and some whose lengths exceed the packet. */
static uint32_t extensions(uint8_t *at, uint8_t *next, uint8_t protocol) {
  uint32_t used = 0, count = 1 + below(3);
  *next = (uint8_t)ONE_OF(0, 60, 60, 43);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t size = 8 + 8 * (percent(70) ? 0 : below(6));
    uint8_t *header = at + used;
    memset(header, 0, size);
    header[0] = i + 1 < count ? (uint8_t)ONE_OF(60, 60, 43, 0) : protocol;
    header[1] = (uint8_t)(percent(90) ? size / 8 - 1 : below(256));
    header[2] = percent(80) ? 1 : (uint8_t)ONE_OF(5, 0x3e, 0x7e, 0xbe, 0xc2, 0xfe, 0);
    header[3] = (uint8_t)(percent(85) ? size - 4 : below(256));
    used += size;
  }
  return used;
}

static uint32_t header6(const struct route_to *route, uint8_t protocol, uint32_t length) {
  uint8_t next = protocol;
  uint32_t more = !route->exact && percent(style.extended) ? extensions(whole + 40, &next, protocol) : 0;
  memset(whole, 0, 40);
  whole[0] = 0x60;
  put16(whole + 4, more + length);
  whole[6] = next;
  whole[7] = route->hop_limit != 0 ? route->hop_limit : 255;
  memcpy(whole + 8, route->from, 16);
  memcpy(whole + 24, route->to, 16);
  return 40 + more;
}

static bool send_part(const struct route_to *route, uint8_t protocol, uint32_t flags, uint32_t identification,
                      const uint8_t *payload, uint32_t length) {
  uint32_t header = route->six ? header6(route, protocol, length) : header4(route, protocol, flags, identification, length);
  memcpy(whole + header, payload, length);
  uint32_t total = header + length;
  bool damaged = damage(route, whole, &total);
  emit(route, whole, total);
  return damaged;
}

/* In any order, some twice, some lost, some that overlap others; overlapping bytes are the right ones, too. */
static bool send_fragments(const struct route_to *route, uint8_t protocol, const uint8_t *payload, uint32_t length) {
  static uint8_t part[66000];
  uint32_t size = 8 * (1 + below(LARGER(length / 8, 1))), identification = any();
  size = LARGER(size, (length / 24) & ~7u);
  size = LARGER(size, 8);
  uint32_t count = (length + size - 1) / size, shift = below(count);
  bool damaged = false, shuffled = percent(50), lossy = percent(30), overlapping = percent(15);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t index = shuffled ? (i + shift) % count : i, at = index * size;
    if (lossy && percent(10)) {
      continue;
    }
    uint32_t from = overlapping && at >= 8 ? at - 8 : at, end = SMALLER(at + size, length);
    if (route->six) {
      memset(part, 0, 8);
      part[0] = protocol;
      put16(part + 2, from | (end < length));
      put32(part + 4, identification);
      memcpy(part + 8, payload + from, end - from);
      damaged |= send_part(route, 44, 0, 0, part, end - from + 8);
    } else {
      damaged |= send_part(route, protocol, (end < length ? 0x2000 : 0) | from / 8, identification, payload + from, end - from);
    }
    i -= lossy && percent(5) && i > 0;
  }
  return damaged;
}

static void set_checksum(const struct route_to *route, uint8_t protocol, uint8_t *payload, uint32_t length) {
  uint32_t at = protocol == TCP_PROTOCOL ? 16 : protocol == UDP_PROTOCOL ? 6 : 2;
  bool pseudo = protocol == TCP_PROTOCOL || protocol == UDP_PROTOCOL || protocol == ICMP6_PROTOCOL;
  if (length < at + 2 || (!pseudo && protocol != ICMP_PROTOCOL && protocol != 2)) {
    return;
  }
  if (protocol == UDP_PROTOCOL && get16(payload + 4) >= 8) {
    length = SMALLER(length, get16(payload + 4)); /* further bytes are not part of the datagram */
  }
  put16(payload + at, 0);
  uint16_t sum = pseudo ? transport_checksum(route->six, route->from, route->to, protocol, payload, length)
                        : checksum_fold(checksum_add(payload, length, 0));
  put16(payload + at, protocol == UDP_PROTOCOL && sum == 0xffff ? 0xffff : (uint16_t)~sum);
}

bool packet_send(const struct route_to *route, uint8_t protocol, uint8_t *payload, uint32_t length) {
  set_checksum(route, protocol, payload, length);
  if (!route->exact && length > 8 && percent(style.fragmented) && route->link->checksums) {
    return send_fragments(route, protocol, payload, length);
  }
  return send_part(route, protocol, 0, 0, payload, length);
}
