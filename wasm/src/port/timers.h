/* lwIP's timers. */
#ifndef TIMERS_H
#define TIMERS_H

#include <stdbool.h>
#include <stdint.h>

void tw_timers_start(void);
bool tw_timers_run(void); /* true if a tick has paused: the rest is for the next poll */
double tw_timers_next_tick(void); /* seconds: until then no timer changes what a call finds */
bool tw_timers_advance(double time); /* moves the clock, if TCP misses no tick by it */
bool tw_timers_seek_neighbours(void); /* packets wait for ARP or neighbour discovery */
void tw_timers_changed(void);     /* something was begun that slow clocks depend on */
void tw_timers_tcp_work(uint32_t units); /* done by a tick: units are a sixteenth of a segment that is sent */
void tw_timers_tcp_changed(void); /* a call, which may have started one of its timers */
double tw_timers_deadline(void); /* seconds, or infinity */

#endif
