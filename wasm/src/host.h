/* What the files of this module know of one another. One host is one instance: all state is static. */
#ifndef HOST_H
#define HOST_H

#include "abi.h"
#include "lwip/err.h"
#include "lwip/ip_addr.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip_hooks.h"

#include <stdbool.h>
#include <stdint.h>

/* What is asked for each segment: in place wherever that is, which the build's limit on inlining would forbid. */
#ifdef __wasm__
#define IN_PLACE __attribute__((always_inline))
#else
#define IN_PLACE
#endif

/* host.c: the control block and the areas that the host reads and writes between calls. */
extern uint32_t control[ABI_CONTROL_WORDS];
/* What a call reads from scratch, or writes there: see `scratch` and `scratch_result` in abi.toml. */
union scratch {
  uint8_t bytes[ABI_SCRATCH_CAPACITY];
  struct abi_endpoint endpoint;
  struct abi_ip_address ip_address;
  struct abi_mac_address mac_address;
  struct abi_connect_addresses connect;
  struct abi_route_addresses route;
  struct abi_information information;
};
extern union scratch scratch;
extern uint64_t now; /* microseconds, as of the latest call that carried the time */
int32_t error_from_lwip(err_t error);

/* heap.c: heap_allocate and its kin are declared in lwip_hooks.h */
uint32_t heap_used(void);

/* consistency.c: checks of lwIP's that have failed */
extern bool consistency_lost; /* some connection waits for its reset */
uint32_t consistency_failures(void);
void consistency_reset(void);

/* Called where lwIP works on no connection. */
IN_PLACE static inline void consistency_restore(void) {
  if (consistency_lost) {
    consistency_reset();
  }
}

/* handles.c: indices with a generation, so that what the host holds can be stale but never dangling. */
enum handle_kind { HANDLE_FREE, HANDLE_INTERFACE, HANDLE_LISTENER, HANDLE_CONNECTION, HANDLE_UDP, HANDLE_PING };
int32_t handle_open(enum handle_kind kind, void *object); /* or ABI_ERROR_NO_MEMORY */
void *handle_object(int32_t handle, enum handle_kind kind); /* or NULL */
void handle_close(int32_t handle);
uint32_t handle_count(void);

/* staging.c: the area that the control block shows to the host. */
const uint8_t *staging(void);
bool staging_may_stay(void); /* false without memory for another one; else staging_stays has to follow */
void staging_stays(bool stays); /* true: segments refer to this one, and the host gets the other */

/* The work of one poll is bounded in what it handles, and not by a clock, so that every run of a simulation stops at the
   same place: a poll takes some 2 ms then. What is left is for the next one, which ABI_MORE_NOW asks for. */
enum {
  WORK_FRAMES = 8192,  /* received; one that TCP, UDP or ICMP takes in counts as WORK_INPUT */
  WORK_INPUT = 4,
  WORK_SEGMENTS = 2048, /* sent by one flush, and by the ticks of TCP; a connection that has nothing to send counts, too */
  WORK_VISITS = 16,    /* connections that a tick visits and segments that are freed count a sixteenth */
  WORK_EVENTS = 1024,  /* before no more frames are taken in: the host needs longer for an event than the module */
  WORK_REPORTS = 16,   /* connections that end, or have room again; one of small segments counts as four */
};

/* events.c: what the host has to hear of, in order. */
void events_reset(void);
bool events_have_room(void); /* for all that one received frame can cause */
bool events_have_room_beside(uint32_t payload); /* for one more event of a frame that causes many */
bool events_suffice(void);   /* there are enough for one poll */
bool events_hold_data(void);
void event_add(uint32_t kind, int32_t handle, int32_t value);
void event_add_addresses(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *local, uint16_t local_port,
                         const ip_addr_t *remote, uint16_t remote_port);
void event_add_data(int32_t handle, const struct pbuf *data);
uint8_t *event_data_space(int32_t handle, uint32_t length);
void event_data_added(int32_t handle, uint32_t length);
void event_add_packet(uint32_t kind, int32_t handle, int32_t value, const ip_addr_t *first, uint16_t first_port,
                      const ip_addr_t *second, uint16_t second_port, const struct pbuf *packet, uint16_t skip);
