/* What an epoch does often, seldom or never. Many features at once mask one another: a window that stays closed prevents
   writes, and a connection that is reset at once fills no buffer. So each epoch leaves out most of them (Groce and others,
   "Swarm Testing", 2012). */
#include "fuzz.h"

struct style style;

static uint32_t share(uint32_t most) { return percent(50) ? 0 : percent(50) ? below(most / 4 + 1) : below(most + 1); }

void style_choose(void) {
  style.wrong = ONE_OF(0, 5, 20, 50, 50, 70);
  style.wrong_answers = ONE_OF(0, 10, 50);
  style.silent = ONE_OF(0, 0, 10, 50);
  style.extended = share(40);
  style.fragmented = share(30);
  style.damaged = share(20);
  style.failing = share(20);
  style.stalled = share(20);
  style.late_reads = ONE_OF(0, 30, 90, 100);
  style.timestamps = ONE_OF(0, 50, 100);
  style.tiny_mss = ONE_OF(0, 0, 30, 100);
  style.tiny_window = ONE_OF(0, 10, 50, 90);
  style.jumps = ONE_OF(0, 0, 0, 1, 20);
  style.at_once = ONE_OF(0, 50, 100);
  style.six = ONE_OF(0, 50, 100);
  style.big_mtu = ONE_OF(0, 30, 100);
  style.churn = ONE_OF(0, 0, 20, 100);
  memory_limit = percent(10) ? 8000000 + below(8000000) : 0;
  for (uint32_t i = 0; i < COUNT(style.weights); i++) {
    style.weights[i] = ONE_OF(0, 0, 1, 4, 10);
  }
}
