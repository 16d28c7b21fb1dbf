/* Bridges, for the interfaces that are one or a port of one. */
#ifndef BRIDGE_H
#define BRIDGE_H

#include "link/interface.h"

#include <stdbool.h>
#include <stdint.h>

bool tw_bridge_start(struct interface *bridge); /* false: no memory */
void tw_bridge_forget(struct interface *interface); /* before the removal of a bridge, or of a tap that may be a port of one */
err_t tw_bridge_transmit(struct netif *netif, struct pbuf *packet);
bool tw_bridge_budget_spent(const struct interface *port); /* the frames that are left have to wait for the next poll */
bool tw_bridge_receive(struct interface *port, uint8_t *frame, uint32_t length); /* true: it is for the bridge itself, too */

#endif
