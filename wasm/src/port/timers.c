/* lwIP's timers. In lwIP they tick without end; here a tick that could only age a table without an event does not wake the
   embedder: it is made up for at the next poll, before anything else happens, with the same result. */
#include "port/timers.h"

#include "lwip_hooks.h"
#include "abi/module.h"
#include "abi/work.h"
#include "ip/dhcp_client.h"
#include "port/statistics.h"
#include "tcp/connection.h"
#include "tcp/tcp_listen.h"
#include "tcp/tcp_output.h"
#include "tcp/tcp_recovery.h"
#include "tcp/tcp_ticked.h"
#include "lwip/etharp.h"
#include "lwip/igmp.h"
#include "lwip/ip4_frag.h"
#include "lwip/ip6_frag.h"
#include "lwip/mld6.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/stats.h"
#include "lwip/timeouts.h"

#include <math.h>

int etharp_is_busy(void);
int ip_reass_is_busy(void);
int ip6_reass_is_busy(void);

enum {
  MOST_TICKS = 100000, /* missed ticks that are made up for one by one: a day of seconds */
  WALK_INTERVAL = 5000, /* us */
  WORTH_SLEEPING = 8,   /* ticks of TCP: a connection that would be visited sooner stays where it is */
};

struct clock {
  uint32_t interval; /* ms */
  void (*tick)(void);
  bool ages; /* its ticks change state, without an event, even where none is waited for */
  uint32_t (*idle)(void); /* for how many more ticks nothing would be sent or reported; NEVER for all of them */
  uint64_t next; /* us: when the next tick is due */
};

#define NEVER UINT32_MAX

static uint64_t earliest_tick; /* us: when the next of any clock is due, and nothing is to be done before */

/* Of TCP's timestamps, in milliseconds. */
u32_t tw_sys_now(void) { return (u32_t)(tw_now / 1000) - tw_timestamp_back; }

static uint32_t arp_idle(void) { return etharp_is_busy() ? 0 : NEVER; }

bool tw_timers_seek_neighbours(void) {
  for (int i = 0; i < LWIP_ND6_NUM_NEIGHBORS; i++) {
    if (neighbor_cache[i].q != NULL) {
      return true;
    }
  }
  return etharp_is_busy();
}

static uint32_t reassembly4_idle(void) { return ip_reass_is_busy() ? 0 : NEVER; }

static uint32_t reassembly6_idle(void) { return ip6_reass_is_busy() ? 0 : NEVER; }

static uint32_t igmp_idle(void) {
  struct netif *netif;
  NETIF_FOREACH(netif) {
    for (const struct igmp_group *group = netif_igmp_data(netif); group != NULL; group = group->next) {
      if (group->timer > 0) {
        return 0;
      }
    }
  }
  return NEVER;
}

static uint32_t mld_idle(void) {
  struct netif *netif;
  NETIF_FOREACH(netif) {
    for (const struct mld_group *group = netif_mld6_data(netif); group != NULL; group = group->next) {
      if (group->timer > 0) {
        return 0;
      }
    }
  }
  return NEVER;
}

/* A time that is counted down by each tick, and acts at the last of them. */
static uint32_t before(uint32_t idle, uint32_t ticks) {
  return ticks == 0 ? idle : LWIP_MIN(idle, LWIP_MIN(ticks - 1, MOST_TICKS / 2));
}

static uint32_t lifetime(uint32_t idle, uint32_t seconds) {
  return ip6_addr_life_isinfinite(seconds) ? idle : before(idle, seconds);
}

static uint32_t nd_idle(void) {
  for (int i = 0; i < LWIP_ND6_NUM_NEIGHBORS; i++) {
    uint8_t state = neighbor_cache[i].state;
    if (state == ND6_INCOMPLETE || state == ND6_DELAY || state == ND6_PROBE) {
      return 0;
    }
  }
  uint32_t idle = NEVER;
  struct netif *netif;
  NETIF_FOREACH(netif) {
    if (netif->ip6_autoconfig_enabled && netif->rs_count > 0) {
      return 0;
    }
    for (int i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
      uint8_t state = netif_ip6_addr_state(netif, i);
      if (ip6_addr_istentative(state)) {
        return 0;
      }
      if (!ip6_addr_isinvalid(state)) {
        idle = lifetime(idle, netif_ip6_addr_valid_life(netif, i));
        idle = lifetime(idle, ip6_addr_ispreferred(state) ? netif_ip6_addr_pref_life(netif, i) : 0);
      }
    }
  }
  return idle;
}

static bool connection_is_busy(const struct tcp_pcb *pcb) {
  return pcb->persist_backoff > 0 || pcb->unsent != NULL || pcb->refused_data != NULL ||
         (pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW | TF_CLOSEPEND)) != 0;
}

static bool tcp_timed; /* a retransmission timer runs, which counts ticks: none may be left out */

/* How many ticks a connection's retransmission timer leaves before the one at which it may fire: it counts every other
   tick. Where other timers of lwIP's run beside it, all of them are waited for. */
