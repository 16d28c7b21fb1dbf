/* IPv6 addresses that interfaces configure themselves. */
#ifndef AUTOCONFIGURATION_H
#define AUTOCONFIGURATION_H

void tw_autoconfiguration_report(void); /* adds the events of addresses, solicitations and leases */

#endif
