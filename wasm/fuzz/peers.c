/* TCP peers: they follow what the stack sends, check it, and answer rightly or wrongly as their style says. */
#include "fuzz.h"

#include <stdio.h>

struct flow flows[MAX_FLOWS];
static uint16_t ports;

static bool before(uint32_t one, uint32_t other) { return (int32_t)(one - other) < 0; }

static void characterise(struct flow *flow) {
  if (percent(style.tiny_mss)) {
    flow->mss = 1 + below(percent(50) ? 16 : 80);
  } else {
    flow->mss = ONE_OF(0, 88, 536, 1220, 1440, 1460, 1460, 8960, 65495, 65535, 1 + below(65535));
  }
  flow->scale = percent(30) ? -1 : (int32_t)ONE_OF(0, 1, 7, 14, 15, below(256));
  flow->timestamps = percent(style.timestamps);
  flow->sack = percent(50);
  flow->stamp = any();
  flow->start = percent(20) ? 0u - below(3000) : any();
  flow->next = flow->sent_end = flow->start;
  flow->window = 65535;
  flow_window(flow);
}

static struct flow *slot(void) {
  uint32_t first = below(MAX_FLOWS);
  for (uint32_t i = 0; i < MAX_FLOWS; i++) {
    struct flow *flow = &flows[(first + i) % MAX_FLOWS];
    if (flow->state == FLOW_FREE || (flow->state == FLOW_CLOSED && flow->stream == NULL) ||
        (flow->state <= FLOW_SYN_SENT && flow->stream == NULL && i > MAX_FLOWS / 2)) {
      return flow;
    }
  }
  return NULL;
}

struct flow *flow_new(struct link *link, bool six, bool active) {
  struct flow *flow = slot();
  if (flow == NULL) {
    return NULL;
  }
  memset(flow, 0, sizeof *flow);
  flow->state = active ? FLOW_SYN_RECEIVED : FLOW_NEW;
  flow->link = link;
  flow->link_handle = link->handle;
  flow->peer = below(PEERS);
  flow->six = six;
  flow->active = active;
  flow->port = (uint16_t)(1024 + ports++ % 60000);
  peer_address(link, flow->peer, six, flow->from);
  memcpy(flow->to, six ? link->own6 : link->own4, six ? 16 : 4);
  characterise(flow);
  return flow;
}

struct flow *flow_any(void) {
  for (uint32_t i = 0, first = below(MAX_FLOWS); i < MAX_FLOWS; i++) {
    struct flow *flow = &flows[(first + i) % MAX_FLOWS];
    if (flow->state != FLOW_FREE && (flow->state != FLOW_CLOSED || percent(10))) {
      return flow;
    }
  }
  return NULL;
}

struct flow *flow_find(bool six, const uint8_t *from, uint32_t port, const uint8_t *to, uint32_t stack_port) {
  for (struct flow *flow = flows; flow < flows + MAX_FLOWS; flow++) {
    if (flow->port == port && flow->stack_port == stack_port && flow->state != FLOW_FREE && flow->six == six &&
        memcmp(flow->from, from, six ? 16 : 4) == 0 && memcmp(flow->to, to, six ? 16 : 4) == 0) {
      return flow;
    }
  }
  return NULL;
}

void flows_forget(const struct link *link) {
  for (struct flow *flow = flows; flow < flows + MAX_FLOWS; flow++) {
    flow->state = flow->link == link && flow->state != FLOW_FREE ? FLOW_CLOSED : flow->state;
  }
}

/* A connect of a program: its stream is matched with the flow. */
static struct flow *adopt(const struct sent_packet *sent) {
  uint32_t port = get16(sent->payload + 2), stack_port = get16(sent->payload), size = sent->six ? 16 : 4;
  for (struct stream *stream = streams; stream < streams + MAX_STREAMS; stream++) {
    if (sent->to[size - 1] < 2) {
      return NULL; /* an address of the stack: a loopback interface that is added later would be the other end */
    }
    if (stream->handle == 0 || stream->connected || stream->flow != NULL || stream->remote_port != port ||
        stream->six != sent->six || memcmp(stream->remote, sent->to, size) != 0) {
      continue;
    }
    struct flow *flow = flow_new(sent->link, sent->six, true);
    if (flow != NULL) {
      flow->port = (uint16_t)port;
      flow->stack_port = (uint16_t)stack_port;
      flow->peer = (uint32_t)(sent->to[size - 1] - 2) % PEERS;
      memcpy(flow->from, sent->to, size);
      memcpy(flow->to, sent->from, size);
      stream_bind(stream, flow);
    }
    return flow;
  }
  return NULL;
}

