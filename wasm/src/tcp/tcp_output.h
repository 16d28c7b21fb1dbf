/* When segments leave, and when the host is notified of room and of ends. */
#ifndef TCP_OUTPUT_H
#define TCP_OUTPUT_H

#include "tcp/connection.h"

#include <stdbool.h>
#include <stdint.h>

bool tcp_flush(void); /* sends what is ready; true if it has worked enough and some is left */
bool tcp_has_pending(void);  /* a poll is needed for some connection */
bool tcp_others_pending(const struct connection *connection); /* a poll is needed for another */
bool tcp_report(void);       /* adds the events of connections that ended or have room again; true if some are left */
bool tcp_reports_wait(void); /* some connection waits for room */

void connection_send_later(struct connection *connection);
void connection_report(struct connection *connection, uint32_t flag);
uint32_t connection_send_room(const struct connection *connection);

extern uint32_t tcp_retransmissions;

#endif
