/* Which connections a tick of TCP visits. A walk over 10,000 open connections takes longer than a message, and nearly all of them
   wait for nothing: they sleep, in no list, or where a keep-alive is to be sent, in one of the slots below. Whatever may start
   a timer wakes a connection first (tw_tcp_ticked_touch): each call of the host, and each segment that arrives. The walk after
   a tick sends those back to sleep that have nothing to wait for (port/timers.c). */
#include "tcp/tcp_ticked.h"

#include "lwip/priv/tcp_priv.h"

/* Those that wake within the same ticks share a slot, so that few are looked at before their time. */
enum { SLOTS = 256, SLOT_TICKS = 16 };

struct tcp_pcb *tw_tcp_ticked;

static struct slot {
  struct tcp_pcb *first;
  uint32_t wakes; /* no connection of it does so earlier */
} slots[SLOTS];

static void insert(struct tcp_pcb **list, struct tcp_pcb *pcb) {
  pcb->ticked_next = *list;
  if (*list != NULL) {
    (*list)->ticked_link = &pcb->ticked_next;
  }
  pcb->ticked_link = list;
  *list = pcb;
}

void tw_tcp_ticked_remove(struct tcp_pcb *pcb) {
  if (pcb->ticked_link != NULL) {
    *pcb->ticked_link = pcb->ticked_next;
    if (pcb->ticked_next != NULL) {
      pcb->ticked_next->ticked_link = pcb->ticked_link;
    }
    pcb->ticked_link = NULL;
  }
  pcb->ticked_asleep = 0;
}

void tw_tcp_ticked_add(struct tcp_pcb *pcb) {
  tw_tcp_ticked_remove(pcb);
  pcb->last_timer = tcp_timer_ctr; /* a tick that has paused is not for it */
  insert(&tw_tcp_ticked, pcb);
}

bool tw_tcp_ticked_touch(struct tcp_pcb *pcb) {
  bool slept = pcb->ticked_asleep != 0;
  if (slept) {
    tw_tcp_ticked_add(pcb);
  }
  return slept;
}

static void put_in_slot(struct tcp_pcb *pcb) {
  struct slot *slot = &slots[pcb->ticked_wakes / SLOT_TICKS % SLOTS];
  if (slot->first == NULL || (int32_t)(pcb->ticked_wakes - slot->wakes) < 0) {
    slot->wakes = pcb->ticked_wakes;
  }
  insert(&slot->first, pcb);
}

void tw_tcp_ticked_sleep(struct tcp_pcb *pcb, uint32_t ticks) {
  tw_tcp_ticked_remove(pcb);
  pcb->ticked_asleep = 1;
  if (ticks != TICKED_NEVER) {
    pcb->ticked_wakes = tcp_ticks + ticks;
    put_in_slot(pcb);
  }
}

static uint32_t ticks_left(const struct slot *slot) {
  return slot->first == NULL ? TICKED_NEVER : (uint32_t)LWIP_MAX((int32_t)(slot->wakes - tcp_ticks), 0);
}

void tw_tcp_ticked_wake(void) {
  for (int i = 0; i < SLOTS; i++) {
    if (ticks_left(&slots[i]) != 0) {
      continue;
    }
    struct tcp_pcb *pcb = slots[i].first, *next;
    slots[i].first = NULL;
    for (; pcb != NULL; pcb = next) {
      next = pcb->ticked_next;
      pcb->ticked_link = NULL;
      if ((int32_t)(pcb->ticked_wakes - tcp_ticks) <= 0) {
        tw_tcp_ticked_add(pcb);
      } else {
        put_in_slot(pcb);
      }
    }
  }
}

uint32_t tw_tcp_ticked_idle(void) {
  uint32_t idle = TICKED_NEVER;
  for (int i = 0; i < SLOTS; i++) {
    idle = LWIP_MIN(idle, ticks_left(&slots[i]));
  }
  return idle;
}
