/* An interface's IPv4 address by DHCP (dhcp_client.c): the embedder starts and stops the client. It is notified when a lease
   begins or is renewed, with the server's message, whose further options it interprets, and when the lease ends. */
#include "ip/lease.h"

#include "abi.h"
#include "abi/events.h"
#include "abi/module.h"
#include "link/interface.h"

#include <stddef.h>

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
  return tw_error_from_lwip(tw_dhcp_client_start(interface));
}

/* Sends DHCPRELEASE, and removes the address. */
int32_t abi_dhcp_stop(int32_t handle) {
  struct interface *interface = tw_interface_object(handle);
  if (interface == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  tw_dhcp_client_stop(&interface->dhcp);
  return 0;
}

void tw_lease_acknowledged(const struct netif *netif, const void *message, uint32_t length) {
  tw_event_add_bytes(ABI_EVENT_LEASE_MESSAGE, tw_interface_handle(netif), (int32_t)length, message, length);
}

void tw_lease_bound(struct netif *netif) {
  struct interface *interface = netif->state;
  interface->leased = interface->lease_news = true;
  if (netif_default == NULL && !ip4_addr_isany(netif_ip4_gw(netif))) {
    netif_set_default(netif);
  }
}

_Static_assert(ABI_LEASE_ADDRESS_OFFSET == offsetof(struct dhcp_lease, address) &&
                   ABI_LEASE_MASK_OFFSET == offsetof(struct dhcp_lease, mask) &&
                   ABI_LEASE_ROUTER_OFFSET == offsetof(struct dhcp_lease, router) &&
                   ABI_LEASE_SERVER_OFFSET == offsetof(struct dhcp_lease, server) &&
                   ABI_LEASE_SECONDS_OFFSET == offsetof(struct dhcp_lease, seconds) &&
                   ABI_LEASE_RENEWAL_OFFSET == offsetof(struct dhcp_lease, renewal) &&
                   ABI_LEASE_REBINDING_OFFSET == offsetof(struct dhcp_lease, rebinding) &&
                   ABI_LEASE_SIZE == sizeof(struct dhcp_lease),
               "the client keeps a lease in the form of its event");

void tw_lease_report(struct interface *interface) {
  const struct dhcp_client *client = &interface->dhcp;
  if (interface->leased && !dhcp_client_is_bound(client)) {
    interface->leased = interface->lease_news = false;
    if (netif_default == &interface->netif) {
      netif_set_default(NULL);
    }
    tw_event_add(ABI_EVENT_LEASE_LOST, interface->handle, 0);
  }
  if (interface->lease_news) {
    interface->lease_news = false;
    tw_event_add_bytes(ABI_EVENT_LEASE, interface->handle, 0, &client->lease, sizeof client->lease);
  }
}
