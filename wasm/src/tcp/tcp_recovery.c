/* Loss recovery: what an acknowledgement changes, how much may be sent (RFC 9937), and what is sent again. Which segments
   are lost is found by RACK (tcp_rack.c) where the peer sends SACK, and by duplicates (RFC 6582) where it does not. */
#include "tcp/tcp_recovery.h"

#include "lwip_hooks.h"
#include "abi/module.h"
#include "tcp/tcp_output.h"

#include <string.h>

enum { DUPLICATES = 3 }; /* RFC 5681, section 3.2 */

bool tw_recovery_wants_output(const struct connection *connection) {
  return connection->flight != NULL && flight_has_losses(connection->flight);
}

/* How much is under way is taken from the congestion window: acknowledgements come in batches, before anything is sent. */
void tw_recovery_begin(struct flight *flight) {
  struct tcp_pcb *pcb = flight->pcb;
  if (flight->state == SENDER_OPEN) {
    flight->undo = UNDO_PREPARED;
    flight->again = flight->prr_delivered = flight->prr_out = 0;
    flight->undo_from = pcb->lastack;
    flight->undo_threshold = pcb->ssthresh;
    flight->prr_window = pcb->cwnd;
    tw_congestion_reduce(flight);
    flight->state = SENDER_RECOVERY;
    flight->recovery_point = pcb->snd_nxt;
  }
}

/* RFC 9937, section 5. */
static void reduce_in_proportion(struct tcp_pcb *pcb, struct flight *flight, bool safe) {
  uint32_t in_flight = flight->in_flight, limit = pcb->ssthresh, mss = pcb->mss, delivered = flight->news.delivered;
  flight->prr_delivered += delivered;
  uint32_t due = flight->prr_delivered;
  if (in_flight > limit) {
    due = (uint32_t)((double)due * limit / flight->prr_window) + 1;
  }
  int32_t send = (int32_t)(due - flight->prr_out);
  if (in_flight <= limit) {
    send = LWIP_MAX(send, (int32_t)delivered) + (int32_t)(safe ? mss : 0);
    send = LWIP_MIN(send, (int32_t)(limit - in_flight));
  }
  pcb->cwnd = in_flight + (uint32_t)LWIP_MAX(send, (int32_t)(flight->prr_out == 0 ? mss : 0));
}

/* RFC 6582, and RFC 3042: a duplicate stands for a segment that has left the network, and the lowest is taken for it. */
static bool detect_without_sack(struct tcp_pcb *pcb, struct flight *flight, bool duplicate) {
  struct tcp_seg *head = pcb->unacked;
  if (head == NULL || flight->state == SENDER_LOSS) {
    return false;
  }
  if (duplicate) {
    struct tcp_seg *next = (flight->highest != NULL ? flight->highest : head)->next;
    if (next != NULL) {
      tw_flight_mark(flight, next);
    }
    if (flight->state != SENDER_OPEN || ++flight->duplicates < DUPLICATES) {
      return false;
    }
  } else {
    flight->duplicates = 0;
    if (flight->state == SENDER_OPEN) {
      return false;
    }
  }
  if ((head->marks & SEGMENT_SACKED) != 0) { /* it was taken for another */
    head->marks &= (uint8_t)~SEGMENT_SACKED;
    flight->sacked_segments--;
    flight->highest = flight->highest == head ? NULL : flight->highest;
  } else if ((head->marks & (SEGMENT_IN_FLIGHT | SEGMENT_AGAIN)) != SEGMENT_IN_FLIGHT) {
    return false;
  }
  tw_flight_move(flight, head, &flight->lost);
  return true;
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
                         uint32_t count) {
  struct flight *flight = tw_flight_of(pcb);
  if (flight == NULL) {
    return;
  }
  struct connection *connection = flight->connection;
  bool sack = (pcb->flags & TF_SACK) != 0, reduces = flight->state == SENDER_RECOVERY;
  if (sack) {
    if (count > 0) {
      tw_undo_duplicates(flight, blocks, count);
    }
    tw_flight_sack(flight, blocks, count);
  }
  if (flight->news.round_trip != 0) {
    tw_round_trip_measured(connection, flight->news.round_trip);
  }
  if (acked > 0) {
    flight->probe_base = tw_now;
  }
  reduces |= tw_probe_acknowledged(flight);
  if (flight->undo == UNDO_SENT_AGAIN && (flight->again == 0 || tw_undo_time_out(flight))) {
    tw_undo(flight);
  } else if (flight->state != SENDER_OPEN && TCP_SEQ_GEQ(pcb->lastack, flight->recovery_point)) {
    pcb->cwnd = flight->state == SENDER_RECOVERY ? pcb->ssthresh : pcb->cwnd;
    flight->state = SENDER_OPEN;
  }
  bool losses = sack ? tw_rack_detect(flight) : detect_without_sack(pcb, flight, duplicate != 0);
  if (losses) {
    tw_recovery_begin(flight);
  }
  if (flight->state == SENDER_RECOVERY) {
    reduce_in_proportion(pcb, flight, acked > 0 && !losses);
  } else if (acked > 0 && !reduces) {
    /* RFC 3465, section 2.3: what a peer without SACK held already is acknowledged together with what was sent again. */
    bool bounded = flight->state == SENDER_LOSS && !sack;
    tw_congestion_acknowledged(flight, LWIP_MIN(flight->news.delivered, bounded ? pcb->mss : UINT32_MAX));
  }
  fill_window(connection);
  memset(&flight->news, 0, sizeof flight->news);
  if (pcb->unacked == NULL && pcb->unsent == NULL) {
    tw_flight_end(connection);
  } else {
    tw_rack_arm(flight);
  }
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
  if (flight == NULL || flight_has_losses(flight)) {
    return 0;
  }
  uint32_t edge = lwip_ntohl(pcb->unsent->tcphdr->seqno) - pcb->lastack;
  edge += pcb->cwnd > flight->in_flight ? pcb->cwnd - flight->in_flight : 0;
  if (pcb->snd_lbb - pcb->lastack > edge && pcb->snd_wnd >= edge) {
    flight->limited_to = pcb->lastack + edge;
  }
  return LWIP_MIN(pcb->snd_wnd, edge);
}

