/* Everything that must not be predictable, from the seed; tw_random_u32 is declared in arch/cc.h. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

void tw_random_seed(uint64_t low, uint64_t high);
uint64_t tw_random_keyed(const void *message, uint32_t length);

#endif
