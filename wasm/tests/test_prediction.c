/* The receive fast path (src/tcp/tcp_receive.c) must do what lwIP's input does. Two peers send the same segments to the same
   stack: one as they are; the other in packets with an IPv4 option or an IPv6 extension header without effect, which keep its
   segments from the fast path. After each batch both connections must be equal: stream, answers and control block. */
#include "support.h"
#include "abi/handles.h"
#include "tcp/connection.h"
#include "tcp/tcp_early.h"

#include <string.h>

enum { STREAM = 1 << 20, RUNS = 150, STEPS = 120, MOST_SEGMENTS = 4096 };

static uint8_t stream[STREAM];
static int32_t interface, listener;

struct side {
  struct peer peer;
  uint32_t read; /* bytes of the stream that the stack has delivered */
  bool ended, eof;
  uint32_t first; /* the initial sequence number of the stack */
};

static struct side plain, disguised;
static bool timestamps;
static uint32_t clock_of_peer, sent;

static uint32_t below(uint32_t bound) { return random_next() % bound; }

static bool one_in(uint32_t count) { return below(count) == 0; }

/* Keeps the same segment from the receive fast path. */
static void bypass_fast_path(struct packet *packet) {
  uint8_t *bytes = packet->bytes;
  if (bytes[0] >> 4 == 4) {
    memmove(bytes + 24, bytes + 20, packet->length - 20);
    memset(bytes + 20, 1, 4);
    bytes[0] = 0x46;
    put16(bytes + 2, get16(bytes + 2) + 4);
    put16(bytes + 10, 0);
    put16(bytes + 10, (uint16_t)~reference_checksum(bytes, 24, 0));
    packet->length += 4;
  } else {
    static const uint8_t padding[8] = {PROTOCOL_TCP, 0, 1, 4};
    memmove(bytes + 48, bytes + 40, packet->length - 40);
    memcpy(bytes + 40, padding, sizeof padding);
    bytes[6] = 60;
    put16(bytes + 4, get16(bytes + 4) + 8);
    packet->length += 8;
  }
}

/* Changes that both peers make to a packet after it was built. */
struct damage {
  uint32_t flip, bit, padding, cut;
  bool header;
};

static void give(struct side *side, const struct segment *model, uint32_t acknowledged, const struct damage *damage) {
  static struct packet packet;
  struct segment segment = *model;
  segment.from_port = side->peer.from_port;
  segment.acknowledgement = side->first + 1 + acknowledged;
  packet_tcp(&packet, &segment);
  uint32_t tcp = packet.length - 20 - ((segment.options_length + 3) & ~3u) - segment.length;
  uint32_t end = packet.length;
  if (damage->flip != 0) { /* after the checksums were computed: both must detect it */
    packet.bytes[tcp + damage->flip % (end - tcp)] ^= (uint8_t)(1 << damage->bit);
  }
  if (side == &disguised) {
    bypass_fast_path(&packet);
  }
  if (damage->header && segment.family == ABI_FAMILY_IPV4) {
    packet.bytes[10] ^= 1;
  }
  memset(packet.bytes + packet.length, 0xee, damage->padding);
  packet.length += damage->padding;
  packet.length -= damage->cut;
  interface_receive(interface, packet.bytes, packet.length);
}

/* The options of a segment: mostly those of RFC 7323, appendix A; sometimes others, in another order, or random bytes. */
static uint32_t choose_options(uint8_t *options) {
  static const uint8_t sack[] = {1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9}, nonsense[] = {8, 10, 1, 1}, lone[] = {1, 1, 1, 1};
  if (!timestamps) {
    if (one_in(12)) {
      memcpy(options, lone, 4);
      return 4;
    }
    return 0;
  }
  if (one_in(15)) {
    return 0;
  }
  uint8_t proper[] = {1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0};
  clock_of_peer += below(3);
  put32(proper + 4, one_in(10) ? clock_of_peer - below(1000) : clock_of_peer);
  put32(proper + 8, below(100));
  if (one_in(15)) { /* as valid, at another offset */
    memcpy(options, proper + 2, 10);
    options[10] = options[11] = 1;
    return 12;
  }
  memcpy(options, proper, sizeof proper);
  if (one_in(15)) {
    memcpy(options + 12, sack, sizeof sack);
    return 24;
  }
  if (one_in(30)) {
    memcpy(options, nonsense, sizeof nonsense);
  }
  return 12;
}

