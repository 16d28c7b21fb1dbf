/* Ports that several sockets share, as with SO_REUSEPORT: the flow decides which socket gets a packet. Each socket has a number
   for each flow, a keyed hash, and the largest wins (rendezvous hashing): the choice does not depend on the order of lwIP's
   lists, which changes with traffic, and closing a socket moves no flow of the others. */
#include "ip/share.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "port/random.h"
#include "tcp/connection.h"
#include "lwip/ip.h"

#include <string.h>

uint64_t tw_share_weight(int32_t handle, const ip_addr_t *source, uint16_t from, const ip_addr_t *destination, uint16_t to) {
  struct {
    struct abi_endpoint source, destination;
    int32_t handle;
  } message = {.handle = handle};
  tw_address_write(&message.source, source, from);
  tw_address_write(&message.destination, destination, to);
  return tw_random_keyed(&message, sizeof message);
}

static uint64_t weight_of(const struct tcp_pcb_listen *pcb, uint16_t from) {
  const struct listener *listener = pcb->callback_arg;
  return tw_share_weight(listener->handle, ip_current_src_addr(), from, ip_current_dest_addr(), pcb->local_port);
}

/* LWIP_HOOK_TCP_LISTENER: lwIP has found a listener for a segment from this port. */
struct tcp_pcb_listen *tw_tcp_share(struct tcp_pcb_listen *found, uint16_t from) {
  struct tcp_pcb_listen *best = found;
  if (!ip_get_option(found, SOF_REUSEPORT)) {
    return found;
  }
  for (struct tcp_pcb_listen *pcb = tcp_listen_pcbs.listen_pcbs; pcb != NULL; pcb = pcb->next) {
    if (pcb != best && pcb->local_port == found->local_port && ip_get_option(pcb, SOF_REUSEPORT) &&
        IP_GET_TYPE(&pcb->local_ip) == IP_GET_TYPE(&found->local_ip) && ip_addr_eq(&pcb->local_ip, &found->local_ip) &&
        weight_of(pcb, from) > weight_of(best, from)) {
      best = pcb;
    }
  }
  return best;
}
