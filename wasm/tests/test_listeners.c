/* Listeners that are attacked: forged SYNs, acknowledgements and resets, and what their effect on legitimate peers is. */
#include "support.h"
#include "port/heap.h"
#include "tcp/connection.h"
#include "tcp/tcp_listen.h"
#include "tcp/tcp_lookup.h"

#include <string.h>

enum { PORT = 80, HALF_OPEN = 256, HALF_OPEN_OF_STACK = 1024, HALF_OPEN_BYTES = 1200 };

static int32_t interface, listener;
static struct packet packet;
static uint8_t forged6[16] = {0xfd, [11] = 1};

static const uint8_t NO_TIMESTAMPS[] = {2, 4, 0x05, 0xb4, 1, 3, 3, 7, 4, 2, 1, 1}; /* 1,460 bytes, scale 7, SACK */

static void open_interface(int32_t backlog) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 8), 0);
  CHECK_EQUAL(interface_set_ipv6(interface, HOST6), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, PORT, backlog);
  CHECK(listener > 0);
  host_poll();
  frames_forget();
}

static void close_interface(void) {
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  host_advance(30 * SECOND); /* half-open connections of a listener that is gone end by themselves */
  frames_forget();
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static uint32_t heap_in_use(void) {
  abi_statistics();
  return tw_heap_used();
}

/* A segment from a source that never answers. */
static void forge(int32_t family, uint16_t port, uint32_t flags, uint32_t sequence, uint32_t acknowledgement) {
  uint8_t source4[4] = {10, (uint8_t)(1 + random_next() % 200), (uint8_t)random_next(), (uint8_t)random_next()};
  put32(forged6 + 12, random_next());
  struct segment segment = {
      .family = family,
      .from = family == ABI_FAMILY_IPV4 ? source4 : forged6,
      .to = family == ABI_FAMILY_IPV4 ? HOST4 : HOST6,
      .from_port = (uint16_t)(1024 + random_next() % 30000),
      .to_port = port,
      .window = 65535,
      .flags = flags,
      .sequence = sequence,
      .acknowledgement = acknowledgement,
      .options = NO_TIMESTAMPS,
      .options_length = flags & SYN ? sizeof NO_TIMESTAMPS : 0,
  };
  packet_tcp(&packet, &segment);
  interface_receive(interface, packet.bytes, packet.length);
}

static void flood(int32_t family, uint16_t port, int count) {
  for (int i = 0; i < count; i++) {
    forge(family, port, SYN, random_next(), 0);
    if (i % 100 == 99) {
      host_poll();
      frames_forget();
    }
  }
  host_poll();
  frames_forget();
}

/* --- A peer with timestamps ------------------------------------------------------------------------------------------- */

struct honest {
  struct peer peer;
  uint32_t echo; /* the timestamp of the host's SYN */
  uint8_t options[40];
  uint32_t options_length; /* of the answer to its SYN */
};

static struct honest honest_new(int32_t family, uint16_t port) {
  struct honest honest = {.peer = peer_new(interface, family, PORT)};
  static const uint8_t timestamps[] = {8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1};
  honest.peer.from_port = port;
  peer_option(&honest.peer, NO_TIMESTAMPS, sizeof NO_TIMESTAMPS);
  peer_option(&honest.peer, timestamps, sizeof timestamps);
  return honest;
}

static const uint8_t *option(const uint8_t *options, uint32_t length, uint8_t kind) {
  for (uint32_t at = 0; at < length && options[at] != 0; at += options[at] == 1 ? 1 : options[at + 1]) {
    if (options[at] == kind) {
      return options + at;
    }
  }
  return NULL;
}

static void honest_answered(struct honest *honest) {
  struct segment segment = peer_expect(&honest->peer, SYN | ACK);
  CHECK_EQUAL(segment.acknowledgement, honest->peer.sequence);
  honest->options_length = segment.options_length;
  memcpy(honest->options, segment.options, segment.options_length);
  const uint8_t *timestamp = option(honest->options, honest->options_length, 8);
  honest->echo = timestamp == NULL ? 0 : get32(timestamp + 2);
}

static void honest_send(struct honest *honest, uint32_t flags, int32_t offset, const void *data, uint32_t length) {
  uint8_t options[12] = {1, 1, 8, 10};
  put32(options + 4, 2);
  put32(options + 8, honest->echo);
  const struct peer *peer = &honest->peer;
  struct segment segment = {
      .family = peer->family,
      .from = peer->from,
      .to = peer->to,
      .from_port = peer->from_port,
      .to_port = peer->to_port,
      .window = 500,
      .sequence = peer->sequence + (uint32_t)offset,
      .acknowledgement = peer->acknowledgement,
      .flags = flags,
      .data = data,
      .length = length,
      .options = options,
      .options_length = honest->echo != 0 ? sizeof options : 0,
  };
  packet_tcp(&packet, &segment);
  interface_receive(interface, packet.bytes, packet.length);
}

static void expect_payload(int32_t handle, const char *text) {
  uint8_t data[64];
  uint32_t length = event_expect_data(handle, data, sizeof data);
  CHECK_EQUAL(length, strlen(text));
  CHECK(memcmp(data, text, length) == 0);
}

/* --- Floods ----------------------------------------------------------------------------------------------------------- */

/* An honest peer, whose segments and answers take half of `trip` each, connects every five seconds. */
static void connects_succeed(int32_t family, int rate, int32_t backlog, int64_t trip) {
  enum { CONNECTS = 24, STEP = 50 * MILLISECOND };
  open_interface(backlog);
  uint32_t before = heap_in_use(), most = 0;
  for (uint16_t connect = 0; connect < CONNECTS; connect++) {
    struct honest honest = honest_new(family, (uint16_t)(40000 + connect));
    int32_t handle = 0;
    bool answered = false;
    int64_t answer_at = LWIP_MAX(trip, STEP);
    for (int64_t time = 0; time < 5 * SECOND; time += STEP) {
      for (int i = 0; i < rate / 20; i++) {
        forge(family, PORT, SYN, random_next(), 0);
      }
      if (time == 0) {
        peer_send(&honest.peer, SYN, NULL, 0);
      }
      if (answered && time == answer_at) {
        honest_send(&honest, ACK, 0, NULL, 0);
        honest_send(&honest, PSH | ACK, 0, "honest", 6);
      }
      host_poll();
      if (!answered) {
        honest_answered(&honest);
        answered = true;
      }
      frames_forget();
      if (answered && time == answer_at) {
        handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
        CHECK_EQUAL(abi_tcp_accepted(handle), 0);
        expect_payload(handle, "honest");
        CHECK_EQUAL(abi_tcp_received(0, handle, 6), 0);
        CHECK_EQUAL(abi_tcp_abort(handle), 0);
      }
      most = LWIP_MAX(most, heap_in_use());
      host_advance(STEP);
    }
    CHECK(handle > 0);
  }
  CHECK(most - before < HALF_OPEN * HALF_OPEN_BYTES + 65536);
  event_expect_none();
  close_interface();
}

static void flooded_over_ipv4(void) {
  connects_succeed(ABI_FAMILY_IPV4, 20, 100, 0);
  connects_succeed(ABI_FAMILY_IPV4, 20, 255, 200 * MILLISECOND);
  connects_succeed(ABI_FAMILY_IPV4, 200, 100, 100 * MILLISECOND);
  connects_succeed(ABI_FAMILY_IPV4, 200, 255, 0);
  connects_succeed(ABI_FAMILY_IPV4, 2000, 100, 200 * MILLISECOND);
}

static void flooded_over_ipv6(void) { connects_succeed(ABI_FAMILY_IPV6, 2000, 255, 200 * MILLISECOND); }

/* A forged SYN gets five answers in all if it is kept, and one if not. */
static void answers_are_bounded(void) {
  open_interface(100);
  uint32_t before = tw_tcp_cookies;
  for (int i = 0; i < 1000; i++) {
    forge(ABI_FAMILY_IPV4, PORT, SYN, random_next(), 0);
  }
  host_poll();
  uint32_t answers = 0;
  for (int i = 0; i < 1200; i++) {
    host_advance(100 * MILLISECOND);
    struct frame frame;
    while ((frame = frame_next()).length != 0) {
      struct segment segment;
      CHECK(segment_parse(&segment, frame.bytes, frame.length));
      CHECK_EQUAL(segment.flags, SYN | ACK);
      answers++;
    }
  }
  CHECK_EQUAL(tw_tcp_cookies - before, 1000 - HALF_OPEN);

  CHECK_EQUAL(answers, 1000 + 4 * HALF_OPEN);
  CHECK(tcp_active_pcbs == NULL);
  close_interface();
}

/* One listener that is flooded takes nothing from others, and several take what is bounded for all of them. */
static void listeners_are_apart(void) {
  open_interface(100);
  uint32_t before = heap_in_use();
  int32_t others[5];
  for (uint16_t i = 0; i < 5; i++) {
    others[i] = tcp_listener(ABI_FAMILY_ANY, NULL, PORT + 1 + i, 100);
    flood(ABI_FAMILY_IPV4, (uint16_t)(PORT + 1 + i), 500);
    CHECK(heap_in_use() - before < (uint32_t)LWIP_MIN((i + 1) * HALF_OPEN, HALF_OPEN_OF_STACK) * HALF_OPEN_BYTES + 65536);
    struct honest honest = honest_new(ABI_FAMILY_IPV4, (uint16_t)(50000 + i));
    uint32_t cookies = tw_tcp_cookies;
    peer_send(&honest.peer, SYN, NULL, 0);
    host_poll();
    honest_answered(&honest);
    CHECK_EQUAL(tw_tcp_cookies - cookies, i >= 3); /* a normal handshake while there is room */
    honest_send(&honest, PSH | ACK, 0, "apart", 5);
    host_poll();
    int32_t handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
    expect_payload(handle, "apart");
    CHECK_EQUAL(abi_tcp_abort(handle), 0);
  }
  for (int i = 0; i < 5; i++) {
    CHECK_EQUAL(abi_tcp_close(others[i]), 0);
  }
  close_interface();
}

/* --- Cookies ---------------------------------------------------------------------------------------------------------- */

static const struct tcp_pcb *newest(void) { return tcp_active_pcbs; }

/* What a peer offers is agreed by a cookie, too, if it has timestamps to carry it; its size is rounded down. */
static void cookies_carry_options(void) {
  open_interface(8);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    flood(family, PORT, 300);
    uint32_t mtu = family == ABI_FAMILY_IPV4 ? 1460 : 1440;
    struct honest honest = honest_new(family, 40001);
    peer_send(&honest.peer, SYN, NULL, 0);
    uint32_t cookies = tw_tcp_cookies;
    host_poll();
    CHECK_EQUAL(tw_tcp_cookies, cookies + 1);
    honest_answered(&honest);
    CHECK_EQUAL(get16(option(honest.options, honest.options_length, 2) + 2), mtu);
    CHECK_EQUAL(option(honest.options, honest.options_length, 3)[2], TCP_RCV_SCALE);
    CHECK(option(honest.options, honest.options_length, 4) != NULL);
    honest_send(&honest, ACK, 0, NULL, 0);
    host_poll();
    int32_t handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
    const struct tcp_pcb *pcb = newest();
    CHECK_EQUAL(pcb->flags & (TF_TIMESTAMP | TF_SACK | TF_WND_SCALE), TF_TIMESTAMP | TF_SACK | TF_WND_SCALE);
    CHECK_EQUAL(pcb->snd_scale, 7);
    CHECK_EQUAL(pcb->snd_wnd, 500 << 7);
    CHECK_EQUAL(pcb->mss, mtu);
    CHECK_EQUAL(pcb->ts_recent, 2);
    CHECK(pcb->cwnd >= 10 * mtu); /* RFC 6928 */
    CHECK_EQUAL(tcp_put(handle, "answer", 6), 6);
    host_poll();
    struct segment segment = peer_expect(&honest.peer, ACK);
    CHECK_EQUAL(segment.length, 6);
    CHECK(segment.window > 2000); /* scaled: 64 KiB and more */
    CHECK((int32_t)(get32(option(segment.options, segment.options_length, 8) + 2) - honest.echo) >= 0);
    CHECK_EQUAL(abi_tcp_abort(handle), 0);
    host_poll();
    frames_forget();
  }
  close_interface();
}

