/* The Internet checksum (RFC 1071) over a block, alone and fused with a copy: the loop through which every byte of every
   segment passes. Sums are of 16-bit words as they lie in memory; RFC 1071, section 2 (B) shows why that is enough. What
   is left of less than 16 bytes is summed in place, since in WebAssembly a copy of few bytes costs as much as one of a
   thousand. */
#include "lwip_hooks.h"

#include <string.h>

/* Sums the `size` bytes at `from`, 8 at most, and copies them unless `to` is NULL. */
static inline uint64_t sum_few(const uint8_t *from, uint8_t *to, size_t size) {
  uint64_t word = 0; /* zero padding does not change a sum */
  memcpy(&word, from, size);
  if (to != NULL) {
    memcpy(to, &word, size);
  }
  return (word & 0xffffffff) + (word >> 32);
}

#ifdef __wasm_simd128__
#include <wasm_simd128.h>

enum { VECTOR = 16, STEP = 4 * VECTOR };

/* There is no unsigned multiply-and-add of 16-bit words, so each word is taken as word - 0x8000, a signed one, and what
   was taken away is given back in the end. A lane grows by at most 0x10000, whatever the words are. */
static inline v128_t sum_vector(v128_t lanes, const uint8_t *from, uint8_t *to) {
  v128_t words = wasm_v128_load(from);
  if (to != NULL) {
    wasm_v128_store(to, words);
  }
  words = wasm_v128_xor(words, wasm_i16x8_const_splat(-0x8000));
  return wasm_i32x4_add(lanes, wasm_i32x4_dot_i16x8(words, wasm_i16x8_const_splat(1)));
}

static inline uint64_t sum_vectors(const uint8_t *from, uint8_t *to, size_t size) {
  v128_t lanes = wasm_i32x4_const_splat(0);
  size_t at = 0;
  for (; at + STEP <= size; at += STEP) {
    const uint8_t *source = from + at;
    v128_t a = wasm_v128_load(source), b = wasm_v128_load(source + VECTOR);
    v128_t c = wasm_v128_load(source + 2 * VECTOR), d = wasm_v128_load(source + 3 * VECTOR);
    if (to != NULL) {
      uint8_t *target = to + at;
      wasm_v128_store(target, a);
      wasm_v128_store(target + VECTOR, b);
      wasm_v128_store(target + 2 * VECTOR, c);
      wasm_v128_store(target + 3 * VECTOR, d);
    }
    const v128_t bias = wasm_i16x8_const_splat(-0x8000), one = wasm_i16x8_const_splat(1);
    a = wasm_i32x4_add(wasm_i32x4_dot_i16x8(wasm_v128_xor(a, bias), one),
                       wasm_i32x4_dot_i16x8(wasm_v128_xor(b, bias), one));
    c = wasm_i32x4_add(wasm_i32x4_dot_i16x8(wasm_v128_xor(c, bias), one),
                       wasm_i32x4_dot_i16x8(wasm_v128_xor(d, bias), one));
    lanes = wasm_i32x4_add(lanes, wasm_i32x4_add(a, c));
  }
  for (; at < size; at += VECTOR) {
    lanes = sum_vector(lanes, from + at, to == NULL ? NULL : to + at);
  }
  int64_t total = (int64_t)(size / 2) * 0x8000;
  total += wasm_i32x4_extract_lane(lanes, 0) + (int64_t)wasm_i32x4_extract_lane(lanes, 1);
  total += wasm_i32x4_extract_lane(lanes, 2) + (int64_t)wasm_i32x4_extract_lane(lanes, 3);
  return (uint64_t)total;
}
#else
enum { VECTOR = 16 };

static inline uint64_t sum_vectors(const uint8_t *from, uint8_t *to, size_t size) {
  uint64_t total = 0;
  for (size_t at = 0; at < size; at += 8) {
    total += sum_few(from + at, to == NULL ? NULL : to + at, 8);
  }
  return total;
}
#endif

/* `to` may be NULL: then nothing is copied. */
__attribute__((noinline)) uint16_t checksum_copy(void *to, const void *from, uint16_t length) {
  const uint8_t *source = from;
  uint8_t *target = to;
  size_t at = length & ~(size_t)(VECTOR - 1);
  uint64_t total = sum_vectors(source, target, at);
  for (size_t size = VECTOR / 2; size != 0; size /= 2) {
    if ((length & size) != 0) {
      total += sum_few(source + at, target == NULL ? NULL : target + at, size);
      at += size;
    }
  }
  while (total >> 16 != 0) {
    total = (total & 0xffff) + (total >> 16);
  }
  return (uint16_t)total;
}

uint16_t checksum(const void *data, int length) { return checksum_copy(NULL, data, (uint16_t)length); }
