/* DHCP servers (RFC 2131) that offer, acknowledge, refuse, do not answer, or answer with messages that match no request. */
#include "fuzz.h"

enum { BOOTP = 236, COOKIE = 0x63825363, DISCOVER = 1, OFFER = 2, REQUEST = 3, ACKNOWLEDGE = 5, REFUSE = 6 };

static uint32_t option4(uint8_t *at, uint8_t code, uint32_t value) {
  at[0] = code;
  at[1] = 4;
  put32(at + 2, value);
  return 6;
}

static void answer(struct link *link, const uint8_t *request, uint8_t type, uint32_t address) {
  uint8_t message[8 + 600] = {0}, *dhcp = message + 8;
  uint32_t at = BOOTP + 4, server = 0x0a000002u | link->number << 16, lease = ONE_OF(10, 60, 3600, 86400, 0xffffffff, 1, 0);
  put16(message, 67);
  put16(message + 2, 68);
  memcpy(dhcp, request, BOOTP);
  dhcp[0] = 2;
  put32(dhcp + 16, address);
  put32(dhcp + 20, server);
  put32(dhcp + BOOTP, COOKIE);
  memcpy(dhcp + at, (const uint8_t[]){53, 1, type}, 3);
  at += 3;
  at += option4(dhcp + at, 54, server);
  at += option4(dhcp + at, 51, lease);
  at += option4(dhcp + at, 1, percent(90) ? 0xffffff00 : any());
  at += percent(70) ? option4(dhcp + at, 3, server) : 0;
  at += percent(30) ? option4(dhcp + at, 58, lease / 2) : 0;
  at += percent(30) ? option4(dhcp + at, 59, percent(50) ? lease : any()) : 0;
  if (percent(style.wrong_answers)) {
    for (uint32_t left = below(8); left > 0; left--) {
      dhcp[percent(30) ? below(at) : BOOTP + below(at - BOOTP)] = (uint8_t)any();
    }
    at = percent(20) ? below(at) : at;
  }
  dhcp[at++] = 255;
  put16(message + 4, at + 8);
  struct route_to route = {.link = link, .peer = 0, .to = {255, 255, 255, 255}};
  put32(route.from, server);
  if (percent(30)) {
    put32(route.to, address);
  }
  packet_send(&route, UDP_PROTOCOL, message, at + 8);
}

void dhcp_receive(const struct sent_packet *sent) {
  const uint8_t *dhcp = sent->payload + 8, *option = dhcp + BOOTP + 4;
  CHECK(sent->length >= 8 + BOOTP + 8 && get32(dhcp + BOOTP) == COOKIE, "%u bytes of DHCP", sent->length);
  if (percent(style.silent) || option[0] != 53) {
    return;
  }
  uint32_t address = 0x0a000000u | sent->link->number << 16 | (percent(90) ? 77 : 2 + below(PEERS));
  for (uint32_t times = percent(90) ? 1 : 3; times > 0; times--) {
    if (option[2] == DISCOVER) {
      answer(sent->link, dhcp, OFFER, address);
    } else if (option[2] == REQUEST) {
      answer(sent->link, dhcp, percent(85) ? ACKNOWLEDGE : percent(80) ? REFUSE : (uint8_t)below(12), address);
    }
  }
}
