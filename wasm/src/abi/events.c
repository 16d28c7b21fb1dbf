/* The event buffer: records in the order of the events, which the embedder reads after each poll. It is linear and starts anew
   with each poll; frames are taken in only while it has room for all events that one of them may cause, so that no event is
   ever dropped and the embedder sets the pace. */
#include "abi/events.h"

#include "abi.h"
#include "abi/address_codec.h"
#include "abi/module.h"
#include "abi/work.h"
#include "port/in_place.h"
#include "lwip/opt.h"

#include <string.h>

/* For the data of a frame, and at least one segment that it puts in sequence; its other events and those of timers. */
enum { FRAME_RESERVE = 131072, OTHER_RESERVE = 196608 };

static uint8_t buffer[ABI_EVENT_CAPACITY] __attribute__((aligned(8)));
static struct abi_event_header *last_data; /* the latest record, if it is a DATA event that may still grow */
static bool holds_data;
static uint32_t count;

_Static_assert(ABI_EVENT_CAPACITY > FRAME_RESERVE + OTHER_RESERVE + ABI_MAX_DATA, "room for a batch");

IN_PLACE static inline uint32_t used(void) { return tw_control[ABI_CONTROL_EVENT_LENGTH]; }

void tw_events_reset(void) {
  tw_control[ABI_CONTROL_EVENT_BUFFER] = (uint32_t)(uintptr_t)buffer;
  tw_control[ABI_CONTROL_EVENT_LENGTH] = 0;
  last_data = NULL;
  holds_data = false;
  count = 0;
}

IN_PLACE bool tw_events_have_room(void) { return used() + FRAME_RESERVE + OTHER_RESERVE <= sizeof buffer; }

static uint32_t event_size(uint32_t payload) {
  return (sizeof(struct abi_event_header) + payload + ABI_EVENT_HEADER_ALIGNMENT - 1) & -ABI_EVENT_HEADER_ALIGNMENT;
}

bool tw_events_have_room_beside(uint32_t payload) { return used() + event_size(payload) + OTHER_RESERVE <= sizeof buffer; }

IN_PLACE bool tw_events_suffice(void) { return count >= WORK_EVENTS; }

bool tw_events_hold_data(void) { return holds_data; }

/* Returns where the payload is to be written: `payload` bytes. */
void *tw_event_append(uint32_t kind, int32_t handle, int32_t value, uint32_t payload) {
  uint32_t size = event_size(payload);
  LWIP_ASSERT("room in the event buffer", used() + size <= sizeof buffer);
  struct abi_event_header *event = (void *)(buffer + used());
  event->size = size;
  event->kind = kind;
  event->handle = (uint32_t)handle;
  event->value = (uint32_t)value;
  tw_control[ABI_CONTROL_EVENT_LENGTH] += size;
  last_data = NULL;
  count++;
  return event + 1;
}

void tw_event_add(uint32_t kind, int32_t handle, int32_t value) { tw_event_append(kind, handle, value, 0); }

/* The payloads that tw_event_add_packet writes: endpoints, and bytes behind them. */
_Static_assert(sizeof(struct abi_echo) == sizeof(struct abi_endpoint), "one endpoint");
_Static_assert(sizeof(struct abi_datagram) == 2 * sizeof(struct abi_endpoint), "two endpoints");
_Static_assert(sizeof(struct abi_connection_endpoints) == 2 * sizeof(struct abi_endpoint), "two endpoints");

/* One endpoint or two, then what follows the first `skip` bytes of a packet; the second endpoint and the packet may be
   NULL. */
void tw_event_add_packet(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *first, uint16_t first_port,
                         const ip_addr_t *second, uint16_t second_port, const struct pbuf *packet, uint16_t skip) {
  uint32_t length = packet == NULL ? 0 : packet->tot_len - skip;
  uint32_t count = second == NULL ? 1 : 2;
  struct abi_endpoint *endpoints = tw_event_append(kind, handle, value, count * sizeof *endpoints + length);
  tw_address_write(&endpoints[0], first, first_port);
  if (second != NULL) {
    tw_address_write(&endpoints[1], second, second_port);
  }
  if (packet != NULL) {
    pbuf_copy_partial(packet, endpoints + count, (u16_t)length, skip);
  }
}

void tw_event_add_bytes(uint32_t kind, int32_t handle, int32_t value, const void *payload, uint32_t length) {
  memcpy(tw_event_append(kind, handle, value, length), payload, length);
}

void tw_event_add_addresses(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *local, uint16_t local_port,
                            const ip_addr_t *remote, uint16_t remote_port) {
  tw_event_add_packet(kind, handle, value, local, local_port, remote, remote_port, NULL, 0);
}

static bool joins(int32_t handle) {
  return last_data != NULL && (int32_t)last_data->handle == handle && last_data->value < ABI_MAX_DATA;
}

/* Where `length` bytes of data are to be written, at most ABI_MAX_DATA; tw_event_data_added reports that they were. Data that
   follows data of the same connection joins its record: the embedder delivers large chunks, not segments. */
uint8_t *tw_event_data_space(int32_t handle, uint32_t length) {
  uint32_t before = joins(handle) && last_data->value + length <= ABI_MAX_DATA ? last_data->value : 0;
  uint8_t *payload = (before != 0 ? (uint8_t *)last_data : buffer + used()) + sizeof *last_data;
  LWIP_ASSERT("room in the event buffer", payload + before + length + 3 <= buffer + sizeof buffer);
  return payload + before;
}

void tw_event_data_added(int32_t handle, uint32_t length) {
  if (!joins(handle) || last_data->value + length > ABI_MAX_DATA) {
    last_data = (struct abi_event_header *)tw_event_append(ABI_EVENT_DATA, handle, 0, 0) - 1;
  }
  last_data->value += length;
  uint32_t size = event_size(last_data->value);
  tw_control[ABI_CONTROL_EVENT_LENGTH] += size - last_data->size;
  last_data->size = size;
  holds_data = true;
}

void tw_event_add_data(int32_t handle, const struct pbuf *data) {
  for (; data != NULL; data = data->next) {
    if (data->len != 0) {
      memcpy(tw_event_data_space(handle, data->len), data->payload, data->len);
      tw_event_data_added(handle, data->len);
    }
  }
}
