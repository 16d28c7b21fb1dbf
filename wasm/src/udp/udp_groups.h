/* The multicast groups of UDP sockets. */
#ifndef UDP_GROUPS_H
#define UDP_GROUPS_H

#include "udp/udp_calls.h"

void tw_udp_leave_all(struct udp_socket *socket);

#endif
