/* Next hops, for the files that send packets: routes.c has the table, forward.c and interface.c use it. */
#ifndef ROUTES_H
#define ROUTES_H

#include "link/interface.h"

/* The interface, and the next hop: a gateway, or the destination itself. NULL: there is no route, neither to an interface's
   network nor in the table; lwIP's ip4_route and ip6_route may have one. */
struct netif *tw_route_find4(const ip4_addr_t *destination, ip4_addr_t *next);
struct netif *tw_route_find6(const ip6_addr_t *destination, ip6_addr_t *next);
void tw_routes_forget(const struct interface *interface); /* before an interface is removed */

#endif
