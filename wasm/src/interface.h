/* The inside of an interface, for the files that work on it: interface.c makes and removes them, receive.c feeds what
   the host put into their receive buffers to lwIP, bridge.c passes frames from one to another. */
#ifndef INTERFACE_H
#define INTERFACE_H

#include "host.h"
#include "lwip/dhcp.h"

/* An IPv6 address as the host knows it. */
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
  uint32_t block[ABI_BLOCK_WORDS]; /* shared with the host */
  uint8_t prefixes[LWIP_IPV6_NUM_ADDRESSES]; /* bits of the networks of its IPv6 addresses */
  struct bridge *table;                /* of a bridge */
  struct interface *bridge, *next_port; /* of its ports */
  uint32_t learned, copies;             /* of a port: addresses behind it; what it has had copied in this poll */
  /* autoconfiguration.c: whether the host hears of its addresses, whether it acts as a router, and was asked */
  bool watched, link_local_checked, router, solicited;
  struct known_address known[LWIP_IPV6_NUM_ADDRESSES];
  /* lease.c */
  bool leased, lease_news;
  struct dhcp dhcp;
};

struct interface *interface_first(void);
err_t interface_transmit(struct netif *netif, struct pbuf *packet);
struct interface *interface_object(int32_t handle); /* or NULL */

IN_PLACE static inline bool interface_is_ethernet(const struct interface *interface) {
  return interface->kind == ABI_KIND_TAP || interface->kind == ABI_KIND_BRIDGE;
}

/* bridge.c */
bool bridge_start(struct interface *bridge); /* false: no memory */
void bridge_forget(struct interface *interface); /* it goes: a bridge, or a tap that may be a port of one */
err_t bridge_transmit(struct netif *netif, struct pbuf *packet);
bool bridge_is_tired(const struct interface *port); /* the frames that are left have to wait for the next poll */
bool bridge_receive(struct interface *port, uint8_t *frame, uint32_t length); /* true: it is for the bridge itself, too */

/* lease.c */
void lease_end(struct interface *interface);
void lease_report(struct interface *interface);

/* tcp_receive.c: true if the frame was the next data segment of a connection, and has been taken in. */
bool tcp_receive_predicted(struct interface *interface, const uint8_t *frame, uint32_t length);

static inline uint32_t record_size(uint32_t length) {
  return (sizeof(struct abi_record_header) + length + ABI_RECORD_HEADER_ALIGNMENT - 1) & -ABI_RECORD_HEADER_ALIGNMENT;
}

/* The record that begins at so many bytes of a buffer; its frame follows the header. */
static inline struct abi_record_header *record_at(uint8_t *buffer, uint32_t at) { return (void *)(buffer + at); }

#endif
