/* tcp_send and tcp_received with the embedder's time: which writes and window updates leave within the call, that SENT_AT_ONCE
   names the interface then and is 0 where a poll is needed, and that this poll sends the rest, and nothing twice. */
#include "support_at_once.h"

#include <float.h>
#include <math.h>

/* A header and its body leave within their calls; further writes wait for the poll, in one segment. */
static void small_writes_leave_within_two_calls(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  for (uint32_t at = 0; at < 3000; at += 1000) { /* again when all is acknowledged */
    write_at(host_clock(), &peer, at, 100);
    CHECK_EQUAL(host_take_sent(), interface);
    expect_data(&peer, at, 100);
    write_at(host_clock(), &peer, at + 100, 200);
    CHECK_EQUAL(host_take_sent(), interface);
    expect_data(&peer, at + 100, 200);
    write_at(host_clock(), &peer, at + 300, 300);
    expect_unsent(0);
    write_at(host_clock(), &peer, at + 600, 400);
    expect_unsent(0);
    CHECK_EQUAL(host_take_sent(), 0);
    host_poll();
    expect_data(&peer, at + 300, 700);
    expect_quiet(&peer);
    acknowledge(&peer);
  }
  write_at(host_clock(), &peer, 3000, 0); /* an empty write */
  expect_unsent(0);
  expect_quiet(&peer);
  end(&peer);
}

/* Frames are not fetched: both segments stay in the buffer, and the poll reports them once. */
static void unfetched_frames_are_reported_by_the_poll(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  write_at(host_clock(), &peer, 0, 100);
  uint32_t first = queued_bytes();
  CHECK_EQUAL(sent_at_once(), interface);
  CHECK(first > 0);
  write_at(host_clock(), &peer, 100, 100);
  CHECK_EQUAL(sent_at_once(), interface);
  CHECK_EQUAL(queued_bytes(), 2 * first);
  write_at(host_clock(), &peer, 200, 100);
  expect_unsent(2 * first);
  host_poll();
  expect_data(&peer, 0, 100);
  expect_data(&peer, 100, 100);
  expect_data(&peer, 200, 100);
  expect_quiet(&peer);
  end(&peer);
}

/* A write of 32,768 bytes leaves at once whatever is unacknowledged, as far as the peer's window and the congestion window
   allow. */
static void large_writes_leave_as_the_windows_allow(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  write_at(0, &peer, 0, 1440 * 3);
  host_poll();
  expect_data(&peer, 0, 1440);
  expect_data(&peer, 1440, 1440);
  expect_data(&peer, 2880, 1440);
  write_at(host_clock(), &peer, 4320, LARGE - 1);
  expect_unsent(0);
  write_at(host_clock(), &peer, 4320 + LARGE - 1, LARGE); /* sends the queued data, too */
  CHECK(queued_bytes() > 1440);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&peer, 4320, 1440);
  expect_stream(&peer, 5760, 4320 + 2 * LARGE - 1);
  expect_quiet(&peer);
  uint32_t at = 4320 + 2 * LARGE - 1;
  write_at(host_clock(), &peer, at, LARGE); /* all of it: the congestion window has grown */
  CHECK_EQUAL(host_take_sent(), interface);
  for (uint32_t sent = 0; sent < LARGE; sent += 1440) {
    expect_data(&peer, at + sent, LWIP_MIN(1440u, LARGE - sent));
  }
  expect_quiet(&peer);
  end(&peer);
}

