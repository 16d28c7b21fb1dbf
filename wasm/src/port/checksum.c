/* The Internet checksum (RFC 1071) over a block, alone and fused with a copy: the loop through which every byte of every
   segment passes. It adds 16-bit words in the machine's byte order; RFC 1071, section 2 (B) shows why that is enough. A rest of
   less than 16 bytes is added inline, since in WebAssembly a copy of few bytes costs as much as one of a thousand. */
#include "lwip_hooks.h"

#include <string.h>

enum { WORD = 8, VECTOR = 16, STEP = 4 * VECTOR };

#ifdef __wasm_simd128__
#include <wasm_simd128.h>

typedef v128_t sum_t;

/* There is no unsigned multiply-and-add of 16-bit words, so each word is taken as word - 0x8000, a signed one, and what
   was subtracted is added in the end. A lane grows by at most 0x10000, whatever the words are. */
static inline v128_t sum_vector(const uint8_t *from, uint8_t *to) {
  v128_t words = wasm_v128_load(from);
  wasm_v128_store(to, words);
  return wasm_i32x4_dot_i16x8(wasm_v128_xor(words, wasm_i16x8_const_splat(-0x8000)), wasm_i16x8_const_splat(1));
}

static inline sum_t sum_zero(void) { return wasm_i32x4_const_splat(0); }

static inline sum_t sum_add(sum_t one, sum_t other) { return wasm_i32x4_add(one, other); }

static inline uint64_t sum_total(sum_t lanes, size_t size) {
  int64_t total = (int64_t)(size / 2) * 0x8000;
  total += wasm_i32x4_extract_lane(lanes, 0) + (int64_t)wasm_i32x4_extract_lane(lanes, 1);
  total += wasm_i32x4_extract_lane(lanes, 2) + (int64_t)wasm_i32x4_extract_lane(lanes, 3);
  return (uint64_t)total;
}
#else
typedef uint64_t sum_t;

static inline uint64_t sum_vector(const uint8_t *from, uint8_t *to) {
  uint32_t words[VECTOR / 4];
  memcpy(words, from, sizeof words);
  memcpy(to, words, sizeof words);
  return (uint64_t)words[0] + words[1] + words[2] + words[3];
}

static inline sum_t sum_zero(void) { return 0; }

static inline sum_t sum_add(sum_t one, sum_t other) { return one + other; }

static inline uint64_t sum_total(sum_t sum, size_t size) { return (void)size, sum; }
#endif

/* The target where nothing is copied. */
static uint8_t nowhere[STEP];

/* `to` may be NULL: then nothing is copied. */
__attribute__((noinline)) uint16_t tw_checksum_copy(void *to, const void *from, uint16_t length) {
  const uint8_t *source = from;
  uint8_t *target = to != NULL ? to : nowhere;
  size_t moves = to != NULL ? ~(size_t)0 : 0, left = length; /* a mask for steps of `target` */
  sum_t sum = sum_zero();
  for (; left >= STEP; left -= STEP, source += STEP, target += STEP & moves) {
    sum_t half = sum_add(sum_vector(source, target), sum_vector(source + VECTOR, target + VECTOR));
    sum = sum_add(sum, half);
    half = sum_add(sum_vector(source + 2 * VECTOR, target + 2 * VECTOR), sum_vector(source + 3 * VECTOR, target + 3 * VECTOR));
    sum = sum_add(sum, half);
  }
#ifdef __clang__
#pragma clang loop unroll(disable) /* three times at most */
#endif
  for (; left >= VECTOR; left -= VECTOR, source += VECTOR, target += VECTOR & moves) {
    sum = sum_add(sum, sum_vector(source, target));
  }
  uint64_t total = sum_total(sum, length - left);
  for (size_t size = WORD; size > 0; size /= 2) { /* unrolled, so that each copy is of a known size */
    if ((left & size) != 0) {
      uint64_t word = 0; /* zero padding does not change a checksum */
      memcpy(&word, source, size);
      memcpy(target, &word, size);
      total += (word & 0xffffffff) + (word >> 32);
      source += size;
      target += size & moves;
    }
  }
  while (total >> 16 != 0) {
    total = (total & 0xffff) + (total >> 16);
  }
  return (uint16_t)total;
}

uint16_t tw_checksum(const void *data, int length) { return tw_checksum_copy(NULL, data, (uint16_t)length); }
