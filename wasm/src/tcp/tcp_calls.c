/* What the host may ask of TCP. Each call checks its handle and its arguments, and answers at once. */
#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/events.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "abi/staging.h"
#include "link/interface.h"
#include "port/consistency.h"
#include "port/random.h"
#include "port/timers.h"
#include "tcp/connection.h"
#include "tcp/tcp_emit.h"
#include "tcp/tcp_listen.h"
#include "tcp/tcp_lookup.h"
#include "tcp/tcp_output.h"

#include <string.h>

enum {
  FIRST_EPHEMERAL = 49152,
  EPHEMERAL_PORTS = 65536 - FIRST_EPHEMERAL,
  FIRST_UNPRIVILEGED = 1024, /* RFC 6056, section 3.2: ports from here on are for clients, too */
  UNUSUAL_PORTS = FIRST_EPHEMERAL - FIRST_UNPRIVILEGED,
  FEW_TRIES = 64, /* of the ports above, before one of the others is taken */
  CHUNK = 32768,
  WORTH_REFERRING = 32768, /* bytes: the area is as large for a small chunk */
  CALL_SEGMENTS = 128 /* that one call builds, so that a loop of a thousand calls returns within a few milliseconds */
};
/* Linux's own bounds, and the reason is lwIP's: idle time and all intervals together must fit 32 bits of milliseconds. */
enum { MOST_KEEPALIVE = 32767000, MOST_PROBES = 127 };
enum { DISCOVERY_DO = 2 }; /* Linux's IP_PMTUDISC_DO; what is less leaves segments to be fragmented */

/* Begins a call on a handle: nothing has left yet, and TCP's timers are looked at again, since a call may start one though
   nothing leaves, where a window is closed or no route leads to the peer. */
static struct connection *begin_call(int32_t handle) {
  tw_control[ABI_CONTROL_SENT_AT_ONCE] = 0;
  tw_timers_tcp_changed();
  consistency_restore();
  struct connection *connection = tw_handle_object(handle, HANDLE_CONNECTION);
  if (connection != NULL) {
    tw_connection_touch(connection);
  }
  return connection;
}

static err_t on_connected(void *argument, struct tcp_pcb *pcb, err_t error) {
  struct connection *connection = argument;
  (void)error;
  tw_connection_established(connection);
  connection->error = 0;
  tw_event_add_addresses(ABI_EVENT_CONNECTED, connection->handle, 0, &pcb->local_ip, pcb->local_port, &pcb->remote_ip,
                         pcb->remote_port);
  return ERR_OK;
}

static err_t on_accepted(void *argument, struct tcp_pcb *pcb, err_t error) {
  struct listener *listener = argument;
  struct connection *connection = pcb != NULL && error == ERR_OK ? tw_connection_new(pcb) : NULL;
  if (connection == NULL) {
    return ERR_MEM; /* lwIP resets it; the peer may try again */
  }
  tw_connection_established(connection);
  tcp_backlog_delayed(pcb); /* it keeps its place in the backlog until the application takes it */
  tw_event_add_addresses(ABI_EVENT_ACCEPTED, listener->handle, connection->handle, &pcb->local_ip, pcb->local_port,
                         &pcb->remote_ip, pcb->remote_port);
  return ERR_OK;
}

/* RFC 6056, section 3.3.4: a keyed offset for each destination, and a few counters that destinations share. Many connections to
   one destination need more ports than the usual ones, which are tried last, too. 0 where all 64,512 are in use. */
static uint16_t ephemeral_port(const ip_addr_t *local, const ip_addr_t *remote, uint16_t remote_port) {
  static uint32_t counters[16];
  struct abi_endpoint message[2];
  tw_address_write(&message[0], local, 0);
  tw_address_write(&message[1], remote, remote_port);
  uint64_t hash = tw_random_keyed(message, sizeof message);
  uint32_t *counter = &counters[hash >> 60];
  for (uint32_t tries = 0; tries < FEW_TRIES + 65536 - FIRST_UNPRIVILEGED; tries++) {
    bool usual = tries < FEW_TRIES || tries >= FEW_TRIES + UNUSUAL_PORTS;
    uint32_t first = usual ? FIRST_EPHEMERAL : FIRST_UNPRIVILEGED, count = usual ? EPHEMERAL_PORTS : UNUSUAL_PORTS;
    uint16_t port = (uint16_t)(first + ((uint32_t)hash + ++*counter) % count);
    /* Never both ends, by chance: its SYN would find not the listener but itself. */
    if (!(port == remote_port && ip_addr_eq(local, remote)) && tw_tcp_tuple_take(local, port, remote, remote_port)) {
      return port;
    }
  }
  return 0;
}