static void cookies_without_timestamps(void) {
  static const struct {
    uint16_t offered, agreed;
  } cases[] = {{0, 536}, {100, 48}, {536, 536}, {1300, 1220}, {1459, 1440}, {1460, 1460}, {9000, 1460}, {65535, 1460}};
  open_interface(8);
  flood(ABI_FAMILY_IPV4, PORT, 300);
  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct honest honest = {.peer = peer_new(interface, ABI_FAMILY_IPV4, PORT)};
    honest.peer.from_port = (uint16_t)(40000 + i);
    uint8_t offer[12];
    memcpy(offer, NO_TIMESTAMPS, sizeof offer);
    put16(offer + 2, cases[i].offered);
    peer_option(&honest.peer, offer + (cases[i].offered == 0 ? 4 : 0), cases[i].offered == 0 ? 8 : 12);
    peer_send(&honest.peer, SYN, NULL, 0);
    host_poll();
    honest_answered(&honest);
    CHECK_EQUAL(honest.options_length, 4); /* its own size, and nothing that it could not remember */
    peer_send(&honest.peer, ACK, NULL, 0);
    host_poll();
    int32_t handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
    CHECK_EQUAL(newest()->mss, cases[i].agreed);
    CHECK_EQUAL(newest()->flags & (TF_TIMESTAMP | TF_SACK | TF_WND_SCALE), 0);
    CHECK_EQUAL(newest()->snd_wnd, 65535);
    CHECK_EQUAL(abi_tcp_abort(handle), 0);
  }
  close_interface();
}

