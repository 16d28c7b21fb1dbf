/* A packet of ours that a message quotes, for the two files that process such messages. */
#ifndef ICMP_ERROR_H
#define ICMP_ERROR_H

#include "ip/ping.h"

/* From its IP header, and the first eight bytes behind it. */
struct quote {
  ip_addr_t local, remote;
  uint8_t protocol;
  const uint8_t *content;
};

/* False if it is truncated, or a later fragment. */
bool tw_quote_read(struct quote *quote, bool v6, const uint8_t *packet, uint32_t length, const struct netif *by);
/* Whether a socket may have sent it; one that is connected is notified of the error, unless that is 0. */
bool tw_quote_of_udp(const struct quote *quote, int32_t error);
const struct ping *tw_quote_of_ping(const struct quote *quote, uint8_t request); /* or NULL */

#endif
