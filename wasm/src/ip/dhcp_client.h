/* A client of DHCP (RFC 2131), one for each interface that leases its IPv4 address. It owns the address from the moment it is
   bound until it is lost; lease.c notifies the embedder. */
#ifndef DHCP_CLIENT_H
#define DHCP_CLIENT_H

#include "ip/dhcp_message.h"
#include "lwip/err.h"
#include "lwip/ip_addr.h"

#include <stdbool.h>
#include <stdint.h>

struct interface;
struct netif;

/* RFC 2131, figure 5. From DHCP_ANNOUNCING on the address is the interface's. There is no INIT-REBOOT: no interface of ours
   loses its link and finds it again, and the embedder keeps no lease. */
enum dhcp_state {
  DHCP_OFF,
  DHCP_SELECTING, /* or INIT, as long as nothing was sent */
  DHCP_REQUESTING,
  DHCP_PROBING,    /* acknowledged; does another host have the address? */
  DHCP_ANNOUNCING, /* bound, announced once */
  DHCP_BOUND,
  DHCP_RENEWING,
  DHCP_REBINDING,
};

struct dhcp_client {
  uint8_t state, tries, conflicts;
  uint16_t seconds; /* since the search began, or the renewal */
  uint32_t transaction;
  struct netif *netif;
  struct dhcp_lease lease; /* offered, then acknowledged */
  ip_addr_t to;            /* of messages; IPv4, as zeros are */
  uint64_t due;            /* us: when to act next */
  uint64_t since;          /* us: when the search for an address began, or the lease */
  uint64_t asked;          /* us: when the latest message was sent */
  uint64_t defends;        /* us: from when on another claim to the address is answered again */
};

err_t tw_dhcp_client_start(struct interface *interface);
void tw_dhcp_client_stop(struct dhcp_client *client);
bool tw_dhcp_client_accept(struct dhcp_client *client, const struct dhcp_message *message, uint32_t length);
uint64_t tw_dhcp_clients_run(void); /* does what is due; us: when the next is, or UINT64_MAX */

static inline bool dhcp_client_is_bound(const struct dhcp_client *client) { return client->state >= DHCP_ANNOUNCING; }

#endif
