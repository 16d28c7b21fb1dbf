/* The transmit fast path: the segments of one flush that follow the first of their connection have the same Ethernet and IP
   headers but for lengths and checksums, so these are copied from the frame before, as a network card does it that is given
   one large segment. Route, neighbour and header are lwIP's work for the first one, in the same flush: nothing that they
   depend on can change before its end. */
#include "tcp/tcp_emit.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "ip/path_mtu.h"
#include "link/interface.h"
#include "port/bytes.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip4.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/ethernet.h"
#include "lwip/stats.h"

#include <string.h>

/* The frame that was sent before, once it is known to be there. */
static struct {
  const struct tcp_pcb *pcb; /* NULL: nothing to copy from */
  struct interface *interface;
  uint32_t at;     /* where its record begins in the transmit buffer */
  uint32_t longest; /* bytes of the segment that lwIP itself sent: what is longer may have to be fragmented */
  uint32_t header; /* bytes before TCP's header, or 0 before it was looked up */
  uint8_t tos;
} before;

static bool in_flush;

void tw_tcp_emit_in_flush(bool begins) {
  in_flush = begins;
  before.pcb = NULL;
}

static uint32_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

/* Bytes before TCP's header if the record is a whole TCP segment of this connection, else 0: the segment may wait for its
   neighbour's address, and an ARP request may have left instead, or nothing where the buffer was full. */
static uint32_t header_of(const struct tcp_pcb *pcb, const struct interface *interface, uint32_t at) {
  const struct abi_record_header *record = record_at(interface->transmit, at);
  const uint8_t *frame = (const uint8_t *)(record + 1);
  uint32_t length, link = interface->kind == ABI_KIND_TAP ? SIZEOF_ETH_HDR : 0;
  if (at >= interface->block[ABI_BLOCK_TRANSMIT_LENGTH]) {
    return 0;
  }
  length = record->length;
  if (at + record_size(length) != interface->block[ABI_BLOCK_TRANSMIT_LENGTH] || length < link + IP_HLEN + TCP_HLEN) {
    return 0;
  }
  const uint8_t *packet = frame + link;
  bool v6 = IP_IS_V6(&pcb->remote_ip);
  uint32_t header = link + (v6 ? IP6_HLEN : IP_HLEN);
  if (length < header + TCP_HLEN || packet[0] != (v6 ? 0x60 | pcb->tos >> 4 : 0x45) || packet[v6 ? 6 : 9] != IP_PROTO_TCP ||
      (!v6 && (tw_read16(packet + 6) & 0x3fff) != 0) || tw_read16(frame + header) != pcb->local_port ||
      tw_read16(frame + header + 2) != pcb->remote_port) {
    return 0;
  }
  return header;
}

/* The checksum of the pseudo header and of TCP's own, whose field is 0. */
static uint32_t header_sum(const struct tcp_seg *segment, const struct tcp_pcb *pcb, uint32_t header) {
  return (uint16_t)~ip_chksum_pseudo_partial(segment->p, IP_PROTO_TCP, segment->p->tot_len, (u16_t)header, &pcb->local_ip,
                                             &pcb->remote_ip);
}

/* The checksum of the payload, computed when it was written. */
static uint32_t written_sum(const struct tcp_seg *segment) {
  return segment->chksum_swapped ? (uint16_t)SWAP_BYTES_IN_WORD(segment->chksum) : segment->chksum;
}

/* Copies what follows the first `skip` bytes of a packet. */
static void copy_payload(uint8_t *to, const struct pbuf *part, uint32_t skip) {
  for (; part != NULL; to += part->len - skip, skip = 0, part = part->next) {
    memcpy(to, (const uint8_t *)part->payload + skip, part->len - skip);
  }
}

