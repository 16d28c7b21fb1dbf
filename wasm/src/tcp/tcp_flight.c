/* The scoreboard: segments under way in the order in which they were sent, those that are to be sent again, and those that
   the peer has SACKed. Each changes its list in constant time; only a SACK that says something new walks, from the
   highest segment that was SACKed before. */
#include "tcp/tcp_recovery.h"

#include "lwip_hooks.h"
#include "abi/module.h"
#include "port/heap.h"

#include <string.h>

struct acknowledgement tw_acknowledgement;

struct flight *tw_flight_of(const struct tcp_pcb *pcb) {
  const struct connection *connection = tw_connection_of(pcb);
  return connection == NULL ? NULL : connection->flight;
}

uint32_t tw_flight_limit(const struct tcp_pcb *pcb) {
  uint32_t length = pcb->snd_nxt - pcb->lastack;
  if (pcb->unsent != NULL) {
    length = LWIP_MIN(length, lwip_ntohl(pcb->unsent->tcphdr->seqno) - pcb->lastack);
  }
  return pcb->lastack + length;
}

uint32_t tw_flight_size(const struct tcp_pcb *pcb, const struct flight *flight) {
  uint32_t sent = tw_flight_limit(pcb) - pcb->lastack, arrived = flight->sacked + flight->lost_bytes;
  return sent > arrived ? sent - arrived : 0;
}

struct flight *tw_flight_begin(struct connection *connection) {
  struct flight *flight = tw_heap_allocate_zeroed(1, sizeof *flight);
  if (flight != NULL) {
    flight->connection = connection;
    flight->highest = flight->round_end = connection->pcb->lastack;
    flight->round_least = flight->before_least = UINT32_MAX;
    connection->flight = flight;
  }
  return flight;
}

void tw_flight_end(struct connection *connection) {
  if (connection->flight != NULL) {
    tw_deadline_set(&connection->flight->timer, 0);
    tw_heap_free(connection->flight);
    connection->flight = NULL;
  }
}

static uint32_t length_of(const struct tcp_seg *segment) { return segment->end - segment->begin; }

static void append(struct segment_list *list, struct tcp_seg *segment) {
  segment->sent_next = NULL;
  segment->sent_before = list->last;
  *(list->last != NULL ? &list->last->sent_next : &list->first) = segment;
  list->last = segment;
  segment->marks |= SEGMENT_LISTED;
}

static void unlist(struct flight *flight, struct tcp_seg *segment) {
  if ((segment->marks & SEGMENT_LISTED) == 0) {
    return;
  }
  struct segment_list *list = &flight->sent;
  if ((segment->marks & SEGMENT_LOST) != 0) {
    list = &flight->lost;
    flight->lost_bytes -= length_of(segment);
  }
  *(segment->sent_before != NULL ? &segment->sent_before->sent_next : &list->first) = segment->sent_next;
  *(segment->sent_next != NULL ? &segment->sent_next->sent_before : &list->last) = segment->sent_before;
  segment->marks &= (uint8_t)~(SEGMENT_LISTED | SEGMENT_LOST);
}

void tw_flight_lose(struct flight *flight, struct tcp_seg *segment) {
  if ((segment->marks & SEGMENT_LOST) == 0) {
    unlist(flight, segment);
    append(&flight->lost, segment);
    segment->marks |= SEGMENT_LOST;
    flight->lost_bytes += length_of(segment);
  }
}

void tw_flight_lose_all(struct tcp_pcb *pcb, struct flight *flight) {
  for (struct tcp_seg *segment = pcb->unacked; segment != NULL; segment = segment->next) {
    if ((segment->marks & SEGMENT_SACKED) == 0) {
      unlist(flight, segment); /* what was lost before, too: the lowest sequence comes first */
      tw_flight_lose(flight, segment);
    }
  }
}

void tw_flight_restore(struct flight *flight) {
  for (struct tcp_seg *segment; (segment = flight->lost.first) != NULL;) {
    unlist(flight, segment);
    append(&flight->sent, segment);
  }
}

void tw_flight_forget_sacks(struct tcp_pcb *pcb, struct flight *flight) {
  for (struct tcp_seg *segment = pcb->unacked; segment != NULL; segment = segment->next) {
    segment->marks &= (uint8_t)~SEGMENT_SACKED;
  }
  flight->sacked = flight->sacked_segments = 0;
  flight->highest_segment = NULL;
  memset(flight->known, 0, sizeof flight->known);
}

/* LWIP_HOOK_TCP_SEGMENT_NEW */
void tw_segment_new(struct tcp_seg *segment) { segment->marks = 0; }

/* LWIP_HOOK_TCP_SEGMENT_SENT: snd_nxt does not include it yet if it is new. */
void tw_segment_sent(struct tcp_pcb *pcb, struct tcp_seg *segment) {
  struct flight *flight = tw_flight_of(pcb);
  uint32_t length = TCP_TCPLEN(segment);
  segment->begin = lwip_ntohl(segment->tcphdr->seqno);
  segment->end = segment->begin + length;
  segment->sent = (uint32_t)tw_now;
  bool again = TCP_SEQ_LT(segment->begin, pcb->snd_nxt);
  if (again) {
    segment->marks |= SEGMENT_AGAIN;
  }
  if (flight == NULL || length == 0) {
    return;
  }
  unlist(flight, segment);
  append(&flight->sent, segment);
  flight->prr_out += length;
  flight->probe_base = tw_now;
  if (again) {
    flight->again += length;
    flight->sent_again = true;
  }
  if (segment->sent_before == NULL || segment->sent_before == flight->sent.first) {
    tw_rack_arm(flight->connection); /* the wait for a single segment's acknowledgement is another */
  }
}

