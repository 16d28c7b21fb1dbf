/* Ping sessions: echo requests to one host, distinguished from those of other sessions by their identifier. Replies are matched
   in icmp.c; the embedder matches them with requests by the sequence number. */
#include "ip/ping.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "abi/staging.h"
#include "ip/send_room.h"
#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/stats.h"

static struct ping *sessions;
static uint32_t session_count;

struct ping *tw_ping_find(uint16_t identifier) {
  struct ping *ping = sessions;
  while (ping != NULL && ping->identifier != identifier) {
    ping = ping->next;
  }
  return ping;
}

int32_t abi_ping_open(int32_t family, int32_t scope) {
  struct ping *ping = tw_heap_allocate_zeroed(1, sizeof *ping);
  if (ping == NULL) {
    return ABI_ERROR_NO_MEMORY;
  }
  ip_addr_t *remote = &ping->remote;
  int32_t error = session_count >= ABI_MAX_PING_SESSIONS ? ABI_ERROR_LIMIT : 0;
  if ((family != ABI_FAMILY_IPV4 && family != ABI_FAMILY_IPV6) ||
      !tw_address_read(remote, family, tw_scratch.ip_address.address, scope) || ip_addr_isany(remote) ||
      ip_addr_ismulticast(remote)) {
    error = ABI_ERROR_INVALID; /* a session is with one host */
  }
  ping->handle = error == 0 ? tw_handle_open(HANDLE_PING, ping) : error;
  if (ping->handle < 0) {
    error = ping->handle;
    tw_heap_free(ping);
    return error;
  }
  do { /* there are far fewer sessions than identifiers */
    ping->identifier = (uint16_t)tw_random_u32();
  } while (tw_ping_find(ping->identifier) != NULL);
  ping->next = sessions;
  sessions = ping;
  session_count++;
  return ping->handle;
}

int32_t abi_ping_identifier(int32_t handle) {
  const struct ping *ping = tw_handle_object(handle, HANDLE_PING);
  return ping == NULL ? ABI_ERROR_BAD_HANDLE : ping->identifier;
}

/* RFC 792; RFC 4443, section 4.1: the two differ in their type and in what the checksum covers. */
static void fill_header(struct pbuf *packet, const struct ping *ping, uint16_t sequence, const ip_addr_t *source,
                        struct netif *netif) {
  struct icmp_echo_hdr *header = packet->payload;
  bool v6 = IP_IS_V6(&ping->remote);
  header->type = v6 ? ICMP6_TYPE_EREQ : ICMP_ECHO;
  header->code = 0;
  header->chksum = 0;
  header->id = lwip_htons(ping->identifier);
  header->seqno = lwip_htons(sequence);
  IF__NETIF_CHECKSUM_ENABLED(netif, v6 ? NETIF_CHECKSUM_GEN_ICMP6 : NETIF_CHECKSUM_GEN_ICMP) {
    header->chksum = v6 ? ip6_chksum_pseudo(packet, IP6_NEXTH_ICMP6, packet->tot_len, ip_2_ip6(source), ip_2_ip6(&ping->remote))
                        : inet_chksum_pbuf(packet);
  }
}

int32_t abi_ping_send(int32_t handle, int32_t sequence, int32_t length, int32_t hop_limit) {
  struct ping *ping = tw_handle_object(handle, HANDLE_PING);
  if (ping == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  bool v6 = IP_IS_V6(&ping->remote);
  if (sequence < 0 || sequence > 65535 || length < 0 || hop_limit < 1 || hop_limit > 255) {
    return ABI_ERROR_INVALID;
  }
  if (length > (v6 ? ABI_MAX_DATAGRAM6 : ABI_MAX_DATAGRAM)) { /* the header is as long as UDP's */
    return ABI_ERROR_TOO_LONG;
  }
  const ip_addr_t *source;
  struct netif *netif;
  int32_t error = tw_send_route(NULL, &ping->remote, &source, &netif);
  if (error != 0) {
    return error;
  }
  if (!v6 && ip4_addr_isbroadcast(ip_2_ip4(&ping->remote), netif)) {
    return ABI_ERROR_NOT_PERMITTED;
  }
  if (!tw_send_has_room(netif, &ping->remote, sizeof(struct icmp_echo_hdr) + (uint32_t)length)) {
    return tw_room_wait(&ping->waiter, handle, netif);
  }
  struct pbuf *packet = pbuf_alloc(PBUF_IP, sizeof(struct icmp_echo_hdr), PBUF_RAM);
  struct pbuf *data = pbuf_alloc_reference((void *)(uintptr_t)tw_staging(), (u16_t)length, PBUF_REF);
  error = ABI_ERROR_NO_MEMORY;
  if (packet != NULL && data != NULL) {
    if (length > 0) { /* lwIP takes an empty end of a chain for another packet */
      pbuf_chain(packet, data);
    }
    fill_header(packet, ping, (uint16_t)sequence, source, netif);
    error = tw_room_result(&ping->waiter, handle, netif,
                           ip_output_if_src(packet, source, &ping->remote, (u8_t)hop_limit, 0,
                                            v6 ? IP6_NEXTH_ICMP6 : IP_PROTO_ICMP, netif));
    ICMP_STATS_INC(icmp.xmit);
  }
  if (data != NULL) {
    pbuf_free(data);
  }
  if (packet != NULL) {
    pbuf_free(packet);
  }
  return error;
}

int32_t abi_ping_close(int32_t handle) {
  struct ping *ping = tw_handle_object(handle, HANDLE_PING);
  if (ping == NULL) {
    return ABI_ERROR_BAD_HANDLE;
  }
  struct ping **link = &sessions;
  while (*link != ping) {
    link = &(*link)->next;
  }
  *link = ping->next;
  session_count--;
  tw_room_forget(&ping->waiter);
  tw_handle_close(handle);
  tw_heap_free(ping);
  return 0;
}
