/* The events of a poll, in order. */
#ifndef EVENTS_H
#define EVENTS_H

#include "abi.h"
#include "lwip/ip_addr.h"
#include "lwip/pbuf.h"

#include <stdbool.h>
#include <stdint.h>

void tw_events_reset(void);
bool tw_events_have_room(void); /* for all that one received frame can cause */
bool tw_events_have_room_beside(uint32_t payload); /* for one more event of a frame that causes many */
bool tw_events_suffice(void);   /* there are enough for one poll */
bool tw_events_hold_data(void);
void *tw_event_append(uint32_t kind, int32_t handle, int32_t value, uint32_t payload);
void tw_event_add(uint32_t kind, int32_t handle, int32_t value);
void tw_event_add_addresses(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *local, uint16_t local_port,
                            const ip_addr_t *remote, uint16_t remote_port);
void tw_event_add_data(int32_t handle, const struct pbuf *data);
uint8_t *tw_event_data_space(int32_t handle, uint32_t length);
void tw_event_data_added(int32_t handle, uint32_t length);
void tw_event_add_packet(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *first, uint16_t first_port,
                         const ip_addr_t *second, uint16_t second_port, const struct pbuf *packet, uint16_t skip);
void tw_event_add_bytes(uint32_t kind, int32_t handle, int32_t value, const void *payload, uint32_t length);

#endif
