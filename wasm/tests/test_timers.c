/* The deadlines that a poll returns: none without a pending timer, and the right one with it. */
#include "support.h"

#include <math.h>
#include <string.h>

static int32_t interface, listener;

static struct peer open_peer(void) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  peer_open(&peer, listener);
  return peer;
}

static void close_interface(void) {
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* How often the stack is polled within that time when nothing happens. */
static int wakes(int64_t duration) {
  int count = 0;
  int64_t passed = 0;
  host_poll();
  for (; host_deadline() != -1 && passed < duration; count++) {
    host_advance(MILLISECOND);
    passed += MILLISECOND;
  }
  return count;
}

static void an_idle_stack_has_no_deadline(void) {
  host_poll();
  CHECK_EQUAL(host_deadline(), -1);
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  host_poll();
  CHECK_EQUAL(host_deadline(), -1);
  host_jump(3600 * (int64_t)SECOND);
  CHECK_EQUAL(host_deadline(), -1);
  close_interface();
}

static void open_connections_have_no_deadline(void) {
  static struct peer peer;
  peer = open_peer();
  CHECK_EQUAL(tcp_put(peer.handle, "x", 1), 1);
  host_poll();
  peer_expect(&peer, ACK);
  peer_send(&peer, ACK, "y", 1);
  host_poll();
  uint8_t data;
  CHECK_EQUAL(event_expect_data(peer.handle, &data, 1), 1);
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, 1), 0);
  CHECK(wakes(10 * SECOND) < 200); /* the delayed acknowledgement, and then no deadline */
  frames_forget();
  for (int hour = 0; hour < 24; hour++) {
    host_jump(3600 * (int64_t)SECOND);
    CHECK_EQUAL(host_deadline(), -1);
  }
  CHECK_EQUAL(tcp_put(peer.handle, "after a day", 11), 11);
  host_poll();
  struct segment segment = peer_expect(&peer, ACK);
  CHECK_EQUAL(segment.length, 11);
  CHECK(memcmp(segment.data, "after a day", 11) == 0);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

static void delayed_acknowledgement_leaves_in_time(void) {
  struct peer peer = open_peer();
  peer_send(&peer, ACK, "data", 4);
  host_poll();
  uint8_t data[4];
  CHECK_EQUAL(event_expect_data(peer.handle, data, 4), 4);
  CHECK_EQUAL(abi_tcp_received(0, peer.handle, 4), 0);
  host_poll();
  host_advance(500 * MILLISECOND); /* RFC 1122, section 4.2.3.2 */
  CHECK_EQUAL(peer_expect(&peer, ACK).acknowledgement, peer.sequence);
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

/* RFC 9293, section 3.8.4, with the intervals that the application set. */
static void keep_alive_probes_and_times_out(void) {
  struct peer peer = open_peer();
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE, 1), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_IDLE, 10000), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_INTERVAL, 2000), 0);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_COUNT, 3), 0);
  frames_forget();
  host_advance(9 * SECOND);
  peer_expect_silence(&peer);
  CHECK(host_deadline() != -1);
  host_advance(2 * SECOND);
  struct segment segment = peer_peek(&peer);
  CHECK_EQUAL(segment.flags, ACK);
  CHECK_EQUAL(segment.sequence, peer.acknowledgement - 1);
  peer_send(&peer, ACK, NULL, 0); /* the peer answers: the count starts anew */
  host_poll();
  frames_forget();
  host_advance(9 * SECOND);
  peer_expect_silence(&peer);
  host_advance(20 * SECOND);
  int probes = 0;
  while ((segment = peer_peek(&peer)).flags != 0) {
    probes += (segment.flags & RST) == 0;
  }
  CHECK_EQUAL(probes, 3);
  CHECK_EQUAL(event_expect(ABI_EVENT_CLOSED, peer.handle).value, -ABI_ERROR_TIMED_OUT);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE, 0), ABI_ERROR_NOT_CONNECTED);
  CHECK_EQUAL(abi_tcp_close(peer.handle), 0);
  close_interface();
}

