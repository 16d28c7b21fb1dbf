/* Loss recovery: what an acknowledgement changes, how much may be sent (RFC 9937), and what is sent again. Which segments
   are lost is found by RACK (tcp_rack.c) where the peer sends SACK, and by duplicates (RFC 6582) where it does not. */
#include "tcp/tcp_recovery.h"

#include "lwip_hooks.h"
#include "abi/module.h"
#include "tcp/tcp_output.h"

enum { DUPLICATES = 3 }; /* RFC 5681, section 3.2 */

static uint32_t threshold(const struct tcp_pcb *pcb) { return LWIP_MAX(pcb->ssthresh, 2 * (uint32_t)pcb->mss); }

bool tw_recovery_wants_output(const struct connection *connection) {
  return connection->flight != NULL && connection->flight->lost.first != NULL;
}

/* How much is under way is taken from the congestion window: acknowledgements come in batches, before anything is sent. */
void tw_recovery_begin(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  struct flight *flight = connection->flight;
  if (flight->state != SENDER_OPEN) {
    return;
  }
  tw_undo_prepare(connection);
  flight->prr_window = LWIP_MAX(pcb->cwnd, 1);
  flight->prr_delivered = flight->prr_out = 0;
  flight->state = SENDER_RECOVERY;
  flight->recovery_point = tw_flight_limit(pcb);
  tw_congestion_reduce(connection);
}

/* RFC 9937, section 5. */
static void reduce_in_proportion(struct tcp_pcb *pcb, struct flight *flight, bool advanced, bool losses) {
  uint32_t in_flight = tw_flight_size(pcb, flight), mss = pcb->mss, limit = threshold(pcb), send;
  flight->prr_delivered += tw_acknowledgement.delivered;
  if (in_flight > limit) {
    uint64_t due = ((uint64_t)flight->prr_delivered * limit + flight->prr_window - 1) / flight->prr_window;
    send = due > flight->prr_out ? (uint32_t)due - flight->prr_out : 0;
  } else {
    int32_t owed = (int32_t)(flight->prr_delivered - flight->prr_out);
    send = (uint32_t)LWIP_MAX(owed, (int32_t)tw_acknowledgement.delivered) + (advanced && !losses ? mss : 0);
    send = LWIP_MIN(send, limit - in_flight);
  }
  if (flight->prr_out == 0) {
    send = LWIP_MAX(send, mss);
  }
  pcb->cwnd = in_flight + send;
}

/* RFC 6582, and RFC 3042: a duplicate stands for a segment that has left the network. */
static uint32_t detect_without_sack(struct connection *connection, uint32_t acked, bool duplicate) {
  struct tcp_pcb *pcb = connection->pcb;
  struct flight *flight = connection->flight;
  uint32_t mss = pcb->mss, under_way = tw_flight_limit(pcb) - pcb->lastack;
  if (flight->state == SENDER_LOSS) {
    return 0;
  }
  if (duplicate) {
    uint32_t more = under_way > flight->sacked + mss ? mss : 0;
    flight->sacked += more;
    tw_acknowledgement.delivered += more;
    if (flight->state != SENDER_OPEN || ++flight->duplicates < DUPLICATES) {
      return 0;
    }
  } else {
    uint32_t counted = LWIP_MIN(flight->sacked, acked > mss ? acked - mss : 0);
    flight->sacked -= counted;
    tw_acknowledgement.delivered -= LWIP_MIN(tw_acknowledgement.delivered, counted);
    flight->duplicates = 0;
    if (flight->state == SENDER_OPEN || !TCP_SEQ_LT(pcb->lastack, flight->recovery_point)) {
      flight->sacked = 0;
      return 0;
    }
  }
  struct tcp_seg *head = pcb->unacked;
  if (head == NULL || (head->marks & (SEGMENT_LOST | SEGMENT_AGAIN)) != 0) {
    return 0;
  }
  tw_flight_lose(flight, head);
  return 1;
}

