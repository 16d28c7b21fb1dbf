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
  SEGMENT_LISTED = 1, /* in one of a flight's lists */
  SEGMENT_SACKED = 2, /* the peer has reported that it holds it, RFC 2018 */
  SEGMENT_LOST = 4,   /* to be sent again: in `lost`, else in `sent` */
  SEGMENT_AGAIN = 8,  /* sent more than once: its round trip cannot be measured (P. Karn's rule, RFC 6298, section 3) */
};

enum sender_state {
  SENDER_OPEN,
  SENDER_RECOVERY, /* RFC 6675, section 5 */
  SENDER_LOSS,     /* after a time-out, until all that was under way then is acknowledged */
};

struct segment_list {
  struct tcp_seg *first, *last;
};

struct flight {
  struct deadline timer; /* of tcp_rack.c; first, so that its address is the flight's */
  struct connection *connection;
  struct segment_list sent; /* neither SACKed nor lost, in the order in which they were sent */
  struct segment_list lost; /* not sent again yet */
  uint32_t sacked;          /* bytes SACKed; without SACK, those that duplicates stand for (RFC 6582) */
  uint32_t lost_bytes;      /* bytes of `lost` */
  uint32_t sacked_segments;
  enum sender_state state;
  uint32_t recovery_point; /* the end of what was under way when the losses began */
  uint32_t prr_out, prr_delivered; /* proportional rate reduction, RFC 9937 */

  /* RACK and TLP, RFC 8985 (tcp_rack.c). */
  uint32_t rack_sent, rack_end, rack_round_trip; /* of the latest segment sent that was delivered; 0: none */
  uint32_t probe_end;
  uint64_t reorder_due, probe_base; /* us */
  bool probing, probe_again, probe_now;

  /* What a needless reduction takes back (tcp_undo.c). */
  bool undo_possible, sent_again;
  uint32_t again; /* bytes sent again since then that are not known to have been needless */

  bool limited;        /* the congestion window has held data back */
  uint32_t limited_to; /* the sequence number up to which that is so */

  struct tcp_seg *highest_segment; /* the last in sequence that is SACKed, or NULL: where a search begins */
  uint32_t highest; /* the end of the highest sequence that was delivered */
  uint32_t duplicates;
  uint32_t prr_window;
  uint32_t undo_window, undo_threshold;
  uint32_t undo_from; /* where what was under way began */

  /* Congestion control (tcp_congestion.c). */
  uint32_t round_end, round_least, before_least, css_least; /* HyStart++, RFC 9406 */
  uint8_t samples, css_rounds;
  bool css;
  uint64_t epoch; /* us; 0: none has begun. CUBIC, RFC 9438 */
  double k, w_est, w_before;
  struct tcp_sack_range known[4]; /* the blocks of the latest SACK: nothing is new in them */
};

/* What one acknowledgement says, gathered segment by segment. */
struct acknowledgement {
  uint32_t delivered;             /* bytes that are acknowledged or SACKed for the first time */
  uint32_t sent;                  /* us: when the latest of those that were sent once was */
  uint32_t again_sent, again_end; /* of the latest that was sent again */
  uint32_t again_bytes, again_first; /* acknowledged of those that were sent again, and when the first of them was */
  bool timed, again, reordered, duplicated;
};

extern struct acknowledgement tw_acknowledgement;

/* The end of what is under way: behind it is what was never sent, or what has to be sent anew. */
uint32_t tw_flight_limit(const struct tcp_pcb *pcb);

/* Bytes taken for being in the network, RFC 6675's pipe. */
uint32_t tw_flight_size(const struct tcp_pcb *pcb, const struct flight *flight);

/* Was the first sent later? Of one moment's segments, the later one in sequence. */
bool tw_sent_later(uint32_t sent, uint32_t end, uint32_t than_sent, uint32_t than_end);
void tw_rack_delivered(struct flight *flight, uint32_t sent, uint32_t end);

struct flight *tw_flight_of(const struct tcp_pcb *pcb); /* or NULL */
struct flight *tw_flight_begin(struct connection *connection); /* NULL without memory */
void tw_flight_end(struct connection *connection);
void tw_flight_lose(struct flight *flight, struct tcp_seg *segment);
void tw_flight_lose_all(struct tcp_pcb *pcb, struct flight *flight);
void tw_flight_restore(struct flight *flight); /* what is marked as lost is on its way after all */
void tw_flight_forget_sacks(struct tcp_pcb *pcb, struct flight *flight);
void tw_flight_sack(struct tcp_pcb *pcb, struct flight *flight, const struct tcp_sack_range *blocks, uint32_t count);

#endif
