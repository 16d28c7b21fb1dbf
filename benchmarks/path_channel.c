/* See path_channel.h. */

#include "path_channel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fail(const char *what) {
  perror(what);
  exit(1);
}

void *claim(void *old, size_t size) {
  void *memory = realloc(old, size);
  if (memory == NULL && size != 0) {
    fail("memory");
  }
  return memory;
}

/* --- CoDel, RFC 8289 section 5, as tcpip_wasm.simulation has it ------------------------------------------- */

static struct frame *take(struct channel *channel) {
  struct frame *frame = channel->first;
  channel->first = frame->next;
  if (channel->first == NULL) {
    channel->last = &channel->first;
  }
  channel->waiting--;
  channel->waiting_bytes -= frame->size;
  return frame;
}

static struct frame *dequeue(struct channel *channel, int64_t now, bool *may_drop) {
  *may_drop = false;
  if (channel->first == NULL) {
    channel->first_above_time = 0;
    return NULL;
  }
  struct frame *frame = take(channel);
  if (now - frame->since < channel->target || channel->waiting_bytes <= channel->most_packet) {
    channel->first_above_time = 0;
  } else if (channel->first_above_time == 0) {
    channel->first_above_time = now + channel->interval;
  } else {
    *may_drop = now >= channel->first_above_time;
  }
  return frame;
}

static int64_t control_law(const struct channel *channel, int64_t time) {
  return time + (int64_t)nearbyint((double)channel->interval / sqrt((double)channel->count));
}

static void drop(struct channel *channel, struct frame *frame) {
  channel->dropped_codel += frame->fate.copies != 0; /* else it is counted as lost */
  free(frame);
}

static struct frame *pop(struct channel *channel, int64_t now) {
  bool may_drop;
  if (!channel->codel) {
    return take(channel);
  }
  struct frame *frame = dequeue(channel, now, &may_drop);
  if (channel->dropping) {
    if (!may_drop) {
      channel->dropping = false;
    }
    while (channel->dropping && now >= channel->drop_next) {
      drop(channel, frame);
      channel->count++;
      frame = dequeue(channel, now, &may_drop);
      if (may_drop) {
        channel->drop_next = control_law(channel, channel->drop_next);
      } else {
        channel->dropping = false;
      }
    }
  } else if (may_drop) {
    drop(channel, frame);
    frame = dequeue(channel, now, &may_drop);
    channel->dropping = true;
    int64_t delta = (int64_t)(channel->count - channel->last_count);
    bool recent = now - channel->drop_next < 16 * channel->interval;
    channel->count = delta > 1 && recent ? (uint64_t)delta : 1;
    channel->drop_next = control_law(channel, now);
    channel->last_count = channel->count;
  }
  return frame;
}

/* --- What is under way: a heap by arrival and order ------------------------------------------------------- */

static bool earlier(const struct frame *a, const struct frame *b) {
  return a->arrival != b->arrival ? a->arrival < b->arrival : a->number < b->number;
}