static struct tcp_pcb *pcb_of(const struct side *side) {
  struct connection *connection = tw_handle_object(side->peer.handle, HANDLE_CONNECTION);
  return connection == NULL ? NULL : connection->pcb;
}

static void step(void) {
  uint8_t options[40];
  const struct tcp_pcb *pcb = pcb_of(&plain);
  uint32_t window = pcb == NULL ? 1000 : (uint32_t)pcb->rcv_wnd;
  uint32_t length = one_in(10) ? 0 : one_in(20) ? window + below(3) - 1 : 1 + below(one_in(3) ? 1440 : 200);
  length = LWIP_MIN(length, 30000u);
  int32_t offset = one_in(8) ? -(int32_t)below(3000) : one_in(10) ? (int32_t)below(3000) : 0;
  offset = LWIP_MAX(offset, -(int32_t)sent);
  if (sent + (uint32_t)offset + length > STREAM) {
    return;
  }
  uint32_t answered = pcb == NULL ? 0 : pcb->lastack - plain.first - 1, flying = pcb == NULL ? 0 : pcb->snd_nxt - pcb->lastack;
  uint32_t acknowledged = one_in(3) ? answered + below(flying + 1) : answered;
  acknowledged = one_in(60) ? acknowledged - below(2000) : one_in(100) ? answered + flying + 1 + below(2000) : acknowledged;
  struct segment segment = plain.peer.family == ABI_FAMILY_IPV4
                               ? (struct segment){.family = ABI_FAMILY_IPV4, .from = PEER4, .to = HOST4}
                               : (struct segment){.family = ABI_FAMILY_IPV6, .from = PEER6, .to = HOST6};
  plain.peer.window = disguised.peer.window = (uint16_t)(one_in(25)   ? below(65536)
                                                         : one_in(60) ? 0
                                                         : one_in(10) ? 40000
                                                                      : plain.peer.window);
  segment.to_port = 80;
  segment.window = plain.peer.window;
  segment.sequence = plain.peer.sequence + sent + (uint32_t)offset;
  segment.flags = ACK | (one_in(2) ? PSH : 0) | (one_in(60) ? 0x20 : 0) | (one_in(40) ? 0x40 : 0) | (one_in(40) ? 0x80 : 0) |
                  (one_in(200) ? FIN : 0) | (one_in(400) ? SYN : 0) | (one_in(900) ? RST : 0);
  segment.flags &= one_in(100) ? ~(uint32_t)ACK : ~0u;
  segment.urgent = (uint16_t)(segment.flags & 0x20 ? below(2000) : 0);
  segment.options_length = choose_options(options);
  segment.options = options;
  segment.data = stream + sent + offset;
  segment.length = length;
  struct damage damage = {0};
  if (one_in(25)) {
    damage = (struct damage){.flip = one_in(2) ? below(100000) : 0,
                             .bit = below(8),
                             .padding = one_in(2) ? 1 + below(40) : 0,
                             .cut = one_in(4) && length > 8 ? 1 + below(8) : 0,
                             .header = one_in(4)};
  }
  give(&plain, &segment, acknowledged, &damage);
  give(&disguised, &segment, acknowledged, &damage);
  if (offset >= 0 ? one_in(3) && offset < 2000 : (uint32_t)-offset < length) {
    sent += one_in(20) ? 0 : (uint32_t)offset + length; /* sometimes it is sent again */
  } else if (offset == 0) {
    sent += one_in(20) ? 0 : length;
  }
}

/* A peer that continues after whatever the segment before has left out. */
static void resume(void) {
  const struct tcp_pcb *pcb = pcb_of(&plain);
  if (pcb != NULL) {
    sent = LWIP_MIN(pcb->rcv_nxt - plain.peer.sequence, (uint32_t)STREAM);
  }
}

