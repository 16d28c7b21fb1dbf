/* IP forwarding, off unless the embedder asks for it: what a router does between receiving a packet for another host and
   sending it on (RFC 1812, section 5; RFC 8200). A packet is read in the receive buffer, and copied with room for a link header
   only when it is known to leave. */
#include "ip/forward.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "ip/forward_errors.h"
#include "ip/icmp.h"
#include "ip/routes.h"
#include "link/interface.h"
#include "port/bytes.h"
#include "lwip/inet_chksum.h"
#include "lwip/etharp.h"
#include "lwip/ip.h"
#include "lwip/stats.h"

#include <string.h>

enum {
  TYPE_IPV4 = 0x0800,
  TYPE_IPV6 = 0x86dd,
  MORE_FRAGMENTS = 0x2000,
  DO_NOT_FRAGMENT = 0x4000,
  OFFSET = 0x1fff,
  LOOSE_SOURCE_ROUTE = 131,
  STRICT_SOURCE_ROUTE = 137,
  OPTION_COPIED = 0x80,
  PROTOCOL_TCP = 6,
  PROTOCOL_UDP = 17,
  PROTOCOL_ICMP = 1,
  PROTOCOL_ICMPV6 = 58,
};

static bool forwarding;
static uint32_t drops;

int32_t abi_forwarding(int32_t enabled) {
  forwarding = enabled != 0;
  return 0;
}

uint32_t tw_forward_drops(void) { return drops; }

static bool drop(void) {
  drops++;
  return true;
}

static bool refuse(enum icmp_reason reason, const uint8_t *packet, uint32_t length, uint32_t word) {
  tw_forward_send_error(reason, packet, length, word);
  return drop();
}

/* A point-to-point link delivered a packet for its own network that neither end has: sent back, it would return until its hop
   limit is used up (RFC 4443, section 3.1). */
static bool returns_to_its_link(const struct interface *from, const struct netif *to) {
  return to == &from->netif && from->kind == ABI_KIND_TUN;
}

static struct pbuf *copy_of(const uint8_t *packet, uint32_t length) {
  struct pbuf *copy = pbuf_alloc(PBUF_LINK, (u16_t)length, PBUF_RAM);
  if (copy == NULL) {
    LINK_STATS_INC(link.memerr);
    drops++;
  } else {
    memcpy(copy->payload, packet, length);
  }
  return copy;
}

/* Between an interface without checksums and one with them: a checksum that is still missing is computed here. A fragment whose
   checksum covers others, too, stays as it is. */
static void fill_checksum(struct pbuf *packet, uint32_t header, uint8_t protocol, const ip_addr_t *from, const ip_addr_t *to) {
  uint32_t at = protocol == PROTOCOL_TCP ? 16 : protocol == PROTOCOL_UDP ? 6 : 2;
  bool plain = protocol == PROTOCOL_ICMP && IP_IS_V4(to);
  if ((!plain && protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP && protocol != PROTOCOL_ICMPV6) ||
      packet->len < header + at + 2) {
    return;
  }
  uint8_t *place = (uint8_t *)packet->payload + header + at;
  memset(place, 0, 2);
  pbuf_remove_header(packet, header);
  u16_t sum = plain ? inet_chksum(packet->payload, packet->len) : ip_chksum_pseudo(packet, protocol, packet->tot_len, from, to);
  pbuf_add_header(packet, header);
  memcpy(place, &sum, 2);
}

static bool lacks_checksums(const struct interface *from, const struct netif *to) {
  return (from->netif.chksum_flags & NETIF_CHECKSUM_CHECK_TCP) == 0 && (to->chksum_flags & NETIF_CHECKSUM_GEN_TCP) != 0;
}

/* --- IPv4 ------------------------------------------------------------------------------------------------------- */

static void set_header_checksum(uint8_t *packet, uint32_t header) {
  memset(packet + 10, 0, 2);
  u16_t sum = inet_chksum(packet, (u16_t)header);
  memcpy(packet + 10, &sum, 2);
}

/* RFC 1812, sections 5.2.4 and 5.3.7; RFC 3927, section 2.7: addresses that must not be forwarded. */
static bool is_martian(const uint8_t *address) {
  return address[0] == 0 || address[0] == 127 || address[0] >= 224 || (address[0] == 169 && address[1] == 254);
}

/* Options are forwarded as they are, but for source routes, which serve attackers alone (RFC 7126, sections 4.3 and 4.4). */
static bool options_are_acceptable(const uint8_t *packet, uint32_t header) {
  for (uint32_t at = 20; at < header && packet[at] != 0;) {
    uint32_t size = packet[at] == 1 ? 1 : at + 1 < header ? packet[at + 1] : 0;
    if (packet[at] == LOOSE_SOURCE_ROUTE || packet[at] == STRICT_SOURCE_ROUTE || size == 0 || at + size > header ||
        (size == 1 && packet[at] != 1)) {
      return false;
    }
    at += size;
  }
  return true;
}

