/* The internals of an interface, for the files that work on it: interface.c makes and removes them, receive.c passes what the
   embedder put into their receive buffers to lwIP, bridge.c forwards frames from one to another. */
#ifndef INTERFACE_H
#define INTERFACE_H

#include "abi.h"
#include "ip/dhcp_client.h"
#include "port/in_place.h"
#include "lwip/netif.h"

#include <stdbool.h>
#include <stdint.h>

/* An IPv6 address, as it was last reported to the embedder. */
struct known_address {
  ip_addr_t address;
  uint32_t state, valid, preferred;
};

struct interface {
  struct netif netif;
  struct interface *next;
  int32_t handle, kind;
  uint32_t received; /* bytes of the receive buffer that lwIP has seen */
  uint8_t *receive, *transmit; /* a bridge has none: its frames are those of its ports */
  uint32_t block[ABI_BLOCK_WORDS]; /* shared with the embedder */
  uint8_t prefixes[LWIP_IPV6_NUM_ADDRESSES]; /* bits of the networks of its IPv6 addresses */
  struct bridge *table;                /* of a bridge */
  struct interface *bridge, *next_port; /* of its ports */
  uint32_t learned, copies;             /* of a port: addresses behind it; copies made of its frames in this poll */
  /* autoconfiguration.c: whether the embedder is notified of its addresses, whether it acts as a router, and was solicited */
  bool watched, link_local_checked, router, solicited;
  struct known_address known[LWIP_IPV6_NUM_ADDRESSES];
  /* lease.c */
  bool leased, lease_news;
  struct dhcp_client dhcp;
};

struct netif *tw_interface_netif(int32_t handle);
int32_t tw_interface_handle(const struct netif *netif);
bool tw_interface_owns(const ip_addr_t *address);
uint32_t tw_interface_room(const struct netif *netif); /* bytes of records for which its transmit buffer has room */
struct interface *tw_interface_first(void);
err_t tw_interface_transmit(struct netif *netif, struct pbuf *packet);
struct interface *tw_interface_object(int32_t handle); /* or NULL */

IN_PLACE static inline bool interface_is_ethernet(const struct interface *interface) {
  return interface->kind == ABI_KIND_TAP || interface->kind == ABI_KIND_BRIDGE;
}

static inline uint32_t record_size(uint32_t length) {
  return (sizeof(struct abi_record_header) + length + ABI_RECORD_HEADER_ALIGNMENT - 1) & -ABI_RECORD_HEADER_ALIGNMENT;
}

/* The record that begins at so many bytes of a buffer; its frame follows the header. */
static inline struct abi_record_header *record_at(uint8_t *buffer, uint32_t at) { return (void *)(buffer + at); }

#endif
