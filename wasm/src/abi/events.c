/* The event buffer: records in the order in which things happened, read by the host after each poll. It is linear and
   starts anew with each poll; frames are taken in only while it can hold all that one of them may cause, so that no
   event is ever dropped and the host alone decides the pace. */
#include "abi/events.h"

#include "abi.h"
#include "abi/address_codec.h"
#include "abi/module.h"
#include "abi/work.h"
#include "port/in_place.h"
#include "lwip/opt.h"

#include <string.h>

/* One frame can fill a hole and release a whole window; beside it, its events and those of timers. */
enum { FRAME_RESERVE = ABI_TCP_WINDOW + 65536, OTHER_RESERVE = 196608 };

static uint8_t buffer[ABI_EVENT_CAPACITY] __attribute__((aligned(8)));
static uint32_t *last_data; /* the latest record, if it is a DATA event that may still grow */
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

bool tw_events_have_room_beside(uint32_t payload) {
  return used() + ABI_EVENT_HEADER + payload + 3 + OTHER_RESERVE <= sizeof buffer;
}

IN_PLACE bool tw_events_suffice(void) { return count >= WORK_EVENTS; }

bool tw_events_hold_data(void) { return holds_data; }

static uint8_t *append(uint32_t kind, int32_t handle, int32_t value, uint32_t payload) {
  uint32_t size = (ABI_EVENT_HEADER + payload + 3) & ~3u;
  LWIP_ASSERT("room in the event buffer", used() + size <= sizeof buffer);
  uint32_t *record = (uint32_t *)(void *)(buffer + used());
  record[0] = size;
  record[1] = kind;
  record[2] = (uint32_t)handle;
  record[3] = (uint32_t)value;
  tw_control[ABI_CONTROL_EVENT_LENGTH] += size;
  last_data = NULL;
  count++;
  return (uint8_t *)(record + 4);
}

void tw_event_add(uint32_t kind, int32_t handle, int32_t value) { append(kind, handle, value, 0); }

/* One endpoint or two, then what follows the first `skip` bytes of a packet; the second endpoint and the packet may be
   NULL. */
void tw_event_add_packet(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *first, uint16_t first_port,
                      const ip_addr_t *second, uint16_t second_port, const struct pbuf *packet, uint16_t skip) {
  uint32_t length = packet == NULL ? 0 : packet->tot_len - skip;
  uint32_t addresses = second == NULL ? ABI_ADDRESS_SIZE : 2 * ABI_ADDRESS_SIZE;
  uint8_t *payload = append(kind, handle, value, addresses + length);
  tw_address_write(payload, first, first_port);
  if (second != NULL) {
    tw_address_write(payload + ABI_ADDRESS_SIZE, second, second_port);
  }
  if (packet != NULL) {
    pbuf_copy_partial(packet, payload + addresses, (u16_t)length, skip);
  }
}

void tw_event_add_bytes(uint32_t kind, int32_t handle, int32_t value, const void *payload, uint32_t length) {
  memcpy(append(kind, handle, value, length), payload, length);
}

void tw_event_add_addresses(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *local, uint16_t local_port,
                         const ip_addr_t *remote, uint16_t remote_port) {
  tw_event_add_packet(kind, handle, value, local, local_port, remote, remote_port, NULL, 0);
}

static bool joins(int32_t handle) {
  return last_data != NULL && (int32_t)last_data[2] == handle && last_data[3] < ABI_MAX_DATA;
}

/* Where `length` bytes of data would go, at most ABI_MAX_DATA; tw_event_data_added says that they are there. Data that
   follows data of the same connection joins its record: the host hands up large pieces, not segments. */
uint8_t *tw_event_data_space(int32_t handle, uint32_t length) {
  uint32_t before = joins(handle) && last_data[3] + length <= ABI_MAX_DATA ? last_data[3] : 0;
  uint8_t *record = before != 0 ? (uint8_t *)last_data : buffer + used();
  LWIP_ASSERT("room in the event buffer", record + ABI_EVENT_HEADER + before + length + 3 <= buffer + sizeof buffer);
  return record + ABI_EVENT_HEADER + before;
}

void tw_event_data_added(int32_t handle, uint32_t length) {
  if (!joins(handle) || last_data[3] + length > ABI_MAX_DATA) {
    last_data = (uint32_t *)(void *)(append(ABI_EVENT_DATA, handle, 0, 0) - ABI_EVENT_HEADER);
  }
  last_data[3] += length;
  uint32_t size = (ABI_EVENT_HEADER + last_data[3] + 3) & ~3u;
  tw_control[ABI_CONTROL_EVENT_LENGTH] += size - last_data[0];
  last_data[0] = size;
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
