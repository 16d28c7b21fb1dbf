/* memcpy and its kin. The bulk-memory instructions are calls out of the compiled code, which take as long for one byte as for a
   hundred. So the other files are compiled without them, and all copies are made here: short ones by loads and stores, blocks
   by the instruction. Files that are optimised together at link time all get the instructions of each, so this one is not among
   them. */
#include <stddef.h>
#include <stdint.h>

#ifdef __wasm__
#include <wasm_simd128.h>

enum { VECTOR = 16, BLOCK = 96 /* bytes from which the instruction is the faster way */ };

/* From `half` to twice as many bytes: the first `half` and the last, which may overlap. */
#define COPY_HALVES(type, half)                             \
  do {                                                      \
    type first, last;                                       \
    __builtin_memcpy(&first, source, half);                 \
    __builtin_memcpy(&last, source + count - (half), half); \
    __builtin_memcpy(target, &first, half);                 \
    __builtin_memcpy(target + count - (half), &last, half); \
  } while (0)

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
  const uint8_t *source = from;
  uint8_t *target = to;
  if (count >= BLOCK) {
    return __builtin_memcpy(to, from, count);
  }
  for (; count > 2 * VECTOR; count -= VECTOR, source += VECTOR, target += VECTOR) {
    wasm_v128_store(target, wasm_v128_load(source));
  }
  if (count >= 16) {
    COPY_HALVES(v128_t, 16);
  } else if (count >= 8) {
    COPY_HALVES(uint64_t, 8);
  } else {
    for (; count > 0; count--) {
      *target++ = *source++;
    }
  }
  return to;
}

void *memmove(void *to, const void *from, size_t count) { return __builtin_memmove(to, from, count); }

void *memset(void *to, int value, size_t count) { return __builtin_memset(to, value, count); }

int memcmp(const void *one, const void *other, size_t count) {
  const uint8_t *left = one, *right = other;
  for (; count > 0; count--, left++, right++) {
    if (*left != *right) {
      return *left - *right;
    }
  }
  return 0;
}

/* What every WASI reactor exports and an embedder calls first. In C nothing is left to do there. */
__attribute__((export_name("_initialize"))) void _initialize(void) {}
#endif
