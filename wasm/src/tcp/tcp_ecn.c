/* Explicit congestion notification, RFC 3168. A connection asks for it where its opener wants it, and agrees where its peer
   asks. tcp_pcb.ecn holds ECN_AGREED, and the flags that are to be sent: ECE until the peer has reduced its window, CWR with
   the first new data after a reduction, and both in a SYN that asks. */
#include "lwip_hooks.h"
#include "tcp/tcp_recovery.h"
#include "lwip/ip.h"
#include "lwip/prot/tcp.h"

enum { ASKS = TCP_ECE | TCP_CWR, NOT_ECT_BITS = 0xfc, ECT_0 = 2, CE = 3 };

static bool experienced_congestion(void) {
  uint32_t bits = ip_current_is_v6() ? IP6H_TC(ip6_current_header()) : IPH_TOS(ip4_current_header());
  return (bits & CE) == CE;
}

/* LWIP_HOOK_TCP_ECN_RECEIVED. Sections 6.1.1 to 6.1.3. A window is reduced once in a round trip, as after a loss, which needs no undoing. */
void tw_tcp_ecn_received(struct tcp_pcb *pcb, uint8_t flags) {
  struct flight *flight = tw_flight_of(pcb);
  if (pcb->state == SYN_SENT) {
    pcb->ecn = pcb->ecn != 0 && (flags & ASKS) == TCP_ECE ? ECN_AGREED : 0;
  } else if (pcb->state == SYN_RCVD) {
    pcb->ecn = (flags & TCP_SYN) == 0 ? pcb->ecn & ECN_AGREED : (flags & ASKS) == ASKS ? ECN_AGREED | TCP_ECE : 0;
  } else if (pcb->ecn != 0) {
    pcb->ecn &= (uint8_t)(flags & TCP_CWR ? ~TCP_ECE : 0xff);
    pcb->ecn |= experienced_congestion() ? TCP_ECE : 0;
    if ((flags & TCP_ECE) != 0 && flight != NULL && flight->state == SENDER_OPEN) {
      tw_recovery_begin(flight);
      flight->undo = UNDO_NOTHING;
    }
  }
}

/* LWIP_HOOK_TCP_ECN_SEND. Sections 6.1.1.1, 6.1.2 and 6.1.5: a SYN that is sent again asks no more, since a router may have dropped it for that; and
   only new data is marked. */
void tw_tcp_ecn_send(struct tcp_pcb *pcb, struct tcp_seg *segment) {
  bool opens = pcb->state == SYN_SENT,
       again = opens ? pcb->nrtx > 0 : TCP_SEQ_LT(lwip_ntohl(segment->tcphdr->seqno), pcb->snd_nxt);
  if (again) {
    segment->marks |= SEGMENT_AGAIN;
    pcb->ecn = opens ? 0 : pcb->ecn;
  }
  TCPH_UNSET_FLAG(segment->tcphdr, ASKS);
  TCPH_SET_FLAG(segment->tcphdr, pcb->ecn & (again ? TCP_ECE : ASKS));
  pcb->tos = (pcb->tos & NOT_ECT_BITS) | (!again && (pcb->ecn & ECN_AGREED) != 0 && pcb->state >= ESTABLISHED ? ECT_0 : 0);
}
