/* One ping session, for the two files that work on it. */
#ifndef PING_H
#define PING_H

#include "ip/send_room.h"

struct ping {
  struct ping *next;
  ip_addr_t remote;
  struct room_waiter waiter;
  int32_t handle;
  uint16_t identifier;
};

struct ping *tw_ping_find(uint16_t identifier); /* or NULL */

#endif
