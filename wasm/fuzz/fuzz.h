/* Declarations shared by the files of the fuzzer. A run has many epochs; an epoch is a process of its own, so that it can be
   replayed alone: one stack, its peers on every interface and the programs that use it. An epoch is a sequence of steps, and
   each step draws its choices from its own number, so that steps can be left out when a failure is reduced.

   main.c      epochs, replay, reduction           world.c     the stack: clock, polls, events, frames in and out
   style.c     what an epoch does often or never   links.c     interfaces, bridges and their addresses
   changes.c   changes to interfaces and routes
   random.c    choices, and the bytes of streams   packets.c   IP packets around a payload: headers, fragments, damage
   memory.c    allocations that fail               oracle.c    what every frame of the stack must satisfy
   peers.c     TCP peers                           segments.c  one segment of a peer, right or wrong
   moves.c     the next action of a peer           programs.c  the programs that use TCP
   streams.c   one connection of a program         datagrams.c UDP sockets, groups, ping sessions
   sequences.c the stack's initial sequence numbers
   neighbours.c ARP, ND, router advertisements     leases.c    DHCP servers, right and wrong
   messages.c  ICMP: errors, echoes, groups        finish.c    the end of an epoch: nothing may be leaked */
#ifndef FUZZ_H
#define FUZZ_H

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/module.h"
#include "link/interface.h"
#include "lwip/ip_addr.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Each argument is evaluated once: most of them draw a choice, or call the stack. */
#define SMALLER(one, other)                                          \
  ({                                                                 \
    __typeof__(one) one_ = (one), other_ = (__typeof__(one))(other); \
    one_ < other_ ? one_ : other_;                                   \
  })
#define LARGER(one, other)                                           \
  ({                                                                 \
    __typeof__(one) one_ = (one), other_ = (__typeof__(one))(other); \
    one_ > other_ ? one_ : other_;                                   \
  })
