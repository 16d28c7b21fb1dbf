/* How lwIP is configured, with the reason for each option. What is not here keeps lwIP's default. */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H

#include "abi.h"

/* --- System: one thread, no operating system, callbacks only. ------------------------------------------------- */
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
/* Our own ticker (src/timers.c): it sleeps while no table has anything urgent, where lwIP's would tick for ever. */
#define LWIP_TIMERS 1
#define LWIP_TIMERS_CUSTOM 1
#define LWIP_STATS 1
#define LWIP_STATS_LARGE 1
#define MIB2_STATS 0
/* From the second retransmission in a row on, the neighbour's MAC may be an old one. */
#define LWIP_HOOK_TCP_RETRANSMITTED() (tcp_retransmissions++, neighbour_doubtful = pcb->nrtx >= 2)
#define LWIP_HOOK_ETHARP_DOUBTFUL() (neighbour_doubtful && !(neighbour_doubtful = false))
#define LWIP_STATS_DISPLAY 0
/* A failed check ends what it is about, not the stack (src/consistency.c). Natively it is reported, too. */
#ifdef __wasm__
#define LWIP_HOOK_INCONSISTENT(message, pcb) consistency_failed(pcb)
#else
#define LWIP_HOOK_INCONSISTENT(message, pcb) \
  (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, message), consistency_failed(pcb))
#endif

/* --- Memory: our heap (src/heap.c), so that no pool has to be sized in advance. ------------------------------ */
#define MEM_CUSTOM_ALLOCATOR 1
#define MEM_CUSTOM_MALLOC heap_allocate
#define MEM_CUSTOM_CALLOC heap_allocate_zeroed
#define MEM_CUSTOM_FREE heap_free
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#define PBUF_POOL_SIZE 0
#define LWIP_SUPPORT_CUSTOM_PBUF 1 /* received TCP frames are read where the host put them */
#define PBUF_LINK_ENCAPSULATION_HLEN 0
#define ETH_PAD_SIZE 0 /* a record must have the same layout on its way out and in */

/* --- Interfaces ---------------------------------------------------------------------------------------------- */
#define LWIP_ARP 1
#define LWIP_ETHERNET 1
#define LWIP_SINGLE_NETIF 0
#define LWIP_NETIF_HOSTNAME 0
#define LWIP_NETIF_LOOPBACK 0 /* our loopback interface swaps its two buffers instead of copying each packet */
#define LWIP_HAVE_LOOPIF 0
#define LWIP_NETIF_TX_SINGLE_PBUF 0
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1 /* without it, switching sums off for one interface does nothing */
#define LWIP_NETIF_EXT_STATUS_CALLBACK 0
#define ARP_TABLE_SIZE 127 /* the largest that lwIP's signed 8-bit index allows: a full bridge of hosts */
#define ARP_QUEUEING 1     /* with 0 the SYN that caused the ARP request is lost and the connect waits a second */
#define ARP_QUEUE_LEN 64   /* packets kept for each unresolved neighbour: all fragments of the largest datagram at MTU 1500 */
#define ETHARP_SUPPORT_STATIC_ENTRIES 1
#define ETHARP_TRUST_IP_MAC 0 /* RFC 826 learns from ARP only; learning from IP packets invites spoofing */

