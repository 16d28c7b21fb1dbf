/* IPv4 addresses by DHCP. */
#ifndef LEASE_H
#define LEASE_H

#include "link/interface.h"

void lease_end(struct interface *interface);
void lease_report(struct interface *interface);

#endif