/* LWIP_HOOK_TCP_RESEND: sends what is lost, as far as the windows allow it. The first of all is sent in any case. Nothing leaves
   while the next flush is to divide the segments: they would leave in fragments. */
int8_t tw_tcp_resend_lost(struct tcp_pcb *pcb) {
  struct flight *flight = tw_flight_of(pcb);
  err_t error = flight != NULL && flight->connection->path_mss != 0 ? ERR_INPROGRESS : ERR_OK;
  while (flight != NULL && flight_has_losses(flight) && error == ERR_OK) {
    struct tcp_seg *segment = flight->lost.sent_next;
    if ((flight->in_flight > 0 && flight->in_flight + (segment->end - segment->begin) > pcb->cwnd) ||
        (segment != pcb->unacked && TCP_SEQ_GT(segment->end, pcb->lastack + pcb->snd_wnd))) {
      break;
    }
    error = tcp_resend(pcb, segment);
    if (segment == pcb->unacked) {
      pcb->rtime = 0; /* RFC 6675, section 5, end */
    }
  }
  return error;
}

/* LWIP_HOOK_TCP_TIMED_OUT: all that is not SACKed is lost (RFC 6675, section 5.1). False leaves it to lwIP, which queues all
   segments anew: before a connection is open, and where a peer has taken its window back. What a peer has SACKed and
   then asks for, it does not hold any more (RFC 2018, section 8). */
bool tw_tcp_timed_out(struct tcp_pcb *pcb) {
  struct flight *flight = tw_flight_of(pcb);
  struct tcp_seg *segment = pcb->unacked;
  if (flight == NULL) {
    return false;
  }
  flight->may_be_early = flight->state == SENDER_OPEN || (flight->may_be_early && flight->state == SENDER_LOSS);
  tw_recovery_begin(flight);
  pcb->cwnd = pcb->mss;
  if (segment == NULL || segment->end - pcb->lastack > pcb->snd_wnd) {
    return false;
  }
  if ((segment->marks & SEGMENT_SACKED) != 0 || (pcb->flags & TF_SACK) == 0) {
    flight->sacked_segments = flight->cursors = 0;
    flight->highest = NULL;
  }
  for (; segment != NULL; segment = segment->next) { /* what was lost before, too: the lowest sequence comes first */
    if (flight->highest == NULL || (segment->marks & SEGMENT_SACKED) == 0) {
      segment->marks &= (uint8_t)~SEGMENT_SACKED;
      tw_flight_move(flight, segment, &flight->lost);
    }
  }
  flight->state = SENDER_LOSS;
  flight->recovery_point = pcb->snd_nxt;
  return true;
}

/* LWIP_HOOK_TCP_REQUEUED: the segments are unsent now. LWIP_HOOK_TCP_PURGED: they are about to be freed. */
void tw_tcp_flight_over(struct tcp_pcb *pcb) {
  struct flight *flight = tw_flight_of(pcb);
  if (flight != NULL) {
    tw_flight_end(flight->connection);
  }
  for (struct tcp_seg *segment = pcb->unsent; segment != NULL; segment = segment->next) {
    uint8_t marks = segment->marks;
    tw_segment_new(segment);
    segment->marks = marks & (SEGMENT_SENT | SEGMENT_AGAIN);
  }
}
