/* The receive fast path. */
#ifndef TCP_RECEIVE_H
#define TCP_RECEIVE_H

#include "link/interface.h"
#include "lwip/tcp.h"

#include <stdbool.h>
#include <stdint.h>

/* True if the frame was the next data segment of a connection, and has been taken in. */
bool tw_tcp_receive_predicted(struct interface *interface, const uint8_t *frame, uint32_t length);
void tw_tcp_receive_forget(const struct tcp_pcb *pcb);

#endif
