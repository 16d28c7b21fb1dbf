/* Handles: an index in the low 16 bits, the generation of its slot in the 15 above. A slot's generation grows each time it is
   freed, so that a stale handle is refused instead of naming another object. */
#include "abi/handles.h"

#include "abi.h"
#include "lwip_hooks.h"

#include <string.h>

enum { INDEX_BITS = 16, MAX_SLOTS = 1 << INDEX_BITS, GENERATION_MASK = 0x7fff };

struct slot {
  void *object;
  uint16_t generation;
  uint8_t kind;
  int32_t next_free;
};

static struct slot *slots;
static int32_t capacity, first_free = -1, last_free = -1;
static uint32_t used;

/* Freed slots are reused oldest first: a generation is repeated only after 32,767 rounds through all of them. */
static void free_list_append(int32_t index) {
  slots[index].next_free = -1;
  if (last_free < 0) {
    first_free = index;
  } else {
    slots[last_free].next_free = index;
  }
  last_free = index;
}

static bool grow(void) {
  int32_t larger = capacity == 0 ? 64 : capacity * 2;
  if (larger > MAX_SLOTS) {
    return false;
  }
  struct slot *moved = tw_heap_allocate((size_t)larger * sizeof *slots);
  if (moved == NULL) {
    return false;
  }
  if (slots != NULL) {
    memcpy(moved, slots, (size_t)capacity * sizeof *slots);
    tw_heap_free(slots);
  }
  slots = moved;
  for (int32_t index = capacity; index < larger; index++) {
    slots[index] = (struct slot){.generation = 1};
    free_list_append(index);
  }
  capacity = larger;
  return true;
}

int32_t tw_handle_open(enum handle_kind kind, void *object) {
  if (first_free < 0 && !grow()) {
    return ABI_ERROR_NO_MEMORY;
  }
  int32_t index = first_free;
  struct slot *slot = &slots[index];
  first_free = slot->next_free;
  if (first_free < 0) {
    last_free = -1;
  }
  slot->kind = (uint8_t)kind;
  slot->object = object;
  used++;
  return (int32_t)slot->generation << INDEX_BITS | index;
}

static struct slot *slot_of(int32_t handle) {
  int32_t index = handle & (MAX_SLOTS - 1);
  if (handle <= 0 || index >= capacity || slots[index].kind == HANDLE_FREE || slots[index].generation != handle >> INDEX_BITS) {
    return NULL;
  }
  return &slots[index];
}

void *tw_handle_object(int32_t handle, enum handle_kind kind) {
  struct slot *slot = slot_of(handle);
  return slot != NULL && slot->kind == kind ? slot->object : NULL;
}

void tw_handle_close(int32_t handle) {
  struct slot *slot = slot_of(handle);
  if (slot == NULL) {
    return;
  }
  slot->kind = HANDLE_FREE;
  slot->object = NULL;
  slot->generation = (slot->generation & GENERATION_MASK) % GENERATION_MASK + 1;
  used--;
  free_list_append(handle & (MAX_SLOTS - 1));
}

uint32_t tw_handle_count(void) { return used; }