static uint32_t retransmission_idle(const struct tcp_pcb *pcb) {
  if (pcb->rtime < 0) {
    return NEVER;
  }
  tcp_timed = true;
  bool alone = pcb->state == SYN_SENT || (pcb->state != SYN_RCVD && pcb->nrtx < TCP_MAXRTX);
  return alone && pcb->rto > pcb->rtime ? 2 * (uint32_t)(pcb->rto - pcb->rtime) - 2 : 0;
}

/* An open connection without a pending timer costs no ticks; one with keep-alive, none until its next probe. TIME-WAIT and
   FIN-WAIT-2 end without an event, so that no wake-up is needed for them. */
static uint32_t connection_idle(const struct tcp_pcb *pcb) {
  struct connection *connection = tw_connection_of(pcb);
  if (connection_is_busy(pcb) || (connection != NULL && (connection->flags & CONNECTION_ABORTED) != 0)) {
    return 0;
  }
  uint32_t idle = retransmission_idle(pcb);
  uint64_t left = connection == NULL ? 0 : tw_connection_time_left(connection);
  if (left != 0) {
    idle = LWIP_MIN(idle, (uint32_t)LWIP_MIN(left / (TCP_TMR_INTERVAL * 1000), MOST_TICKS / 2));
  }
  if (ip_get_option(pcb, SOF_KEEPALIVE)) {
    uint32_t due = (pcb->keep_idle + pcb->keep_cnt_sent * pcb->keep_intvl) / TCP_SLOW_INTERVAL + 1;
    uint32_t passed = tcp_ticks - pcb->tmr;
    idle = LWIP_MIN(idle, due > passed ? 2 * (due - passed) - 1 : 0);
  }
  return idle;
}

/* Ticks may skip a connection with no pending timer but its keep-alive. States that end without an event are visited. */
static bool may_sleep(const struct tcp_pcb *pcb) {
  const struct connection *connection = tw_connection_of(pcb);
  return pcb->state >= ESTABLISHED && pcb->rtime < 0 && pcb->rcv_sacks == NULL && connection != NULL && connection->handle != 0;
}

static uint32_t tcp_idle(void) {
  uint32_t idle = tw_tcp_reports_wait() ? 0 : NEVER;
  tcp_timed = false;
  for (struct tcp_pcb *pcb = tw_tcp_ticked, *next; pcb != NULL; pcb = next) {
    next = pcb->ticked_next;
    uint32_t of_this = connection_idle(pcb);
    if (of_this >= WORTH_SLEEPING && may_sleep(pcb)) {
      tw_tcp_ticked_sleep(pcb, of_this == NEVER ? TICKED_NEVER : of_this / 2);
    } else {
      idle = LWIP_MIN(idle, of_this);
    }
  }
  uint32_t asleep = tw_tcp_ticked_idle();
  return asleep == TICKED_NEVER ? idle : LWIP_MIN(idle, 2 * asleep + 1);
}

static struct clock clocks[] = {
    {.interval = IP_TMR_INTERVAL, .tick = ip_reass_tmr, .idle = reassembly4_idle},
    {.interval = IP6_REASS_TMR_INTERVAL, .tick = ip6_reass_tmr, .idle = reassembly6_idle},
    {.interval = ARP_TMR_INTERVAL, .tick = etharp_tmr, .ages = true, .idle = arp_idle},
    {.interval = ND6_TMR_INTERVAL, .tick = nd6_tmr, .ages = true, .idle = nd_idle},
    {.interval = IGMP_TMR_INTERVAL, .tick = igmp_tmr, .idle = igmp_idle},
    {.interval = MLD6_TMR_INTERVAL, .tick = mld6_tmr, .idle = mld_idle},
    {.interval = TCP_TMR_INTERVAL, .tick = tcp_tmr, .idle = tcp_idle},
};

enum { CLOCKS = sizeof clocks / sizeof *clocks };
static struct clock *const tcp_clock = &clocks[CLOCKS - 1];

/* The result of the walk over the connections, and the segments exchanged by then: as long as that number grows, the next tick
   is due anyway, and no walk is needed. */
static uint32_t tcp_idle_ticks = NEVER, tcp_exchanged;

static uint32_t tcp_exchanges(void) { return lwip_stats.tcp.recv + lwip_stats.tcp.xmit; }

static uint32_t tcp_due; /* ticks of TCP that are still to run; the first of them may have paused */
static uint32_t tcp_work, tcp_sent_before;

void tw_timers_tcp_work(uint32_t units) { tcp_work += units; }

bool tw_timers_tcp_pause(void) { return ++tcp_work / WORK_VISITS + lwip_stats.tcp.xmit - tcp_sent_before >= WORK_SEGMENTS; }

/* Makes up for an even number of ticks that are known to do nothing but count. */
static uint32_t skip_tcp(uint32_t missed) {
  if (missed <= 2 || tcp_timer_paused || tcp_exchanges() != tcp_exchanged) {
    return missed;
  }
  uint32_t skipped = LWIP_MIN(missed - 2, tcp_idle_ticks) / 2;
  tcp_ticks += skipped;
  for (struct tcp_pcb *pcb = tw_tcp_ticked; pcb != NULL; pcb = pcb->ticked_next) {
    if (pcb->rtime >= 0) {
      pcb->rtime = (s16_t)LWIP_MIN(pcb->rtime + (int64_t)skipped, 0x7fff);
    }
  }
  return missed - 2 * skipped;
}

