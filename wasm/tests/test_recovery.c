/* Loss recovery, one rule a test: segments and their SACK blocks are made by hand. In virtual time. */
#include "support.h"

#include "tcp/connection.h"
#include "tcp/tcp_flight.h"
#include "abi/handles.h"
#include "lwip/priv/tcp_priv.h"

#include <string.h>

enum { MSS = 1000, WINDOW = 60000, ROUND_TRIP = 40 * MILLISECOND };

static int32_t interface, listener;
static uint8_t data[200000];

static struct peer open_peer(bool sack) {
  static const uint8_t mss[] = {2, 4, MSS >> 8, MSS & 255}, permitted[] = {1, 1, 4, 2};
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_option(&peer, mss, sizeof mss);
  if (sack) {
    peer_option(&peer, permitted, sizeof permitted);
  }
  peer.window = WINDOW;
  peer.round_trip = ROUND_TRIP;
  peer_open(&peer, listener);
  pattern_fill(data, sizeof data, 0);
  return peer;
}

static void close_peer(struct peer *peer) {
  CHECK_EQUAL(abi_tcp_abort(peer->handle), 0);
  host_poll();
  frames_forget();
  while (event_next().kind != 0) {
  }
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

static struct connection *connection_of(const struct peer *peer) { return tw_handle_object(peer->handle, HANDLE_CONNECTION); }

/* Segments that have left, as numbers of whole ones from the first on; all are checked. */
static uint32_t sent(const struct peer *peer, uint32_t *numbers, uint32_t most) {
  uint32_t count = 0;
  struct segment segment;
  while ((segment = peer_peek(peer)).flags != 0) {
    if (segment.length == 0) {
      continue;
    }
    uint32_t at = segment.sequence - peer->start - 1;
    CHECK(at % MSS == 0 && count < most);
    pattern_check(segment.data, segment.length, at);
    numbers[count++] = at / MSS;
  }
  return count;
}

static void expect_sent(const struct peer *peer, uint32_t from, uint32_t to) {
  uint32_t numbers[200], count = sent(peer, numbers, 200);
  CHECK_EQUAL(count, to - from);
  for (uint32_t i = 0; i < count; i++) {
    CHECK_EQUAL(numbers[i], from + i);
  }
}

/* Acknowledges all segments before `next`, and SACKs up to three ranges of them, the newest first. */
static void acknowledge(struct peer *peer, uint32_t next, uint32_t count, const uint32_t (*ranges)[2]) {
  uint8_t option[40] = {1, 1, 5, (uint8_t)(2 + 8 * count)};
  uint32_t saved = peer->options_length;
  uint8_t options[40];
  memcpy(options, peer->options, sizeof options);
  peer->options_length = 0;
  if (count > 0) {
    for (uint32_t i = 0; i < count; i++) {
      put32(option + 4 + 8 * i, peer->start + 1 + ranges[i][0] * MSS);
      put32(option + 8 + 8 * i, peer->start + 1 + ranges[i][1] * MSS);
    }
    peer_option(peer, option, 4 + 8 * count);
  }
  peer->acknowledgement = peer->start + 1 + next * MSS;
  peer_send_options(peer, ACK);
  memcpy(peer->options, options, sizeof options);
  peer->options_length = saved;
  host_poll();
}

#define SACK(peer, next, ...)                                                                  \
  acknowledge(peer, next, sizeof((const uint32_t[][2]){__VA_ARGS__}) / (2 * sizeof(uint32_t)), \
              (const uint32_t[][2]){__VA_ARGS__})

/* Ten segments are under way, RFC 6928, and a round trip has passed. */
static struct peer open_flight(bool sack) {
  struct peer peer = open_peer(sack);
  CHECK_EQUAL(tcp_put(peer.handle, data, 60000), 60000);
  host_poll();
  expect_sent(&peer, 0, 10);
  host_pass(ROUND_TRIP);
  return peer;
}

/* RFC 3042 and RFC 6675, section 5, step 3: each of the first two SACKs sends a new segment; the third finds the loss. */
static void limited_transmit_and_three_sacks(void) {
  struct peer peer = open_flight(true);
  SACK(&peer, 0, {1, 2});
  expect_sent(&peer, 10, 11);
  SACK(&peer, 0, {1, 3});
  expect_sent(&peer, 11, 12);
  SACK(&peer, 0, {1, 4});
  expect_sent(&peer, 0, 1);
  CHECK_EQUAL(connection_of(&peer)->flight->state, SENDER_RECOVERY);
  close_peer(&peer);
}

/* The same without SACK, by duplicates (RFC 5681, section 3.2), and a partial acknowledgement sends the next hole at once
   (RFC 6582, section 3.2, step 3). */
static void duplicates_and_partial_acknowledgements(void) {
  struct peer peer = open_flight(false);
  for (uint32_t i = 0; i < 3; i++) {
    acknowledge(&peer, 0, 0, NULL);
    expect_sent(&peer, i < 2 ? 10 + i : 0, i < 2 ? 11 + i : 1);
  }
  for (uint32_t i = 0; i < 4; i++) {
    acknowledge(&peer, 0, 0, NULL);
  }
  frames_forget();
  host_pass(ROUND_TRIP);
  acknowledge(&peer, 4, 0, NULL);
  uint32_t numbers[10];
  CHECK(sent(&peer, numbers, 10) >= 1);
  CHECK_EQUAL(numbers[0], 4);
  CHECK_EQUAL(connection_of(&peer)->flight->state, SENDER_RECOVERY);
  acknowledge(&peer, 12, 0, NULL);
  CHECK_EQUAL(connection_of(&peer)->flight->state, SENDER_OPEN);
  close_peer(&peer);
}

/* Several holes are repaired in one round trip, each once, lowest first, and nothing that arrived is sent again. */
static void holes_in_one_round_trip(void) {
  struct peer peer = open_flight(true);
  SACK(&peer, 0, {1, 2});
  SACK(&peer, 0, {3, 4}, {1, 2});
  SACK(&peer, 0, {5, 6}, {3, 4}, {1, 2});
  SACK(&peer, 0, {7, 10}, {5, 6}, {3, 4});
  SACK(&peer, 0, {7, 12}, {5, 6}, {3, 4});
  uint32_t numbers[30], count = sent(&peer, numbers, 30), again = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (numbers[i] < 10) {
      CHECK_EQUAL(numbers[i], 2 * again);
      again++;
    }
  }
  CHECK_EQUAL(again, 4);
  host_pass(ROUND_TRIP);
  acknowledge(&peer, count - again + 10, 0, NULL);
  CHECK_EQUAL(connection_of(&peer)->flight->state, SENDER_OPEN);
  CHECK_EQUAL(connection_of(&peer)->pcb->cwnd, 7 * MSS); /* RFC 9438, section 4.6, and RFC 9937, at its end */
  close_peer(&peer);
}

