/* Shared by the native tests. A test program contains one stack, as a module instance does: support.c drives it through the
   calls that an embedder makes and a clock of its own, support_packets.c builds and parses the packets on its interfaces, and
   support_peer.c is the remote end of a TCP connection, which sends only what a test asks for. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/module.h"
#include "lwip/ip_addr.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))
#define CHECK_EQUAL(actual, expected) check_equal(__FILE__, __LINE__, #actual, (int64_t)(actual), (int64_t)(expected))
_Noreturn void check_failed(const char *file, int line, const char *what);
void check_equal(const char *file, int line, const char *what, int64_t actual, int64_t expected);

#define RUN(test) test_run(#test, test)
void test_run(const char *name, void (*test)(void)); /* and checks that the test has left no state in the stack */

enum { SECOND = 1000000, MILLISECOND = 1000 };

/* --- The embedder's side (support.c) ---------------------------------------------------------------------------- */

struct event {
  uint32_t kind;
  int32_t handle, value;
  uint32_t length;
  const uint8_t *payload;
};

struct frame {
  uint32_t length;
  const uint8_t *bytes;
};

void host_start(void);
void host_poll(void);               /* until nothing is left to do at this time; events and frames are kept */
void host_poll_once(int64_t duration);   /* one poll, after that time */
int64_t host_deadline(void);        /* what the latest poll returned */
void host_advance(int64_t duration); /* moves the clock to each deadline on the way, and polls there */
void host_jump(int64_t duration);    /* moves the clock in one step, as after a suspended process, and polls */
void host_pass(int64_t duration);    /* moves the clock without a poll */
/* A time in the form that calls take: truncated to microseconds, it is the same number again. */
double host_seconds(int64_t microseconds);
double host_clock(void);                   /* the clock, for calls that may send at once */
double host_clock_or_none(void);           /* the clock or 0, at random */
void host_reserve_handles(int32_t count); /* the table of handles never shrinks: its growth is not a leak */
void host_expect_clean(void);

/* Fetches what the latest call has sent at once, as an embedder does; returns the interface that it named, or 0. */
int32_t host_take_sent(void);

/* Frames that are not fetched stay in the transmit buffer, as with a slow embedder. */
void host_fetch_frames(bool fetch);

struct event event_next(void); /* the oldest that no test has taken; kind 0 if there is none */
struct event event_expect(uint32_t kind, int32_t handle);
void event_expect_none(void);
uint32_t event_expect_data(int32_t handle, void *bytes, uint32_t capacity); /* all DATA events in a row, joined */
struct frame frame_next(void); /* of any interface; length 0 if there is none */
void frames_forget(void);

int32_t interface_open(int32_t kind, int32_t mtu);
void interface_receive(int32_t interface, const void *frame, uint32_t length); /* queued until the next poll */
uint32_t *interface_words(int32_t interface);
int32_t interface_set_ipv4(int32_t interface, const uint8_t address[4], int32_t prefix);
int32_t interface_set_ipv6(int32_t interface, const uint8_t address[16]);

int32_t tcp_open(int32_t family, const uint8_t *remote, int32_t port);
int32_t tcp_listener(int32_t family, const uint8_t *address, int32_t port, int32_t backlog);
int32_t tcp_put(int32_t handle, const void *bytes, int32_t length); /* sends nothing before the next poll */
int32_t tcp_put_at(double time, int32_t handle, const void *bytes, int32_t length);

uint32_t random_next(void); /* reproducible, and independent of the stack's */
void random_restart(uint32_t seed);
void pattern_fill(uint8_t *bytes, uint32_t length, uint32_t offset); /* each part of the stream is recognisable */
void pattern_check(const uint8_t *bytes, uint32_t length, uint32_t offset);

/* How many allocations still succeed; negative for all. Then one fails, or all that follow do. */
extern int64_t allocations_left;
extern bool allocations_fail_once;

/* Checks of lwIP's that tests have made fail; any other is an error. */
extern uint32_t failures_expected;

/* --- Packets (support_packets.c) -------------------------------------------------------------------------------- */

enum { PACKET_CAPACITY = 66000 };
enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, PROTOCOL_ICMPV6 = 58 };
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, ECE = 64, CWR = 128 };

extern const uint8_t HOST4[4], PEER4[4], LOCAL4[4], HOST6[16], PEER6[16], LOCAL6[16];
extern const uint8_t HOST_MAC[6], PEER_MAC[6];

struct packet {
  uint32_t length;
  uint8_t bytes[PACKET_CAPACITY];
};

uint16_t reference_checksum(const uint8_t *bytes, uint32_t length, uint32_t start); /* as plain as possible */
void put16(uint8_t *bytes, uint32_t value);
void put32(uint8_t *bytes, uint32_t value);
uint32_t get16(const uint8_t *bytes);
uint32_t get32(const uint8_t *bytes);

