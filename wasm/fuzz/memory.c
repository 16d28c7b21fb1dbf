/* Allocations of the stack, through the linker's --wrap: they fail when a step asks for it, or at a limit. */
#include "fuzz.h"
#include "port/heap.h"

int64_t allocations_left = -1;
bool allocations_fail_once;
uint64_t allocations_made;
uint32_t memory_limit;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

/* Only src/port/heap.c calls malloc; the fuzzer itself has static memory. */
void *__wrap_malloc(size_t size) {
  allocations_made++;
  bool refused = memory_limit != 0 && tw_heap_used() + size > memory_limit;
  if (allocations_left == 0) {
    allocations_left = allocations_fail_once ? -1 : 0;
    refused = true;
  }
  allocations_left -= allocations_left > 0;
  totals->failed_allocations += refused;
  return refused ? NULL : __real_malloc(size);
}
