/* Bridges (IEEE 802.1D): the table of learned addresses, and the forwarding of frames from the receive buffer of one port to
   the transmit buffers of others, one copy each. The bridge is a station, too: its netif sends through the ports, and receives
   frames that are addressed to it. There is no spanning tree; a frame is forwarded once for each time it arrives. */
#include "link/bridge.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "link/interface.h"
#include "port/random.h"
#include "lwip/etharp.h"

#include <string.h>

enum {
  WAYS = 8,
  SETS = ABI_MAX_LEARNED / WAYS,
  PORT_SHARE = ABI_MAX_LEARNED / 2, /* entries of one port, so that a flood leaves half of the table to the others */
  DEFAULT_AGEING = 300,             /* seconds: IEEE 802.1D-2004, table 7-5 */
  VLAN_TAG = 4,
  COPIES_A_POLL = 8192, /* of all ports together: a poll stays short in a broadcast storm, too */
};

struct learned {
  uint64_t address;
  struct interface *port; /* NULL: unused */
  uint32_t seen;          /* seconds */
};

struct bridge {
  struct interface *ports;
  uint32_t port_count;
  uint32_t ageing, swept; /* seconds; when expired entries were last looked for */
  struct learned entries[ABI_MAX_LEARNED];
};

static uint32_t seconds(void) { return (uint32_t)(tw_now / 1000000); }

static uint64_t address_at(const uint8_t *bytes) {
  uint64_t address = 0;
  memcpy(&address, bytes, ETH_HWADDR_LEN);
  return address;
}

static bool is_group(const uint8_t *address) { return (address[0] & 1) != 0; }

/* IEEE 802.1D-2004, table 7-10: frames to these addresses are not forwarded. */
static bool is_link_local(const uint8_t *address) {
  static const uint8_t reserved[] = {0x01, 0x80, 0xc2, 0, 0};
  return memcmp(address, reserved, sizeof reserved) == 0 && address[5] <= 0x0f;
}

/* The hash is keyed: a sender cannot aim at the set of a station in order to displace it. */
static struct learned *set_of(struct bridge *table, uint64_t address) {
  return &table->entries[tw_random_keyed(&address, sizeof address) % SETS * WAYS];
}

static bool is_unexpired(const struct bridge *table, const struct learned *entry) {
  return entry->port != NULL && seconds() - entry->seen < table->ageing;
}

static void release(struct learned *entry) {
  entry->port->learned--;
  entry->port = NULL;
}

/* Removes the addresses behind a port, or all that have expired. */
static void forget(struct bridge *table, const struct interface *port) {
  for (struct learned *entry = table->entries; entry < table->entries + ABI_MAX_LEARNED; entry++) {
    if (entry->port != NULL && (port == NULL ? !is_unexpired(table, entry) : entry->port == port)) {
      release(entry);
    }
  }
}

static struct interface *find(struct bridge *table, const uint8_t *bytes) {
  uint64_t address = address_at(bytes);
  struct learned *set = set_of(table, address);
  for (int i = 0; i < WAYS; i++) {
    if (set[i].address == address && is_unexpired(table, &set[i])) {
      return set[i].port;
    }
  }
  return NULL;
}

/* A set that is full of unexpired entries accepts no other: active stations stay in the table, and frames to those without an
   entry are flooded. */
static void learn(struct bridge *table, struct interface *port, const uint8_t *bytes) {
  uint64_t address = address_at(bytes);
  struct learned *set = set_of(table, address), *place = NULL;
  for (int i = 0; i < WAYS; i++) {
    if (set[i].port != NULL && set[i].address == address) {
      place = &set[i]; /* it may have moved */
      break;
    }
    if (place == NULL && !is_unexpired(table, &set[i])) {
      place = &set[i];
    }
  }
  if (place == NULL) {
    return;
  }
  if (place->address != address && port->learned >= PORT_SHARE) {
    if (table->swept == seconds()) {
      return;
    }
    table->swept = seconds();
    forget(table, NULL);
    if (port->learned >= PORT_SHARE) {
      return;
    }
  }
  if (place->port != NULL) {
    release(place);
  }
  port->learned++;
  *place = (struct learned){.address = address, .port = port, .seen = seconds()};
}

static err_t send(struct interface *port, struct pbuf *frame) {
  const uint8_t *bytes = frame->payload;
  bool tagged = frame->len >= SIZEOF_ETH_HDR && bytes[12] == 0x81 && bytes[13] == 0;
  if (frame->tot_len > port->netif.mtu + SIZEOF_ETH_HDR + (tagged ? VLAN_TAG : 0)) {
    port->block[ABI_BLOCK_DROPPED_TOO_LONG]++;
    return ERR_OK; /* lost; TCP would retry without end what a full buffer refused */
  }
  return tw_interface_transmit(&port->netif, frame);
}

/* To the port behind which the destination is, or to all; never to the one it came by. */
static err_t forward(struct interface *bridge, struct interface *from, struct pbuf *frame) {
  const uint8_t *destination = frame->payload;
  struct interface *to = is_group(destination) ? NULL : find(bridge->table, destination);
  if (to != NULL) {
    if (from != NULL) {
      from->copies++;
    }
    return to == from ? ERR_OK : send(to, frame);
  }
  if (from != NULL) {
    from->copies += bridge->table->port_count;
  }
  for (to = bridge->table->ports; to != NULL; to = to->next_port) {
    if (to != from) {
      send(to, frame);
    }
  }
  tw_control[ABI_CONTROL_SENT_AT_ONCE] = 0; /* several have something to send, and that word names one */
  return ERR_OK;
}