static void expect_reset(struct peer *peer) {
  host_poll();
  CHECK_EQUAL(peer_peek(peer).flags & RST, RST);
  event_expect_none();
}

/* A cookie holds for its two ends and the peer's sequence number, for a minute or two, and while any were sent. */
static void acknowledgements_that_are_forged(void) {
  open_interface(8);
  host_advance(400 * (int64_t)SECOND); /* those of earlier tests are over */
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, PORT);
  for (int i = 0; i < 1000; i++) {
    peer.acknowledgement = random_next();
    peer_send_at(&peer, ACK, 0, NULL, 0);
    expect_reset(&peer);
  }
  flood(ABI_FAMILY_IPV4, PORT, 300);
  for (int i = 0; i < 20000; i++) {
    forge(ABI_FAMILY_IPV4, PORT, ACK, random_next(), random_next());
    if (i % 100 == 99) {
      host_poll();
      frames_forget();
    }
  }
  event_expect_none();
  frames_forget();
  for (int64_t wait = 0; wait <= 140; wait += 70) {
    struct honest honest = honest_new(ABI_FAMILY_IPV4, 40009);
    flood(ABI_FAMILY_IPV4, PORT, 300);
    peer_send(&honest.peer, SYN, NULL, 0);
    host_poll();
    honest_answered(&honest);
    struct honest wrong = honest;
    honest_send(&wrong, ACK, 1, NULL, 0); /* another sequence number */
    expect_reset(&wrong.peer);
    wrong.peer.from_port++;
    honest_send(&wrong, ACK, 0, NULL, 0);
    expect_reset(&wrong.peer);
    wrong = honest;
    wrong.peer.acknowledgement += 8;
    honest_send(&wrong, ACK, 0, NULL, 0);
    expect_reset(&wrong.peer);
    host_advance(wait * SECOND * 95 / 100); /* less than one period, then more than two */
    flood(ABI_FAMILY_IPV4, PORT, 300);
    honest_send(&honest, ACK, 0, NULL, 0);
    if (wait == 140) {
      expect_reset(&honest.peer);
    } else {
      host_poll();
      CHECK_EQUAL(abi_tcp_abort(event_expect(ABI_EVENT_ACCEPTED, listener).value), 0);
    }
    frames_forget();
  }
  close_interface();
}

