/* Input: records that the embedder put into an interface's receive buffer become pbufs and go to lwIP. A TCP segment is read in
   the buffer; other packets, which lwIP may keep, are copied first. */
#include "link/receive.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/events.h"
#include "abi/work.h"
#include "ip/forward.h"
#include "link/bridge.h"
#include "link/frame.h"
#include "link/interface.h"
#include "port/consistency.h"
#include "tcp/tcp_receive.h"
#include "lwip/etharp.h"
#include "lwip/pbuf.h"
#include "lwip/stats.h"

#include <string.h>

/* A pbuf whose payload is a record; they are few, and reused. */
struct in_place {
  struct pbuf_custom pbuf;
  struct in_place *next;
};

static struct in_place *unused;
static uint32_t in_use;

static void release(struct pbuf *pbuf) {
  struct in_place *frame = (struct in_place *)(void *)pbuf;
  frame->next = unused;
  unused = frame;
  in_use--;
}

static struct pbuf *refer_to_record(uint8_t *bytes, uint32_t length) {
  struct in_place *frame = unused;
  if (frame != NULL) {
    unused = frame->next;
  } else if ((frame = tw_heap_allocate(sizeof *frame)) == NULL) {
    return NULL;
  }
  frame->pbuf.custom_free_function = release;
  in_use++;
  return pbuf_alloced_custom(PBUF_RAW, (u16_t)length, PBUF_REF, &frame->pbuf, bytes, (u16_t)length);
}

/* A station accepts frames to itself or to a group. Others, from a hub or from a switch that floods, are for other hosts; lwIP
   does not check, and a router would forward them a second time. */
static bool is_for_other_host(const struct interface *interface, const uint8_t *frame, uint32_t length) {
  const uint8_t *own = interface->netif.hwaddr;
  if (length < ETH_HWADDR_LEN || (frame[0] & 1) != 0) {
    return false;
  }
  uint32_t first[2]; /* memcmp would be a call for each frame */
  uint16_t rest[2];
  memcpy(&first[0], own, sizeof first[0]);
  memcpy(&first[1], frame, sizeof first[1]);
  memcpy(&rest[0], own + sizeof first[0], sizeof rest[0]);
  memcpy(&rest[1], frame + sizeof first[1], sizeof rest[1]);
  return first[0] != first[1] || rest[0] != rest[1];
}

static uint32_t work; /* done for frames in this poll */

/* For frames that take longer than others. */
void tw_receive_work(uint32_t units) { work += units; }

static void receive_frame(struct interface *interface, uint8_t *frame, uint32_t length) {
  enum frame_verdict verdict;
  if (interface->bridge != NULL) {
    if (!tw_bridge_receive(interface, frame, length)) {
      return;
    }
    interface = interface->bridge;
    interface->block[ABI_BLOCK_RECEIVED_FRAMES]++;
  } else if (interface->kind == ABI_KIND_TAP && is_for_other_host(interface, frame, length)) {
    interface->block[ABI_BLOCK_DROPPED_FOREIGN]++;
    return;
  }
  if (length <= ABI_MAX_FRAME && tw_forward_frame(interface, frame, length)) {
    return;
  }
  if (tw_tcp_receive_predicted(interface, frame, length)) {
    return;
  }
  if (length > ABI_MAX_FRAME) {
    verdict = FRAME_DROP;
  } else if (interface_is_ethernet(interface)) {
    verdict = tw_frame_check_ethernet(frame, length);
  } else {
    verdict = tw_frame_check_packet(frame, length, interface->kind == ABI_KIND_LOOPBACK);
  }
  work += WORK_INPUT - 1;
  struct pbuf *packet = NULL;
  if (verdict == FRAME_DROP) {
    interface->block[ABI_BLOCK_DROPPED_MALFORMED]++;
    return;
  }
  if (verdict == FRAME_IN_PLACE) {
    packet = refer_to_record(frame, length);
  } else if ((packet = pbuf_alloc(PBUF_RAW, (u16_t)length, PBUF_RAM)) != NULL) {
    memcpy(packet->payload, frame, length);
  }
  if (packet == NULL) {
    LINK_STATS_INC(link.memerr);
    return;
  }
  if (interface->netif.input(packet, &interface->netif) != ERR_OK) {
    pbuf_free(packet);
  }
  consistency_restore();
  /* The record is overwritten next: no pbuf may still refer to it. By third_party/lwip/patches, lwIP's out-of-order queue, the
     one place that would, takes a copy. */
  LWIP_ASSERT("no frame outlives its record", in_use == 0);
}

