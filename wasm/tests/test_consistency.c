/* Should a check of lwIP's that depends on packets and writes fail, the connection it is about is reset and counted, and the
   others go on. No packet is known to make one fail, so each test corrupts the state first. */
#include "support.h"
#include "abi/handles.h"
#include "link/interface.h"
#include "port/consistency.h"
#include "tcp/connection.h"
#include "lwip/etharp.h"

#include <string.h>

static int32_t interface, listener;
static struct peer corrupted, other;
static uint8_t stream[20000];

static struct peer connect_peer(uint16_t port) {
  static const uint8_t mss[] = {2, 4, 5, 0xb4};
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer.from_port = port;
  peer_option(&peer, mss, sizeof mss);
  peer_open(&peer, listener);
  return peer;
}

static struct tcp_pcb *pcb_of(const struct peer *peer) {
  return ((struct connection *)tw_handle_object(peer->handle, HANDLE_CONNECTION))->pcb;
}

static void begin(void) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  pattern_fill(stream, sizeof stream, 0);
  other = connect_peer(40001);
  corrupted = connect_peer(40000);
}

static void end(void) {
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* The corrupted connection is reset, for both sides, and the other one carries data both ways. */
static void expect_reset(uint32_t failures) {
  host_poll();
  struct segment segment;
  do {
    segment = peer_peek(&corrupted);
    CHECK(segment.flags != 0);
  } while ((segment.flags & RST) == 0);
  while (segment.flags != 0) { /* a retransmission may have been under way, but nothing follows the reset */
    segment = peer_peek(&corrupted);
    CHECK_EQUAL(segment.flags, 0);
  }
  struct event event;
  do {
    event = event_next();
    CHECK(event.kind == ABI_EVENT_DATA || event.kind == ABI_EVENT_CLOSED);
  } while (event.kind != ABI_EVENT_CLOSED);
  CHECK_EQUAL(event.handle, corrupted.handle);
  CHECK_EQUAL(event.value, -ABI_ERROR_RESET);
  failures_expected += failures;
  CHECK_EQUAL(tw_consistency_failures(), failures_expected);
  CHECK_EQUAL(tcp_put(corrupted.handle, "x", 1), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(abi_tcp_close(corrupted.handle), 0);

  uint8_t got[8];
  peer_send(&other, ACK, "question", 8);
  host_poll();
  CHECK_EQUAL(event_expect_data(other.handle, got, sizeof got), 8);
  CHECK_EQUAL(tcp_put(other.handle, "answer", 6), 6);
  host_poll();
  segment = peer_expect(&other, ACK);
  CHECK_EQUAL(segment.length, 6);
  CHECK(memcmp(segment.data, "answer", 6) == 0);
  CHECK_EQUAL(abi_tcp_abort(other.handle), 0);
  host_poll();
  end();
}

static void write_with_a_queue_length_but_no_queue(void) {
  begin();
  pcb_of(&corrupted)->snd_queuelen = 7;
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 100), ABI_ERROR_RESET);
  expect_reset(1);
}

static void write_with_a_queue_but_no_queue_length(void) {
  begin();
  corrupted.window = 0;
  peer_send(&corrupted, ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 100), 100);
  pcb_of(&corrupted)->snd_queuelen = 0;
  CHECK_EQUAL(tcp_put_at(host_clock(), corrupted.handle, stream, 100), ABI_ERROR_RESET);
  expect_reset(1);
}

static void room_in_a_missing_segment(void) {
  begin();
  pcb_of(&corrupted)->unsent_oversize = 100;
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 100), ABI_ERROR_RESET);
  expect_reset(1);
}

static void room_in_a_segment_by_reference(void) {
  begin();
  struct tcp_pcb *pcb = pcb_of(&corrupted);
  static const uint8_t data[40000];
  pcb->snd_wnd = 0;
  CHECK_EQUAL(tcp_put(corrupted.handle, data, 33000), 33000);
  struct tcp_seg *last = pcb->unsent;
  while (last->next != NULL) {
    last = last->next;
  }
  struct pbuf *part = last->p;
  while (part->next != NULL) {
    part = part->next;
  }
  pcb->unsent_oversize = 4;
  /* The same write continues after the end of the segment. */
  CHECK_EQUAL(tcp_write(pcb, (const uint8_t *)part->payload + part->len, 200, 0), ERR_VAL);
  expect_reset(1);
}

static void acknowledged_data_missing_from_the_queue_length(void) {
  begin();
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 3000), 3000);
  host_poll();
  while (peer_peek(&corrupted).flags != 0) {
  }
  corrupted.acknowledgement += 3000;
  pcb_of(&corrupted)->snd_queuelen = 1;
  peer_send(&corrupted, ACK, NULL, 0);
  expect_reset(2);
}

static void acknowledged_data_counted_twice(void) {
  begin();
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 1000), 1000);
  host_poll();
  peer_expect(&corrupted, ACK);
  pcb_of(&corrupted)->snd_queuelen += 1;
  peer_send(&corrupted, ACK, NULL, 0);
  expect_reset(1);
}

static void out_of_order_data_beyond_the_window(void) {
  begin();
  peer_send_at(&corrupted, ACK, 1000, stream + 1000, 1000);
  host_poll();
  pcb_of(&corrupted)->rcv_wnd = 1500;
  peer_send_at(&corrupted, ACK, 0, stream, 1000);
  expect_reset(1);
}