/* The peer has filled the window: reading opens it, and the update is sent within the call once it is worth a segment. */
static void a_window_update_leaves_within_the_call(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  for (int round = 0; round < 3; round++) {
    uint32_t length = 0;
    while (length < ABI_TCP_FIRST_WINDOW) {
      uint32_t chunk = LWIP_MIN(1440u, ABI_TCP_FIRST_WINDOW - length);
      peer_send(&peer, ACK | PSH, stream + length, chunk);
      length += chunk;
    }
    host_poll();
    CHECK_EQUAL(event_expect_data(peer.handle, got, sizeof got), length);
    pattern_check(got, length, 0);
    struct segment segment, last = {0};
    while ((segment = peer_peek(&peer)).flags != 0) {
      last = segment;
    }
    CHECK_EQUAL(last.acknowledgement, peer.sequence);
    CHECK_EQUAL(last.window, 0);
    CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, 100), 0); /* too little for a window update */
    expect_unsent(0);
    expect_quiet(&peer);
    if (round < 2) {
      CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, (int32_t)length - 100), 0);
      CHECK_EQUAL(host_take_sent(), interface);
    } else { /* without a time: the poll sends the update */
      CHECK_EQUAL(abi_tcp_received(0, peer.handle, (int32_t)length - 100), 0);
      expect_unsent(0);
      host_poll();
    }
    segment = peer_expect(&peer, ACK);
    CHECK_EQUAL(segment.length, 0);
    CHECK_EQUAL(segment.acknowledgement, peer.sequence);
    CHECK_EQUAL((uint32_t)segment.window << TCP_RCV_SCALE, ABI_TCP_FIRST_WINDOW);
    expect_quiet(&peer);
    CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, 1), ABI_ERROR_INVALID);
    expect_unsent(0);
  }
  end(&peer);
}

/* Data of several segments is acknowledged with the reply that is sent at once, and by nothing else. */
static void replies_carry_the_acknowledgement(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  uint8_t data[16];
  for (int segments = 1; segments <= 4; segments++) {
    for (int reading = 0; reading < 2; reading++) {
      for (int i = 0; i < segments; i++) {
        peer_send(&peer, ACK | PSH, "ask", 3);
      }
      host_poll_once(0);
      CHECK_EQUAL(event_expect_data(peer.handle, data, sizeof data), 3 * segments);
      peer_expect_silence(&peer);
      if (reading) {
        CHECK_EQUAL(abi_tcp_received(0, peer.handle, 3 * segments), 0);
      }
      uint32_t at = (uint32_t)(segments * 2 + reading) * 100;
      write_at(host_clock(), &peer, at - 200, 100);
      CHECK_EQUAL(host_take_sent(), interface);
      expect_data(&peer, at - 200, 100);
      expect_quiet(&peer);
      if (!reading) {
        CHECK_EQUAL(abi_tcp_received(host_clock(), peer.handle, 3 * segments), 0);
        expect_unsent(0);
      }
      expect_quiet(&peer);
      acknowledge(&peer);
      host_advance(SECOND); /* no delayed acknowledgement, either */
      peer_expect_silence(&peer);
    }
  }
  end(&peer);
}

/* The segments that the next frames carry, one of each connection. */
static void expect_both(struct peer *first, uint32_t first_at, uint32_t first_length, struct peer *second, uint32_t second_at,
                        uint32_t second_length) {
  uint32_t seen[2] = {0};
  for (struct frame frame; (frame = frame_next()).length != 0;) {
    struct segment segment;
    CHECK(segment_parse(&segment, frame.bytes, frame.length));
    bool is_first = segment.to_port == first->from_port;
    struct peer *peer = is_first ? first : second;
    uint32_t at = is_first ? first_at : second_at;
    CHECK_EQUAL(segment.to_port, peer->from_port);
    CHECK_EQUAL(seen[is_first]++, 0);
    CHECK_EQUAL(segment.acknowledgement, peer->sequence);
    CHECK_EQUAL(segment.sequence, peer->start + 1 + at);
    CHECK_EQUAL(segment.length, is_first ? first_length : second_length);
    CHECK(memcmp(segment.data, stream + at, segment.length) == 0);
    peer->acknowledgement += segment.length;
  }
  CHECK_EQUAL(seen[0], 1);
  CHECK_EQUAL(seen[1], 1);
}

