/* See bytes.h, which includes these where they are wanted inline. */
#include "bytes.h"

#ifndef BYTES
#define BYTES __attribute__((noinline))
#endif

BYTES uint32_t tw_read16(const uint8_t *bytes) { return (uint32_t)bytes[0] << 8 | bytes[1]; }

BYTES uint32_t tw_read32(const uint8_t *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return __builtin_bswap32(word);
}

BYTES void tw_write16(uint8_t *bytes, uint32_t value) {
  bytes[0] = (uint8_t)(value >> 8);
  bytes[1] = (uint8_t)value;
}