static void window_probe_with_unacknowledged_data(void) {
  begin();
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 1000), 1000);
  host_poll();
  peer_expect(&corrupted, ACK);
  pcb_of(&corrupted)->persist_backoff = 1;
  host_advance(50 * MILLISECOND);
  expect_reset(1);
}

static void segment_larger_than_the_mss(void) {
  begin();
  struct tcp_pcb *pcb = pcb_of(&corrupted);
  pcb->snd_wnd = 100;
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 1400), 1400);
  host_poll();
  pcb->mss = 99;
  host_advance(300 * MILLISECOND);
  expect_reset(1);
}

static void data_without_a_checksum(void) {
  begin();
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 1000), 1000);
  pcb_of(&corrupted)->unsent->flags &= (uint8_t)~TF_SEG_DATA_CHECKSUMMED;
  expect_reset(1);
}

static void handshake_without_its_segment(void) {
  begin();
  CHECK_EQUAL(abi_tcp_abort(corrupted.handle), 0);
  host_poll();
  frames_forget();
  corrupted = peer_new(interface, ABI_FAMILY_IPV4, 0);
  corrupted.from_port = 7;
  corrupted.handle = tcp_open(ABI_FAMILY_IPV4, PEER4, 7);
  host_poll();
  struct segment segment = peer_peek(&corrupted);
  CHECK_EQUAL(segment.flags, SYN);
  corrupted.to_port = segment.from_port;
  corrupted.acknowledgement = segment.sequence + 1;
  pcb_of(&corrupted)->snd_queuelen = 0;
  peer_send(&corrupted, SYN | ACK, NULL, 0);
  expect_reset(1);
}

static void closed_handle_of_a_corrupted_connection(void) {
  begin();
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 1000), 1000);
  host_poll();
  peer_expect(&corrupted, ACK);
  struct tcp_pcb *pcb = pcb_of(&corrupted);
  CHECK_EQUAL(abi_tcp_close(corrupted.handle), 0);
  host_poll();
  peer_expect(&corrupted, FIN | ACK);
  pcb->snd_queuelen += 1;
  peer_send(&corrupted, ACK, NULL, 0);
  host_poll();
  CHECK_EQUAL(peer_peek(&corrupted).flags, RST | ACK);
  event_expect_none();
  failures_expected++;
  CHECK_EQUAL(abi_tcp_abort(other.handle), 0);
  host_poll();
  end();
}

static void several_connections_in_one_poll(void) {
  begin();
  struct peer more[6];
  for (uint16_t i = 0; i < 6; i++) {
    more[i] = connect_peer((uint16_t)(41000 + i));
    pcb_of(&more[i])->persist_backoff = 1;
  }
  host_advance(50 * MILLISECOND);
  failures_expected += 6;
  int closed = 0;
  for (struct event event; (event = event_next()).kind != 0; closed++) {
    CHECK_EQUAL(event.kind, ABI_EVENT_CLOSED);
    CHECK_EQUAL(event.value, -ABI_ERROR_RESET);
    CHECK_EQUAL(abi_tcp_close(event.handle), 0);
  }
  CHECK_EQUAL(closed, 6);
  frames_forget();
  pcb_of(&corrupted)->snd_queuelen = 7;
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 100), ABI_ERROR_RESET);
  expect_reset(1);
}

/* A chain of several packets, which no caller makes: it is refused, and the stack continues. */
static void chains_of_packets_are_refused(void) {
  begin();
  int32_t tap = interface_open(ABI_KIND_TAP, 1500);
  static const uint8_t own[] = {192, 0, 2, 1};
  CHECK_EQUAL(interface_set_ipv4(tap, own, 24), 0);
  struct pbuf *first = pbuf_alloc(PBUF_IP, 40, PBUF_RAM), *second = pbuf_alloc(PBUF_IP, 40, PBUF_RAM);
  first->next = second;
  ip4_addr_t neighbour = {lwip_htonl(0xc0000202)};
  CHECK_EQUAL(etharp_output(tw_interface_netif(tap), first, &neighbour), ERR_VAL);
  first->next = NULL;
  pbuf_free(first);
  pbuf_free(second);
  failures_expected++;
  CHECK_EQUAL(abi_interface_remove(tap), 0);
  pcb_of(&corrupted)->snd_queuelen = 7;
  CHECK_EQUAL(tcp_put(corrupted.handle, stream, 100), ABI_ERROR_RESET);
  expect_reset(1);
}

int main(void) {
  host_start();
  RUN(write_with_a_queue_length_but_no_queue);
  RUN(write_with_a_queue_but_no_queue_length);
  RUN(room_in_a_missing_segment);
  RUN(room_in_a_segment_by_reference);
  RUN(acknowledged_data_missing_from_the_queue_length);
  RUN(acknowledged_data_counted_twice);
  RUN(out_of_order_data_beyond_the_window);
  RUN(window_probe_with_unacknowledged_data);
  RUN(segment_larger_than_the_mss);
  RUN(data_without_a_checksum);
  RUN(handshake_without_its_segment);
  RUN(closed_handle_of_a_corrupted_connection);
  RUN(several_connections_in_one_poll);
  RUN(chains_of_packets_are_refused);
  return 0;
}
