/* Was a reduction of the congestion window needless? What was sent again is counted, and what of it proved needless: a
   timestamp from before it was sent again acknowledges it (RFC 3522), or the peer reports a duplicate (RFC 3708). Where
   that is all of it, the reduction is taken back (RFC 4015). */
#include "lwip_hooks.h"
#include "abi/module.h"
#include "tcp/tcp_recovery.h"

enum { MOST_REORDERING = 64 }; /* quarters of a round trip, or more; bounded by the smoothed round trip anyway */

void tw_undo_prepare(struct connection *connection) {
  struct flight *flight = connection->flight;
  flight->undo_possible = true;
  flight->sent_again = false;
  flight->again = 0;
  flight->undo_from = connection->pcb->lastack;
  flight->undo_window = connection->pcb->cwnd;
  flight->undo_threshold = connection->pcb->ssthresh;
}

/* RFC 2883, section 4: the first block lies below what is acknowledged, or within the second. */
void tw_undo_duplicates(struct connection *connection, const struct tcp_sack_range *blocks, uint32_t count) {
  struct flight *flight = connection->flight;
  uint32_t left = blocks[0].left, right = blocks[0].right, length = right - left;
  bool below = TCP_SEQ_LEQ(right, connection->pcb->lastack);
  bool within = count > 1 && TCP_SEQ_LEQ(blocks[1].left, left) && TCP_SEQ_LEQ(right, blocks[1].right);
  if ((!below && !within) || !TCP_SEQ_LT(left, right)) {
    return;
  }
  tw_acknowledgement.duplicated = true;
  if (flight->undo_possible && !TCP_SEQ_LT(left, flight->undo_from)) {
    flight->again -= LWIP_MIN(flight->again, length);
  }
  /* RFC 8985, section 6.2, step 4: once in a round trip. */
  if (!TCP_SEQ_LT(connection->pcb->lastack, connection->reordering_round)) {
    connection->reordering_round = connection->pcb->snd_nxt;
    connection->reordering = (uint8_t)LWIP_MIN(connection->reordering + 1, MOST_REORDERING);
  }
}

bool tw_echo_is_older(uint32_t echo, uint32_t sent) {
  uint64_t at = tw_now - ((uint32_t)tw_now - sent);
  return echo != 0 && (int32_t)(echo - (uint32_t)(at / 1000)) < 0;
}

void tw_undo_echo(struct connection *connection, uint32_t echo) {
  struct flight *flight = connection->flight;
  const struct acknowledgement *news = &tw_acknowledgement;
  if (news->again_bytes == 0 || (connection->pcb->flags & TF_TIMESTAMP) == 0 || !tw_echo_is_older(echo, news->again_first)) {
    return;
  }
  flight->again -= LWIP_MIN(flight->again, news->again_bytes);
  tw_acknowledgement.reordered = true;
}

bool tw_undo(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  struct flight *flight = connection->flight;
  if (!flight->sent_again || flight->again != 0) {
    return false;
  }
  flight->undo_possible = false;
  uint32_t window = flight->undo_window;
  tw_flight_restore(flight);
  if (flight->state == SENDER_LOSS) { /* RFC 4015, section 3.2: time has passed, and acknowledgements may have been lost */
    window = tw_flight_size(pcb, flight) + LWIP_MIN(tw_acknowledgement.delivered, 10 * (uint32_t)pcb->mss);
  }
  flight->state = SENDER_LOSS; /* its end leaves the window as it is */
  pcb->cwnd = LWIP_MAX(pcb->cwnd, window);
  pcb->ssthresh = LWIP_MAX(pcb->ssthresh, flight->undo_threshold);
  flight->epoch = 0;
  connection->undone++;
  return true;
}
