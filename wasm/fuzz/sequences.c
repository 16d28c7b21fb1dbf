/* The initial sequence numbers that the stack draws, in their order, through the linker's --wrap. On the wire alone, a SYN that
   has waited for a neighbour's address looks like one of a later connection of the same ports: where a peer repeats
   its SYN behind a RST, both acknowledge the same number. */
#include "fuzz.h"

enum { MAX_DRAWN = 4096 };

static struct drawn {
  ip_addr_t local, remote;
  uint16_t local_port, remote_port;
  uint32_t sequence;
} drawn[MAX_DRAWN];
static uint32_t drawn_count;

uint32_t __real_tw_tcp_initial_sequence_number(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote,
                                               uint16_t remote_port);
uint32_t __wrap_tw_tcp_initial_sequence_number(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote,
                                               uint16_t remote_port);

uint32_t __wrap_tw_tcp_initial_sequence_number(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote,
                                               uint16_t remote_port) {
  uint32_t sequence = __real_tw_tcp_initial_sequence_number(local, local_port, remote, remote_port);
  drawn[drawn_count++ % MAX_DRAWN] = (struct drawn){*local, *remote, local_port, remote_port, sequence};
  return sequence;
}

static bool is_address(const ip_addr_t *address, bool six, const uint8_t *bytes) {
  return IP_IS_V6(address) == six &&
         (six ? memcmp(ip_2_ip6(address)->addr, bytes, 16) == 0 : memcmp(&ip_2_ip4(address)->addr, bytes, 4) == 0);
}

/* A later connection of these ports has another one. SYN cookies are not drawn, and never superseded. */
bool sequence_is_superseded(const struct flow *flow, uint32_t sequence) {
  bool later = false;
  for (uint32_t age = 1; age <= SMALLER(drawn_count, MAX_DRAWN); age++) { /* the latest first */
    const struct drawn *one = &drawn[(drawn_count - age) % MAX_DRAWN];
    if (one->local_port != flow->stack_port || one->remote_port != flow->port ||
        !is_address(&one->local, flow->six, flow->to) || !is_address(&one->remote, flow->six, flow->from)) {
      continue;
    }
    if (one->sequence == sequence) {
      return later;
    }
    later = true;
  }
  return false;
}
