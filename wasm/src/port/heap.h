/* The heap; what lwIP calls of it is declared in lwip_hooks.h. */
#ifndef HEAP_H
#define HEAP_H

#include "lwip_hooks.h"

#include <stdint.h>

uint32_t tw_heap_used(void); /* bytes */

#endif
