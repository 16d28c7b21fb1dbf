/* Frames between the buffers of the interfaces and lwIP. */
#ifndef RECEIVE_H
#define RECEIVE_H

#include <stdbool.h>

bool tw_interfaces_receive(void);  /* passes waiting frames to lwIP; true if some are left */
bool tw_interfaces_announce(void); /* a TRANSMIT event for each interface with frames to send; true if one loops */

#endif
