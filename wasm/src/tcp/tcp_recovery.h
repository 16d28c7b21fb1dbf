/* Loss recovery. */
#ifndef TCP_RECOVERY_H
#define TCP_RECOVERY_H

#include "tcp/tcp_flight.h"

void tw_recovery_begin(struct flight *flight); /* something was found to be lost */
bool tw_recovery_wants_output(const struct connection *connection); /* something is to be sent again */

/* tcp_undo.c */
void tw_undo_needless(struct flight *flight, uint32_t begin, uint32_t length); /* what was sent again for nothing */
void tw_undo_duplicates(struct flight *flight, const struct tcp_sack_range *blocks, uint32_t count);
bool tw_undo_echo_is_older(const struct tcp_pcb *pcb, uint32_t sent); /* the peer's echo is of before `sent`, in us */
bool tw_undo_time_out(const struct flight *flight); /* the time-out came too early */
void tw_undo(struct flight *flight); /* takes a needless reduction back */

/* tcp_rack.c */
bool tw_rack_detect(struct flight *flight); /* true where segments were found to be lost */
void tw_rack_arm(struct flight *flight);
bool tw_probe_acknowledged(struct flight *flight); /* true if it has repaired a loss: the window is reduced */
bool tw_rack_timers_run(void); /* true if enough was done, and some is left */
uint64_t tw_rack_deadline(void); /* us, or UINT64_MAX */

/* tcp_congestion.c */
void tw_congestion_acknowledged(struct flight *flight, uint32_t acked);
void tw_congestion_reduce(struct flight *flight); /* sets the threshold */

/* tcp_round_trip.c */
void tw_round_trip_measured(struct connection *connection, uint32_t round_trip);

#endif
