#include "fuzz.h"
void datagrams_step(void) {}
void messages_step(void) {}
void router_step(void) {}
void datagram_event(uint32_t kind, int32_t handle, int32_t value, const uint8_t *payload, uint32_t length) {(void)kind;(void)handle;(void)value;(void)payload;(void)length;}
void datagram_heard(const struct heard *heard) {(void)heard;}
void datagrams_end(void) {}
void message_heard(const struct heard *heard) { if (heard->protocol == ICMP6_PROTOCOL && heard->payload[0] == 135) solicitation_heard(heard); }
