/* The functions of ours that lwIP calls, declared with nothing but what every lwIP source file already knows. */
#ifndef LWIP_HOOKS_H
#define LWIP_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netif;
struct pbuf;
struct tcp_pcb;
struct tcp_pcb_listen;
struct tcp_seg;
struct udp_pcb;
struct ip4_addr;
struct ip6_addr;
struct ip_addr;

void *heap_allocate(size_t size);
void *heap_allocate_zeroed(size_t count, size_t size);
void heap_free(void *memory);

void statistic_count(uint32_t *counter);
void consistency_failed(struct tcp_pcb *pcb);
uint16_t checksum(const void *data, int length);
uint16_t checksum_copy(void *to, const void *from, uint16_t length);

int interface_accepts4(const struct netif *netif, const struct ip4_addr *destination);
struct netif *interface_route4(const struct ip4_addr *source, const struct ip4_addr *destination);
struct netif *interface_route6(const struct ip6_addr *source, const struct ip6_addr *destination);
const struct ip4_addr *route_next_hop4(const struct netif *netif, const struct ip4_addr *destination);
const struct ip6_addr *route_next_hop6(const struct netif *netif, const struct ip6_addr *destination);
bool route_on_link6(const struct netif *netif, int index, const struct ip6_addr *destination);
extern uint32_t route_count;
void forward_unresolved(const struct pbuf *packet);

struct pbuf;
int icmp_heard(struct pbuf *packet, struct netif *netif);
int icmp6_heard(struct pbuf *packet, struct netif *netif);
bool icmp_own_error(void);
uint8_t tcp_syn_retries(const struct tcp_pcb *pcb);

void router_advertised(struct netif *netif, const struct pbuf *message);
void router_solicited(struct netif *netif, const struct pbuf *message);
int path_mtu_accept(const struct pbuf *message, uint16_t mtu);
void lease_acknowledged(struct netif *netif, const struct pbuf *message);
void lease_bound(struct netif *netif);

uint16_t ip4_identification(const struct ip4_addr *destination);
uint32_t tcp_initial_sequence_number(const struct ip_addr *local, uint16_t local_port,
                                     const struct ip_addr *remote, uint16_t remote_port);
struct tcp_pcb *tcp_lookup(const struct ip_addr *local, uint16_t local_port, const struct ip_addr *remote,
                           uint16_t remote_port);
void tcp_lookup_registered(struct tcp_pcb **list, struct tcp_pcb *pcb);
void tcp_lookup_freed(struct tcp_pcb *pcb);
struct tcp_pcb_listen *tcp_share(struct tcp_pcb_listen *found, uint16_t from);
struct udp_pcb *udp_find(struct netif *by, uint16_t from, uint16_t to);
void udp_pass_to_others(const struct udp_pcb *first, struct pbuf *data, struct netif *by, uint16_t from);
void tcp_output_later(struct tcp_pcb *pcb);
void receive_work(uint32_t units);
struct pbuf *staging_reference(const void *data, uint16_t length);
bool tcp_emit(struct tcp_seg *segment, struct tcp_pcb *pcb, struct netif *netif);
uint8_t tcp_listen_decide(const struct tcp_pcb_listen *pcb, bool acknowledges, bool syn, uint32_t sequence,
                          uint32_t acknowledgement, uint16_t remote_port);
void tcp_listen_cookie(struct tcp_pcb *pcb, bool makes, uint32_t acknowledgement, uint32_t echo);
void tcp_listen_cookie_sent(void);
extern bool tcp_listen_waits; /* a peer has answered for which a backlog has no room */
bool timers_tcp_pause(void);
bool connection_gives_up(struct tcp_pcb *pcb);
extern uint32_t tcp_retransmissions;
extern bool neighbour_doubtful;

#endif