/* --- IPv4 ------------------------------------------------------------------------------------------------------ */
#define LWIP_IPV4 1
#define IP_FORWARD 0 /* src/forward.c does it, before lwIP sees the packet */
#define IP_REASSEMBLY 1
#define IP_FRAG 1
#define IP_REASS_MAX_PBUFS 128 /* one 65,535-byte datagram at MTU 1500 is 45 fragments; this bounds an attacker */
#define IP_REASS_FREE_OLDEST 1
#define LWIP_ICMP 1
#define LWIP_BROADCAST_PING 0
#define LWIP_MULTICAST_PING 0
#define LWIP_RAW 0 /* raw sockets would be asked about every packet; src/icmp.c hears what lwIP has no use for */
#define LWIP_IGMP 1
#define LWIP_DHCP 1
#define LWIP_AUTOIP 0
#define LWIP_ACD 1 /* an address from DHCP is probed for before it is used, RFC 5227 */
#define LWIP_ACD_KEEP_ADDRESS 1 /* and kept from then on, RFC 5227, section 2.4 (c): two forged frames must not take it */
/* Ticks of 100 ms. RFC 5227, section 1.1, says seconds for links where an answer may take one, and allows shorter times. */
#define LWIP_ACD_PROBE_WAIT 2
#define LWIP_ACD_PROBE_MIN 2
#define LWIP_ACD_PROBE_MAX 4
#define LWIP_ACD_ANNOUNCE_WAIT 4
/* Leases are counted in seconds; lwIP would in minutes, and not beyond a day. */
#define DHCP_COARSE_TIMER_SECS 1
#define DHCP_TIMEOUT_SIZE_T uint32_t
#define DHCP_DEFINE_CUSTOM_TIMEOUTS
#define DHCP_SET_TIMEOUT_FROM_OFFERED_T0_LEASE(result, dhcp) ((result) = (dhcp)->offered_t0_lease)
#define DHCP_SET_TIMEOUT_FROM_OFFERED_T1_RENEW(result, dhcp) ((result) = LWIP_MAX((dhcp)->offered_t1_renew, 1))
#define DHCP_SET_TIMEOUT_FROM_OFFERED_T2_REBIND(result, dhcp) ((result) = LWIP_MAX((dhcp)->offered_t2_rebind, 1))
#define DHCP_NEXT_TIMEOUT_THRESHOLD 60 /* RFC 2131, section 4.4.5 */
#define DHCP_REQUEST_BACKOFF_SEQUENCE(tries) ((u16_t)(((tries) < 6 ? 1 << (tries) : 60) * 1000))
#define DHCP_ADD_EXTRA_REQUEST_OPTIONS , 6, 15, 119 /* name servers, domain, search list: read by the host */
#define LWIP_HOOK_DHCP_ACK(netif, message) lease_acknowledged(netif, message)
#define LWIP_HOOK_DHCP_BOUND(netif) lease_bound(netif)
#define LWIP_DNS 0 /* names are resolved by the host, over the stack's own UDP */
#define LWIP_HOOK_IP4_ROUTE_SRC(src, dest) interface_route4(src, dest)
#define LWIP_HOOK_ETHARP_NEXT_HOP(netif, dest) (route_count == 0 ? NULL : route_next_hop4(netif, dest))
#define LWIP_HOOK_UNRESOLVED(packet) forward_unresolved(packet)
#define LWIP_HOOK_IP4_IDENTIFICATION(destination) ip4_identification(destination)
#define LWIP_HOOK_IP4_ACCEPT(netif, dest) interface_accepts4(netif, dest)

/* --- IPv6 ------------------------------------------------------------------------------------------------------ */
#define LWIP_IPV6 1
#define LWIP_IPV6_SCOPES 1
#define LWIP_IPV6_NUM_ADDRESSES 8 /* link-local, a few prefixes, a few static ones */
#define LWIP_IPV6_FORWARD 0 /* as IP_FORWARD */
#define LWIP_IPV6_FRAG 1
#define LWIP_IPV6_REASS 1
#define LWIP_HOOK_IP6_IDENTIFICATION() random_u32() /* RFC 7739, section 5.3 */
#define IPV6_FRAG_COPYHEADER 1 /* the header of a fragment must survive lwIP's overlay when pointers are 8 bytes wide */
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 1 /* by interfaces that configure themselves (src/autoconfiguration.c) */
#define LWIP_IPV6_AUTOCONFIG 1
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 1 /* RFC 4862, section 5.1; addresses from the host are checked only if it asks */
#define LWIP_HOOK_ND6_RA(netif, message) router_advertised(netif, message)
#define LWIP_HOOK_ICMP6_RS(netif, message) router_solicited(netif, message)
#define LWIP_HOOK_ND6_PATH_MTU(message, mtu) path_mtu_accept(message, mtu)
#define LWIP_IPV6_DHCP6 0
#define LWIP_ICMP6 1
#define LWIP_IPV6_MLD 1
#define LWIP_ND6_QUEUEING 1
#define ND6_QUEUE_LEN 64 /* as ARP_QUEUE_LEN */
#define MEMP_NUM_ND6_QUEUE (LWIP_ND6_NUM_NEIGHBORS * ND6_QUEUE_LEN)
#define LWIP_ND6_NUM_NEIGHBORS 127
#define LWIP_ND6_NUM_DESTINATIONS 127
#define LWIP_ND6_TCP_REACHABILITY_HINTS 1
#define LWIP_HOOK_IP6_ROUTE(src, dest) interface_route6(src, dest)
#define LWIP_HOOK_IP6_ONLINK(netif, index, dest) route_on_link6(netif, index, dest)
#define LWIP_HOOK_ND6_GET_GW(netif, dest) route_next_hop6(netif, dest)

