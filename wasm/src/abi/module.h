/* The control block, and the areas that the host reads and writes between calls. One stack is one instance of the module: all
   state is static. */
#ifndef MODULE_H
#define MODULE_H

#include "abi.h"
#include "lwip/err.h"

#include <stdint.h>

extern uint32_t tw_control[ABI_CONTROL_WORDS];
extern uint8_t tw_scratch[ABI_SCRATCH_CAPACITY];
extern uint64_t tw_now; /* microseconds, as of the latest call that carried the time */
int32_t tw_error_from_lwip(err_t error);

#endif
