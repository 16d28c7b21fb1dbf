/* The counters whose calls need no address: a call without an argument is a third as long as one with it. */
#include "port/statistics.h"

#include "lwip_hooks.h"

struct tw_statistics tw_statistics;

#define CALLED __attribute__((noinline))

CALLED void tw_statistic_count(uint32_t *counter) { ++*counter; }
CALLED void tw_statistic_drop(void) { ++tw_statistics.drops; }
CALLED void tw_statistic_malformed(void) { ++tw_statistics.malformed; }
CALLED void tw_statistic_checksum_error(void) { ++tw_statistics.checksum_errors; }
CALLED void tw_statistic_exchange(void) { ++tw_statistics.exchanges; }
