/* RACK and TLP, RFC 8985: a segment is lost if one that was sent later has arrived and the time for reordering has passed;
   where nothing more arrives, a probe asks before the time-out does. */
#include "lwip_hooks.h"
#include "abi/module.h"
#include "abi/work.h"
#include "tcp/tcp_emit.h"
#include "tcp/tcp_output.h"
#include "tcp/tcp_recovery.h"

enum {
  DUPLICATES = 3,
  PROBE_LEAST = 2000,        /* us beyond two round trips, as Linux: a busy host answers late */
  PROBE_ALONE = 200 * 1000,  /* us: a delayed acknowledgement of a single segment */
};

/* Section 6.2, step 4. */
static uint32_t reordering_window(const struct connection *connection) {
  const struct flight *flight = connection->flight;
  if (connection->reordering == 0 && (flight->state != SENDER_OPEN || flight->sacked_segments >= DUPLICATES)) {
    return 0;
  }
  uint32_t window = connection->least_round_trip / 4 * LWIP_MAX(connection->reordering, 1); /* at most 15 s * 64 */
  return LWIP_MIN(window, connection->round_trip / 8);
}

/* Section 6.2, steps 2 and 3: what was sent again may be acknowledged for its first transmission. */
void tw_rack_update(struct connection *connection, uint32_t echo) {
  struct flight *flight = connection->flight;
  const struct acknowledgement *news = &tw_acknowledgement;
  if (news->again && !tw_echo_is_older(echo, news->again_sent) &&
      (uint32_t)tw_now - news->again_sent >= connection->least_round_trip) {
    tw_rack_delivered(flight, news->again_sent, news->again_end);
  }
  if (news->reordered && connection->reordering == 0) {
    connection->reordering = 1;
  }
}

/* Section 6.2, step 5. The segments are in the order in which they were sent, so that the first that is not lost ends it. */
uint32_t tw_rack_detect(struct connection *connection) {
  struct flight *flight = connection->flight;
  uint32_t window = reordering_window(connection), losses = 0;
  flight->reorder_due = 0;
  for (struct tcp_seg *segment; flight->rack_round_trip != 0 && (segment = flight->sent.first) != NULL; losses++) {
    if (!tw_sent_later(flight->rack_sent, flight->rack_end, segment->sent, segment->end)) {
      break;
    }
    uint32_t patience = flight->rack_round_trip + window, age = (uint32_t)tw_now - segment->sent;
    if (age < patience) {
      flight->reorder_due = tw_now + (patience - age);
      break;
    }
    tw_flight_lose(flight, segment);
  }
  return losses;
}

/* Section 7.2. A single segment's acknowledgement may be delayed. */
static uint64_t probe_due(const struct connection *connection) {
  const struct flight *flight = connection->flight;
  const struct tcp_pcb *pcb = connection->pcb;
  if ((pcb->flags & TF_SACK) == 0 || flight->state != SENDER_OPEN || flight->sacked != 0 || flight->probing ||
      flight->sent.first == NULL || connection->round_trip == 0) {
    return 0;
  }
  uint64_t wait = (uint64_t)connection->round_trip / 4 + (flight->sent.first == flight->sent.last ? PROBE_ALONE : PROBE_LEAST);
  return wait < (uint64_t)pcb->rto * TCP_SLOW_INTERVAL * 1000 ? flight->probe_base + wait : 0;
}

void tw_rack_arm(struct connection *connection) {
  struct flight *flight = connection->flight;
  uint64_t due = flight->reorder_due != 0 ? flight->reorder_due : probe_due(connection);
  due = due == 0 ? 0 : LWIP_MAX(due, tw_now + 1);
  /* One that is too early is set anew when it comes: later ones need not be moved with each acknowledgement. */
  if (due == 0 || flight->timer.at == 0 || due < flight->timer.at) {
    tw_deadline_set(&flight->timer, due);
  }
}

/* Section 7.3: new data if there is some, or else the last segment again. */
static void probe(struct connection *connection) {
  struct flight *flight = connection->flight;
  struct tcp_pcb *pcb = connection->pcb;
  struct tcp_seg *last = flight->sent.last;
  uint32_t end = pcb->snd_nxt;
  flight->probe_base = tw_now;
  if (last == NULL) {
    return;
  }
  flight->probe_now = true;
  if (pcb->unsent != NULL) {
    tcp_output(pcb);
  }
  flight->probe_now = false;
  flight->probe_again = pcb->snd_nxt == end;
  if (flight->probe_again && tcp_resend(pcb, last) != ERR_OK) {
    return;
  }
  flight->probing = true;
  flight->probe_end = pcb->snd_nxt;
  pcb->rtime = 0;
}

/* Section 7.4: a probe that was sent again and brought its own acknowledgement has repaired a loss. */
bool tw_probe_acknowledged(struct connection *connection) {
  struct flight *flight = connection->flight;
  struct tcp_pcb *pcb = connection->pcb;
  const struct acknowledgement *news = &tw_acknowledgement;
  if (!flight->probing || TCP_SEQ_LT(pcb->lastack, flight->probe_end)) {
    return false;
  }
  flight->probing = false;
  if (!flight->probe_again || flight->state != SENDER_OPEN || news->duplicated || news->reordered) {
    return false;
  }
  tw_congestion_reduce(connection);
  pcb->cwnd = LWIP_MIN(pcb->cwnd, pcb->ssthresh);
  return true;
}

static void run(struct connection *connection) {
  struct flight *flight = connection->flight;
  tw_connection_touch(connection);
  tw_deadline_set(&flight->timer, 0);
  if (flight->reorder_due != 0 && flight->reorder_due <= tw_now) {
    if (tw_rack_detect(connection) > 0) {
      tw_recovery_begin(connection);
      connection->pcb->cwnd = LWIP_MAX(connection->pcb->cwnd, tw_flight_size(connection->pcb, flight) + connection->pcb->mss);
      tw_connection_send_later(connection);
    }
  } else if (flight->reorder_due == 0) {
    uint64_t due = probe_due(connection);
    if (due != 0 && due <= tw_now) {
      probe(connection);
    }
  }
  tw_rack_arm(connection);
}

bool tw_rack_timers_run(void) {
  struct deadline *first;
  for (uint32_t count = 0; (first = tw_deadline_first()) != NULL && first->at <= tw_now; count++) {
    if (count == WORK_SEGMENTS) {
      return true;
    }
    run(((struct flight *)first)->connection);
  }
  return false;
}

uint64_t tw_rack_deadline(void) {
  const struct deadline *first = tw_deadline_first();
  return first == NULL ? UINT64_MAX : first->at;
}