/* Another connection has a write, or an acknowledgement, for the next poll. */
static void pending_output_of_another_connection_needs_a_poll(int32_t family) {
  struct peer first = open_peer(family, 40000), second = open_peer(family, 40001);
  uint8_t data[16];
  write_at(0, &second, 0, 50);
  write_at(host_clock(), &first, 0, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  CHECK(queued_bytes() > 0); /* it has left, and the poll reports it */
  host_poll();
  expect_both(&first, 0, 100, &second, 0, 50);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  acknowledge(&first);
  acknowledge(&second);

  peer_send(&second, ACK, "ask", 3);
  peer_send(&second, ACK, "ask", 3);
  host_poll_once(0);
  CHECK_EQUAL(event_expect_data(second.handle, data, sizeof data), 6);
  CHECK_EQUAL(frame_next().length, 0);
  write_at(host_clock(), &first, 100, 100);
  CHECK_EQUAL(sent_at_once(), 0);
  host_poll();
  expect_both(&first, 100, 100, &second, 50, 0);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  acknowledge(&first);

  write_at(0, &first, 200, 100); /* its own pending data does not count as another's */
  write_at(host_clock(), &first, 300, 100);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&first, 200, 200);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  CHECK_EQUAL(abi_tcp_received(host_clock(), second.handle, 6), 0);
  write_at(host_clock(), &second, 50, 100);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&second, 50, 100);
  host_poll();
  CHECK_EQUAL(frame_next().length, 0);
  CHECK_EQUAL(abi_tcp_close(second.handle), 0); /* a pending connection may be closed */
  write_at(host_clock(), &first, 400, 100);
  CHECK_EQUAL(abi_tcp_abort(first.handle), 0);
  host_poll();
  frames_forget();
  peer_send(&second, RST | ACK, NULL, 0);
  host_poll();
  event_expect_none();
}

/* A pending connection is aborted before the poll that would have sent its data, and another one sends at once meanwhile. */
static void pending_output_of_a_closed_connection_is_dropped(int32_t family) {
  struct peer first = open_peer(family, 40000), second = open_peer(family, 40001);
  write_at(0, &second, 0, 50);
  CHECK_EQUAL(abi_tcp_abort(second.handle), 0);
  write_at(host_clock(), &first, 0, 100);
  CHECK_EQUAL(sent_at_once(), 0); /* its reset waits for the poll */
  host_poll();
  CHECK_EQUAL(interface_words(interface)[ABI_BLOCK_TRANSMIT_LENGTH], 0);
  struct frame reset = frame_next();
  struct segment segment;
  CHECK(segment_parse(&segment, reset.bytes, reset.length));
  CHECK_EQUAL(segment.to_port, second.from_port);
  CHECK((segment.flags & RST) != 0);
  expect_data(&first, 0, 100);
  expect_quiet(&first);
  end(&first);
}

/* While a tick of TCP is due, only a poll may advance the clock. */
static void a_due_tick_prevents_sending(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  for (int i = 0; i < 4; i++) {
    host_advance(TICK - (int64_t)(tw_now % TICK)); /* ticks are at multiples of TICK */
    CHECK_EQUAL(tw_now % TICK, 0);
    uint64_t start = tw_now;
    int64_t ahead[] = {TICK, TICK + 1, 3600 * (int64_t)SECOND, TICK - 1};
    write_at(host_seconds((int64_t)start + ahead[i]), &peer, (uint32_t)i * 100, 100);
    if (i < 3) {
      expect_unsent(0);
      CHECK_EQUAL(tw_now, start);
      CHECK_EQUAL(abi_tcp_received(host_seconds((int64_t)start + ahead[i]), peer.handle, 0), 0);
      expect_unsent(0);
      CHECK_EQUAL(tw_now, start);
      host_poll();
    } else {
      CHECK_EQUAL(host_take_sent(), interface);
      CHECK_EQUAL(tw_now, start + TICK - 1);
      host_pass(TICK - 1);
    }
    expect_data(&peer, (uint32_t)i * 100, 100);
    expect_quiet(&peer);
    acknowledge(&peer);
  }
  end(&peer);
}

