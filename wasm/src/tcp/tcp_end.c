/* The end of a host that closes in order: what of TCP is yet to be delivered, and what its peers receive at last. A connection
   of the host with itself ends with the host, and no other peer is to be notified. */
#include "abi.h"
#include "link/interface.h"
#include "tcp/connection.h"
#include "tcp/tcp_output.h"
#include "tcp/tcp_ticked.h"

static bool has_peer(const struct tcp_pcb *pcb) { return !tw_interface_owns(&pcb->remote_ip); }

/* Whether our FIN was said and is not acknowledged, or is yet to be said where the handle is closed. */
static bool is_finishing(const struct tcp_pcb *pcb) {
  switch (pcb->state) {
    case FIN_WAIT_1:
    case CLOSING:
    case LAST_ACK:
      return true;
    case ESTABLISHED:
    case CLOSE_WAIT: {
      const struct connection *connection = tw_connection_of(pcb);
      return connection != NULL && connection->handle == 0;
    }
    default:
      return false;
  }
}

int32_t abi_tcp_undelivered(void) {
  int32_t count = 0;
  for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb != NULL; pcb = pcb->next) {
    count += is_finishing(pcb) && has_peer(pcb);
  }
  return count;
}

static void reset_at(const struct tcp_pcb *pcb, uint32_t sequence) {
  tcp_rst(pcb, sequence, pcb->rcv_nxt, &pcb->local_ip, &pcb->remote_ip, pcb->local_port, pcb->remote_port);
}

/* Resets each connection of which something is not acknowledged, and those that are not open yet; the others say FIN, as those
   of a process that ends. After our FIN was acknowledged nothing is sent: a reset could take what the peer has not read yet. */
int32_t abi_tcp_end(void) {
  int32_t count = 0;
  for (struct tcp_pcb *pcb = tcp_active_pcbs, *next; pcb != NULL; pcb = next) {
    next = pcb->next;
    if (pcb->state == FIN_WAIT_2 || !has_peer(pcb)) {
      continue;
    }
    count++;
    tw_tcp_ticked_touch(pcb);
    bool open = pcb->state == ESTABLISHED || pcb->state == CLOSE_WAIT;
    if (!open || pcb->unsent != NULL || pcb->unacked != NULL || tcp_shutdown(pcb, 0, 1) != ERR_OK) {
      /* A reset is obeyed where it stands at what the peer expects next (RFC 5961, section 3.2). Where that is not known, it is
         sent for both ends of what is not acknowledged: the peer may have all of it, or nothing. */
      if (pcb->state != SYN_SENT && pcb->state != SYN_RCVD && pcb->lastack != pcb->snd_nxt) {
        reset_at(pcb, pcb->lastack);
        reset_at(pcb, pcb->snd_nxt);
      }
      tcp_abort(pcb);
    }
  }
  tw_tcp_flush();
  return count;
}
