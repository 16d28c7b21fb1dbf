/* The states of a DHCP client: RFC 2131, with the address probed and defended by RFC 5227. Only an answer to the transaction
   that is under way, from the server that was chosen, changes them. Nothing ticks: each client has a time at which it acts. */
#include "ip/dhcp_client.h"

#include "lwip_hooks.h"
#include "abi/module.h"
#include "ip/dhcp_socket.h"
#include "ip/lease.h"
#include "link/interface.h"
#include "port/timers.h"
#include "lwip/etharp.h"

#include <string.h>

enum { SECOND = 1000000, MILLISECOND = 1000 };
enum {
  MOST_REQUESTS = 5, /* in a minute, then another DISCOVER: section 3.1 (5) */
  LEAST_WAIT = 60, /* seconds between two requests for a renewal: section 4.4.5 */
  /* RFC 5227, section 1.1: fast links may have shorter times than its seconds. */
  PROBES = 3,
  PROBE_WAIT = 250 * MILLISECOND, /* after each, and for an answer to the last */
  PROBE_SPAN = 150 * MILLISECOND,
  ANNOUNCE_WAIT = 2 * SECOND,
  DEFEND_WAIT = 10 * SECOND,
  CONFLICT_WAIT = 10 * SECOND, /* section 3.1 (5); after several, that of RFC 5227, section 2.1.1: a minute */
  MOST_CONFLICTS = 6,
};

/* After so many microseconds, and up to `span` more: at random, so that many clients do not act at once. */
static void act_in(struct dhcp_client *client, uint32_t wait, uint32_t span) {
  client->due = tw_now + 1 + wait + tw_random_u32() % span;
  tw_timers_changed();
}

/* So many seconds after the lease has begun. */
static void act_after(struct dhcp_client *client, uint32_t seconds) {
  uint64_t due = client->since + (uint64_t)seconds * SECOND;
  client->due = seconds == UINT32_MAX ? UINT64_MAX : LWIP_MAX(due, tw_now + 1);
  tw_timers_changed();
}

static uint32_t seconds_since(const struct dhcp_client *client) {
  return (uint32_t)LWIP_MIN((tw_now - client->since) / SECOND, UINT32_MAX);
}

static void enter(struct dhcp_client *client, uint8_t state) {
  client->state = state;
  client->tries = 0;
}

/* Section 4.1: after each message twice the time, give or take a second, up to 64 s. Section 4.4.1: a REQUEST has the seconds
   of the DISCOVER. */
static void ask(struct dhcp_client *client) {
  uint8_t type = DHCP_REQUEST;
  if (client->state == DHCP_SELECTING) {
    type = DHCP_DISCOVER;
    client->seconds = (uint16_t)seconds_since(client);
  }
  tw_dhcp_socket_send(client, type);
  client->tries = (uint8_t)LWIP_MIN(client->tries + 1, 6);
  act_in(client, ((uint32_t)SECOND << client->tries) - SECOND, 2 * SECOND);
}

/* Without the former address, if there was one. */
static void begin(struct dhcp_client *client) {
  if (dhcp_client_is_bound(client)) {
    netif_set_addr(client->netif, NULL, NULL, NULL);
  }
  enter(client, DHCP_SELECTING);
  client->transaction = tw_random_u32();
  client->since = tw_now;
}

static void search(struct dhcp_client *client) {
  begin(client);
  ask(client);
}

static void bind(struct dhcp_client *client) {
  client->state = DHCP_BOUND;
  netif_set_addr(client->netif, &client->lease.address, &client->lease.mask, &client->lease.router);
  tw_lease_bound(client->netif);
  act_after(client, client->lease.renewal);
}

/* Section 4.4.5: half of the time that is left until the next state is waited for an answer. */
static void renew(struct dhcp_client *client) {
  const struct dhcp_lease *lease = &client->lease;
  uint32_t passed = seconds_since(client), until = lease->rebinding;
  uint8_t state = DHCP_RENEWING;
  if (passed >= lease->seconds) {
    search(client);
    return;
  }
  if (passed >= until) {
    until = lease->seconds;
    state = DHCP_REBINDING;
  }
  if (client->state != state) {
    client->state = state;
    client->transaction = tw_random_u32();
  }
  client->seconds = (uint16_t)(passed - lease->renewal);
  tw_dhcp_socket_send(client, DHCP_REQUEST);
  act_after(client, passed + LWIP_MIN(LWIP_MAX((until - passed) / 2, LEAST_WAIT), until - passed));
}

/* A probe as long as the interface has no address, RFC 5227, section 2.1.1; then an announcement, section 2.3. */
static void claim(struct dhcp_client *client) { etharp_request(client->netif, &client->lease.address); }

