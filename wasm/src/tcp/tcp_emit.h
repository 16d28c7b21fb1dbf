/* The transmit fast path. */
#ifndef TCP_EMIT_H
#define TCP_EMIT_H

#include <stdbool.h>

void tw_tcp_emit_in_flush(bool begins);

#endif