static void take_events(void) {
  for (struct event event; (event = event_next()).kind != 0;) {
    struct side *side = event.handle == plain.peer.handle ? &plain : &disguised;
    CHECK_EQUAL(event.handle, side->peer.handle);
    if (event.kind == ABI_EVENT_DATA) {
      CHECK(memcmp(event.payload, stream + side->read, event.length) == 0);
      side->read += event.length;
    } else if (event.kind == ABI_EVENT_EOF) {
      side->eof = true;
    } else if (event.kind == ABI_EVENT_CLOSED) {
      side->ended = true;
    } else {
      CHECK_EQUAL(event.kind, ABI_EVENT_WRITABLE);
    }
  }
  CHECK_EQUAL(plain.read, disguised.read);
  CHECK_EQUAL(plain.eof, disguised.eof);
  CHECK_EQUAL(plain.ended, disguised.ended);
}

/* What the stack answers, connection by connection and segment by segment. */
static void compare_answers(void) {
  static uint32_t answers[2][MOST_SEGMENTS][8];
  uint32_t counts[2] = {0};
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    if (!segment_parse(&segment, frame.bytes, frame.length)) {
      continue;
    }
    int at = segment.to_port == plain.peer.from_port ? 0 : 1;
    const struct side *side = at == 0 ? &plain : &disguised;
    CHECK_EQUAL(segment.to_port, side->peer.from_port);
    CHECK(counts[at] < MOST_SEGMENTS);
    uint32_t *answer = answers[at][counts[at]++];
    answer[0] = segment.sequence - side->first;
    answer[1] = segment.acknowledgement;
    answer[2] = segment.flags;
    answer[3] = segment.window;
    answer[4] = segment.length;
    answer[5] = segment.options_length;
    answer[6] = reference_checksum(segment.options, segment.options_length, 0);
    answer[7] = reference_checksum(segment.data, segment.length, 0);
  }
  CHECK_EQUAL(counts[0], counts[1]);
  for (uint32_t i = 0; i < counts[0]; i++) {
    for (int field = 0; field < 8; field++) {
      CHECK_EQUAL(answers[0][i][field], answers[1][i][field]);
    }
  }
}

/* What is queued, by its blocks. */
static uint32_t early(const struct side *side) {
  const struct tcp_pcb *pcb = pcb_of(side);
  uint32_t sum = tw_early_bytes(pcb);
  for (uint32_t i = 0; i < LWIP_TCP_MAX_SACK_NUM && LWIP_TCP_SACK_VALID(pcb, i); i++) {
    sum = (sum * 31 + pcb->rcv_sacks[i].left) * 31 + pcb->rcv_sacks[i].right;
  }
  return sum;
}

static void compare_control_blocks(void) {
  const struct tcp_pcb *a = pcb_of(&plain), *b = pcb_of(&disguised);
  CHECK_EQUAL(a == NULL, b == NULL);
  if (a == NULL || b == NULL) {
    return;
  }
  const struct connection *mine = tw_connection_of(a), *theirs = tw_connection_of(b);
#define SAME(field) CHECK_EQUAL(a->field, b->field)
#define SAME_SEQUENCE(field) CHECK_EQUAL(a->field - plain.first, b->field - disguised.first)
  SAME(state), SAME(flags), SAME(tmr), SAME(polltmr), SAME(rcv_nxt), SAME(rcv_wnd), SAME(rcv_ann_wnd);
  SAME(rcv_ann_right_edge), SAME(rtime), SAME(mss), SAME(rto), SAME(nrtx);
  SAME(cwnd), SAME(ssthresh), SAME(snd_wl1), SAME(snd_wnd), SAME(snd_wnd_max), SAME(snd_buf), SAME(snd_queuelen);
  SAME(bytes_acked), SAME(ts_lastacksent), SAME(ts_recent), SAME(persist_cnt), SAME(persist_backoff), SAME(persist_probe);
  SAME(keep_cnt_sent);
  SAME_SEQUENCE(lastack), SAME_SEQUENCE(snd_nxt), SAME_SEQUENCE(snd_wl2), SAME_SEQUENCE(snd_lbb);
  CHECK_EQUAL(early(&plain), early(&disguised));
  CHECK_EQUAL(mine->unread, theirs->unread);
  CHECK_EQUAL(mine->withheld, theirs->withheld);
  CHECK_EQUAL(mine->window_edge, theirs->window_edge);
  CHECK_EQUAL(mine->window_opened, theirs->window_opened);
  CHECK_EQUAL(mine->round_trip, theirs->round_trip);
  CHECK_EQUAL(mine->variation, theirs->variation);
  CHECK_EQUAL(mine->flags, theirs->flags);
}