/* RFC 791, section 3.1: some options are in the first fragment only. In others they are overwritten, so that nothing moves. */
static void blank_options(uint8_t *packet, uint32_t header) {
  for (uint32_t at = 20, size; at < header && packet[at] != 0; at += size) {
    size = packet[at] == 1 ? 1 : packet[at + 1];
    if ((packet[at] & OPTION_COPIED) == 0) {
      memset(packet + at, 1, size);
    }
  }
}

static err_t send_fragments(struct netif *netif, uint8_t *packet, uint32_t header, uint32_t total, const ip4_addr_t *next) {
  uint32_t word = tw_read16(packet + 6), most = (netif->mtu - header) & ~7u, size;
  for (uint32_t at = header; at < total; at += size) {
    size = LWIP_MIN(most, total - at);
    struct pbuf *fragment = pbuf_alloc(PBUF_LINK, (u16_t)(header + size), PBUF_RAM);
    if (fragment == NULL) {
      return ERR_MEM;
    }
    uint8_t *bytes = fragment->payload;
    memcpy(bytes, packet, header);
    memcpy(bytes + header, packet + at, size);
    tw_write16(bytes + 2, header + size);
    tw_write16(bytes + 6, ((word & OFFSET) + (at - header) / 8) | (at + size < total ? MORE_FRAGMENTS : word & MORE_FRAGMENTS));
    set_header_checksum(bytes, header);
    err_t error = netif->output(netif, fragment, next);
    pbuf_free(fragment);
    if (error != ERR_OK) {
      return error;
    }
    blank_options(packet, header);
  }
  return ERR_OK;
}

static bool is_ours4(const ip4_addr_t *address) {
  for (struct interface *interface = tw_interface_first(); interface != NULL; interface = interface->next) {
    const struct netif *netif = &interface->netif;
    if (netif_is_up(netif) && !ip4_addr_isany(netif_ip4_addr(netif)) &&
        (ip4_addr_eq(address, netif_ip4_addr(netif)) || ip4_addr_isbroadcast(address, netif))) {
      return true;
    }
  }
  return false;
}

/* The checks of RFC 1812, section 5.2, in their order; each may end it, so that it is one function of over 60 lines. */
static bool forward4(struct interface *from, const uint8_t *packet, uint32_t length) {
  uint32_t header, total;
  if (length < IP_HLEN || (header = (packet[0] & 15u) * 4) < IP_HLEN || (total = tw_read16(packet + 2)) < header ||
      total > length) {
    return false;
  }
  ip_addr_t source, destination;
  ip4_addr_t next;
  tw_address_read(&source, ABI_FAMILY_IPV4, packet + 12, 0);
  tw_address_read(&destination, ABI_FAMILY_IPV4, packet + 16, 0);
  if (ip4_addr_ismulticast(ip_2_ip4(&destination)) || ip4_addr_get_u32(ip_2_ip4(&destination)) == IPADDR_BROADCAST ||
      is_ours4(ip_2_ip4(&destination))) {
    return false;
  }
  if ((from->netif.chksum_flags & NETIF_CHECKSUM_CHECK_IP) != 0 && inet_chksum(packet, (u16_t)header) != 0) {
    IP_STATS_INC(ip.chkerr);
    return drop();
  }
  if (is_martian(packet + 12) || is_martian(packet + 16) || is_ours4(ip_2_ip4(&source)) ||
      !options_are_acceptable(packet, header)) {
    return drop();
  }
  struct netif *netif = tw_route_find4(ip_2_ip4(&destination), &next);
  if (netif == NULL && (netif = ip4_route(ip_2_ip4(&destination))) != NULL) {
    next = *ip_2_ip4(&destination);
  }
  if (netif == NULL || returns_to_its_link(from, netif)) {
    return refuse(netif == NULL ? NET_UNREACHABLE : HOST_UNREACHABLE, packet, total, 0);
  }
  if (packet[8] <= 1) {
    return refuse(EXPIRED, packet, total, 0);
  }
  if (total > netif->mtu && (tw_read16(packet + 6) & DO_NOT_FRAGMENT) != 0) {
    return refuse(TOO_BIG, packet, total, netif->mtu);
  }
  struct pbuf *copy = copy_of(packet, total);
  if (copy == NULL) {
    return true;
  }
  uint8_t *bytes = copy->payload;
  bytes[8]--;
  if (lacks_checksums(from, netif)) {
    set_header_checksum(bytes, header);
    if ((tw_read16(packet + 6) & (OFFSET | MORE_FRAGMENTS)) == 0) {
      fill_checksum(copy, header, packet[9], &source, &destination);
    }
  } else { /* RFC 1141: the upper half of a word was decremented */
    uint32_t sum = tw_read16(packet + 10) + 0x100;
    tw_write16(bytes + 10, sum + (sum >> 16));
  }
  err_t error = total > netif->mtu ? send_fragments(netif, bytes, header, total, &next) : netif->output(netif, copy, &next);
  pbuf_free(copy);
  if (error == ERR_RTE) { /* there is an interface, but no gateway on it */
    return refuse(NET_UNREACHABLE, packet, total, 0);
  }
  if (error != ERR_OK) {
    return drop();
  }
  IP_STATS_INC(ip.fw);
  return true;
}