/* RFC 1122, section 4.2.3.10: TCP connects to one host. lwIP would broadcast the SYN, or send that to ::1 to the wire. */
static bool is_one_host(const ip_addr_t *remote) {
  struct netif *netif = IP_IS_V4(remote) ? ip_route(IP4_ADDR_ANY, remote) : NULL;
  return !ip_addr_isany(remote) && !ip_addr_ismulticast(remote) &&
         !(netif != NULL && ip4_addr_isbroadcast(ip_2_ip4(remote), netif)) &&
         !(IP_IS_V6(remote) && ip_addr_isloopback(remote) && !tw_interface_owns(remote));
}

static bool listens_on(uint16_t port, const ip_addr_t *address, bool shares) {
  for (const struct tcp_pcb_listen *pcb = tcp_listen_pcbs.listen_pcbs; pcb != NULL; pcb = pcb->next) {
    if (pcb->local_port != port || (shares && ip_get_option(pcb, SOF_REUSEPORT))) {
      continue;
    }
    bool any = IP_IS_ANY_TYPE_VAL(pcb->local_ip) || IP_GET_TYPE(address) == IPADDR_TYPE_ANY;
    bool same_family = IP_IS_V6_VAL(pcb->local_ip) == IP_IS_V6(address);
    if (any ||
        (same_family && (ip_addr_isany(&pcb->local_ip) || ip_addr_isany(address) || ip_addr_eq(&pcb->local_ip, address)))) {
      return true;
    }
  }
  return false;
}

/* Chooses the local end: what the caller named, or what the route suggests. */
static int32_t choose_local(struct tcp_pcb *pcb, const ip_addr_t *remote, uint16_t remote_port, uint16_t local_port) {
  if (!is_one_host(remote)) {
    return ABI_ERROR_NO_ROUTE;
  }
  if (!ip_addr_isany(&pcb->local_ip)) {
    if (!tw_interface_owns(&pcb->local_ip)) {
      return ABI_ERROR_ADDRESS_NOT_AVAILABLE;
    }
  } else if (tw_interface_owns(remote)) {
    ip_addr_copy(pcb->local_ip, *remote); /* a host that talks to itself */
  } else {
    struct netif *netif = ip_route(&pcb->local_ip, remote);
    const ip_addr_t *local = netif == NULL ? NULL : ip_netif_get_local_ip(netif, remote);
    if (local == NULL || ip_addr_isany(local)) {
      return ABI_ERROR_NO_ROUTE;
    }
    ip_addr_copy(pcb->local_ip, *local);
  }
  if (local_port == 0) {
    pcb->local_port = ephemeral_port(&pcb->local_ip, remote, remote_port);
    return pcb->local_port == 0 ? ABI_ERROR_ADDRESS_NOT_AVAILABLE : 0; /* as Linux's connect */
  }
  bool to_itself = local_port == remote_port && ip_addr_eq(&pcb->local_ip, remote);
  if ((to_itself && listens_on(local_port, remote, false)) ||
      !tw_tcp_tuple_take(&pcb->local_ip, local_port, remote, remote_port)) {
    return ABI_ERROR_ADDRESS_IN_USE;
  }
  ip_set_option(pcb, SOF_REUSEADDR);
  return tw_error_from_lwip(tcp_bind(pcb, &pcb->local_ip, local_port));
}

int32_t abi_tcp_connect(int32_t family, int32_t remote_port, int32_t local_port, int32_t scope) {
  ip_addr_t remote, local;
  bool asks = (family & ABI_CONNECT_ECN) != 0;
  family &= ~ABI_CONNECT_ECN;
  if ((family != ABI_FAMILY_IPV4 && family != ABI_FAMILY_IPV6) || remote_port <= 0 || remote_port > 65535 || local_port < 0 ||
      local_port > 65535 || !tw_address_read(&remote, family, tw_scratch.connect.remote, scope) ||
      !tw_address_read(&local, family, tw_scratch.connect.local, scope)) {
    return ABI_ERROR_INVALID;
  }
  struct tcp_pcb *pcb = tcp_new_ip_type(IP_GET_TYPE(&remote));
  if (pcb == NULL) {
    return ABI_ERROR_NO_MEMORY;
  }
  ip_addr_copy(pcb->local_ip, local);
  int32_t error = choose_local(pcb, &remote, (uint16_t)remote_port, (uint16_t)local_port);
  struct connection *connection = error == 0 ? tw_connection_new(pcb) : NULL;
  if (connection == NULL) {
    pcb->local_port = local_port == 0 ? 0 : pcb->local_port; /* not bound through lwIP: nothing to unlist */
    tcp_close(pcb);
    return error == 0 ? ABI_ERROR_NO_MEMORY : error;
  }
  pcb->ecn = asks ? TCP_ECE | TCP_CWR : 0;
  err_t failure = tcp_connect(pcb, &remote, (u16_t)remote_port, on_connected);
  if (failure != ERR_OK) {
    int32_t handle = connection->handle;
    pcb->local_port = local_port == 0 ? 0 : pcb->local_port;
    connection->handle = 0;
    tw_handle_close(handle);
    tcp_close(pcb);
    return tw_error_from_lwip(failure);
  }
  ip_set_option(pcb,
                SOF_REUSEADDR); /* a listener may have the port; before the connect, lwIP would walk over all connections */
  return connection->handle;
}