static void open_side(struct side *side, int32_t family, uint16_t port) {
  static const uint8_t scale[] = {2, 4, 5, 0xb4, 1, 3, 3, 2}, stamp[] = {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0};
  *side = (struct side){.peer = peer_new(interface, family, 80)};
  side->peer.from_port = port;
  peer_option(&side->peer, scale, sizeof scale);
  if (timestamps) {
    peer_option(&side->peer, stamp, sizeof stamp);
  }
  peer_open(&side->peer, listener);
  side->first = side->peer.start;
}

static void application(void) {
  static const uint8_t answer[5000] = "data of the stack";
  if (plain.ended || plain.peer.handle == 0) {
    return;
  }
  const struct connection *connection = tw_handle_object(plain.peer.handle, HANDLE_CONNECTION);
  double time = host_clock_or_none();
  if (!one_in(4) && connection->unread > 0) {
    int32_t length = (int32_t)(one_in(2) ? connection->unread : 1 + below(connection->unread));
    CHECK_EQUAL(abi_tcp_received(time, plain.peer.handle, length), abi_tcp_received(time, disguised.peer.handle, length));
  }
  if (one_in(4)) {
    int32_t length = (int32_t)(1 + below(sizeof answer));
    CHECK_EQUAL(tcp_put_at(time, plain.peer.handle, answer, length), tcp_put_at(time, disguised.peer.handle, answer, length));
  }
  if (one_in(400)) {
    CHECK_EQUAL(abi_tcp_shutdown(plain.peer.handle), abi_tcp_shutdown(disguised.peer.handle));
  }
}

static void run(int32_t family, bool with_timestamps) {
  pattern_fill(stream, STREAM, 0);
  timestamps = with_timestamps;
  uint32_t received = 0;
  for (uint32_t number = 0; number < RUNS; number++) {
    random_restart(number + 1);
    interface = interface_open(ABI_KIND_TUN, 1500);
    CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
    CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
    listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
    clock_of_peer = 1;
    sent = 0;
    open_side(&plain, family, 40000);
    open_side(&disguised, family, 40001);
    CHECK_EQUAL(plain.peer.sequence, disguised.peer.sequence);
    for (int round = 0; round < STEPS && !plain.ended; round++) {
      for (uint32_t count = below(5); count > 0; count--) {
        step();
      }
      if (one_in(10)) {
        host_advance((int64_t)below(400) * MILLISECOND);
      } else {
        host_poll_once(below(3000));
      }
      take_events();
      compare_answers();
      compare_control_blocks();
      application();
      if (one_in(5)) {
        resume();
      }
    }
    received += plain.read;
    CHECK_EQUAL(abi_tcp_abort(plain.peer.handle), 0);
    CHECK_EQUAL(abi_tcp_abort(disguised.peer.handle), 0);
    CHECK_EQUAL(abi_tcp_close(listener), 0);
    frames_forget();
    CHECK_EQUAL(abi_interface_remove(interface), 0);
  }
  CHECK(received > RUNS * 10000); /* else too few segments were valid for the test to show anything */
}

static void fast_path_equals_lwip_over_ipv4(void) { run(ABI_FAMILY_IPV4, false); }

static void fast_path_equals_lwip_over_ipv4_with_timestamps(void) { run(ABI_FAMILY_IPV4, true); }

static void fast_path_equals_lwip_over_ipv6(void) { run(ABI_FAMILY_IPV6, false); }

static void fast_path_equals_lwip_over_ipv6_with_timestamps(void) { run(ABI_FAMILY_IPV6, true); }

int main(void) {
  host_start();
  host_reserve_handles(64);
  RUN(fast_path_equals_lwip_over_ipv4);
  RUN(fast_path_equals_lwip_over_ipv4_with_timestamps);
  RUN(fast_path_equals_lwip_over_ipv6);
  RUN(fast_path_equals_lwip_over_ipv6_with_timestamps);
  return 0;
}
