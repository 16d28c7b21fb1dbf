/* The work of one call and of one poll is bounded, whatever peers and programs do: counted in segments, frames, events and
   allocations, and by no clock. */
#include "support.h"
#include "abi/work.h"
#include "tcp/connection.h"
#include "tcp/tcp_early.h"
#include "tcp/tcp_output.h"

#include "lwip/stats.h"

#include <string.h>

/* CALL: segments that one call builds at most, 128 of 48 bytes; with timestamps each of them has 36. */
enum { WRITE = 65536, MANY = 2500, CALL = 128 * 48 / 36 + 1 };

static int32_t interface, listener;
static uint8_t stream[WRITE];
static struct peer peers[MANY];

static void open_interface(void) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 255);
}

static void open_peers(int count, uint16_t window, const void *options, uint32_t length) {
  for (int i = 0; i < count; i++) {
    peers[i] = peer_new(interface, ABI_FAMILY_IPV4, 80);
    peers[i].from_port = (uint16_t)(1024 + i);
    peers[i].window = window;
    if (length > 0) {
      peer_option(&peers[i], options, length);
    }
    peer_open(&peers[i], listener);
    CHECK_EQUAL(abi_tcp_accepted(peers[i].handle), 0);
  }
}

static void close_all(int count) {
  for (int i = 0; i < count; i++) {
    CHECK_EQUAL(abi_tcp_abort(peers[i].handle), 0);
  }
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static int64_t allocations(void) { return INT32_MAX - allocations_left; }

static bool more_now(void) { return (tw_control[ABI_CONTROL_MORE] & ABI_MORE_NOW) != 0; }

/* Programs write 64 KiB each, continue when WRITABLE is reported, and write again and again; the peers are silent. The segments
   that a call builds are bounded, and nothing is built that is not queued. */
static void segments_of_one_call_are_bounded(void) {
  static const uint8_t mss_1[] = {2, 4, 0, 1}, mss_1460[] = {2, 4, 5, 0xb4};
  static const uint8_t mss_12_timestamps[] = {2, 4, 0, 12, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0};
  static const struct {
    uint16_t window;
    const uint8_t *options;
    uint32_t length;
  } kinds[] = {{65535, mss_1, 4}, {2, mss_1460, 4}, {65535, mss_12_timestamps, 16}};
  enum { PEERS = 50 };
  static uint32_t written[PEERS];
  for (unsigned kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
    open_interface();
    open_peers(PEERS, kinds[kind].window, kinds[kind].options, kinds[kind].length);
    memset(written, 0, sizeof written);
    allocations_left = INT32_MAX;
    bool may[PEERS];
    memset(may, true, sizeof may);
    uint32_t calls = 0;
    for (int polls = 0; polls < 400; polls++) { /* ten seconds */
      for (int i = 0; i < PEERS; i++) {
        if (!may[i]) {
          continue;
        }
        int64_t before = allocations();
        uint32_t left = WRITE - written[i] % WRITE;
        int32_t taken = tcp_put_at(host_clock(), peers[i].handle, stream + WRITE - left, (int32_t)left);
        CHECK(taken >= 0);
        written[i] += (uint32_t)taken;
        may[i] = tw_control[ABI_CONTROL_SEND_FULL] == 0;
        CHECK(allocations() - before <= 2 * CALL + 8);
        calls++;
      }
      int64_t before = allocations();
      host_poll_once(25 * MILLISECOND);
      CHECK(allocations() - before <= 8 * PEERS);
      uint32_t reports = 0;
      for (struct event event; (event = event_next()).kind != 0;) {
        if (event.kind == ABI_EVENT_WRITABLE) {
          for (int i = 0; i < PEERS; i++) {
            may[i] |= peers[i].handle == event.handle;
          }
          reports++;
        }
      }
      CHECK(reports <= WORK_REPORTS / 4);
      frames_forget();
    }
    for (int i = 0; i < PEERS; i++) {
      CHECK(written[i] >= WRITE / 2 && written[i] <= 262144);
    }
    /* Each call has queued data, but for the last one of a connection: none takes nothing. */
    CHECK(calls <= PEERS * (CONNECTION_QUEUE / 128 + 2));
    allocations_left = -1;
    close_all(PEERS);
    host_expect_clean();
  }
}

/* A write of which the queue takes a part: what arrives is the stream, and the rest is taken when there is room. */
static void a_write_that_is_taken_in_part_continues(void) {
  static const uint8_t mss_1[] = {2, 4, 0, 1};
  open_interface();
  open_peers(1, 65535, mss_1, sizeof mss_1);
  struct peer *peer = &peers[0];
  uint32_t written = 0, length = 0;
  bool may = true;
  for (int polls = 0; length < 5 * WRITE; polls++) {
    CHECK(polls < 20000);
    while (may && written < 5 * WRITE) {
      uint32_t at = written % WRITE;
      written += (uint32_t)tcp_put(peer->handle, stream + at, (int32_t)(WRITE - at));
      may = tw_control[ABI_CONTROL_SEND_FULL] == 0;
    }
    host_poll_once(5 * MILLISECOND);
    may |= event_next().kind == ABI_EVENT_WRITABLE;
    struct segment segment;
    while ((segment = peer_peek(peer)).flags != 0) {
      CHECK_EQUAL(segment.flags & RST, 0);
      if (segment.sequence == peer->acknowledgement) {
        for (uint32_t i = 0; i < segment.length; i++, length++) {
          CHECK_EQUAL(segment.data[i], stream[length % WRITE]);
        }
        peer->acknowledgement += segment.length;
      }
    }
    if (polls % 8 == 7) { /* the queue fills up in between */
      peer_send(peer, ACK, NULL, 0);
    }
  }
  CHECK_EQUAL(length, written);
  close_all(1);
}

/* All connections retransmit in the same tick: each does, once, and no single poll does it for all of them. */
static void a_tick_is_spread_over_several_polls(void) {
  open_interface();
  open_peers(MANY, 65535, NULL, 0);
  for (int i = 0; i < MANY; i++) {
    CHECK_EQUAL(tcp_put(peers[i].handle, "?", 1), 1);
  }
  uint32_t pauses = 0, most = 0;
  for (int polls = 0; polls < 20 || more_now(); polls++) { /* all first transmissions, within one round-trip time-out */
    uint32_t sent = lwip_stats.tcp.xmit;
    host_poll_once(0);
    most = LWIP_MAX(most, lwip_stats.tcp.xmit - sent);
  }
  CHECK(most <= WORK_SEGMENTS);
  frames_forget();
  uint32_t before = tw_tcp_retransmissions;
  for (int polls = 0; tw_tcp_retransmissions - before < MANY; polls++) {
    CHECK(polls < 400);
    uint32_t sent = lwip_stats.tcp.xmit;
    host_poll_once(pauses % 2 ? 0 : 5 * MILLISECOND);
    CHECK(lwip_stats.tcp.xmit - sent <= WORK_SEGMENTS + 16);
    if (tcp_timer_paused) {
      CHECK(more_now());
      pauses++;
    }
  }
  CHECK(pauses >= 1);
  CHECK_EQUAL(tw_tcp_retransmissions - before, MANY);
  static uint8_t seen[65536];
  memset(seen, 0, sizeof seen);
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    if (segment_parse(&segment, frame.bytes, frame.length)) {
      CHECK_EQUAL(seen[segment.to_port]++, 0);
    }
  }
  for (int i = 0; i < MANY; i++) {
    CHECK_EQUAL(seen[peers[i].from_port], 1);
  }
  close_all(MANY);
}

