/* The rate limit of errors. Each kind has a bucket of its own. */
#ifndef ICMP_LIMIT_H
#define ICMP_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

enum icmp_kind { ICMP_ROUTER, ICMP_TOO_BIG, ICMP_OWN, ICMP_KINDS };
bool tw_icmp_may_send(enum icmp_kind kind);
extern uint32_t tw_icmp_limited; /* errors that the limit suppressed */

#endif
