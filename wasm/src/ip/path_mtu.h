/* The path MTU of open connections. */
#ifndef PATH_MTU_H
#define PATH_MTU_H

#include "ip/icmp_error.h"
#include "tcp/connection.h"

extern bool tw_ip4_whole; /* no router may fragment the next packet */

uint32_t tw_path_mtu_follow(struct connection *connection); /* divides queued segments; returns how many they were */
bool tw_path_mtu_accept4(const struct quote *quote, uint32_t length,
                         uint32_t mtu); /* whether a packet of that length is quoted */
void tw_path_mtu_suspect(struct tcp_pcb *pcb); /* a segment was retransmitted */
void tw_path_mtu_learn(struct connection *connection); /* an acknowledgement may cover a part of a segment */

#endif