/* A segment that is shorter than the MSS is lost before others, and so is its retransmission while a gap is open: it leaves as
   it was each time, without the data behind it. */
static void a_short_segment_is_sent_again_as_it_was(void) {
  struct peer peer = open_peer(true);
  CHECK_EQUAL(tcp_put(peer.handle, data, 2300), 2300);
  host_poll();
  CHECK_EQUAL(tcp_put(peer.handle, data + 2300, 40000), 40000);
  host_poll();
  frames_forget();
  uint32_t edge = 5300; /* up to which all has arrived but the first segment and the short one */
  for (int i = 0; i < 3; i++) {
    host_pass(ROUND_TRIP + MILLISECOND);
    uint8_t option[20] = {1, 1, 5, 18};
    put32(option + 4, peer.start + 1 + 2300);
    put32(option + 8, peer.start + 1 + edge);
    put32(option + 12, peer.start + 1 + 1000);
    put32(option + 16, peer.start + 1 + 2000);
    peer.options_length = 0;
    peer_option(&peer, option, sizeof option);
    peer.acknowledgement = peer.start + 1;
    peer_send_options(&peer, ACK);
    host_poll();
    bool first = false, last = false;
    struct segment segment;
    while ((segment = peer_peek(&peer)).flags != 0) {
      uint32_t at = segment.sequence - peer.start - 1;
      CHECK_EQUAL(segment.length, at == 2000 ? 300 : 1000);
      pattern_check(segment.data, segment.length, at);
      first |= at == 0;
      last |= at == 2000;
      edge = LWIP_MAX(edge, at + segment.length);
    }
    CHECK(first && last);
  }
  close_peer(&peer);
}

