/* RACK and TLP, RFC 8985: a segment is lost if one that was sent later has arrived and the time for reordering has passed;
   where nothing more arrives, a probe asks before the time-out does. */
#include "lwip_hooks.h"
#include "abi/module.h"
#include "abi/work.h"
#include "tcp/tcp_output.h"
#include "tcp/tcp_recovery.h"

enum {
  DUPLICATES = 3,
  PROBE_LEAST = 2000,        /* us beyond two round trips, as Linux: a busy host answers late */
  PROBE_ALONE = 200 * 1000,  /* us: a delayed acknowledgement of a single segment */
};

/* Section 6.2, step 4. */
static uint32_t reordering_window(const struct flight *flight) {
  const struct connection *connection = flight->connection;
  if (connection->reordering == 0 && (flight->state != SENDER_OPEN || flight->sacked_segments >= DUPLICATES)) {
    return 0;
  }
  return LWIP_MIN(connection->least_round_trip / 4 * LWIP_MAX(connection->reordering, 1), connection->round_trip / 8);
}

/* Section 6.2, step 5. The segments are in the order in which they were sent, so that the first that is not lost ends it. */
bool tw_rack_detect(struct flight *flight) {
  uint32_t patience = flight->rack_round_trip + reordering_window(flight);
  bool losses = false;
  flight->reorder_due = 0;
  for (struct tcp_seg *segment; (segment = flight->sent.sent_next) != &flight->sent; losses = true) {
    uint32_t age = (uint32_t)tw_now - segment->sent;
    if ((int32_t)(flight->rack_order - segment->order) <= 0) {
      break;
    }
    if (age < patience) {
      flight->reorder_due = tw_now + (patience - age);
      break;
    }
    tw_flight_move(flight, segment, &flight->lost);
  }
  return losses;
}

/* Section 7.2. A single segment's acknowledgement may be delayed. */
static uint64_t probe_due(const struct flight *flight) {
  const struct connection *connection = flight->connection;
  if ((flight->pcb->flags & TF_SACK) == 0 || flight->state != SENDER_OPEN || flight->sacked_segments != 0 ||
      flight->probe != PROBE_NONE || flight->in_flight == 0 || connection->round_trip == 0) {
    return 0;
  }
  bool alone = flight->sent.sent_next == flight->sent.sent_before;
  return flight->probe_base + connection->round_trip / 4 + (alone ? PROBE_ALONE : PROBE_LEAST);
}

void tw_rack_arm(struct flight *flight) {
  uint64_t due = flight->reorder_due != 0 ? flight->reorder_due : probe_due(flight);
  /* One that is too early is set anew when it comes: later ones need not be moved with each acknowledgement. */
  if (due == 0 || flight->timer.at == 0 || due < flight->timer.at) {
    tw_deadline_set(&flight->timer, due);
  }
}

/* Section 7.3: new data if there is some, or else the last segment again. */
static void probe(struct flight *flight) {
  struct tcp_pcb *pcb = flight->pcb;
  uint32_t end = pcb->snd_nxt, mss = pcb->mss;
  flight->probe_base = tw_now;
  if (flight->connection->path_mss != 0) {
    return; /* the next flush divides all segments, and sends them again */
  }
  if (pcb->unsent != NULL) {
    pcb->cwnd += mss;
    tcp_output(pcb);
    pcb->cwnd -= mss;
  }
  bool again = pcb->snd_nxt == end;
  if (!again || tcp_resend(pcb, flight->sent.sent_before) == ERR_OK) {
    flight->probe = again ? PROBE_AGAIN : PROBE_NEW;
    flight->probe_end = pcb->snd_nxt;
    pcb->rtime = 0;
  }
}

/* Section 7.4: a probe that was sent again and brought its own acknowledgement has repaired a loss. */
bool tw_probe_acknowledged(struct flight *flight) {
  struct tcp_pcb *pcb = flight->pcb;
  enum probe probe = flight->probe;
  if (probe == PROBE_NONE || TCP_SEQ_LT(pcb->lastack, flight->probe_end)) {
    return false;
  }
  flight->probe = PROBE_NONE;
  if (probe == PROBE_NEW || flight->state != SENDER_OPEN || flight->news.needless) {
    return false;
  }
  tw_congestion_reduce(flight);
  pcb->cwnd = LWIP_MIN(pcb->cwnd, pcb->ssthresh);
  return true;
}

static void run(struct flight *flight) {
  struct connection *connection = flight->connection;
  tw_connection_touch(connection);
  tw_deadline_set(&flight->timer, 0);
  if (tw_rack_detect(flight)) {
    tw_recovery_begin(flight);
    flight->pcb->cwnd = LWIP_MAX(flight->pcb->cwnd, flight->in_flight + flight->pcb->mss);
    tw_connection_send_later(connection);
  } else if (probe_due(flight) - 1 < tw_now) {
    probe(flight);
  }
  tw_rack_arm(flight);
}

bool tw_rack_timers_run(void) {
  struct deadline *first;
  for (uint32_t count = 0; (first = tw_deadline_first()) != NULL && first->at <= tw_now; count++) {
    if (count == WORK_SEGMENTS) {
      return true;
    }
    run((struct flight *)first);
  }
  return false;
}

uint64_t tw_rack_deadline(void) {
  const struct deadline *first = tw_deadline_first();
  /* What the segments of this poll have made due already is looked at by the next one. */
  return first == NULL ? UINT64_MAX : LWIP_MAX(first->at, tw_now + 1);
}
