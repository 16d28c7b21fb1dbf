/* One segment of a peer, according to the state of its flow, with valid or invalid options. */
#include "fuzz.h"

#include <stdio.h>

enum { MOST_DATA = 65000 };

static uint8_t segment[66000];

static bool before(uint32_t one, uint32_t other) { return (int32_t)(one - other) < 0; }

uint32_t flow_window(struct flow *flow) {
  if (percent(15)) {
    flow->window = percent(style.tiny_window) ? ONE_OF(0, 0, 1, 2, 3, 12, 23, 24, 25, 48, 100, 1000, below(2000))
                                              : ONE_OF(65535, 65535, 32768, 8192, 1460, below(65536));
  }
  return flow->window;
}

static uint32_t put_stamp(struct flow *flow, uint8_t *at, bool syn) {
  uint32_t value = flow->stamp + (uint32_t)(clock_now / MILLISECOND), echo = syn ? 0 : flow->stack_stamp;
  if (!syn && percent(style.wrong / 4)) {
    if (percent(20)) {
      return 0; /* a hole */
    }
    value = percent(50) ? value - below(100000) : value;
    echo = percent(50) ? any() : echo;
  }
  at[0] = at[1] = 1;
  at[2] = 8;
  at[3] = 10;
  put32(at + 4, value);
  put32(at + 8, echo);
  return 12;
}

static uint32_t put_sack(const struct flow *flow, uint8_t *at, uint32_t room) {
  uint32_t blocks = 1 + below(4);
  if (room < 4 + 8 * blocks) {
    return 0;
  }
  at[0] = at[1] = 1;
  at[2] = 5;
  at[3] = (uint8_t)(percent(95) ? 2 + 8 * blocks : below(256));
  for (uint32_t i = 0; i < blocks; i++) {
    uint32_t left = percent(80) ? flow->stack_end - below(20000) : any();
    put32(at + 4 + 8 * i, left);
    put32(at + 8 + 8 * i, percent(80) ? left + below(3000) : any());
  }
  return 4 + 8 * blocks;
}

static uint32_t put_syn_options(struct flow *flow, uint8_t *at) {
  uint32_t used = 0;
  if (flow->mss != 0) {
    at[0] = 2;
    at[1] = 4;
    put16(at + 2, flow->mss);
    used = 4;
  }
  if (flow->scale >= 0) {
    memcpy(at + used, (const uint8_t[]){1, 3, 3, (uint8_t)flow->scale}, 4);
    used += 4;
  }
  if (flow->sack) {
    memcpy(at + used, (const uint8_t[]){1, 1, 4, 2}, 4);
    used += 4;
  }
  return flow->timestamps ? used + put_stamp(flow, at + used, true) : used;
}

static uint32_t put_options(struct flow *flow, uint32_t flags, uint8_t *at) {
  if ((flags & SYN_BIT) != 0) {
    return put_syn_options(flow, at);
  }
  uint32_t used = flow->timestamps ? put_stamp(flow, at, false) : 0;
  if (flow->sack && percent(10)) {
    used += put_sack(flow, at + used, 40 - used);
  }
  if (percent(style.extended / 4)) { /* unknown options, and such that are too long */
    for (; used < 40 && percent(80); used += 4) {
      at[used] = (uint8_t)ONE_OF(1, 0, 2, 3, 4, 5, 8, 254);
      at[used + 1] = (uint8_t)ONE_OF(0, 1, 2, 4, 10, 40, 255);
      at[used + 2] = at[used + 3] = 1;
    }
  }
  return used;
}

/* The edge up to which the stack may send now. Where segments are reordered, the window of a late one does not count, and that
   of an earlier one is counted from what was acknowledged since (RFC 9293, section 3.10.7.4). */
static void offer(struct flow *flow, uint32_t flags, uint32_t acknowledgement, uint32_t window) {
  if ((flags & SYN_BIT) != 0) {
    flow->syn_window = LARGER(flow->syn_window, window);
  }
  uint32_t shift = (flags & SYN_BIT) != 0 || flow->scale < 0 || !flow->stack_scaled ? 0 : (uint32_t)SMALLER(flow->scale, 14);
  flow->widest = LARGER(flow->widest, window << shift);
  if ((flags & ACK_BIT) != 0 && acknowledgement - flow->stack_start <= flow->stack_end - flow->stack_start + 100000 &&
      before(flow->edge, acknowledgement)) {
    flow->edge = acknowledgement; /* the widest window begins there */
  }
}

void segment_send(struct flow *flow, uint32_t flags, uint32_t sequence, uint32_t acknowledgement, uint32_t length) {
  if (link_of(flow->link_handle) != flow->link) {
    return;
  }
  if ((flags & FIN_BIT) != 0 && flow->fin_count == MAX_FINS) {
    flags &= ~(uint32_t)FIN_BIT;
  }
  length = SMALLER(length, MOST_DATA);
  uint32_t header = 20 + put_options(flow, flags, segment + 20), window = flow_window(flow);
  uint32_t data_at = sequence + ((flags & SYN_BIT) != 0), end = data_at + length + (flags & FIN_BIT);
  put16(segment, flow->port);
  put16(segment + 2, flow->stack_port);
  put32(segment + 4, sequence);
  put32(segment + 8, acknowledgement);
  segment[12] = (uint8_t)(header / 4 << 4);
  segment[13] = (uint8_t)flags;
  put16(segment + 14, window);
  put16(segment + 18, (flags & URG_BIT) != 0 ? below(length + 10) : 0);
  filler_put(segment + header, length, filler_key(flow->port, flow->stack_port), data_at);
  if ((flags & FIN_BIT) != 0) {
    flow->fins[flow->fin_count++] = data_at + length;
  }
  if ((flags & SYN_BIT) != 0) {
    flow->calls[flow->call_count++ % MAX_CALLS] = sequence;
    flow->calling = true;
  }
  if (before(flow->sent_end, end) && end - flow->start < 1u << 30) { /* farther away than any window */
    flow->sent_end = end;
  }
  offer(flow, flags, acknowledgement, window);
  struct route_to route = {.link = flow->link, .peer = flow->peer, .six = flow->six};
  memcpy(route.from, flow->from, 16);
  memcpy(route.to, flow->to, 16);
  if (verbose) {
    fprintf(stderr, "  > %u:%u%s flags %02x seq %d ack %d window %u << %d, %u bytes, options %u%s\n", flow->port,
            flow->stack_port, flow->six ? " six" : "", flags, (int)(sequence - flow->start),
            (int)(acknowledgement - flow->stack_start), window, flow->scale, length, header - 20,
            flow->tainted ? ", tainted" : "");
  }
  flow->tainted |= packet_send(&route, TCP_PROTOCOL, segment, header + length);
}
