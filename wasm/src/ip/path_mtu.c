/* Packet Too Big (RFC 8201): whether it quotes a packet of ours, and what connections send then. lwIP has checked that the
   message is long enough, and that its MTU is less than before and no less than IPv6's minimum. */
#include "ip/path_mtu.h"

#include "lwip_hooks.h"
#include "ip/icmp_error.h"
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

enum { NARROWINGS = 4 }; /* reductions of one MSS, before it is that of the smallest MTU */

/* Segments that are unacknowledged and too large were lost at the narrow link: they are divided and retransmitted, and new data
   is divided accordingly. Without memory for all of that the MSS stays, and segments that are too large leave in fragments: a
   segment may never be larger than the MSS. Returns how many segments there were. */
static uint32_t reduce_mss(struct tcp_pcb *pcb, uint16_t mss) {
  uint32_t segments = 0;
  if (pcb->mss <= mss) {
    return segments;
  }
  tcp_rexmit_rto_prepare(pcb);
  bool complete = pcb->unacked == NULL;
  struct tcp_seg *first = pcb->unsent;
  for (struct tcp_seg *segment = first; segment != NULL && complete; segment = segment->next, segments++) {
    pcb->unsent = segment;
    uint32_t options = pcb->flags & TF_TIMESTAMP ? LWIP_TCP_OPT_LEN_TS_OUT : 0;
    complete = tcp_sndqueuelen(pcb) < TCP_SND_QUEUELEN && tcp_split_unsent_seg(pcb, (u16_t)(mss - options)) == ERR_OK;
  }
  pcb->unsent = first;
  pcb->unsent_oversize = 0;
  if (complete) {
    pcb->mss = mss;
  }
  return segments;
}

uint32_t tw_path_mtu_follow(struct connection *connection) {
  uint16_t mss = connection->path_mss;
  connection->path_mss = 0;
  return mss == 0 ? 0 : reduce_mss(connection->pcb, mss);
}

/* The flush divides the segments, so many at a time: there may be thousands of connections, each with a full queue. A path that
   becomes narrower byte by byte, as a peer may report, has the queue divided only a few times. */
static void reduce_mss_later(struct tcp_pcb *pcb, uint16_t mss) {
  struct connection *connection = tw_connection_of(pcb);
  if (connection == NULL) { /* not accepted yet: it has nothing to send */
    reduce_mss(pcb, mss);
  } else if (pcb->mss > mss && (connection->path_mss == 0 || connection->path_mss > mss)) {
    if (connection->path_mss == 0 && ++connection->narrowings >= NARROWINGS) {
      mss = IP6_MIN_MTU_LENGTH - IP6_HLEN - TCP_HLEN;
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
