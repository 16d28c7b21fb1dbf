/* IP forwarding. */
#ifndef FORWARD_H
#define FORWARD_H

#include "link/interface.h"

#include <stdbool.h>
#include <stdint.h>

/* Takes a packet that is to be passed on; false if it is this host's, or too malformed for a decision. */
bool tw_forward_frame(struct interface *interface, const uint8_t *frame, uint32_t length);
uint32_t tw_forward_drops(void);

#endif
