/* A tap interface with a DHCP client, and a server whose answers a test scripts. */
#ifndef SUPPORT_LEASES_H
#define SUPPORT_LEASES_H

#include "support.h"

enum { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACKNOWLEDGE, REFUSE, RELEASE };
enum { OPTIONS = 240 };

extern const uint8_t SERVER[4], LEASED[4], MASK[4], ALL[4], UNSPECIFIED[4];

extern struct packet packet;
extern int32_t tap;
extern uint8_t reply[600]; /* the message that is being written */
extern uint32_t reply_length, transaction;

void reply_begin(uint8_t type, const uint8_t *address);
void reply_option(uint8_t code, uint8_t length, const uint8_t *value);
void reply_option32(uint8_t code, uint32_t value);
void reply_send_datagram(uint32_t length);
void reply_finish(void);
void reply_send(uint8_t type, uint32_t seconds);
const uint8_t *dhcp_sent(uint8_t type);
int count_arp(void);
void wait_for_arp(void);
void open_tap(void);
void close_tap(void);
uint32_t address_now(void);
void expect_lease(uint32_t seconds);
void obtain_lease(uint32_t seconds);

#endif
