/* Events that lwIP counts in many places, of which only the total over the protocols is used. The other counters are those of
   lwIP, in lwip_stats. LWIP_HOOK_STATS_INC in lwipopts.h decides which is which. */
#ifndef STATISTICS_H
#define STATISTICS_H

#include <stdint.h>

struct tw_statistics {
  uint32_t drops; /* packets, without those of UDP and of reassembly */
  uint32_t malformed; /* packets */
  uint32_t checksum_errors;
  uint32_t exchanges; /* messages of protocols whose tables have timers: ARP, neighbour discovery, IGMP, MLD */
};
extern struct tw_statistics tw_statistics;

#endif
