/* The event buffer: records in the order in which things happened, read by the host after each poll. It is linear and
   starts anew with each poll; frames are taken in only while it can hold all that one of them may cause, so that no
   event is ever dropped and the host alone decides the pace. */
#include "host.h"
#include "lwip/opt.h"

#include <string.h>

/* One frame can fill a hole and release a whole window; beside it, its events and those of timers. */
enum { FRAME_RESERVE = ABI_TCP_WINDOW + 65536, OTHER_RESERVE = 65536 };

static uint8_t buffer[ABI_EVENT_CAPACITY] __attribute__((aligned(8)));
static uint32_t *last_data; /* the latest record, if it is a DATA event that may still grow */
static bool holds_data;

_Static_assert(ABI_EVENT_CAPACITY > FRAME_RESERVE + OTHER_RESERVE + 2 * ABI_MAX_DATA, "room for a batch");

static uint32_t used(void) { return control[ABI_CONTROL_EVENT_LENGTH]; }

void events_reset(void) {
  control[ABI_CONTROL_EVENT_BUFFER] = (uint32_t)(uintptr_t)buffer;
  control[ABI_CONTROL_EVENT_LENGTH] = 0;
  last_data = NULL;
  holds_data = false;
}

bool events_have_room(void) { return used() + FRAME_RESERVE + OTHER_RESERVE <= sizeof buffer; }

bool events_hold_data(void) { return holds_data; }

static uint8_t *append(uint32_t kind, int32_t handle, int32_t value, uint32_t payload) {
  uint32_t size = (ABI_EVENT_HEADER + payload + 3) & ~3u;
  LWIP_ASSERT("room in the event buffer", used() + size <= sizeof buffer);
  uint32_t *record = (uint32_t *)(void *)(buffer + used());
  record[0] = size;
  record[1] = kind;
  record[2] = (uint32_t)handle;
  record[3] = (uint32_t)value;
  control[ABI_CONTROL_EVENT_LENGTH] += size;
  last_data = NULL;
  return (uint8_t *)(record + 4);
}

void event_add(uint32_t kind, int32_t handle, int32_t value) { append(kind, handle, value, 0); }

void event_add_addresses(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *local, uint16_t local_port,
                         const ip_addr_t *remote, uint16_t remote_port) {
  uint8_t *payload = append(kind, handle, value, 2 * ABI_ADDRESS_SIZE);
  address_write(payload, local, local_port);
  address_write(payload + ABI_ADDRESS_SIZE, remote, remote_port);
}

/* Data that follows data of the same connection joins its record: the host hands up large pieces, not segments. */
void event_add_data(int32_t handle, const struct pbuf *data) {
  holds_data = true;
  for (; data != NULL; data = data->next) {
    const uint8_t *bytes = data->payload;
    uint32_t left = data->len;
    while (left > 0) {
      if (last_data == NULL || (int32_t)last_data[2] != handle || last_data[3] == ABI_MAX_DATA) {
        uint8_t *payload = append(ABI_EVENT_DATA, handle, 0, 0);
        last_data = (uint32_t *)(void *)(payload - ABI_EVENT_HEADER);
      }
      uint32_t length = last_data[3], take = LWIP_MIN(left, ABI_MAX_DATA - length);
      uint32_t size = (ABI_EVENT_HEADER + length + take + 3) & ~3u;
      LWIP_ASSERT("room in the event buffer", used() + size - last_data[0] <= sizeof buffer);
      memcpy((uint8_t *)(last_data + 4) + length, bytes, take);
      control[ABI_CONTROL_EVENT_LENGTH] += size - last_data[0];
      last_data[0] = size;
      last_data[3] = length + take;
      bytes += take;
      left -= take;
    }
  }
}
