/* The event buffer: chunks of one connection are joined, events keep their order, none is dropped, and an embedder that does
   not read does not make the buffer overflow. */
#include "support.h"
#include "abi/events.h"
#include "lwip/pbuf.h"

#include <string.h>

enum { CONNECTIONS = 8, EACH = 200000 };

static uint8_t stream[EACH];

static int32_t open_loopback(void) {
  int32_t loopback = interface_open(ABI_KIND_LOOPBACK, 65535);
  CHECK_EQUAL(interface_set_ipv4(loopback, LOCAL4, 8), 0);
  return loopback;
}

/* Small segments of one connection are joined into one event; those of several connections each into their own. */
static void chunks_of_one_connection_are_joined(void) {
  int32_t interface = interface_open(ABI_KIND_TUN, 1500);
  CHECK_EQUAL(interface_set_ipv4(interface, HOST4, 24), 0);
  int32_t listener = tcp_listener(ABI_FAMILY_ANY, NULL, 80, 8);
  struct peer one = peer_new(interface, ABI_FAMILY_IPV4, 80), two = one;
  two.from_port++;
  peer_open(&one, listener);
  peer_open(&two, listener);
  uint32_t lengths[] = {1, 2, 3, 4, 5, 1000, 1, 7};
  uint32_t total = 0;
  for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    peer_send(&one, ACK, stream + total, lengths[i]);
    total += lengths[i];
  }
  peer_send(&two, ACK, "between", 7);
  peer_send(&one, ACK, stream + total, 100);
  host_poll();
  struct event event = event_expect(ABI_EVENT_DATA, one.handle);
  CHECK_EQUAL(event.value, total);
  pattern_check(event.payload, event.length, 0);
  event = event_expect(ABI_EVENT_DATA, two.handle);
  CHECK_EQUAL(event.value, 7);
  CHECK(memcmp(event.payload, "between", 7) == 0);
  event = event_expect(ABI_EVENT_DATA, one.handle);
  CHECK_EQUAL(event.value, 100);
  pattern_check(event.payload, event.length, total);
  event_expect_none();
  CHECK_EQUAL(abi_tcp_abort(one.handle), 0);
  CHECK_EQUAL(abi_tcp_abort(two.handle), 0);
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  CHECK_EQUAL(abi_interface_remove(interface), 0);
}

/* Chains, empty parts, and lengths around the largest chunk, added without TCP. */
static void chunks_have_a_maximum_size(void) {
  static uint8_t large[60000];
  pattern_fill(large, sizeof large, 0);
  tw_events_reset();
  uint32_t total = 0;
  for (int i = 0; i < 12; i++) {
    struct pbuf *chain = pbuf_alloc(PBUF_RAW, 0, PBUF_RAM), *part = pbuf_alloc(PBUF_RAW, 30000, PBUF_RAM);
    CHECK(chain != NULL && part != NULL);
    memcpy(part->payload, large + (i % 2) * 30000, 30000);
    pbuf_cat(chain, part);
    tw_event_add_data(0x10001, chain);
    pbuf_free(chain);
    total += 30000;
  }
  CHECK(tw_events_hold_data());
  /* Two records: the first has 8 parts of 30,000 bytes, the second 4. */
  CHECK_EQUAL(tw_control[ABI_CONTROL_EVENT_LENGTH], total + 2 * ABI_EVENT_HEADER_SIZE);
  CHECK(!tw_events_have_room()); /* a frame may still follow */
  tw_events_reset();
  CHECK(!tw_events_hold_data());
  CHECK(tw_events_have_room());
  CHECK_EQUAL(tw_control[ABI_CONTROL_EVENT_LENGTH], 0);
}

/* Eight connections through the loopback interface at once, each way, with an embedder that reads late. */
static void slow_readers_receive_everything(void) {
  int32_t clients[CONNECTIONS], servers[CONNECTIONS] = {0};
  uint32_t put[CONNECTIONS] = {0}, got[CONNECTIONS] = {0}, ended = 0;
  int32_t loopback = open_loopback(), listener = tcp_listener(ABI_FAMILY_IPV4, NULL, 80, 16);
  for (int i = 0; i < CONNECTIONS; i++) {
    clients[i] = tcp_open(ABI_FAMILY_IPV4, LOCAL4, 80);
    CHECK(clients[i] > 0);
    host_poll();
    struct event event;
    bool connected = false;
    while ((event = event_next()).kind != 0) {
      connected |= event.kind == ABI_EVENT_CONNECTED && event.handle == clients[i];
      servers[i] = event.kind == ABI_EVENT_ACCEPTED ? event.value : servers[i];
    }
    CHECK(connected && servers[i] > 0);
    CHECK_EQUAL(abi_tcp_accepted(servers[i]), 0);
  }
  for (int round = 0; ended < CONNECTIONS; round++) {
    CHECK(round < 20000);
    for (int i = 0; i < CONNECTIONS; i++) {
      if (put[i] < EACH) {
        int32_t step = tcp_put_at(host_clock_or_none(), clients[i], stream + put[i], (int32_t)LWIP_MIN(EACH - put[i], 40000u));
        CHECK(step >= 0);
        put[i] += (uint32_t)step;
        if (put[i] == EACH) {
          CHECK_EQUAL(abi_tcp_shutdown(clients[i]), 0);
        }
      }
    }
    host_poll_once(10 * MILLISECOND);
    struct event event;
    while ((event = event_next()).kind != 0) {
      int which = 0;
      while (which < CONNECTIONS && servers[which] != event.handle) {
        which++;
      }
      if (event.kind == ABI_EVENT_WRITABLE) {
        continue;
      }
      CHECK(which < CONNECTIONS);
      if (event.kind == ABI_EVENT_EOF) {
        CHECK_EQUAL(got[which], EACH);
        ended++;
        continue;
      }
      CHECK_EQUAL(event.kind, ABI_EVENT_DATA);
      CHECK(got[which] + event.length <= EACH);
      pattern_check(event.payload, event.length, got[which]);
      got[which] += event.length;
      CHECK_EQUAL(abi_tcp_received(host_clock_or_none(), event.handle, (int32_t)event.length), 0);
    }
  }
  for (int i = 0; i < CONNECTIONS; i++) {
    CHECK_EQUAL(abi_tcp_close(servers[i]), 0);
    CHECK_EQUAL(abi_tcp_close(clients[i]), 0);
  }
  CHECK_EQUAL(abi_tcp_close(listener), 0);
  host_advance(SECOND);
  CHECK_EQUAL(abi_interface_remove(loopback), 0);
}

int main(void) {
  pattern_fill(stream, EACH, 0);
  host_start();
  RUN(chunks_of_one_connection_are_joined);
  RUN(chunks_have_a_maximum_size);
  RUN(slow_readers_receive_everything);
  return 0;
}
