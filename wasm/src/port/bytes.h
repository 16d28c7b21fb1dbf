/* Numbers in network order, at any alignment. Where a transfer spends its time they are read in place. */
#ifndef BYTES_H
#define BYTES_H

#include <stdint.h>
#include <string.h>

#ifdef HOT
#define BYTES static inline __attribute__((unused))
#include "bytes.c"
#else
uint32_t tw_read16(const uint8_t *bytes);
uint32_t tw_read32(const uint8_t *bytes);
void tw_write16(uint8_t *bytes, uint32_t value);
#endif

#endif
