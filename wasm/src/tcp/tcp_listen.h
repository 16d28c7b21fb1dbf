/* Listeners: their half-open connections, SYN cookies and backlogs. */
#ifndef TCP_LISTEN_H
#define TCP_LISTEN_H

#include "lwip/tcp.h"

#include <stdbool.h>
#include <stdint.h>

/* Adds an ACCEPTED event for each connection that waits for room in a backlog; true if some are left for the next poll. */
bool tw_tcp_admit(void);
bool tw_tcp_admission_waits(void); /* some peers wait for room in a backlog */
void tw_tcp_listen_close(struct tcp_pcb *listening); /* resets those that wait for room in its backlog, too */
extern uint32_t tw_tcp_cookies, tw_tcp_backlog_drops;
extern uint32_t tw_timestamp_back; /* milliseconds that the timestamp of the segment that leaves is behind the clock */

#endif
