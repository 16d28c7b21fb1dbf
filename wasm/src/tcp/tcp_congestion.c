/* Congestion control: CUBIC (RFC 9438) with HyStart++ (RFC 9406), or Reno (RFC 5681). Doubles are used only for what IEEE 754
   defines, so that every host computes the same. */
#include "lwip_hooks.h"
#include "abi/module.h"
#include "tcp/tcp_recovery.h"

static const double BETA = 0.7, C = 0.4, ALPHA = 3 * (1 - 0.7) / (1 + 0.7); /* RFC 9438, sections 4.1, 4.6 and 4.3 */

enum { MOST = 1 << 30 }; /* bytes */

enum { SAMPLES = 8, CSS_DIVISOR = 4, CSS_ROUNDS = 5, LEAST_RISE = 4000, MOST_RISE = 16000 }; /* RFC 9406, section 4.3; us */

/* By Newton's method, from above: 64 steps suffice for every window. */
static double cube_root(double value) {
  double root = value + 1;
  for (int i = 0; i < 64; i++) {
    root = (2 * root + value / (root * root)) / 3;
  }
  return root;
}

void tw_congestion_reduce(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  double window = pcb->cwnd;
  connection->w_max = (uint32_t)(int32_t)(window < connection->w_max ? window * (1 + BETA) / 2 : window); /* section 4.7 */
  uint32_t kept = (uint32_t)(int32_t)(window * (connection->reno ? 0.5 : BETA));
  pcb->ssthresh = LWIP_MAX(kept, 2 * (uint32_t)pcb->mss);
  connection->flight->epoch = 0;
  connection->flight->css = false;
}

/* RFC 9406, section 4.2. Returns by how much the window grows. */
static uint32_t start_slowly(struct connection *connection, uint32_t acked, uint32_t round_trip) {
  struct tcp_pcb *pcb = connection->pcb;
  struct flight *flight = connection->flight;
  if (pcb->ssthresh != TCPWND_MAX) {
    return acked;
  }
  if (TCP_SEQ_GT(pcb->lastack, flight->round_end)) {
    flight->before_least = flight->round_least;
    flight->round_least = UINT32_MAX;
    flight->samples = 0;
    flight->round_end = pcb->snd_nxt;
    if (flight->css && ++flight->css_rounds >= CSS_ROUNDS) {
      pcb->ssthresh = pcb->cwnd;
    }
  }
  if (round_trip != 0) {
    flight->round_least = LWIP_MIN(flight->round_least, round_trip);
    flight->samples += flight->samples < SAMPLES;
  }
  if (flight->samples >= SAMPLES && flight->before_least != UINT32_MAX) {
    uint32_t rise = LWIP_MAX(LEAST_RISE, LWIP_MIN(MOST_RISE, flight->before_least / 8));
    if (flight->css) {
      flight->css = flight->round_least >= flight->css_least;
    } else if (flight->round_least >= flight->before_least + rise) {
      flight->css = true;
      flight->css_least = flight->round_least;
      flight->css_rounds = 0;
    }
  }
  return flight->css ? acked / CSS_DIVISOR : acked;
}

/* RFC 9438, sections 4.2 to 4.5, in bytes and seconds. An epoch begins with the first growth after a reduction. */
static uint32_t cubic(struct connection *connection, uint32_t acked) {
  struct tcp_pcb *pcb = connection->pcb;
  struct flight *flight = connection->flight;
  double mss = pcb->mss, window = pcb->cwnd, share = acked / window;
  if (flight->epoch == 0) {
    flight->epoch = tw_now;
    flight->w_est = window;
    connection->w_max = LWIP_MAX(connection->w_max, pcb->cwnd);
    flight->w_before = connection->w_max;
    flight->k = cube_root((flight->w_before - window) / (C * mss));
  }
  double time = (double)(tw_now - flight->epoch) / 1e6 + connection->round_trip / 8e6 - flight->k;
  double more = C * mss * time * time * time + flight->w_before - window;
  more = more > window / 2 ? window / 2 : more;
  flight->w_est += (flight->w_est < flight->w_before ? ALPHA : 1) * mss * share;
  double next = window + more * share;
  next = next < flight->w_est ? flight->w_est : next;
  return next > window ? (uint32_t)(int32_t)(next - window) : 0;
}

static uint32_t reno(struct tcp_pcb *pcb, uint32_t acked) {
  pcb->bytes_acked += acked;
  if (pcb->bytes_acked < pcb->cwnd) {
    return 0;
  }
  pcb->bytes_acked -= pcb->cwnd;
  return pcb->mss;
}

/* The window grows only while it is the limit (RFC 7661, section 4.4); time without that is none of CUBIC's (section 5.8). */
void tw_congestion_acknowledged(struct connection *connection, uint32_t acked, uint32_t round_trip) {
  struct tcp_pcb *pcb = connection->pcb;
  struct flight *flight = connection->flight;
  if (!flight->limited && flight->state == SENDER_OPEN) {
    flight->epoch = 0;
    return;
  }
  if (pcb->cwnd < pcb->ssthresh) {
    acked = start_slowly(connection, acked, round_trip);
    acked = LWIP_MIN(acked, pcb->ssthresh > pcb->cwnd ? LWIP_MAX(pcb->ssthresh - pcb->cwnd, pcb->mss) : 0);
  } else {
    acked = connection->reno ? reno(pcb, acked) : cubic(connection, acked);
  }
  pcb->cwnd = LWIP_MIN(pcb->cwnd + acked, MOST);
}
