/* The route of a UDP datagram. */
#ifndef UDP_SEND_H
#define UDP_SEND_H

#include "udp/udp_calls.h"

struct netif *tw_udp_group_route(const struct udp_socket *socket, const ip_addr_t *group);
/* For 255.255.255.255, `by` is NULL afterwards where it leaves by every interface that can. */
int32_t tw_udp_route(const struct udp_socket *socket, const ip_addr_t *destination, const ip_addr_t **source,
                     struct netif **by);

#endif
