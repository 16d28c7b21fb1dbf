/* Which connection a segment belongs to: a hash table beside lwIP's lists, which it would walk for each segment (485 us
   at 30,000 connections). It also bounds TIME-WAIT, which lwIP leaves to pools that we do not use. */
#include "tcp/tcp_lookup.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "tcp/connection.h"
#include "tcp/tcp_receive.h"
#include "tcp/tcp_ticked.h"
#include "lwip/priv/tcp_priv.h"

enum { BUCKETS = 4096 };

static struct tcp_pcb *table[BUCKETS];
static uint32_t time_wait;

/* Keyed, so that a peer that picks its ports cannot fill one bucket. */
static struct tcp_pcb **bucket(const ip_addr_t *remote, uint16_t remote_port, uint16_t local_port) {
  static uint32_t key;
  while (key == 0) {
    key = tw_random_u32() | 1;
  }
  const uint32_t *words = IP_IS_V6(remote) ? ip_2_ip6(remote)->addr : &ip_2_ip4(remote)->addr;
  uint32_t hash = key ^ ((uint32_t)remote_port << 16 | local_port);
  for (int i = 0; i < (IP_IS_V6(remote) ? 4 : 1); i++) {
    hash = (hash ^ words[i]) * 0x9e3779b1u;
    hash ^= hash >> 15;
  }
  hash *= key;
  return &table[hash >> 20];
}

_Static_assert(BUCKETS == 1 << 12, "bucket() takes the upper 12 bits");

/* LWIP_HOOK_TCP_FIND */
struct tcp_pcb *tw_tcp_lookup(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote, uint16_t remote_port) {
  struct tcp_pcb *pcb = *bucket(remote, remote_port, local_port);
  while (pcb != NULL && !(pcb->remote_port == remote_port && pcb->local_port == local_port &&
                          ip_addr_eq(&pcb->remote_ip, remote) && ip_addr_eq(&pcb->local_ip, local))) {
    pcb = pcb->lookup_next;
  }
  return pcb;
}

/* False where a connection has these ends. One in TIME-WAIT makes room where timestamps separate its segments from those of the
   next (RFC 6191, section 2). */
bool tw_tcp_tuple_take(const ip_addr_t *local, uint16_t local_port, const ip_addr_t *remote, uint16_t remote_port) {
  struct tcp_pcb *pcb = tw_tcp_lookup(local, local_port, remote, remote_port);
  bool over = pcb != NULL && pcb->state == TIME_WAIT && (pcb->flags & TF_TIMESTAMP) != 0;
  if (over) {
    tcp_timewait_end(pcb);
  }
  return pcb == NULL || over;
}

/* Frees the oldest eighth: the list has its newest at the front, and one walk serves many connections. */
static void trim_time_wait(void) {
  struct tcp_pcb *last = tcp_tw_pcbs, *oldest;
  for (int kept = 1; kept < ABI_MAX_TIME_WAIT - ABI_MAX_TIME_WAIT / 8; kept++) {
    last = last->next;
  }
  while ((oldest = last->next) != NULL) {
    last->next = oldest->next;
    tcp_pcb_purge(oldest);
    tcp_free(oldest);
  }
}

/* LWIP_HOOK_TCP_REGISTERED: a control block enters one of lwIP's lists. */
void tw_tcp_lookup_registered(struct tcp_pcb **list, struct tcp_pcb *pcb) {
  if (list == &tcp_active_pcbs) {
    tw_tcp_ticked_add(pcb);
  }
  if (list == &tcp_active_pcbs && pcb->lookup_link == NULL) {
    struct tcp_pcb **first = bucket(&pcb->remote_ip, pcb->remote_port, pcb->local_port);
    pcb->lookup_next = *first;
    if (*first != NULL) {
      (*first)->lookup_link = &pcb->lookup_next;
    }
    pcb->lookup_link = first;
    *first = pcb;
  } else if (list == &tcp_tw_pcbs) {
    tw_tcp_ticked_remove(pcb);
    pcb->lookup_time_wait = 1;
    if (++time_wait > ABI_MAX_TIME_WAIT) {
      trim_time_wait();
    }
  }
}

/* LWIP_HOOK_TCP_FREED. lwIP has cleared the ports by now, so the block is unlinked by where it is, not by its key. */
void tw_tcp_lookup_freed(struct tcp_pcb *pcb) {
  if (pcb->connection != NULL) {
    tw_connection_freed(pcb->connection);
  }
  tw_tcp_receive_forget(pcb);
  tw_tcp_ticked_remove(pcb);
  if (pcb->lookup_link != NULL) {
    *pcb->lookup_link = pcb->lookup_next;
    if (pcb->lookup_next != NULL) {
      pcb->lookup_next->lookup_link = pcb->lookup_link;
    }
  }
  time_wait -= pcb->lookup_time_wait;
}

uint32_t tw_tcp_time_wait_count(void) { return time_wait; }
