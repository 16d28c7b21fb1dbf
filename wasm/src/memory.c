/* memcpy and its kin. The other files are compiled without the bulk-memory instructions, because with them the compiler
   makes one of every copy of a structure, and each is a call out of the compiled code that costs more than the copy. Here
   they are used where they pay: for blocks. This file alone is compiled with them. */
#include <stddef.h>
#include <stdint.h>

#ifdef __wasm__
enum { BLOCK = 128 }; /* bytes from which the instruction is the faster way */

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
  uint8_t *target = to;
  const uint8_t *source = from;
  if (count >= BLOCK) {
    return __builtin_memcpy(to, from, count);
  }
  for (; count >= 8; count -= 8, target += 8, source += 8) {
    uint64_t word;
    __builtin_memcpy_inline(&word, source, 8);
    __builtin_memcpy_inline(target, &word, 8);
  }
  for (; count > 0; count--) {
    *target++ = *source++;
  }
  return to;
}

void *memmove(void *to, const void *from, size_t count) { return __builtin_memmove(to, from, count); }

void *memset(void *to, int value, size_t count) {
  uint8_t *target = to;
  if (count >= BLOCK) {
    return __builtin_memset(to, value, count);
  }
  for (; count > 0; count--) {
    *target++ = (uint8_t)value;
  }
  return to;
}

int memcmp(const void *one, const void *other, size_t count) {
  const uint8_t *left = one, *right = other;
  for (; count > 0; count--, left++, right++) {
    if (*left != *right) {
      return *left - *right;
    }
  }
  return 0;
}

/* What every WASI reactor exports and a host calls first. In C nothing is left to do there. */
__attribute__((export_name("_initialize"))) void _initialize(void) {}
#endif
