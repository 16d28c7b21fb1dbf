/* Errors about our own packets. */
#ifndef ICMP_H
#define ICMP_H

#include <stdint.h>

void tw_icmp_unresolved(const uint8_t *packet, uint32_t length); /* from one of our addresses */
extern uint32_t tw_icmp_unmatched; /* messages that quote none of our packets */

#endif