/* RFC 8985, section 6.2: a retransmission that is lost, too, is found when something that was sent later arrives. */
static void a_lost_retransmission_is_sent_again(void) {
  struct peer peer = open_flight(true);
  SACK(&peer, 0, {1, 4});
  uint32_t numbers[30], count = sent(&peer, numbers, 30);
  CHECK(count >= 1 && numbers[0] == 0);
  SACK(&peer, 0, {1, 10});
  count = sent(&peer, numbers, 30);
  CHECK(count >= 1 && numbers[0] == 10);
  host_pass(ROUND_TRIP + MILLISECOND);
  SACK(&peer, 0, {1, 11});
  count = sent(&peer, numbers, 30);
  CHECK(count >= 1);
  CHECK_EQUAL(numbers[0], 0);
  close_peer(&peer);
}

/* RFC 8985, section 6.2, step 5: two SACKs are no proof; the time for reordering is waited for, to the microsecond. */
static void the_reordering_timer(void) {
  struct peer peer = open_flight(true);
  SACK(&peer, 0, {1, 3});
  frames_forget();
  host_advance(ROUND_TRIP / 4 - 1);
  peer_expect_silence(&peer);
  host_advance(1);
  expect_sent(&peer, 0, 1);
  close_peer(&peer);
}

/* RFC 8985, section 7: the tail is asked for after two round trips; new data if there is some, else the last segment. */
static void tail_loss_probes(void) {
  struct peer peer = open_peer(true);
  CHECK_EQUAL(tcp_put(peer.handle, data, 4000), 4000);
  host_poll();
  expect_sent(&peer, 0, 4);
  host_advance(2 * ROUND_TRIP + MILLISECOND);
  peer_expect_silence(&peer);
  host_advance(2 * MILLISECOND);
  expect_sent(&peer, 3, 4);
  host_advance(ROUND_TRIP);
  SACK(&peer, 0, {3, 4});
  expect_sent(&peer, 0, 1); /* RFC 9937: one for the one that has arrived */
  host_pass(ROUND_TRIP);
  SACK(&peer, 1, {3, 4});
  expect_sent(&peer, 1, 3);
  close_peer(&peer);
}

/* Section 7.4: the probe has repaired the loss, which still is congestion. */
static void a_probe_that_repairs_reduces_the_window(void) {
  for (int duplicate = 0; duplicate < 2; duplicate++) {
    struct peer peer = open_peer(true);
    CHECK_EQUAL(tcp_put(peer.handle, data, 10000), 10000);
    host_poll();
    expect_sent(&peer, 0, 10);
    host_advance(2 * ROUND_TRIP + 3 * MILLISECOND);
    expect_sent(&peer, 9, 10);
    CHECK_EQUAL(tcp_put(peer.handle, data + 10000, 5000), 5000);
    host_pass(ROUND_TRIP);
    if (duplicate) {
      SACK(&peer, 10, {9, 10});
    } else {
      acknowledge(&peer, 10, 0, NULL);
    }
    CHECK_EQUAL(connection_of(&peer)->pcb->cwnd, duplicate ? 20 * MSS : 7 * MSS);
    close_peer(&peer);
  }
}

/* RFC 6298, section 5, and RFC 6675, section 5.1: after a time-out only what is not SACKed is sent again. */
static void a_time_out_keeps_the_sacks(void) {
  struct peer peer = open_flight(true);
  SACK(&peer, 0, {5, 7});
  frames_forget();
  host_advance(ROUND_TRIP / 4);
  frames_forget(); /* 0 to 4, which are lost again, and all later ones */
  host_advance(400 * MILLISECOND);
  uint32_t numbers[60], count = sent(&peer, numbers, 60);
  CHECK_EQUAL(count, 1);
  CHECK_EQUAL(numbers[0], 0);
  CHECK_EQUAL(connection_of(&peer)->flight->state, SENDER_LOSS);
  acknowledge(&peer, 1, 0, NULL);
  count = sent(&peer, numbers, 60);
  CHECK_EQUAL(count, 2);
  CHECK(numbers[0] == 1 && numbers[1] == 2);
  acknowledge(&peer, 3, 0, NULL);
  count = sent(&peer, numbers, 60);
  for (uint32_t i = 0; i < count; i++) {
    CHECK(numbers[i] != 5 && numbers[i] != 6);
  }
  close_peer(&peer);
}