static void end_recovery(struct tcp_pcb *pcb, struct flight *flight) {
  if (flight->state == SENDER_RECOVERY) {
    pcb->cwnd = threshold(pcb);
  }
  flight->state = SENDER_OPEN;
  if ((pcb->flags & TF_SACK) == 0) {
    flight->sacked = flight->duplicates = 0;
  }
}

static void acknowledged(struct connection *connection, uint32_t acked, bool duplicate, uint32_t echo) {
  struct tcp_pcb *pcb = connection->pcb;
  struct flight *flight = connection->flight;
  bool sack = (pcb->flags & TF_SACK) != 0, recovers = flight->state == SENDER_RECOVERY;
  tw_undo_echo(connection, echo);
  if (sack) {
    tw_rack_update(connection, echo);
  }
  if (flight->undo_possible && tw_undo(connection)) {
    end_recovery(pcb, flight);
  }
  if (flight->state != SENDER_OPEN && !TCP_SEQ_LT(pcb->lastack, flight->recovery_point)) {
    end_recovery(pcb, flight);
  }
  uint32_t losses = sack ? tw_rack_detect(connection) : detect_without_sack(connection, acked, duplicate);
  if (losses > 0) {
    tw_recovery_begin(connection);
  }
  recovers |= tw_probe_acknowledged(connection);
  if (flight->state == SENDER_RECOVERY) {
    reduce_in_proportion(pcb, flight, acked > 0, losses > 0);
  } else if (acked > 0 && !recovers) {
    uint32_t round_trip = tw_acknowledgement.timed ? (uint32_t)tw_now - tw_acknowledgement.sent : 0;
    /* RFC 3465, section 2.3: what a peer without SACK held already is acknowledged together with what was sent again. */
    bool bounded = flight->state == SENDER_LOSS && !sack;
    acked = LWIP_MIN(tw_acknowledgement.delivered, bounded ? pcb->mss : UINT32_MAX);
    tw_congestion_acknowledged(connection, acked, round_trip);
  }
}

/* Through a network, the send buffer follows the congestion window, so that the window never waits for the host. */
static void fill_window(struct connection *connection) {
  uint32_t wanted = LWIP_MIN(connection->pcb->cwnd, TCP_SND_BUF / 2) * 2;
  if (connection->least_round_trip >= CONNECTION_LONG_WAIT && wanted > connection->send_limit) {
    connection->send_limit = wanted;
  }
}

/* LWIP_HOOK_TCP_ACKNOWLEDGED: so many bytes at once; or none, by what may be a duplicate. */
void tw_tcp_acknowledged(struct tcp_pcb *pcb, uint32_t acked, uint8_t duplicate, const struct tcp_sack_range *blocks,
                         uint32_t count, uint32_t echo) {
  struct connection *connection = tw_connection_of(pcb);
  struct flight *flight = connection == NULL ? NULL : connection->flight;
  if (connection != NULL && (pcb->flags & TF_SACK) != 0 && flight != NULL && count > 0) {
    tw_undo_duplicates(connection, blocks, count);
    tw_flight_sack(pcb, flight, blocks, count);
  }
  if (connection != NULL && tw_acknowledgement.timed) {
    tw_round_trip_measured(connection, (uint32_t)tw_now - tw_acknowledgement.sent);
  }
  if (flight != NULL) {
    flight->probe_base = acked > 0 ? tw_now : flight->probe_base;
    acknowledged(connection, acked, duplicate != 0, echo);
    fill_window(connection);
    if (pcb->unacked == NULL && pcb->unsent == NULL) {
      tw_flight_end(connection);
    } else {
      tw_rack_arm(connection);
    }
  }
  tw_acknowledgement = (struct acknowledgement){0};
}

/* LWIP_HOOK_TCP_SEND_WINDOW: how much may lie between what is acknowledged and the end of what is sent. New data waits for
   what is to be sent again. */