/* --- Half-open connections -------------------------------------------------------------------------------------------- */

static void half_open_ones_bear_forgeries(void) {
  open_interface(8);
  static const uint8_t scale[] = {3, 3, 9, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 1};
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, PORT);
  peer_send(&peer, SYN, "early data", 10); /* RFC 9293 allows it; it is not taken */
  peer.sequence -= 10;
  host_poll();
  struct frame frame = frame_next();
  static struct packet answer, error;
  memcpy(answer.bytes, frame.bytes, frame.length);
  struct segment segment;
  CHECK(segment_parse(&segment, answer.bytes, frame.length));
  CHECK_EQUAL(segment.acknowledgement, peer.sequence);
  peer.acknowledgement = segment.sequence + 1;
  peer.start = segment.sequence;

  struct peer forged = peer; /* another SYN, which offers what the first did not */
  peer_option(&forged, scale, sizeof scale);
  peer_send_at(&forged, SYN, 5000, NULL, 0);
  peer_send_at(&forged, RST, 5000, NULL, 0);
  peer_send_at(&forged, RST, 70000, NULL, 0);
  forged.acknowledgement += 5;
  peer_send_at(&forged, ACK, 0, NULL, 0);
  for (uint8_t code = 0; code < 4; code++) {
    packet_icmp_error(&error, PEER4, 3, code, answer.bytes, 28);
    interface_receive(interface, error.bytes, error.length);
  }
  host_poll();
  frames_forget();
  event_expect_none();

  peer_send(&peer, ACK, NULL, 0);
  peer_send(&peer, PSH | ACK, "honest", 6);
  host_poll();
  int32_t handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  expect_payload(handle, "honest");
  CHECK_EQUAL(newest()->flags & (TF_TIMESTAMP | TF_SACK | TF_WND_SCALE), 0);
  CHECK_EQUAL(newest()->snd_wnd, 65535);
  CHECK_EQUAL(abi_tcp_abort(handle), 0);
  close_interface();
}

