/* IPv4 addresses by DHCP. */
#ifndef LEASE_H
#define LEASE_H

#include "link/interface.h"

void tw_lease_end(struct interface *interface);
void tw_lease_report(struct interface *interface);

#endif