/* --- IPv6 ------------------------------------------------------------------------------------------------------- */

/* RFC 4291, sections 2.5.2, 2.5.3 and 2.5.6. */
static bool is_martian6(const ip6_addr_t *address) {
  return ip6_addr_isany(address) || ip6_addr_isloopback(address) || ip6_addr_islinklocal(address) ||
         ip6_addr_ismulticast(address);
}

static bool forward6(struct interface *from, const uint8_t *packet, uint32_t length) {
  uint32_t total;
  if (length < IP6_HLEN || (total = IP6_HLEN + tw_read16(packet + 4)) > length) {
    return false;
  }
  ip_addr_t source, destination;
  ip6_addr_t next;
  tw_address_read(&source, ABI_FAMILY_IPV6, packet + 8, 0);
  tw_address_read(&destination, ABI_FAMILY_IPV6, packet + 24, 0);
  if (is_martian6(ip_2_ip6(&destination)) || tw_interface_owns(&destination)) {
    return false;
  }
  if (is_martian6(ip_2_ip6(&source)) || tw_interface_owns(&source)) {
    return drop();
  }
  struct netif *netif = tw_route_find6(ip_2_ip6(&destination), &next);
  if (netif == NULL && (netif = ip6_route(ip_2_ip6(&source), ip_2_ip6(&destination))) != NULL) {
    next = *ip_2_ip6(&destination);
  }
  if (netif == NULL || returns_to_its_link(from, netif)) {
    return refuse(netif == NULL ? NET_UNREACHABLE : HOST_UNREACHABLE, packet, total, 0);
  }
  if (packet[7] <= 1) {
    return refuse(EXPIRED, packet, total, 0);
  }
  if (total > netif_mtu6(netif)) {
    return refuse(TOO_BIG, packet, total, netif_mtu6(netif));
  }
  struct pbuf *copy = copy_of(packet, total);
  if (copy == NULL) {
    return true;
  }
  ((uint8_t *)copy->payload)[7]--;
  if (lacks_checksums(from, netif)) {
    fill_checksum(copy, IP6_HLEN, packet[6], &source, &destination);
  }
  err_t error = netif->output_ip6(netif, copy, &next);
  pbuf_free(copy);
  if (error == ERR_RTE) {
    return refuse(NET_UNREACHABLE, packet, total, 0);
  }
  if (error != ERR_OK) {
    return drop();
  }
  IP6_STATS_INC(ip6.fw);
  return true;
}

bool tw_forward_frame(struct interface *interface, const uint8_t *frame, uint32_t length) {
  if (!forwarding || interface->kind == ABI_KIND_LOOPBACK) {
    return false;
  }
  uint32_t type = 0;
  if (interface_is_ethernet(interface)) {
    if (length <= SIZEOF_ETH_HDR || (frame[0] & 1) != 0) { /* RFC 1812, section 5.3.4 */
      return false;
    }
    type = tw_read16(frame + 12);
    frame += SIZEOF_ETH_HDR;
    length -= SIZEOF_ETH_HDR;
  }
  if (length == 0) {
    return false;
  }
  if (frame[0] >> 4 == 4 && (type == 0 || type == TYPE_IPV4)) {
    return forward4(interface, frame, length);
  }
  return frame[0] >> 4 == 6 && (type == 0 || type == TYPE_IPV6) && forward6(interface, frame, length);
}

/* lwIP drops the packets queued for a neighbour that does not answer. */
void tw_forward_unresolved(const struct pbuf *packet) {
  const uint8_t *bytes = packet->payload;
  bool four = packet->len >= IP_HLEN && bytes[0] >> 4 == 4;
  if (!four && packet->len < IP6_HLEN) {
    return;
  }
  ip_addr_t source;
  tw_address_read(&source, four ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6, bytes + (four ? 12 : 8), 0);
  if (!forwarding || tw_interface_owns(&source)) {
    tw_icmp_unresolved(bytes, packet->len);
  } else {
    refuse(HOST_UNREACHABLE, bytes, packet->len, 0);
  }
}
