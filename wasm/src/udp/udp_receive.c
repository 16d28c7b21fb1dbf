/* The sockets that receive a datagram. One for this host goes to the socket that matches best; one for a group or a broadcast
   goes to all that match, as in RFC 1112, section 7, and so does what this host sends to a group that it is a member of. */
#include "udp/udp_receive.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/events.h"
#include "ip/share.h"
#include "link/interface.h"
#include "udp/udp_calls.h"
#include "lwip/igmp.h"
#include "lwip/ip.h"
#include "lwip/ip6_zone.h"
#include "lwip/mld6.h"

struct datagram_ends {
  const ip_addr_t *source, *destination;
  struct netif *by;
  uint16_t from, to;
};

/* A copy of what this host has sent, until the next poll. */
struct looped {
  struct looped *next;
  struct pbuf *data;
  ip_addr_t source, destination;
  int32_t interface; /* a handle: the interface may have been removed by then */
  uint16_t from, to;
};

enum { CONNECTED = 4, EXACT = 2, MOST_LOOPED = 262144 /* bytes, each counted with the room for its addresses */ };

static struct looped *first_looped, **last_looped = &first_looped;
static uint32_t looped_size;

static bool is_group_or_broadcast(const struct datagram_ends *ends) {
  return ip_addr_ismulticast(ends->destination) || ip_addr_isbroadcast(ends->destination, ends->by);
}

/* How well a socket matches; 0 if it does not. Linux prefers in the same order: connected, own address, own family. */
static uint32_t rank(const struct udp_pcb *pcb, const struct datagram_ends *ends) {
  const ip_addr_t *own = &pcb->local_ip;
  uint32_t connected = 1;
  if (pcb->local_port != ends->to) {
    return 0;
  }
  if ((pcb->flags & UDP_FLAGS_CONNECTED) != 0) {
    if (pcb->remote_port != ends->from || !(ip_addr_isany_val(pcb->remote_ip) || ip_addr_eq(&pcb->remote_ip, ends->source))) {
      return 0;
    }
    connected += CONNECTED;
  }
  if (IP_IS_ANY_TYPE_VAL(*own)) {
    return connected;
  }
  if (IP_IS_V6(own) != IP_IS_V6(ends->destination)) {
    return 0;
  }
  if (ip_addr_isany(own)) {
    return connected + 1;
  }
  bool fits = ip_addr_eq(own, ends->destination);
  if (!fits && ip_addr_isbroadcast(ends->destination, ends->by)) { /* of the own address's link, or of its network */
    const ip4_addr_t *broadcast = ip_2_ip4(ends->destination);
    fits = broadcast->addr == IPADDR_BROADCAST ? ip4_addr_eq(ip_2_ip4(own), netif_ip4_addr(ends->by))
                                               : ip4_addr_net_eq(ip_2_ip4(own), broadcast, netif_ip4_netmask(ends->by));
  }
  return fits ? connected + EXACT : 0;
}

static struct datagram_ends current_ends(struct netif *by, uint16_t from, uint16_t to) {
  return (struct datagram_ends){
      .source = ip_current_src_addr(), .destination = ip_current_dest_addr(), .by = by, .from = from, .to = to};
}

static uint64_t weight_of(const struct udp_pcb *pcb, const struct datagram_ends *ends) {
  const struct udp_socket *socket = pcb->recv_arg;
  return tw_share_weight(socket->handle, ends->source, ends->from, ends->destination, ends->to);
}

/* LWIP_HOOK_UDP_FIND: the list has the latest socket first, but for connected ones that had a datagram. */
struct udp_pcb *tw_udp_find(struct netif *by, uint16_t from, uint16_t to) {
  struct datagram_ends ends = current_ends(by, from, to);
  struct udp_pcb *best = NULL, *before = NULL;
  uint32_t best_rank = 0;
  for (struct udp_pcb *pcb = udp_pcbs; pcb != NULL; before = pcb, pcb = pcb->next) {
    uint32_t fits = rank(pcb, &ends);
    bool shares = fits != 0 && fits == best_rank && (pcb->so_options & best->so_options & SOF_REUSEPORT) != 0;
    if (fits > best_rank || (shares && weight_of(pcb, &ends) > weight_of(best, &ends))) {
      best = pcb;
      best_rank = fits;
    }
    if (fits > CONNECTED && !ip_get_option(pcb, SOF_REUSEPORT)) {
      if (before != NULL) { /* so that it is found faster next time */
        before->next = pcb->next;
        pcb->next = udp_pcbs;
        udp_pcbs = pcb;
      }
      break;
    }
  }
  return best;
}

