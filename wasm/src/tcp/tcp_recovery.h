/* Loss recovery. */
#ifndef TCP_RECOVERY_H
#define TCP_RECOVERY_H

#include "tcp/tcp_flight.h"

void tw_recovery_begin(struct connection *connection); /* something was found to be lost */
bool tw_recovery_wants_output(const struct connection *connection); /* something is to be sent again */

/* tcp_undo.c */
void tw_undo_prepare(struct connection *connection); /* before a reduction */
void tw_undo_duplicates(struct connection *connection, const struct tcp_sack_range *blocks, uint32_t count);
void tw_undo_echo(struct connection *connection, uint32_t echo);
bool tw_undo(struct connection *connection); /* true where all reductions were needless, and are taken back */
bool tw_echo_is_older(uint32_t echo, uint32_t sent); /* the timestamp is of before `sent`, in us */

/* tcp_rack.c */
uint32_t tw_rack_detect(struct connection *connection); /* how many segments were found to be lost */
void tw_rack_update(struct connection *connection, uint32_t echo);
void tw_rack_arm(struct connection *connection);
bool tw_probe_acknowledged(struct connection *connection); /* true if it has repaired a loss: the window is reduced */
bool tw_rack_timers_run(void); /* true if enough was done, and some is left */
uint64_t tw_rack_deadline(void); /* us, or UINT64_MAX */

/* tcp_congestion.c */
void tw_congestion_acknowledged(struct connection *connection, uint32_t acked, uint32_t round_trip);
void tw_congestion_reduce(struct connection *connection); /* sets the threshold */

/* tcp_round_trip.c */
void tw_round_trip_measured(struct connection *connection, uint32_t round_trip);

#endif
