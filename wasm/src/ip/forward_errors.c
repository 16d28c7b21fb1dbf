/* The errors that a router sends about packets that it does not forward (RFC 792, RFC 1191, RFC 4443). Here it is decided which
   packets cause none, and how many are sent: an attacker chooses the source address of a packet. */
#include "ip/forward_errors.h"

#include "abi.h"
#include "abi/address_codec.h"
#include "ip/icmp_limit.h"
#include "ip/routes.h"
#include "link/frame.h"
#include "lwip/icmp.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/stats.h"

#include <string.h>

enum {
  ICMP_HEADER = 8,
  MOST4 = 576 - IP_HLEN - ICMP_HEADER, /* RFC 1812, section 4.3.2.3 */
  MOST6 = 1280 - IP6_HLEN - ICMP_HEADER, /* RFC 4443, section 2.4 (c) */
  NETWORK_CONTROL = 0xc0, /* RFC 1812, section 4.3.2.5 */
  HOPS = 255,
  ERRORS6 = 128, /* below are errors */
  REDIRECT6 = 137,
};

/* RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e): no errors about errors, nor about later fragments. */
static bool may_cause_error(const uint8_t *packet, uint32_t length, bool four) {
  if (four) {
    uint32_t header = (packet[0] & 15u) * 4;
    bool first = ((packet[6] & 0x1f) | packet[7]) == 0;
    if (!first || packet[9] != IP_PROTO_ICMP || length <= header) {
      return first;
    }
    uint8_t type = packet[header];
    return type != ICMP_DUR && type != ICMP_SQ && type != ICMP_RD && type != ICMP_TE && type != ICMP_PP;
  }
  uint32_t at = IP6_HLEN;
  uint8_t next = tw_frame_skip_extensions(packet, &at, length);
  return next != IP6_NEXTH_ICMP6 || (length > at && packet[at] >= ERRORS6 && packet[at] != REDIRECT6);
}

static void send4(struct pbuf *message, const ip4_addr_t *to) {
  ip4_addr_t next;
  struct netif *netif = tw_route_find4(to, &next);
  if (netif == NULL && (netif = ip4_route(to)) == NULL) {
    return;
  }
  if ((netif->chksum_flags & NETIF_CHECKSUM_GEN_ICMP) != 0) {
    ((struct icmp_hdr *)message->payload)->chksum = inet_chksum(message->payload, message->len);
  }
  ICMP_STATS_INC(icmp.xmit);
  ip4_output_if(message, NULL, to, HOPS, NETWORK_CONTROL, IP_PROTO_ICMP, netif);
}

static void send6(struct pbuf *message, const ip6_addr_t *to) {
  ip6_addr_t next;
  struct netif *netif = tw_route_find6(to, &next);
  if (netif == NULL && (netif = ip6_route(IP6_ADDR_ANY6, to)) == NULL) {
    return;
  }
  const ip_addr_t *from = ip6_select_source_address(netif, to);
  if (from == NULL) {
    return;
  }
  if ((netif->chksum_flags & NETIF_CHECKSUM_GEN_ICMP6) != 0) {
    ((struct icmp_hdr *)message->payload)->chksum =
        ip6_chksum_pseudo(message, IP6_NEXTH_ICMP6, message->tot_len, ip_2_ip6(from), to);
  }
  ICMP6_STATS_INC(icmp6.xmit);
  ip6_output_if(message, ip_2_ip6(from), to, HOPS, 0, IP6_NEXTH_ICMP6, netif);
}

void tw_forward_send_error(enum icmp_reason reason, const uint8_t *packet, uint32_t length, uint32_t word) {
  static const uint8_t types[2][4][2] = {
      {{ICMP_DUR, ICMP_DUR_NET}, {ICMP_DUR, ICMP_DUR_HOST}, {ICMP_DUR, ICMP_DUR_FRAG}, {ICMP_TE, ICMP_TE_TTL}},
      {{1, 0}, {1, 3}, {2, 0}, {3, 0}}, /* RFC 4443, sections 3.1 to 3.3 */
  };
  bool four = packet[0] >> 4 == 4;
  if (!may_cause_error(packet, length, four) || !tw_icmp_may_send(reason == TOO_BIG ? ICMP_TOO_BIG : ICMP_ROUTER)) {
    return;
  }
  uint32_t quoted = LWIP_MIN(length, four ? (uint32_t)MOST4 : (uint32_t)MOST6);
  struct pbuf *message = pbuf_alloc(PBUF_IP, (u16_t)(ICMP_HEADER + quoted), PBUF_RAM);
  if (message == NULL) {
    return;
  }
  uint8_t *bytes = message->payload;
  memset(bytes, 0, ICMP_HEADER);
  memcpy(bytes, types[!four][reason], 2);
  bytes[6] = (uint8_t)(word >> 8); /* the MTU: RFC 1191, section 4; the lower half of the word in RFC 4443 */
  bytes[7] = (uint8_t)word;
  memcpy(bytes + ICMP_HEADER, packet, quoted);
  ip_addr_t to;
  tw_address_read(&to, four ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6, packet + (four ? 12 : 8), 0);
  if (four) {
    send4(message, ip_2_ip4(&to));
  } else {
    send6(message, ip_2_ip6(&to));
  }
  pbuf_free(message);
}
