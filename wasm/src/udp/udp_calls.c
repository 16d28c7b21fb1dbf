/* UDP sockets: open, connect, join, close. Each call checks its handle and its arguments, and returns at once. */
#include "udp/udp_calls.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "ip/send_room.h"
#include "link/interface.h"
#include "udp/udp_groups.h"
#include "udp/udp_receive.h"
#include "udp/udp_send.h"

enum { FIRST_EPHEMERAL = 49152, EPHEMERAL_PORTS = 65536 - FIRST_EPHEMERAL };

static struct udp_socket *sockets;
static uint32_t socket_count;

struct udp_socket *tw_udp_first(void) { return sockets; }

static struct udp_socket *socket_for(int32_t handle) { return tw_handle_object(handle, HANDLE_UDP); }

static void on_datagram(void *argument, struct udp_pcb *pcb, struct pbuf *data, const ip_addr_t *source, u16_t port) {
  (void)pcb;
  tw_udp_deliver(argument, data, source, port, ip_current_dest_addr());
  pbuf_free(data);
}

/* RFC 6056, section 3.3.1: a random start, then the next port that is free for this address. */
static err_t bind(struct udp_pcb *pcb, const ip_addr_t *address, uint16_t port, uint8_t shares) {
  if (port != 0) {
    ip_set_option(pcb, shares);
    return udp_bind(pcb, address, port);
  }
  uint32_t start = tw_random_u32();
  err_t error = ERR_USE;
  for (uint32_t tries = 0; tries < EPHEMERAL_PORTS && error == ERR_USE; tries++) {
    error = udp_bind(pcb, address, (u16_t)(FIRST_EPHEMERAL + (start + tries) % EPHEMERAL_PORTS));
  }
  ip_set_option(pcb, shares); /* with others that ask for this port; it was free, since no socket shares one by chance */
  return error;
}

int32_t abi_udp_open(int32_t family, int32_t port, int32_t scope) {
  ip_addr_t address;
  uint8_t shares = (family & ABI_SHARE_ADDRESS ? SOF_REUSEADDR : 0) | (family & ABI_SHARE_PORT ? SOF_REUSEPORT : 0);
  family &= ~(ABI_SHARE_ADDRESS | ABI_SHARE_PORT);
  if ((family != ABI_FAMILY_ANY && family != ABI_FAMILY_IPV4 && family != ABI_FAMILY_IPV6) || port < 0 || port > 65535 ||
      !tw_address_read(&address, family, tw_scratch.ip_address.address, scope)) {
    return ABI_ERROR_INVALID;
  }
  if (family == ABI_FAMILY_ANY) {
    address = *IP_ANY_TYPE;
  } else if (!ip_addr_isany(&address) && !ip_addr_ismulticast(&address) && !tw_interface_owns(&address)) {
    return ABI_ERROR_ADDRESS_NOT_AVAILABLE;
  }
  if (socket_count >= ABI_MAX_UDP_SOCKETS) {
    return ABI_ERROR_LIMIT;
  }
  struct udp_socket *socket = tw_heap_allocate_zeroed(1, sizeof *socket);
  struct udp_pcb *pcb = socket == NULL ? NULL : udp_new_ip_type(IP_GET_TYPE(&address));
  if (pcb == NULL) {
    tw_heap_free(socket);
    return ABI_ERROR_NO_MEMORY;
  }
  int32_t error = tw_error_from_lwip(bind(pcb, &address, (uint16_t)port, shares));
  socket->handle = error == 0 ? tw_handle_open(HANDLE_UDP, socket) : error;
  if (socket->handle < 0) {
    error = socket->handle;
    udp_remove(pcb);
    tw_heap_free(socket);
    return error;
  }
  socket->pcb = pcb;
  socket->next = sockets;
  sockets = socket;
  socket_count++;
  udp_set_multicast_ttl(pcb, 1); /* RFC 1112, section 6.1 */
  udp_recv(pcb, on_datagram, socket);
  return socket->handle;
}

int32_t abi_udp_connect(int32_t handle) {
  struct udp_socket *socket = socket_for(handle);
  ip_addr_t remote;
  uint16_t port;
  if (socket == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct udp_pcb *pcb = socket->pcb;
  if (!tw_address_read_endpoint(&remote, &port, &tw_scratch.endpoint) || port == 0 ||
      !IP_ADDR_PCB_VERSION_MATCH(pcb, &remote)) {
    return ABI_ERROR_INVALID;
  }
  const ip_addr_t *local;
  struct netif *netif;
  int32_t error = tw_udp_route(socket, &remote, &local, &netif);
  if (error != 0) {
    return error;
  }
  /* Broadcasts and groups are answered from addresses of their own; for one host the route decides ours. */
  if (!ip_addr_ismulticast(&remote) && local != NULL) {
    ip_addr_copy(pcb->local_ip, *local);
  }
  return tw_error_from_lwip(udp_connect(pcb, &remote, port));
}

int32_t abi_udp_local(int32_t handle) {
  const struct udp_socket *socket = socket_for(handle);
  if (socket == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  tw_address_write(&tw_scratch.endpoint, &socket->pcb->local_ip, socket->pcb->local_port);
  return 0;
}

int32_t abi_udp_option(int32_t handle, int32_t option, int32_t value) {
  struct udp_socket *socket = socket_for(handle);
  if (socket == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct udp_pcb *pcb = socket->pcb;
  bool fits = value >= 0 && value <= 255;
  if (option == ABI_OPTION_HOP_LIMIT && fits && value > 0) {
    pcb->ttl = (u8_t)value;
  } else if (option == ABI_OPTION_MULTICAST_HOP_LIMIT && fits) {
    udp_set_multicast_ttl(pcb, (u8_t)value);
  } else if (option == ABI_OPTION_MULTICAST_INTERFACE && (value == 0 || tw_interface_netif(value) != NULL)) {
    socket->group_interface = value;
  } else if (option == ABI_OPTION_TYPE_OF_SERVICE && fits) {
    pcb->tos = (u8_t)value;
  } else if (option == ABI_OPTION_MULTICAST_LOOP && (value == 0 || value == 1)) {
    socket->keeps_groups_off = value == 0;
  } else if (option == ABI_OPTION_BROADCAST && (value == 0 || value == 1)) {
    ip_reset_option(pcb, SOF_BROADCAST);
    ip_set_option(pcb, value ? SOF_BROADCAST : 0);
  } else {
    return ABI_ERROR_INVALID;
  }
  return 0;
}

int32_t abi_udp_close(int32_t handle) {
  struct udp_socket *socket = socket_for(handle);
  if (socket == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct udp_socket **link = &sockets;
  while (*link != socket) {
    link = &(*link)->next;
  }
  *link = socket->next;
  socket_count--;
  tw_udp_leave_all(socket);
  tw_room_forget(&socket->waiter);
  udp_remove(socket->pcb);
  tw_handle_close(handle);
  tw_heap_free(socket);
  return 0;
}
