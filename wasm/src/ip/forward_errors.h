/* The error to the sender of a packet that is not forwarded. */
#ifndef FORWARD_ERRORS_H
#define FORWARD_ERRORS_H

#include <stdint.h>

enum icmp_reason { NET_UNREACHABLE, HOST_UNREACHABLE, TOO_BIG, EXPIRED };
/* `word` is what the message has room for. */
void tw_forward_send_error(enum icmp_reason reason, const uint8_t *packet, uint32_t length, uint32_t word);

#endif
