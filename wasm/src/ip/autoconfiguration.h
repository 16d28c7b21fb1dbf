/* IPv6 addresses that interfaces find by themselves. */
#ifndef AUTOCONFIGURATION_H
#define AUTOCONFIGURATION_H

void tw_autoconfiguration_report(void); /* adds the events of addresses, solicitations and leases */

#endif
