/* Was a reduction of the congestion window needless? What was sent again is counted, and what of it proved needless: a
   timestamp from before it was sent again acknowledges it (RFC 3522), or the peer reports a duplicate (RFC 3708). Where
   that is all of it, the reduction is taken back (RFC 4015). */
#include "lwip_hooks.h"
#include "abi/module.h"
#include "tcp/tcp_recovery.h"

void tw_undo_needless(struct flight *flight, uint32_t begin, uint32_t length) {
  flight->news.needless = true;
  if (TCP_SEQ_GEQ(begin, flight->undo_from)) {
    flight->again -= LWIP_MIN(flight->again, length);
  }
}

/* RFC 2883, section 4: the first block lies below what is acknowledged, or within the second. */
void tw_undo_duplicates(struct flight *flight, const struct tcp_sack_range *blocks, uint32_t count) {
  struct connection *connection = flight->connection;
  uint32_t left = blocks[0].left, right = blocks[0].right, acknowledged = flight->pcb->lastack;
  bool within = count > 1 && TCP_SEQ_LEQ(blocks[1].left, left) && TCP_SEQ_LEQ(right, blocks[1].right);
  if (!TCP_SEQ_LT(left, right) || (TCP_SEQ_GT(right, acknowledged) && !within)) {
    return;
  }
  tw_undo_needless(flight, left, right - left);
  connection->needless++;
  /* RFC 8985, section 6.2, step 4: once in a round trip. */
  if (TCP_SEQ_GEQ(acknowledged, connection->reordering_round)) {
    connection->reordering_round = flight->pcb->snd_nxt;
    connection->reordering++;
  }
}

bool tw_undo_echo_is_older(const struct tcp_pcb *pcb, uint32_t sent) {
  uint32_t echo = tcp_echoed_timestamp(), age = ((uint32_t)tw_now - sent + 999) / 1000;
  return (pcb->flags & TF_TIMESTAMP) != 0 && echo != 0 && TCP_SEQ_LT(echo, (uint32_t)(tw_now / 1000) - age);
}

/* RFC 5682, section 3.1, as in Linux: what was not sent again arrives, of which the peer has reported nothing before. Without
   SACK the peer may have held it back; with timestamps the echo decides (tw_undo_echo_is_older). */
bool tw_undo_time_out(const struct flight *flight) {
  return flight->may_be_early && flight->news.original && (flight->pcb->flags & (TF_SACK | TF_TIMESTAMP)) == TF_SACK;
}

void tw_undo(struct flight *flight) {
  struct tcp_pcb *pcb = flight->pcb;
  while (flight_has_losses(flight)) {
    tw_flight_move(flight, flight->lost.sent_next, &flight->sent);
  }
  pcb->cwnd = LWIP_MAX(pcb->cwnd, flight->prr_window);
  pcb->ssthresh = LWIP_MAX(pcb->ssthresh, flight->undo_threshold);
  flight->state = SENDER_OPEN;
  flight->undo = UNDO_NOTHING;
  flight->epoch = 0;
  flight->connection->undone++;
}
