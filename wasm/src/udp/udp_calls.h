/* One UDP socket, for the files that work on it. */
#ifndef UDP_CALLS_H
#define UDP_CALLS_H

#include "ip/send_room.h"
#include "lwip/udp.h"

struct membership {
  ip_addr_t group;
  int32_t interface; /* a handle: the interface may have been removed */
};

struct udp_socket {
  struct udp_pcb *pcb;
  struct udp_socket *next;
  int32_t handle;
  int32_t group_interface; /* handle of the interface for groups and 255.255.255.255, or 0 */
  bool keeps_groups_off;   /* own members do not receive what it sends to a group */
  struct room_waiter waiter;
  uint32_t membership_count;
  struct membership *memberships; /* NULL before the first */
};

struct udp_socket *tw_udp_first(void);

#endif
