/* Where packets go next, for the files that send them on: routes.c knows, forward.c and interface.c ask. */
#ifndef ROUTES_H
#define ROUTES_H

#include "link/interface.h"

/* The interface, and the address there to send to: a gateway, or the destination itself. NULL: neither an interface's
   networks nor the table know; lwIP's ip4_route and ip6_route may. */
struct netif *tw_route_find4(const ip4_addr_t *destination, ip4_addr_t *next);
struct netif *tw_route_find6(const ip6_addr_t *destination, ip6_addr_t *next);
void tw_routes_forget(const struct interface *interface); /* it goes */

#endif
