/* The rate limit of errors: RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f). An attacker chooses the source address of a
   packet, and so the receiver of the error. Echo replies and resets are not limited, as in Linux: they are no longer than the
   packet they answer, and hosts use both to find out whether others are there. */
#include "ip/icmp_limit.h"

#include "lwip_hooks.h"
#include "abi/module.h"
#include "lwip/def.h"

enum { RATE = 100, BURST = 100 /* messages a second, and the burst */ };

uint32_t tw_icmp_limited;

/* Packet Too Big has a bucket of its own: without it a connection stalls, and packets that expire must not use it up. The
   errors of the stack itself have one, too: datagrams to closed ports do not use up the router's. */
bool tw_icmp_may_send(enum icmp_kind kind) {
  static struct {
    uint64_t time;
    uint32_t left;
  } buckets[ICMP_KINDS] = {{.left = BURST}, {.left = BURST}, {.left = BURST}};
  uint64_t earned = (tw_now - buckets[kind].time) * RATE / 1000000;
  if (earned > 0) {
    buckets[kind].left = (uint32_t)LWIP_MIN(buckets[kind].left + earned, BURST);
    buckets[kind].time = tw_now;
  }
  if (buckets[kind].left == 0) {
    tw_icmp_limited++;
    return false;
  }
  buckets[kind].left--;
  return true;
}

/* LWIP_HOOK_ICMP_ERROR: an error of the stack itself. */
bool tw_icmp_own_error(void) { return tw_icmp_may_send(ICMP_OWN); }
