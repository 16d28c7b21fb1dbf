/* The scoreboard: segments under way in the order in which they were sent, those that are to be sent again, and those that
   the peer has SACKed. Each changes its list in constant time. A SACK walks over what it says anew, from where the
   previous one has ended. */
#include "tcp/tcp_recovery.h"

#include "lwip_hooks.h"
#include "abi/module.h"
#include "port/heap.h"

enum { INITIAL_SEGMENTS = 10 }; /* RFC 6928 */

struct flight *tw_flight_of(const struct tcp_pcb *pcb) {
  const struct connection *connection = tw_connection_of(pcb);
  return connection == NULL ? NULL : connection->flight;
}

static uint32_t length_of(const struct tcp_seg *segment) { return segment->end - segment->begin; }

void tw_flight_move(struct flight *flight, struct tcp_seg *segment, struct tcp_seg *list) {
  segment->sent_before->sent_next = segment->sent_next;
  segment->sent_next->sent_before = segment->sent_before;
  if ((segment->marks & SEGMENT_IN_FLIGHT) != 0) {
    flight->in_flight -= length_of(segment);
    segment->marks &= (uint8_t)~SEGMENT_IN_FLIGHT;
  }
  if (list == &flight->sent) {
    flight->in_flight += length_of(segment);
    segment->marks |= SEGMENT_IN_FLIGHT;
  }
  struct tcp_seg *last = list == segment ? segment : list->sent_before;
  segment->sent_next = list;
  segment->sent_before = last;
  last->sent_next = segment;
  list->sent_before = segment;
}

/* LWIP_HOOK_TCP_SEGMENT_NEW */
void tw_segment_new(struct tcp_seg *segment) {
  segment->sent_next = segment->sent_before = segment;
  segment->marks = 0;
}

/* For each time-out without data under way, the congestion window is halved, down to the initial one: what the path can take
   has become unknown (RFC 5681, section 4.1; as in Linux, the threshold keeps three quarters of it, RFC 7661, section 4.4.3). */
static void restart(const struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  uint32_t idle = tcp_ticks - connection->idle_since, rto = (uint32_t)pcb->rto, initial = INITIAL_SEGMENTS * (uint32_t)pcb->mss;
  for (; idle > rto && pcb->cwnd > initial; idle -= rto) {
    pcb->ssthresh = LWIP_MAX(pcb->ssthresh, pcb->cwnd / 4 * 3);
    pcb->cwnd = LWIP_MAX(pcb->cwnd / 2, initial);
  }
}

struct flight *tw_flight_begin(struct connection *connection) {
  struct flight *flight = tw_heap_allocate_zeroed(1, sizeof *flight);
  if (flight != NULL) {
    restart(connection);
    flight->connection = connection;
    flight->pcb = connection->pcb;
    flight->limited_to = flight->round_end = connection->pcb->lastack;
    flight->round_least = INT32_MAX;
    tw_segment_new(&flight->sent);
    tw_segment_new(&flight->lost);
    connection->flight = flight;
  }
  return flight;
}

void tw_flight_end(struct connection *connection) {
  if (connection->flight != NULL) {
    tw_deadline_set(&connection->flight->timer, 0);
    tw_heap_free(connection->flight);
    connection->flight = NULL;
    connection->idle_since = tcp_ticks;
  }
}

/* LWIP_HOOK_TCP_SEGMENT_SENT */
void tw_segment_sent(struct tcp_pcb *pcb, struct tcp_seg *segment) {
  struct flight *flight = tw_flight_of(pcb);
  segment->begin = lwip_ntohl(segment->tcphdr->seqno);
  segment->end = segment->begin + TCP_TCPLEN(segment);
  segment->sent = (uint32_t)tw_now;
  bool again = (segment->marks & SEGMENT_SENT) != 0;
  if (again) {
    segment->marks |= SEGMENT_AGAIN;
  } else {
    segment->marks |= SEGMENT_SENT;
    pcb->ecn &= (uint8_t)~TCP_CWR;
  }
  if (flight == NULL) { /* a SYN */
    return;
  }
  segment->order = ++flight->sends;
  tw_flight_move(flight, segment, &flight->sent);
  flight->prr_out += length_of(segment);
  flight->probe_base = tw_now;
  if (again) {
    flight->again += length_of(segment);
    flight->undo = flight->undo != UNDO_NOTHING ? UNDO_SENT_AGAIN : UNDO_NOTHING;
    flight->connection->resent++;
  }
  tw_rack_arm(flight);
}

