/* Packet too big (RFC 8201): is it about a packet of ours? lwIP has checked that the message is long enough, and that what it says is less
   than before and no less than IPv6's minimum. */
#include "bytes.h"
#include "connection.h"
#include "lwip/icmp6.h"
#include "lwip/ip.h"
#include "lwip/ip6.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/icmp6.h"
#include "lwip/udp.h"

#include <string.h>

static bool tcp_was_sent(const ip_addr_t *from, const ip_addr_t *to, const uint8_t *header) {
  const struct tcp_pcb *pcb = tcp_lookup(from, (uint16_t)read16(header), to, (uint16_t)read16(header + 2));
  uint32_t sequence = read32(header + 4);
  return pcb != NULL && sequence - pcb->lastack <= pcb->snd_nxt - pcb->lastack;
}

static bool udp_was_sent(const uint8_t *header) {
  for (const struct udp_pcb *pcb = udp_pcbs; pcb != NULL; pcb = pcb->next) {
    if (pcb->local_port == read16(header)) {
      return true;
    }
  }
  return false;
}

/* RFC 8201, section 6: a forged message should have to guess what was sent. */
static bool was_sent(const ip_addr_t *from, const ip_addr_t *to, const uint8_t *packet, uint32_t length) {
  uint8_t protocol = packet[6];
  uint32_t at = IP6_HLEN;
  if (protocol == IP6_NEXTH_FRAGMENT && length >= at + 8 && (read16(packet + at + 2) & 0xfff8) == 0) {
    protocol = packet[at];
    at += 8;
  }
  if (!interface_owns(from) || length < at + 8) {
    return false;
  }
  switch (protocol) {
    case IP6_NEXTH_TCP:
      return tcp_was_sent(from, to, packet + at);
    case IP6_NEXTH_UDP:
      return udp_was_sent(packet + at);
    case IP6_NEXTH_ICMP6:
      return packet[at] == ICMP6_TYPE_EREQ || packet[at] == ICMP6_TYPE_EREP;
    default:
      return false;
  }
}

/* What is under way and too large was lost where the path is narrow: it is cut and sent again, and new data is cut
   accordingly. Without memory for all of that nothing is agreed anew, and what is too large leaves in fragments: a segment
   may never be larger than the size that is agreed. */
static void narrow(struct tcp_pcb *pcb, uint16_t mss) {
  if (pcb->mss <= mss) {
    return;
  }
  tcp_rexmit_rto_prepare(pcb);
  bool complete = pcb->unacked == NULL;
  struct tcp_seg *first = pcb->unsent;
  for (struct tcp_seg *segment = first; segment != NULL && complete; segment = segment->next) {
    pcb->unsent = segment;
    complete = tcp_sndqueuelen(pcb) < TCP_SND_QUEUELEN &&
               tcp_split_unsent_seg(pcb, (u16_t)(mss - (pcb->flags & TF_TIMESTAMP ? LWIP_TCP_OPT_LEN_TS_OUT : 0))) == ERR_OK;
  }
  pcb->unsent = first;
  pcb->unsent_oversize = 0;
  if (complete) {
    pcb->mss = mss;
  }
  tcp_output_later(pcb);
}

int path_mtu_accept(const struct pbuf *message, uint16_t mtu) {
  const uint8_t *packet = (const uint8_t *)message->payload + sizeof(struct icmp6_hdr);
  ip_addr_t from, to;
  address_read(&from, ABI_FAMILY_IPV6, packet + 8, 0);
  address_read(&to, ABI_FAMILY_IPV6, packet + 24, 0);
  ip6_addr_assign_zone(ip_2_ip6(&from), IP6_UNICAST, ip_current_input_netif());
  ip6_addr_assign_zone(ip_2_ip6(&to), IP6_UNICAST, ip_current_input_netif());
  bool accepted = was_sent(&from, &to, packet, message->len - sizeof(struct icmp6_hdr));
  /* lwIP keeps it for the destination: what is larger leaves in fragments, so that nobody would tell another connection. */
  for (struct tcp_pcb *pcb = accepted ? tcp_active_pcbs : NULL; pcb != NULL; pcb = pcb->next) {
    if (ip_addr_eq(&pcb->remote_ip, &to)) {
      narrow(pcb, (uint16_t)(mtu - IP6_HLEN - TCP_HLEN));
    }
  }
  return accepted;
}
