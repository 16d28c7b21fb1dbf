/* Segments that have arrived out of order. */
#ifndef TCP_EARLY_H
#define TCP_EARLY_H

#include "tcp/connection.h"

#include <stdbool.h>
#include <stdint.h>

/* Hands the host what is in sequence, as far as the event buffer has room; the rest waits for CONNECTION_EARLY in the next
   report. Returns true where the peer's FIN is next, and received with it. */
bool tw_early_deliver(struct connection *connection);

/* As its bound counts them. */
uint32_t tw_early_bytes(const struct tcp_pcb *pcb);

#endif
