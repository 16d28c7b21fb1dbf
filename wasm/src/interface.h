/* The inside of an interface, for the two files that work on it: interface.c makes and removes them, receive.c feeds
   what the host put into their receive buffers to lwIP. */
#ifndef INTERFACE_H
#define INTERFACE_H

#include "host.h"

struct interface {
  struct netif netif;
  struct interface *next;
  int32_t handle, kind;
  uint32_t received; /* bytes of the receive buffer that lwIP has seen */
  uint8_t *receive, *transmit;
  uint32_t block[ABI_BLOCK_WORDS]; /* shared with the host */
};

struct interface *interface_first(void);

/* tcp_receive.c: true if the frame was the next data segment of a connection, and has been taken in. */
bool tcp_receive_predicted(struct interface *interface, const uint8_t *frame, uint32_t length);

static inline uint32_t record_size(uint32_t length) { return (ABI_RECORD_HEADER + length + 3) & ~3u; }

#endif
