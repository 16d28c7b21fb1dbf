/* Segments that have arrived out of order, in place of lwIP's queue of them. They are kept as runs: segments without a gap
   between them, with an index of the runs alone. A new segment nearly always joins the last run, or one at the first gap, where
   the peer sends again what is missing; a peer that makes thousands of gaps makes no more than RUNS. What is in sequence goes to the
   event buffer as far as it has room: until then it is not acknowledged as received, but by a block. */
#include "tcp/tcp_early.h"

#include "lwip_hooks.h"
#include "abi/events.h"
#include "tcp/tcp_output.h"

#include <string.h>

enum {
  RUNS = 1024, /* a segment behind more gaps has to be sent again: each may be a step of a walk */
  RUNS_OF_WORK = 8 /* that are passed in the time of a unit of tw_receive_work */
};

struct early_segment {
  struct early_segment *next; /* of its run, or NULL */
  uint32_t length; /* of the data */
  /* Only the first segment of a run has these: */
  struct early_segment *next_run, *last; /* the first of the next run, or NULL; the last of this one */
  uint32_t begin, end; /* sequence numbers of the run; a FIN has one, too */
  bool fin; /* of this segment */
  uint8_t data[];
};

struct early {
  struct tcp_sack_range blocks[LWIP_TCP_MAX_SACK_NUM]; /* what lwIP reports, the latest run first (RFC 2018, section 4) */
  struct early_segment *first, *last; /* runs */
  bool ends; /* a FIN has come */
  uint32_t end; /* the sequence number behind it; what lies beyond is not kept */
  uint32_t runs;
  uint32_t bytes; /* with the headers above, so that a peer that sends one byte a segment is charged for what it occupies */
};

static struct early *early_of(const struct tcp_pcb *pcb) { return (struct early *)(void *)pcb->rcv_sacks; }

uint32_t tw_early_bytes(const struct tcp_pcb *pcb) { return pcb->rcv_sacks == NULL ? 0 : early_of(pcb)->bytes; }

static struct early_segment *free_segment(struct early *early, struct early_segment *segment) {
  struct early_segment *next = segment->next;
  early->bytes -= sizeof *segment + segment->length;
  tw_heap_free(segment);
  return next;
}

static struct early_segment *free_run(struct early *early, struct early_segment *run) {
  struct early_segment *next = run->next_run;
  while (run != NULL) {
    run = free_segment(early, run);
  }
  early->runs--;
  return next;
}

/* LWIP_HOOK_TCP_EARLY_FREE: the peer sends all of it again. */
void tw_early_free(struct tcp_pcb *pcb) {
  struct early *early = early_of(pcb);
  if (early != NULL) {
    while (early->first != NULL) {
      early->first = free_run(early, early->first);
    }
    tw_heap_free(early);
    pcb->rcv_sacks = NULL;
  }
}

/* Takes what lies between two sequence numbers out of the blocks; what is left of them moves behind a new one, if any. */
static void update_blocks(struct early *early, uint32_t left, uint32_t right, bool is_new) {
  struct tcp_sack_range blocks[LWIP_TCP_MAX_SACK_NUM + 1] = {{left, right}};
  uint32_t count = is_new;
  for (uint32_t i = 0; i < LWIP_TCP_MAX_SACK_NUM; i++) {
    struct tcp_sack_range block = early->blocks[i];
    if (TCP_SEQ_GEQ(block.left, left) && TCP_SEQ_LT(block.left, right)) {
      block.left = right;
    }
    if (TCP_SEQ_LT(block.left, block.right)) {
      blocks[count++] = block;
    }
  }
  for (; count < LWIP_TCP_MAX_SACK_NUM; count++) {
    blocks[count] = (struct tcp_sack_range){0};
  }
  memcpy(early->blocks, blocks, sizeof early->blocks);
}

bool tw_early_deliver(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  struct early *early = early_of(pcb);
  uint32_t before = pcb->rcv_nxt;
  bool fin = false;
  struct early_segment *segment;
  connection->flags &= ~(uint32_t)CONNECTION_EARLY;
  while (!fin && early != NULL && (segment = early->first) != NULL && segment->begin == pcb->rcv_nxt) {
    uint32_t length = segment->length;
    if (!tw_events_have_room_beside(length)) {
      tw_connection_report(connection, CONNECTION_EARLY);
      break;
    }
    LWIP_REQUIRE("early data within the window", pcb, pcb->rcv_wnd >= length + segment->fin, return false);
    fin = segment->fin;
    if (length > 0) {
      memcpy(tw_event_data_space(connection->handle, length), segment->data, length);
      tw_event_data_added(connection->handle, length);
    }
    connection->unread += length;
    pcb->rcv_nxt += length + fin;
    pcb->rcv_wnd -= length + fin;
    struct early_segment *next = segment->next;
    if (next == NULL) {
      next = segment->next_run;
      early->runs--;
    } else {
      next->next_run = segment->next_run;
      next->last = segment->last;
      next->begin = pcb->rcv_nxt;
      next->end = segment->end;
    }
    early->last = early->last == segment ? next : early->last;
    early->first = next;
    free_segment(early, segment);
  }
  if (pcb->rcv_nxt != before) {
    update_blocks(early, before, pcb->rcv_nxt, false);
    tcp_update_rcv_ann_wnd(pcb);
    tw_connection_measure_window(connection);
    if ((connection->flags & CONNECTION_EARLY) == 0) {
      tcp_ack_now(pcb); /* RFC 5681, section 4.2 */
    }
  }
  if (early != NULL && (fin || early->first == NULL)) {
    tw_early_free(pcb);
  }
  return fin;
}

