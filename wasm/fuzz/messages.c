/* ICMP, ICMPv6, IGMP and MLD: echoes both ways, errors that quote packets of the stack or packets that were never sent, Packet
   Too Big, group queries, router advertisements and redirects. */
#include "fuzz.h"
#include "abi/staging.h"

static uint8_t message[2048];

/* The latest packet of each family that belongs to no TCP flow. */
static struct flow quoted[2];

void quote_later(const struct sent_packet *sent) {
  struct flow *flow = &quoted[sent->six];
  *flow = (struct flow){.link = sent->link, .link_handle = sent->link->handle, .six = sent->six};
  memcpy(flow->to, sent->from, sent->six ? 16 : 4);
  flow->last_length = SMALLER(sent->packet_length, sizeof flow->last);
  memcpy(flow->last, sent->packet, flow->last_length);
}

static bool route_from(struct route_to *route, bool six) {
  struct link *link = link_any();
  *route = (struct route_to){.link = link, .peer = below(PEERS), .six = six};
  if (link == NULL) {
    return false;
  }
  peer_address(link, route->peer, six, route->from);
  memcpy(route->to, six ? link->own6 : link->own4, six ? 16 : 4);
  return true;
}

static void send(const struct route_to *route, uint32_t length) {
  packet_send(route, route->six ? ICMP6_PROTOCOL : ICMP_PROTOCOL, message, length);
}

static void echo(void) {
  struct route_to route;
  bool six = percent(style.six);
  if (!route_from(&route, six)) {
    return;
  }
  memset(message, 0, 8);
  message[0] = percent(80) ? (six ? 128 : 8) : (uint8_t)any();
  message[1] = percent(95) ? 0 : (uint8_t)any();
  put32(message + 4, any());
  if (percent(5)) {
    memset(route.to, 0xff, 4);
  }
  send(&route, 8 + size_up_to(1400));
}

/* Mostly about a packet that the stack has sent. */
static void error(void) {
  const struct flow *flow = percent(40) ? &quoted[percent(style.six)] : &flows[below(MAX_FLOWS)];
  struct route_to route;
  if (flow->last_length == 0 || flow->link->handle != flow->link_handle || !route_from(&route, flow->six)) {
    return;
  }
  uint32_t length = percent(90) ? flow->last_length : below(flow->last_length + 1);
  memset(message, 0, 8);
  memcpy(message + 8, flow->last, length);
  route.link = flow->link;
  route.peer = flow->peer;
  memcpy(route.to, flow->to, 16);
  if (percent(style.wrong) && length > 0) {
    message[8 + below(length)] = (uint8_t)any();
  }
  if (flow->six) {
    message[0] = (uint8_t)ONE_OF(1, 2, 2, 2, 3, 4, below(128));
    message[1] = (uint8_t)below(7);
    put32(message + 4, message[0] == 2 ? ONE_OF(1280, 1279, 1300, 1500, 0, 68, 65535, any()) : below(80));
  } else {
    message[0] = (uint8_t)ONE_OF(3, 3, 3, 11, 12, 4, 5, below(20));
    message[1] = message[0] == 3 ? (uint8_t)ONE_OF(0, 1, 2, 3, 4, 4, 13, below(16)) : (uint8_t)below(3);
    put32(message + 4, percent(70) ? ONE_OF(1500, 576, 68, 296, 0, 67, 1400) : any());
  }
  send(&route, 8 + length);
}

static void group_query(void) {
  struct route_to route;
  bool six = percent(style.six);
  if (!route_from(&route, six)) {
    return;
  }
  memset(message, 0, 32);
  memset(route.to, 0, 16);
  if (six) { /* RFC 2710 */
    memcpy(route.from, (const uint8_t[]){0xfe, 0x80, [15] = 9}, 16);
    memcpy(route.to, (const uint8_t[]){0xff, 2, [15] = 1}, 16);
    route.hop_limit = 1;
    message[0] = (uint8_t)ONE_OF(130, 130, 131, 132);
    put16(message + 4, below(10000));
    if (percent(50)) {
      memcpy(message + 8, (const uint8_t[]){0xff, 2, [15] = 16}, 16);
      message[23] = (uint8_t)(16 + below(4));
    }
    send(&route, percent(95) ? 24 : below(24));
  } else { /* RFC 2236 */
    memcpy(route.to, (const uint8_t[]){224, 0, 0, 1}, 4);
    route.hop_limit = 1;
    message[0] = (uint8_t)ONE_OF(0x11, 0x11, 0x16, 0x12, 0x17);
    message[1] = (uint8_t)below(256);
    if (percent(50)) {
      memcpy(message + 4, (const uint8_t[]){239, 1, 0, 16}, 4);
      message[7] = (uint8_t)(16 + below(4));
      memcpy(route.to, message + 4, percent(50) ? 4 : 0);
    }
    packet_send(&route, 2, message, percent(95) ? 8 : below(8));
  }
}