void event_add_bytes(uint32_t kind, int32_t handle, int32_t value, const void *payload, uint32_t length);

/* random.c: everything that must not be predictable, from the seed. */
void random_seed(uint64_t low, uint64_t high);
uint64_t random_keyed(const void *message, uint32_t length);

/* interface.c: loopback, tun and tap. */
struct netif *interface_netif(int32_t handle);
int32_t interface_handle(const struct netif *netif);
bool interface_owns(const ip_addr_t *address);
uint32_t interface_room(const struct netif *netif); /* bytes of records that its transmit buffer still takes */

/* receive.c */
bool interfaces_receive(void);  /* hands waiting frames to lwIP; true if some are left */
bool interfaces_announce(void); /* a TRANSMIT event for each interface with frames to send; true if one loops */

/* autoconfiguration.c */
void autoconfiguration_report(void); /* adds the events of addresses, solicitations and leases */

/* frame.c: is what arrived well-formed enough for lwIP? */
enum frame_verdict { FRAME_DROP, FRAME_COPY, FRAME_IN_PLACE };
enum frame_verdict frame_check_ethernet(const uint8_t *frame, uint32_t length);
uint8_t frame_skip_extensions(const uint8_t *packet, uint32_t *at, uint32_t end);
enum frame_verdict frame_check_packet(const uint8_t *packet, uint32_t length, bool inside);

/* connection.c, tcp_output.c */
bool tcp_flush(void); /* sends what is ready; true if it has worked enough and some is left */
bool tcp_has_pending(void);  /* a poll is needed for some connection */
bool tcp_report(void);       /* adds the events of connections that ended or have room again; true if some are left */
bool tcp_reports_wait(void); /* somebody waits for room */

/* tcp_listen.c */
bool tcp_admit(void); /* an ACCEPTED event for each that waits for room in a backlog; true if some are left for the next poll */
extern uint32_t tcp_cookies, tcp_backlog_drops;
extern uint32_t timestamp_back; /* milliseconds that the timestamp of the segment that leaves is behind the clock */

uint32_t tcp_connections(void);

/* share.c: which of several sockets that share a port a flow belongs to: that with the largest of these numbers. */
uint64_t share_weight(int32_t handle, const ip_addr_t *source, uint16_t from, const ip_addr_t *destination, uint16_t to);

/* udp_receive.c */
bool udp_loop_back(void); /* delivers what own sockets sent to groups of this host; true if some is left */

/* address.c */
bool address_read(ip_addr_t *address, int32_t family, const uint8_t *bytes, int32_t scope);
void address_write(struct abi_endpoint *endpoint, const ip_addr_t *address, uint16_t port);
bool address_read_endpoint(ip_addr_t *address, uint16_t *port, const struct abi_endpoint *endpoint);

/* output.c */
void room_report(void); /* a WRITABLE event for each socket and session whose interface has room again */

/* icmp.c */
void icmp_unresolved(const uint8_t *packet, uint32_t length); /* from one of our addresses */
extern uint32_t icmp_unmatched; /* messages that belong to none of our packets */

/* icmp_limit.c: how often errors are sent. Each kind has a bucket of its own. */
enum icmp_kind { ICMP_ROUTER, ICMP_TOO_BIG, ICMP_OWN, ICMP_KINDS };
bool icmp_may_send(enum icmp_kind kind);
extern uint32_t icmp_limited; /* errors that were not sent, because too many were */

/* timers.c: lwIP's clocks, run late where nobody can tell. */
void timers_start(void);
bool timers_run(void); /* true if a tick has paused: the rest is for the next poll */
double timers_next_tick(void); /* seconds: until then no call finds anything changed by a timer */
bool timers_advance(double time); /* moves the clock, if TCP misses no tick by it */
bool timers_seek_neighbours(void); /* packets wait for ARP or neighbour discovery */
void timers_changed(void);     /* something was begun that slow clocks depend on */
void timers_tcp_work(uint32_t units); /* done by a tick: units are a sixteenth of a segment that is sent */
void timers_tcp_changed(void); /* a call, which may have started one of its timers */
double timers_deadline(void); /* seconds, or infinity */

#endif
