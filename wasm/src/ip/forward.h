/* IP forwarding. */
#ifndef FORWARD_H
#define FORWARD_H

#include "link/interface.h"

#include <stdbool.h>
#include <stdint.h>

/* Processes a packet that is to be forwarded; false if it is for this host, or too malformed to decide that. */
bool tw_forward_frame(struct interface *interface, const uint8_t *frame, uint32_t length);
uint32_t tw_forward_drops(void);

#endif
