/* The heap: the C library's, counted, so that a host can see what a stack holds and a test that nothing leaked. */
#include "host.h"
#include "lwip_hooks.h"

#include <stdlib.h>
#include <malloc.h>

static size_t used;

void *heap_allocate(size_t size) {
  void *memory = malloc(size);
  if (memory != NULL) {
    used += malloc_usable_size(memory);
  }
  return memory;
}

void *heap_allocate_zeroed(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (memory != NULL) {
    used += malloc_usable_size(memory);
  }
  return memory;
}

void heap_free(void *memory) {
  if (memory != NULL) {
    used -= malloc_usable_size(memory);
    free(memory);
  }
}

uint32_t heap_used(void) { return (uint32_t)used; }
