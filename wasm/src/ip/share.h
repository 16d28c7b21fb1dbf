/* Which of several sockets that share a port a flow belongs to: the one with the largest of these numbers. */
#ifndef SHARE_H
#define SHARE_H

#include "lwip/ip_addr.h"

#include <stdint.h>

uint64_t tw_share_weight(int32_t handle, const ip_addr_t *source, uint16_t from, const ip_addr_t *destination, uint16_t to);

#endif
