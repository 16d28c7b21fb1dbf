/* Congestion control: CUBIC (RFC 9438) with HyStart++ (RFC 9406), or Reno (RFC 5681). Doubles are used only for what IEEE 754
   defines, so that every host computes the same. */
#include "lwip_hooks.h"
#include "abi/module.h"
#include "tcp/tcp_recovery.h"

/* RFC 9438, sections 5 and 4.3; C for bytes of one MSS and microseconds. BETA is 0.7. */
static const double C = 0.4e-18, ALPHA = 3 * (1 - 0.7) / (1 + 0.7);

enum { SAMPLES = 8, CSS_DIVISOR = 4, CSS_ROUNDS = 5, LEAST_RISE = 4000, MOST_RISE = 16000 }; /* RFC 9406, section 4.3; us */

/* By Newton's method, from above: so many steps suffice for every window. */
static double cube_root(double value) {
  double root = value + 1;
  for (int i = 0; i < 128; i++) {
    root = (2 * root + value / (root * root)) / 3;
  }
  return root;
}

void tw_congestion_reduce(struct flight *flight) {
  struct connection *connection = flight->connection;
  struct tcp_pcb *pcb = flight->pcb;
  uint32_t window = pcb->cwnd, least = 2 * (uint32_t)pcb->mss;
  connection->w_max = window < connection->w_max ? window / 20 * 17 : window; /* RFC 9438, section 4.7 */
  window = connection->reno ? window / 2 : window / 10 * 7;
  pcb->ssthresh = LWIP_MAX(window, least);
  pcb->ecn |= (uint8_t)((pcb->ecn & ECN_AGREED) * (TCP_CWR / ECN_AGREED));
  flight->epoch = 0;
  flight->css_least = 0;
}

/* RFC 9406, section 4.2. Returns by how much the window grows. */
static uint32_t start_slowly(struct flight *flight, uint32_t acked) {
  struct tcp_pcb *pcb = flight->pcb;
  uint32_t round_trip = flight->news.round_trip;
  if (TCP_SEQ_GT(pcb->lastack, flight->round_end)) {
    flight->before_least = flight->round_least;
    flight->round_least = INT32_MAX;
    flight->samples = 0;
    flight->round_end = pcb->snd_nxt;
    if (flight->css_least != 0 && ++flight->css_rounds >= CSS_ROUNDS) {
      pcb->ssthresh = pcb->cwnd;
    }
  }
  if (round_trip != 0) {
    flight->round_least = LWIP_MIN(flight->round_least, round_trip);
    flight->samples++;
  }
  if (flight->samples >= SAMPLES) {
    uint32_t before = flight->before_least;
    if (flight->round_least < flight->css_least) {
      flight->css_least = 0;
    } else if (flight->css_least == 0 &&
               flight->round_least >= before + LWIP_MAX(LEAST_RISE, LWIP_MIN(MOST_RISE, before / 8))) {
      flight->css_least = flight->round_least;
      flight->css_rounds = 0;
    }
  }
  return flight->css_least != 0 ? acked / CSS_DIVISOR : acked;
}

/* RFC 9438, sections 4.2 to 4.5, in bytes and microseconds. An epoch begins with the first growth after a reduction. Reno is
   the estimate of section 4.3 alone, with its own factor. */
static uint32_t grown(struct flight *flight, uint32_t acked) {
  struct connection *connection = flight->connection;
  uint32_t window = flight->pcb->cwnd;
  double mss = flight->pcb->mss, share = (double)acked / window, scale = C * mss;
  if (flight->epoch == 0) {
    flight->epoch = tw_now;
    flight->w_est = window;
    connection->w_max = LWIP_MAX(connection->w_max, window);
    flight->k = cube_root((connection->w_max - window) / scale);
  }
  bool as_reno = connection->reno || flight->w_est >= connection->w_max;
  flight->w_est += (as_reno ? 1 : ALPHA) * mss * share;
  double time = (double)(tw_now - flight->epoch + connection->round_trip / 8) - flight->k;
  double more = scale * time * time * time + connection->w_max - window, most = window / 2;
  double next = window + (more < most ? more : most) * share;
  next = connection->reno || next < flight->w_est ? flight->w_est : next;
  return LWIP_MAX((uint32_t)next, window);
}

/* The window grows only while it is the limit (RFC 7661, section 4.4); time without that is none of CUBIC's (section 5.8). */
void tw_congestion_acknowledged(struct flight *flight, uint32_t acked) {
  struct tcp_pcb *pcb = flight->pcb;
  if (flight->state == SENDER_OPEN && TCP_SEQ_GT(pcb->lastack, flight->limited_to)) {
    flight->epoch = 0;
  } else if (pcb->cwnd < pcb->ssthresh) {
    if (pcb->ssthresh == TCPWND_MAX) {
      acked = start_slowly(flight, acked);
    }
    pcb->cwnd = LWIP_MIN(pcb->cwnd + acked, pcb->ssthresh);
  } else {
    pcb->cwnd = grown(flight, acked);
  }
}
