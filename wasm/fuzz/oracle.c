/* What every frame of the stack must satisfy: it is well-formed, within its link's MTU, and has valid checksums unless it was
   forwarded. No code is shared with the stack. */
#include "fuzz.h"

static const uint8_t BROADCAST_MAC[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static bool is_own(const struct link *link, bool six, const uint8_t *address) {
  if (!six) {
    struct interface *interface = link_interface(link);
    return memcmp(address, &ip_2_ip4(&interface->netif.ip_addr)->addr, 4) == 0;
  }
  for (int i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
    if (memcmp(address, ip_2_ip6(&link_interface(link)->netif.ip6_addr[i])->addr, 16) == 0) {
      return true;
    }
  }
  return false;
}

static void dispatch(const struct sent_packet *sent) {
  switch (sent->protocol) {
    case TCP_PROTOCOL:
      flow_receive(sent);
      break;
    case UDP_PROTOCOL:
      datagram_receive(sent);
      break;
    default:
      message_receive(sent);
  }
}

static void check_transport(const struct sent_packet *sent) {
  uint32_t least = sent->protocol == TCP_PROTOCOL ? 20 : 8;
  if (sent->protocol != TCP_PROTOCOL && sent->protocol != UDP_PROTOCOL && sent->protocol != ICMP6_PROTOCOL &&
      sent->protocol != ICMP_PROTOCOL) {
    return;
  }
  CHECK(sent->length >= least, "protocol %u: %u bytes", sent->protocol, sent->length);
  if (!sent->link->checksums || (sent->protocol == UDP_PROTOCOL && get16(sent->payload + 6) == 0 && !sent->six)) {
    return;
  }
  uint16_t sum = sent->protocol == ICMP_PROTOCOL
                     ? checksum_fold(checksum_add(sent->payload, sent->length, 0))
                     : transport_checksum(sent->six, sent->from, sent->to, sent->protocol, sent->payload, sent->length);
  CHECK(sum == 0xffff, "protocol %u, %u bytes: checksum %04x", sent->protocol, sent->length, sum);
}

/* Fragments are not reassembled here: their content is checked where the stack receives its own packets, and by the native
   tests. */
static void packet4(struct link *link, const uint8_t *packet, uint32_t length) {
  CHECK(length >= 20 && packet[0] >> 4 == 4, "%u bytes", length);
  uint32_t header = (packet[0] & 15) * 4u, total = get16(packet + 2);
  CHECK(header >= 20 && total >= header && total <= length, "%u, %u, %u", header, total, length);
  CHECK(total <= link->mtu, "%u bytes by an MTU of %u", total, link->mtu);
  if (!is_own(link, false, packet + 12)) {
    return; /* forwarded, or from an address that the stack does not have yet or any more */
  }
  CHECK(!link->checksums || checksum_fold(checksum_add(packet, header, 0)) == 0xffff, "%u bytes", total);
  if ((get16(packet + 6) & 0x3fff) != 0) {
    return;
  }
  struct sent_packet sent = {link, false, packet[9], packet + 12, packet + 16, packet + header, packet, total - header, total};
  check_transport(&sent);
  dispatch(&sent);
}

static void packet6(struct link *link, const uint8_t *packet, uint32_t length) {
  CHECK(length >= 40 && packet[0] >> 4 == 6, "%u bytes", length);
  uint32_t total = 40 + get16(packet + 4);
  CHECK(total <= length, "%u, %u", total, length);
  CHECK(total <= LARGER(link->mtu, 1280), "%u bytes by an MTU of %u", total, link->mtu);
  if (!is_own(link, true, packet + 8)) {
    return;
  }
  uint8_t next = packet[6];
  uint32_t at = 40;
  while ((next == 0 || next == 60) && at + 8 <= total) { /* MLD's router alert */
    next = packet[at];
    at += 8 + packet[at + 1] * 8u;
  }
  CHECK(at <= total, "extension headers of %u bytes", at);
  struct sent_packet sent = {link, true, next, packet + 8, packet + 24, packet + at, packet, total - at, total};
  if (next == 44) {
    return;
  }
  check_transport(&sent);
  dispatch(&sent);
}

void frame_receive(struct link *link, const uint8_t *frame, uint32_t length) {
  if (link->kind == ABI_KIND_TUN) {
    CHECK(length > 0 && length <= link->mtu, "%u bytes by an MTU of %u", length, link->mtu);
    frame[0] >> 4 == 4 ? packet4(link, frame, length) : packet6(link, frame, length);
    return;
  }
  CHECK(length >= 14, "%u bytes", length);
  bool port = link->bridge >= 0;
  struct link *station = port ? &links[link->bridge] : link;
  if (memcmp(frame + 6, station->mac, 6) != 0) {
    return; /* forwarded from another port, by a tap that is a port or was one when the frame left */
  }
  CHECK((frame[6] & 1) == 0, "from a group");
  uint32_t type = get16(frame + 12), mtu = station->mtu;
  CHECK(length <= 14 + mtu || length <= 14 + 1280, "%u bytes by an MTU of %u", length, mtu);
  if (type == 0x0806) {
    CHECK(length >= 42 && memcmp(frame + 22, station->mac, 6) == 0, "%u bytes of ARP", length);
    arp_receive(station, frame + 14, length - 14);
  } else if (type == 0x0800) {
    packet4(station, frame + 14, length - 14);
    CHECK((frame[0] & 1) == 0 || memcmp(frame, BROADCAST_MAC, 6) == 0 || frame[30] >= 224, "to a group's MAC");
  } else {
    CHECK(type == 0x86dd, "type %04x", type);
    packet6(station, frame + 14, length - 14);
  }
}
