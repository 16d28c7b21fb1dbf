/* The front of the module: start, poll, statistics, and the memory that the host and the stack share. */
#include "connection.h"
#include "lwip/init.h"
#include "lwip/stats.h"

uint32_t control[ABI_CONTROL_WORDS];
uint8_t staging[ABI_STAGING_CAPACITY] __attribute__((aligned(16)));
uint8_t scratch[ABI_SCRATCH_CAPACITY] __attribute__((aligned(16)));
uint64_t now;

static uint32_t figures[ABI_STATISTIC_WORDS];

int32_t abi_version(void) { return ABI_VERSION; }

int32_t error_from_lwip(err_t error) {
  switch (error) {
    case ERR_OK:
      return 0;
    case ERR_MEM:
    case ERR_BUF:
      return ABI_ERROR_NO_MEMORY;
    case ERR_RTE:
      return ABI_ERROR_NO_ROUTE;
    case ERR_USE:
      return ABI_ERROR_ADDRESS_IN_USE;
    case ERR_CONN:
    case ERR_CLSD:
      return ABI_ERROR_NOT_CONNECTED;
    default:
      return ABI_ERROR_INVALID;
  }
}

static void note_memory(void) {
#ifdef __wasm__
  control[ABI_CONTROL_MEMORY_BYTES] = (uint32_t)__builtin_wasm_memory_size(0) * 65536u;
#endif
}

int32_t abi_start(int64_t time, int64_t seed_low, int64_t seed_high) {
  now = (uint64_t)time;
  random_seed((uint64_t)seed_low, (uint64_t)seed_high);
  control[ABI_CONTROL_STAGING] = (uint32_t)(uintptr_t)staging;
  control[ABI_CONTROL_SCRATCH] = (uint32_t)(uintptr_t)scratch;
  control[ABI_CONTROL_STATISTICS] = (uint32_t)(uintptr_t)figures;
  events_reset();
  lwip_init();
  timers_start();
  note_memory();
  return (int32_t)(uintptr_t)control;
}

/* One turn: what was written leaves, what arrived is taken in, timers that are due run. The answer to data waits for
   the next poll, which the host makes after it has handed the data up: one segment then acknowledges it, opens the
   window and carries the reply. */
int64_t abi_poll(int64_t time) {
  if ((uint64_t)time > now) { /* a clock that steps back stands still instead */
    now = (uint64_t)time;
  }
  events_reset();
  timers_run();
  tcp_flush();
  bool more = interfaces_receive();
  if (!events_hold_data()) {
    tcp_flush();
  }
  more |= tcp_report();
  more |= interfaces_announce();
  more |= tcp_has_pending() && events_hold_data();
  control[ABI_CONTROL_MORE] = more;
  note_memory();
  return timers_deadline();
}

int32_t abi_statistics(void) {
  figures[ABI_STATISTIC_TCP_SEGMENTS_IN] = lwip_stats.mib2.tcpinsegs;
  figures[ABI_STATISTIC_TCP_SEGMENTS_OUT] = lwip_stats.mib2.tcpoutsegs;
  figures[ABI_STATISTIC_TCP_RETRANSMISSIONS] = lwip_stats.mib2.tcpretranssegs;
  figures[ABI_STATISTIC_CHECKSUM_ERRORS] = lwip_stats.ip.chkerr + lwip_stats.tcp.chkerr + lwip_stats.udp.chkerr +
                                           lwip_stats.icmp.chkerr + lwip_stats.icmp6.chkerr;
  figures[ABI_STATISTIC_MALFORMED] = lwip_stats.ip.lenerr + lwip_stats.ip6.lenerr + lwip_stats.tcp.lenerr +
                                     lwip_stats.udp.lenerr + lwip_stats.etharp.lenerr + lwip_stats.nd6.lenerr;
  figures[ABI_STATISTIC_PROTOCOL_DROPS] = lwip_stats.ip.drop + lwip_stats.ip6.drop + lwip_stats.tcp.drop +
                                          lwip_stats.etharp.drop + lwip_stats.nd6.drop + lwip_stats.icmp6.drop;
  figures[ABI_STATISTIC_MEMORY_ERRORS] = lwip_stats.tcp.memerr + lwip_stats.link.memerr;
  figures[ABI_STATISTIC_HEAP_USED] = heap_used();
  figures[ABI_STATISTIC_CONNECTIONS] = tcp_connections();
  figures[ABI_STATISTIC_TIME_WAIT] = tcp_time_wait_count();
  figures[ABI_STATISTIC_HANDLES] = handle_count();
  return 0;
}