static void read_options(struct flow *flow, const uint8_t *tcp, uint32_t header, bool syn) {
  bool stamped = false, scaled = false;
  for (uint32_t at = 20, size; at < header && tcp[at] != 0; at += size) {
    size = tcp[at] == 1 ? 1 : at + 1 < header ? tcp[at + 1] : 0;
    CHECK(size > 0 && (tcp[at] == 1 || size >= 2) && at + size <= header, "option %u of %u bytes at %u", tcp[at], size, at);
    if (tcp[at] == 8 && size == 10) {
      flow->stack_stamp = get32(tcp + at + 2);
      stamped = true;
    } else if (tcp[at] == 2 && syn) {
      flow->stack_mss = get16(tcp + at + 2);
      CHECK(flow->stack_mss + (flow->six ? 60 : 40) <= flow->link->mtu || flow->link->mtu < 100, "MSS %u, MTU %u",
            flow->stack_mss, flow->link->mtu);
    } else if (tcp[at] == 3 && syn) {
      scaled = flow->scale >= 0;
      flow->stack_scale = scaled ? tcp[at + 2] : 0;
    }
  }
  if (syn) {
    flow->timestamps = flow->timestamps && stamped;
    flow->stack_scaled = scaled;
    flow->stack_scale = scaled ? flow->stack_scale : 0;
  }
}

static bool is_within(const struct span *span, uint32_t acknowledgement) {
  return acknowledgement - span->start - 1 < span->end - span->start;
}

/* Of the peer's stream that the flow has now, and not of one before on the same ports. */
static bool is_current(const struct flow *flow, uint32_t acknowledgement) {
  return is_within(&(struct span){flow->start, flow->sent_end}, acknowledgement);
}

static bool was_called(const struct flow *flow, uint32_t sequence) {
  bool found = flow->call_count > MAX_CALLS; /* some are forgotten */
  for (uint32_t i = 0; i < SMALLER(flow->call_count, MAX_CALLS); i++) {
    found |= flow->calls[i] == sequence;
  }
  return found;
}

/* Frames of a connection before may wait for a neighbour while the next hop of later ones is another, and come behind them:
   they acknowledge what the peer sent before. */
static bool is_late(const struct flow *flow, uint32_t acknowledgement) {
  bool late = false;
  for (uint32_t i = 0; i < SMALLER(flow->former_count, MAX_CALLS); i++) {
    late |= is_within(&flow->formers[i], acknowledgement);
  }
  return late && flow->answered && !is_current(flow, acknowledgement);
}

static void begin_stream(struct flow *flow, uint32_t sequence) {
  bool early = flow->early;
  flow->early = false;
  if (flow->stack_known && flow->stack_start == sequence) {
    return;
  }
  if (flow->stack_known && !early) { /* another connection of the same ports */
    flow_unbind(flow);
  }
  flow->repeated = flow->stack_known;
  /* with what has not been seen of it yet, and its FIN */
  uint32_t former_end = flow->stack_start + 1 + (early ? flow->former_written : flow->written) + 1;
  flow->former_end = before(flow->stack_end, former_end) ? former_end : flow->stack_end;
  flow->stack_known = true;
  flow->stack_start = sequence;
  flow->stack_end = sequence + 1;
  flow->edge = sequence + 1;
  flow->stack_finished = false;
  if (!early) {
    flow->written = 0;
    flow->may_finish = false;
  }
}

