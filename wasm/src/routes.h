/* Where packets go next, for the files that send them on: routes.c knows, forward.c and interface.c ask. */
#ifndef ROUTES_H
#define ROUTES_H

#include "interface.h"

/* The interface, and the address there to send to: a gateway, or the destination itself. NULL: neither an interface's
   networks nor the table know; lwIP's ip4_route and ip6_route may. */
struct netif *route_find4(const ip4_addr_t *destination, ip4_addr_t *next);
struct netif *route_find6(const ip6_addr_t *destination, ip6_addr_t *next);
void routes_forget(const struct interface *interface); /* it goes */

/* forward.c: takes a packet that is to be passed on; false if it is this host's, or too malformed to tell. */
bool forward_frame(struct interface *interface, const uint8_t *frame, uint32_t length);
uint32_t forward_drops(void);

/* forward_errors.c: tells the sender of a packet what became of it; `word` is what the message has room for. */
enum complaint { NET_UNREACHABLE, HOST_UNREACHABLE, TOO_BIG, EXPIRED };
void forward_complain(enum complaint complaint, const uint8_t *packet, uint32_t length, uint32_t word);

#endif
