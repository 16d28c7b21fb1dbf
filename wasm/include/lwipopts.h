/* How lwIP is configured, with the reason for each option. Options that are not listed keep lwIP's default. */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#include "abi.h"

/* --- System: one thread, no operating system, callbacks only. ------------------------------------------------- */
#define NO_SYS 1 /* one thread, and no operating system to wait in: each call returns at once */
#define SYS_LIGHTWEIGHT_PROT 0 /* nothing interrupts a call, so that no critical section needs protection */
#define LWIP_NETCONN 0 /* its API blocks a thread, of which there is none; calls and events take its place */
#define LWIP_SOCKET 0 /* as LWIP_NETCONN: the embedder has the sockets */
/* Our own timers (src/port/timers.c): they do not tick while no table has anything urgent, where lwIP's would tick
   without end. */
#define LWIP_TIMERS 1 /* without it, lwip_init would not start the timers by sys_timeouts_init */
#define LWIP_TIMERS_CUSTOM 1 /* lwIP's own timer list is not compiled; its modules' tick functions are called one by one */
/* Functions that lwIP requires of a port by name have our prefix, too. */
#define sys_now tw_sys_now
#define sys_timeouts_init tw_sys_timeouts_init
#define LWIP_STATS 1 /* abi_statistics reports the counters, and the work of a poll is measured by them */
#define LWIP_STATS_LARGE 1 /* 32 bits: 16 would overflow after 65,535 segments, which is a second of a bulk transfer */
#define MIB2_STATS 0 /* counters for SNMP, which no part of the stack reports */
/* From the second retransmission in a row on, the neighbour's MAC may be an old one. */
#define LWIP_HOOK_TCP_RETRANSMITTED() tw_tcp_retransmitted(pcb)
#define LWIP_HOOK_ETHARP_DOUBTFUL() tw_neighbour_is_doubtful() /* ARP sends a new request if so */
#define LWIP_STATS_DISPLAY 0 /* there is no output for it: the module imports nothing */
/* A failed check ends the connection or drops the packet it is about, not the stack (src/port/consistency.c). Natively it is
   reported, too. */
#ifdef __wasm__
#define LWIP_HOOK_INCONSISTENT(message, pcb) tw_consistency_failed(pcb)
#else
#define LWIP_HOOK_INCONSISTENT(message, pcb) tw_consistency_report(pcb, __FILE__, __LINE__, message)
#endif

/* --- Memory: our heap (src/port/heap.c), so that no pool has to be sized in advance. ------------------------------ */
#define MEM_CUSTOM_ALLOCATOR 1 /* replaces lwIP's heap of fixed size by functions of ours */
#define MEM_CUSTOM_MALLOC tw_heap_allocate /* allocates; the contents are undefined */
#define MEM_CUSTOM_CALLOC tw_heap_allocate_zeroed /* allocates, and sets to zero; a product that overflows fails */
#define MEM_CUSTOM_FREE tw_heap_free /* takes any block of either */
#define MEMP_MEM_MALLOC 1 /* control blocks and segments come from the heap, too, so that their number has no fixed limit */
#define MEM_ALIGNMENT 8 /* of the heap's blocks; 64-bit fields and vectors of 8 bytes are aligned with it */
#define PBUF_POOL_SIZE 0 /* received frames are read in place or copied into the heap: no pbuf comes from a pool */
#define LWIP_SUPPORT_CUSTOM_PBUF 1 /* received TCP frames are read where the embedder put them */
#define PBUF_LINK_ENCAPSULATION_HLEN 0 /* no link has a header in front of the Ethernet header */
#define ETH_PAD_SIZE 0 /* a record must have the same layout in both buffers */

