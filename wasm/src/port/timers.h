/* lwIP's clocks. */
#ifndef TIMERS_H
#define TIMERS_H

#include <stdbool.h>
#include <stdint.h>

void timers_start(void);
bool timers_run(void); /* true if a tick has paused: the rest is for the next poll */
double timers_next_tick(void); /* seconds: until then no call finds anything changed by a timer */
bool timers_advance(double time); /* moves the clock, if TCP misses no tick by it */
bool timers_seek_neighbours(void); /* packets wait for ARP or neighbour discovery */
void timers_changed(void);     /* something was begun that slow clocks depend on */
void timers_tcp_work(uint32_t units); /* done by a tick: units are a sixteenth of a segment that is sent */
void timers_tcp_changed(void); /* a call, which may have started one of its timers */
double timers_deadline(void); /* seconds, or infinity */

#endif
