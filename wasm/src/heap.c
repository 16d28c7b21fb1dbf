/* The heap. Segments come and go by the hundred thousand in a few sizes, so freed blocks are kept in lists by size class:
   the block freed last is still in the processor's cache, and taking it costs a handful of instructions. Blocks are never
   joined: a class keeps what it once needed, which the limit on linear memory bounds. What is in use is counted, so that a
   host can see what a stack holds and a test that nothing leaked. */
#include "lwip_hooks.h"

#include <stdint.h>
#include <string.h>

enum {
  STEP = 64,
  SMALL = 2048, /* up to here classes are STEP apart: a full-sized segment at MTU 1500 is below */
  SMALL_CLASSES = SMALL / STEP,
  SMALL_BITS = 11,
  LARGEST_BITS = 29,
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

/* The class of a size from 1 to 2^30 bytes, and the bytes that its blocks hold. */
static size_t class_of(size_t size, size_t *capacity) {
  if (size <= SMALL) {
    *capacity = (size + STEP - 1) / STEP * STEP;
    return *capacity / STEP - 1;
  }
  uint32_t bits = 31 - (uint32_t)__builtin_clz((uint32_t)size - 1);
  uint32_t quarter = (uint32_t)(size - 1) >> (bits - 2) & 3;
  *capacity = (size_t)(quarter + 5) << (bits - 2);
  return SMALL_CLASSES + 4 * (bits - SMALL_BITS) + quarter;
}

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

static struct block *take(size_t class, size_t capacity) {
  struct block *block = freed[class];
  if (block == NULL) {
    return carve(sizeof *block + capacity);
  }
  freed[class] = block->next;
  return block;
}

static void give_back(struct block *block, size_t class) {
  block->next = freed[class];
  freed[class] = block;
}
#else
#include <stdlib.h>

/* Natively, for tests: the C library's heap, in which a sanitizer sees every use after a free. */
static struct block *take(size_t class, size_t capacity) {
  (void)class;
  return malloc(sizeof(struct block) + capacity);
}

static void give_back(struct block *block, size_t class) {
  (void)class;
  free(block);
}
#endif

void *heap_allocate(size_t size) {
  size_t capacity;
  if (size > 1u << 30) {
    return NULL;
  }
  size_t class = class_of(size == 0 ? 1 : size, &capacity);
  struct block *block = take(class, capacity);
  if (block == NULL) {
    return NULL;
  }
  block->class = class;
  used += capacity;
  return block->data;
}

void *heap_allocate_zeroed(size_t count, size_t size) {
  void *memory = size != 0 && count > SIZE_MAX / size ? NULL : heap_allocate(count * size);
  return memory == NULL ? NULL : memset(memory, 0, count * size);
}

void heap_free(void *memory) {
  if (memory != NULL) {
    struct block *block = (struct block *)((uint8_t *)memory - offsetof(struct block, data));
    size_t class = block->class;
    used -= capacity_of(class);
    give_back(block, class);
  }
}

uint32_t heap_used(void) { return (uint32_t)used; }
