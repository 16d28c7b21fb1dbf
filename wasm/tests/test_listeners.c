/* Listeners under attack: forged SYNs, acknowledgements and resets, and their effect on legitimate peers. */
#include "support_listener.h"
#include "port/heap.h"
#include "tcp/connection.h"
#include "tcp/tcp_listen.h"
#include "tcp/tcp_lookup.h"

enum { HALF_OPEN = 256, HALF_OPEN_OF_STACK = 1024, HALF_OPEN_BYTES = 1200 };

static uint32_t heap_in_use(void) {
  abi_statistics();
  return tw_heap_used();
}

/* --- A peer with timestamps ------------------------------------------------------------------------------------------- */

struct client {
  struct peer peer;
  uint32_t echo; /* the timestamp of the SYN of the stack */
  uint8_t options[40];
  uint32_t options_length; /* of the answer to its SYN */
};

static struct client client_new(int32_t family, uint16_t port) {
  struct client client = {.peer = peer_new(interface, family, PORT)};
  static const uint8_t timestamps[] = {8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1};
  client.peer.from_port = port;
  peer_option(&client.peer, NO_TIMESTAMPS, sizeof NO_TIMESTAMPS);
  peer_option(&client.peer, timestamps, sizeof timestamps);
  return client;
}

static const uint8_t *option(const uint8_t *options, uint32_t length, uint8_t kind) {
  for (uint32_t at = 0; at < length && options[at] != 0; at += options[at] == 1 ? 1 : options[at + 1]) {
    if (options[at] == kind) {
      return options + at;
    }
  }
  return NULL;
}

static void client_answered(struct client *client) {
  struct segment segment = peer_expect(&client->peer, SYN | ACK);
  CHECK_EQUAL(segment.acknowledgement, client->peer.sequence);
  client->options_length = segment.options_length;
  memcpy(client->options, segment.options, segment.options_length);
  const uint8_t *timestamp = option(client->options, client->options_length, 8);
  client->echo = timestamp == NULL ? 0 : get32(timestamp + 2);
}

static void client_send(struct client *client, uint32_t flags, int32_t offset, const void *data, uint32_t length) {
  uint8_t options[12] = {1, 1, 8, 10};
  put32(options + 4, 2);
  put32(options + 8, client->echo);
  const struct peer *peer = &client->peer;
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
      .options_length = client->echo != 0 ? sizeof options : 0,
  };
  packet_tcp(&packet, &segment);
  interface_receive(interface, packet.bytes, packet.length);
}

/* --- Floods ----------------------------------------------------------------------------------------------------------- */