/* RFC 2018, section 8: the peer has dropped what it SACKed. */
static void reneging(void) {
  struct peer peer = open_flight(true);
  SACK(&peer, 0, {1, 10});
  frames_forget();
  host_pass(ROUND_TRIP);
  acknowledge(&peer, 1, 0, NULL);
  frames_forget();
  host_advance(400 * MILLISECOND);
  uint32_t numbers[60];
  CHECK(sent(&peer, numbers, 60) >= 1);
  for (uint32_t at = 1; at < 10; at++) {
    acknowledge(&peer, at, 0, NULL);
    uint32_t count = sent(&peer, numbers, 60);
    CHECK(at == 1 || count > 0 || !flight_has_losses(connection_of(&peer)->flight));
  }
  CHECK_EQUAL(connection_of(&peer)->flight->sacked_segments, 0);
  close_peer(&peer);
}

/* Blocks that lie outside of what is under way, are empty, upside down or too long change nothing. */
static void lies(void) {
  struct peer peer = open_flight(true);
  SACK(&peer, 0, {10, 20});
  SACK(&peer, 0, {5, 5}, {7, 6}, {0, 10});
  SACK(&peer, 0, {0, 11}, {0x7fffffff / MSS, 0x80000000u / MSS});
  peer_expect_silence(&peer);
  const struct flight *flight = connection_of(&peer)->flight;
  CHECK_EQUAL(flight->sacked_segments, 0);
  CHECK_EQUAL(flight->state, SENDER_OPEN);
  close_peer(&peer);
}

/* RFC 3708 and RFC 4015: all that was sent again is reported as a duplicate, so that the reduction is taken back. */
static void duplicates_take_the_reduction_back(void) {
  struct peer peer = open_flight(true);
  SACK(&peer, 0, {1, 4});
  CHECK_EQUAL(connection_of(&peer)->flight->state, SENDER_RECOVERY);
  SACK(&peer, 10, {0, 1});
  struct connection *connection = connection_of(&peer);
  CHECK_EQUAL(connection->undone, 1);
  CHECK(connection->pcb->cwnd >= 10 * MSS);
  CHECK_EQUAL(connection->flight->state, SENDER_OPEN);
  CHECK(connection->reordering > 0);
  CHECK_EQUAL(abi_tcp_information(peer.handle), 0);
  CHECK_EQUAL(tw_scratch.information.total_retransmissions, 1);
  CHECK_EQUAL(tw_scratch.information.needless_retransmissions, 1);
  close_peer(&peer);
}

static void wait_for_time_out(struct peer *peer) {
  for (int times = 0; connection_of(peer)->flight->state != SENDER_LOSS; times++) {
    CHECK(times < 200);
    frames_forget(); /* a probe of the tail */
    host_advance(10 * MILLISECOND);
  }
  expect_sent(peer, 0, 1);
}

/* RFC 5682, section 3.1: acknowledgements were late, and what was not sent again arrives. */
static void a_time_out_that_came_early_is_taken_back(void) {
  struct peer peer = open_flight(true);
  wait_for_time_out(&peer);
  acknowledge(&peer, 2, 0, NULL);
  struct connection *connection = connection_of(&peer);
  CHECK_EQUAL(connection->undone, 1);
  CHECK_EQUAL(connection->flight->state, SENDER_OPEN);
  CHECK(connection->pcb->cwnd >= 10 * MSS);
  CHECK(!flight_has_losses(connection->flight));
  uint32_t numbers[60], count = sent(&peer, numbers, 60);
  CHECK(count > 0 && numbers[0] >= 10);
  close_peer(&peer);
}

/* What was sent again proves nothing; nor does a peer without SACK, which may have held the rest. */
static void a_time_out_in_time_is_not_taken_back(void) {
  for (int sack = 0; sack < 2; sack++) {
    struct peer peer = open_flight(sack != 0);
    wait_for_time_out(&peer);
    acknowledge(&peer, 1, 0, NULL);
    uint32_t numbers[60], count = sent(&peer, numbers, 60);
    CHECK(count == 2 && numbers[0] == 1 && numbers[1] == 2);
    acknowledge(&peer, sack ? 3 : 5, 0, NULL);
    CHECK_EQUAL(connection_of(&peer)->undone, 0);
    CHECK_EQUAL(connection_of(&peer)->flight->state, SENDER_LOSS);
    close_peer(&peer);
  }
}