/* --- Interfaces ---------------------------------------------------------------------------------------------- */
#define LWIP_ARP 1 /* tap interfaces and bridges resolve IPv4 addresses to MACs */
#define LWIP_ETHERNET 1 /* tap interfaces and bridges carry Ethernet frames */
#define LWIP_SINGLE_NETIF 0 /* a stack has as many interfaces as the embedder creates */
#define LWIP_NETIF_HOSTNAME 0 /* DHCP would send it as option 12; the embedder gives interfaces no host name */
#define LWIP_NETIF_LOOPBACK 0 /* our loopback interface swaps its two buffers instead of copying each packet */
#define LWIP_HAVE_LOOPIF 0 /* as LWIP_NETIF_LOOPBACK: the embedder creates the loopback interface like any other */
/* A frame is copied into the transmit buffer at once, from a chain as well as from one pbuf. */
#define LWIP_NETIF_TX_SINGLE_PBUF 0
#define LWIP_NETIF_NO_MAC_FILTER 1 /* no interface filters groups: the embedder passes it what it wants to be received */
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1 /* without it, switching checksums off for one interface does nothing */
/* Changes of addresses are found by a comparison after each poll (src/ip/autoconfiguration.c). */
#define LWIP_NETIF_EXT_STATUS_CALLBACK 0
#define ARP_TABLE_SIZE 127 /* the largest that lwIP's signed 8-bit index allows: a full bridge of hosts */
#define ARP_QUEUEING 1 /* with 0 the SYN that caused the ARP request is lost and the connect waits a second */
#define ARP_QUEUE_LEN 64 /* packets kept for each unresolved neighbour: all fragments of the largest datagram at MTU 1500 */
#define ETHARP_TRUST_IP_MAC 0 /* RFC 826 learns from ARP only; learning from IP packets invites spoofing */

/* --- IPv4 ------------------------------------------------------------------------------------------------------ */
#define LWIP_IPV4 1 /* dual stack */
#define IP_FORWARD 0 /* src/ip/forward.c does it, before lwIP sees the packet */
#define IP_REASSEMBLY 1 /* RFC 1122, section 3.3.2: a host must reassemble */
#define IP_FRAG 1 /* datagrams may be larger than the MTU */
#define IP_REASS_MAX_PBUFS 128 /* one 65,535-byte datagram at MTU 1500 is 45 fragments; this bounds an attacker */
/* The oldest incomplete datagram is dropped first, so that a flood of fragments cannot block reassembly. */
#define IP_REASS_FREE_OLDEST 1
#define LWIP_ICMP 1 /* RFC 1122, section 3.2.2: a host must implement it */
#define LWIP_BROADCAST_PING 0 /* RFC 1122, section 3.2.2.6 allows silence; an answer would amplify a forged request */
#define LWIP_MULTICAST_PING 0 /* as LWIP_BROADCAST_PING */
#define LWIP_RAW 0 /* raw sockets would be asked about every packet; src/ip/icmp.c receives what lwIP does not process */
#define LWIP_IGMP 1 /* UDP sockets join IPv4 groups, which routers and switches learn of by IGMP */
#define LWIP_DHCP 0 /* src/ip/dhcp_client.c leases the address of an interface, in less than half of the code */
#define LWIP_AUTOIP 0 /* link-local IPv4 addresses (RFC 3927) are not supported */
#define LWIP_ACD 0 /* as LWIP_DHCP, which is what needs it */
/* DHCP's answers to an interface without an address (src/ip/dhcp_client.c); `inp` is a variable of ip4_input. */
#define LWIP_IP_ACCEPT_UDP_PORT(port) tw_dhcp_awaits(inp, port)
/* Whether another host claims an address from DHCP, RFC 5227 (src/ip/dhcp_client.c). */
#define LWIP_HOOK_ETHARP_RECEIVED(netif, packet) tw_dhcp_arp_received(netif, packet)
#define LWIP_DNS 0 /* names are resolved by the embedder, over the stack's own UDP */
/* Loopback for own addresses, else the table (src/link/interface.c). */
#define LWIP_HOOK_IP4_ROUTE_SRC(src, dest) tw_interface_route4(src, dest)
/* The gateway of a route (src/ip/routes.c). */
#define LWIP_HOOK_ETHARP_NEXT_HOP(netif, dest) (tw_route_count == 0 ? NULL : tw_route_next_hop4(netif, dest))
#define LWIP_HOOK_UNRESOLVED(packet) tw_forward_unresolved(packet) /* no neighbour answered: the sender gets an ICMP error */
/* RFC 6864, section 4.3 (src/port/random.c). */
#define LWIP_HOOK_IP4_IDENTIFICATION(destination) tw_ip4_identification(destination)
/* Segments of connections that look for the MTU of their path, RFC 1191 (src/ip/path_mtu.c). */
#define LWIP_HOOK_IP4_FRAGMENT_BITS() tw_ip4_fragment_bits()
/* All of 127.0.0.0/8 is local on a loopback interface. */
#define LWIP_HOOK_IP4_ACCEPT(netif, dest) tw_interface_accepts4(netif, dest)

