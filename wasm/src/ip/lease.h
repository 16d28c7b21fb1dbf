/* IPv4 addresses by DHCP. */
#ifndef LEASE_H
#define LEASE_H

#include "link/interface.h"

/* The server acknowledged: its whole message, for the options in it. */
void tw_lease_acknowledged(const struct netif *netif, const void *message, uint32_t length);
void tw_lease_bound(struct netif *netif);
void tw_lease_report(struct interface *interface);

#endif
