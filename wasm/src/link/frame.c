/* Checks that a frame is well-formed enough for lwIP. lwIP 2.2.1 trusts some lengths that a sender controls (short ARP frames,
   ND options that overrun), so they are checked here first. Frames that fail are dropped and counted. */
#include "link/frame.h"

#include "port/bytes.h"

enum {
  ETHERNET_HEADER = 14,
  TYPE_IPV4 = 0x0800,
  TYPE_ARP = 0x0806,
  TYPE_IPV6 = 0x86dd,
  ARP_SIZE = 28,
  IPV4_HEADER = 20,
  IPV6_HEADER = 40,
  TCP_HEADER = 20,
  PROTOCOL_TCP = 6,
  PROTOCOL_UDP = 17,
  PROTOCOL_ICMPV6 = 58,
  EXTENSION_HOP_BY_HOP = 0,
  EXTENSION_ROUTING = 43,
  EXTENSION_FRAGMENT = 44,
  EXTENSION_DESTINATION = 60,
};

static bool all_zero(const uint8_t *bytes, int length) {
  while (length > 0 && bytes[length - 1] == 0) {
    length--;
  }
  return length == 0;
}

/* RFC 9293, section 3.1: each option but end (0) and no-operation (1) carries its length. */
static bool tcp_well_formed(const uint8_t *segment, uint32_t length) {
  if (length < TCP_HEADER) {
    return false;
  }
  uint32_t header = (uint32_t)(segment[12] >> 4) * 4;
  if (header < TCP_HEADER || header > length) {
    return false;
  }
  for (uint32_t at = TCP_HEADER; at < header && segment[at] != 0;) {
    if (segment[at] == 1) {
      at++;
    } else if (at + 1 < header && segment[at + 1] >= 2 && at + segment[at + 1] <= header) {
      at += segment[at + 1];
    } else {
      return false;
    }
  }
  return true;
}

/* RFC 4861, sections 6.1 and 7.1: a neighbour discovery message with an option of length zero is to be discarded; one
   with an option that overruns it is no better. */
static bool icmpv6_well_formed(const uint8_t *message, uint32_t length) {
  static const uint8_t fixed[] = {8, 16, 24, 24, 40}; /* RS, RA, NS, NA, Redirect: bytes before the options */
  if (length < 8) {
    return false;
  }
  if (message[0] < 133 || message[0] > 137) {
    return true;
  }
  uint32_t at = fixed[message[0] - 133];
  if (at > length) {
    return false;
  }
  while (at < length) {
    if (at + 2 > length || message[at + 1] == 0 || at + message[at + 1] * 8u > length) {
      return false;
    }
    at += message[at + 1] * 8u;
  }
  return true;
}

/* is true on the loopback interface, the only one on which loopback addresses are valid. */
static enum frame_verdict check_ipv4(const uint8_t *packet, uint32_t length, bool inside) {
  if (length < IPV4_HEADER || packet[0] >> 4 != 4) {
    return FRAME_DROP;
  }
  uint32_t header = (packet[0] & 15u) * 4, total = tw_read16(packet + 2);
  if (header < IPV4_HEADER || total < header || total > length) {
    return FRAME_DROP;
  }
  /* RFC 1122, section 3.2.1.3 (g): 127/8 must not appear outside a host. */
  if (!inside && (packet[12] == 127 || packet[16] == 127)) {
    return FRAME_DROP;
  }
  bool fragment = (tw_read16(packet + 6) & 0x3fff) != 0;
  if (packet[9] == PROTOCOL_UDP && !fragment) {
    return FRAME_IN_PLACE; /* lwIP checks its length, and that of the reassembled packet */
  }
  if (packet[9] != PROTOCOL_TCP || fragment) {
    return FRAME_COPY;
  }
  return tcp_well_formed(packet + header, total - header) ? FRAME_IN_PLACE : FRAME_DROP;
}

/* RFC 8200, section 4: moves `at` behind the extension headers and returns the next header. Where a header does not fit, or the
   packet is a fragment of a larger one, that is the header itself: lwIP checks it, and the reassembled packet. */
uint8_t tw_frame_skip_extensions(const uint8_t *packet, uint32_t *at, uint32_t end) {
  uint8_t next = packet[6];
  while (*at + 8 <= end) {
    bool fragment = next == EXTENSION_FRAGMENT;
    if ((!fragment && next != EXTENSION_HOP_BY_HOP && next != EXTENSION_ROUTING && next != EXTENSION_DESTINATION) ||
        (fragment && (tw_read16(packet + *at + 2) & 0xfff9) != 0)) {
      break;
    }
    uint32_t size = fragment ? 8 : (packet[*at + 1] + 1u) * 8;
    if (size > end - *at) {
      break;
    }
    next = packet[*at];
    *at += size;
  }
  return next;
}

static enum frame_verdict check_ipv6(const uint8_t *packet, uint32_t length, bool inside) {
  if (length < IPV6_HEADER || packet[0] >> 4 != 6) {
    return FRAME_DROP;
  }
  uint32_t payload = tw_read16(packet + 4);
  if (IPV6_HEADER + payload > length) {
    return FRAME_DROP;
  }
  /* RFC 4291, section 2.5.3: ::1 must not appear outside a host. */
  for (int at = 8; at <= 24; at += 16) {
    if (!inside && all_zero(packet + at, 15) && packet[at + 15] == 1) {
      return FRAME_DROP;
    }
  }
  uint32_t at = IPV6_HEADER, end = IPV6_HEADER + payload;
  uint8_t next = tw_frame_skip_extensions(packet, &at, end);
  if (next == PROTOCOL_UDP && at == IPV6_HEADER) {
    return FRAME_IN_PLACE;
  }
  if (next == PROTOCOL_TCP && at == IPV6_HEADER) {
    return tcp_well_formed(packet + at, payload) ? FRAME_IN_PLACE : FRAME_DROP;
  }
  if ((next == PROTOCOL_TCP && !tcp_well_formed(packet + at, end - at)) ||
      (next == PROTOCOL_ICMPV6 && !icmpv6_well_formed(packet + at, end - at))) {
    return FRAME_DROP;
  }
  return FRAME_COPY;
}

enum frame_verdict tw_frame_check_packet(const uint8_t *packet, uint32_t length, bool inside) {
  if (length == 0) {
    return FRAME_DROP;
  }
  return packet[0] >> 4 == 6 ? check_ipv6(packet, length, inside) : check_ipv4(packet, length, inside);
}

enum frame_verdict tw_frame_check_ethernet(const uint8_t *frame, uint32_t length) {
  if (length < ETHERNET_HEADER) {
    return FRAME_DROP;
  }
  const uint8_t *payload = frame + ETHERNET_HEADER;
  length -= ETHERNET_HEADER;
  switch (tw_read16(frame + 12)) {
    case TYPE_IPV4:
      return check_ipv4(payload, length, false);
    case TYPE_IPV6:
      return check_ipv6(payload, length, false);
    case TYPE_ARP:
      return length < ARP_SIZE ? FRAME_DROP : FRAME_COPY;
    default:
      return FRAME_DROP;
  }
}