/* --- IPv6 ------------------------------------------------------------------------------------------------------ */
#define LWIP_IPV6 1 /* dual stack */
#define LWIP_IPV6_SCOPES 1 /* RFC 4007: a link-local address is unique on its interface only */
#define LWIP_IPV6_NUM_ADDRESSES 8 /* link-local, a few prefixes, a few static ones */
#define LWIP_IPV6_FORWARD 0 /* as IP_FORWARD */
#define LWIP_IPV6_FRAG 1 /* as IP_FRAG */
#define LWIP_IPV6_REASS 1 /* RFC 8200, section 4.5: a host must reassemble */
#define LWIP_HOOK_IP6_IDENTIFICATION() tw_random_u32() /* RFC 7739, section 5.3 */
#define IPV6_FRAG_COPYHEADER 1 /* the header of a fragment must survive lwIP's overlay when pointers are 8 bytes wide */
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 1 /* by interfaces that configure themselves (src/ip/autoconfiguration.c) */
/* RFC 4862: addresses from the prefixes of router advertisements, where the embedder asks for them. */
#define LWIP_IPV6_AUTOCONFIG 1
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 1 /* RFC 4862, section 5.1; addresses from the embedder are checked only if it asks */
/* The embedder reads further options (src/ip/autoconfiguration.c). */
#define LWIP_HOOK_ND6_RA(netif, message) tw_router_advertised(netif, message)
/* A router of ours answers (src/ip/autoconfiguration.c). */
#define LWIP_HOOK_ICMP6_RS(netif, message) tw_router_solicited(netif, message)
/* Only about packets that were sent (src/ip/path_mtu.c). */
#define LWIP_HOOK_ND6_PATH_MTU(message, mtu) tw_path_mtu_accept(message, mtu)
#define LWIP_IPV6_DHCP6 0 /* not supported: addresses come from advertisements or from the embedder */
#define LWIP_ICMP6 1 /* RFC 8200 requires it; neighbour discovery is part of it */
#define LWIP_IPV6_MLD 1 /* RFC 4861 needs the solicited-node groups, and UDP sockets join others */
#define LWIP_ND6_QUEUEING 1 /* RFC 4861, section 7.2.2: packets wait while their neighbour is resolved */
#define ND6_QUEUE_LEN 64 /* as ARP_QUEUE_LEN */
/* The queues share it: large enough never to bind before ND6_QUEUE_LEN does. */
#define MEMP_NUM_ND6_QUEUE (LWIP_ND6_NUM_NEIGHBORS * ND6_QUEUE_LEN)
#define LWIP_ND6_NUM_NEIGHBORS 127 /* as ARP_TABLE_SIZE: the index has 8 bits and a sign */
#define LWIP_ND6_NUM_DESTINATIONS 127 /* each keeps a next hop and a path MTU; the one that was unused longest is replaced */
/* RFC 4861, section 7.3.1: progress of TCP confirms a neighbour, which then is not probed. */
#define LWIP_ND6_TCP_REACHABILITY_HINTS 1
#define LWIP_HOOK_IP6_ROUTE(src, dest) tw_interface_route6(src, dest) /* as LWIP_HOOK_IP4_ROUTE_SRC */
/* Prefixes of our addresses (src/ip/routes.c). */
#define LWIP_HOOK_IP6_ONLINK(netif, index, dest) tw_route_on_link6(netif, index, dest)
#define LWIP_HOOK_ND6_GET_GW(netif, dest) tw_route_next_hop6(netif, dest) /* the gateway of a route (src/ip/routes.c) */

