/* What a connection has under way: which segments, when each was sent, and what became of it. There is one only while
   something is under way, so that an idle connection needs no memory for it. */
#ifndef TCP_FLIGHT_H
#define TCP_FLIGHT_H

#include "port/deadlines.h"
#include "tcp/connection.h"

#include <stdbool.h>
#include <stdint.h>

/* tcp_seg.marks */
enum {
  SEGMENT_IN_FLIGHT = 1, /* in `sent` */
  SEGMENT_SACKED = 2,    /* the peer has reported that it holds it, RFC 2018 */
  SEGMENT_SENT = 4,
  SEGMENT_AGAIN = 8,     /* sent more than once: its round trip cannot be measured (P. Karn's rule, RFC 6298, section 3) */
};

enum { ECN_AGREED = 2 }; /* tcp_pcb.ecn, beside flags of TCP (tcp_ecn.c) */

enum sender_state {
  SENDER_OPEN,
  SENDER_RECOVERY, /* RFC 6675, section 5 */
  SENDER_LOSS,     /* after a time-out, until all that was under way then is acknowledged */
};

enum probe { PROBE_NONE, PROBE_NEW, PROBE_AGAIN }; /* RFC 8985, section 7.3: new data, or what was sent before */

enum undo { UNDO_NOTHING, UNDO_PREPARED, UNDO_SENT_AGAIN }; /* a reduction can be taken back; and something was sent again */

/* What one acknowledgement says, gathered segment by segment. */
struct acknowledgement {
  uint32_t delivered;  /* bytes that are acknowledged or SACKed for the first time */
  uint32_t round_trip; /* us, of the latest of those that were sent once; 0: none */
  bool needless;       /* something was sent again for nothing */
  bool original;       /* after a time-out, something that was not sent again */
};

/* From here on a walk looks for what a block with that left edge, or a later one, says anew. */
struct sack_cursor {
  uint32_t left, begin; /* sequence numbers; all between them is SACKed */
  struct tcp_seg *segment; /* at `begin`; freed once that is acknowledged */
};

struct flight {
  struct deadline timer; /* of tcp_rack.c; first, so that its address is the flight's */
  struct connection *connection;
  struct tcp_pcb *pcb;
  struct acknowledgement news;
  uint32_t in_flight;       /* bytes of `sent`, RFC 6675's pipe */
  uint32_t sacked_segments; /* without SACK, each stands for a duplicate (RFC 5681, section 3.2) */
  struct tcp_seg *highest;  /* the last in sequence that is SACKed, or NULL */
  enum sender_state state;
  uint32_t recovery_point; /* the end of what was under way when the losses began */
  uint32_t limited_to;     /* the sequence number up to which the congestion window has held data back */
  uint32_t prr_window, prr_out, prr_delivered; /* proportional rate reduction, RFC 9937 */

  /* RACK and TLP, RFC 8985 (tcp_rack.c). */
  uint32_t sends;                       /* numbers the segments as they are sent */
  uint32_t rack_order, rack_round_trip; /* of the latest sent that was delivered */
  uint32_t probe_end;
  uint64_t reorder_due, probe_base; /* us */
  enum probe probe;

  /* What a needless reduction takes back (tcp_undo.c), together with prr_window. */
  enum undo undo;
  uint32_t undo_threshold;
  uint32_t undo_from; /* where what was under way began */
  uint32_t again;     /* bytes sent again since then that are not known to have been needless */
  bool may_be_early;  /* nothing was known to be lost when the time-out came */
  uint32_t duplicates;

  /* Congestion control (tcp_congestion.c). */
  uint32_t round_end, round_least, before_least, css_least; /* HyStart++, RFC 9406; css_least 0: no CSS */
  uint32_t samples, css_rounds;
  uint64_t epoch; /* us; 0: none has begun. CUBIC, RFC 9438 */
  double k, w_est;

  uint32_t cursors; /* of the latest acknowledgement's blocks */
  struct sack_cursor cursor[4];

  /* Heads of circular lists. */
  struct tcp_seg sent; /* neither SACKed nor lost, in the order in which they were sent */
  struct tcp_seg lost; /* to be sent again */
};

static inline bool flight_has_losses(const struct flight *flight) { return flight->lost.sent_next != &flight->lost; }

struct flight *tw_flight_of(const struct tcp_pcb *pcb); /* or NULL */
struct flight *tw_flight_begin(struct connection *connection); /* NULL without memory */
void tw_flight_end(struct connection *connection);

/* Puts a segment at the end of one of the lists, or, where that is the segment itself, in none. */
void tw_flight_move(struct flight *flight, struct tcp_seg *segment, struct tcp_seg *list);

void tw_flight_mark(struct flight *flight, struct tcp_seg *segment); /* as SACKed */
void tw_flight_sack(struct flight *flight, const struct tcp_sack_range *blocks, uint32_t count);

#endif