/* Resets end all of them: the events are reported by several polls, and none is lost. */
static void events_are_spread_over_several_polls(void) {
  enum { PEERS = 500 };
  open_interface();
  open_peers(PEERS, 65535, NULL, 0);
  for (int i = 0; i < PEERS; i++) {
    peer_send(&peers[i], RST, NULL, 0);
  }
  uint32_t ended = 0;
  for (int polls = 0; polls == 0 || more_now(); polls++) {
    uint32_t reports = 0;
    host_poll_once(0);
    for (struct event event; (event = event_next()).kind != 0; reports++) {
      CHECK_EQUAL(event.kind, ABI_EVENT_CLOSED);
      CHECK_EQUAL(event.value, -ABI_ERROR_RESET);
    }
    CHECK(reports <= WORK_REPORTS);
    ended += reports;
  }
  CHECK_EQUAL(ended, PEERS);
  CHECK_EQUAL(tw_tcp_connections(), 0);
  for (int i = 0; i < PEERS; i++) {
    CHECK_EQUAL(abi_tcp_close(peers[i].handle), 0);
  }
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* One interface receives as much as its buffer holds, again and again; a frame of another one is processed by the next poll. */
static void one_interface_does_not_starve_another(void) {
  open_interface();
  int32_t other = interface_open(ABI_KIND_TUN, 1500);
  int32_t flooded = interface;
  static struct packet packet, ping;
  struct segment segment = {
      .family = ABI_FAMILY_IPV4,
      .from = PEER4,
      .to = HOST4,
      .from_port = 9,
      .to_port = 80,
      .flags = FIN,
  };
  packet_tcp(&packet, &segment);
  packet_icmp_echo(&ping, ABI_FAMILY_IPV4, "now", 3);
  const uint32_t *words[] = {interface_words(flooded), interface_words(other)};
  for (int round = 0; round < 4; round++) {
    while (words[0][ABI_BLOCK_RECEIVE_LENGTH] + ABI_RECORD_HEADER_SIZE + packet.length + 3 <= ABI_RECEIVE_CAPACITY) {
      interface_receive(flooded, packet.bytes, packet.length);
    }
    interface_receive(other, ping.bytes, ping.length);
    for (int polls = 0; polls < 2 || more_now(); polls++) {
      uint32_t before = words[0][ABI_BLOCK_RECEIVED_FRAMES] + words[1][ABI_BLOCK_RECEIVED_FRAMES];
      host_poll_once(0);
      CHECK(words[0][ABI_BLOCK_RECEIVED_FRAMES] + words[1][ABI_BLOCK_RECEIVED_FRAMES] - before <= WORK_FRAMES / WORK_INPUT + 1);
      CHECK(polls == 0 || words[1][ABI_BLOCK_RECEIVE_LENGTH] == 0);
    }
    CHECK_EQUAL(words[0][ABI_BLOCK_RECEIVE_LENGTH], 0);
    frames_forget();
  }
  CHECK_EQUAL(abi_interface_remove(other), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* Peers send every other byte of their streams, the last one first, so that each segment is queued behind nearly all others
   (CVE-2018-5390 of Linux): gaps are bounded, memory too, and a walk over the gaps counts as work. */
static void out_of_order_segments_of_one_byte_are_bounded(void) {
  enum { PEERS = 20, EARLY = 1200, MOST = 1024 };
  static struct packet packet;
  open_interface();
  open_peers(PEERS, 65535, NULL, 0);
  uint32_t *words = interface_words(interface), number = 0, most = 0;
  while (number < PEERS * EARLY || more_now()) {
    while (number < PEERS * EARLY && words[ABI_BLOCK_RECEIVE_LENGTH] + 100 <= ABI_RECEIVE_CAPACITY) {
      struct peer *peer = &peers[number % PEERS];
      struct segment segment = {
          .family = ABI_FAMILY_IPV4,
          .from = PEER4,
          .to = HOST4,
          .from_port = peer->from_port,
          .to_port = 80,
          .flags = ACK,
          .window = 65535,
          .sequence = peer->sequence + 1 + 2 * (number < PEERS ? EARLY : number / PEERS),
          .acknowledgement = peer->acknowledgement,
          .data = stream,
          .length = 1,
      };
      packet_tcp(&packet, &segment);
      interface_receive(interface, packet.bytes, packet.length);
      number++;
    }
    uint32_t before = words[ABI_BLOCK_RECEIVED_FRAMES];
    host_poll_once(0);
    if (number >= PEERS * EARLY / 2) { /* the queues are full */
      most = LWIP_MAX(most, words[ABI_BLOCK_RECEIVED_FRAMES] - before);
    }
    frames_forget();
  }
  CHECK(most > 0 && most <= 512);
  for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    uint32_t bytes = tw_early_bytes(pcb);
    CHECK(bytes > MOST * 2 && bytes % MOST == 0 && bytes < pcb->rcv_wnd * 3 / 2);
  }
  close_all(PEERS);
}

/* Connections that wait for their time-out, all at once or for most of an hour: ticks that only count are made up for together,
   and the time-out comes when it would have come tick by tick. */
static void idle_ticks_are_skipped_in_one_poll(void) {
  static int64_t due[2][16];
  for (int jump = 0; jump < 2; jump++) {
    open_interface();
    open_peers(1, 65535, NULL, 0);
    CHECK_EQUAL(tcp_put(peers[0].handle, "?", 1), 1);
    host_poll();
    frames_forget();
    int64_t passed = 0;
    for (int time = 0; time < 10; time++) {
      struct segment segment;
      while ((segment = peer_peek(&peers[0])).flags == 0) {
        int64_t wait = jump ? LWIP_MAX(host_deadline() - (int64_t)tw_now, 5 * MILLISECOND) : 5 * MILLISECOND;
        host_poll_once(wait);
        passed += wait;
      }
      due[jump][time] = passed;
    }
    close_all(1);
    host_expect_clean();
  }
  for (int time = 0; time < 10; time++) {
    int64_t difference = due[0][time] - due[1][time];
    CHECK(difference > -50 * MILLISECOND && difference < 50 * MILLISECOND);
  }
}

int main(void) {
  pattern_fill(stream, WRITE, 0);
  host_start();
  host_reserve_handles(MANY + 8);
  RUN(segments_of_one_call_are_bounded);
  RUN(a_write_that_is_taken_in_part_continues);
  RUN(a_tick_is_spread_over_several_polls);
  RUN(events_are_spread_over_several_polls);
  RUN(one_interface_does_not_starve_another);
  RUN(out_of_order_segments_of_one_byte_are_bounded);
  RUN(idle_ticks_are_skipped_in_one_poll);
  return 0;
}
