/* The next action of a peer: half of them follow the protocol. */
#include "fuzz.h"

static uint32_t usual_size(const struct flow *flow) {
  uint32_t most = flow->link->mtu - SMALLER(flow->link->mtu - 1, flow->six ? 72u : 52u);
  return flow->stack_mss == 0 ? SMALLER(most, 536) : SMALLER(most, LARGER(flow->stack_mss, 13) - 12);
}

static uint32_t window_left(const struct flow *flow) {
  int32_t left = (int32_t)(flow->stack_edge - flow->next);
  return left > 0 ? (uint32_t)left : 0;
}

static void send_next(struct flow *flow, uint32_t length, uint32_t flags) {
  segment_send(flow, ACK_BIT | flags, flow->next, flow->stack_end, length);
  flow->next += length + (flags & FIN_BIT);
  flow->finished |= (flags & FIN_BIT) != 0;
}

static void right_move(struct flow *flow) {
  uint32_t kind = below(12), most = SMALLER(usual_size(flow), window_left(flow));
  if (kind >= 4 && kind < 10 && flow->next != flow->latest_ack && percent(40)) {
    kind = 10;
  }
  if (kind < 4 || (flow->finished && kind < 10)) {
    segment_send(flow, ACK_BIT, flow->next, flow->stack_end, 0);
  } else if (kind < 8) {
    send_next(flow, size_up_to(most), PSH_BIT);
  } else if (kind < 10) { /* fills the offered window */
    for (uint32_t left = 1 + below(percent(20) ? 200 : 20); left > 0 && window_left(flow) > 0; left--) {
      send_next(flow, SMALLER(usual_size(flow), window_left(flow)), 0);
    }
  } else if (kind == 10) {
    uint32_t length = SMALLER(flow->next - flow->latest_ack, usual_size(flow));
    bool fin = flow->finished && flow->latest_ack + length == flow->next && length > 0;
    segment_send(flow, ACK_BIT | (fin ? FIN_BIT : 0), flow->latest_ack, flow->stack_end, length - fin);
  } else if (percent(flow->stack_finished ? 30 : 4)) {
    send_next(flow, size_up_to(most), FIN_BIT);
  }
}

static uint32_t wrong_sequence(struct flow *flow) {
  uint32_t open = flow->stack_edge - flow->latest_ack;
  switch (below(9)) {
    case 0:
      return flow->latest_ack;
    case 1:
      return flow->latest_ack - below(3000);
    case 2:
      return flow->next + below(3000);
    case 3:
      return flow->stack_edge - below(4);
    case 4:
      return flow->stack_edge - below(1500);
    case 5:
      return flow->latest_ack + below(SMALLER(open, 5000) + 1);
    case 6:
      return percent(10) ? any() : flow->latest_ack - 1;
    default:
      return flow->next;
  }
}

static uint32_t wrong_acknowledgement(const struct flow *flow) {
  switch (below(8)) {
    case 0:
      return flow->stack_end - below(3000);
    case 1:
      return flow->stack_end - below(3);
    case 2:
      return flow->stack_end + 1 + below(2000);
    case 3:
      return flow->stack_start + below(3);
    case 4:
      return percent(10) ? any() : flow->stack_start;
    default:
      return flow->stack_end;
  }
}

static uint32_t wrong_flags(void) {
  switch (below(12)) {
    case 0:
    case 1:
      return ACK_BIT | FIN_BIT;
    case 2:
      return ACK_BIT | URG_BIT;
    case 3:
      return percent(20) ? ONE_OF(RST_BIT, RST_BIT | ACK_BIT) : ACK_BIT;
    case 4:
      return ONE_OF(SYN_BIT, SYN_BIT | ACK_BIT, 0, FIN_BIT, PSH_BIT);
    case 5:
      return percent(20) ? below(64) : ACK_BIT;
    default:
      return ACK_BIT;
  }
}

/* Segments of a peer whose SYN the stack has answered keep its initial sequence number: another SYN would begin another
   stream. */
static void wrong_move(struct flow *flow) {
  uint32_t sequence = wrong_sequence(flow), flags = wrong_flags(), left = flow->stack_edge - sequence;
  uint32_t length = below(5) == 0 && left <= 60000 ? left
                    : below(4) == 0                ? 0
                                                   : size_up_to(percent(10) ? 60000 : usual_size(flow));
  length += percent(5) && length < 60000;
  if ((flags & SYN_BIT) != 0 && (flow->active || flow->state < FLOW_OPEN || percent(80))) {
    sequence = flow->start;
  }
  if ((flags & RST_BIT) != 0 && percent(50)) {
    sequence = flow->latest_ack;
  }
  uint32_t acknowledgement = wrong_acknowledgement(flow);
  for (uint32_t times = percent(85) ? 1 : 2 + below(4); times > 0; times--) {
    segment_send(flow, flags, sequence, acknowledgement, length);
  }
}

static void answer_syn(struct flow *flow) {
  flow->next = flow->start + 1;
  if (percent(75)) {
    segment_send(flow, SYN_BIT | ACK_BIT, flow->start, flow->stack_end, percent(3) ? below(100) : 0);
    flow->state = FLOW_OPEN;
    flow->latest_ack = flow->stack_edge = flow->next;
  } else if (percent(60)) { /* simultaneous open (RFC 9293, section 3.5) */
    segment_send(flow, SYN_BIT, flow->start, 0, 0);
    flow->state = percent(50) ? FLOW_OPEN : FLOW_SYN_RECEIVED;
  } else if (percent(40)) {
    segment_send(flow, RST_BIT | ACK_BIT, flow->start, flow->stack_end, 0);
  }
}

void flow_move(struct flow *flow) {
  if (flow->state == FLOW_NEW || (flow->state == FLOW_SYN_SENT && percent(50))) {
    flow->next = flow->start + 1;
    segment_send(flow, SYN_BIT, flow->start, 0, percent(3) ? below(1000) : 0);
    flow->state = FLOW_SYN_SENT;
  } else if (flow->state == FLOW_SYN_RECEIVED) {
    answer_syn(flow);
  } else if (percent(style.wrong)) {
    wrong_move(flow);
  } else if (flow->state == FLOW_OPEN) {
    right_move(flow);
  } else if (flow->state == FLOW_CLOSED && percent(10) && flow->stream == NULL) {
    struct flow *again = percent(50) && !flow->active && link_of(flow->link_handle) == flow->link ? flow : NULL;
    if (again != NULL) { /* the same ports once more, perhaps in TIME-WAIT */
      again->formers[again->former_count++ % MAX_CALLS] = (struct span){again->start, again->sent_end};
      again->answered = false;
      again->state = FLOW_NEW;
      again->start = percent(70) ? again->sent_end + below(100000) : any();
      again->next = again->sent_end = again->start;
      again->finished = false;
    }
  }
}

void peers_step(void) {
  for (uint32_t rounds = 1 + below(6); rounds > 0; rounds--) {
    struct flow *flow = flow_any();
    for (uint32_t moves = flow == NULL ? 0 : 1 + below(percent(30) ? 12 : 4); moves > 0; moves--) {
      flow_move(flow);
    }
  }
}
