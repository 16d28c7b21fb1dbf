/* Messages of DHCP on the wire: RFC 2131, section 2, with the options of RFC 2132 that a client reads. */
#ifndef DHCP_MESSAGE_H
#define DHCP_MESSAGE_H

#include "lwip/ip4_addr.h"

#include <stdbool.h>
#include <stdint.h>

struct dhcp_client;
struct pbuf;

enum { DHCP_DISCOVER = 1, DHCP_OFFER, DHCP_REQUEST, DHCP_DECLINE, DHCP_ACKNOWLEDGE, DHCP_REFUSE, DHCP_RELEASE };
enum { DHCP_RECEIVED = 1500 }; /* bytes of the longest message that is received */

struct dhcp_message {
  uint8_t operation, hardware, hardware_length, hops;
  uint32_t transaction;
  uint16_t seconds, flags;
  uint32_t client, yours, next, relay;
  uint8_t hardware_address[16], server_name[64], file[128];
  uint32_t cookie;
};

/* What a server gives: the payload of ABI_EVENT_LEASE. */
struct dhcp_lease {
  ip4_addr_t address, mask, router, server;
  uint32_t seconds, renewal, rebinding; /* UINT32_MAX: for ever */
};

struct dhcp_answer {
  struct dhcp_lease lease; /* for a host only if its mask is not zero */
  uint32_t type, overload, given;
};

struct pbuf *tw_dhcp_message_write(const struct dhcp_client *client, uint8_t type); /* or NULL */
/* False if this is no whole answer to the client's transaction. */
bool tw_dhcp_message_read(const struct dhcp_client *client, const struct dhcp_message *message, uint32_t length,
                          struct dhcp_answer *answer);

#endif