/* The last run that begins at a sequence number or before it, or NULL. */
static struct early_segment *run_before(const struct early *early, uint32_t sequence) {
  struct early_segment *run = early->last, *next = early->first;
  if (run != NULL && TCP_SEQ_GEQ(sequence, run->begin)) {
    return run;
  }
  uint32_t steps = 0;
  for (run = NULL; next != NULL && TCP_SEQ_LEQ(next->begin, sequence); steps++) {
    run = next;
    next = next->next_run;
  }
  tw_receive_work(steps / RUNS_OF_WORK);
  return run;
}

/* Keeps what is new of a segment that begins within the window. Returns up to where all of it was there already. */
static uint32_t keep(struct tcp_pcb *pcb, uint32_t sequence, const struct pbuf *data, bool fin) {
  struct early *early = early_of(pcb);
  uint32_t edge = pcb->rcv_nxt + pcb->rcv_wnd, begin = sequence, all = sequence + data->tot_len;
  /* The first FIN ends the stream, unless data has come from behind it. */
  if (fin && !early->ends && TCP_SEQ_LT(all, edge) && (early->last == NULL || TCP_SEQ_LEQ(early->last->end, all))) {
    early->ends = true;
    early->end = all + 1;
  }
  if (early->ends) {
    edge = TCP_SEQ_LT(early->end, edge) ? early->end : edge;
    all += fin && all + 1 == early->end;
  }
  uint32_t end = TCP_SEQ_LT(all, edge) ? all : edge;
  struct early_segment *before = run_before(early, sequence);
  struct early_segment **link = before == NULL ? &early->first : &before->next_run, *after = *link;
  if (before != NULL && TCP_SEQ_GT(before->end, begin)) {
    begin = before->end;
  }
  if (TCP_SEQ_GEQ(begin, end)) {
    if (begin != sequence) {
      update_blocks(early, before->begin, before->end, true);
    }
    return TCP_SEQ_LT(begin, all) ? begin : all;
  }
  bool joins = before != NULL && before->end == begin;
  while (after != NULL && TCP_SEQ_LEQ(after->end, end)) {
    after = after->next_run; /* it is covered, and replaced */
  }
  if (after != NULL && TCP_SEQ_LT(after->begin, end)) {
    end = after->begin;
  }
  fin = early->ends && end == early->end;
  uint32_t length = end - begin - fin, size = sizeof(struct early_segment) + length;
  /* The offered window is kept (RFC 9293, section 3.8.6) but where the segments are tiny. */
  bool next = begin == pcb->rcv_nxt;
  bool refused = !next && (early->bytes + size > pcb->rcv_wnd + pcb->rcv_wnd / 2 || (early->runs >= RUNS && !joins));
  struct early_segment *segment = refused ? NULL : tw_heap_allocate(size);
  if (segment == NULL) {
    if (next) {
      tw_early_free(pcb); /* so that lwIP takes it, when it is sent again */
    }
    return sequence;
  }
  while (*link != after) {
    *link = free_run(early, *link);
  }
  early->bytes += size;
  *segment =
      (struct early_segment){.length = length, .next_run = after, .last = segment, .begin = begin, .end = end, .fin = fin};
  pbuf_copy_partial(data, segment->data, (u16_t)length, (u16_t)(begin - sequence));
  struct early_segment *run = joins ? before : segment;
  if (joins) {
    run->last->next = segment;
    run->last = segment;
    run->end = end;
  } else {
    *link = segment;
    early->runs++;
  }
  if (after != NULL && after->begin == end) {
    run->last->next = after;
    run->last = after->last;
    run->end = after->end;
    run->next_run = after->next_run;
    early->runs--;
  }
  if (run->next_run == NULL) {
    early->last = run;
  }
  update_blocks(early, run->begin, run->end, true);
  return sequence;
}

/* LWIP_HOOK_TCP_EARLY: a segment that is not the next one, or that joins others. Returns true where the peer's FIN is next. */
bool tw_early_receive(struct tcp_pcb *pcb, uint32_t sequence, const struct pbuf *data, bool fin) {
  struct connection *connection = tw_connection_of(pcb);
  uint32_t duplicate = sequence;
  bool ended = false;
  /* What the host has closed does not receive any more, and waits only for the FIN. */
  if (pcb->rcv_sacks == NULL && connection != NULL && connection->handle != 0) {
    pcb->rcv_sacks = tw_heap_allocate_zeroed(1, sizeof(struct early));
  }
  if (pcb->rcv_sacks != NULL) {
    duplicate = keep(pcb, sequence, data, fin);
    ended = tw_early_deliver(connection);
    if ((connection->flags & CONNECTION_EARLY) != 0) {
      return false; /* the next acknowledgement is for all that is in sequence */
    }
  }
  if (pcb->rcv_sacks != NULL || (pcb->flags & TF_ACK_NOW) == 0) {
    tcp_report_duplicate(pcb, sequence, duplicate);
  }
  return ended;
}