/* RFC 2883, section 4: what arrives twice is reported, below what is acknowledged and within a later block. */
static void duplicates_are_reported(void) {
  struct peer peer = open_peer(true);
  peer_send(&peer, ACK, "0123456789", 10);
  host_poll();
  frames_forget();
  peer_send_at(&peer, ACK, -10, "01234", 5);
  host_poll();
  struct segment segment = peer_peek(&peer);
  CHECK_EQUAL(segment.options_length, 12);
  CHECK_EQUAL(get32(segment.options + 4), peer.sequence - 10);
  CHECK_EQUAL(get32(segment.options + 8), peer.sequence - 5);
  for (int i = 0; i < 2; i++) {
    peer_send_at(&peer, ACK, 10, "01234", 5);
    host_poll();
    segment = peer_peek(&peer);
    CHECK_EQUAL(segment.options_length, 12 + 8 * i);
    CHECK_EQUAL(get32(segment.options + 4 + 8 * i), peer.sequence + 10);
    CHECK_EQUAL(get32(segment.options + 4), peer.sequence + 10);
  }
  close_peer(&peer);
}

/* RFC 7661: a window that is not used does not grow. */
static void an_unused_window_does_not_grow(void) {
  struct peer peer = open_peer(true);
  for (uint32_t i = 0; i < 50; i++) {
    CHECK_EQUAL(tcp_put(peer.handle, data + i * MSS, MSS), MSS);
    host_poll();
    expect_sent(&peer, i, i + 1);
    host_pass(ROUND_TRIP);
    acknowledge(&peer, i + 1, 0, NULL);
  }
  CHECK_EQUAL(connection_of(&peer)->pcb->cwnd, 10 * MSS);
  close_peer(&peer);
}

/* RFC 5681, section 4.1: what the path can take becomes unknown while nothing is under way; less so after a short time. */
static void an_idle_window_shrinks(void) {
  for (uint32_t minute = 0; minute < 2; minute++) {
    struct peer peer = open_flight(true);
    uint32_t at = 0;
    for (uint32_t end = 10; at < 60; end = LWIP_MIN(2 * end + 10, 60)) {
      for (at = LWIP_MIN(at + 2, end); at < end; at = LWIP_MIN(at + 2, end)) {
        acknowledge(&peer, at, 0, NULL);
      }
      acknowledge(&peer, at, 0, NULL);
      host_pass(ROUND_TRIP);
    }
    frames_forget();
    struct tcp_pcb *pcb = connection_of(&peer)->pcb;
    CHECK(connection_of(&peer)->flight == NULL);
    uint32_t window = pcb->cwnd;
    CHECK(window >= 40 * MSS && window < 80 * MSS);
    host_pass(minute ? 60 * SECOND : ROUND_TRIP);
    CHECK_EQUAL(tcp_put(peer.handle, data + 60000, 60000), 60000);
    host_poll();
    expect_sent(&peer, 60, minute ? 70 : 120);
    CHECK_EQUAL(pcb->cwnd, minute ? 10 * MSS : window);
    CHECK(!minute || pcb->ssthresh >= window / 4 * 3);
    close_peer(&peer);
  }
}

/* RFC 5681, section 3.1: half of it, where CUBIC keeps seven tenths. */
static void reno_by_option(void) {
  struct peer peer = open_flight(true);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_CONGESTION_CONTROL, 2), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_CONGESTION_CONTROL, 1), 0);
  SACK(&peer, 0, {1, 4});
  CHECK_EQUAL(abi_tcp_information(peer.handle), 0);
  CHECK_EQUAL(tw_scratch.information.slow_start_threshold, 5 * MSS);
  CHECK_EQUAL(tw_scratch.information.round_trip, ROUND_TRIP);
  CHECK_EQUAL(tw_scratch.information.recovery, SENDER_RECOVERY);
  close_peer(&peer);
}

