/* A path that becomes narrower than the link (RFC 8201): queued segments are divided anew, or leave in fragments where memory
   is short, new connections send less, and messages about packets that were never sent have no effect. */
#include "support.h"
#include "abi/work.h"
#include "port/heap.h"
#include "tcp/connection.h"
#include "lwip/def.h"
#include "lwip/stats.h"

#include <string.h>

enum { LENGTH = 2000000, NARROW = 1300 };

static const uint8_t ROUTER6[16] = {0xfd, [15] = 9};
static int32_t interface, listener;
static uint8_t sent[LENGTH], got[LENGTH];
static int reported; /* 0: no packet was too big; 1: the error is queued; 2: it was processed */

static struct peer open_peer(void) {
  static const uint8_t options[] = {2, 4, 5, 0xa0, 1, 3, 3, 5}; /* MSS 1440, window scale */
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV6, 80);
  peer_option(&peer, options, sizeof options);
  peer.window = 8000;
  peer_open(&peer, listener);
  return peer;
}

static void close_interface(void) {
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static void packet_too_big(const uint8_t *about, uint32_t quoted, uint32_t mtu) {
  static struct packet packet;
  packet_icmp_error(&packet, ROUTER6, 2, 0, about, quoted);
  uint8_t message[1400];
  uint32_t length = packet.length - 40;
  memcpy(message, packet.bytes + 40, length);
  put32(message + 4, mtu);
  packet_ip(&packet, ABI_FAMILY_IPV6, ROUTER6, HOST6, PROTOCOL_ICMPV6, message, length);
  interface_receive(interface, packet.bytes, packet.length);
}

/* The next packet that the path lets through, reassembled if it was fragmented; larger ones are answered and dropped. */
static struct frame next_packet(uint32_t mtu, bool answers) {
  static uint8_t whole[PACKET_CAPACITY];
  uint32_t end = 0, identification = 0;
  struct frame frame;
  while ((frame = frame_next()).length != 0) {
    if (frame.length > mtu) {
      if (answers) {
        packet_too_big(frame.bytes, 1232 - 8 < frame.length ? 1224 : frame.length, mtu);
        reported += reported == 0;
      }
      continue;
    }
    if (frame.bytes[6] != 44) {
      return frame;
    }
    CHECK_EQUAL(get16(frame.bytes + 4) + 40, frame.length);
    uint32_t offset = get16(frame.bytes + 42) & 0xfff8, length = frame.length - 48;
    if (offset == 0) {
      memcpy(whole, frame.bytes, 40);
      whole[6] = frame.bytes[40];
      end = 0;
      identification = get32(frame.bytes + 44);
    }
    CHECK_EQUAL(offset, end);
    CHECK_EQUAL(get32(frame.bytes + 44), identification);
    memcpy(whole + 40 + end, frame.bytes + 48, length);
    end += length;
    if ((get16(frame.bytes + 42) & 1) == 0) {
      put16(whole + 4, end);
      return (struct frame){40 + end, whole};
    }
  }
  return (struct frame){0};
}

/* A stream in chunks of this many bytes, past a router with a narrow link, losing one packet in `loss` beyond it; without
   memory at the moment at which the ICMP error arrives, if `full`. */
static void stream_past_a_narrow_link(int32_t chunk, uint32_t loss, bool full) {
  struct peer peer = open_peer();
  pattern_fill(sent, LENGTH, 0);
  uint32_t put = 0, length = 0, packets = 0, fragments = lwip_stats.ip6_frag.xmit;
  bool narrow = false;
  reported = 0;
  for (int round = 0; length < LENGTH; round++) {
    CHECK(round < 100000);
    for (int32_t step = 1; put < LENGTH && step > 0; put += (uint32_t)step) {
      step = tcp_put_at(host_clock_or_none(), peer.handle, sent + put, (int32_t)LWIP_MIN(LENGTH - put, (uint32_t)chunk));
      CHECK(step >= 0);
    }
    if (round == 0) {
      host_poll();
    } else {
      uint32_t before = lwip_stats.ip6_frag.xmit;
      allocations_left = full && reported == 1 ? 3 : -1; /* the message itself, and the first allocations for the queue */
      host_poll_once(0);
      allocations_left = -1;
      host_advance(20 * MILLISECOND);
      reported += reported == 1;
      CHECK(lwip_stats.ip6_frag.xmit == before || full);
    }
    narrow |= length > LENGTH / 10;
    struct frame frame;
    struct segment segment;
    while ((frame = next_packet(narrow ? NARROW : 1500, true)).length != 0) {
      if (!segment_parse(&segment, frame.bytes, frame.length) || (loss != 0 && ++packets % loss == 0)) {
        continue;
      }
      if (segment.sequence == peer.acknowledgement) {
        memcpy(got + length, segment.data, segment.length);
        length += segment.length;
        peer.acknowledgement += segment.length;
      }
      peer_send(&peer, ACK, NULL, 0);
    }
  }
  pattern_check(got, LENGTH, 0);
  CHECK_EQUAL(lwip_stats.ip6_frag.xmit != fragments, full);
  struct event event;
  while ((event = event_next()).kind != 0) {
    CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
  }
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

static void large_writes_adapt_to_a_narrow_link(void) { stream_past_a_narrow_link(ABI_STAGING_CAPACITY, 0, false); }

static void large_writes_adapt_to_a_lossy_narrow_link(void) { stream_past_a_narrow_link(ABI_STAGING_CAPACITY, 7, false); }

static void small_writes_adapt_to_a_lossy_narrow_link(void) { stream_past_a_narrow_link(777, 11, false); }

static void odd_writes_adapt_to_a_lossy_narrow_link(void) { stream_past_a_narrow_link(40001, 5, false); }

static void large_writes_adapt_without_memory(void) {
  stream_past_a_narrow_link(ABI_STAGING_CAPACITY, 7, true);
  stream_past_a_narrow_link(777, 0, true);
}

/* Sends 5,000 bytes of `sent`, and reports that the first packet was too big. */
static void report_the_first_packet(const struct peer *peer) {
  CHECK_EQUAL(tcp_put(peer->handle, sent, 5000), 5000);
  host_poll();
  struct frame frame = frame_next();
  CHECK_EQUAL(frame.length, 1500);
  packet_too_big(frame.bytes, 1224, NARROW);
  frames_forget();
}

/* Data that arrives together with the error delays the flush until the program has answered. What it writes then leaves at once
   otherwise, before the segments are divided. */
static void an_answer_at_once_waits_for_the_division(void) {
  struct peer peer = open_peer();
  uint32_t fragments = lwip_stats.ip6_frag.xmit;
  pattern_fill(sent, 8000, 0);
  report_the_first_packet(&peer);
  peer_send(&peer, ACK, "question", 8);
  host_poll_once(0);
  char question[8];
  CHECK_EQUAL(event_expect_data(peer.handle, question, sizeof question), sizeof question);
  CHECK_EQUAL(tcp_put_at(host_clock(), peer.handle, sent + 5000, 3000), 3000);
  CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, sizeof question), 0);
  host_poll();
  struct segment segment;
  for (uint32_t length = 0; length < 8000; length += segment.length) {
    segment = peer_peek(&peer);
    CHECK(segment.length > 0 && segment.length <= NARROW - 60);
    CHECK_EQUAL(segment.sequence, peer.start + 1 + length);
    pattern_check(segment.data, segment.length, length);
  }
  CHECK_EQUAL(lwip_stats.ip6_frag.xmit, fragments);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

/* Once one connection has received the error, lwIP knows the path and would fragment the segments of the others, so that no
   router reports anything to them: they adapt at the same time. One to another destination stays as it is. */
static void all_connections_on_the_path_adapt(void) {
  static const uint8_t elsewhere[16] = {0xfd, [15] = 7};
  struct peer first = open_peer(), second = first, third = first;
  second.from_port++;
  third.from = elsewhere;
  second.sequence = third.sequence = first.sequence - 1;
  peer_open(&second, listener);
  peer_open(&third, listener);
  pattern_fill(sent, 5000, 0);
  report_the_first_packet(&first);
  host_poll();
  struct segment segment;
  for (uint32_t length = 0; length < 5000; length += segment.length) { /* retransmitted without a time-out */
    segment = peer_peek(&first);
    CHECK(segment.length > 0 && segment.length <= NARROW - 60);
    CHECK_EQUAL(segment.sequence, first.start + 1 + length);
    pattern_check(segment.data, segment.length, length);
  }
  CHECK_EQUAL(tcp_put(second.handle, sent, 5000), 5000);
  host_poll();
  CHECK_EQUAL(peer_peek(&second).length, NARROW - 60);
  frames_forget();
  CHECK_EQUAL(tcp_put(third.handle, sent, 5000), 5000);
  host_poll();
  CHECK_EQUAL(peer_peek(&third).length, 1440);
  CHECK_EQUAL(abi_tcp_abort(first.handle), 0);
  CHECK_EQUAL(abi_tcp_abort(second.handle), 0);
  CHECK_EQUAL(abi_tcp_abort(third.handle), 0);
  close_interface();
}

/* A message that quotes what this stack has not sent, or what was not too big: the path MTU stays as it is. */
static void forged_messages_are_ignored(void) {
  struct peer peer = open_peer();
  pattern_fill(sent, 5000, 0);
  CHECK_EQUAL(tcp_put(peer.handle, sent, 5000), 5000);
  host_poll();
  struct frame frame = frame_next();
  CHECK_EQUAL(frame.length, 1500);
  uint8_t original[1500], quoted[1500], echo[8] = {128, [5] = 7, [7] = 1},
                                        datagram[8] = {5000 >> 8, 5000 & 255, 0, 9, 5, 0xb4 & 255};
  memcpy(original, frame.bytes, 1500);
  int32_t udp = udp_socket_open(ABI_FAMILY_ANY, NULL, 5000);
  static const uint8_t elsewhere[16] = {0xfd, [15] = 7};
  endpoint_put(ABI_FAMILY_IPV6, elsewhere, 9);
  CHECK_EQUAL(abi_udp_connect(udp), 0);
  for (int kind = 0; kind < 8; kind++) {
    memcpy(quoted, original, 1500);
    switch (kind) {
      case 0:
        put32(quoted + 44, peer.start);
        break; /* acknowledged long ago */
      case 1:
        put32(quoted + 44, peer.start + 100000);
        break;
      case 2:
        quoted[8 + 15]++;
        break; /* another source address */
      case 3:
        quoted[41]++;
        break; /* of another connection */
      case 4:
        put16(quoted + 4, NARROW - 40);
        break; /* it was not too big */
      case 5:
        quoted[6] = 58;
        memcpy(quoted + 40, echo, 8);
        break; /* a ping session that does not exist */
      case 6:
        quoted[6] = 17;
        memcpy(quoted + 40, datagram, 8);
        break; /* a socket that is connected elsewhere */
      case 7:
        quoted[6] = 44;
        put16(quoted + 42, 8);
        break; /* a later fragment */
    }
    frames_forget();
    packet_too_big(quoted, 1224, NARROW);
    host_poll();
    CHECK_EQUAL(frame_next().length, 0);
  }
  packet_too_big(original, 1224, NARROW);
  host_poll();
  CHECK_EQUAL(frame_next().length, NARROW);
  frames_forget();
  CHECK_EQUAL(abi_udp_close(udp), 0);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

/* A peer knows all sequence numbers, and may report again and again that the path is a byte narrower: each time all queued
   segments are divided. The stream arrives complete, and never in more segments than a connection may have. */
static void a_path_narrowed_byte_by_byte_keeps_the_queue_bounded(void) {
  struct peer peer = open_peer();
  pattern_fill(sent, LENGTH, 0);
  int32_t put = 0;
  for (int32_t step = 1; step > 0; put += step) {
    step = tcp_put(peer.handle, sent + put, (int32_t)LWIP_MIN(LENGTH - put, ABI_STAGING_CAPACITY));
    host_poll();
    peer_send(&peer, ACK, NULL, 0); /* the send buffer grows with demand */
    host_advance(3000 * MILLISECOND);
  }
  static uint8_t quoted[1500];
  struct frame frame;
  while ((frame = frame_next()).length != 1500) {
    CHECK(frame.length != 0);
  }
  memcpy(quoted, frame.bytes, 1500);
  frames_forget();
  uint32_t before = tw_heap_used();
  for (uint32_t mtu = 1499; mtu >= 1280; mtu--) {
    packet_too_big(quoted, 1224, mtu);
    host_poll();
    frames_forget();
  }
  CHECK(tw_heap_used() - before < CONNECTION_QUEUE * 256u);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

/* Many connections to one destination, each with a full queue, and messages that make its path narrower byte by byte, all in
   one batch and one after the other: no poll divides the queues of all of them, the work of all polls together is bounded, and
   each connection adapts in the end. */
static void division_of_many_queues_is_bounded_per_poll(void) {
  enum { PEERS = 40, CUTS_OF_A_POLL = WORK_SEGMENTS + CONNECTION_QUEUE };
  static struct peer peers[PEERS];
  static uint8_t quoted[1500];
  pattern_fill(sent, 65536, 0);
  for (int batch = 0; batch < 2; batch++) {
    peers[0] = open_peer();
    for (int i = 0; i < PEERS; i++) {
      if (i > 0) {
        peers[i] = peers[0];
        peers[i].from_port = (uint16_t)(peers[0].from_port + i);
        peers[i].sequence--;
        peer_open(&peers[i], listener);
      }
      CHECK_EQUAL(abi_tcp_accepted(peers[i].handle), 0);
    }
    for (int i = 0; i < PEERS; i++) {
      while (tcp_put(peers[i].handle, sent, 65536) > 0) {
      }
    }
    host_poll();
    memcpy(quoted, frame_next().bytes, 1500);
    frames_forget();
    allocations_left = INT32_MAX;
    int64_t all = 0, most = 0;
    for (uint32_t mtu = 1499; mtu >= 1280; mtu--) {
      int64_t before = allocations_left;
      packet_too_big(quoted, 1224, mtu);
      if (batch == 0 && mtu > 1280) {
        continue;
      }
      do {
        host_poll_once(0);
        all += before - allocations_left;
        most = LWIP_MAX(most, before - allocations_left);
        before = allocations_left;
      } while ((tw_control[ABI_CONTROL_MORE] & ABI_MORE_NOW) != 0);
      frames_forget();
    }
    allocations_left = -1;
    CHECK(most <= 2 * CUTS_OF_A_POLL + 1000);
    CHECK(all <= PEERS * 2 * CONNECTION_QUEUE);
    for (int i = 0; i < PEERS; i++) {
      CHECK_EQUAL(abi_tcp_information(peers[i].handle), 0);
      CHECK_EQUAL(tw_scratch.information.segment_size, 1220);
      CHECK_EQUAL(abi_tcp_abort(peers[i].handle), 0);
    }
    host_poll();
    frames_forget();
    close_interface();
  }
}

/* RFC 7739: a receiver can predict neither the next identification, nor how many packets others received. */
static void identifications_are_unpredictable(void) {
  static const uint8_t others[2][4] = {{10, 0, 0, 7}, {10, 0, 0, 8}};
  static uint8_t data[3000];
  uint32_t ids4[2][3], ids6[3];
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  int32_t udp = udp_socket_open(ABI_FAMILY_ANY, NULL, 5000);
  for (int i = 0; i < 3; i++) {
    for (int to = 0; to < 2; to++) {
      CHECK(udp_put(udp, ABI_FAMILY_IPV4, others[to], 9, data, 10) >= 0);
      host_poll();
      ids4[to][i] = get16(frame_next().bytes + 4);
    }
    CHECK(udp_put(udp, ABI_FAMILY_IPV6, PEER6, 9, data, sizeof data) >= 0);
    host_poll();
    ids6[i] = get32(frame_next().bytes + 44);
    frames_forget();
  }
  for (int to = 0; to < 2; to++) {
    CHECK_EQUAL((uint16_t)(ids4[to][1] - ids4[to][0]), 1);
    CHECK_EQUAL((uint16_t)(ids4[to][2] - ids4[to][1]), 1);
    CHECK(ids4[to][0] > 3);
  }
  CHECK((uint16_t)(ids4[0][0] - ids4[1][0] + 10) > 20);
  CHECK(ids6[1] - ids6[0] + 1000 > 2000 && ids6[2] - ids6[1] != ids6[1] - ids6[0]);
  CHECK_EQUAL(abi_udp_close(udp), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

int main(void) {
  host_start();
  RUN(large_writes_adapt_to_a_narrow_link);
  RUN(large_writes_adapt_to_a_lossy_narrow_link);
  RUN(small_writes_adapt_to_a_lossy_narrow_link);
  RUN(odd_writes_adapt_to_a_lossy_narrow_link);
  RUN(large_writes_adapt_without_memory);
  RUN(an_answer_at_once_waits_for_the_division);
  RUN(all_connections_on_the_path_adapt);
  RUN(forged_messages_are_ignored);
  RUN(a_path_narrowed_byte_by_byte_keeps_the_queue_bounded);
  RUN(division_of_many_queues_is_bounded_per_poll);
  RUN(identifications_are_unpredictable);
  return 0;
}