/* A client that uses its port again while our end is in TIME-WAIT gets a new connection. */
static void new_syn_ends_time_wait(void) {
  open_interface(8);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    struct peer peer = peer_new(interface, family, PORT);
    for (int i = 0; i < 3; i++) {
      peer_open(&peer, listener);
      CHECK_EQUAL(abi_tcp_accepted(peer.handle), 0);
      CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
      peer_finish(&peer);
      CHECK_EQUAL(tw_tcp_time_wait_count(), 1);
      struct peer old = peer; /* one that is no newer gets what it got before */
      old.sequence -= 100;
      peer_send_at(&old, SYN, 0, NULL, 0);
      host_poll();
      CHECK_EQUAL(peer_peek(&old).flags, ACK);
      CHECK_EQUAL(tw_tcp_time_wait_count(), 1);
      peer.sequence += i == 0 ? 1 : 0x10000000; /* inside the old window, and far beyond */
    }
    host_advance(70 * (int64_t)SECOND);
    frames_forget();
  }
  close_interface();
}

/* --- The backlog ------------------------------------------------------------------------------------------------------ */

static void answer_all(struct peer *peers, int count) {
  for (int i = 0; i < count; i++) {
    peers[i] = peer_new(interface, ABI_FAMILY_IPV4, PORT);
    peers[i].from_port = (uint16_t)(41000 + i);
    peer_send(&peers[i], SYN, NULL, 0);
  }
  host_poll();
  for (int i = 0; i < count; i++) {
    peer_expect(&peers[i], SYN | ACK);
    peer_send(&peers[i], ACK, NULL, 0);
    peer_send_at(&peers[i], PSH | ACK, 0, "hello", 5);
  }
  host_poll();
  frames_forget();
}

/* Peers whose handshakes ended while the backlog was full get their places in the order in which they came, and nothing that
   they sent meanwhile is lost: they send it again. */
static void waiting_peers_are_accepted_in_order(void) {
  enum { PEERS = 150, BACKLOG = 3 };
  static struct peer peers[PEERS];
  for (int cookies = 0; cookies < 2; cookies++) {
    open_interface(BACKLOG);
    if (cookies) {
      flood(ABI_FAMILY_IPV4, PORT, 300);
    }
    answer_all(peers, PEERS);
    struct peer late = peer_new(interface, ABI_FAMILY_IPV4, PORT);
    late.from_port = 45000;
    uint32_t drops = tw_tcp_backlog_drops;
    peer_send_at(&late, SYN, 0, NULL, 0);
    host_poll();
    peer_expect_silence(&late);
    CHECK_EQUAL(tw_tcp_backlog_drops, drops + 1);
    if (!cookies) {
      host_advance(300 * (int64_t)SECOND); /* nothing is sent to them, and none is given up */
      peer_expect_silence(&peers[100]);
      CHECK_EQUAL(host_deadline(), -1);
    }
    for (int i = 0; i < PEERS; i++) {
      struct event event = event_expect(ABI_EVENT_ACCEPTED, listener);
      uint32_t port;
      memcpy(&port, event.payload + ABI_ENDPOINT_SIZE + 4, 4);
      CHECK_EQUAL(port, peers[i].from_port);
      peers[i].handle = event.value;
      if (i < BACKLOG) {
        expect_payload(peers[i].handle, "hello");
      }
      if (i >= BACKLOG - 1) {
        CHECK_EQUAL(abi_tcp_accepted(peers[i + 1 - BACKLOG].handle), i < PEERS - 1);
        host_poll();
      }
    }
    event_expect_none();
    for (int i = BACKLOG; i < PEERS; i++) {
      peer_send(&peers[i], PSH | ACK, "hello", 5);
      host_poll();
      expect_payload(peers[i].handle, "hello");
    }
    for (int i = 0; i < PEERS; i++) {
      CHECK_EQUAL(abi_tcp_abort(peers[i].handle), 0);
    }
    close_interface();
  }
}

