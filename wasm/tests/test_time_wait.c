/* A new connection with the ports of one in TIME-WAIT (RFC 6191, section 2; RFC 1122, section 4.2.2.13). */
#include "support.h"
#include "tcp/tcp_lookup.h"

enum { VALUE = 1000000 };

static int32_t interface, listener;

static void stamp(struct peer *peer, uint32_t value) {
  static const uint8_t option[12] = {1, 1, 8, 10};
  peer->options_length = 0;
  peer_option(peer, option, sizeof option);
  put32(peer->options + 4, value);
}

/* Opens a connection, which the host closes first, and leaves it in TIME-WAIT. */
static void open_and_close(struct peer *peer) {
  peer_send(peer, SYN, NULL, 0);
  host_poll();
  peer_expect(peer, SYN | ACK);
  peer_send_stamped(peer, ACK, NULL, 0);
  host_poll();
  peer->handle = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  CHECK_EQUAL(abi_tcp_accepted(peer->handle), 0);
  CHECK_EQUAL(abi_tcp_close(peer->handle), 0);
  host_poll();
  peer_expect(peer, FIN | ACK);
  peer_send_stamped(peer, FIN | ACK, NULL, 0);
  host_poll();
  peer_expect(peer, ACK);
  CHECK_EQUAL(tw_tcp_time_wait_count(), 1);
}

static struct peer in_time_wait(bool stamped) {
  interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer peer = peer_new(interface, ABI_FAMILY_IPV4, 80);
  if (stamped) {
    stamp(&peer, VALUE);
  }
  open_and_close(&peer);
  return peer;
}

static void end(void) {
  host_advance(70 * (int64_t)SECOND);
  frames_forget();
  CHECK_EQUAL(tw_tcp_time_wait_count(), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* Sends a SYN at a distance from the next sequence number; it opens a connection, or is acknowledged as a stray segment. */
static void send_syn(struct peer *peer, int32_t distance, bool opens) {
  struct peer again = *peer;
  again.sequence += (uint32_t)distance;
  uint32_t beyond = peer->acknowledgement;
  peer_send(&again, SYN, NULL, 0);
  host_poll();
  struct segment answer = peer_peek(peer);
  CHECK_EQUAL(answer.flags, opens ? SYN | ACK : ACK);
  CHECK_EQUAL(tw_tcp_time_wait_count(), !opens);
  if (!opens) {
    CHECK_EQUAL(answer.sequence, beyond);
    CHECK_EQUAL(answer.acknowledgement, peer->sequence);
    return;
  }
  CHECK_EQUAL(answer.acknowledgement, again.sequence);
  CHECK((int32_t)(answer.sequence - beyond) > 0);
  CHECK_EQUAL(segment_option(&answer, 8) != NULL, peer->options_length > 0);
  *peer = again;
  peer->acknowledgement = answer.sequence + 1;
  peer_send_stamped(peer, RST, NULL, 0);
  host_poll();
}

/* Whatever its sequence number. */
static void a_later_timestamp_opens(void) {
  static const int32_t distances[] = {0, 1, -1, -100000, 100000, INT32_MAX, INT32_MIN};
  for (uint32_t i = 0; i < sizeof distances / sizeof *distances; i++) {
    struct peer peer = in_time_wait(true);
    stamp(&peer, VALUE + 1 + i);
    send_syn(&peer, distances[i], true);
    end();
  }
}

static void an_earlier_timestamp_does_not(void) {
  static const uint32_t ages[] = {1, 1000, 1u << 30, INT32_MAX};
  struct peer peer = in_time_wait(true);
  for (uint32_t i = 0; i < sizeof ages / sizeof *ages; i++) {
    host_advance(SECOND); /* such answers are limited, RFC 5961, section 7 */
    stamp(&peer, VALUE - ages[i]);
    send_syn(&peer, 1, false);
    host_advance(SECOND);
    send_syn(&peer, 1000000, false);
  }
  end();
}

/* Within a millisecond the sequence number decides. */
static void the_same_timestamp(void) {
  struct peer peer = in_time_wait(true);
  send_syn(&peer, -1, false);
  host_advance(SECOND);
  send_syn(&peer, 1, true);
  end();
}

static void without_timestamps_the_sequence_number_decides(void) {
  struct peer peer = in_time_wait(false);
  send_syn(&peer, -1, false);
  host_advance(SECOND);
  send_syn(&peer, 1, true);
  end();
}

int main(void) {
  host_start();
  RUN(a_later_timestamp_opens);
  RUN(an_earlier_timestamp_does_not);
  RUN(the_same_timestamp);
  RUN(without_timestamps_the_sequence_number_decides);
  return 0;
}