int32_t abi_tcp_listen(int32_t family, int32_t port, int32_t backlog, int32_t scope) {
  ip_addr_t address;
  bool shares = (family & ABI_SHARE_PORT) != 0;
  family &= ~ABI_SHARE_PORT;
  if ((family != ABI_FAMILY_ANY && family != ABI_FAMILY_IPV4 && family != ABI_FAMILY_IPV6) || port < 0 || port > 65535 ||
      backlog < 1 || backlog > ABI_MAX_BACKLOG || !tw_address_read(&address, family, tw_scratch.ip_address.address, scope)) {
    return ABI_ERROR_INVALID;
  }
  if (family == ABI_FAMILY_ANY) {
    address = *IP_ANY_TYPE;
  } else if (!ip_addr_isany(&address) && !tw_interface_owns(&address)) {
    return ABI_ERROR_ADDRESS_NOT_AVAILABLE;
  }
  for (int tries = 0; port == 0 && tries < EPHEMERAL_PORTS; tries++) {
    uint16_t candidate = (uint16_t)(FIRST_EPHEMERAL + tw_random_u32() % EPHEMERAL_PORTS);
    port = listens_on(candidate, &address, false) ? 0 : candidate;
  }
  if (port == 0 || listens_on((uint16_t)port, &address, shares)) {
    return ABI_ERROR_ADDRESS_IN_USE;
  }
  struct listener *listener = tw_heap_allocate_zeroed(1, sizeof *listener);
  struct tcp_pcb *pcb = tcp_new_ip_type(IP_GET_TYPE(&address)), *listening = NULL;
  err_t error = ERR_MEM;
  if (listener != NULL && pcb != NULL) {
    /* Connections of an earlier listener do not keep the port. */
    ip_set_option(pcb, SOF_REUSEADDR | (shares ? SOF_REUSEPORT : 0));
    error = tcp_bind(pcb, &address, (u16_t)port);
    if (error == ERR_OK) {
      listening = tcp_listen_with_backlog_and_err(pcb, 1, &error);
    }
  }
  int32_t handle = listening == NULL ? tw_error_from_lwip(error) : tw_handle_open(HANDLE_LISTENER, listener);
  if (handle < 0) {
    if (listening != NULL || pcb != NULL) {
      tcp_close(listening != NULL ? listening : pcb);
    }
    tw_heap_free(listener);
    return handle;
  }
  tcp_backlog_set(listening, (u16_t)backlog); /* lwIP's call takes 8 bits */
  listener->pcb = listening;
  listener->handle = handle;
  tcp_arg(listening, listener);
  tcp_accept(listening, on_accepted);
  return handle;
}

int32_t abi_tcp_local_port(int32_t handle) {
  const struct listener *listener = tw_handle_object(handle, HANDLE_LISTENER);
  return listener == NULL ? ABI_ERROR_BAD_HANDLE : listener->pcb->local_port;
}

/* A small write leaves at once where one segment at most is under way, so that the head and the body of an answer both do;
   a large one and a window that opens always do. Nothing does where a tick of TCP is due. SENT_AT_ONCE names an interface
   only where nothing else needs a poll; else the connection is marked for the next one, which hands its frames on, too. */
