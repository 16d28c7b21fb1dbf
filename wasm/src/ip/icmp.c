/* ICMP and ICMPv6 messages about our own packets: echo replies, and errors that quote what could not be delivered. Any host can
   send one, so it counts only if it quotes a packet that one of our sockets may have sent: all of the four-tuple, and for TCP
   the sequence number (RFC 5927, section 4). Others are ignored and counted. */
#include "ip/icmp.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/events.h"
#include "ip/icmp_error.h"
#include "ip/path_mtu.h"
#include "ip/ping.h"
#include "link/interface.h"
#include "port/bytes.h"
#include "port/timers.h"
#include "tcp/connection.h"
#include "udp/udp_calls.h"
#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"

#include <string.h>

enum {
  ICMP_HEADER = 8,
  QUOTED = 8, /* bytes of the quoted packet behind its IP header that are always present (RFC 792) */
  MOST = ICMP_HEADER + 60 + QUOTED,
  FRAGMENT_HEADER = 44,
  SYN_RETRIES_UNREACHABLE = 2, /* sent at 1 and 3 s, time-out at 7 */
};

uint32_t tw_icmp_unmatched;

/* Linux's mapping of ICMP errors, which RFC 1122, section 3.2.2.1 does not prescribe; 0 for those that report no failed
   delivery. */
static int32_t error_of(bool v6, uint8_t type, uint8_t code) {
  static const int8_t unreachable4[] = {
      ABI_ERROR_NO_ROUTE,         ABI_ERROR_HOST_UNREACHABLE, ABI_ERROR_REFUSED,          ABI_ERROR_REFUSED,
      ABI_ERROR_TOO_LONG,         ABI_ERROR_HOST_UNREACHABLE, ABI_ERROR_NO_ROUTE,         ABI_ERROR_HOST_UNREACHABLE,
      ABI_ERROR_HOST_UNREACHABLE, ABI_ERROR_NO_ROUTE,         ABI_ERROR_HOST_UNREACHABLE, ABI_ERROR_NO_ROUTE,
  };
  static const int8_t unreachable6[] = {
      ABI_ERROR_NO_ROUTE, ABI_ERROR_NOT_PERMITTED, ABI_ERROR_HOST_UNREACHABLE, ABI_ERROR_HOST_UNREACHABLE,
      ABI_ERROR_REFUSED,  ABI_ERROR_NOT_PERMITTED, ABI_ERROR_NOT_PERMITTED,
  };
  if (type == (v6 ? ICMP6_TYPE_DUR : ICMP_DUR)) {
    const int8_t *errors = v6 ? unreachable6 : unreachable4;
    return code < (v6 ? sizeof unreachable6 : sizeof unreachable4) ? errors[code] : ABI_ERROR_HOST_UNREACHABLE;
  }
  return type == (v6 ? (uint8_t)ICMP6_TYPE_TE : (uint8_t)ICMP_TE) ? ABI_ERROR_HOST_UNREACHABLE : 0;
}

/* Reads the packet that a message quotes; false if it is truncated, or a later fragment. */
bool tw_quote_read(struct quote *quote, bool v6, const uint8_t *packet, uint32_t length, const struct netif *by) {
  uint32_t header = v6 ? IP6_HLEN : IP_HLEN;
  if (length < header || packet[0] >> 4 != (v6 ? 6 : 4)) {
    return false;
  }
  int32_t family = v6 ? ABI_FAMILY_IPV6 : ABI_FAMILY_IPV4;
  int32_t scope = tw_interface_handle(by); /* for link-local addresses, which are of the link that the message came by */
  tw_address_read(&quote->local, family, packet + (v6 ? 8 : 12), scope);
  tw_address_read(&quote->remote, family, packet + (v6 ? 24 : 16), scope);
  quote->protocol = packet[v6 ? 6 : 9];
  if (!v6) {
    header = (packet[0] & 15u) * 4;
    if (header < IP_HLEN || (tw_read16(packet + 6) & 0x1fff) != 0) {
      return false;
    }
  } else if (quote->protocol == FRAGMENT_HEADER && length >= header + 8) {
    if ((tw_read16(packet + header + 2) & 0xfff8) != 0) {
      return false;
    }
    quote->protocol = packet[header];
    header += 8;
  }
  quote->content = packet + header;
  return length >= header + QUOTED;
}

bool tw_quote_of_udp(const struct quote *quote, int32_t error) {
  bool ours = false;
  uint16_t local_port = tw_read16(quote->content), remote_port = tw_read16(quote->content + 2);
  for (const struct udp_socket *socket = tw_udp_first(); socket != NULL; socket = socket->next) {
    const struct udp_pcb *pcb = socket->pcb;
    if (pcb->local_port != local_port ||
        !(ip_addr_isany(&pcb->local_ip) || ip_addr_zoneless_eq(&pcb->local_ip, &quote->local))) {
      continue;
    }
    if ((pcb->flags & UDP_FLAGS_CONNECTED) == 0) {
      ours = true; /* it is not known which of its datagrams it was */
    } else if (pcb->remote_port == remote_port && ip_addr_zoneless_eq(&pcb->remote_ip, &quote->remote)) {
      if (error != 0) {
        tw_event_add(ABI_EVENT_DATAGRAM_ERROR, socket->handle, -error);
      }
      return true;
    }
  }
  return ours;
}

