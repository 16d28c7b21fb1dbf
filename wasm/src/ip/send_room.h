/* Shared by UDP and ping: the route of a datagram, and room for all of it. */
#ifndef SEND_ROOM_H
#define SEND_ROOM_H

#include "lwip/err.h"
#include "lwip/ip_addr.h"
#include "lwip/netif.h"

#include <stdbool.h>
#include <stdint.h>

/* A socket or session that waits for room in a transmit buffer, or in the queue of an unresolved neighbour; part of its
   structure. */
struct room_waiter {
  struct room_waiter *next;
  int32_t handle;    /* the handle of its WRITABLE event; 0 while it does not wait */
  int32_t interface; /* a handle: the interface may have been removed */
  bool neighbour;
};

/* `from` is the source address, or NULL for the one that the route suggests. Both results may be set on failure, too. */
int32_t tw_send_route(const ip_addr_t *own, const ip_addr_t *destination, const ip_addr_t **source, struct netif **by);

/* Is there room for a packet with so many bytes behind the IP header, in fragments if need be? */
bool tw_send_has_room(const struct netif *netif, const ip_addr_t *destination, uint32_t length);

int32_t tw_room_wait(struct room_waiter *waiter, int32_t handle, const struct netif *netif); /* ABI_ERROR_NO_ROOM */
/* Maps lwIP's result for a datagram to an error of the ABI; a sender that was refused for want of room waits. */
int32_t tw_room_result(struct room_waiter *waiter, int32_t handle, const struct netif *netif, err_t error);
void tw_room_forget(struct room_waiter *waiter);
void tw_room_report(void); /* a WRITABLE event for each socket and session whose interface has room again */

#endif
