/* Checks of lwIP's whose condition depends on what a peer sends and a program writes (LWIP_REQUIRE in lwip/debug.h). None is
   known to fail; should one do so, the connection that it is about is reset, where nothing works on it any more, or the packet
   is dropped. The other checks are listed in third_party/lwip/assertions.toml: those stop the stack. */
#include "port/consistency.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "tcp/connection.h"

enum { TF_INCONSISTENT = 0x8000 }; /* beside lwIP's own flags of a connection */

static uint32_t failures;
bool tw_consistency_lost;

uint32_t tw_consistency_failures(void) { return failures; }

void tw_consistency_failed(struct tcp_pcb *pcb) {
  failures++;
  if (pcb != NULL) {
    tcp_set_flags(pcb, TF_INCONSISTENT);
    tw_consistency_lost = true;
  }
}

#ifndef __wasm__
#include <stdio.h>

void tw_consistency_report(struct tcp_pcb *pcb, const char *file, int line, const char *message) {
  fprintf(stderr, "%s:%d: %s\n", file, line, message);
  tw_consistency_failed(pcb);
}
#endif

/* The list is walked anew after each reset: lwIP may free other connections on the way. */
static bool reset_one(void) {
  for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    if ((pcb->flags & TF_INCONSISTENT) != 0) {
      struct connection *connection = tw_connection_of(pcb);
      if (connection != NULL) {
        connection->error = ABI_ERROR_RESET;
      }
      tcp_abort(pcb);
      return true;
    }
  }
  return false;
}

void tw_consistency_reset(void) {
  while (reset_one()) {
  }
  tw_consistency_lost = false;
}
