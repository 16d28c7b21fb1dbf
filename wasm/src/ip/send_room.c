/* Output of packets that lwIP does not retransmit: UDP and ping. A datagram leaves whole or not at all; of fragments, lwIP
   would lose those that do not fit the transmit buffer. */
#include "ip/send_room.h"

#include "abi.h"
#include "abi/events.h"
#include "abi/module.h"
#include "link/interface.h"
#include "port/timers.h"
#include "lwip/ip.h"
#include "lwip/prot/ethernet.h"

/* The room in an interface at which waiting senders are notified: enough for the largest datagram in the smallest fragments,
   and less than the room at which Interface.on_event in Python polls once more. */
enum { ROOM_AGAIN = 126000 };

static struct room_waiter *waiters;

int32_t tw_send_route(const ip_addr_t *own, const ip_addr_t *destination, const ip_addr_t **source, struct netif **by) {
  bool mine = tw_interface_owns(destination);
  struct netif *netif = NULL;
  if (!ip_addr_isany(destination) && (mine || !(IP_IS_V6(destination) && ip_addr_isloopback(destination)))) {
    /* lwIP itself would send ::1 to the link */
    netif = ip_route(own != NULL ? own : IP_IS_V6(destination) ? IP6_ADDR_ANY : IP4_ADDR_ANY, destination);
  }
  *by = netif;
  *source = own;
  if (netif == NULL) {
    return ABI_ERROR_NO_ROUTE;
  }
  if (own != NULL) {
    return tw_interface_owns(own) ? 0 : ABI_ERROR_ADDRESS_NOT_AVAILABLE;
  }
  /* A packet of a host to itself has the same address at both ends. */
  *source = mine ? destination : ip_netif_get_local_ip(netif, destination);
  return *source == NULL || ip_addr_isany(*source) ? ABI_ERROR_NO_ROUTE : 0;
}

/* RFC 791, section 3.2; RFC 8200, section 4.5. */
bool tw_send_has_room(const struct netif *netif, const ip_addr_t *destination, uint32_t length) {
  uint32_t header = IP_HLEN, mtu = netif->mtu;
  if (IP_IS_V6(destination)) { /* a path may be narrower than the link, but not than this */
    header = IP6_HLEN + IP6_FRAG_HLEN;
    mtu = LWIP_MIN(mtu, IP6_MIN_MTU_LENGTH);
  }
  uint32_t fragment = LWIP_MAX((mtu - header) & ~7u, 8), fragments = (length + fragment - 1) / fragment;
  return tw_interface_room(netif) >= length + fragments * record_size(header + SIZEOF_ETH_HDR + 3);
}

int32_t tw_room_wait(struct room_waiter *waiter, int32_t handle, const struct netif *netif) {
  if (waiter->handle == 0) {
    waiter->handle = handle;
    waiter->next = waiters;
    waiters = waiter;
  }
  waiter->interface = tw_interface_handle(netif);
  waiter->neighbour = false;
  return ABI_ERROR_NO_ROOM;
}

int32_t tw_room_result(struct room_waiter *waiter, int32_t handle, const struct netif *netif, err_t error) {
  if (error != ERR_WOULDBLOCK) {
    return tw_error_from_lwip(error);
  }
  tw_room_wait(waiter, handle, netif);
  waiter->neighbour = true;
  return ABI_ERROR_NO_ROOM;
}

void tw_room_forget(struct room_waiter *waiter) {
  for (struct room_waiter **link = &waiters; *link != NULL; link = &(*link)->next) {
    if (*link == waiter) {
      *link = waiter->next;
      return;
    }
  }
}

void tw_room_report(void) {
  for (struct room_waiter **link = &waiters, *waiter; (waiter = *link) != NULL;) {
    const struct netif *netif = tw_interface_netif(waiter->interface);
    /* A neighbour is resolved, or given up, within seconds. */
    if (netif != NULL && (waiter->neighbour ? tw_timers_seek_neighbours() : tw_interface_room(netif) < ROOM_AGAIN)) {
      link = &waiter->next;
      continue;
    }
    *link = waiter->next;
    tw_event_add(ABI_EVENT_WRITABLE, waiter->handle, 0);
    waiter->handle = 0;
  }
}