static void check_data(struct flow *flow, uint32_t sequence, const uint8_t *data, uint32_t length, bool fin) {
  uint32_t offset = sequence - (flow->stack_start + 1), most = flow->mss != 0 ? LARGER(flow->mss, 64) : flow->six ? 1220 : 536;
  CHECK(flow->stack_known, "port %u: data without a SYN", flow->port);
  CHECK((uint64_t)offset + length <= flow->written, "port %u: bytes %u to %u of %u", flow->port, offset, offset + length,
        flow->written);
  CHECK(filler_is(data, length, filler_key(flow->stack_port, flow->port), offset), "port %u: bytes %u to %u", flow->port,
        offset, offset + length);
  CHECK(!fin || (flow->may_finish && offset + length == flow->written), "port %u: FIN at %u of %u, allowed: %d", flow->port,
        offset + length, flow->written, flow->may_finish);
  CHECK(length <= most || flow->tainted, "port %u: %u bytes by an MSS of %u", flow->port, length, most);
  uint32_t end = sequence + length, edge = flow->edge + LARGER(flow->syn_window, flow->widest);
  CHECK(length == 0 || flow->tainted || !before(edge + 1, end), "port %u: sent %u bytes too far", flow->port, end - edge);
  flow->stack_end = before(flow->stack_end, end + fin) ? end + fin : flow->stack_end;
  flow->stack_finished |= fin;
}

static void follow_acknowledgement(struct flow *flow, uint32_t acknowledgement, uint32_t window, bool syn) {
  if (syn) {
    flow->irs = acknowledgement - 1;
    flow->latest_ack = acknowledgement;
  }
  CHECK(flow->tainted || flow->irs != flow->start || !before(flow->sent_end, acknowledgement),
        "port %u: acknowledges %u bytes too much", flow->port, acknowledgement - flow->sent_end);
  if (!before(acknowledgement, flow->latest_ack)) {
    flow->latest_ack = acknowledgement;
    flow->stack_edge = acknowledgement + (syn ? window : window << flow->stack_scale);
  }
  if (before(flow->next, flow->latest_ack)) {
    flow->next = flow->latest_ack;
  }
}

void flow_receive(const struct sent_packet *sent) {
  const uint8_t *tcp = sent->payload;
  uint32_t header = (tcp[12] >> 4) * 4u, flags = tcp[13] & 0x3fu, sequence = get32(tcp + 4), acknowledgement = get32(tcp + 8);
  CHECK(header >= 20 && header <= sent->length, "header of %u in %u bytes", header, sent->length);
  struct flow *flow = flow_find(sent->six, sent->to, get16(tcp + 2), sent->from, get16(tcp));
  bool syn = (flags & SYN_BIT) != 0, ack = (flags & ACK_BIT) != 0;
  if (flow == NULL && syn && !ack) {
    flow = adopt(sent);
  }
  if (flow == NULL) {
    return;
  }
  if (verbose) {
    fprintf(stderr, "  < %u:%u flags %02x seq %d ack %d window %u, %u bytes, mss %u, edge %d\n", flow->stack_port, flow->port,
            flags, (int)(sequence - flow->stack_start), (int)(acknowledgement - flow->start), get16(tcp + 14),
            sent->length - header, flow->mss, (int)(flow->edge - flow->stack_start));
  }
  flow->last_length = SMALLER(sent->packet_length, sizeof flow->last);
  memcpy(flow->last, sent->packet, flow->last_length);
  if ((flags & RST_BIT) != 0) {
    flow->reset_seen = true;
    flow->state = flow->state == FLOW_NEW || percent(20) ? flow->state : FLOW_CLOSED;
    return;
  }
  if ((ack && is_late(flow, acknowledgement)) || (syn && sequence_is_superseded(flow, sequence))) {
    return;
  }
  if (syn) {
    CHECK(!ack || flow->tainted || was_called(flow, acknowledgement - 1), "port %u: answers a SYN at %d", flow->port,
          (int)(acknowledgement - 1 - flow->start));
    flow->answered |= is_current(flow, acknowledgement);
    flow->calling = false;
    begin_stream(flow, sequence);
  }
  if (flow->repeated && !syn && before(sequence, flow->stack_start) && !before(flow->former_end, sequence)) {
    return; /* from a former connection: it was queued for a neighbour's address */
  }
  read_options(flow, tcp, header, syn);
  if (ack && flow->stack_known) {
    follow_acknowledgement(flow, acknowledgement, get16(tcp + 14), syn);
  }
  if (syn && ack && flow->state == FLOW_SYN_SENT && acknowledgement == flow->start + 1) {
    flow->state = FLOW_OPEN;
    flow->next = flow->start + 1;
  }
  if (sent->length > header || (flags & FIN_BIT) != 0) {
    check_data(flow, sequence + syn, tcp + header, sent->length - header, (flags & FIN_BIT) != 0);
  }
}
