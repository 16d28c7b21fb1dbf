/* Shared by the programs that test listeners: an interface with a listener, and forged segments that reach it. Each program
   has its own state. */
#ifndef SUPPORT_LISTENER_H
#define SUPPORT_LISTENER_H

#include "support.h"

#include <string.h>

enum { PORT = 80 };

static int32_t interface, listener;
static struct packet packet;
static uint8_t forged6[16] = {0xfd, [11] = 1};

static const uint8_t NO_TIMESTAMPS[] = {2, 4, 0x05, 0xb4, 1, 3, 3, 7, 4, 2, 1, 1}; /* 1,460 bytes, scale 7, SACK */

static inline void open_interface(int32_t backlog) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 8), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, PORT, backlog);
  CHECK(listener > 0);
  host_poll();
  frames_forget();
}

static inline void close_interface(void) {
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  host_advance(30 * SECOND); /* half-open connections of a closed listener end by their time-out */
  frames_forget();
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* A segment from a source that never answers. */
static inline void forge(int32_t family, uint16_t port, uint32_t flags, uint32_t sequence, uint32_t acknowledgement) {
  uint8_t source4[4] = {10, (uint8_t)(1 + random_next() % 200), (uint8_t)random_next(), (uint8_t)random_next()};
  put32(forged6 + 12, random_next());
  struct segment segment = {
      .family = family,
      .from = family == ABI_FAMILY_IPV4 ? source4 : forged6,
      .to = family == ABI_FAMILY_IPV4 ? HOST4 : HOST6,
      .from_port = (uint16_t)(1024 + random_next() % 30000),
      .to_port = port,
      .window = 65535,
      .flags = flags,
      .sequence = sequence,
      .acknowledgement = acknowledgement,
      .options = NO_TIMESTAMPS,
      .options_length = flags & SYN ? sizeof NO_TIMESTAMPS : 0,
  };
  packet_tcp(&packet, &segment);
  interface_receive(interface, packet.bytes, packet.length);
}

static inline void flood(int32_t family, uint16_t port, int count) {
  for (int i = 0; i < count; i++) {
    forge(family, port, SYN, random_next(), 0);
    if (i % 100 == 99) {
      host_poll();
      frames_forget();
    }
  }
  host_poll();
  frames_forget();
}

static inline void expect_payload(int32_t handle, const char *text) {
  uint8_t data[64];
  uint32_t length = event_expect_data(handle, data, sizeof data);
  CHECK_EQUAL(length, strlen(text));
  CHECK(memcmp(data, text, length) == 0);
}

#endif