/* --- ICMP: what lwIP itself has no use for (src/icmp.c). ------------------------------------------------------ */
#define LWIP_HOOK_ICMP_INPUT(packet, netif) icmp_heard(packet, netif)
#define LWIP_HOOK_ICMP6_INPUT(packet, netif) icmp6_heard(packet, netif)
#define LWIP_HOOK_ICMP_ERROR() icmp_own_error()

/* --- UDP ------------------------------------------------------------------------------------------------------- */
#define LWIP_UDP 1
#define LWIP_UDPLITE 0
#define LWIP_HOOK_UDP_FIND(netif, from, to) udp_find(netif, from, to) /* src/udp_receive.c */
#define LWIP_HOOK_UDP_OTHERS(pcb, packet, netif, from) udp_pass_to_others(pcb, packet, netif, from)
#define UDP_TTL 64 /* as Linux; RFC 1122, section 3.2.1.7 wants it configurable, and it is, socket by socket */

/* --- TCP ------------------------------------------------------------------------------------------------------- */
#define LWIP_TCP 1
#define TCP_MSS 65495 /* the most an interface can carry; each connection takes what its MTU leaves */
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1 /* lwIP's checks are written for an MSS of some 1,460 bytes */
#define TCP_CALCULATE_EFF_SEND_MSS 1
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 5 /* 65,535 << 5 holds the window below */
#define TCP_WND ABI_TCP_WINDOW
#define TCP_SND_BUF ABI_TCP_SEND_BUFFER
/* Buffers; a segment that refers to what was written has two. A full send buffer fits at an MSS of 536, and with smaller
   segments the queue holds no more memory than with large ones: Linux charges each segment its true size. */
#define TCP_SND_QUEUELEN 4096
#define TCP_OVERSIZE 1460 /* room behind a short write, so that further writes join its segment */
#define TCP_WND_UPDATE_THRESHOLD (TCP_WND_MAX(pcb) / 32) /* of the window that this peer can see; none goes out for less */
#define LWIP_TCP_TIMESTAMPS 1
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_MAX_SACK_NUM 3 /* what fits beside a timestamp, RFC 2018, section 3 */
#define TCP_QUEUE_OOSEQ 1
#define TCP_OOSEQ_MAX_BYTES TCP_WND
#define TCP_OOSEQ_MAX_PBUFS 1024 /* a peer that sends one byte a segment must not turn a window into 100 MB */
#define TCP_OOSEQ_BYTES_LIMIT(pcb) TCP_OOSEQ_MAX_BYTES
#define TCP_OOSEQ_PBUFS_LIMIT(pcb) TCP_OOSEQ_MAX_PBUFS
#define TCP_OOSEQ_SMALL_LIMIT(bytes) (128 + (bytes) / 256) /* each early segment walks over the others */
#define LWIP_HOOK_TCP_OOSEQ(segments) receive_work((segments) / 8) /* src/receive.c */
#define TCP_LISTEN_BACKLOG 1
/* Half-open connections, SYN cookies, and peers that wait for room in the backlog (src/tcp_listen.c). */
#define LWIP_HOOK_TCP_LISTEN(pcb, flags) \
  tcp_listen_decide(pcb, ((flags) & TCP_ACK) != 0, ((flags) & TCP_SYN) != 0, seqno, ackno, tcphdr->src)
