/* The functions of ours that lwIP calls, declared with only those types that every lwIP source file has. */
#ifndef LWIP_HOOKS_H
#define LWIP_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;
struct etharp_hdr;
struct netif;
struct pbuf;
struct tcp_pcb;
struct tcp_pcb_listen;
struct tcp_seg;
struct udp_pcb;
struct ip4_addr;
struct ip6_addr;
struct ip_addr;

void *tw_heap_allocate(size_t size);
void *tw_heap_allocate_zeroed(size_t count, size_t size);
void tw_heap_free(void *memory);

void tw_statistic_count(uint32_t *counter);
void tw_statistic_drop(void);
void tw_statistic_malformed(void);
void tw_statistic_checksum_error(void);
void tw_statistic_exchange(void);
void tw_consistency_failed(struct tcp_pcb *pcb);
#ifndef __wasm__
void tw_consistency_report(struct tcp_pcb *pcb, const char *file, int line, const char *message);
#endif
uint16_t tw_checksum(const void *data, int length);
uint16_t tw_checksum_copy(void *to, const void *from, uint16_t length);

int tw_interface_accepts4(const struct netif *netif, const struct ip4_addr *destination);
struct netif *tw_interface_route4(const struct ip4_addr *source, const struct ip4_addr *destination);
struct netif *tw_interface_route6(const struct ip6_addr *source, const struct ip6_addr *destination);
const struct ip4_addr *tw_route_next_hop4(const struct netif *netif, const struct ip4_addr *destination);
const struct ip6_addr *tw_route_next_hop6(const struct netif *netif, const struct ip6_addr *destination);
bool tw_route_on_link6(const struct netif *netif, int index, const struct ip6_addr *destination);
extern uint32_t tw_route_count;
void tw_forward_unresolved(const struct pbuf *packet);

int tw_icmp_received(struct pbuf *packet, struct netif *netif);
int tw_icmp6_received(struct pbuf *packet, struct netif *netif);
bool tw_icmp_own_error(void);
uint8_t tw_tcp_syn_retries(const struct tcp_pcb *pcb);

void tw_router_advertised(struct netif *netif, const struct pbuf *message);
void tw_router_solicited(struct netif *netif, const struct pbuf *message);
int tw_path_mtu_accept(const struct pbuf *message, uint16_t mtu);
bool tw_dhcp_awaits(const struct netif *netif, uint16_t port);
void tw_dhcp_arp_received(struct netif *netif, const struct etharp_hdr *packet);

uint16_t tw_ip4_fragment_bits(void);
uint16_t tw_ip4_identification(const struct ip4_addr *destination);
uint32_t tw_tcp_initial_sequence_number(const struct ip_addr *local, uint16_t local_port, const struct ip_addr *remote,
                                        uint16_t remote_port);
void tw_tcp_sequence_numbers_after(uint16_t local_port, uint16_t remote_port, uint32_t sequence);
struct tcp_pcb *tw_tcp_lookup(const struct ip_addr *local, uint16_t local_port, const struct ip_addr *remote,
                              uint16_t remote_port);
void tw_tcp_lookup_registered(struct tcp_pcb **list, struct tcp_pcb *pcb);
void tw_tcp_lookup_freed(struct tcp_pcb *pcb);
struct tcp_pcb_listen *tw_tcp_share(struct tcp_pcb_listen *found, uint16_t from);
struct udp_pcb *tw_udp_find(struct netif *by, uint16_t from, uint16_t to);
void tw_udp_pass_to_others(const struct udp_pcb *first, struct pbuf *data, struct netif *by, uint16_t from);
void tw_tcp_output_later(struct tcp_pcb *pcb);
void tw_receive_work(uint32_t units);
bool tw_early_receive(struct tcp_pcb *pcb, uint32_t sequence, const struct pbuf *data, bool fin);
void tw_early_free(struct tcp_pcb *pcb);
struct pbuf *tw_staging_reference(const void *data, uint16_t length);
bool tw_tcp_emit(struct tcp_seg *segment, struct tcp_pcb *pcb, struct netif *netif);
uint8_t tw_tcp_listen_decide(const struct tcp_pcb_listen *pcb, bool acknowledges, bool syn, uint32_t sequence,
                             uint32_t acknowledgement, uint16_t remote_port);
void tw_tcp_listen_cookie(struct tcp_pcb *pcb, bool makes, uint32_t acknowledgement, uint32_t echo);
void tw_tcp_listen_cookie_sent(void);
void tw_tcp_listen_wait(void); /* a peer has answered for which a backlog has no room */
extern struct tcp_pcb *tw_tcp_ticked;
bool tw_timers_tcp_pause(void);
bool tw_connection_gives_up(struct tcp_pcb *pcb);
void tw_tcp_retransmitted(struct tcp_pcb *pcb);
struct tcp_sack_range;
void tw_segment_new(struct tcp_seg *segment);
void tw_segment_sent(struct tcp_pcb *pcb, struct tcp_seg *segment);
void tw_segment_acked(struct tcp_pcb *pcb, struct tcp_seg *segment);
void tw_tcp_acknowledged(struct tcp_pcb *pcb, uint32_t acked, uint8_t duplicate, const struct tcp_sack_range *blocks,
                         uint32_t count);
void tw_tcp_ecn_received(struct tcp_pcb *pcb, uint8_t flags);
void tw_tcp_ecn_send(struct tcp_pcb *pcb, struct tcp_seg *segment);
uint32_t tw_tcp_send_window(struct tcp_pcb *pcb);
int8_t tw_tcp_resend_lost(struct tcp_pcb *pcb);
bool tw_tcp_timed_out(struct tcp_pcb *pcb);
void tw_tcp_flight_over(struct tcp_pcb *pcb);
int16_t tw_tcp_retransmission_timeout(const struct tcp_pcb *pcb);
bool tw_neighbour_is_doubtful(void);

#endif
