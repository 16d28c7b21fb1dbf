/* Checks of lwIP's that have failed. */
#ifndef CONSISTENCY_H
#define CONSISTENCY_H

#include "port/in_place.h"

#include <stdbool.h>
#include <stdint.h>

extern bool tw_consistency_lost; /* some connection waits for its reset */
uint32_t tw_consistency_failures(void);
void tw_consistency_reset(void);

/* Called where lwIP works on no connection. */
IN_PLACE static inline void consistency_restore(void) {
  if (tw_consistency_lost) {
    tw_consistency_reset();
  }
}

#endif
