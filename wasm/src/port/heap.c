/* The heap. Segments are allocated and freed by the hundred thousand in a few sizes, so freed blocks are kept in lists by size
   class: the block freed last is still in the processor's cache, and taking it costs a handful of instructions. Blocks are
   never joined: a class keeps what it once needed, which the limit on linear memory bounds. What is in use is counted, for the
   embedder's statistics and for tests of leaks. */
#include "port/heap.h"

#include <stdint.h>
#include <string.h>

enum {
  STEP = 64,
  SMALL = 2048, /* up to here classes are STEP apart: a full-sized segment at MTU 1500 is below */
  SMALL_CLASSES = SMALL / STEP,
  SMALL_BITS = 11,
  LARGEST_BITS = 29,
  RESERVE = 65536, /* bytes: enough for the acknowledgements of some hundred connections */
  RESERVE_BLOCK = 384, /* bytes: the header of a segment, a connection */
  CLASSES = SMALL_CLASSES + 4 * (LARGEST_BITS - SMALL_BITS + 1), /* above: four to each power of two */
};

struct block {
  union {
    size_t class;       /* in use */
    struct block *next; /* freed */
  };
  uint64_t data[];
};

static size_t used;

/* The class of a size from 1 to 2^30 bytes. */
static size_t class_of(size_t size) {
  if (size <= SMALL) {
    return (size - 1) / STEP;
  }
  uint32_t bits = 31 - (uint32_t)__builtin_clz((uint32_t)size - 1);
  return SMALL_CLASSES + 4 * (bits - SMALL_BITS) + ((uint32_t)(size - 1) >> (bits - 2) & 3);
}

/* The bytes that blocks of a class hold. */
static size_t capacity_of(size_t class) {
  if (class < SMALL_CLASSES) {
    return (class + 1) * STEP;
  }
  class -= SMALL_CLASSES;
  return (class % 4 + 5) << (class / 4 + SMALL_BITS - 2);
}

#ifdef __wasm__
static struct block *freed[CLASSES];

/* Linear memory from the end of the static data on is ours alone; nothing else grows it. */
static struct block *carve(size_t size) {
  extern uint8_t __heap_base;
  enum { PAGE = 65536 };
  static uintptr_t next, end;
  if (next == 0) {
    next = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
    end = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE;
  }
  if (size > end - next) {
    size_t pages = (size - (end - next) + PAGE - 1) / PAGE;
    if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) {
      return NULL;
    }
    end += pages * PAGE;
  }
  struct block *block = (struct block *)next;
  next += size;
  return block;
}

/* For acknowledgements and other small packets when the rest is full of unacknowledged data: without it a full heap would stay
   full. */
static struct block *carve_reserve(size_t size) {
  static uint8_t reserve[RESERVE] __attribute__((aligned(16)));
  static size_t next;
  if (size > RESERVE_BLOCK || next + size > sizeof reserve) {
    return NULL;
  }
  next += size;
  return (struct block *)(reserve + next - size);
}

static struct block *take_freed(size_t class) {
  struct block *block = freed[class];
  if (block != NULL) {
    freed[class] = block->next;
    block->class = class;
  }
  return block;
}

static struct block *take(size_t size, size_t class) {
  (void)size;
  struct block *block = take_freed(class);
  if (block != NULL) {
    return block;
  }
  size_t bytes = sizeof *block + capacity_of(class);
  block = carve(bytes);
  for (size_t larger = class + 1; block == NULL && larger < CLASSES; larger++) {
    block = take_freed(larger); /* memory is at its limit: a larger free block is taken */
    if (block != NULL) {
      return block;
    }
  }
  block = block != NULL ? block : carve_reserve(bytes);
  if (block != NULL) {
    block->class = class;
  }
  return block;
}

static void release(struct block *block, size_t class) {
  block->next = freed[class];
  freed[class] = block;
}
#else
#include <stdlib.h>

/* Natively, for tests: the C library's heap and the exact size, so that a sanitizer reports every access beyond the block and
   every use after a free. */
static struct block *take(size_t size, size_t class) {
  struct block *block = malloc(sizeof *block + size);
  if (block != NULL) {
    block->class = class;
  }
  return block;
}

static void release(struct block *block, size_t class) {
  (void)class;
  free(block);
}
#endif

void *tw_heap_allocate(size_t size) {
  if (size > 1u << 30) {
    return NULL;
  }
  struct block *block = take(size, class_of(size == 0 ? 1 : size));
  if (block == NULL) {
    return NULL;
  }
  used += capacity_of(block->class);
  return block->data;
}

void *tw_heap_allocate_zeroed(size_t count, size_t size) {
  void *memory = size != 0 && count > SIZE_MAX / size ? NULL : tw_heap_allocate(count * size);
  return memory == NULL ? NULL : memset(memory, 0, count * size);
}

void tw_heap_free(void *memory) {
  if (memory != NULL) {
    struct block *block = (struct block *)((uint8_t *)memory - offsetof(struct block, data));
    size_t class = block->class;
    used -= capacity_of(class);
    release(block, class);
  }
}

uint32_t tw_heap_used(void) { return (uint32_t)used; }
