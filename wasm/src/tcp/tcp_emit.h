/* The transmit fast path. */
#ifndef TCP_EMIT_H
#define TCP_EMIT_H

#include <stdbool.h>

void tcp_emit_in_flush(bool begins);

#endif