static void send_now_or_later(struct connection *connection, bool small, double time) {
  struct tcp_pcb *pcb = connection->pcb;
  bool waits = small && pcb->unacked != NULL && pcb->unacked->next != NULL;
  if (time > 0 && !waits && tw_timers_advance(time)) {
    tw_tcp_emit_in_flush(true);
    err_t error = tcp_output(pcb);
    tw_tcp_emit_in_flush(false);
    if (error == ERR_OK && tw_control[ABI_CONTROL_SENT_AT_ONCE] != 0 && !tw_tcp_others_pending(connection)) {
      return;
    }
  }
  tw_control[ABI_CONTROL_SENT_AT_ONCE] = 0;
  tw_connection_send_later(connection);
}

/* Microseconds for which a connection that did not take all of a write is not tried again. Room in its own queue is
   announced when it is there. Where the heap was full nothing announces room, and each further try that finds none
   waits twice as long, so that a thousand connections do not spend the loop's time on it. */
static uint64_t refusal_delay(struct connection *connection, err_t error) {
  if (error == ERR_OK || tcp_sndqueuelen(connection->pcb) + 1u >= tw_connection_queue_limit(connection)) {
    return 0;
  }
  uint64_t delay = (uint64_t)CONNECTION_MEMORY_WAIT << connection->refusals;
  if (connection->refusals < CONNECTION_MEMORY_DOUBLINGS) {
    connection->refusals++;
  }
  return delay;
}