/* The same, and returns its checksum: a part that begins at an odd offset counts with its bytes swapped. */
static uint32_t copy_payload_summed(uint8_t *to, const struct pbuf *part, uint32_t skip) {
  uint32_t sum = 0;
  bool odd = false;
  for (; part != NULL; skip = 0, part = part->next) {
    uint16_t length = (uint16_t)(part->len - skip);
    uint16_t chunk_checksum = tw_checksum_copy(to, (const uint8_t *)part->payload + skip, length);
    sum += odd ? (uint16_t)SWAP_BYTES_IN_WORD(chunk_checksum) : chunk_checksum;
    odd ^= length & 1;
    to += length;
  }
  return sum;
}

/* LWIP_HOOK_TCP_EMIT: sends the segment, whose `p` begins with its TCP header, and returns true; or returns false. */
bool tw_tcp_emit(struct tcp_seg *segment, struct tcp_pcb *pcb, struct netif *netif) {
  struct interface *interface = netif->state;
  uint32_t at = interface->block[ABI_BLOCK_TRANSMIT_LENGTH], length = segment->p->tot_len;
  if (!in_flush || interface->kind > ABI_KIND_TAP) {
    tw_ip4_whole = pcb->path_mtu_discovery;
    return false;
  }
  uint32_t header = 0;
  if (before.pcb == pcb && before.interface == interface && before.tos == pcb->tos && length <= before.longest) {
    header = before.header != 0 ? before.header : header_of(pcb, interface, before.at);
  }
  if (header == 0 || at + record_size(header + length) > ABI_TRANSMIT_CAPACITY) {
    before.pcb = pcb;
    before.interface = interface;
    before.tos = pcb->tos;
    before.at = at;
    before.header = 0;
    before.longest = length;
    tw_ip4_whole = pcb->path_mtu_discovery;
    return false;
  }
  struct abi_record_header *record = record_at(interface->transmit, at);
  uint8_t *frame = (uint8_t *)(record + 1);
  uint32_t frame_length = header + length;
  record->length = frame_length;
  memcpy(frame, record_at(interface->transmit, before.at) + 1, header);
  uint32_t tcp_header = TCPH_HDRLEN_BYTES(segment->tcphdr);
  uint8_t *tcp = frame + header;
  memcpy(tcp, segment->tcphdr, tcp_header);
  if ((netif->chksum_flags & NETIF_CHECKSUM_GEN_TCP) == 0) {
    copy_payload(tcp + tcp_header, segment->p, tcp_header);
  } else {
    uint32_t sum = header_sum(segment, pcb, tcp_header);
    if ((segment->flags & TF_SEG_UNSUMMED) != 0) {
      sum += copy_payload_summed(tcp + tcp_header, segment->p, tcp_header);
    } else {
      copy_payload(tcp + tcp_header, segment->p, tcp_header);
      sum += written_sum(segment);
    }
    uint16_t complement = (uint16_t)~fold(sum);
    memcpy(tcp + 16, &complement, sizeof complement);
  }
  if (IP_IS_V6(&pcb->remote_ip)) {
    tw_write16(frame + header - IP6_HLEN + 4, length);
  } else {
    uint8_t *packet = frame + header - IP_HLEN;
    tw_write16(packet + 2, IP_HLEN + length);
    tw_write16(packet + 4, tw_ip4_identification(ip_2_ip4(&pcb->remote_ip)));
    tw_write16(packet + 10, 0);
    if ((netif->chksum_flags & NETIF_CHECKSUM_GEN_IP) != 0) {
      uint32_t sum = 0;
      for (int i = 0; i < IP_HLEN; i += 2) {
        sum += tw_read16(packet + i);
      }
      tw_write16(packet + 10, ~fold(sum));
    }
    IP_STATS_INC(ip.xmit);
  }
  before.at = at;
  before.header = header;
  interface->block[ABI_BLOCK_TRANSMIT_LENGTH] = at + record_size(frame_length);
  interface->block[ABI_BLOCK_TRANSMITTED_FRAMES]++;
  return true;
}