uint32_t tw_tcp_send_window(struct tcp_pcb *pcb) {
  struct connection *connection = tw_connection_of(pcb);
  if (connection == NULL || pcb->state < ESTABLISHED) {
    return LWIP_MIN(pcb->snd_wnd, pcb->cwnd);
  }
  struct flight *flight = connection->flight;
  if (flight == NULL) {
    flight = tw_flight_begin(connection);
  }
  if (flight == NULL || flight->lost.first != NULL) {
    return 0;
  }
  uint32_t edge = pcb->cwnd + flight->sacked + flight->lost_bytes;
  if (pcb->snd_lbb - pcb->lastack > edge && pcb->snd_wnd >= edge) {
    flight->limited = true;
    flight->limited_to = pcb->lastack + edge;
  } else if (!TCP_SEQ_LT(pcb->lastack, flight->limited_to)) {
    flight->limited = false;
  }
  if (flight->probe_now) {
    edge = LWIP_MAX(edge, tw_flight_limit(pcb) - pcb->lastack + pcb->unsent->len);
  }
  return LWIP_MIN(pcb->snd_wnd, edge);
}

/* LWIP_HOOK_TCP_RESEND: sends what is lost, as far as the windows allow it. The first of all is sent in any case. */
int8_t tw_tcp_resend_lost(struct tcp_pcb *pcb) {
  struct flight *flight = tw_flight_of(pcb);
  struct tcp_seg *segment;
  while (flight != NULL && (segment = flight->lost.first) != NULL) {
    uint32_t in_flight = tw_flight_size(pcb, flight);
    if ((in_flight > 0 && in_flight + (segment->end - segment->begin) > pcb->cwnd) ||
        (segment != pcb->unacked && TCP_SEQ_GT(segment->end, pcb->lastack + pcb->snd_wnd))) {
      break;
    }
    err_t error = tcp_resend(pcb, segment);
    if (error != ERR_OK) {
      return error;
    }
    if (segment == pcb->unacked) {
      pcb->rtime = 0; /* RFC 6675, section 5, end */
    }
  }
  return ERR_OK;
}

/* LWIP_HOOK_TCP_TIMED_OUT: all that is not SACKed is lost (RFC 6675, section 5.1). False leaves it to lwIP, which queues all
   segments anew: before a connection is open, and where a peer has taken its window back. What a peer has SACKed and
   then asks for, it does not hold any more (RFC 2018, section 8). */
bool tw_tcp_timed_out(struct tcp_pcb *pcb) {
  struct flight *flight = tw_flight_of(pcb);
  struct tcp_seg *head = pcb->unacked;
  if (flight == NULL || head == NULL || head->end - pcb->lastack > pcb->snd_wnd) {
    return false;
  }
  if ((head->marks & SEGMENT_SACKED) != 0 || (pcb->flags & TF_SACK) == 0) {
    tw_flight_forget_sacks(pcb, flight);
  }
  if (flight->state == SENDER_OPEN) {
    tw_undo_prepare(flight->connection);
    tw_congestion_reduce(flight->connection);
  }
  flight->state = SENDER_LOSS;
  flight->recovery_point = tw_flight_limit(pcb);
  flight->duplicates = 0;
  flight->reorder_due = 0;
  flight->probing = false;
  tw_flight_lose_all(pcb, flight);
  pcb->cwnd = pcb->mss;
  tw_rack_arm(flight->connection);
  return true;
}

/* LWIP_HOOK_TCP_REQUEUED: the segments are unsent now. LWIP_HOOK_TCP_PURGED: they are about to be freed. */
void tw_tcp_flight_over(struct tcp_pcb *pcb) {
  struct flight *flight = tw_flight_of(pcb);
  if (flight != NULL) {
    tw_flight_end(flight->connection);
  }
  for (struct tcp_seg *segment = pcb->unsent; segment != NULL; segment = segment->next) {
    segment->marks &= SEGMENT_AGAIN;
  }
}
