/* The path MTU of open connections over IPv6. */
#ifndef PATH_MTU_H
#define PATH_MTU_H

#include "tcp/connection.h"

uint32_t tw_path_mtu_follow(struct connection *connection); /* divides queued segments; returns how many they were */

#endif
