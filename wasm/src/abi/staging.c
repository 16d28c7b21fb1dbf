/* The staging area: where the embedder writes what tcp_send takes. A large chunk stays in the area until all of it is
   acknowledged: segments refer to it, and the embedder gets another area for the next chunk. So payload is copied once on its
   way to a frame, not twice. */
#include "abi/staging.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/module.h"
#include "lwip/pbuf.h"

struct area {
  uint32_t references; /* the areas that segments refer to, and one that the embedder writes to */
  uint8_t bytes[ABI_STAGING_CAPACITY];
};

struct reference {
  struct pbuf_custom pbuf;
  struct area *area;
};

static struct area *current, *spare;

static void release(struct area *area) {
  if (--area->references == 0) {
    tw_heap_free(area);
  }
}

bool tw_staging_may_stay(void) {
  spare = tw_heap_allocate(sizeof *spare);
  if (spare == NULL) {
    return false;
  }
  spare->references = 1;
  return true;
}

void tw_staging_stays(bool stays) {
  struct area *unused = stays ? current : spare;
  current = stays ? spare : current;
  if (unused != NULL) {
    release(unused);
  }
  tw_control[ABI_CONTROL_STAGING] = (uint32_t)(uintptr_t)current->bytes;
}

const uint8_t *tw_staging(void) { return current->bytes; }

static void on_freed(struct pbuf *pbuf) {
  struct reference *reference = (struct reference *)(void *)pbuf;
  struct area *area = reference->area;
  tw_heap_free(reference);
  release(area);
}

/* LWIP_HOOK_TCP_REFERENCE: a pbuf that refers to a part of the current area, or NULL without memory. */
struct pbuf *tw_staging_reference(const void *data, uint16_t length) {
  struct reference *reference = tw_heap_allocate(sizeof *reference);
  if (reference == NULL) {
    return NULL;
  }
  reference->area = current;
  current->references++;
  reference->pbuf.custom_free_function = on_freed;
  return pbuf_alloced_custom(PBUF_RAW, length, PBUF_ROM, &reference->pbuf, (void *)(uintptr_t)data, length);
}