/* --- ICMP: messages that lwIP itself does not process (src/ip/icmp.c). ------------------------------------------- */
#define LWIP_HOOK_ICMP_INPUT(packet, netif) tw_icmp_received(packet, netif) /* echo replies and errors, which lwIP drops */
#define LWIP_HOOK_ICMP6_INPUT(packet, netif) tw_icmp6_received(packet, netif) /* the same for ICMPv6 */
#define LWIP_HOOK_ICMP_ERROR() tw_icmp_own_error() /* may an error be sent now? (src/ip/icmp_limit.c) */

/* --- UDP ------------------------------------------------------------------------------------------------------- */
#define LWIP_UDP 1 /* sockets of the embedder, and DHCP (src/ip/dhcp_socket.c) */
#define LWIP_UDPLITE 0 /* no socket of the embedder offers it (RFC 3828) */
#define LWIP_HOOK_UDP_FIND(netif, from, to) tw_udp_find(netif, from, to) /* src/udp/udp_receive.c */
/* Copies for further members of a group. */
#define LWIP_HOOK_UDP_OTHERS(pcb, packet, netif, from) tw_udp_pass_to_others(pcb, packet, netif, from)
#define UDP_TTL 64 /* as Linux; RFC 1122, section 3.2.1.7 wants it configurable, and it is, socket by socket */

/* --- TCP ------------------------------------------------------------------------------------------------------- */
#define LWIP_TCP 1 /* connections and listeners of the embedder */
#define TCP_MSS 65495 /* the most an interface can carry; each connection takes what its MTU leaves */
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1 /* lwIP's checks are written for an MSS of some 1,460 bytes */
#define TCP_CALCULATE_EFF_SEND_MSS 1 /* RFC 9293, section 3.7.1: no segment is larger than the MTU of its interface allows */
#define LWIP_WND_SCALE 1 /* RFC 7323: a window of more than 65,535 bytes, which long or fast paths need */
#define TCP_RCV_SCALE 9 /* 65,535 << 9 holds the window below; it is in the SYN, before it is known how much will be offered */
#define TCP_WND ABI_TCP_WINDOW /* bytes; abi.toml has it for the embedder, too, which sizes its buffers by it */
/* Bytes: the limit up to which the send buffer of a connection grows (src/tcp/connection.h). */
#define TCP_SND_BUF ABI_TCP_SEND_BUFFER
/* Buffers, which lwIP counts in 16 bits; tw_connection_queue_limit has the limit for a buffer of less than its full size. */
#define TCP_SND_QUEUELEN 65000
#define TCP_OVERSIZE 1460 /* room behind a short write, so that further writes join its segment */
/* Of the window that this peer can see; no window update for less. */
#define TCP_WND_UPDATE_THRESHOLD LWIP_MIN(TCP_WND_MAX(pcb) / 32, ABI_TCP_FIRST_WINDOW / 8)
#define LWIP_TCP_TIMESTAMPS 1 /* RFC 7323: protection against old segments; SYN cookies keep their options in them */
/* RFC 2018: out-of-order segments are reported, so that a peer retransmits only what is missing. */
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_MAX_SACK_NUM 3 /* what fits beside a timestamp, RFC 2018, section 3 */
#define LWIP_TCP_DUPLICATES /* RFC 2883: a sender learns that it need not have sent a segment again */
#define TCP_QUEUE_OOSEQ 0 /* segments that arrive out of order are kept by src/tcp/tcp_early.c */
#define LWIP_HOOK_TCP_EARLY(pcb, sequence, data, fin) tw_early_receive(pcb, sequence, data, fin)
#define LWIP_HOOK_TCP_EARLY_FREE(pcb) tw_early_free(pcb)
#define TCP_OOSEQ_TIMEOUT 6 /* time-outs without a segment, after which they are dropped */
#define TCP_LISTEN_BACKLOG 1 /* each listener bounds its connections that are not yet accepted */
/* Half-open connections, SYN cookies, and peers that wait for room in the backlog (src/tcp/tcp_listen.c). */
#define LWIP_HOOK_TCP_LISTEN(pcb, flags) \
  tw_tcp_listen_decide(pcb, ((flags) & TCP_ACK) != 0, ((flags) & TCP_SYN) != 0, seqno, ackno, tcphdr->src)
