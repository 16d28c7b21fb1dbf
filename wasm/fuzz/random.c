/* Choices that depend on the seed and the step alone, and the bytes of streams. */
#include "fuzz.h"

static uint64_t state = 1;
static uint8_t filler[FILLER_PERIOD + 131072];

static uint64_t mix(uint64_t value) { /* SplitMix64 (Steele, Lea and Flood, 2014) */
  value += 0x9e3779b97f4a7c15;
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
  value = (value ^ value >> 27) * 0x94d049bb133111eb;
  return value ^ value >> 31;
}

void choices_restart(uint64_t seed, uint64_t step) { state = mix(mix(seed) ^ step); }

uint32_t any(void) {
  state += 0x9e3779b97f4a7c15;
  return (uint32_t)(mix(state) >> 32);
}

uint32_t below(uint32_t bound) { return (uint32_t)((uint64_t)any() * bound >> 32); }

bool percent(uint32_t share) { return below(100) < share; }

uint32_t one_of(const uint32_t *values, uint32_t count) { return values[below(count)]; }

uint32_t size_up_to(uint32_t most) {
  switch (below(6)) {
    case 0:
      return SMALLER(most, below(4));
    case 1:
      return SMALLER(most, below(64));
    case 2:
      return most - SMALLER(most, below(4));
    case 3:
      return SMALLER(most, below(1500));
    default:
      return below(most) + (most > 0);
  }
}

void filler_start(void) {
  for (uint32_t i = 0; i < FILLER_PERIOD; i++) {
    filler[i] = (uint8_t)mix(i);
  }
  memcpy(filler + FILLER_PERIOD, filler, sizeof filler - FILLER_PERIOD);
}

static const uint8_t *filler_at(uint32_t key, uint32_t position) { return filler + (key + position) % FILLER_PERIOD; }

void filler_put(uint8_t *bytes, uint32_t length, uint32_t key, uint32_t position) {
  memcpy(bytes, filler_at(key, position), length);
}

bool filler_is(const uint8_t *bytes, uint32_t length, uint32_t key, uint32_t position) {
  for (uint32_t at = 0, part; at < length; at += part) { /* a DATA event may be longer than one repetition of the filler */
    part = SMALLER(length - at, 131072);
    if (memcmp(bytes + at, filler_at(key, position + at), part) != 0) {
      return false;
    }
  }
  return true;
}

uint32_t filler_key(uint32_t from_port, uint32_t to_port) { return (uint32_t)mix((uint64_t)from_port << 16 | to_port); }