static bool run_tcp(void) {
  tcp_work = 0;
  tcp_sent_before = lwip_stats.tcp.xmit;
  while (tcp_due > 0) {
    tw_tcp_ticked_wake();
    tcp_tmr();
    if (tcp_timer_paused) {
      return true;
    }
    tcp_due--;
  }
  tcp_exchanged = tcp_exchanges();
  tcp_idle_ticks = tcp_idle();
  return false;
}

static void run(struct clock *clock) {
  if (tw_now < clock->next) {
    return;
  }
  uint64_t interval = (uint64_t)clock->interval * 1000;
  uint64_t missed = (tw_now - clock->next) / interval + 1;
  clock->next += missed * interval;
  if (!clock->ages && clock != tcp_clock && clock->idle() == NEVER) {
    return;
  }
  /* Missed ticks are made up for while a retransmission timer counts them. Of others, only the time has passed; two are left to
     run. A suspended embedder has queued acknowledgements for this very poll, but they are processed after the ticks: more
     ticks would retransmit everything several times, or end connections. */
  uint64_t most = 2 + (uint64_t)(tcp_timed ? tcp_idle_ticks : 0);
  if (clock == tcp_clock && missed > most) {
    tcp_ticks += (uint32_t)((missed - most) / 2);
    missed = most;
  }
  missed = LWIP_MIN(missed, MOST_TICKS);
  if (clock == tcp_clock) {
    if (tcp_due > 2) { /* it pauses more often than it ends: time passes, and ticks do not add up */
      tcp_ticks += (uint32_t)(missed / 2);
      return;
    }
    tcp_due += skip_tcp((uint32_t)missed);
    return;
  }
  for (; missed > 0; missed--) {
    clock->tick();
  }
}

bool tw_timers_advance(double time) {
  if (time * 1e6 >= (double)tcp_clock->next) {
    return false;
  }
  tw_now = LWIP_MAX(tw_now, (uint64_t)(time * 1e6));
  return true;
}

static bool slow_changed;

void tw_timers_changed(void) {
  slow_changed = true;
  earliest_tick = 0;
}

void tw_timers_tcp_changed(void) { tcp_exchanged--; }

void tw_timers_start(void) {
  tcp_ticks = 1; /* lwIP takes 0 for "no measurement under way" */
  for (int i = 0; i < CLOCKS; i++) {
    clocks[i].next = tw_now + (uint64_t)clocks[i].interval * 1000;
  }
}

bool tw_timers_run(void) {
  if (tw_now < earliest_tick && tcp_due == 0) {
    return false;
  }
  uint64_t next = UINT64_MAX;
  for (int i = 0; i < CLOCKS; i++) {
    run(&clocks[i]);
    next = LWIP_MIN(next, clocks[i].next);
  }
  uint64_t lease = tw_dhcp_clients_run(); /* after ARP's missed ticks, which would give its requests up at once */
  earliest_tick = LWIP_MIN(next, lease);
  return tcp_due > 0 && run_tcp();
}

double tw_timers_next_tick(void) { return (double)earliest_tick / 1e6; }

static uint64_t due(const struct clock *clock, uint32_t idle) {
  return idle == NEVER ? UINT64_MAX : clock->next + (uint64_t)idle * clock->interval * 1000;
}

/* The tables behind the slow clocks are walked only when they may have changed: when something was exchanged that
   changes them, some milliseconds have passed, or what the last walk found has come. */
static uint64_t slow_deadline(void) {
  static uint64_t walked;
  static uint32_t exchanged;
  static uint64_t earliest;
  uint32_t exchanges = tw_statistics.exchanges + lwip_stats.ip_frag.recv + lwip_stats.ip6_frag.recv;
  if (slow_changed || tw_now >= walked + WALK_INTERVAL || exchanges != exchanged || tw_now >= earliest) {
    walked = tw_now;
    exchanged = exchanges;
    slow_changed = false;
    earliest = tw_dhcp_clients_run(); /* none is due: this poll began with them */
    for (int i = 0; &clocks[i] != tcp_clock; i++) {
      earliest = LWIP_MIN(earliest, due(&clocks[i], clocks[i].idle()));
    }
  }
  return earliest;
}

double tw_timers_deadline(void) {
  uint32_t idle = tcp_exchanges() != tcp_exchanged || tw_tcp_reports_wait() ? 0 : tcp_idle_ticks;
  uint64_t earliest = LWIP_MIN(LWIP_MIN(slow_deadline(), due(tcp_clock, idle)), tw_rack_deadline());
  /* Half a microsecond more, so that the embedder's clock, truncated to microseconds, is not before the deadline that was
     returned. */
  return earliest == UINT64_MAX ? INFINITY : ((double)earliest + 0.5) / 1e6;
}

/* lwIP would start its own timers here. */
void tw_sys_timeouts_init(void) {}
