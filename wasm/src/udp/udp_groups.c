/* The multicast groups that UDP sockets belong to. A group is left when its last member leaves or is closed. */
#include "udp/udp_groups.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "link/interface.h"
#include "udp/udp_calls.h"
#include "udp/udp_send.h"
#include "lwip/igmp.h"
#include "lwip/mld6.h"

static err_t change(const struct membership *membership, bool join) {
  struct netif *netif = tw_interface_netif(membership->interface);
  const ip_addr_t *group = &membership->group;
  if (netif == NULL) {
    return ERR_OK; /* the interface was removed, and its groups with it */
  }
  if (IP_IS_V4(group)) {
    return join ? igmp_joingroup_netif(netif, ip_2_ip4(group)) : igmp_leavegroup_netif(netif, ip_2_ip4(group));
  }
  return join ? mld6_joingroup_netif(netif, ip_2_ip6(group)) : mld6_leavegroup_netif(netif, ip_2_ip6(group));
}

static int32_t join(struct udp_socket *socket, const struct membership *wanted) {
  if (socket->membership_count == ABI_MAX_MEMBERSHIPS) {
    return ABI_ERROR_LIMIT;
  }
  if (socket->memberships == NULL) {
    socket->memberships = tw_heap_allocate(ABI_MAX_MEMBERSHIPS * sizeof *socket->memberships);
    if (socket->memberships == NULL) {
      return ABI_ERROR_NO_MEMORY;
    }
  }
  int32_t error = tw_error_from_lwip(change(wanted, true));
  if (error == 0) {
    socket->memberships[socket->membership_count++] = *wanted;
  }
  return error;
}

int32_t abi_udp_group(int32_t handle, int32_t joins, int32_t interface) {
  struct udp_socket *socket = tw_handle_object(handle, HANDLE_UDP);
  struct membership wanted = {.interface = interface};
  uint16_t port;
  if (socket == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  if (!tw_address_read_endpoint(&wanted.group, &port, &tw_scratch.endpoint) || !ip_addr_ismulticast(&wanted.group)) {
    return ABI_ERROR_INVALID;
  }
  struct netif *netif = interface != 0 ? tw_interface_netif(interface) : tw_udp_group_route(socket, &wanted.group);
  if (netif == NULL) {
    return interface != 0 ? ABI_ERROR_INVALID : ABI_ERROR_NO_ROUTE;
  }
  wanted.interface = tw_interface_handle(netif);
  for (uint32_t i = 0; i < socket->membership_count; i++) {
    struct membership *membership = &socket->memberships[i];
    if (membership->interface == wanted.interface && ip_addr_zoneless_eq(&membership->group, &wanted.group)) {
      if (joins) {
        return ABI_ERROR_ADDRESS_IN_USE;
      }
      change(membership, false);
      *membership = socket->memberships[--socket->membership_count];
      return 0;
    }
  }
  return joins ? join(socket, &wanted) : ABI_ERROR_ADDRESS_NOT_AVAILABLE;
}

void tw_udp_leave_all(struct udp_socket *socket) {
  while (socket->membership_count > 0) {
    change(&socket->memberships[--socket->membership_count], false);
  }
  tw_heap_free(socket->memberships);
}
