/* What a listener does with what arrives for it, and how much of that it keeps. A SYN costs its sender nothing and may name
   any source, so that half-open connections are few, and what exceeds them is answered with a SYN cookie (RFC 4987,
   section 3.6), for which nothing is kept. The backlog bounds what is established and not yet accepted. */
#include "tcp/tcp_listen.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/address_codec.h"
#include "abi/events.h"
#include "abi/module.h"
#include "port/random.h"
#include "lwip/ip.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/sys.h"

enum {
  HALF_OPEN = 256,            /* of one listener: as many answers are kept, and sent again until a peer answers */
  HALF_OPEN_OF_STACK = 1024,  /* of all: a few hundred kilobytes, whatever arrives */
  WAITING = ABI_MAX_BACKLOG,  /* of one listener: peers that have answered, for which its backlog has no room yet */
  ADMITTED_AT_ONCE = 64,
  PERIOD = 26,                /* bits of microseconds: 67 s. A cookie is valid in its own period and the next. */
  SIZES = 8,
  SCALE = 15,
  SACK = 16,
  COOKIE = 32,
  TIMESTAMP_BITS = 63,
};

uint32_t tw_tcp_cookies, tw_tcp_backlog_drops;
uint32_t tw_timestamp_back;
static bool some_wait; /* for room in a backlog */

/* Segment sizes that a cookie can express: a peer's is rounded down. Those of IPv4 and IPv6 over Ethernet and over usual
   tunnels, jumbo frames, and the largest; the first is for peers with less than the default of RFC 9293, section 3.7.1. */
static const uint16_t sizes[SIZES] = {48, 536, 1220, 1380, 1440, 1460, 8940, TCP_MSS};

static uint32_t cookie_period; /* when the latest was sent, counted from 1; 0 if none was */

static uint32_t period(void) { return (uint32_t)(tw_now >> PERIOD) + 1; }

/* 29 bits of a keyed hash of both ends, the peer's sequence number and the time, and room for the index of a size. */
static uint32_t cookie(uint16_t local_port, uint16_t remote_port, uint32_t sequence, uint32_t of_period) {
  struct {
    struct abi_endpoint local, remote;
    uint32_t sequence, period;
  } message = {.sequence = sequence, .period = of_period};
  tw_address_write(&message.local, ip_current_dest_addr(), local_port);
  tw_address_write(&message.remote, ip_current_src_addr(), remote_port);
  return (uint32_t)tw_random_keyed(&message, sizeof message) & ~(uint32_t)(SIZES - 1);
}

static bool cookie_is_valid(uint16_t local_port, uint16_t remote_port, uint32_t sequence, uint32_t value) {
  bool valid = false;
  for (uint32_t of_period = period(); !valid && of_period + 1 >= period() && cookie_period != 0; of_period--) {
    valid =
        of_period <= cookie_period && (value & ~(uint32_t)(SIZES - 1)) == cookie(local_port, remote_port, sequence, of_period);
  }
  return valid;
}

static bool is_full(void) {
  uint32_t half_open = 0;
  for (const struct tcp_pcb_listen *pcb = tcp_listen_pcbs.listen_pcbs; pcb != NULL; pcb = pcb->next) {
    half_open += pcb->half_open;
  }
  return half_open >= HALF_OPEN_OF_STACK;
}

/* LWIP_HOOK_TCP_LISTEN: a SYN, or an acknowledgement that belongs to no connection. */
uint8_t tw_tcp_listen_decide(const struct tcp_pcb_listen *pcb, bool acknowledges, bool syn, uint32_t sequence,
                             uint32_t acknowledgement, uint16_t remote_port) {
  bool full = pcb->accepts_pending >= pcb->backlog;
  if (acknowledges) {
    if (syn || !cookie_is_valid(pcb->local_port, remote_port, sequence - 1, acknowledgement - 1)) {
      return TCP_ADMISSION_RESET;
    }
    full = full && pcb->waiting >= WAITING;
  } else if (!syn) {
    return TCP_ADMISSION_NONE;
  }
  if (full) {
    tw_tcp_backlog_drops++; /* the peer sends it again */
    return TCP_ADMISSION_NONE;
  }
  return acknowledges                               ? TCP_ADMISSION_ADMIT
         : pcb->half_open >= HALF_OPEN || is_full() ? TCP_ADMISSION_COOKIE
                                                    : TCP_ADMISSION_KEEP;
}

static void begin_at(struct tcp_pcb *pcb, uint32_t sequence) {
  pcb->snd_wl2 = pcb->snd_nxt = pcb->lastack = pcb->snd_lbb = sequence;
}