/* RFC 1122, section 4.2.3.9: no reason to end the connection, but reported as the reason if it times out. */
static bool tcp_failed(const struct quote *quote, int32_t error) {
  const struct tcp_pcb *pcb =
      tw_tcp_lookup(&quote->local, tw_read16(quote->content), &quote->remote, tw_read16(quote->content + 2));
  if (pcb == NULL || pcb->state != SYN_SENT) {
    return pcb != NULL;
  }
  if (pcb->unacked == NULL || memcmp(&pcb->unacked->tcphdr->seqno, quote->content + 4, 4) != 0) {
    return false;
  }
  tw_connection_of(pcb)->error = error;
  tw_timers_tcp_changed(); /* the next tick may end the connection */
  return true;
}

/* LWIP_HOOK_TCP_SYN_RETRIES: a SYN without any answer is retransmitted for two minutes, as by Linux. One about which an ICMP
   error came may still be delivered within a few seconds, but is retried no longer (RFC 5461, section 4.2). */
uint8_t tw_tcp_syn_retries(const struct tcp_pcb *pcb) {
  return tw_connection_of(pcb)->error != 0 ? SYN_RETRIES_UNREACHABLE : TCP_SYNMAXRTX;
}

/* The neighbour of a queued SYN of ours could not be resolved. The hook does not know the link, which link-local addresses
   depend on: all are tried. */
void tw_icmp_unresolved(const uint8_t *packet, uint32_t length) {
  struct quote quote;
  struct netif *netif;
  NETIF_FOREACH(netif) {
    if (tw_quote_read(&quote, packet[0] >> 4 == 6, packet, length, netif) && quote.protocol == IP_PROTO_TCP) {
      tcp_failed(&quote, ABI_ERROR_TIMED_OUT);
    }
  }
}

/* An event of a session; the endpoint's port is the sequence number. */
static void ping_event(uint32_t kind, const struct ping *ping, const uint8_t *echo, int32_t value, const struct pbuf *packet) {
  tw_event_add_packet(kind, ping->handle, value, ip_current_src_addr(), tw_read16(echo + 6), NULL, 0, packet, ICMP_HEADER);
}

const struct ping *tw_quote_of_ping(const struct quote *quote, uint8_t request) {
  const struct ping *ping = tw_ping_find(tw_read16(quote->content + 4));
  return quote->content[0] == request && ping != NULL && ip_addr_zoneless_eq(&ping->remote, &quote->remote) ? ping : NULL;
}

static bool ping_failed(const struct quote *quote, bool v6, uint8_t type, uint8_t code) {
  const struct ping *ping = tw_quote_of_ping(quote, v6 ? (uint8_t)ICMP6_TYPE_EREQ : (uint8_t)ICMP_ECHO);
  if (ping != NULL) {
    ping_event(ABI_EVENT_ECHO_ERROR, ping, quote->content, type << 8 | code, NULL);
  }
  return ping != NULL;
}

static bool reply(const struct pbuf *packet, const uint8_t *echo) {
  const struct ping *ping = packet->tot_len < ICMP_HEADER ? NULL : tw_ping_find(tw_read16(echo + 4));
  if (ping == NULL || !ip_addr_eq(&ping->remote, ip_current_src_addr())) {
    return false;
  }
  ping_event(ABI_EVENT_ECHO_REPLY, ping, echo, packet->tot_len - ICMP_HEADER, packet);
  return true;
}

static bool received(const struct pbuf *packet, bool v6) {
  uint8_t bytes[MOST];
  uint32_t length = pbuf_copy_partial(packet, bytes, sizeof bytes, 0);
  struct quote quote;
  uint8_t type = bytes[0], code = bytes[1];
  if (type == (v6 ? (uint8_t)ICMP6_TYPE_EREP : (uint8_t)ICMP_ER)) {
    return reply(packet, bytes);
  }
  int32_t error = error_of(v6, type, code);
  if (error == 0 || length < ICMP_HEADER ||
      !tw_quote_read(&quote, v6, bytes + ICMP_HEADER, length - ICMP_HEADER, ip_current_input_netif())) {
    return false;
  }
  switch (quote.protocol) {
    case IP_PROTO_UDP:
      return tw_quote_of_udp(&quote, error);
    case IP_PROTO_TCP:
      if (error == ABI_ERROR_TOO_LONG) {
        return tw_path_mtu_accept4(&quote, tw_read16(bytes + ICMP_HEADER + 2), tw_read16(bytes + 6));
      }
      return tcp_failed(&quote, error);
    case IP_PROTO_ICMP:
    case IP6_NEXTH_ICMP6:
      return ping_failed(&quote, v6, type, code);
    default:
      return false;
  }
}

/* LWIP_HOOK_ICMP_INPUT: at least four bytes; lwIP itself verifies the checksums of echo requests only. */
int tw_icmp_received(struct pbuf *packet, struct netif *netif) {
  IF__NETIF_CHECKSUM_ENABLED(netif, NETIF_CHECKSUM_CHECK_ICMP) {
    if (inet_chksum_pbuf(packet) != 0) {
      ICMP_STATS_INC(icmp.chkerr);
      return 1;
    }
  }
  tw_icmp_unmatched += !received(packet, false);
  return 1;
}

/* LWIP_HOOK_ICMP6_INPUT: at least eight bytes, with a valid checksum. */
int tw_icmp6_received(struct pbuf *packet, struct netif *netif) {
  (void)netif;
  tw_icmp_unmatched += !received(packet, true);
  return 1;
}