/* An invalid time neither advances nor sets back the clock, and the data is sent by the poll at the latest. */
static void invalid_times_send_nothing(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  const double late[] = {-1, -0.0, -DBL_MAX, NAN, -NAN, INFINITY, -INFINITY, DBL_MAX, 1e12, 1.8e13, 1.9e13, 1e300};
  uint32_t at = 0;
  for (unsigned i = 0; i < sizeof late / sizeof *late; i++, at += 100) {
    uint64_t before = tw_now;
    write_at(late[i], &peer, at, 100);
    expect_unsent(0);
    CHECK_EQUAL(abi_tcp_received(late[i], peer.handle, 0), 0);
    expect_unsent(0);
    CHECK_EQUAL(tw_now, before);
    host_poll();
    expect_data(&peer, at, 100);
    expect_quiet(&peer);
    acknowledge(&peer);
  }
  const double early[] = {DBL_MIN, 4.9e-324, 1e-9, 1, 999.999999};
  for (unsigned i = 0; i < sizeof early / sizeof *early; i++, at += 100) {
    uint64_t before = tw_now;
    write_at(early[i], &peer, at, 100);
    CHECK_EQUAL(host_take_sent(), interface);
    CHECK_EQUAL(tw_now, before);
    expect_data(&peer, at, 100);
    expect_quiet(&peer);
    acknowledge(&peer);
  }
  end(&peer);
}

/* RFC 896: with unacknowledged data a small segment waits; neither the call nor the poll sends it. */
static void nagle_delays_small_segments(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_NODELAY, 0), 0);
  write_at(host_clock(), &peer, 0, 100);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&peer, 0, 100);
  write_at(host_clock(), &peer, 100, 100);
  expect_unsent(0);
  expect_quiet(&peer);
  write_at(host_clock(), &peer, 200, 1440); /* a full segment does not wait for the data behind it */
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&peer, 100, 1440);
  expect_quiet(&peer);
  acknowledge(&peer);
  expect_data(&peer, 1540, 100);
  write_at(host_clock(), &peer, 1640, 100);
  expect_unsent(0);
  expect_quiet(&peer);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_NODELAY, 1), 0);
  write_at(host_clock(), &peer, 1740, 100);
  CHECK_EQUAL(host_take_sent(), interface);
  expect_data(&peer, 1640, 200);
  expect_quiet(&peer);
  end(&peer);
}

/* The retransmission timer starts with the call, as with a poll: a lost segment is retransmitted. */
static void lost_segments_are_retransmitted(int32_t family) {
  struct peer peer = open_peer(family, 40000);
  for (uint32_t at = 0; at < 500; at += 100) {
    write_at(host_clock(), &peer, at, 100);
    CHECK_EQUAL(host_take_sent(), interface);
    frames_forget();
    host_poll(); /* as an embedder does soon after */
    CHECK(host_deadline() != -1);
    host_advance(3 * SECOND);
    expect_data(&peer, at, 100);
    frames_forget();
    acknowledge(&peer);
    host_advance(SECOND);
    peer_expect_silence(&peer);
  }
  end(&peer);
}

int main(void) {
  host_start();
  host_reserve_handles(32);
  RUN_OVER_BOTH(small_writes_leave_within_two_calls);
  RUN_OVER_BOTH(unfetched_frames_are_reported_by_the_poll);
  RUN_OVER_BOTH(large_writes_leave_as_the_windows_allow);
  RUN_OVER_BOTH(a_window_update_leaves_within_the_call);
  RUN_OVER_BOTH(replies_carry_the_acknowledgement);
  RUN_OVER_BOTH(pending_output_of_another_connection_needs_a_poll);
  RUN_OVER_BOTH(pending_output_of_a_closed_connection_is_dropped);
  RUN_OVER_BOTH(a_due_tick_prevents_sending);
  RUN_OVER_BOTH(invalid_times_send_nothing);
  RUN_OVER_BOTH(nagle_delays_small_segments);
  RUN_OVER_BOTH(lost_segments_are_retransmitted);
  return 0;
}
