/* UDP sockets, multicast groups and ping sessions. A datagram begins with a mark, its length and a key; its other bytes follow
   from the key. A datagram without the mark may have been damaged and is not checked. */
#include "fuzz.h"
#include "abi/staging.h"

enum { MAX_SOCKETS = 24, MAX_PINGS = 6, MARK = 0x5a, HEAD = 8, FIRST_PORT = 5000, PORTS = 12 };

static struct {
  int32_t handle, family;
} sockets[MAX_SOCKETS];
static struct {
  int32_t handle;
  bool six;
  uint32_t sequence;
} pings[MAX_PINGS];

static void fill(uint8_t *bytes, uint32_t length) {
  uint32_t key = any();
  if (length < HEAD) {
    memset(bytes, 0, length);
    return;
  }
  bytes[0] = MARK;
  bytes[1] = 0;
  put16(bytes + 2, length);
  put32(bytes + 4, key);
  filler_put(bytes + HEAD, length - HEAD, key, 0);
}

static void check(const uint8_t *bytes, uint32_t length) {
  if (length >= HEAD && bytes[0] == MARK && bytes[1] == 0) {
    CHECK(get16(bytes + 2) == length, "datagram of %u bytes is %u long", get16(bytes + 2), length);
    CHECK(filler_is(bytes + HEAD, length - HEAD, get32(bytes + 4), 0), "datagram of %u bytes", length);
  }
}

static uint32_t any_length(void) { return percent(80) ? size_up_to(1472) : size_up_to(ABI_MAX_DATAGRAM); }

/* Addresses of all kinds: peers, the stack's own, groups, broadcasts. */
static bool put_endpoint(bool six, bool group, uint32_t port) {
  struct link *link = link_any();
  if (link == NULL) {
    return false;
  }
  uint32_t head[3] = {six ? 6 : 4, port, 0};
  uint8_t address[16];
  peer_address(link, below(PEERS), six, address);
  if (group) {
    memset(address, 0, 16);
    address[0] = six ? 0xff : 239;
    address[1] = six ? (uint8_t)ONE_OF(2, 5) : 1;
    address[six ? 15 : 3] = (uint8_t)(16 + below(4));
    head[2] = six && address[1] == 2 ? (uint32_t)link->handle : 0;
  } else if (percent(20)) {
    memcpy(address, six ? link->own6 : link->own4, six ? 16 : 4);
  } else if (!six && percent(5)) {
    memset(address, 0xff, 4);
  } else if (!six && percent(5)) {
    address[3] = 255;
  } else if (percent(3)) {
    memset(address, (int)below(256), 16);
  }
  memset(tw_scratch.bytes, 0, ABI_SCRATCH_CAPACITY);
  memcpy(tw_scratch.bytes, head, sizeof head);
  memcpy(tw_scratch.bytes + sizeof head, address, six ? 16 : 4);
  return true;
}

static void open_socket(uint32_t index) {
  memset(tw_scratch.bytes, 0, 16);
  struct link *link = link_any();
  int32_t family = (int32_t)ONE_OF(0, 4, 6);
  if (link != NULL && family != 0 && percent(30)) {
    memcpy(tw_scratch.bytes, family == 6 ? link->own6 : link->own4, 16);
  }
  int32_t handle = abi_udp_open(family, (int32_t)(percent(80) ? FIRST_PORT + below(PORTS) : 0), 0);
  sockets[index].handle = LARGER(handle, 0);
  sockets[index].family = family;
}

static void use_socket(int32_t handle, bool six) {
  int32_t result;
  uint32_t length = any_length();
  switch (below(10)) {
    case 0:
      CHECK(abi_udp_option(handle, ABI_OPTION_BROADCAST, 1) == 0, "%x", handle);
      result = abi_udp_option(handle, (int32_t)(ABI_OPTION_HOP_LIMIT + below(5)), (int32_t)ONE_OF(0, 1, 64, 255, 256));
      CHECK(result == 0 || result == ABI_ERROR_INVALID, "%d", result);
      break;
    case 1:
    case 2: {
      struct link *link = link_any();
      put_endpoint(six, true, 0);
      abi_udp_group(handle, (int32_t)ONE_OF(1, 1, 0), link != NULL && percent(50) ? link->handle : 0);
      break;
    }
    case 3:
      if (put_endpoint(six, percent(10), FIRST_PORT + below(PORTS))) {
        abi_udp_connect(handle);
      }
      break;
    default: {
      bool named = percent(80);
      if (named && !put_endpoint(six, percent(20), FIRST_PORT + below(PORTS))) {
        return;
      }
      fill((uint8_t *)(uintptr_t)tw_staging(), SMALLER(length, ABI_MAX_DATAGRAM));
      result = abi_udp_send(handle, (int32_t)length, named);
      CHECK(result <= 0 && result >= ABI_ERROR_NOT_FOUND, "%d", result);
      totals->datagrams += result == 0;
    }
  }
}

