/* When segments leave, and when the host is notified of room and of ends. */
#ifndef TCP_OUTPUT_H
#define TCP_OUTPUT_H

#include "tcp/connection.h"

#include <stdbool.h>
#include <stdint.h>

bool tw_tcp_flush(void); /* sends what is ready; true if it has worked enough and some is left */
bool tw_tcp_has_pending(void);  /* a poll is needed for some connection */
bool tw_tcp_others_pending(const struct connection *connection); /* a poll is needed for another */
bool tw_tcp_report(void);       /* adds the events of connections that ended or have room again; true if some are left */
bool tw_tcp_reports_wait(void); /* some connection waits for room */

void tw_connection_send_later(struct connection *connection);
void tw_connection_report(struct connection *connection, uint32_t flag);
uint32_t tw_connection_send_room(const struct connection *connection);

extern uint32_t tw_tcp_retransmissions;

#endif