/* Fills a block for a cookie, or from one that is acknowledged. */
#define LWIP_HOOK_TCP_COOKIE(pcb, makes, echo) tw_tcp_listen_cookie(pcb, makes, ackno, echo)
#define LWIP_HOOK_TCP_COOKIE_SENT() tw_tcp_listen_cookie_sent() /* timestamps follow the clock again */
#define LWIP_HOOK_TCP_WAITS() tw_tcp_listen_wait() /* the next polls look for room in the backlog */
#define LWIP_TCP_KEEPALIVE 1 /* idle time, interval and count are options of each connection, as in Linux */
#define TCP_CHECKSUM_ON_COPY 1 /* the checksum of the payload costs nothing while it is copied anyway */
#define LWIP_CHECKSUM_ON_COPY 1 /* declares what TCP_CHECKSUM_ON_COPY calls */
#define SO_REUSE 1 /* SO_REUSEADDR and, by our patches, SO_REUSEPORT */
/* ms. Delayed ACKs wait one tick at most (RFC 1122 allows 500 ms, Linux waits 40); retransmission timers count in two. */
#define TCP_TMR_INTERVAL 25
/* A tick of TCP pauses where it has worked enough for one poll (src/port/timers.c), and ends connections without a user. */
#define LWIP_HOOK_TCP_TIMER_PAUSES() tw_timers_tcp_pause()
/* The user's time-out (RFC 5482), and closed connections without progress. */
#define LWIP_HOOK_TCP_GIVES_UP(pcb) tw_connection_gives_up(pcb)
#define LWIP_TCP_RTO_TIME 1000 /* RFC 6298, section 2.1 */
#define LWIP_TCP_RTO_MIN 200 /* as Linux; RFC 6298's whole second is long for a virtual network */
#define TCP_SYNMAXRTX 6 /* with a time-out that doubles: 127 s, as Linux's tcp_syn_retries */
#define LWIP_HOOK_TCP_SYN_RETRIES(pcb) tw_tcp_syn_retries(pcb) /* fewer after an ICMP error, RFC 5461 (src/ip/icmp.c) */
#define TCP_MAX_PROBES 24 /* 118 s in all: the longest wait between two is 6 s */
#define TCP_MSL 30000 /* TIME-WAIT of 60 s as Linux keeps it; RFC 9293's two minutes fill tables without need */
/* A connection that follows one in TIME-WAIT begins beyond it, RFC 1122, section 4.2.2.13 (src/port/random.c). */
#define LWIP_HOOK_TCP_TIMEWAIT_ENDS(pcb) tw_tcp_sequence_numbers_after((pcb)->local_port, (pcb)->remote_port, (pcb)->snd_nxt)
#define LWIP_HOOK_TCP_ISN tw_tcp_initial_sequence_number /* RFC 6528 (src/port/random.c) */
#define LWIP_TCP_NO_POLL /* no callback of poll or sent is set, and those that remain always are */
/* A control block refers to our part of the connection, if any, which LWIP_HOOK_TCP_FREED ends, whatever frees the block.
   Connections are found by a hash table beside lwIP's lists (src/tcp/tcp_lookup.c). */
#define LWIP_TCP_PCB_LOOKUP_FIELDS            \
  struct connection *connection;              \
  struct tcp_pcb *lookup_next, **lookup_link; \
  struct tcp_pcb *ticked_next, **ticked_link; \
  uint32_t ticked_wakes;                      \
  uint8_t ticked_asleep, lookup_time_wait;    \
  uint8_t path_mtu_discovery;
