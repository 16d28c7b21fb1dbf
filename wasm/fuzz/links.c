/* Interfaces of each kind are added and removed, and with them the networks of the peers: peer p of network n has the addresses
   10.n.0.(2 + p) and fd00:n::(2 + p). */
#include "fuzz.h"

struct link links[MAX_LINKS];
static uint32_t numbers;

struct interface *link_interface(const struct link *link) {
  struct interface *interface = tw_interface_object(link->handle);
  CHECK(interface != NULL, "link of network %u", link->number);
  return interface;
}

bool link_is_ethernet(const struct link *link) { return link->kind == ABI_KIND_TAP || link->kind == ABI_KIND_BRIDGE; }

struct link *link_that(bool (*fits)(const struct link *)) {
  for (uint32_t i = 0, first = below(MAX_LINKS); i < MAX_LINKS; i++) {
    struct link *link = &links[(first + i) % MAX_LINKS];
    if (link->handle != 0 && fits(link)) {
      return link;
    }
  }
  return NULL;
}

static bool carries_packets(const struct link *link) { return link->kind != ABI_KIND_LOOPBACK && link->bridge < 0; }

struct link *link_any(void) { return link_that(carries_packets); }

struct link *link_of(int32_t handle) {
  for (uint32_t i = 0; i < MAX_LINKS; i++) {
    if (links[i].handle == handle && handle != 0) {
      return &links[i];
    }
  }
  return NULL;
}

void peer_address(const struct link *link, uint32_t peer, bool six, uint8_t *address) {
  memset(address, 0, 16);
  if (six) {
    address[0] = 0xfd;
    address[3] = (uint8_t)link->number;
    address[15] = (uint8_t)(2 + peer);
  } else {
    address[0] = 10;
    address[1] = (uint8_t)link->number;
    address[3] = (uint8_t)(2 + peer);
  }
}

void peer_mac(const struct link *link, uint32_t peer, uint8_t *mac) {
  memset(mac, 0, 6);
  mac[0] = 2;
  mac[4] = (uint8_t)link->number;
  mac[5] = (uint8_t)(2 + peer);
}

/* Peers of a bridge are behind its ports, each mostly behind the same one. */
static struct link *port_for(const struct link *bridge, uint32_t peer) {
  uint32_t wanted = percent(2) ? any() : peer;
  for (uint32_t i = 0; i < MAX_LINKS; i++) {
    struct link *port = &links[(wanted + i) % MAX_LINKS];
    if (port->handle != 0 && port->bridge == bridge - links) {
      return port;
    }
  }
  return NULL;
}

void link_put(struct link *link, uint32_t peer, const uint8_t *frame, uint32_t length) {
  if (link->kind == ABI_KIND_BRIDGE) {
    link = port_for(link, peer);
  }
  if (link == NULL || link->handle == 0 || link->kind == ABI_KIND_LOOPBACK) {
    return;
  }
  struct interface *interface = link_interface(link);
  uint32_t at = interface->block[ABI_BLOCK_RECEIVE_LENGTH];
  if (at + record_size(length) > ABI_RECEIVE_CAPACITY) {
    return;
  }
  memcpy(interface->receive + at, &length, sizeof length);
  memcpy(interface->receive + at + ABI_RECORD_HEADER_SIZE, frame, length);
  interface->block[ABI_BLOCK_RECEIVE_LENGTH] = at + record_size(length);
  totals->frames_in++;
}

/* --- Interfaces are added and removed --------------------------------------------------------------------------- */

