/* The end of an epoch: programs end, interfaces are removed, time passes, and nothing may be leaked. */
#include "fuzz.h"
#include "abi/handles.h"
#include "port/heap.h"
#include "tcp/connection.h"

#include <sanitizer/lsan_interface.h>

enum { MOST_POLLS_AT_END = 200000 };

static uint32_t heap_base;

/* What the stack allocates once and keeps: a table of handles, and the pbuf of a segment that is read in place. */
void epoch_begin(uint64_t seed) {
  world_start(seed);
  uint8_t segment[20] = {[12] = 0x50, [13] = ACK_BIT};
  struct link *link = &links[0];
  *link = (struct link){.kind = ABI_KIND_TUN, .mtu = 1500, .number = 250, .bridge = -1};
  link->handle = abi_interface_add(ABI_KIND_TUN, 1500, 1);
  CHECK(link->handle > 0, "%d", link->handle);
  struct route_to route = {.link = link, .exact = true, .from = {10, 250, 0, 2}, .to = {10, 250, 0, 1}};
  packet_send(&route, TCP_PROTOCOL, segment, sizeof segment);
  world_poll();
  CHECK(abi_interface_remove(link->handle) == 0, "%x", link->handle);
  link->handle = 0;
  world_poll();
  heap_base = tw_heap_used();
}

static void remove_links(void) {
  for (uint32_t i = 0, first = below(MAX_LINKS); i < MAX_LINKS; i++) {
    if (links[(first + i) % MAX_LINKS].handle != 0) {
      link_remove(&links[(first + i) % MAX_LINKS]);
    }
  }
}

/* Peers are silent from here on: what is unacknowledged ends by the stack's own timers. */
void epoch_finish(void) {
  bool links_first = percent(30), abruptly = percent(95);
  allocations_left = -1;
  memory_limit = 0;
  style.silent = 100;
  style.wrong_answers = 0;
  for (uint32_t i = 0; i < MAX_LINKS; i++) {
    links[i].stalled = 0;
  }
  world_poll();
  if (links_first) {
    remove_links();
    world_poll();
  }
  programs_end(abruptly);
  datagrams_end();
  world_poll();
  if (percent(50)) {
    world_pass(abruptly ? 70 * (int64_t)SECOND : 0);
    remove_links();
  }
  world_advance((abruptly ? 300 : 3000) * (int64_t)SECOND, MOST_POLLS_AT_END);
  remove_links();
  world_advance(300 * (int64_t)SECOND, 1000);
  CHECK(tw_tcp_connections() == 0, "%u connections", tw_tcp_connections());
  CHECK(tw_handle_count() == 0, "%u handles", tw_handle_count());
  CHECK(tw_heap_used() == heap_base, "%u bytes of the heap, %u at the beginning", tw_heap_used(), heap_base);
  CHECK(world_deadline() == -1, "deadline %lld", (long long)world_deadline());
  abi_statistics();
  CHECK(__lsan_do_recoverable_leak_check() == 0, "memory leaked");
}