/* What the scoreboard says about itself agrees with what is in it. */
static void check_scoreboard(const struct connection *connection) {
  const struct flight *flight = connection->flight;
  if (flight == NULL) {
    CHECK(connection->pcb->unacked == NULL);
    return;
  }
  uint32_t sacked = 0, others = 0, in_flight = 0, listed = 0;
  for (const struct tcp_seg *segment = connection->pcb->unacked; segment != NULL; segment = segment->next) {
    bool is_sacked = (segment->marks & SEGMENT_SACKED) != 0;
    sacked += is_sacked;
    others += !is_sacked;
    in_flight += (segment->marks & SEGMENT_IN_FLIGHT) != 0 ? segment->end - segment->begin : 0;
    CHECK(!is_sacked || flight->highest == NULL || !TCP_SEQ_GT(segment->begin, flight->highest->begin));
  }
  const struct tcp_seg *heads[] = {&flight->sent, &flight->lost};
  for (int i = 0; i < 2; i++) {
    for (const struct tcp_seg *segment = heads[i]->sent_next; segment != heads[i]; segment = segment->sent_next, listed++) {
      CHECK_EQUAL((segment->marks & SEGMENT_IN_FLIGHT) != 0, i == 0);
      CHECK_EQUAL(segment->marks & SEGMENT_SACKED, 0);
    }
  }
  CHECK_EQUAL(flight->sacked_segments, sacked);
  CHECK_EQUAL(listed, others);
  CHECK_EQUAL(flight->in_flight, in_flight);
}

/* Acknowledgements and blocks at random, true and false ones, with and without SACK: no list goes wrong, and what is sent is the
   stream. */
static void random_acknowledgements(void) {
  random_restart(13);
  for (int round = 0; round < 60; round++) {
    struct peer peer = open_peer(round % 4 != 0);
    uint32_t put = 0, edge = 0, acknowledged = 0, numbers[500];
    for (int step = 0; step < 300 && acknowledged < sizeof data / MSS; step++) {
      if (put < sizeof data && random_next() % 3 == 0) {
        uint32_t length = (1 + random_next() % 40) * MSS;
        int32_t taken = tcp_put(peer.handle, data + put, (int32_t)LWIP_MIN(length, sizeof data - put));
        CHECK(taken >= 0 && taken % MSS == 0);
        put += (uint32_t)taken;
        host_poll();
      }
      host_advance(random_next() % 8 == 0 ? random_next() % SECOND : random_next() % (60 * MILLISECOND));
      for (uint32_t count = sent(&peer, numbers, 500); count-- > 0;) {
        edge = LWIP_MAX(edge, numbers[count] + 1);
      }
      uint32_t ranges[3][2], blocks = round % 4 != 0 ? random_next() % 4 : 0;
      for (uint32_t i = 0; i < blocks; i++) {
        ranges[i][0] = acknowledged + random_next() % 40;
        ranges[i][1] = ranges[i][0] + random_next() % 12;
      }
      acknowledged += random_next() % 3 == 0 ? random_next() % (LWIP_MIN(edge - acknowledged, 6) + 1) : 0;
      acknowledge(&peer, acknowledged, blocks, (const uint32_t (*)[2])ranges);
      check_scoreboard(connection_of(&peer));
      while (event_next().kind != 0) {
      }
    }
    close_peer(&peer);
  }
}

int main(void) {
  host_start();
  RUN(limited_transmit_and_three_sacks);
  RUN(duplicates_and_partial_acknowledgements);
  RUN(holes_in_one_round_trip);
  RUN(a_short_segment_is_sent_again_as_it_was);
  RUN(a_lost_retransmission_is_sent_again);
  RUN(the_reordering_timer);
  RUN(tail_loss_probes);
  RUN(a_probe_that_repairs_reduces_the_window);
  RUN(a_time_out_keeps_the_sacks);
  RUN(reneging);
  RUN(lies);
  RUN(duplicates_take_the_reduction_back);
  RUN(a_time_out_that_came_early_is_taken_back);
  RUN(a_time_out_in_time_is_not_taken_back);
  RUN(duplicates_are_reported);
  RUN(an_unused_window_does_not_grow);
  RUN(random_acknowledgements);
  RUN(an_idle_window_shrinks);
  RUN(reno_by_option);
  return 0;
}
