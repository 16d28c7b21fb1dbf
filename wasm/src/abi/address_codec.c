/* Addresses as they cross the boundary: see [address] in abi.toml. */
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

void tw_address_write(uint8_t *record, const ip_addr_t *address, uint16_t port) {
  uint32_t head[3] = {IP_IS_V4(address) ? ABI_FAMILY_IPV4 : ABI_FAMILY_IPV6, port, 0};
  memset(record, 0, ABI_ADDRESS_SIZE);
  if (IP_IS_V4(address)) {
    memcpy(record + sizeof head, &ip_2_ip4(address)->addr, 4);
  } else {
    memcpy(record + sizeof head, ip_2_ip6(address)->addr, 16);
    if (ip6_addr_has_zone(ip_2_ip6(address))) {
      head[2] = (uint32_t)tw_interface_handle(netif_get_by_index(ip6_addr_zone(ip_2_ip6(address))));
    }
  }
  memcpy(record, head, sizeof head);
}

/* An endpoint as the host wrote it: false if its family, port or scope names nothing. */
bool tw_address_read_endpoint(ip_addr_t *address, uint16_t *port, const uint8_t *record) {
  uint32_t head[3];
  memcpy(head, record, sizeof head);
  *port = (uint16_t)head[1];
  return (head[0] == ABI_FAMILY_IPV4 || head[0] == ABI_FAMILY_IPV6) && head[1] <= 65535 &&
         tw_address_read(address, (int32_t)head[0], record + sizeof head, (int32_t)head[2]);
}
