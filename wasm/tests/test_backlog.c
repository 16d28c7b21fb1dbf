/* The backlog of a listener: peers beyond it are accepted later and in order, and slots are freed by every way to end. */
#include "support_listener.h"
#include "tcp/tcp_listen.h"
#include "tcp/tcp_lookup.h"

#include "lwip/priv/tcp_priv.h"

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

/* Peers whose handshakes completed while the backlog was full get slots in the order in which they came, and no data that they
   sent meanwhile is lost: they retransmit it. */
static void peers_beyond_the_backlog_are_accepted_in_order(void) {
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
      host_advance(300 * (int64_t)SECOND); /* nothing is sent to them, and none times out */
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

static void peers_beyond_the_backlog_may_reset(void) {
  static struct peer peers[6];
  open_interface(2);
  answer_all(peers, 6);
  peer_send_at(&peers[2], SYN, -1, NULL, 0); /* a duplicate of its SYN has no effect */
  peer_send(&peers[3], RST, NULL, 0);
  host_poll();
  peer_expect_silence(&peers[2]);
  int32_t first = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  expect_payload(first, "hello");
  int32_t second = event_expect(ABI_EVENT_ACCEPTED, listener).value;
  expect_payload(second, "hello");
  event_expect_none();
  CHECK_EQUAL(abi_tcp_abort(first), 0); /* a connection that is never accepted frees its slot, too */
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
static void a_backlog_of_thousands_is_filled(void) {
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

int main(void) {
  host_start();
  host_reserve_handles(600);
  RUN(peers_beyond_the_backlog_are_accepted_in_order);
  RUN(peers_beyond_the_backlog_may_reset);
  RUN(a_backlog_of_thousands_is_filled);
  return 0;
}
