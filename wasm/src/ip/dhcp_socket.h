/* The UDP socket that all DHCP clients share. */
#ifndef DHCP_SOCKET_H
#define DHCP_SOCKET_H

#include "ip/dhcp_client.h"

err_t tw_dhcp_socket_open(void); /* for one more client */
void tw_dhcp_socket_close(void); /* for one less */
void tw_dhcp_socket_send(struct dhcp_client *client, uint8_t type);

#endif
