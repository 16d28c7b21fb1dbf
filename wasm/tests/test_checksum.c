/* The checksum, alone and fused with a copy, against a plain implementation: all lengths and alignments, and nothing read or
   written outside of the block. */
#include "support.h"
#include "lwip_hooks.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST = 4096, ALIGNMENTS = 16 };

static void one(const uint8_t *content, uint32_t length, uint32_t alignment) {
  /* Blocks of exactly that size, so that the sanitizer reports an access one byte too far. */
  uint8_t *from = malloc(alignment + length + 1u), *to = malloc(alignment + length + 1u);
  CHECK(from != NULL && to != NULL);
  uint8_t *source = from + alignment + 1, *target = to + alignment + 1;
  memcpy(source, content, length);
  memset(to, 0xee, alignment + 1);
  uint16_t expected = reference_checksum(content, length, 0);
  uint16_t sum = tw_checksum(source, (int)length), copied = tw_checksum_copy(target, source, (uint16_t)length);
  CHECK_EQUAL(__builtin_bswap16(sum) % 0xffff, expected % 0xffff);
  CHECK_EQUAL(sum == 0, expected == 0); /* 0 and 0xffff, both zero in one's complement, differ on the wire */
  CHECK_EQUAL(copied, sum);
  CHECK(memcmp(target, content, length) == 0);
  for (uint32_t i = 0; i <= alignment; i++) {
    CHECK_EQUAL(to[i], 0xee);
  }
  free(from);
  free(to);
}

static void equals_the_reference_for_all_lengths_and_alignments(void) {
  static uint8_t content[LONGEST];
  for (uint32_t i = 0; i < LONGEST; i++) {
    content[i] = (uint8_t)random_next();
  }
  for (uint32_t length = 0; length <= LONGEST; length++) {
    for (uint32_t alignment = 0; alignment < (length < 300 ? ALIGNMENTS : 2); alignment++) {
      one(content, length, alignment);
    }
  }
}

static void equals_the_reference_for_extreme_contents(void) {
  static uint8_t content[65535];
  static const uint8_t fillings[] = {0x00, 0xff, 0x80, 0x01};
  for (unsigned i = 0; i < sizeof fillings; i++) {
    memset(content, fillings[i], sizeof content);
    for (uint32_t length = 65535 - 130; length <= 65535; length++) {
      one(content, length, length % ALIGNMENTS);
    }
  }
}

int main(void) {
  host_start();
  RUN(equals_the_reference_for_all_lengths_and_alignments);
  RUN(equals_the_reference_for_extreme_contents);
  return 0;
}