static void waiting_peers_may_leave(void) {
  static struct peer peers[6];
  open_interface(2);
  answer_all(peers, 6);
  peer_send_at(&peers[2], SYN, -1, NULL, 0); /* an old copy of its SYN changes nothing */
  peer_send(&peers[3], RST, NULL, 0);
  host_poll();
  peer_expect_silence(&peers[2]);
  int32_t first = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  expect_payload(first, "hello");
  int32_t second = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  expect_payload(second, "hello");
  event_expect_none();
  CHECK_EQUAL(abi_tcp_abort(first), 0); /* one that is not accepted gives its place back, too */
  host_poll();
  int32_t third = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  CHECK_EQUAL(abi_tcp_accepted(third), 1);
  host_poll();
  int32_t fifth = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  event_expect_none();
  frames_forget();
  CHECK_EQUAL(abi_tcp_close(listener), 0); /* the sixth still waits, and will not be accepted */
  host_poll();
  CHECK_EQUAL(peer_peek(&peers[5]).flags & RST, RST);
  CHECK_EQUAL(abi_tcp_abort(second), 0);
  CHECK_EQUAL(abi_tcp_abort(third), 0);
  CHECK_EQUAL(abi_tcp_abort(fifth), 0);
  frames_forget();
  CHECK(tcp_active_pcbs == NULL);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* A backlog of more than 255. */
static void backlog_of_thousands(void) {
  enum { PEERS = ABI_MAX_BACKLOG };
  CHECK_EQUAL(tcp_listener(ABI_FAMILY_ANY, NULL, PORT, ABI_MAX_BACKLOG + 1), ABI_ERROR_INVALID);
  host_reserve_handles(PEERS + 8);
  open_interface(PEERS);
  static int32_t handles[PEERS];
  for (int i = 0; i <= PEERS; i++) {
    struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, PORT);
    peer.from_port = (uint16_t)(10000 + i);
    if (i < PEERS) {
      peer_open(&peer, listener);
      handles[i] = peer.handle;
    } else {
      peer_send(&peer, SYN, NULL, 0);
      host_poll();
      peer_expect_silence(&peer);
    }
  }
  for (int i = 0; i < PEERS; i++) {
    CHECK_EQUAL(abi_tcp_abort(handles[i]), 0);
    frames_forget();
  }
  host_poll();
  frames_forget();
  close_interface();
}

/* Whatever allocation fails, a poll ends, and nothing leaks. */
static void memory_fails(void) {
  for (int64_t left = 0; left < 12; left++) {
    open_interface(2);
    flood(ABI_FAMILY_IPV4, PORT, 257);
    struct honest honest = honest_new(ABI_FAMILY_IPV4, 40001);
    allocations_left = left;
    allocations_fail_once = false;
    peer_send(&honest.peer, SYN, NULL, 0);
    host_poll();
    allocations_left = -1;
    struct segment segment = peer_peek(&honest.peer);
    if (segment.flags != 0) {
      honest.peer.acknowledgement = segment.sequence + 1;
      allocations_left = left;
      honest_send(&honest, PSH | ACK, 0, "hello", 5);
      host_poll();
      allocations_left = -1;
    }
    struct event event;
    while ((event = event_next()).kind != 0) {
      if (event.kind == ABI_EVENT_ACCEPTED) {
        CHECK_EQUAL(abi_tcp_abort(event.value), 0);
      }
    }
    frames_forget();
    close_interface();
  }
}

int main(void) {
  host_start();
  host_reserve_handles(600);
  RUN(flooded_over_ipv4);
  RUN(flooded_over_ipv6);
  RUN(answers_are_bounded);
  RUN(listeners_are_apart);
  RUN(cookies_carry_options);
  RUN(cookies_without_timestamps);
  RUN(acknowledgements_that_are_forged);
  RUN(half_open_ones_bear_forgeries);
  RUN(new_syn_ends_time_wait);
  RUN(waiting_peers_are_accepted_in_order);
  RUN(waiting_peers_may_leave);
  RUN(backlog_of_thousands);
  RUN(memory_fails);
  return 0;
}