/* RFC 8985, section 6.2, steps 2 and 3: what was sent again may be acknowledged for its first transmission. */
static void deliver(struct flight *flight, struct tcp_seg *segment) {
  struct connection *connection = flight->connection;
  uint32_t round_trip = LWIP_MAX((uint32_t)tw_now - segment->sent, 1);
  tw_flight_move(flight, segment, segment);
  flight->news.delivered += length_of(segment);
  if ((segment->marks & SEGMENT_AGAIN) == 0) {
    flight->news.original |= flight->state == SENDER_LOSS && TCP_SEQ_LT(segment->begin, flight->recovery_point);
    if (flight->news.round_trip - 1 >= round_trip) {
      flight->news.round_trip = round_trip;
    }
    if (flight->highest != NULL && TCP_SEQ_LT(segment->begin, flight->highest->begin) && connection->reordering == 0) {
      connection->reordering = 1;
    }
  } else if (round_trip < connection->least_round_trip) {
    return;
  }
  if ((int32_t)(segment->order - flight->rack_order) > 0) {
    flight->rack_order = segment->order;
    flight->rack_round_trip = round_trip;
  }
}

/* LWIP_HOOK_TCP_SEGMENT_ACKED: lwIP frees it next. */
void tw_segment_acked(struct tcp_pcb *pcb, struct tcp_seg *segment) {
  struct connection *connection = tw_connection_of(pcb);
  struct flight *flight = connection == NULL ? NULL : connection->flight;
  if (flight == NULL) {
    if (connection != NULL && (segment->marks & SEGMENT_AGAIN) == 0) { /* a SYN */
      tw_round_trip_measured(connection, (uint32_t)tw_now - segment->sent);
    }
  } else if ((segment->marks & SEGMENT_SENT) == 0) {
    return; /* the peer has taken it from a probe of its window */
  } else if ((segment->marks & SEGMENT_SACKED) != 0) {
    flight->sacked_segments--;
    if (flight->highest == segment) {
      flight->highest = NULL;
    }
  } else {
    if ((segment->marks & SEGMENT_AGAIN) != 0 && tw_undo_echo_is_older(pcb, segment->sent)) {
      tw_undo_needless(flight, segment->begin, length_of(segment));
      segment->sent = (uint32_t)tw_now; /* what was delivered is an earlier transmission than the latest */
    }
    deliver(flight, segment);
  }
}

void tw_flight_mark(struct flight *flight, struct tcp_seg *segment) {
  deliver(flight, segment);
  segment->marks |= SEGMENT_SACKED;
  flight->sacked_segments++;
  if (flight->highest == NULL || TCP_SEQ_GT(segment->begin, flight->highest->begin)) {
    flight->highest = segment;
  }
}

/* Marks the segments that lie wholly within a block. One that begins below what is under way is none of a SACK, or a lie. A block is
   looked for from where an earlier one with the same left edge, or one before it, has ended. The last comes first, since a
   new block is the first of all and moves the others on. */
void tw_flight_sack(struct flight *flight, const struct tcp_sack_range *blocks, uint32_t count) {
  const struct tcp_pcb *pcb = flight->pcb;
  uint32_t steps = 0, known = flight->cursors;
  flight->cursors = count = pcb->unacked == NULL ? 0 : count;
  while (count-- > 0) {
    uint32_t left = blocks[count].left, right = blocks[count].right, begin = pcb->lastack;
    struct tcp_seg *segment = pcb->unacked;
    for (uint32_t i = 0; i < known; i++) {
      const struct sack_cursor *cursor = &flight->cursor[i];
      if (TCP_SEQ_LEQ(cursor->left, left) && TCP_SEQ_GEQ(cursor->begin, begin)) {
        begin = cursor->begin;
        segment = cursor->segment;
      }
    }
    if (TCP_SEQ_LEQ(left, pcb->lastack)) {
      right = left;
    }
    struct tcp_seg *last = segment;
    for (; segment != NULL && TCP_SEQ_LT(segment->begin, right); segment = segment->next, steps++) {
      last = segment;
      if ((segment->marks & SEGMENT_SACKED) == 0 && TCP_SEQ_GEQ(segment->begin, left) && TCP_SEQ_LEQ(segment->end, right)) {
        tw_flight_mark(flight, segment);
      }
    }
    flight->cursor[count] = (struct sack_cursor){.left = left, .begin = last->begin, .segment = last};
  }
  tw_receive_work(steps / 8);
}
