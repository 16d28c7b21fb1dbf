/* An interface's IPv4 address by DHCP (RFC 2131): lwIP's client, in a structure that is allocated and freed with the interface.
   The embedder is notified when a lease begins or is renewed, with the server's message, whose further options it interprets,
   and when the lease ends. */
#include "ip/lease.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/events.h"
#include "abi/module.h"
#include "link/interface.h"
#include "port/timers.h"
#include "lwip/prot/dhcp.h"

#include <string.h>

enum { MESSAGE_MAX = 1500 };

int32_t abi_dhcp_start(int32_t handle) {
  struct interface *interface = tw_interface_object(handle);
  if (interface == NULL || interface->kind != ABI_KIND_TAP) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct netif *netif = &interface->netif;
  if (netif->mtu < 576) { /* RFC 2131, section 2: what every host must be able to receive */
    return ABI_ERROR_INVALID;
  }
  if (!ip4_addr_isany(netif_ip4_addr(netif))) {
    return ABI_ERROR_ADDRESS_IN_USE;
  }
  if (netif_dhcp_data(netif) == NULL) {
    dhcp_set_struct(netif, &interface->dhcp);
  }
  tw_timers_changed();
  return tw_error_from_lwip(dhcp_start(netif));
}

/* Sends DHCPRELEASE, and removes the address. */
int32_t abi_dhcp_stop(int32_t handle) {
  struct interface *interface = tw_interface_object(handle);
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  tw_lease_end(interface);
  return 0;
}

void tw_lease_end(struct interface *interface) {
  struct netif *netif = &interface->netif;
  if (netif_dhcp_data(netif) != NULL) {
    dhcp_release_and_stop(netif);
    dhcp_remove_struct(netif);
    tw_timers_changed();
  }
}

/* The server acknowledged: its whole message, for the options in it. */
void tw_lease_acknowledged(struct netif *netif, const struct pbuf *message) {
  uint16_t length = LWIP_MIN(message->tot_len, MESSAGE_MAX);
  pbuf_copy_partial(message, tw_event_append(ABI_EVENT_LEASE_MESSAGE, tw_interface_handle(netif), length, length), length, 0);
  tw_timers_changed();
}

void tw_lease_bound(struct netif *netif) {
  struct interface *interface = netif->state;
  interface->leased = interface->lease_news = true;
  if (netif_default == NULL && !ip4_addr_isany(netif_ip4_gw(netif))) {
    netif_set_default(netif);
  }
  tw_timers_changed();
}

void tw_lease_report(struct interface *interface) {
  struct netif *netif = &interface->netif;
  const struct dhcp *dhcp = &interface->dhcp;
  if (interface->leased && !dhcp_supplied_address(netif)) {
    interface->leased = interface->lease_news = false;
    if (netif_default == netif) {
      netif_set_default(NULL);
    }
    tw_event_add(ABI_EVENT_LEASE_LOST, interface->handle, 0);
  }
  if (interface->lease_news) {
    interface->lease_news = false;
    struct abi_lease lease = {
        .seconds = dhcp->offered_t0_lease,
        .renewal = dhcp->offered_t1_renew,
        .rebinding = dhcp->offered_t2_rebind,
    };
    memcpy(lease.address, netif_ip4_addr(netif), sizeof lease.address);
    memcpy(lease.mask, netif_ip4_netmask(netif), sizeof lease.mask);
    memcpy(lease.router, netif_ip4_gw(netif), sizeof lease.router);
    memcpy(lease.server, ip_2_ip4(&dhcp->server_ip_addr), sizeof lease.server);
    tw_event_add_bytes(ABI_EVENT_LEASE, interface->handle, 0, &lease, sizeof lease);
  }
}
