/* Packet Too Big (RFC 8201) and, for IPv4, Fragmentation Needed (RFC 1191): whether the message quotes a packet of ours, and
   what connections send then. For IPv6 lwIP has checked that the message is long enough, and that its MTU is less than before
   and no less than IPv6's minimum. Paths that drop large packets without a message are found by time-outs (RFC 4821). */
#include "ip/path_mtu.h"

#include "lwip_hooks.h"
#include "link/interface.h"
#include "port/bytes.h"
#include "tcp/tcp_output.h"
#include "lwip/icmp6.h"
#include "lwip/ip.h"
#include "lwip/ip6.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/icmp6.h"

static bool tcp_was_sent(const struct quote *quote) {
  const struct tcp_pcb *pcb =
      tw_tcp_lookup(&quote->local, tw_read16(quote->content), &quote->remote, tw_read16(quote->content + 2));
  uint32_t sequence = tw_read32(quote->content + 4);
  return pcb != NULL && sequence - pcb->lastack <= pcb->snd_nxt - pcb->lastack;
}

/* RFC 8201, section 6: a forger should have to guess what was sent. The stack does not record which echo requests were
   answered, nor to where an unconnected socket has sent. */
static bool was_sent(const struct quote *quote) {
  switch (quote->protocol) {
    case IP6_NEXTH_TCP:
      return tcp_was_sent(quote);
    case IP6_NEXTH_UDP:
      return tw_quote_of_udp(quote, 0);
    case IP6_NEXTH_ICMP6:
      return quote->content[0] == ICMP6_TYPE_EREP || tw_quote_of_ping(quote, ICMP6_TYPE_EREQ) != NULL;
    default:
      return false;
  }
}

enum {
  NARROWINGS = 4,       /* reductions of one MSS, before it is that of the smallest MTU */
  SMALLEST_MTU4 = 552,  /* as Linux: a smaller value may be forged, and if it is not, routers may fragment */
  SILENT_LOSSES = 3,    /* time-outs in a row, after which a segment may be too large: Linux's tcp_retries1 */
  SUSPECTED_MSS = 1024, /* of the segments from then on, RFC 4821, section 7.2 */
  SUSPICION = 600000 / TCP_SLOW_INTERVAL, /* tcp_ticks after which the path is tried again, RFC 4821, section 7.3 */
};

static uint16_t smallest_mss(const struct tcp_pcb *pcb) {
  return IP_IS_V6(&pcb->remote_ip) ? IP6_MIN_MTU_LENGTH - IP6_HLEN - TCP_HLEN : SMALLEST_MTU4 - IP_HLEN - TCP_HLEN;
}

/* Segments that are unacknowledged and too large were lost at the narrow link: they are divided and retransmitted, and new data
   is divided accordingly. Without memory for all of that the MSS stays, and segments that are too large leave in fragments: a
   segment may never be larger than the MSS. Returns how many segments there were. */
static uint32_t reduce_mss(struct tcp_pcb *pcb, uint16_t mss) {
  uint32_t segments = 0;
  const struct connection *connection = tw_connection_of(pcb);
  /* A full queue is divided, too, which about doubles it. */
  uint32_t limit =
      connection == NULL ? TCP_SND_QUEUELEN : LWIP_MIN(2 * tw_connection_queue_limit(connection), TCP_SND_QUEUELEN);
  if (pcb->mss <= mss) {
    return segments;
  }
  tcp_rexmit_rto_prepare(pcb);
  bool complete = pcb->unacked == NULL;
  struct tcp_seg *first = pcb->unsent;
  for (struct tcp_seg *segment = first; segment != NULL && complete; segment = segment->next, segments++) {
    pcb->unsent = segment;
    uint32_t options = pcb->flags & TF_TIMESTAMP ? LWIP_TCP_OPT_LEN_TS_OUT : 0;
    complete = tcp_sndqueuelen(pcb) < limit && tcp_split_unsent_seg(pcb, (u16_t)(mss - options)) == ERR_OK;
  }
  pcb->unsent = first;
  pcb->unsent_oversize = 0;
  if (complete) {
    pcb->mss = mss;
  }
  return segments;
}

static void send_part(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  const struct tcp_seg *segment = pcb->unacked;
  uint32_t options = pcb->flags & TF_TIMESTAMP ? LWIP_TCP_OPT_LEN_TS_OUT : 0, length = connection->part_mss - options;
  if (segment != NULL && segment->len > length && tcp_send_part(pcb, segment, (u16_t)length) == ERR_OK) {
    connection->part_end = lwip_ntohl(segment->tcphdr->seqno) + length;
  } else {
    connection->part_mss = 0;
  }
}