/* Ticks visit those on which a timer may run (src/tcp/tcp_ticked.c). */
#define LWIP_HOOK_TCP_TICKED() tw_tcp_ticked
#define LWIP_HOOK_TCP_TICKED_NEXT(pcb) ((pcb)->ticked_next)
#define LWIP_HOOK_TCP_REGISTERED(list, pcb) tw_tcp_lookup_registered(list, pcb) /* adds a connection to it */
#define LWIP_HOOK_TCP_FREED(pcb) tw_tcp_lookup_freed(pcb) /* removes one */
/* Of a segment: no list is walked. */
#define LWIP_HOOK_TCP_FIND(local, local_port, remote, remote_port) tw_tcp_lookup(local, local_port, remote, remote_port)
#define LWIP_HOOK_TCP_LISTENER(pcb, from) tw_tcp_share(pcb, from) /* of several that share a port (src/ip/share.c) */
/* The answer to a whole batch of segments leaves once, after the batch (src/tcp/tcp_output.c). */
#define LWIP_HOOK_TCP_OUTPUT(pcb) tw_tcp_output_later(pcb)
/* Data that is written without being copied lies in a staging area (src/abi/staging.c). */
#define LWIP_HOOK_TCP_REFERENCE(data, length) tw_staging_reference(data, length)
/* Loss recovery and congestion control are ours (src/tcp/tcp_recovery.c). lwIP reports what leaves and what comes: */
#define LWIP_TCP_SEG_RECOVERY_FIELDS                             \
  struct tcp_seg *sent_next, *sent_before;                       \
  uint32_t begin, end; /* sequence numbers, once it was sent */  \
  uint32_t sent, order; /* when it was last: us, and a number */ \
  uint8_t marks; /* src/tcp/tcp_flight.h */
#define LWIP_HOOK_TCP_SEGMENT_NEW(segment) tw_segment_new(segment) /* no marks yet */
#define LWIP_HOOK_TCP_SEGMENT_SENT(pcb, segment) tw_segment_sent(pcb, segment) /* for the first time or again */
#define LWIP_HOOK_TCP_SEGMENT_ACKED(pcb, segment) tw_segment_acked(pcb, segment) /* wholly; it is freed next */
#define LWIP_HOOK_TCP_ACKNOWLEDGED(pcb, bytes, duplicate, blocks, count) \
  tw_tcp_acknowledged(pcb, bytes, duplicate, blocks, count) /* after that, with what the segment's options say */
#define LWIP_HOOK_TCP_REQUEUED(pcb) tw_tcp_flight_over(pcb) /* all is to be sent anew, after a path has become narrower */
#define LWIP_HOOK_TCP_PURGED(pcb) tw_tcp_flight_over(pcb) /* all is freed */
/* And it asks: */
#define LWIP_HOOK_TCP_SEND_WINDOW(pcb) tw_tcp_send_window(pcb) /* bytes that may lie beyond the acknowledged ones */
#define LWIP_HOOK_TCP_RESEND(pcb) tw_tcp_resend_lost(pcb) /* before new data */
#define LWIP_HOOK_TCP_TIMED_OUT(pcb) tw_tcp_timed_out(pcb) /* what a time-out means */
#define LWIP_HOOK_TCP_RTO(pcb) tw_tcp_retransmission_timeout(pcb) /* RFC 6298 (src/tcp/tcp_round_trip.c) */
/* Explicit congestion notification, RFC 3168 (src/tcp/tcp_ecn.c). */
#define LWIP_HOOK_TCP_ECN_RECEIVED(pcb, flags) tw_tcp_ecn_received(pcb, flags)
#define LWIP_HOOK_TCP_ECN_SEND(pcb, segment) tw_tcp_ecn_send(pcb, segment)
/* Segments of one flush get their headers from the one before (src/tcp/tcp_emit.c). */
#define LWIP_HOOK_TCP_EMIT(segment, pcb, netif) tw_tcp_emit(segment, pcb, netif)

/* --- Checksums ------------------------------------------------------------------------------------------------- */
#define LWIP_CHKSUM tw_checksum /* vector instructions (src/port/checksum.c) */
#define LWIP_CHKSUM_COPY(to, from, length) tw_checksum_copy(to, from, length) /* the copy and its checksum in one pass */