/* Returns true if frames are left because the event buffer is full or enough was done. */
static bool receive_from(struct interface *interface) {
  uint32_t *block = interface->block;
  uint32_t length;
  /* The embedder writes this word: it is bounded before it is used. */
  uint32_t end = LWIP_MIN(block[ABI_BLOCK_RECEIVE_LENGTH], ABI_RECEIVE_CAPACITY);
  interface->copies = 0;
  while (interface->received + sizeof(struct abi_record_header) <= end) {
    if (!tw_events_have_room() || ++work > WORK_FRAMES || tw_events_suffice() || tw_bridge_budget_spent(interface)) {
      return true;
    }
    struct abi_record_header *record = record_at(interface->receive, interface->received);
    length = record->length;
    if (length > end - interface->received - sizeof *record) {
      block[ABI_BLOCK_DROPPED_MALFORMED]++;
      break;
    }
    interface->received += record_size(length);
    block[ABI_BLOCK_RECEIVED_FRAMES]++;
    receive_frame(interface, (uint8_t *)(record + 1), length);
  }
  interface->received = 0;
  block[ABI_BLOCK_RECEIVE_LENGTH] = 0;
  return false;
}

/* The two buffers of a loopback interface are exchanged, unless the embedder observes it and carries the packets over. */
static void loop(struct interface *interface) {
  uint32_t *block = interface->block;
  if (block[ABI_BLOCK_RECEIVE_LENGTH] != 0 || block[ABI_BLOCK_TRANSMIT_LENGTH] == 0 || block[ABI_BLOCK_OBSERVED]) {
    return;
  }
  uint8_t *sent = interface->transmit;
  interface->transmit = interface->receive;
  interface->receive = sent;
  block[ABI_BLOCK_RECEIVE_BUFFER] = (uint32_t)(uintptr_t)interface->receive;
  block[ABI_BLOCK_TRANSMIT_BUFFER] = (uint32_t)(uintptr_t)interface->transmit;
  block[ABI_BLOCK_RECEIVE_LENGTH] = block[ABI_BLOCK_TRANSMIT_LENGTH];
  block[ABI_BLOCK_TRANSMIT_LENGTH] = 0;
}

/* Where one interface took all the work of a poll, the next poll begins with the one behind it, so that none is starved. */
bool tw_interfaces_receive(void) {
  static int32_t first;
  struct interface *begin = tw_interface_object(first), *interface = begin;
  work = 0;
  first = 0;
  if (begin == NULL) {
    begin = interface = tw_interface_first();
  }
  while (interface != NULL) {
    struct interface *next = interface->next != NULL ? interface->next : tw_interface_first();
    if (interface->kind == ABI_KIND_LOOPBACK) {
      loop(interface);
    }
    if (interface->kind != ABI_KIND_BRIDGE && receive_from(interface) && first == 0) {
      first = next->handle;
    }
    interface = next == begin ? NULL : next;
  }
  return first != 0;
}

/* Notifies the embedder which interfaces have frames to send; true if a loopback interface has some for itself. */
bool tw_interfaces_announce(void) {
  bool looped = false;
  for (struct interface *interface = tw_interface_first(); interface != NULL; interface = interface->next) {
    uint32_t length = interface->block[ABI_BLOCK_TRANSMIT_LENGTH];
    if (interface->kind == ABI_KIND_LOOPBACK && !interface->block[ABI_BLOCK_OBSERVED]) {
      looped |= length != 0;
    } else if (length != 0) {
      tw_event_add(ABI_EVENT_TRANSMIT, interface->handle, (int32_t)length);
    }
  }
  return looped;
}