err_t tw_bridge_transmit(struct netif *netif, struct pbuf *packet) {
  struct interface *bridge = netif->state;
  bridge->block[ABI_BLOCK_TRANSMITTED_FRAMES]++;
  return forward(bridge, NULL, packet);
}

/* Each port has its share, so that none is starved by the others. */
bool tw_bridge_budget_spent(const struct interface *port) {
  return port->bridge != NULL && port->copies >= COPIES_A_POLL / port->bridge->table->port_count;
}

bool tw_bridge_receive(struct interface *port, uint8_t *frame, uint32_t length) {
  struct interface *bridge = port->bridge;
  /* A frame with the bridge's own source address has passed a loop, or is forged. */
  if (length < SIZEOF_ETH_HDR || length > ABI_MAX_FRAME ||
      memcmp(frame + ETH_HWADDR_LEN, bridge->netif.hwaddr, ETH_HWADDR_LEN) == 0) {
    port->block[ABI_BLOCK_DROPPED_MALFORMED]++;
    return false;
  }
  if (!is_group(frame + ETH_HWADDR_LEN)) {
    learn(bridge->table, port, frame + ETH_HWADDR_LEN);
  }
  if (is_link_local(frame)) {
    return false;
  }
  if (memcmp(frame, bridge->netif.hwaddr, ETH_HWADDR_LEN) == 0) {
    return true;
  }
  struct pbuf record = {.payload = frame, .len = (u16_t)length, .tot_len = (u16_t)length};
  forward(bridge, port, &record);
  return is_group(frame);
}

/* --- Bridges and ports are added and removed -------------------------------------------------------------------- */

bool tw_bridge_start(struct interface *bridge) {
  bridge->table = tw_heap_allocate_zeroed(1, sizeof *bridge->table);
  if (bridge->table != NULL) {
    bridge->table->ageing = DEFAULT_AGEING;
  }
  return bridge->table != NULL;
}

/* What lwIP would still send by a tap that is a port: it is no station any more. */
static err_t refuse(struct netif *netif, struct pbuf *packet) {
  (void)netif;
  (void)packet;
  return ERR_IF;
}

static void remove_port(struct interface *port) {
  struct bridge *table = port->bridge->table;
  struct interface **link = &table->ports;
  while (*link != port) {
    link = &(*link)->next_port;
  }
  *link = port->next_port;
  table->port_count--;
  forget(table, port);
  port->bridge = port->next_port = NULL;
  port->netif.linkoutput = tw_interface_transmit;
  netif_set_flags(&port->netif, NETIF_FLAG_UP);
}

void tw_bridge_forget(struct interface *interface) {
  if (interface->bridge != NULL) {
    remove_port(interface);
  }
  while (interface->table != NULL && interface->table->ports != NULL) {
    remove_port(interface->table->ports);
  }
}

static struct interface *interface_of(int32_t handle, int32_t kind) {
  struct interface *interface = tw_handle_object(handle, HANDLE_INTERFACE);
  return interface != NULL && interface->kind == kind ? interface : NULL;
}

int32_t abi_bridge_add_port(int32_t handle, int32_t tap) {
  struct interface *bridge = interface_of(handle, ABI_KIND_BRIDGE), *port = interface_of(tap, ABI_KIND_TAP);
  if (bridge == NULL || port == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  if (port->bridge != NULL) {
    return ABI_ERROR_EXISTS;
  }
  netif_set_down(&port->netif); /* its neighbours and the packets queued for them are removed, too */
  port->netif.linkoutput = refuse;
  port->bridge = bridge;
  port->next_port = bridge->table->ports;
  bridge->table->ports = port;
  bridge->table->port_count++;
  return 0;
}

int32_t abi_bridge_remove_port(int32_t handle, int32_t tap) {
  struct interface *bridge = interface_of(handle, ABI_KIND_BRIDGE), *port = interface_of(tap, ABI_KIND_TAP);
  if (bridge == NULL || port == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  if (port->bridge != bridge) {
    return ABI_ERROR_NOT_FOUND;
  }
  remove_port(port);
  return 0;
}

int32_t abi_bridge_ageing(int32_t handle, int32_t duration) {
  struct interface *bridge = interface_of(handle, ABI_KIND_BRIDGE);
  if (bridge == NULL || duration < 0) {
    return bridge == NULL ? ABI_ERROR_BAD_HANDLE : ABI_ERROR_INVALID;
  }
  bridge->table->ageing = (uint32_t)duration;
  return 0;
}

int32_t abi_bridge_learned(int32_t handle) {
  struct interface *bridge = interface_of(handle, ABI_KIND_BRIDGE);
  if (bridge == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  forget(bridge->table, NULL);
  int32_t count = 0;
  for (const struct interface *port = bridge->table->ports; port != NULL; port = port->next_port) {
    count += (int32_t)port->learned;
  }
  return count;
}