/* The timestamp carries what the sequence number has no room for: the peer returns it. Without timestamps, nothing that is
   not known later may be agreed. */
static void make(struct tcp_pcb *pcb) {
  uint32_t size = SIZES - 1;
  while (size > 0 && sizes[size] > pcb->mss) {
    size--;
  }
  cookie_period = period();
  tw_tcp_cookies++;
  begin_at(pcb, cookie(pcb->local_port, pcb->remote_port, pcb->rcv_nxt - 1, cookie_period) | size);
  if ((pcb->flags & TF_TIMESTAMP) == 0) {
    tcp_clear_flags(pcb, TF_WND_SCALE | TF_SACK);
    pcb->rcv_scale = 0;
    return;
  }
  uint32_t time = sys_now(),
           options = COOKIE | (pcb->flags & TF_SACK ? SACK : 0) | (pcb->flags & TF_WND_SCALE ? pcb->snd_scale : SCALE);
  tw_timestamp_back = (time - options) & TIMESTAMP_BITS;
}

/* LWIP_HOOK_TCP_COOKIE. An acknowledged cookie makes the connection what it would be if the SYN and the answer to it had been
   kept. */
void tw_tcp_listen_cookie(struct tcp_pcb *pcb, bool makes, uint32_t acknowledgement, uint32_t echo) {
  if (makes) {
    make(pcb);
    return;
  }
  begin_at(pcb, acknowledgement - 1);
  pcb->snd_nxt = pcb->snd_lbb = acknowledgement;
  pcb->mss = sizes[(acknowledgement - 1) % SIZES];
  pcb->rcv_nxt--; /* lwIP takes it for a SYN, which has a number */
  pcb->snd_wl1--;
  if (echo != 0) {
    tcp_set_flags(pcb, TF_TIMESTAMP | (echo & SACK ? TF_SACK : 0));
    pcb->ts_lastacksent = pcb->rcv_nxt;
    if ((echo & SCALE) != SCALE) {
      tcp_set_flags(pcb, TF_WND_SCALE);
      pcb->snd_scale = echo & SCALE;
      pcb->rcv_scale = TCP_RCV_SCALE;
      pcb->rcv_wnd = pcb->rcv_ann_wnd = TCP_WND;
    }
  }
  pcb->rcv_ann_right_edge = pcb->rcv_nxt + TCPWND_MIN16(pcb->rcv_ann_wnd);
}

/* LWIP_HOOK_TCP_COOKIE_SENT */
void tw_tcp_listen_cookie_sent(void) { tw_timestamp_back = 0; }

/* LWIP_HOOK_TCP_WAITS */
void tw_tcp_listen_wait(void) { some_wait = true; }

bool tw_tcp_admission_waits(void) { return some_wait; }

/* Hands those that wait longest to the host, while there is room for them; true if the event buffer has none. */
static bool admit(struct tcp_pcb_listen *listener) {
  struct tcp_pcb *oldest[ADMITTED_AT_ONCE];
  uint32_t count = 0;
  for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) { /* the newest comes first */
    if (pcb->listener == listener && (pcb->flags & TF_WAITS) != 0) {
      oldest[count++ % ADMITTED_AT_ONCE] = pcb;
    }
  }
  for (uint32_t left = LWIP_MIN(count, ADMITTED_AT_ONCE); left > 0 && listener->accepts_pending < listener->backlog; left--) {
    if (!tw_events_have_room()) {
      return true;
    }
    tcp_listen_admit(oldest[--count % ADMITTED_AT_ONCE]);
  }
  return false;
}

bool tw_tcp_admit(void) {
  if (!some_wait) {
    return false;
  }
  bool more = some_wait = false;
  for (struct tcp_pcb_listen *pcb = tcp_listen_pcbs.listen_pcbs; pcb != NULL; pcb = pcb->next) {
    for (uint32_t before = 0; !more && pcb->waiting != before && pcb->accepts_pending < pcb->backlog;) {
      before = pcb->waiting;
      more = admit(pcb);
    }
    some_wait |= pcb->waiting > 0;
  }
  return more;
}

void tw_tcp_listen_close(struct tcp_pcb *listening) {
  struct tcp_pcb_listen *listener = (struct tcp_pcb_listen *)listening;
  for (struct tcp_pcb *pcb = tcp_active_pcbs, *next; pcb != NULL && listener->waiting > 0; pcb = next) {
    next = pcb->next;
    if (pcb->listener == listener && (pcb->flags & TF_WAITS) != 0) {
      tcp_abort(pcb);
    }
  }
  tcp_close(listening);
}