static void options_out_of_range_are_refused(void) {
  struct peer peer = open_peer();
  CHECK_EQUAL(abi_tcp_option(peer.handle, 0, 1), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_tcp_option(peer.handle, 99, 1), ABI_ERROR_INVALID);
  CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_NODELAY, -1), ABI_ERROR_INVALID);
  for (int32_t option = ABI_OPTION_KEEPALIVE_IDLE; option <= ABI_OPTION_KEEPALIVE_COUNT; option++) {
    CHECK_EQUAL(abi_tcp_option(peer.handle, option, 0), ABI_ERROR_INVALID);
    CHECK_EQUAL(abi_tcp_option(peer.handle, option, INT32_MIN), ABI_ERROR_INVALID);
  }
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

/* Intervals whose total exceeds 32 bits in milliseconds: refused or kept, but not wrapped into an end within milliseconds. */
static void the_longest_keep_alive_does_not_wrap(void) {
  static const int32_t values[][3] = {
      {INT32_MAX, 0x40000001, 2},
      {INT32_MAX, INT32_MAX, INT32_MAX},
      {1, 0x10000, 0x10000},
      {32767000, 32767000, 127},
  };
  for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
    struct peer peer = open_peer();
    abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_IDLE, values[i][0] < 20000 ? 20000 : values[i][0]);
    abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_INTERVAL, values[i][1]);
    abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE_COUNT, values[i][2]);
    CHECK_EQUAL(abi_tcp_option(peer.handle, ABI_OPTION_KEEPALIVE, 1), 0);
    host_advance(25 * (int64_t)SECOND);
    event_expect_none();
    CHECK_EQUAL(tcp_put(peer.handle, "open", 4), 4);
    CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
    close_interface();
    host_expect_clean();
  }
}

/* After a suspended process or machine, the connection continues, without delay. */
static void connections_continue_after_a_suspension(void) {
  static const int64_t pauses[] = {1, 60, 1300, 1700, 3600, 100000};
  for (unsigned i = 0; i < sizeof pauses / sizeof *pauses; i++) {
    struct peer peer = open_peer();
    CHECK_EQUAL(tcp_put(peer.handle, "first", 5), 5);
    host_poll();
    peer_expect(&peer, ACK);
    peer_send(&peer, ACK, NULL, 0); /* its answer arrives while the stack is suspended */
    host_jump(pauses[i] * SECOND);
    frames_forget();
    CHECK_EQUAL(tcp_put(peer.handle, "second", 6), 6);
    host_poll();
    struct segment segment = peer_expect(&peer, ACK);
    CHECK(memcmp(segment.data, "second", 6) == 0);
    host_advance(121 * (int64_t)SECOND); /* lost: retransmitted within the time-out of RFC 6298, section 2.5 */
    segment = peer_peek(&peer);
    CHECK_EQUAL(segment.length, 6);
    CHECK(memcmp(segment.data, "second", 6) == 0);
    CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
    close_interface();
    host_expect_clean();
  }
}

static void a_clock_that_steps_back_stands_still(void) {
  struct peer peer = open_peer();
  CHECK_EQUAL(tcp_put(peer.handle, "data", 4), 4);
  host_poll();
  peer_expect(&peer, ACK);
  int64_t due = host_deadline();
  CHECK(due > 0);
  static const double odd[] = {0, -1, -1e300, 1e300, INFINITY, NAN};
  for (unsigned i = 0; i < sizeof odd / sizeof *odd; i++) {
    CHECK_EQUAL(abi_poll(odd[i]) * SECOND, due); /* not a valid time: the clock stands still */
  }
  CHECK_EQUAL(abi_tcp_abort(peer.handle), 0);
  close_interface();
}

int main(void) {
  host_start();
  RUN(an_idle_stack_has_no_deadline);
  RUN(open_connections_have_no_deadline);
  RUN(delayed_acknowledgement_leaves_in_time);
  RUN(keep_alive_probes_and_times_out);
  RUN(options_out_of_range_are_refused);
  RUN(a_clock_that_steps_back_stands_still);
  RUN(connections_continue_after_a_suspension);
  RUN(the_longest_keep_alive_does_not_wrap);
  return 0;
}
