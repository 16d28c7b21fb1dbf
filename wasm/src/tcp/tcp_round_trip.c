/* Round trips by the microsecond, RFC 6298. */
#include "lwip_hooks.h"
#include "tcp/tcp_recovery.h"

enum { LONGEST = 60 * 1000000, LEAST_VARIATION = LWIP_TCP_RTO_MIN * 1000 }; /* us */

/* The averages are kept in eighths and quarters, so that nothing is lost by rounding. */
static void measure(struct connection *connection, uint32_t measured) {
  if (connection->round_trip == 0) {
    connection->round_trip = measured * 8;
    connection->variation = measured * 2;
    connection->least_round_trip = measured;
    return;
  }
  uint32_t smoothed = connection->round_trip / 8;
  uint32_t error = measured > smoothed ? measured - smoothed : smoothed - measured;
  connection->variation += error - connection->variation / 4;
  connection->round_trip += measured - smoothed;
  connection->least_round_trip = LWIP_MIN(connection->least_round_trip, measured);
}

void tw_round_trip_measured(struct connection *connection, uint32_t round_trip) {
  struct tcp_pcb *pcb = connection->pcb;
  measure(connection, LWIP_MIN(LWIP_MAX(round_trip, 1), LONGEST));
  if (pcb->nrtx == 0) { /* section 5.5: what has backed off stays so until new data is acknowledged */
    pcb->rto = tw_tcp_retransmission_timeout(pcb);
  }
}

/* LWIP_HOOK_TCP_RTO: in ticks, one more because the first may be short. Linux, too, adds the least time-out to the round
   trip. */
int16_t tw_tcp_retransmission_timeout(const struct tcp_pcb *pcb) {
  const struct connection *connection = tw_connection_of(pcb);
  uint32_t time = LWIP_TCP_RTO_TIME * 1000;
  if (connection != NULL && connection->round_trip != 0) {
    time = connection->round_trip / 8 + LWIP_MAX(connection->variation, LEAST_VARIATION);
  }
  uint32_t tick = TCP_SLOW_INTERVAL * 1000;
  return (int16_t)LWIP_MIN((time + tick - 1) / tick + 1, TCP_RTO_MAX_TICKS);
}