/* Each builds a packet around a payload, whose checksum, if its protocol has one, is set here. */
void packet_ip(struct packet *packet, int32_t family, const uint8_t *from, const uint8_t *to, uint8_t protocol,
               const void *payload, uint32_t length);
/* IPv6 with one extension header of eight bytes of padding before the payload. */
void packet_ip_extended(struct packet *packet, const uint8_t *from, const uint8_t *to, uint8_t extension, uint8_t protocol,
                        const void *payload, uint32_t length);
void packet_arp(struct packet *packet, uint16_t operation, const uint8_t *mac, const uint8_t *from, const uint8_t *to);
void packet_ethernet(struct packet *packet, const uint8_t *to, uint16_t type); /* prepends the header */
void packet_icmp_echo(struct packet *packet, int32_t family, const void *data, uint32_t length);
void packet_neighbour_solicitation(struct packet *packet, const uint8_t *target, const uint8_t *mac);

struct segment {
  int32_t family;
  const uint8_t *from, *to;
  uint16_t from_port, to_port, window, urgent;
  uint32_t sequence, acknowledgement, flags;
  const uint8_t *options, *data;
  uint32_t options_length, length;
  uint8_t congestion; /* the bits of the IP header, RFC 3168; and TCP's flags ECE and CWR, which are not among `flags` */
};

void packet_tcp(struct packet *packet, const struct segment *segment);
bool segment_parse(struct segment *segment, const uint8_t *packet, uint32_t length); /* false: not TCP; verifies checksums */

/* --- The remote end of a connection (support_peer.c) ------------------------------------------------------------ */

struct peer {
  int32_t family, interface, handle;
  const uint8_t *from, *to;
  uint16_t from_port, to_port, window;
  uint32_t sequence, acknowledgement, start; /* start: the initial sequence number of the stack */
  uint8_t options[40];
  uint32_t options_length; /* of its SYN, and of peer_send_options */
  int64_t round_trip;      /* us between the SYN/ACK and its acknowledgement by peer_open */
};

struct peer peer_new(int32_t interface, int32_t family, uint16_t port);
void peer_option(struct peer *peer, const void *option, uint32_t length);
void peer_send(struct peer *peer, uint32_t flags, const void *data, uint32_t length); /* advances its sequence number */
void peer_send_at(const struct peer *peer, uint32_t flags, int32_t offset, const void *data, uint32_t length);
void peer_send_options(const struct peer *peer, uint32_t flags); /* no data, but its options */
void peer_send_stamped(struct peer *peer, uint32_t flags, const void *data, uint32_t length); /* data and its options */
const uint8_t *segment_option(const struct segment *segment, uint8_t kind); /* its first byte, or NULL */
struct segment peer_expect(struct peer *peer, uint32_t flags); /* the next segment; records what it acknowledges and carries */
struct segment peer_peek(const struct peer *peer); /* the next segment, flags 0 if there is none */
void peer_expect_silence(const struct peer *peer);
void peer_open(struct peer *peer, int32_t listener); /* connects to the stack */
void peer_answer(struct peer *peer); /* completes a connect of the stack, begun by tcp_open */
void peer_finish(struct peer *peer); /* both send FIN; the handle is already closed */

/* --- Datagrams (support_datagrams.c) ---------------------------------------------------------------------------- */

struct datagram {
  int32_t family;
  const uint8_t *from, *to;
  uint16_t from_port, to_port;
  const uint8_t *data;
  uint32_t length;
};

void endpoint_put(int32_t family, const uint8_t *address, uint16_t port); /* into scratch */
int32_t udp_socket_open(int32_t family, const uint8_t *address, int32_t port);
int32_t udp_put(int32_t handle, int32_t family, const uint8_t *to, uint16_t port, const void *bytes, int32_t length);
void packet_udp(struct packet *packet, const struct datagram *datagram);
bool datagram_parse(struct datagram *datagram, const uint8_t *packet, uint32_t length); /* false: not UDP; verifies checksums */
struct datagram datagram_expect(int32_t handle); /* the next event: checks both endpoints' families */

/* Splits a packet into fragments of `size` bytes; `part` counts from 0. False after the last. */
bool packet_fragment(struct packet *fragment, const struct packet *whole, uint32_t size, uint32_t part,
                     uint16_t identification);
/* ICMP or ICMPv6 about a packet, of which `quoted` bytes are quoted, from `from`. */
void packet_icmp_error(struct packet *packet, const uint8_t *from, uint8_t type, uint8_t code, const uint8_t *about,
                       uint32_t quoted);

#endif
