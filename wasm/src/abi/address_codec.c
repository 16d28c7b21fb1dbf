/* Addresses as the embedder writes and reads them: see [layout.endpoint] in abi.toml. */
#include "abi/address_codec.h"

#include "abi.h"
#include "link/interface.h"
#include "lwip/ip6_zone.h"

#include <string.h>

/* `scope` is the handle of the interface that a link-local address belongs to, or 0. False if it names no interface. */
bool tw_address_read(ip_addr_t *address, int32_t family, const uint8_t *bytes, int32_t scope) {
  memset(address, 0, sizeof *address);
  if (family == ABI_FAMILY_IPV4) {
    memcpy(&ip_2_ip4(address)->addr, bytes, 4);
    IP_SET_TYPE(address, IPADDR_TYPE_V4);
    return true;
  }
  memcpy(ip_2_ip6(address)->addr, bytes, 16);
  IP_SET_TYPE(address, family == ABI_FAMILY_IPV6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_ANY);
  if (scope != 0) {
    struct netif *netif = tw_interface_netif(scope);
    if (netif == NULL) {
      return false;
    }
    ip6_addr_assign_zone(ip_2_ip6(address), IP6_UNKNOWN, netif);
  }
  return true;
}

void tw_address_write(struct abi_endpoint *endpoint, const ip_addr_t *address, uint16_t port) {
  memset(endpoint, 0, sizeof *endpoint);
  endpoint->port = port;
  if (IP_IS_V4(address)) {
    endpoint->family = ABI_FAMILY_IPV4;
    memcpy(endpoint->address, &ip_2_ip4(address)->addr, 4);
  } else {
    endpoint->family = ABI_FAMILY_IPV6;
    memcpy(endpoint->address, ip_2_ip6(address)->addr, sizeof endpoint->address);
    if (ip6_addr_has_zone(ip_2_ip6(address))) {
      endpoint->scope = (uint32_t)tw_interface_handle(netif_get_by_index(ip6_addr_zone(ip_2_ip6(address))));
    }
  }
}

/* Reads an endpoint that the embedder wrote: false if its family, port or scope is invalid. */
bool tw_address_read_endpoint(ip_addr_t *address, uint16_t *port, const struct abi_endpoint *endpoint) {
  *port = (uint16_t)endpoint->port;
  return (endpoint->family == ABI_FAMILY_IPV4 || endpoint->family == ABI_FAMILY_IPV6) && endpoint->port <= 65535 &&
         tw_address_read(address, (int32_t)endpoint->family, endpoint->address, (int32_t)endpoint->scope);
}
