/* Times at which something is due, to the microsecond, for what may be many at once: an intrusive skew heap (D. Sleator and
   R. Tarjan, "Self-adjusting heaps", 1986), in which setting and clearing one costs the logarithm of their number. */
#ifndef DEADLINES_H
#define DEADLINES_H

#include <stdint.h>

struct deadline {
  uint64_t at; /* us; 0: none */
  struct deadline *left, *right, *above;
};

void tw_deadline_set(struct deadline *deadline, uint64_t at); /* 0 clears it */
struct deadline *tw_deadline_first(void); /* or NULL */

#endif