static void heap_push(struct channel *channel, struct frame *frame) {
  if (channel->under_way == channel->heap_room) {
    channel->heap_room = channel->heap_room * 2 + 64;
    channel->heap = claim(channel->heap, channel->heap_room * sizeof *channel->heap);
  }
  size_t at = channel->under_way++;
  while (at != 0 && earlier(frame, channel->heap[(at - 1) / 2])) {
    channel->heap[at] = channel->heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  channel->heap[at] = frame;
}

static struct frame *heap_pop(struct channel *channel) {
  struct frame *top = channel->heap[0], *moved = channel->heap[--channel->under_way];
  size_t at = 0, child;
  while ((child = 2 * at + 1) < channel->under_way) {
    if (child + 1 < channel->under_way && earlier(channel->heap[child + 1], channel->heap[child])) {
      child++;
    }
    if (earlier(moved, channel->heap[child])) {
      break;
    }
    channel->heap[at] = channel->heap[child];
    at = child;
  }
  channel->heap[at] = moved;
  return top;
}

/* --- The channel ------------------------------------------------------------------------------------------ */

static void transmit(struct channel *channel, int64_t at, struct frame *frame) {
  channel->free_at = at + (int64_t)nearbyint((double)frame->size * channel->nanoseconds);
  if (frame->fate.copies == 0) {
    free(frame);
    return;
  }
  frame->arrival = channel->free_at + channel->delay + frame->fate.extra;
  if (!frame->fate.late) {
    if (frame->arrival < channel->last_arrival) {
      frame->arrival = channel->last_arrival;
    }
    channel->last_arrival = frame->arrival;
  }
  frame->number = ++channel->number;
  heap_push(channel, frame);
}

static void serve(struct channel *channel, int64_t now) {
  while (channel->first != NULL && channel->free_at <= now) {
    int64_t at = channel->free_at;
    struct frame *frame = pop(channel, at);
    if (frame == NULL) {
      break;
    }
    transmit(channel, at, frame);
  }
}

static void decide(struct channel *channel, struct frame *frame, int64_t now) {
  frame->fate = (struct fate){.copies = 1};
  if (channel->fate_count != 0) {
    frame->fate = channel->fates[channel->accepted++ % channel->fate_count];
  }
  while (channel->toggled < channel->toggle_count && channel->toggles[channel->toggled] <= now) {
    channel->toggled++;
  }
  if (channel->toggled % 2 == 1) {
    frame->fate.copies = 0;
  }
  channel->lost += frame->fate.copies == 0;
}

void channel_send(struct channel *channel, int64_t now, const unsigned char *data, size_t size) {
  serve(channel, now);
  struct frame *frame = claim(NULL, sizeof *frame + size);
  memcpy(frame->data, data, size);
  frame->size = size;
  frame->since = now;
  frame->next = NULL;
  if (size > channel->most_packet) {
    channel->most_packet = size;
  }
  if (channel->free_at <= now && channel->first == NULL) {
    channel->first_above_time = 0;
    channel->dropping = false;
    decide(channel, frame, now);
    transmit(channel, now, frame);
  } else if (channel->waiting < channel->packets) {
    *channel->last = frame;
    channel->last = &frame->next;
    channel->waiting++;
    channel->waiting_bytes += size;
    decide(channel, frame, now);
  } else {
    channel->dropped_full++;
    free(frame);
  }
}

int64_t channel_due(const struct channel *channel) {
  int64_t due = channel->under_way != 0 ? channel->heap[0]->arrival : NEVER;
  if (channel->first != NULL) {
    int64_t turn = channel->free_at + (channel->codel ? 0 : channel->delay);
    due = turn < due ? turn : due;
  }
  return due;
}

struct frame *channel_arrived(struct channel *channel, int64_t now) {
  serve(channel, now);
  if (channel->under_way == 0 || channel->heap[0]->arrival > now) {
    return NULL;
  }
  struct frame *frame = heap_pop(channel);
  channel->delivered += (uint64_t)frame->fate.copies;
  return frame;
}

void channel_load(struct channel *channel, const char *path) {
  FILE *script = fopen(path, "rb");
  if (script == NULL) {
    fail(path);
  }
  struct {
    double nanoseconds;
    int64_t delay, packets, codel, target, interval, fates, toggles;
  } head;
  if (fread(&head, sizeof head, 1, script) != 1) {
    fail(path);
  }
  *channel = (struct channel){
      .nanoseconds = head.nanoseconds,
      .delay = head.delay,
      .packets = (uint64_t)head.packets,
      .codel = head.codel != 0,
      .target = head.target,
      .interval = head.interval,
      .fate_count = (uint64_t)head.fates,
      .toggle_count = (uint64_t)head.toggles,
  };
  channel->last = &channel->first;
  channel->fates = claim(NULL, channel->fate_count * sizeof *channel->fates);
  channel->toggles = claim(NULL, channel->toggle_count * sizeof *channel->toggles);
  if (fread(channel->fates, sizeof *channel->fates, channel->fate_count, script) != channel->fate_count ||
      fread(channel->toggles, sizeof *channel->toggles, channel->toggle_count, script) != channel->toggle_count) {
    fail(path);
  }
  fclose(script);
}