#define COUNT(array) (sizeof(array) / sizeof *(array))
#define CHECK(condition, ...) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition, __VA_ARGS__))
_Noreturn void fail(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

enum { MILLISECOND = 1000, SECOND = 1000000, TCP_PROTOCOL = 6, UDP_PROTOCOL = 17, ICMP_PROTOCOL = 1, ICMP6_PROTOCOL = 58 };

/* --- Choices (random.c) ----------------------------------------------------------------------------------------- */

void choices_restart(uint64_t seed, uint64_t step);
uint32_t any(void);                 /* any 32 bits */
uint32_t below(uint32_t bound);     /* 0 to bound - 1; 0 of 0 */
bool percent(uint32_t share);
uint32_t size_up_to(uint32_t most); /* small ones and edges more often */
uint32_t one_of(const uint32_t *values, uint32_t count);
#define ONE_OF(...) one_of((const uint32_t[]){__VA_ARGS__}, COUNT(((const uint32_t[]){__VA_ARGS__})))

/* The byte of a stream depends on its position and the stream's key, so that moved, repeated and lost bytes are detected. */
enum { FILLER_PERIOD = 1 << 18 };
void filler_start(void);
void filler_put(uint8_t *bytes, uint32_t length, uint32_t key, uint32_t position);
bool filler_is(const uint8_t *bytes, uint32_t length, uint32_t key, uint32_t position);
uint32_t filler_key(uint32_t from_port, uint32_t to_port);

/* --- Allocations (memory.c) ------------------------------------------------------------------------------------- */

extern int64_t allocations_left;  /* before they fail; -1 for never */
extern bool allocations_fail_once;
extern uint64_t allocations_made;
extern uint32_t memory_limit;     /* bytes of the stack's heap, or 0 */

/* --- Style (style.c) -------------------------------------------------------------------------------------------- */

/* Shares in percent, drawn anew for each epoch: rare events in every epoch would reach few states. */
struct style {
  uint32_t wrong, wrong_answers, silent, extended, fragmented, damaged, failing, stalled, late_reads, timestamps, tiny_mss,
      tiny_window, jumps, at_once, six, big_mtu, churn;
  uint32_t weights[16]; /* of the steps, in the order of main.c */
};
extern struct style style;
void style_choose(void);

/* --- The stack (world.c) ---------------------------------------------------------------------------------------- */

struct totals {
  uint64_t frames_in, frames_out, bytes_delivered, bytes_taken, accepted, connected, closed, resets, polls, steps, epochs,
      datagrams, failed_allocations;
};
extern struct totals *totals; /* shared with the process that began the epoch */
extern bool verbose;
extern int64_t clock_now; /* microseconds */

void world_start(uint64_t seed);
double world_time(void);
double world_time_or_none(void);
void world_pass(int64_t duration);
void world_poll(void);     /* until nothing is left to do at this time */
int64_t world_deadline(void); /* or -1 */
void world_advance(int64_t duration, uint32_t most_polls); /* from deadline to deadline */
void world_collect(void);  /* takes the frames of all interfaces that are not stalled */

/* --- Interfaces (links.c) --------------------------------------------------------------------------------------- */

enum { MAX_LINKS = 12, PEERS = 6 };

struct link {
  int32_t handle; /* 0: no interface */
  int32_t kind;
  uint32_t mtu, number; /* number: of its networks, 10.number.0.0/24 and fd00:number::/64 */
  bool checksums, has4, has6, leased, automatic;
  int32_t bridge; /* index of the bridge whose port it is, or -1 */
  uint32_t stalled; /* steps in which its frames are not fetched */
  uint8_t mac[6], own4[4], own6[16], local6[16];
};
extern struct link links[MAX_LINKS];

struct interface *link_interface(const struct link *link);
bool link_is_ethernet(const struct link *link);
struct link *link_any(void); /* one that carries IP packets of its own, or NULL */
struct link *link_that(bool (*fits)(const struct link *));
struct link *link_of(int32_t handle);
void link_add(int32_t kind); /* with addresses, and ports if it is a bridge */
void link_put(struct link *link, uint32_t peer, const uint8_t *frame, uint32_t length); /* into a receive buffer */
void peer_address(const struct link *link, uint32_t peer, bool six, uint8_t *address);
void peer_mac(const struct link *link, uint32_t peer, uint8_t *mac);
void links_start(void);
void links_step(void);
void routes_step(void);
void link_remove(struct link *link);

/* --- Packets (packets.c) ---------------------------------------------------------------------------------------- */

uint32_t get16(const uint8_t *bytes);
uint32_t get32(const uint8_t *bytes);
void put16(uint8_t *bytes, uint32_t value);
void put32(uint8_t *bytes, uint32_t value);
uint32_t checksum_add(const uint8_t *bytes, uint32_t length, uint32_t sum);
uint16_t checksum_fold(uint32_t sum);
uint16_t transport_checksum(bool six, const uint8_t *from, const uint8_t *to, uint8_t protocol, const uint8_t *payload,
                            uint32_t length);

struct route_to { /* at which interface a packet of a peer arrives, and its addresses */
  struct link *link;
  uint32_t peer;
  bool six, exact; /* exact: without damage, in every style */
  uint8_t from[16], to[16];
  uint8_t hop_limit;
};
/* Sets the checksum of the payload, and sends it with the headers and fragments that the style chooses. Returns true if it was
   damaged. */
bool packet_send(const struct route_to *route, uint8_t protocol, uint8_t *payload, uint32_t length);
void ethernet_send(struct link *link, uint32_t peer, const uint8_t *to, uint32_t type, const uint8_t *bytes, uint32_t length);

/* --- Output of the stack (oracle.c) ----------------------------------------------------------------------------- */

struct sent_packet { /* a packet that the stack has sent, and not forwarded */
  struct link *link;
  bool six;
  uint8_t protocol;
  const uint8_t *from, *to, *payload, *packet;
  uint32_t length, packet_length;
};
void frame_receive(struct link *link, const uint8_t *frame, uint32_t length);

/* --- TCP peers (peers.c, sequences.c, segments.c, moves.c) -------------------------------------------------------- */

enum flow_state { FLOW_FREE, FLOW_NEW, FLOW_SYN_SENT, FLOW_SYN_RECEIVED, FLOW_OPEN, FLOW_CLOSED };
enum { MAX_FLOWS = 48, MAX_FINS = 12, MAX_CALLS = 8 };
enum { FIN_BIT = 1, SYN_BIT = 2, RST_BIT = 4, PSH_BIT = 8, ACK_BIT = 16, URG_BIT = 32 };

struct stream; /* of a program */

struct span {
  uint32_t start, end;
};

struct flow {
  enum flow_state state;
  struct link *link;
  int32_t link_handle;
  uint32_t peer;
  bool six, tainted, active; /* active: the stack connects */
  uint8_t from[16], to[16];  /* the peer's, the stack's */
  uint16_t port, stack_port;
  /* options of the peer's SYN */
  uint32_t mss; /* 0: nothing */
  int32_t scale;
  bool timestamps, sack;
  uint32_t stamp, stack_stamp;
  /* the peer's stream */
  uint32_t start, next, sent_end;
  bool finished;
  uint32_t fins[MAX_FINS], fin_count;
  uint32_t calls[MAX_CALLS], call_count;          /* sequence numbers of its latest SYNs */
  struct span formers[MAX_CALLS];                 /* its earlier streams on the same ports */
  uint32_t former_count;
  bool calling, answered; /* no answer to the latest SYN was seen; one to a SYN of this stream was */
  bool early;             /* its program was given the connection before the answer was seen */
  /* the stack's stream */
  bool stack_known;
  uint32_t former_end; /* where a former connection of the same ports ends in the stack's stream, if `repeated` */
  uint32_t former_written; /* `written` of the one before `stream` */
  bool repeated;
  uint32_t stack_start, stack_end, latest_ack, stack_edge, window, stack_scale, stack_mss;
  uint32_t edge, syn_window, widest; /* the highest acknowledgement of the peer; the window of its SYN, and its widest */
  uint32_t irs; /* the peer's initial sequence number, as the stack acknowledged it */
  uint32_t written;
  bool may_finish, stack_scaled, stack_finished, reset_seen;
  struct stream *stream;
  uint8_t last[64]; /* the latest packet of the stack, for messages that quote it */
  uint32_t last_length;
};
extern struct flow flows[MAX_FLOWS];

struct flow *flow_new(struct link *link, bool six, bool active);
struct flow *flow_find(bool six, const uint8_t *from, uint32_t port, const uint8_t *to, uint32_t stack_port);
struct flow *flow_any(void);
void flows_forget(const struct link *link);
void flow_receive(const struct sent_packet *sent);
bool sequence_is_superseded(const struct flow *flow, uint32_t sequence); /* of the stack: by another of the same ports */
uint32_t flow_window(struct flow *flow); /* changes it, at random */
void segment_send(struct flow *flow, uint32_t flags, uint32_t sequence, uint32_t acknowledgement, uint32_t length);
void peers_step(void);
void flow_move(struct flow *flow);

/* --- Programs (programs.c, streams.c, datagrams.c) ---------------------------------------------------------------- */

enum { MAX_STREAMS = 64, MAX_LISTENERS = 8 };

struct stream {
  int32_t handle; /* 0: free */
  struct flow *flow; /* NULL: the other end is a program of this stack, too */
  bool connected, shut, ended, eof, matched, six; /* matched: its flow is known, so that its bytes can be checked */
  uint8_t remote[16];
  uint16_t remote_port, local_port;
  uint32_t written, delivered, unread, in_key, out_key;
  uint32_t bases[MAX_CALLS + 1], base_count; /* where its bytes may begin in the peer's: which SYN it is of may not be known */
};
extern struct stream streams[MAX_STREAMS];
struct listening {
  int32_t handle, family;
  uint16_t port;
};
extern struct listening listeners[MAX_LISTENERS];

void programs_start(void);
void programs_step(void); /* writes, reads, ends */
void openings_step(void); /* listeners and connects */
void stream_act(struct stream *stream);
void stream_event(uint32_t kind, int32_t handle, int32_t value, const uint8_t *payload, uint32_t length);
void stream_bind(struct stream *stream, struct flow *flow);
void flow_unbind(struct flow *flow);
struct listening *listener_any(void);
void programs_end(bool abruptly);

void datagrams_step(void);
void datagram_event(uint32_t kind, int32_t handle, int32_t value, const uint8_t *payload, uint32_t length);
void datagram_receive(const struct sent_packet *sent);
void datagrams_end(void);

/* --- Other nodes on the links ------------------------------------------------------------------------------------- */

void neighbours_step(void);
void arp_receive(struct link *link, const uint8_t *packet, uint32_t length);
void solicitation_receive(const struct sent_packet *sent);
void router_step(void);
void dhcp_receive(const struct sent_packet *sent);
void messages_step(void);
void message_receive(const struct sent_packet *sent);
void quote_later(const struct sent_packet *sent); /* an error may be about this packet */

void epoch_begin(uint64_t seed);
void epoch_finish(void);

#endif
