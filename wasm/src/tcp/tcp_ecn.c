/* Explicit congestion notification, RFC 3168. A connection asks for it where its opener wants it, and agrees where its peer
   asks. tcp_pcb.ecn holds ECN_AGREED once it is open, and the flags that are to be sent: both in a SYN that asks, ECE in the
   answer that agrees, then ECE until the peer has reduced its window, and CWR with the first new data after a reduction. */
#include "lwip_hooks.h"
#include "tcp/tcp_recovery.h"
#include "lwip/ip.h"
#include "lwip/prot/tcp.h"

enum { ASKS = TCP_ECE | TCP_CWR, CE = 3, DSCP_BITS = 0xfc, FLAGS_AT = 13 };

static bool experienced_congestion(void) {
  const uint8_t *header = (const uint8_t *)ip4_current_header();
  uint32_t bits = header == NULL ? ((const uint8_t *)ip6_current_header())[1] >> 4 : header[1];
  return (bits & CE) == CE;
}

/* LWIP_HOOK_TCP_ECN_RECEIVED. Sections 6.1.1 to 6.1.3. A window is reduced once in a round trip, as after a loss; nothing shows
   that it was needless. */
void tw_tcp_ecn_received(struct tcp_pcb *pcb, uint8_t flags) {
  struct flight *flight = tw_flight_of(pcb);
  uint8_t ecn = pcb->ecn, asked = flags & ASKS;
  if (pcb->state == SYN_SENT) {
    ecn = ecn != 0 && asked == TCP_ECE ? ECN_AGREED : 0;
  } else if ((flags & TCP_SYN) != 0) {
    ecn = asked == ASKS ? TCP_ECE : 0;
  } else if (pcb->state == SYN_RCVD) {
    ecn = ecn != 0 ? ECN_AGREED : 0;
  } else if (ecn != 0) {
    ecn &= (uint8_t)(asked & TCP_CWR ? ~TCP_ECE : ~0u);
    ecn |= experienced_congestion() ? TCP_ECE : 0;
  }
  pcb->ecn = ecn;
  if ((ecn & ECN_AGREED) != 0 && (asked & TCP_ECE) != 0 && flight != NULL && flight->state == SENDER_OPEN) {
    tw_recovery_begin(flight);
    flight->undo = UNDO_NOTHING;
  }
}

/* LWIP_HOOK_TCP_ECN_SEND. Sections 6.1.1.1, 6.1.2 and 6.1.5: a SYN that is sent again asks no more, since a router may have
   dropped it for that; and only new data is marked: ECN_AGREED is ECT(0), too. */
void tw_tcp_ecn_send(struct tcp_pcb *pcb, struct tcp_seg *segment) {
  uint8_t *flags = (uint8_t *)segment->tcphdr + FLAGS_AT, ecn = pcb->ecn;
  if ((segment->marks & SEGMENT_SENT) != 0) {
    ecn &= TCP_ECE;
    if (pcb->state == SYN_SENT) {
      pcb->ecn = ecn = 0;
    }
  }
  *flags = (uint8_t)((*flags & ~ASKS) | (ecn & ASKS));
  pcb->tos = (uint8_t)((pcb->tos & DSCP_BITS) | (ecn & ECN_AGREED));
}