static void set_addresses(struct link *link) {
  peer_address(link, 0, false, link->own4);
  link->own4[3] = 1;
  peer_address(link, 0, true, link->own6);
  link->own6[15] = 1;
  if (link->kind == ABI_KIND_LOOPBACK) {
    memcpy(link->own4, (const uint8_t[]){127, 0, 0, 1}, 4);
    memset(link->own6, 0, 15);
  }
  if (percent(90)) {
    memcpy(tw_scratch.bytes, link->own4, 4);
    link->has4 = abi_interface_address(link->handle, ABI_FAMILY_IPV4, link->kind == ABI_KIND_LOOPBACK ? 8 : 24) == 0;
  } else if (link->kind == ABI_KIND_TAP) {
    abi_dhcp_start(link->handle);
    link->leased = true;
  }
  if (link->mtu >= 1280 && percent(90)) {
    memcpy(tw_scratch.bytes, link->own6, 16);
    link->has6 = abi_interface_address(link->handle, ABI_FAMILY_IPV6, link->kind == ABI_KIND_LOOPBACK ? 128 : 64) == 0;
    if (link->has6 && link->kind == ABI_KIND_TAP && percent(20)) {
      memcpy(tw_scratch.bytes, link->own6, 16);
      abi_interface_check_address(link->handle, 1);
    }
  }
  if (link->kind == ABI_KIND_TAP && percent(30)) {
    link->automatic = abi_interface_autoconfigure(link->handle, 1) == 0;
  }
}

static uint32_t any_mtu(void) {
  if (percent(style.big_mtu)) {
    return ONE_OF(65535, 9000, 16384, 32768, 65521);
  }
  return percent(80) ? 1500 : ONE_OF(1280, 1400, 576, 68, 100, 296, 1281);
}

static struct link *add(int32_t kind) {
  struct link *link = links;
  while (link < links + MAX_LINKS && link->handle != 0) {
    link++;
  }
  if (link == links + MAX_LINKS) {
    return NULL;
  }
  memset(link, 0, sizeof *link);
  link->kind = kind;
  link->number = 1 + numbers++ % 200;
  link->bridge = -1;
  link->mtu = any_mtu();
  peer_mac(link, 0, link->mac);
  link->mac[5] = 1;
  memcpy(tw_scratch.bytes, link->mac, 6);
  int32_t handle = abi_interface_add(kind, (int32_t)link->mtu, 1);
  if (handle < 0) {
    CHECK(handle == ABI_ERROR_NO_MEMORY || handle == ABI_ERROR_LIMIT, "%d", handle);
    return NULL;
  }
  link->handle = handle;
  link->mtu = SMALLER(link->mtu, link_is_ethernet(link) ? ABI_MAX_FRAME - 14 : ABI_MAX_FRAME);
  link->checksums = kind != ABI_KIND_LOOPBACK && percent(85);
  abi_interface_checksums(handle, link->checksums);
  memcpy(link->local6, (const uint8_t[]){0xfe, 0x80, [11] = 0xff, 0xfe, 0, 0, 1}, 16);
  link->local6[14] = (uint8_t)link->number;
  return link;
}

static void add_port(struct link *bridge) {
  struct link *tap = add(ABI_KIND_TAP);
  if (tap != NULL && abi_bridge_add_port(bridge->handle, tap->handle) == 0) {
    tap->bridge = (int32_t)(bridge - links);
  }
}

void link_add(int32_t kind) {
  struct link *link = add(kind);
  if (link == NULL) {
    return;
  }
  set_addresses(link);
  for (uint32_t ports = kind == ABI_KIND_BRIDGE ? 1 + below(3) : 0; ports > 0; ports--) {
    add_port(link);
  }
}

void link_remove(struct link *link) {
  flows_forget(link);
  for (uint32_t i = 0; link->kind == ABI_KIND_BRIDGE && i < MAX_LINKS; i++) {
    if (links[i].handle != 0 && links[i].bridge == link - links) {
      links[i].bridge = -1;
    }
  }
  CHECK(abi_interface_remove(link->handle) == 0, "network %u", link->number);
  CHECK(abi_interface_remove(link->handle) == ABI_ERROR_BAD_HANDLE, "network %u", link->number);
  link->handle = 0;
}

void links_start(void) {
  numbers = 0;
  if (percent(70)) {
    link_add(ABI_KIND_LOOPBACK);
  }
  for (uint32_t count = 1 + below(3); count > 0; count--) {
    link_add(percent(50) ? ABI_KIND_TUN : ABI_KIND_TAP);
  }
  if (percent(40)) {
    link_add(ABI_KIND_BRIDGE);
  }
  abi_forwarding(percent(40));
}