static uint32_t put_prefix(uint8_t *at, const struct link *link) {
  memset(at, 0, 32);
  at[0] = 3;
  at[1] = (uint8_t)(percent(97) ? 4 : below(256));
  at[2] = percent(90) ? 64 : (uint8_t)any();
  at[3] = (uint8_t)ONE_OF(0xc0, 0xc0, 0x40, 0x80, 0);
  put32(at + 4, ONE_OF(0, 1, 60, 7300, 86400, 0xffffffff));
  put32(at + 8, ONE_OF(0, 1, 60, 3600, 86400, 0xffffffff));
  at[16] = 0xfd;
  at[17] = (uint8_t)(1 + below(3));
  at[19] = (uint8_t)link->number;
  return 32;
}

void router_step(void) {
  struct route_to route;
  if (!route_from(&route, true) || !link_is_ethernet(route.link)) {
    return;
  }
  memset(message, 0, 64);
  memcpy(route.from, (const uint8_t[]){0xfe, 0x80, [15] = 9}, 16);
  route.from[14] = (uint8_t)below(3);
  memcpy(route.to, (const uint8_t[]){0xff, 2, [15] = 1}, 16);
  uint32_t length = 16;
  if (percent(85)) {
    message[0] = 134;
    message[4] = 64;
    put16(message + 6, ONE_OF(0, 30, 1800, 9000));
    put32(message + 8, percent(90) ? 0 : any());
    for (uint32_t count = below(4); count > 0; count--) {
      length += put_prefix(message + length, route.link);
    }
    memcpy(message + length, (const uint8_t[]){5, 1, 0, 0, 0, 0, 5, 0xdc, 1, 1, 2, 0, 0, 0, 0, 9}, 16);
    put32(message + length + 4, ONE_OF(1500, 1280, 1400, 0, 68, any()));
    length += percent(60) ? 16 : 0;
  } else if (percent(50)) {
    message[0] = 133;
    memcpy(route.to, (const uint8_t[]){0xff, 2, [15] = 2}, 16);
    length = 8;
  } else { /* a redirect */
    message[0] = 137;
    memcpy(route.to, route.link->own6, 16);
    memcpy(message + 8, route.from, 16);
    message[23] = (uint8_t)below(20);
    peer_address(route.link, below(PEERS), true, message + 24);
    length = 40;
  }
  if (percent(style.wrong_answers)) {
    message[4 + below(length - 4)] = (uint8_t)any();
    length = percent(20) ? below(length) : length;
  }
  send(&route, length);
  if (percent(20)) { /* the stack as a router */
    abi_interface_hear_solicitations(route.link->handle, (int32_t)below(2));
    put_prefix((uint8_t *)(uintptr_t)tw_staging() + 16, route.link);
    abi_interface_advertise(route.link->handle, (int32_t)ONE_OF(48, 16, 15, 1240, 1241));
  }
}

/* To a network behind the stack, or to one without a route: packets to be forwarded. */
static void transit_packet(void) {
  struct route_to route;
  struct link *other = link_any();
  bool six = percent(style.six);
  if (other == NULL || !route_from(&route, six)) {
    return;
  }
  peer_address(other, below(PEERS), six, route.to);
  if (percent(10)) {
    route.to[six ? 3 : 1] = (uint8_t)any();
  }
  route.hop_limit = (uint8_t)ONE_OF(64, 64, 1, 2, 255);
  uint32_t length = 8 + (percent(50) ? below(100) : size_up_to(SMALLER(route.link->mtu, 2000)));
  memset(message, 0, 8);
  put16(message, 7);
  put16(message + 2, 7);
  put16(message + 4, length);
  packet_send(&route, UDP_PROTOCOL, message, SMALLER(length, sizeof message));
}

void messages_step(void) {
  for (uint32_t times = 1 + below(6); times > 0; times--) {
    switch (below(8)) {
      case 0:
      case 1:
        echo();
        break;
      case 2:
      case 3:
      case 4:
        error();
        break;
      case 5:
        group_query();
        break;
      default:
        transit_packet();
    }
  }
}

void message_receive(const struct sent_packet *sent) {
  uint8_t type = sent->length > 0 ? sent->payload[0] : 0;
  if (sent->protocol == ICMP6_PROTOCOL && type == 135) {
    solicitation_receive(sent);
  }
  if (type == 8 || type == 128) {
    quote_later(sent);
  }
  bool request = sent->protocol == ICMP_PROTOCOL ? type == 8 : sent->protocol == ICMP6_PROTOCOL && type == 128;
  if (!request || percent(style.silent) || sent->length > sizeof message) {
    return;
  }
  struct route_to route = {.link = sent->link, .peer = below(PEERS), .six = sent->six, .exact = true};
  memcpy(route.from, sent->to, sent->six ? 16 : 4);
  memcpy(route.to, sent->from, sent->six ? 16 : 4);
  memcpy(message, sent->payload, sent->length);
  message[0] = sent->six ? 129 : 0;
  send(&route, percent(90) ? sent->length : 8);
}
