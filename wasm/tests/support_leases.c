/* A scripted DHCP server: each test says what it answers. */
#include "support_leases.h"
#include "link/interface.h"

#include <string.h>

const uint8_t SERVER[4] = {10, 0, 0, 254}, LEASED[4] = {10, 0, 0, 50}, MASK[4] = {255, 255, 255, 0};
const uint8_t ALL[4] = {255, 255, 255, 255}, UNSPECIFIED[4];

struct packet packet;
int32_t tap;
uint8_t reply[600];
uint32_t reply_length, transaction;

void reply_begin(uint8_t type, const uint8_t *address) {
  memset(reply, 0, sizeof reply);
  reply[0] = 2;
  reply[1] = 1;
  reply[2] = 6;
  put32(reply + 4, transaction);
  memcpy(reply + 16, address, 4);
  memcpy(reply + 28, HOST_MAC, 6);
  put32(reply + 236, 0x63825363);
  reply_length = OPTIONS;
  reply[reply_length++] = 53;
  reply[reply_length++] = 1;
  reply[reply_length++] = type;
}

void reply_option(uint8_t code, uint8_t length, const uint8_t *value) {
  reply[reply_length++] = code;
  reply[reply_length++] = length;
  memcpy(reply + reply_length, value, length);
  reply_length += length;
}

void reply_option32(uint8_t code, uint32_t value) {
  uint8_t bytes[4];
  put32(bytes, value);
  reply_option(code, 4, bytes);
}

void reply_send_datagram(uint32_t length) {
  static uint8_t datagram[8 + sizeof reply];
  put16(datagram, 67);
  put16(datagram + 2, 68);
  put16(datagram + 4, 8 + length);
  memcpy(datagram + 8, reply, length);
  packet_ip(&packet, ABI_FAMILY_IPV4, SERVER, ALL, PROTOCOL_UDP, datagram, 8 + length);
  packet_ethernet(&packet, HOST_MAC, 0x0800);
  interface_receive(tap, packet.bytes, packet.length);
}

void reply_finish(void) {
  reply[reply_length++] = 255;
  reply_send_datagram(reply_length);
  host_poll();
}

void reply_send(uint8_t type, uint32_t seconds) {
  reply_begin(type, type == REFUSE ? UNSPECIFIED : LEASED);
  reply_option(54, 4, SERVER);
  if (type != REFUSE) {
    reply_option32(51, seconds);
    reply_option(1, 4, MASK);
    reply_option(3, 4, SERVER);
    reply_option(6, 4, SERVER);
  }
  reply_finish();
}

/* The next DHCP message of this type from the stack, from its UDP payload on; NULL if there is none. */
const uint8_t *dhcp_sent(uint8_t type) {
  struct frame frame;
  while ((frame = frame_next()).length != 0) {
    const uint8_t *message = frame.bytes + 14 + 28;
    if (frame.length > 14 + 28 + OPTIONS + 3 && get16(frame.bytes + 12) == 0x0800 && frame.bytes[23] == PROTOCOL_UDP &&
        get16(frame.bytes + 36) == 67 && message[OPTIONS] == 53 && message[OPTIONS + 2] == type) {
      transaction = get32(message + 4);
      return message;
    }
  }
  return NULL;
}

int count_arp(void) {
  int count = 0;
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    count += get16(frame.bytes + 12) == 0x0806;
  }
  return count;
}

void wait_for_arp(void) {
  for (int seconds = 0; count_arp() == 0; seconds++) {
    CHECK(seconds < 60);
    host_advance(SECOND);
  }
}

void open_tap(void) {
  tap = interface_open(ABI_KIND_TAP, 1500);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_dhcp_start(tap), 0);
  host_poll();
  CHECK(dhcp_sent(DISCOVER) != NULL);
}

void close_tap(void) {
  CHECK_EQUAL(abi_interface_remove(tap), 0);
  host_poll();
  while (event_next().kind != 0) {
  }
  frames_forget();
}

uint32_t address_now(void) { return get32((const uint8_t *)&netif_ip4_addr(tw_interface_netif(tap))->addr); }

void expect_lease(uint32_t seconds) {
  event_expect(ABI_EVENT_LEASE_MESSAGE, tap);
  struct event event = event_expect(ABI_EVENT_LEASE, tap);
  uint32_t words[7];
  CHECK_EQUAL(event.length, sizeof words);
  memcpy(words, event.payload, sizeof words);
  CHECK(memcmp(words, LEASED, 4) == 0 && memcmp(words + 1, MASK, 4) == 0);
  CHECK(memcmp(words + 2, SERVER, 4) == 0 && memcmp(words + 3, SERVER, 4) == 0);
  CHECK_EQUAL(words[4], seconds);
  CHECK_EQUAL(address_now(), get32(LEASED));
}

/* From no address to a lease of this duration. */
void obtain_lease(uint32_t seconds) {
  open_tap();
  reply_send(OFFER, seconds);
  CHECK(dhcp_sent(REQUEST) != NULL);
  reply_send(ACKNOWLEDGE, seconds);
  CHECK_EQUAL(address_now(), 0); /* RFC 5227: not before the address was probed */
  host_advance(3 * SECOND);
  expect_lease(seconds);
}
