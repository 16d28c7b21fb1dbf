/* The receive fast path: the next data segment of an open connection, which is nearly all that a bulk transfer receives, goes
   from the receive buffer to the event buffer in one pass that also sums it (V. Jacobson's header prediction). It does
   what lwIP's input functions would do for such a segment and nothing else; whatever is in any way special, it leaves
   to them untouched. */
#include "tcp/tcp_receive.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/events.h"
#include "link/interface.h"
#include "port/bytes.h"
#include "tcp/connection.h"
#include "lwip/nd6.h"
#include "lwip/prot/ethernet.h"
#include "lwip/stats.h"

#include <string.h>

enum {
  ETHERNET_HEADER = 14,
  IPV4_HEADER = 20,
  IPV6_HEADER = 40,
  TCP_HEADER = 20,
  TIMESTAMPS = 12,
  TCP_FLAG_BITS = 0xff,
  CE = 3
};

static struct tcp_pcb *latest; /* whose segment came last; NULL after it was freed */

void tw_tcp_receive_forget(const struct tcp_pcb *pcb) {
  if (latest == pcb) {
    latest = NULL;
  }
}

static uint32_t load32(const uint8_t *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

/* The checksum of a header whose length is a multiple of four, to be folded. */
static uint64_t sum_words(const uint8_t *bytes, uint32_t length) {
  uint64_t sum = 0;
  for (; length > 0; length -= 4, bytes += 4) {
    sum += load32(bytes);
  }
  return sum;
}

static bool sum_is_right(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return ((sum & 0xffff) + (sum >> 16)) == 0xffff;
}

static bool is_at(const ip_addr_t *address, const struct netif *netif, const uint8_t *bytes, bool v6) {
  if (!v6) {
    return IP_IS_V4(address) && ip_2_ip4(address)->addr == load32(bytes);
  }
  const uint32_t *words = ip_2_ip6(address)->addr;
  return IP_IS_V6(address) && words[3] == load32(bytes + 12) && words[2] == load32(bytes + 8) &&
         words[1] == load32(bytes + 4) && words[0] == load32(bytes) &&
         (!ip6_addr_has_zone(ip_2_ip6(address)) || ip6_addr_test_zone(ip_2_ip6(address), netif));
}

static struct tcp_pcb *find(const struct netif *netif, const uint8_t *source, const uint8_t *destination, bool v6,
                            const uint8_t *tcp) {
  uint16_t remote_port = tw_read16(tcp), local_port = tw_read16(tcp + 2);
  if (latest == NULL || latest->remote_port != remote_port || latest->local_port != local_port ||
      !is_at(&latest->remote_ip, netif, source, v6) || !is_at(&latest->local_ip, netif, destination, v6)) {
    ip_addr_t remote, local;
    int32_t family = v6 ? ABI_FAMILY_IPV6 : ABI_FAMILY_IPV4;
    tw_address_read(&remote, family, source, 0);
    tw_address_read(&local, family, destination, 0);
    if (v6) {
      ip6_addr_assign_zone(ip_2_ip6(&remote), IP6_UNICAST, netif);
      ip6_addr_assign_zone(ip_2_ip6(&local), IP6_UNICAST, netif);
    }
    latest = tw_tcp_lookup(&local, local_port, &remote, remote_port);
  }
  return latest;
}

/* Is it what comes next, and does it change nothing but what was received? */
static bool is_predicted(const struct tcp_pcb *pcb, const uint8_t *tcp, uint32_t header, uint32_t length) {
  if (pcb->state != ESTABLISHED || pcb->rcv_sacks != NULL || (pcb->flags & TF_RXCLOSED) != 0 ||
      (tcp[13] & TCP_FLAG_BITS & ~TCP_PSH) != TCP_ACK || tw_read32(tcp + 4) != pcb->rcv_nxt || length > pcb->rcv_wnd ||
      tw_read32(tcp + 8) != pcb->lastack || (tcpwnd_size_t)SND_WND_SCALE(pcb, tw_read16(tcp + 14)) != pcb->snd_wnd ||
      pcb->snd_wnd == 0 || pcb->persist_backoff != 0) {
    return false;
  }
  return (pcb->flags & TF_TIMESTAMP) == 0
             ? header == TCP_HEADER
             : header == TCP_HEADER + TIMESTAMPS && tw_read32(tcp + TCP_HEADER) == 0x0101080a && /* RFC 7323, appendix A */
                   !TCP_SEQ_LT(tw_read32(tcp + TCP_HEADER + 4), pcb->ts_recent);                 /* section 5.3 */
}

/* What lwIP's tcp_process and tcp_receive would change for it. */
static void take_in(struct tcp_pcb *pcb, const uint8_t *tcp, uint32_t length) {
  uint32_t sequence = pcb->rcv_nxt;
  pcb->tmr = tcp_ticks;
  pcb->keep_cnt_sent = 0;
  pcb->persist_probe = 0;
  if ((pcb->flags & TF_TIMESTAMP) != 0 && TCP_SEQ_BETWEEN(pcb->ts_lastacksent, sequence, sequence + length)) {
    pcb->ts_recent = tw_read32(tcp + TCP_HEADER + 4);
  }
  if (TCP_SEQ_LT(pcb->snd_wl1, sequence) || (pcb->snd_wl1 == sequence && TCP_SEQ_LT(pcb->snd_wl2, pcb->lastack))) {
    pcb->snd_wl1 = sequence;
    pcb->snd_wl2 = pcb->lastack;
  }
  pcb->rcv_nxt += length;
  pcb->rcv_wnd -= length;
  tcp_update_rcv_ann_wnd(pcb);
  tcp_ack(pcb);
}

bool tw_tcp_receive_predicted(struct interface *interface, const uint8_t *frame, uint32_t length) {
  struct netif *netif = &interface->netif;
  uint32_t type = 0;
  if (interface_is_ethernet(interface)) {
    /* To this host or to a group: receive.c has looked at the rest. */
    if (length < ETHERNET_HEADER || (frame[0] & 1) != 0) {
      return false;
    }
    type = tw_read16(frame + 12);
    frame += ETHERNET_HEADER;
    length -= ETHERNET_HEADER;
  }
  if (length < IPV4_HEADER + TCP_HEADER) {
    return false;
  }
  bool v6 = frame[0] >> 4 == 6;
  if (type != 0 && type != (v6 ? ETHTYPE_IPV6 : ETHTYPE_IP)) {
    return false;
  }
  const uint8_t *tcp, *source, *destination;
  uint32_t size; /* of the segment: TCP's header and data */
  if (v6) {
    size = tw_read16(frame + 4);
    if (frame[6] != IP6_NEXTH_TCP || length < IPV6_HEADER + TCP_HEADER || size > length - IPV6_HEADER) {
      return false;
    }
    source = frame + 8;
    destination = frame + 24;
    tcp = frame + IPV6_HEADER;
  } else {
    size = tw_read16(frame + 2);
    if (frame[0] != 0x45 || frame[9] != IP_PROTO_TCP || (tw_read16(frame + 6) & 0x3fff) != 0 || size > length ||
        size < IPV4_HEADER) {
      return false;
    }
    size -= IPV4_HEADER;
    source = frame + 12;
    destination = frame + 16;
    tcp = frame + IPV4_HEADER;
  }
  uint32_t header = (uint32_t)(tcp[12] >> 4) * 4, ecn = v6 ? frame[1] >> 4 : frame[1];
  if (header < TCP_HEADER || size <= header || (ecn & CE) == CE) {
    return false;
  }
  struct tcp_pcb *pcb = find(netif, source, destination, v6, tcp);
  struct connection *connection = pcb == NULL ? NULL : tw_connection_of(pcb);
  length = size - header;
  if (connection == NULL || connection->handle == 0 || !is_predicted(pcb, tcp, header, length) ||
      (interface->kind != ABI_KIND_LOOPBACK && ip_addr_isloopback(&pcb->local_ip))) {
    return false;
  }
  uint8_t *data = tw_event_data_space(connection->handle, length);
  bool verify = (netif->chksum_flags & NETIF_CHECKSUM_CHECK_TCP) != 0;
  if (verify) {
    uint64_t sum = sum_words(source, v6 ? 32 : 8) + lwip_htons(IP_PROTO_TCP) + lwip_htons((uint16_t)size) +
                   sum_words(tcp, header) + tw_checksum_copy(data, tcp + header, (uint16_t)length);
    if (!sum_is_right(sum) || (!v6 && !sum_is_right(sum_words(frame, IPV4_HEADER)))) {
      return false; /* nothing has changed yet: lwIP drops and counts it */
    }
  } else {
    memcpy(data, tcp + header, length);
  }
  tw_event_data_added(connection->handle, length);
  connection->unread += length;
  take_in(pcb, tcp, length);
  tw_connection_measure_window(connection);
  if (v6) {
    IP6_STATS_INC(ip6.recv);
    nd6_reachability_hint(ip_2_ip6(&pcb->remote_ip));
  } else {
    IP_STATS_INC(ip.recv);
  }
  TCP_STATS_INC(tcp.recv);
  tw_tcp_output_later(pcb);
  return true;
}