static void act(struct dhcp_client *client) {
  if (client->state == DHCP_PROBING) {
    act_in(client, PROBE_WAIT, PROBE_SPAN);
    if (client->tries++ == PROBES) {
      client->conflicts = 0;
      bind(client);
      client->state = DHCP_ANNOUNCING;
      client->due = LWIP_MIN(client->due, tw_now + ANNOUNCE_WAIT);
    }
    claim(client);
  } else if (client->state == DHCP_ANNOUNCING) {
    client->state = DHCP_BOUND;
    claim(client);
    act_after(client, client->lease.renewal);
  } else if (dhcp_client_is_bound(client)) {
    renew(client);
  } else if (client->state == DHCP_REQUESTING && client->tries == MOST_REQUESTS) {
    search(client);
  } else {
    ask(client);
  }
}

/* SELECTING is followed by REQUESTING, and that by PROBING; other states are bound at once. */
static void take(struct dhcp_client *client, const struct dhcp_lease *lease) {
  client->lease = *lease;
  enter(client, client->state + 1);
}

/* Section 4.4.1: false for what does not answer the latest message. */
bool tw_dhcp_client_accept(struct dhcp_client *client, const struct dhcp_message *message, uint32_t length) {
  struct dhcp_answer answer;
  const struct dhcp_lease *lease = &answer.lease;
  uint8_t state = client->state;
  bool selecting = state == DHCP_SELECTING;
  if ((!selecting && state != DHCP_REQUESTING && state < DHCP_RENEWING) ||
      !tw_dhcp_message_read(client, message, length, &answer) || (answer.type == DHCP_OFFER) != selecting ||
      lease->server.addr == 0 || (!selecting && state != DHCP_REBINDING && lease->server.addr != client->lease.server.addr)) {
    return false;
  }
  if (answer.type == DHCP_REFUSE) {
    search(client);
    return true;
  }
  if (lease->mask.addr == 0 || (!selecting && (answer.type != DHCP_ACKNOWLEDGE || lease->seconds == 0 ||
                                               lease->address.addr != client->lease.address.addr))) {
    return false;
  }
  take(client, lease);
  if (selecting) {
    ask(client);
    return true;
  }
  tw_lease_acknowledged(client->netif, message, length);
  client->since = client->asked; /* section 4.4.5 */
  if (state == DHCP_REQUESTING) {
    act_in(client, 0, PROBE_SPAN);
  } else {
    bind(client);
  }
  return true;
}

/* LWIP_HOOK_ETHARP_RECEIVED: RFC 5227, section 2.1.1 before the address is in use. From then on it is kept, section 2.4 (c), so
   that forged frames do not remove it. */
void tw_dhcp_arp_received(struct netif *netif, const struct etharp_hdr *packet) {
  struct dhcp_client *client = &((struct interface *)netif->state)->dhcp;
  bool own = memcmp(&packet->shwaddr, netif->hwaddr, ETH_HWADDR_LEN) == 0, bound = dhcp_client_is_bound(client);
  uint32_t sender, target, address = client->lease.address.addr;
  memcpy(&sender, &packet->sipaddr, sizeof sender);
  memcpy(&target, &packet->dipaddr, sizeof target);
  if (own || (sender != address && (bound || sender != 0 || target != address))) {
    return;
  }
  if (bound && tw_now >= client->defends) {
    client->defends = tw_now + DEFEND_WAIT;
    claim(client);
  } else if (client->state == DHCP_PROBING) {
    tw_dhcp_socket_send(client, DHCP_DECLINE);
    begin(client);
    client->conflicts = (uint8_t)LWIP_MIN(client->conflicts + 1, MOST_CONFLICTS);
    act_in(client, client->conflicts * CONFLICT_WAIT, 1);
  }
}

err_t tw_dhcp_client_start(struct interface *interface) {
  struct dhcp_client *client = &interface->dhcp;
  err_t error = client->state == DHCP_OFF ? tw_dhcp_socket_open() : ERR_OK;
  if (error != ERR_OK) {
    return error;
  }
  client->netif = &interface->netif;
  client->conflicts = 0;
  search(client);
  return ERR_OK;
}

/* An address is released, if the server can be reached at once. */
void tw_dhcp_client_stop(struct dhcp_client *client) {
  if (client->state == DHCP_OFF) {
    return;
  }
  if (dhcp_client_is_bound(client)) {
    tw_dhcp_socket_send(client, DHCP_RELEASE);
  }
  begin(client);
  client->state = DHCP_OFF;
  tw_dhcp_socket_close();
  tw_timers_changed();
}

uint64_t tw_dhcp_clients_run(void) {
  uint64_t next = UINT64_MAX;
  for (struct interface *interface = tw_interface_first(); interface != NULL; interface = interface->next) {
    struct dhcp_client *client = &interface->dhcp;
    if (client->state != DHCP_OFF) {
      if (client->due <= tw_now) {
        act(client);
      }
      next = LWIP_MIN(next, client->due);
    }
  }
  return next;
}