/* --- Counters: those that are reported, or that the timers read; some of them as one (src/port/statistics.h). ------------ */
#define STATISTIC_IS(counter, group, field) (&(counter) == &lwip_stats.group.field)
#define STATISTIC_IS_DROP(counter)                                                                            \
  (STATISTIC_IS(counter, ip, drop) || STATISTIC_IS(counter, ip6, drop) || STATISTIC_IS(counter, tcp, drop) || \
   STATISTIC_IS(counter, etharp, drop) || STATISTIC_IS(counter, nd6, drop) || STATISTIC_IS(counter, icmp6, drop))
#define STATISTIC_IS_MALFORMED(counter)                                                                                  \
  (STATISTIC_IS(counter, ip, lenerr) || STATISTIC_IS(counter, ip6, lenerr) || STATISTIC_IS(counter, tcp, lenerr) ||      \
   STATISTIC_IS(counter, udp, lenerr) || STATISTIC_IS(counter, etharp, lenerr) || STATISTIC_IS(counter, nd6, lenerr) ||  \
   STATISTIC_IS(counter, icmp, lenerr) || STATISTIC_IS(counter, icmp6, lenerr) || STATISTIC_IS(counter, igmp, lenerr) || \
   STATISTIC_IS(counter, mld6, lenerr))
#define STATISTIC_IS_CHECKSUM_ERROR(counter)                                                                        \
  (STATISTIC_IS(counter, ip, chkerr) || STATISTIC_IS(counter, tcp, chkerr) || STATISTIC_IS(counter, udp, chkerr) || \
   STATISTIC_IS(counter, icmp, chkerr) || STATISTIC_IS(counter, icmp6, chkerr) || STATISTIC_IS(counter, igmp, chkerr))
#define STATISTIC_IS_TRAFFIC(counter, group) (STATISTIC_IS(counter, group, recv) || STATISTIC_IS(counter, group, xmit))
#define STATISTIC_IS_EXCHANGE(counter)                                                                                   \
  (STATISTIC_IS_TRAFFIC(counter, etharp) || STATISTIC_IS_TRAFFIC(counter, nd6) || STATISTIC_IS_TRAFFIC(counter, igmp) || \
   STATISTIC_IS_TRAFFIC(counter, mld6))
#define STATISTIC_IS_READ(counter)                                                                                       \
  (STATISTIC_IS_TRAFFIC(counter, tcp) || STATISTIC_IS_TRAFFIC(counter, udp) || STATISTIC_IS_TRAFFIC(counter, icmp) ||    \
   STATISTIC_IS_TRAFFIC(counter, icmp6) || STATISTIC_IS_TRAFFIC(counter, ip_frag) ||                                     \
   STATISTIC_IS_TRAFFIC(counter, ip6_frag) || STATISTIC_IS(counter, udp, drop) || STATISTIC_IS(counter, udp, proterr) || \
   STATISTIC_IS(counter, ip_frag, drop) || STATISTIC_IS(counter, ip6_frag, drop) || STATISTIC_IS(counter, ip, fw) ||     \
   STATISTIC_IS(counter, ip6, fw) || STATISTIC_IS(counter, tcp, memerr) || STATISTIC_IS(counter, link, memerr))
/* The compiler decides all of this. */
#define LWIP_HOOK_STATS_INC(counter)                                      \
  (STATISTIC_IS_DROP(counter)             ? tw_statistic_drop()           \
   : STATISTIC_IS_MALFORMED(counter)      ? tw_statistic_malformed()      \
   : STATISTIC_IS_CHECKSUM_ERROR(counter) ? tw_statistic_checksum_error() \
   : STATISTIC_IS_EXCHANGE(counter)       ? tw_statistic_exchange()       \
   : STATISTIC_IS_READ(counter)           ? STATISTIC_COUNT(counter)      \
                                          : (void)0)
#ifdef HOT
#define STATISTIC_COUNT(counter) ((void)++(counter))
#else
#define STATISTIC_COUNT(counter) tw_statistic_count(&(counter))
#endif

/* --- Size: what lwIP inlines in hundreds of places, as calls (src/port/address_calls.c). ------------------------------- */
#define LWIP_HOOK_ADDRESSES "address_calls.h" /* included at the end of lwip/ip_addr.h */

#include "lwip_hooks.h"

#endif
