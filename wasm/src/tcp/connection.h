/* One TCP connection as the host knows it, for the files that work on it. It lives until both the host has closed its
   handle and lwIP has freed its control block, in whichever order. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include "abi/module.h"
#include "lwip/priv/tcp_priv.h"

#include <stdbool.h>
#include <stdint.h>

enum {
  CONNECTION_ESTABLISHED = 1, /* a reset is "refused" before, "reset" after */
  CONNECTION_PENDING = 2,     /* in the list of those for which a poll is needed */
  CONNECTION_REPORT = 4,      /* in the list of those with something to report */
  CONNECTION_WANTS_ROOM = 8,  /* the host waits for WRITABLE */
  CONNECTION_ENDED = 16,      /* the host is to receive CLOSED, with `error` */
  CONNECTION_ABORTED = 32,    /* by the host: its reset waits for room in a transmit buffer */
  CONNECTION_UNREAD = 64,     /* closed with unread data: a reset follows what was written, in the place of a FIN */
  CONNECTION_EARLY = 128,     /* data in sequence waits for room in the event buffer (tcp_early.c) */
};

/* Microseconds of a round trip from which on the path is taken for a network, through which buffers grow. */
enum { CONNECTION_LONG_WAIT = 2000 };

/* Microseconds after which a connection that found the heap full may try again: room in the queue says nothing then, and
   what else has to become free for it is not known. A try that takes nothing doubles them, so many times. */
enum { CONNECTION_MEMORY_WAIT = 20000, CONNECTION_MEMORY_DOUBLINGS = 5 };

/* What the embedder is asked for when a send buffer has room again; over a network it may be less. Buffers begin with two of
   these, one under way and one being acknowledged: a cable in the process needs no more, and it stays in the processor's cache. */
enum { CONNECTION_SEND_BATCH = 131072, CONNECTION_QUEUE = 4096 };

/* For how many steps of tcp_ticks a closed connection waits for a peer that answers and makes no progress: five minutes. */
enum { CONNECTION_ORPHAN_TICKS = 300000 / TCP_SLOW_INTERVAL };

/* Bytes of a transmit buffer that a reset takes at most, with all headers. */
enum { CONNECTION_RESET_ROOM = 128 };

struct flight;

struct connection {
  struct tcp_pcb *pcb; /* NULL once lwIP has freed it */
  int32_t handle;      /* 0 once the host has closed it */
  int32_t error;
  struct flight *flight;     /* NULL while nothing is under way */
  uint32_t round_trip, variation; /* us, smoothed, in eighths and quarters (RFC 6298); 0: nothing was measured */
  uint32_t least_round_trip; /* us */
  uint32_t w_max;            /* bytes: the window before the latest reduction, RFC 9438 */
  uint32_t reordering_round; /* the sequence number at which the next duplicate counts for `reordering` */
  uint32_t reordering;       /* in quarters of a round trip; 0: none was seen, RFC 8985 */
  uint32_t undone;           /* reductions that were needless */
  uint32_t idle_since;       /* tcp_ticks: when all was acknowledged */
  uint32_t resent, needless; /* segments: sent again, and of those what the peer had already (RFC 2883) */
  bool reno;
  uint32_t unread; /* bytes handed to the host that it has not reported as read */
  uint32_t flags;
  uint32_t send_limit; /* bytes that may wait for their acknowledgement */
  uint32_t withheld;   /* bytes of receive window that are not offered yet */
  uint32_t window_edge;   /* the sequence number at which the window is measured next */
  uint64_t window_opened; /* us: when it was measured last */
  uint64_t stalled;    /* us: from when on the host, which had to wait, may be notified of room */
  uint32_t user_timeout; /* ms without an acknowledgement of what is under way, RFC 5482; 0: as long as TCP tries */
  uint32_t acknowledged; /* the sequence number up to which all was acknowledged at the latest look */
  uint32_t progressed;   /* tcp_ticks: when that changed; without a handle, see orphan_gives_up */
  uint64_t progress;     /* us: the same, or when nothing was under way, for the user's time-out (RFC 5482) */
  uint32_t refusals;     /* writes in a row of which the full heap took nothing */
  uint16_t path_mss;     /* to which the next flush cuts what waits, because the path has become narrower; 0: nothing */
  uint16_t narrowings;   /* how often it has */
  uint16_t part_mss;     /* of a part of a segment that was sent after the whole, or is to be, or 0 */
  uint32_t part_end;     /* the sequence number behind it; before it is sent, of what is not acknowledged */
  uint16_t whole_mss;    /* before larger segments seemed to vanish without a word, or 0 */
  uint32_t suspected;    /* tcp_ticks: when they did */
  struct connection *next_pending, *next_report;
};

struct listener {
  struct tcp_pcb *pcb;
  int32_t handle;
};

struct connection *tw_connection_new(struct tcp_pcb *pcb); /* or NULL */
struct connection *tw_connection_of(const struct tcp_pcb *pcb); /* or NULL: before accept; not for listeners */
void tw_connection_freed(struct connection *connection); /* its control block is being */
void tw_connection_release(struct connection *connection);
void tw_connection_orphan(struct connection *connection);
int8_t tw_connection_finish(struct tcp_pcb *pcb); /* sends FIN after what was written; an err_t */
void tw_connection_abort(struct connection *connection); /* which is not used any more; a flush may have to do it */

void tw_connection_touch(struct connection *connection); /* before anything that may start a timer of it */

void tw_connection_established(struct connection *connection); /* offers the first window, and withholds the rest */
void tw_connection_measure_window(struct connection *connection); /* after rcv_nxt has moved */

/* Buffers that may wait for their acknowledgement: a segment that refers to what was written has two. A full send buffer fits at an
   MSS of 536, and with smaller segments the queue holds no more memory than with large ones: Linux charges each segment its
   true size. */
static inline uint32_t tw_connection_queue_limit(const struct connection *connection) {
  return LWIP_MIN(LWIP_MAX(connection->send_limit / 256, CONNECTION_QUEUE), TCP_SND_QUEUELEN);
}

/* Microseconds until the user's time-out, at least 1; 0 where none runs. Notes what was acknowledged. */
uint64_t tw_connection_time_left(struct connection *connection);
uint32_t tw_tcp_connections(void);

#endif