int32_t abi_tcp_send(double time, int32_t handle, int32_t length) {
  tw_control[ABI_CONTROL_SEND_FULL] = 0;
  struct connection *connection = begin_call(handle);
  if (connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  if (length < 0 || length > ABI_STAGING_CAPACITY) {
    return ABI_ERROR_INVALID;
  }
  struct tcp_pcb *pcb = connection->pcb;
  if (pcb == NULL || (connection->flags & CONNECTION_ESTABLISHED) == 0 || (pcb->flags & (TF_FIN | TF_CLOSEPEND)) != 0) {
    return ABI_ERROR_NOT_CONNECTED;
  }
  int32_t asked = length;
  if (length > CALL_SEGMENTS * TCP_MIN_SND_MSS) {
    uint32_t size = LWIP_MAX(LWIP_MIN(pcb->mss, pcb->snd_wnd_max / 2), TCP_MIN_SND_MSS);
    length = (int32_t)LWIP_MIN((uint32_t)length, CALL_SEGMENTS * size);
  }
  /* A chunk that fills most of the staging area stays there, if all of it can be taken. */
  const uint8_t *data = tw_staging();
  /* The limit is a soft one: where there is room for a part, all is taken, so that chunks stay whole. */
  bool has_room = tw_connection_send_room(connection) > 0;
  bool stays = has_room && length >= WORTH_REFERRING && length <= (int32_t)tcp_sndbuf(pcb) && tw_staging_may_stay();
  int32_t taken = 0;
  err_t error = ERR_OK;
  while (has_room && taken < length && error == ERR_OK) {
    uint32_t chunk = LWIP_MIN((uint32_t)(length - taken), LWIP_MIN(tcp_sndbuf(pcb), CHUNK));
    if (chunk == 0) {
      break;
    }
    uint32_t before = pcb->snd_lbb;
    error = tcp_write(pcb, data + taken, (u16_t)chunk, stays ? 0 : TCP_WRITE_FLAG_COPY);
    taken += (int32_t)(pcb->snd_lbb - before); /* ERR_MEM may follow a part */
  }
  if (taken > 0) {
    connection->refusals = 0;
  }
  if (stays) {
    tw_staging_stays(taken > 0);
  }
  if (error != ERR_OK && error != ERR_MEM) {
    consistency_restore();
    return connection->pcb == NULL ? ABI_ERROR_RESET : tw_error_from_lwip(error);
  }
  send_now_or_later(connection, asked < WORTH_REFERRING, time);
  if (taken < asked || tw_connection_send_room(connection) == 0) {
    tw_control[ABI_CONTROL_SEND_FULL] = 1;
    connection->stalled = tw_now + refusal_delay(connection, error);
    tw_connection_report(connection, CONNECTION_WANTS_ROOM);
  }
  return taken;
}

int32_t abi_tcp_received(double time, int32_t handle, int32_t length) {
  struct connection *connection = begin_call(handle);
  if (connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  if ((uint32_t)length > connection->unread) { /* a negative one too */
    return ABI_ERROR_INVALID;
  }
  connection->unread -= (uint32_t)length;
  if (connection->pcb != NULL) {
    /* lwIP would send a window update for each step. */
    tcp_input_pcb = connection->pcb;
    for (int32_t step; length > 0; length -= step) {
      step = LWIP_MIN(length, 0xffff);
      tcp_recved(connection->pcb, (u16_t)step);
    }
    tcp_input_pcb = NULL;
    send_now_or_later(connection, false, time);
  }
  return 0;
}

int32_t abi_tcp_shutdown(int32_t handle) {
  struct connection *connection = begin_call(handle);
  if (connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  if (connection->pcb == NULL || (connection->flags & CONNECTION_ESTABLISHED) == 0) { /* a simultaneous open may be half done */
    return ABI_ERROR_NOT_CONNECTED;
  }
  return tw_error_from_lwip(tw_connection_finish(connection->pcb));
}

int32_t abi_tcp_close(int32_t handle) {
  struct listener *listener = tw_handle_object(handle, HANDLE_LISTENER);
  struct connection *connection = begin_call(handle);
  if (listener == NULL && connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  tw_handle_close(handle);
  if (listener != NULL) {
    tw_tcp_listen_close(listener->pcb);
    tw_heap_free(listener);
  } else {
    tw_connection_orphan(connection);
  }
  return 0;
}

int32_t abi_tcp_abort(int32_t handle) {
  struct connection *connection = begin_call(handle);
  if (connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct tcp_pcb *pcb = connection->pcb;
  tw_handle_close(handle);
  connection->handle = 0;
  connection->flags &= ~(uint32_t)(CONNECTION_WANTS_ROOM | CONNECTION_ENDED);
  if (pcb != NULL) {
    tcp_err(pcb, NULL);
    tw_connection_abort(connection);
  } else {
    tw_connection_release(connection);
  }
  return 0;
}

int32_t abi_tcp_accepted(int32_t handle) {
  struct connection *connection = begin_call(handle);
  if (connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  if (connection->pcb != NULL) {
    tcp_backlog_accepted(connection->pcb);
  }
  return tw_tcp_admission_waits();
}

int32_t abi_tcp_option(int32_t handle, int32_t option, int32_t value) {
  struct connection *connection = begin_call(handle);
  if (connection == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct tcp_pcb *pcb = connection->pcb;
  if (pcb == NULL) {
    return ABI_ERROR_NOT_CONNECTED;
  }
  int32_t most = option == ABI_OPTION_KEEPALIVE_COUNT                                     ? MOST_PROBES
                 : option == ABI_OPTION_TYPE_OF_SERVICE || option == ABI_OPTION_HOP_LIMIT ? 255
                 : option == ABI_OPTION_USER_TIMEOUT                                      ? INT32_MAX
                 : option == ABI_OPTION_CONGESTION_CONTROL                                ? 1
                                                                                          : MOST_KEEPALIVE;
  bool counts = (option >= ABI_OPTION_KEEPALIVE_IDLE && option <= ABI_OPTION_KEEPALIVE_COUNT) || option == ABI_OPTION_HOP_LIMIT;
  if (value < (counts ? 1 : 0) || value > most) {
    return ABI_ERROR_INVALID;
  }
  switch (option) {
    case ABI_OPTION_NODELAY:
      tcp_clear_flags(pcb, TF_NODELAY);
      tcp_set_flags(pcb, value ? TF_NODELAY : 0);
      return 0;
    case ABI_OPTION_KEEPALIVE:
      ip_reset_option(pcb, SOF_KEEPALIVE);
      ip_set_option(pcb, value ? SOF_KEEPALIVE : 0);
      return 0;
    case ABI_OPTION_KEEPALIVE_IDLE:
      pcb->keep_idle = (u32_t)value;
      return 0;
    case ABI_OPTION_KEEPALIVE_INTERVAL:
      pcb->keep_intvl = (u32_t)value;
      return 0;
    case ABI_OPTION_KEEPALIVE_COUNT:
      pcb->keep_cnt = (u32_t)value;
      return 0;
    case ABI_OPTION_TYPE_OF_SERVICE:
      pcb->tos = (u8_t)value;
      return 0;
    case ABI_OPTION_HOP_LIMIT:
      pcb->ttl = (u8_t)value;
      return 0;
    case ABI_OPTION_PATH_MTU_DISCOVERY:
      pcb->path_mtu_discovery = value >= DISCOVERY_DO && IP_IS_V4(&pcb->remote_ip);
      return 0;
    case ABI_OPTION_CONGESTION_CONTROL:
      connection->reno = value != 0;
      return 0;
    case ABI_OPTION_USER_TIMEOUT:
      connection->user_timeout = (uint32_t)value;
      connection->progress = tw_now;
      return 0;
    default:
      return ABI_ERROR_INVALID;
  }
}
