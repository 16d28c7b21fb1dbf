/* Neighbours on Ethernet links: they answer ARP (RFC 826) and neighbour solicitations (RFC 4861), answer wrongly or not at all,
   and send requests themselves. */
#include "fuzz.h"

static void answer_mac(const struct link *link, uint32_t peer, uint8_t *mac) {
  peer_mac(link, peer, mac);
  if (percent(style.wrong_answers)) {
    mac[5] = (uint8_t)any();
    mac[0] = percent(10) ? (uint8_t)any() : 2;
  }
}

static void send_arp(struct link *link, uint32_t peer, uint32_t operation, const uint8_t *from, const uint8_t *to,
                     bool everybody) {
  static const uint8_t head[6] = {0, 1, 8, 0, 6, 4}, all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  uint8_t packet[46] = {0};
  memcpy(packet, head, sizeof head);
  put16(packet + 6, operation);
  answer_mac(link, peer, packet + 8);
  memcpy(packet + 14, from, 4);
  memcpy(packet + 18, link->mac, operation == 2 ? 6 : 0);
  memcpy(packet + 24, to, 4);
  if (percent(style.damaged / 2)) {
    packet[below(28)] = (uint8_t)any();
  }
  ethernet_send(link, peer, everybody ? all : link->mac, 0x0806, packet, percent(90) ? 28 : below(46));
}

void arp_receive(struct link *link, const uint8_t *packet, uint32_t length) {
  (void)length;
  uint32_t operation = get16(packet + 6);
  CHECK(operation == 1 || operation == 2, "operation %u", operation);
  uint8_t target[16];
  memcpy(target, packet + 24, 4);
  if (operation == 2 || percent(style.silent)) {
    return;
  }
  bool probe = get32(packet + 14) == 0; /* RFC 5227 */
  if (target[0] == 10 && target[1] == link->number && target[3] >= 2 && target[3] < 2 + PEERS && (!probe || percent(10))) {
    send_arp(link, target[3] - 2u, 2, target, packet + 14, false);
  }
}

static void send_neighbour(struct link *link, uint32_t peer, uint8_t type, const uint8_t *target, const uint8_t *to) {
  uint8_t message[40] = {type};
  struct route_to route = {.link = link, .peer = peer, .six = true, .hop_limit = percent(98) ? 255 : 64};
  peer_address(link, peer, true, route.from);
  memcpy(route.to, to, 16);
  message[4] = type == 136 ? (uint8_t)ONE_OF(0x60, 0x60, 0x20, 0x40, 0xe0, 0) : 0;
  memcpy(message + 8, target, 16);
  message[24] = type == 136 ? 2 : 1;
  message[25] = (uint8_t)(percent(95) ? 1 : below(256));
  answer_mac(link, peer, message + 26);
  packet_send(&route, ICMP6_PROTOCOL, message, percent(90) ? 32 : below(40));
}

void solicitation_receive(const struct sent_packet *sent) {
  const uint8_t *target = sent->payload + 8;
  uint8_t ours[16], none[16] = {0};
  CHECK(sent->length >= 24 && sent->packet[7] == 255, "%u bytes", sent->length);
  CHECK(target[0] != 0xff && memcmp(target, none, 16) != 0, "a group or no address is solicited");
  if (percent(style.silent)) {
    return;
  }
  for (uint32_t peer = 0; peer < PEERS; peer++) {
    peer_address(sent->link, peer, true, ours);
    if (memcmp(ours, target, 16) == 0) {
      send_neighbour(sent->link, peer, 136, target, sent->from);
    }
  }
}

void neighbours_step(void) {
  struct link *link = link_any();
  if (link == NULL || !link_is_ethernet(link)) {
    return;
  }
  for (uint32_t times = 1 + below(4); times > 0; times--) {
    uint32_t peer = percent(90) ? below(PEERS) : below(250);
    uint8_t own[16], target[16];
    peer_address(link, peer, percent(style.six), own);
    if (own[0] == 10) {
      memcpy(target, percent(70) ? link->own4 : own, 4);
      send_arp(link, peer, percent(50) ? 1 : 2, percent(95) ? own : link->own4, target, percent(50));
    } else {
      memcpy(target, ONE_OF(0, 1, 2) == 0 ? own : percent(60) ? link->own6 : link->local6, 16);
      send_neighbour(link, peer, (uint8_t)ONE_OF(135, 136), target, percent(80) ? target : link->own6);
    }
  }
}