/* LWIP_HOOK_UDP_OTHERS: `first` is about to receive a datagram. Nothing keeps it, so that all may have the same one. */
void tw_udp_pass_to_others(const struct udp_pcb *first, struct pbuf *data, struct netif *by, uint16_t from) {
  struct datagram_ends ends = current_ends(by, from, first->local_port);
  if (!is_group_or_broadcast(&ends)) {
    return;
  }
  for (struct udp_pcb *pcb = udp_pcbs, *next; pcb != NULL; pcb = next) {
    next = pcb->next;
    if (pcb != first && rank(pcb, &ends) != 0) {
      pbuf_ref(data);
      pcb->recv(pcb->recv_arg, pcb, data, ends.source, from);
    }
  }
}

void tw_udp_deliver(const struct udp_socket *socket, const struct pbuf *data, const ip_addr_t *source, uint16_t from,
                    const ip_addr_t *destination) {
  if (!tw_events_have_room_beside(sizeof(struct abi_datagram) + data->tot_len)) { /* one frame, many receivers */
    lwip_stats.udp.drop++;
    return;
  }
  tw_event_add_packet(ABI_EVENT_DATAGRAM, socket->handle, data->tot_len, source, from, destination, socket->pcb->local_port,
                      data, 0);
}

/* Is this host a member? Of the group of all hosts it always is. */
static bool is_member(struct netif *netif, const ip_addr_t *group) {
  if (IP_IS_V4(group)) {
    return !ip_addr_ismulticast(group) || igmp_lookfor_group(netif, ip_2_ip4(group)) != NULL;
  }
  return ip6_addr_isallnodes_linklocal(ip_2_ip6(group)) || mld6_lookfor_group(netif, ip_2_ip6(group)) != NULL;
}

void tw_udp_loop(const struct udp_socket *socket, struct netif *by, const ip_addr_t *source, const ip_addr_t *destination,
                 uint16_t to, struct pbuf *data) {
  ip_addr_t address = *destination; /* as it would arrive: a group of the link with its zone */
  if (IP_IS_V6(&address)) {
    ip6_addr_assign_zone(ip_2_ip6(&address), IP6_MULTICAST, by);
  }
  struct datagram_ends ends = {.destination = &address, .by = by};
  uint32_t size = data->tot_len + sizeof(struct abi_datagram);
  if ((socket->keeps_groups_off && ip_addr_ismulticast(&address)) || !is_group_or_broadcast(&ends) ||
      !is_member(by, &address)) {
    return;
  }
  struct looped *looped = looped_size + size <= MOST_LOOPED ? tw_heap_allocate(sizeof *looped) : NULL;
  struct pbuf *copy = looped == NULL ? NULL : pbuf_clone(PBUF_RAW, PBUF_RAM, data);
  if (copy == NULL) {
    tw_heap_free(looped);
    lwip_stats.udp.drop++;
    return;
  }
  *looped = (struct looped){.data = copy,
                            .source = *source,
                            .destination = address,
                            .interface = tw_interface_handle(by),
                            .from = socket->pcb->local_port,
                            .to = to};
  looped_size += size;
  *last_looped = looped;
  last_looped = &looped->next;
}

bool tw_udp_loop_back(void) {
  while (first_looped != NULL && tw_events_have_room()) {
    struct looped *looped = first_looped;
    struct datagram_ends ends = {.source = &looped->source,
                                 .destination = &looped->destination,
                                 .by = tw_interface_netif(looped->interface),
                                 .from = looped->from,
                                 .to = looped->to};
    for (const struct udp_socket *socket = tw_udp_first(); socket != NULL && ends.by != NULL; socket = socket->next) {
      if (rank(socket->pcb, &ends) != 0) {
        tw_udp_deliver(socket, looped->data, ends.source, ends.from, ends.destination);
      }
    }
    looped_size -= looped->data->tot_len + sizeof(struct abi_datagram);
    first_looped = looped->next;
    last_looped = first_looped == NULL ? &first_looped : last_looped;
    pbuf_free(looped->data);
    tw_heap_free(looped);
  }
  return first_looped != NULL;
}
