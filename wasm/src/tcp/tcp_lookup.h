/* Which connection a segment belongs to; what lwIP calls of it is declared in lwip_hooks.h. */
#ifndef TCP_LOOKUP_H
#define TCP_LOOKUP_H

#include "lwip_hooks.h"
#include "lwip/ip_addr.h"

#include <stdbool.h>
#include <stdint.h>

bool tw_tcp_tuple_take(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote, uint16_t remote_port);
uint32_t tw_tcp_time_wait_count(void);

#endif
