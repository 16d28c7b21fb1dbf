/* One UDP socket as the host knows it, for the files that work on it. */
#ifndef UDP_SOCKET_H
#define UDP_SOCKET_H

#include "output.h"
#include "lwip/udp.h"

struct membership {
  ip_addr_t group;
  int32_t interface; /* a handle: it may be gone by now */
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

struct udp_socket *udp_first(void);
struct netif *udp_group_route(const struct udp_socket *socket, const ip_addr_t *group);
/* For 255.255.255.255, `by` is NULL afterwards where it leaves by every interface that can. */
int32_t udp_route(const struct udp_socket *socket, const ip_addr_t *destination, const ip_addr_t **source,
                  struct netif **by);
void udp_leave_all(struct udp_socket *socket); /* udp_groups.c */

/* udp_receive.c */
void udp_deliver(const struct udp_socket *socket, const struct pbuf *data, const ip_addr_t *source, uint16_t from,
                 const ip_addr_t *destination);
/* `data` has been sent; a copy is kept where this host is one of the receivers. */
void udp_loop(const struct udp_socket *socket, struct netif *by, const ip_addr_t *source, const ip_addr_t *destination,
              uint16_t to, struct pbuf *data);

#endif
