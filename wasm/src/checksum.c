/* The Internet checksum (RFC 1071) over a block, alone and fused with a copy: the two loops through which every byte of
   every segment passes. Sums are of 16-bit words as they lie in memory; RFC 1071, section 2 (B) shows why that is enough. */
#include "lwip_hooks.h"

#include <string.h>

#ifdef __wasm_simd128__
#include <wasm_simd128.h>

/* There is no unsigned multiply-and-add of 16-bit words, so each word is taken as word - 0x8000, a signed one, and what
   was taken away is given back in the end. A lane grows by at most 0x10000 for each 16 bytes. */
typedef struct {
  v128_t lanes;
  uint32_t words;
} sum_t;
enum { STEP = 64 };

static inline sum_t sum_zero(void) { return (sum_t){wasm_i32x4_const_splat(0), 0}; }

static inline v128_t sum_vector(v128_t words) {
  return wasm_i32x4_dot_i16x8(wasm_v128_xor(words, wasm_i16x8_const_splat(-0x8000)), wasm_i16x8_const_splat(1));
}

static inline sum_t sum_step(sum_t sum, const uint8_t *from, uint8_t *to) {
  v128_t a = wasm_v128_load(from), b = wasm_v128_load(from + 16);
  v128_t c = wasm_v128_load(from + 32), d = wasm_v128_load(from + 48);
  if (to != NULL) {
    wasm_v128_store(to, a);
    wasm_v128_store(to + 16, b);
    wasm_v128_store(to + 32, c);
    wasm_v128_store(to + 48, d);
  }
  v128_t ab = wasm_i32x4_add(sum_vector(a), sum_vector(b)), cd = wasm_i32x4_add(sum_vector(c), sum_vector(d));
  return (sum_t){wasm_i32x4_add(sum.lanes, wasm_i32x4_add(ab, cd)), sum.words + STEP / 2};
}

static inline uint64_t sum_total(sum_t sum) {
  int64_t total = (int64_t)sum.words * 0x8000;
  total += wasm_i32x4_extract_lane(sum.lanes, 0) + (int64_t)wasm_i32x4_extract_lane(sum.lanes, 1);
  total += wasm_i32x4_extract_lane(sum.lanes, 2) + (int64_t)wasm_i32x4_extract_lane(sum.lanes, 3);
  return (uint64_t)total;
}
#else
typedef uint64_t sum_t;
enum { STEP = 8 };

static inline sum_t sum_zero(void) { return 0; }

static inline sum_t sum_step(sum_t sum, const uint8_t *from, uint8_t *to) {
  uint32_t words[2];
  memcpy(words, from, STEP);
  if (to != NULL) {
    memcpy(to, from, STEP);
  }
  return sum + words[0] + words[1];
}

static inline uint64_t sum_total(sum_t sum) { return sum; }
#endif

static inline uint16_t sum_block(const uint8_t *from, uint8_t *to, int length) {
  sum_t sum = sum_zero();
  for (; length >= STEP; length -= STEP, from += STEP) {
    sum = sum_step(sum, from, to);
    to = to != NULL ? to + STEP : NULL;
  }
  uint64_t total = sum_total(sum);
  if (length > 0) {
    uint16_t tail[STEP / 2 + 1] = {0}; /* zero padding does not change a sum */
    memcpy(tail, from, (size_t)length);
    if (to != NULL) {
      memcpy(to, from, (size_t)length);
    }
    for (int i = 0; 2 * i < length; i++) {
      total += tail[i];
    }
  }
  while (total >> 16 != 0) {
    total = (total & 0xffff) + (total >> 16);
  }
  return (uint16_t)total;
}

uint16_t checksum(const void *data, int length) { return sum_block(data, NULL, length); }

uint16_t checksum_copy(void *to, const void *from, uint16_t length) { return sum_block(from, to, length); }
