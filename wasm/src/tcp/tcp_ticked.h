/* Which connections a tick of TCP visits. */
#ifndef TCP_TICKED_H
#define TCP_TICKED_H

#include "lwip/tcp.h"

#include <stdbool.h>
#include <stdint.h>

enum { TICKED_NEVER = UINT32_MAX };

/* The first of the connections that are awake is tw_tcp_ticked, of lwip_hooks.h; `ticked_next` is another. */

void tw_tcp_ticked_add(struct tcp_pcb *pcb);    /* a new one */
void tw_tcp_ticked_remove(struct tcp_pcb *pcb); /* it has left lwIP's list of active ones */
bool tw_tcp_ticked_touch(struct tcp_pcb *pcb);  /* something may start a timer; true if it was asleep */
void tw_tcp_ticked_sleep(struct tcp_pcb *pcb, uint32_t ticks); /* for so many of tcp_ticks, or TICKED_NEVER */
void tw_tcp_ticked_wake(void);                                 /* those for which the next tick is the one */
uint32_t tw_tcp_ticked_idle(void); /* tcp_ticks until the first of those that sleep wakes, or TICKED_NEVER */

#endif