uint32_t tw_path_mtu_follow(struct connection *connection) {
  uint16_t mss = connection->path_mss;
  connection->path_mss = 0;
  if (connection->part_mss != 0 && connection->part_end == connection->pcb->lastack) {
    send_part(connection);
  }
  if (connection->whole_mss != 0 && tcp_ticks - connection->suspected > SUSPICION) {
    connection->pcb->mss = connection->whole_mss;
    connection->whole_mss = 0;
  }
  return mss == 0 ? 0 : reduce_mss(connection->pcb, mss);
}

/* The flush divides the segments, so many at a time: there may be thousands of connections, each with a full queue. A path that
   becomes narrower byte by byte, as a peer may report, has the queue divided only a few times. */
static void reduce_mss_later(struct tcp_pcb *pcb, uint16_t mss) {
  struct connection *connection = tw_connection_of(pcb);
  if (connection == NULL) { /* not accepted yet: it has nothing to send */
    reduce_mss(pcb, mss);
    return;
  }
  connection->whole_mss = LWIP_MIN(connection->whole_mss, mss);
  if (pcb->mss > mss && (connection->path_mss == 0 || connection->path_mss > mss)) {
    if (connection->path_mss == 0 && ++connection->narrowings >= NARROWINGS) {
      mss = smallest_mss(pcb);
    }
    connection->path_mss = mss;
    tw_connection_send_later(connection);
  }
}

int tw_path_mtu_accept(const struct pbuf *message, uint16_t mtu) {
  const uint8_t *packet = (const uint8_t *)message->payload + sizeof(struct icmp6_hdr);
  struct quote quote;
  /* A packet that was not larger was not too big (RFC 5927, section 7.2). */
  bool accepted = tw_read16(packet + 4) + IP6_HLEN > mtu &&
                  tw_quote_read(&quote, true, packet, message->len - sizeof(struct icmp6_hdr), ip_current_input_netif()) &&
                  tw_interface_owns(&quote.local) && was_sent(&quote);
  /* lwIP keeps it for the destination: larger packets leave in fragments, so that another connection would not be notified. */
  for (struct tcp_pcb *pcb = accepted ? tcp_active_pcbs : NULL; pcb != NULL; pcb = pcb->next) {
    if (ip_addr_eq(&pcb->remote_ip, &quote.remote)) {
      reduce_mss_later(pcb, (uint16_t)(mtu - IP6_HLEN - TCP_HLEN));
    }
  }
  return accepted;
}

bool tw_ip4_whole;

/* LWIP_HOOK_IP4_FRAGMENT_BITS: asked for, and reset, with each packet. */
uint16_t tw_ip4_fragment_bits(void) {
  uint16_t bits = tw_ip4_whole ? PP_HTONS(IP_DF) : 0;
  tw_ip4_whole = false;
  return bits;
}

bool tw_path_mtu_accept4(const struct quote *quote, uint32_t length, uint32_t mtu) {
  struct tcp_pcb *pcb = tw_tcp_lookup(&quote->local, tw_read16(quote->content), &quote->remote, tw_read16(quote->content + 2));
  if (pcb == NULL || !pcb->path_mtu_discovery || length <= mtu || !tcp_was_sent(quote)) {
    return false;
  }
  if (mtu < SMALLEST_MTU4) { /* an old router says 0 */
    pcb->path_mtu_discovery = 0;
    mtu = SMALLEST_MTU4;
  }
  reduce_mss_later(pcb, (uint16_t)(mtu - IP_HLEN - TCP_HLEN));
  return true;
}

/* As Linux's tcp_mtu_probing of 1: a segment that is lost again and again may be larger than the path takes, where no router says
   so. A peer may be out of reach for other reasons, so that each time a part of the segment follows it: what is acknowledged
   then shows which of them has arrived. */
void tw_path_mtu_suspect(struct tcp_pcb *pcb) {
  struct connection *connection = tw_connection_of(pcb);
  if (connection != NULL && pcb->nrtx >= SILENT_LOSSES) {
    connection->part_mss = pcb->nrtx > SILENT_LOSSES ? SUSPECTED_MSS / 2 : SUSPECTED_MSS;
    connection->part_end = pcb->lastack;
    tw_connection_send_later(connection);
  }
}

void tw_path_mtu_learn(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  if (pcb->nrtx != 0) {
    return; /* nothing was acknowledged since */
  }
  if (pcb->lastack == connection->part_end) {
    connection->whole_mss = LWIP_MAX(connection->whole_mss, pcb->mss);
    connection->suspected = tcp_ticks;
    connection->path_mss = connection->part_mss;
    tw_connection_send_later(connection);
  }
  connection->part_mss = 0;
}