bool tw_sent_later(uint32_t sent, uint32_t end, uint32_t than_sent, uint32_t than_end) {
  return (int32_t)(sent - than_sent) > 0 || (sent == than_sent && TCP_SEQ_GT(end, than_end));
}

/* RFC 8985, section 6.2, step 2. */
void tw_rack_delivered(struct flight *flight, uint32_t sent, uint32_t end) {
  if (flight->rack_round_trip == 0 || tw_sent_later(sent, end, flight->rack_sent, flight->rack_end)) {
    flight->rack_sent = sent;
    flight->rack_end = end;
    flight->rack_round_trip = LWIP_MAX((uint32_t)tw_now - sent, 1);
  }
}

static void delivered(struct flight *flight, const struct tcp_seg *segment) {
  struct acknowledgement *news = &tw_acknowledgement;
  uint32_t end = segment->end;
  news->delivered += length_of(segment);
  if ((segment->marks & SEGMENT_AGAIN) != 0) {
    if (!news->again || tw_sent_later(segment->sent, end, news->again_sent, news->again_end)) {
      news->again_sent = segment->sent;
      news->again_end = end;
    }
    news->again = true;
  } else {
    if (!news->timed || (int32_t)(segment->sent - news->sent) > 0) {
      news->sent = segment->sent;
    }
    news->timed = true;
    news->reordered |= TCP_SEQ_LT(end, flight->highest); /* RFC 8985, section 6.2, step 3 */
    tw_rack_delivered(flight, segment->sent, end);
  }
  if (TCP_SEQ_GT(end, flight->highest)) {
    flight->highest = end;
  }
}

/* LWIP_HOOK_TCP_SEGMENT_ACKED: lwIP frees it next. */
void tw_segment_acked(struct tcp_pcb *pcb, struct tcp_seg *segment) {
  struct acknowledgement *news = &tw_acknowledgement;
  struct flight *flight = tw_flight_of(pcb);
  if (flight == NULL) { /* a SYN */
    news->timed = (segment->marks & SEGMENT_AGAIN) == 0;
    news->sent = segment->sent;
    return;
  }
  uint32_t length = length_of(segment);
  if ((segment->marks & SEGMENT_SACKED) != 0) {
    flight->sacked -= length;
    flight->sacked_segments--;
    if (flight->highest_segment == segment) {
      flight->highest_segment = NULL;
    }
    return;
  }
  unlist(flight, segment);
  delivered(flight, segment);
  if ((segment->marks & SEGMENT_AGAIN) != 0) {
    if (news->again_bytes == 0 || (int32_t)(segment->sent - news->again_first) < 0) {
      news->again_first = segment->sent;
    }
    news->again_bytes += length;
  }
}

/* Marks the segments that lie wholly within a block; returns how many it looked at. */
static uint32_t mark(struct tcp_pcb *pcb, struct flight *flight, uint32_t left, uint32_t right) {
  uint32_t steps = 0;
  struct tcp_seg *segment = flight->highest_segment;
  if (segment == NULL || TCP_SEQ_LT(left, segment->begin)) {
    segment = pcb->unacked;
  }
  for (; segment != NULL && TCP_SEQ_LT(segment->begin, right); segment = segment->next, steps++) {
    if ((segment->marks & SEGMENT_SACKED) != 0 || TCP_SEQ_LT(segment->begin, left) || TCP_SEQ_GT(segment->end, right)) {
      continue;
    }
    unlist(flight, segment);
    if (flight->highest_segment == NULL || TCP_SEQ_GT(segment->begin, flight->highest_segment->begin)) {
      flight->highest_segment = segment;
    }
    delivered(flight, segment);
    segment->marks |= SEGMENT_SACKED;
    flight->sacked += length_of(segment);
    flight->sacked_segments++;
  }
  return steps;
}

/* A block that was in the SACK before says nothing new; one outside of what is under way is none of a SACK, or a lie. */
void tw_flight_sack(struct tcp_pcb *pcb, struct flight *flight, const struct tcp_sack_range *blocks, uint32_t count) {
  uint32_t steps = 0, end = tw_flight_limit(pcb);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t left = blocks[i].left, right = blocks[i].right;
    bool known = !TCP_SEQ_LT(left, right) || TCP_SEQ_LEQ(left, pcb->lastack) || TCP_SEQ_GT(right, end);
    for (int j = 0; j < 4 && !known; j++) {
      known = flight->known[j].left == left && flight->known[j].right == right;
    }
    steps += known ? 0 : mark(pcb, flight, left, right);
  }
  memcpy(flight->known, blocks, count * sizeof *blocks);
  tw_receive_work(steps / 8);
}