/* A legitimate peer, whose segments and answers take half of `trip` each, connects every five seconds. */
static void connects_succeed(int32_t family, int rate, int32_t backlog, int64_t trip) {
  enum { CONNECTS = 24, STEP = 50 * MILLISECOND };
  open_interface(backlog);
  uint32_t before = heap_in_use(), most = 0;
  for (uint16_t connect = 0; connect < CONNECTS; connect++) {
    struct client client = client_new(family, (uint16_t)(40000 + connect));
    int32_t handle = 0;
    bool answered = false;
    int64_t answer_at = LWIP_MAX(trip, STEP);
    for (int64_t time = 0; time < 5 * SECOND; time += STEP) {
      for (int i = 0; i < rate / 20; i++) {
        forge(family, PORT, SYN, random_next(), 0);
      }
      if (time == 0) {
        peer_send(&client.peer, SYN, NULL, 0);
      }
      if (answered && time == answer_at) {
        client_send(&client, ACK, 0, NULL, 0);
        client_send(&client, PSH | ACK, 0, "client", 6);
      }
      host_poll();
      if (!answered) {
        client_answered(&client);
        answered = true;
      }
      frames_forget();
      if (answered && time == answer_at) {
        handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
        CHECK_EQUAL(abi_tcp_accepted(handle), 0);
        expect_payload(handle, "client");
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

static void connects_succeed_in_a_syn_flood_over_ipv4(void) {
  connects_succeed(ABI_FAMILY_IPV4, 20, 100, 0);
  connects_succeed(ABI_FAMILY_IPV4, 20, 255, 200 * MILLISECOND);
  connects_succeed(ABI_FAMILY_IPV4, 200, 100, 100 * MILLISECOND);
  connects_succeed(ABI_FAMILY_IPV4, 200, 255, 0);
  connects_succeed(ABI_FAMILY_IPV4, 2000, 100, 200 * MILLISECOND);
}

static void connects_succeed_in_a_syn_flood_over_ipv6(void) { connects_succeed(ABI_FAMILY_IPV6, 2000, 255, 200 * MILLISECOND); }

/* A forged SYN gets five answers in all if it has a half-open connection, and one if it has not. */
static void answers_to_forged_syns_are_bounded(void) {
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

/* A listener under attack takes no half-open connections from others, and all listeners together have a bounded number. */
static void a_flood_leaves_other_listeners_alone(void) {
  open_interface(100);
  uint32_t before = heap_in_use();
  int32_t others[5];
  for (uint16_t i = 0; i < 5; i++) {
    others[i] = tcp_listener(ABI_FAMILY_ANY, NULL, PORT + 1 + i, 100);
    flood(ABI_FAMILY_IPV4, (uint16_t)(PORT + 1 + i), 500);
    CHECK(heap_in_use() - before < (uint32_t)LWIP_MIN((i + 1) * HALF_OPEN, HALF_OPEN_OF_STACK) * HALF_OPEN_BYTES + 65536);
    struct client client = client_new(ABI_FAMILY_IPV4, (uint16_t)(50000 + i));
    uint32_t cookies = tw_tcp_cookies;
    peer_send(&client.peer, SYN, NULL, 0);
    host_poll();
    client_answered(&client);
    CHECK_EQUAL(tw_tcp_cookies - cookies, i >= 3); /* a normal handshake while there is room */
    client_send(&client, PSH | ACK, 0, "apart", 5);
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

/* The options of a SYN are encoded in a cookie, too, if the peer has timestamps to carry them; the MSS is rounded down. */
static void cookies_with_timestamps_carry_options(void) {
  open_interface(8);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    flood(family, PORT, 300);
    uint32_t mtu = family == ABI_FAMILY_IPV4 ? 1460 : 1440;
    struct client client = client_new(family, 40001);
    peer_send(&client.peer, SYN, NULL, 0);
    uint32_t cookies = tw_tcp_cookies;
    host_poll();
    CHECK_EQUAL(tw_tcp_cookies, cookies + 1);
    client_answered(&client);
    CHECK_EQUAL(get16(option(client.options, client.options_length, 2) + 2), mtu);
    CHECK_EQUAL(option(client.options, client.options_length, 3)[2], TCP_RCV_SCALE);
    CHECK(option(client.options, client.options_length, 4) != NULL);
    client_send(&client, ACK, 0, NULL, 0);
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
    struct segment segment = peer_expect(&client.peer, ACK);
    CHECK_EQUAL(segment.length, 6);
    CHECK((uint32_t)segment.window << TCP_RCV_SCALE >= 65536);
    CHECK((int32_t)(get32(option(segment.options, segment.options_length, 8) + 2) - client.echo) >= 0);
    CHECK_EQUAL(abi_tcp_abort(handle), 0);
    host_poll();
    frames_forget();
  }
  close_interface();
}

static void cookies_without_timestamps_carry_the_mss(void) {
  static const struct {
    uint16_t offered, agreed;
  } cases[] = {{0, 536}, {100, 48}, {536, 536}, {1300, 1220}, {1459, 1440}, {1460, 1460}, {9000, 1460}, {65535, 1460}};
  open_interface(8);
  flood(ABI_FAMILY_IPV4, PORT, 300);
  for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct client client = {.peer = peer_new(interface, ABI_FAMILY_IPV4, PORT)};
    client.peer.from_port = (uint16_t)(40000 + i);
    uint8_t offer[12];
    memcpy(offer, NO_TIMESTAMPS, sizeof offer);
    put16(offer + 2, cases[i].offered);
    peer_option(&client.peer, offer + (cases[i].offered == 0 ? 4 : 0), cases[i].offered == 0 ? 8 : 12);
    peer_send(&client.peer, SYN, NULL, 0);
    host_poll();
    client_answered(&client);
    CHECK_EQUAL(client.options_length, 4); /* the MSS, and no option that the cookie cannot hold */
    peer_send(&client.peer, ACK, NULL, 0);
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

/* A cookie is valid for its two endpoints and the peer's sequence number, for a minute or two, and only after a cookie was
   sent. */
static void forged_acknowledgements_are_reset(void) {
  open_interface(8);
  host_advance(400 * (int64_t)SECOND); /* those of earlier tests have expired */
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
    struct client client = client_new(ABI_FAMILY_IPV4, 40009);
    flood(ABI_FAMILY_IPV4, PORT, 300);
    peer_send(&client.peer, SYN, NULL, 0);
    host_poll();
    client_answered(&client);
    struct client wrong = client;
    client_send(&wrong, ACK, 1, NULL, 0); /* another sequence number */
    expect_reset(&wrong.peer);
    wrong.peer.from_port++;
    client_send(&wrong, ACK, 0, NULL, 0);
    expect_reset(&wrong.peer);
    wrong = client;
    wrong.peer.acknowledgement += 8;
    client_send(&wrong, ACK, 0, NULL, 0);
    expect_reset(&wrong.peer);
    host_advance(wait * SECOND * 95 / 100); /* less than one period, then more than two */
    flood(ABI_FAMILY_IPV4, PORT, 300);
    client_send(&client, ACK, 0, NULL, 0);
    if (wait == 140) {
      expect_reset(&client.peer);
    } else {
      host_poll();
      CHECK_EQUAL(abi_tcp_abort(event_expect(ABI_EVENT_ACCEPTED, listener).value), 0);
    }
    frames_forget();
  }
  close_interface();
}

/* --- Half-open connections -------------------------------------------------------------------------------------------- */

static void half_open_connections_survive_forged_segments(void) {
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

  struct peer forged = peer; /* another SYN, with options that the first one did not have */
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
  peer_send(&peer, PSH | ACK, "client", 6);
  host_poll();
  int32_t handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  expect_payload(handle, "client");
  CHECK_EQUAL(newest()->flags & (TF_TIMESTAMP | TF_SACK | TF_WND_SCALE), 0);
  CHECK_EQUAL(newest()->snd_wnd, 65535);
  CHECK_EQUAL(abi_tcp_abort(handle), 0);
  close_interface();
}

/* A client that reuses its port while our end is in TIME-WAIT gets a new connection. */
static void a_new_syn_ends_time_wait(void) {
  open_interface(8);
  for (int32_t family = ABI_FAMILY_IPV4; family <= ABI_FAMILY_IPV6; family += 2) {
    struct peer peer = peer_new(interface, family, PORT);
    for (int i = 0; i < 3; i++) {
      peer_open(&peer, listener);
      CHECK_EQUAL(abi_tcp_accepted(peer.handle), 0);
      CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
      peer_finish(&peer);
      CHECK_EQUAL(tw_tcp_time_wait_count(), 1);
      struct peer old = peer; /* a SYN with no newer sequence number is answered as before */
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

/* Whatever allocation fails, a poll ends, and nothing leaks. */
static void failing_allocations_leak_nothing(void) {
  for (int64_t left = 0; left < 12; left++) {
    open_interface(2);
    flood(ABI_FAMILY_IPV4, PORT, 257);
    struct client client = client_new(ABI_FAMILY_IPV4, 40001);
    allocations_left = left;
    allocations_fail_once = false;
    peer_send(&client.peer, SYN, NULL, 0);
    host_poll();
    allocations_left = -1;
    struct segment segment = peer_peek(&client.peer);
    if (segment.flags != 0) {
      client.peer.acknowledgement = segment.sequence + 1;
      allocations_left = left;
      client_send(&client, PSH | ACK, 0, "hello", 5);
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
  RUN(connects_succeed_in_a_syn_flood_over_ipv4);
  RUN(connects_succeed_in_a_syn_flood_over_ipv6);
  RUN(answers_to_forged_syns_are_bounded);
  RUN(a_flood_leaves_other_listeners_alone);
  RUN(cookies_with_timestamps_carry_options);
  RUN(cookies_without_timestamps_carry_the_mss);
  RUN(forged_acknowledgements_are_reset);
  RUN(half_open_connections_survive_forged_segments);
  RUN(a_new_syn_ends_time_wait);
  RUN(failing_allocations_leak_nothing);
  return 0;
}
