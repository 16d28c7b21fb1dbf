/* Checks of lwIP's that have failed. */
#ifndef CONSISTENCY_H
#define CONSISTENCY_H

#include "port/in_place.h"

#include <stdbool.h>
#include <stdint.h>

extern bool consistency_lost; /* some connection waits for its reset */
uint32_t consistency_failures(void);
void consistency_reset(void);

/* Called where lwIP works on no connection. */
IN_PLACE static inline void consistency_restore(void) {
  if (consistency_lost) {
    consistency_reset();
  }
}

#endif
