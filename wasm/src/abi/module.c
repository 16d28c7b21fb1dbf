/* The basic calls of the module: start, poll, statistics, and the memory that the embedder and the stack share. */
#include "abi/module.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/events.h"
#include "abi/handles.h"
#include "abi/staging.h"
#include "ip/autoconfiguration.h"
#include "ip/forward.h"
#include "ip/icmp.h"
#include "ip/icmp_limit.h"
#include "ip/send_room.h"
#include "link/receive.h"
#include "port/consistency.h"
#include "port/heap.h"
#include "port/random.h"
#include "port/statistics.h"
#include "port/timers.h"
#include "tcp/connection.h"
#include "tcp/tcp_listen.h"
#include "tcp/tcp_lookup.h"
#include "tcp/tcp_output.h"
#include "tcp/tcp_recovery.h"
#include "udp/udp_receive.h"
#include "lwip/init.h"
#include "lwip/stats.h"

uint32_t tw_control[ABI_CONTROL_WORDS] __attribute__((aligned(8)));
union tw_scratch tw_scratch __attribute__((aligned(16)));
uint64_t tw_now;

static uint32_t figures[ABI_STATISTIC_WORDS];

int32_t abi_version(void) { return ABI_VERSION; }

int32_t tw_error_from_lwip(err_t error) {
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

/* ABI_MORE_MEMORY if linear memory has grown since the last call. */
static uint32_t memory_grown(void) {
#ifdef __wasm__
  static uint32_t pages;
  uint32_t before = pages;
  pages = (uint32_t)__builtin_wasm_memory_size(0);
  return pages != before ? ABI_MORE_MEMORY : 0;
#else
  return 0;
#endif
}

/* If the embedder's clock steps back, the stack's stands still; a value that is no time counts as 0. */
static void set_now(double seconds) {
  uint64_t time = seconds > 0 && seconds < 1e12 ? (uint64_t)(seconds * 1e6) : 0;
  tw_now = LWIP_MAX(tw_now, time);
}

int32_t abi_start(double time, int64_t seed_low, int64_t seed_high) {
  set_now(time);
  tw_random_seed((uint64_t)seed_low, (uint64_t)seed_high);
  tw_control[ABI_CONTROL_SCRATCH] = (uint32_t)(uintptr_t)&tw_scratch;
  tw_control[ABI_CONTROL_STATISTICS] = (uint32_t)(uintptr_t)figures;
  tw_events_reset();
  if (!tw_staging_may_stay()) {
    return ABI_ERROR_NO_MEMORY;
  }
  tw_staging_stays(true);
  lwip_init();
  tw_timers_start();
  return (int32_t)(uintptr_t)tw_control;
}

/* One iteration: pending output is sent, received frames are processed, timers that are due run. The reply to data waits for
   the next poll, which the embedder makes after it has delivered the data: one segment then acknowledges it, opens the window
   and carries the reply. */
double abi_poll(double time) {
  set_now(time);
  tw_events_reset();
  bool more = tw_timers_run();
  consistency_restore();
  more |= tw_rack_timers_run();
  more |= tw_tcp_flush();
  more |= tw_udp_loop_back();
  more |= tw_interfaces_receive();
  if (!tw_events_hold_data()) {
    more |= tw_tcp_flush();
  }
  more |= tw_tcp_admit();
  more |= tw_tcp_report();
  tw_room_report();
  tw_autoconfiguration_report();
  more |= tw_interfaces_announce();
  tw_control[ABI_CONTROL_MORE] =
      (more ? ABI_MORE_NOW : 0) | (tw_tcp_has_pending() && tw_events_hold_data() ? ABI_MORE_SOON : 0) | memory_grown();
  return tw_timers_deadline();
}

double abi_advance(double time) {
  set_now(time);
  tw_timers_run();
  consistency_restore();
  return tw_timers_next_tick();
}

int32_t abi_statistics(void) {
  figures[ABI_STATISTIC_TCP_SEGMENTS_IN] = lwip_stats.tcp.recv;
  figures[ABI_STATISTIC_TCP_SEGMENTS_OUT] = lwip_stats.tcp.xmit;
  figures[ABI_STATISTIC_TCP_RETRANSMISSIONS] = tw_tcp_retransmissions;
  figures[ABI_STATISTIC_CHECKSUM_ERRORS] = tw_statistics.checksum_errors;
  figures[ABI_STATISTIC_MALFORMED] = tw_statistics.malformed;
  figures[ABI_STATISTIC_PROTOCOL_DROPS] = tw_statistics.drops + lwip_stats.udp.drop;
  figures[ABI_STATISTIC_MEMORY_ERRORS] = lwip_stats.tcp.memerr + lwip_stats.link.memerr;
  figures[ABI_STATISTIC_HEAP_USED] = tw_heap_used();
  figures[ABI_STATISTIC_CONNECTIONS] = tw_tcp_connections();
  figures[ABI_STATISTIC_TIME_WAIT] = tw_tcp_time_wait_count();
  figures[ABI_STATISTIC_HANDLES] = tw_handle_count();
  figures[ABI_STATISTIC_UDP_IN] = lwip_stats.udp.recv;
  figures[ABI_STATISTIC_UDP_OUT] = lwip_stats.udp.xmit;
  figures[ABI_STATISTIC_UDP_NO_PORT] = lwip_stats.udp.proterr;
  figures[ABI_STATISTIC_UDP_DROPS] = lwip_stats.udp.drop - lwip_stats.udp.proterr;
  figures[ABI_STATISTIC_FRAGMENTS_IN] = lwip_stats.ip_frag.recv + lwip_stats.ip6_frag.recv;
  figures[ABI_STATISTIC_FRAGMENTS_OUT] = lwip_stats.ip_frag.xmit + lwip_stats.ip6_frag.xmit;
  figures[ABI_STATISTIC_ICMP_IN] = lwip_stats.icmp.recv + lwip_stats.icmp6.recv;
  figures[ABI_STATISTIC_ICMP_OUT] = lwip_stats.icmp.xmit + lwip_stats.icmp6.xmit;
  figures[ABI_STATISTIC_ICMP_UNMATCHED] = tw_icmp_unmatched;
  figures[ABI_STATISTIC_FRAGMENT_DROPS] = lwip_stats.ip_frag.drop + lwip_stats.ip6_frag.drop;
  figures[ABI_STATISTIC_INCONSISTENCIES] = tw_consistency_failures();
  figures[ABI_STATISTIC_SYN_COOKIES] = tw_tcp_cookies;
  figures[ABI_STATISTIC_BACKLOG_DROPS] = tw_tcp_backlog_drops;
  figures[ABI_STATISTIC_ICMP_LIMITED] = tw_icmp_limited;
  figures[ABI_STATISTIC_FORWARDED] = lwip_stats.ip.fw + lwip_stats.ip6.fw;
  figures[ABI_STATISTIC_FORWARD_DROPS] = tw_forward_drops();
  return 0;
}