static void use_ping(uint32_t index) {
  if (pings[index].handle == 0) {
    if (put_endpoint(percent(style.six), false, 0)) {
      uint32_t family;
      memcpy(&family, tw_scratch.bytes, sizeof family);
      memmove(tw_scratch.bytes, tw_scratch.bytes + 12, 16);
      pings[index].handle = LARGER(abi_ping_open((int32_t)family, 0), 0);
      pings[index].six = family == 6;
    }
  } else if (percent(10)) {
    CHECK(abi_ping_close(pings[index].handle) == 0, "%x", pings[index].handle);
    pings[index].handle = 0;
  } else {
    uint32_t length = any_length();
    fill((uint8_t *)(uintptr_t)tw_staging(), length);
    abi_ping_send(pings[index].handle, (int32_t)(pings[index].sequence++ & 0xffff), (int32_t)length,
                  (int32_t)ONE_OF(64, 1, 255));
  }
}

/* A datagram from a peer to a socket's port, or to a group. */
static void peer_datagram(void) {
  static uint8_t bytes[66000];
  struct link *link = link_any();
  struct route_to route = {.link = link, .peer = below(PEERS), .six = percent(style.six)};
  if (link == NULL) {
    return;
  }
  uint32_t length = percent(90) ? any_length() : below(30);
  length = SMALLER(length, route.six ? 65487 : 65507);
  peer_address(link, route.peer, route.six, route.from);
  memcpy(route.to, route.six ? link->own6 : link->own4, route.six ? 16 : 4);
  if (percent(20)) {
    put_endpoint(route.six, true, 0);
    memcpy(route.to, tw_scratch.bytes + 12, 16);
  } else if (!route.six && percent(10)) {
    route.to[3] = 255;
  }
  put16(bytes, FIRST_PORT + below(PORTS));
  put16(bytes + 2, FIRST_PORT + below(PORTS));
  /* Bytes behind the length in the header are not part of the datagram; a length beyond the packet makes it invalid (RFC 768). */
  uint32_t size = 8 + length, said = size;
  if (percent(3)) {
    size = SMALLER(size, 100);
    said = percent(50) ? below(size + 1) : below(0x10000);
    length = said >= 8 && said <= size ? said - 8 : length;
  }
  put16(bytes + 4, said);
  if (percent(style.damaged)) {
    memset(bytes + 8, 0, length);
  } else {
    route.exact = style.damaged != 0;
    fill(bytes + 8, length);
  }
  packet_send(&route, UDP_PROTOCOL, bytes, size);
}

void datagrams_step(void) {
  for (uint32_t times = 1 + below(8); times > 0; times--) {
    uint32_t index = below(MAX_SOCKETS);
    if (percent(40)) {
      peer_datagram();
    } else if (percent(15)) {
      use_ping(below(MAX_PINGS));
    } else if (sockets[index].handle == 0) {
      open_socket(index);
    } else if (percent(3)) {
      CHECK(abi_udp_close(sockets[index].handle) == 0, "%x", sockets[index].handle);
      sockets[index].handle = 0;
    } else {
      use_socket(sockets[index].handle, sockets[index].family == 0 ? percent(style.six) : sockets[index].family == 6);
    }
  }
}

void datagram_event(uint32_t kind, int32_t handle, int32_t value, const uint8_t *payload, uint32_t length) {
  bool known = false;
  for (uint32_t i = 0; i < MAX_SOCKETS; i++) {
    known |= sockets[i].handle == handle || (i < MAX_PINGS && pings[i].handle == handle);
  }
  CHECK(known, "event %u of handle %x", kind, handle);
  if (kind == ABI_EVENT_DATAGRAM) {
    CHECK(length >= ABI_DATAGRAM_SIZE + (uint32_t)value, "%d bytes in %u", value, length);
    check(payload + ABI_DATAGRAM_SIZE, (uint32_t)value);
  } else if (kind == ABI_EVENT_ECHO_REPLY) {
    CHECK(length >= ABI_ENDPOINT_SIZE + (uint32_t)value, "%d bytes in %u", value, length);
    check(payload + ABI_ENDPOINT_SIZE, (uint32_t)value);
  }
}

void datagram_receive(const struct sent_packet *sent) {
  CHECK(get16(sent->payload + 4) == sent->length, "length %u in %u bytes", get16(sent->payload + 4), sent->length);
  quote_later(sent);
  uint32_t from = get16(sent->payload), to = get16(sent->payload + 2);
  if (from == 68 && to == 67) {
    dhcp_receive(sent);
  } else {
    check(sent->payload + 8, sent->length - 8);
  }
}

void datagrams_end(void) {
  for (uint32_t i = 0; i < MAX_SOCKETS; i++) {
    CHECK(sockets[i].handle == 0 || abi_udp_close(sockets[i].handle) == 0, "%x", sockets[i].handle);
    sockets[i].handle = 0;
  }
  for (uint32_t i = 0; i < MAX_PINGS; i++) {
    CHECK(pings[i].handle == 0 || abi_ping_close(pings[i].handle) == 0, "%x", pings[i].handle);
    pings[i].handle = 0;
  }
}