#define LWIP_HOOK_TCP_COOKIE(pcb, makes, echo) tcp_listen_cookie(pcb, makes, ackno, echo)
#define LWIP_HOOK_TCP_COOKIE_SENT() tcp_listen_cookie_sent()
#define LWIP_HOOK_TCP_WAITS() (tcp_listen_waits = true)
#define LWIP_TCP_KEEPALIVE 1
#define LWIP_TCP_PCB_NUM_EXT_ARGS 1 /* its destructor tells when lwIP frees a connection, however that came about */
#define TCP_CHECKSUM_ON_COPY 1 /* the sum of the payload costs nothing while it is copied anyway */
#define LWIP_CHECKSUM_ON_COPY 1
#define SO_REUSE 1
/* One tick. Delayed ACKs wait at most one (RFC 1122 allows 500 ms, Linux waits 40); retransmission timers run in steps of two. */
#define TCP_TMR_INTERVAL 25
/* A tick of TCP pauses where it has worked enough for one poll (src/timers.c), and ends what no program waits for. */
#define LWIP_HOOK_TCP_TIMER_PAUSES() timers_tcp_pause()
#define LWIP_HOOK_TCP_GIVES_UP(pcb) connection_gives_up(pcb)
#define LWIP_TCP_RTO_TIME 1000 /* RFC 6298, section 2.1 */
#define LWIP_TCP_RTO_MIN 200   /* as Linux; RFC 6298's whole second is long for a virtual network */
#define TCP_SYNMAXRTX 6 /* with a time-out that doubles: 127 s, as Linux's tcp_syn_retries */
#define LWIP_HOOK_TCP_SYN_RETRIES(pcb) tcp_syn_retries(pcb)
#define TCP_MAX_PROBES 24 /* 118 s in all: the longest wait between two is 6 s */
#define TCP_MSL 30000 /* TIME-WAIT of 60 s as Linux keeps it; RFC 9293's two minutes fill tables for nothing */
#define LWIP_HOOK_TCP_ISN tcp_initial_sequence_number
#define LWIP_TCP_NO_POLL /* no callback of poll or sent is set, and those that remain always are */
/* Connections are found by a hash table beside lwIP's lists (src/tcp_lookup.c). */
#define LWIP_TCP_PCB_LOOKUP_FIELDS            \
  struct tcp_pcb *lookup_next, **lookup_link; \
  uint8_t lookup_time_wait;
#define LWIP_HOOK_TCP_REGISTERED(list, pcb) tcp_lookup_registered(list, pcb)
#define LWIP_HOOK_TCP_FREED(pcb) tcp_lookup_freed(pcb)
#define LWIP_HOOK_TCP_FIND(local, local_port, remote, remote_port) tcp_lookup(local, local_port, remote, remote_port)
#define LWIP_HOOK_TCP_LISTENER(pcb, from) tcp_share(pcb, from) /* of several that share a port (src/share.c) */
/* The answer to a whole batch of segments leaves once, after the batch (src/tcp_output.c). */
#define LWIP_HOOK_TCP_OUTPUT(pcb) tcp_output_later(pcb)
/* Data that is written without being copied lies in a staging area (src/staging.c). */
#define LWIP_HOOK_TCP_REFERENCE(data, length) staging_reference(data, length)
/* Segments of one flush get their headers from the one before (src/tcp_emit.c). */
#define LWIP_HOOK_TCP_EMIT(segment, pcb, netif) tcp_emit(segment, pcb, netif)

/* --- Checksums ------------------------------------------------------------------------------------------------- */
#define LWIP_CHKSUM checksum
#define LWIP_CHKSUM_COPY(to, from, length) checksum_copy(to, from, length)

/* --- Size: what lwIP has in place in hundreds of places, as calls (src/addresses.c, src/host.c). ---------------- */
#ifndef HOT
/* What neither src/host.c nor src/timers.c reads is not counted; the compiler decides it. */
#define STATISTIC_IS(counter, group) \
  (&(counter) == &lwip_stats.group.rterr || &(counter) == &lwip_stats.group.opterr || \
   &(counter) == &lwip_stats.group.err || &(counter) == &lwip_stats.group.cachehit)
#define STATISTIC_IS_READ(counter) \
  (!STATISTIC_IS(counter, ip) && !STATISTIC_IS(counter, ip6) && !STATISTIC_IS(counter, nd6) && \
   !STATISTIC_IS(counter, icmp6) && !STATISTIC_IS(counter, etharp) && !STATISTIC_IS(counter, ip_frag) && \
   !STATISTIC_IS(counter, ip6_frag) && &(counter) != &lwip_stats.ip.proterr && \
   &(counter) != &lwip_stats.ip6.proterr && &(counter) != &lwip_stats.nd6.proterr && \
   &(counter) != &lwip_stats.etharp.proterr && &(counter) != &lwip_stats.ip6_frag.proterr && \
   &(counter) != &lwip_stats.nd6.memerr && &(counter) != &lwip_stats.ip6_frag.memerr)
#define LWIP_HOOK_STATS_INC(counter) (STATISTIC_IS_READ(counter) ? statistic_count(&(counter)) : (void)0)
#endif
#define LWIP_HOOK_ADDRESSES "addresses.h"

#include "lwip_hooks.h"

#endif
