/* The delivery of UDP datagrams to sockets. */
#ifndef UDP_RECEIVE_H
#define UDP_RECEIVE_H

#include "udp/udp_calls.h"

void tw_udp_deliver(const struct udp_socket *socket, const struct pbuf *data, const ip_addr_t *source, uint16_t from,
                    const ip_addr_t *destination);
/* `data` has been sent; a copy is kept where this host is one of the receivers. */
void tw_udp_loop(const struct udp_socket *socket, struct netif *by, const ip_addr_t *source, const ip_addr_t *destination,
                 uint16_t to, struct pbuf *data);
bool tw_udp_loop_back(void); /* delivers what own sockets sent to groups of this host; true if some is left */

#endif
