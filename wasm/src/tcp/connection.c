/* The life of a connection: what lwIP reports about it becomes events; when both sides are done with it, it is freed. */
#include "tcp/connection.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/events.h"
#include "abi/handles.h"
#include "abi/module.h"
#include "abi/work.h"
#include "link/interface.h"
#include "port/in_place.h"
#include "port/timers.h"
#include "tcp/tcp_early.h"
#include "tcp/tcp_flight.h"
#include "tcp/tcp_output.h"
#include "tcp/tcp_ticked.h"
#include "lwip/ip.h"

enum { LONG_ROUND_TRIP = 100000 }; /* us */

static uint32_t count;

uint32_t tw_tcp_connections(void) { return count; }

/* lwIP is freeing the control block, for whatever reason; an error callback, if any, comes after this. */
void tw_connection_freed(struct connection *connection) {
  tw_timers_tcp_work(connection->pcb->snd_queuelen + WORK_VISITS);
  tw_flight_end(connection);
  tw_early_free(connection->pcb);
  connection->pcb = NULL;
  count--;
  tw_connection_release(connection);
}

static err_t on_received(void *argument, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
  struct connection *connection = argument;
  (void)pcb;
  (void)error;
  if (data == NULL) {
    tw_event_add(ABI_EVENT_EOF, connection->handle, 0);
  } else {
    connection->unread += data->tot_len;
    tw_event_add_data(connection->handle, data);
    pbuf_free(data);
    tw_connection_measure_window(connection);
  }
  return ERR_OK;
}

static void on_error(void *argument, err_t error) {
  struct connection *connection = argument;
  if (error == ERR_RST) {
    connection->error = connection->flags & CONNECTION_ESTABLISHED ? ABI_ERROR_RESET : ABI_ERROR_REFUSED;
  } else {
    /* What ICMP reported about a connection that was never made is a better reason than a missing answer. */
    int32_t reported = connection->error != 0 ? connection->error : ABI_ERROR_TIMED_OUT;
    connection->error = error == ERR_CLSD ? 0 : reported;
  }
  tw_connection_report(connection, CONNECTION_ENDED);
}

static void next_measure(struct connection *connection) {
  connection->window_edge = connection->pcb->rcv_nxt + (connection->pcb->rcv_wnd + connection->unread) / 4;
  connection->window_opened = tw_now;
}

void tw_connection_established(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  connection->flags |= CONNECTION_ESTABLISHED;
  pcb->ssthresh = TCPWND_MAX; /* RFC 5681, section 3.1 */
  connection->reordering_round = pcb->lastack;
  if (pcb->rcv_wnd > ABI_TCP_FIRST_WINDOW) {
    connection->withheld = pcb->rcv_wnd - ABI_TCP_FIRST_WINDOW;
    pcb->rcv_wnd = pcb->rcv_ann_wnd = ABI_TCP_FIRST_WINDOW;
    pcb->rcv_ann_right_edge = pcb->rcv_nxt + ABI_TCP_FIRST_WINDOW; /* a SYN never offers more than 65,535 */
  }
  next_measure(connection);
}

/* Where a quarter of the window came within a round trip through a network, and the application has read what came, the
   window may hold the peer back soon, whose congestion window may double with each round trip: it doubles, too. A path
   whose round trip is not known is taken for a long one. */
void tw_connection_measure_window(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  if (TCP_SEQ_LT(pcb->rcv_nxt, connection->window_edge)) {
    return;
  }
  uint32_t size = pcb->rcv_wnd + connection->unread;
  uint32_t round_trip = connection->least_round_trip != 0 ? connection->least_round_trip : LONG_ROUND_TRIP;
  if (round_trip >= CONNECTION_LONG_WAIT && tw_now - connection->window_opened <= round_trip &&
      connection->unread <= size / 2) {
    uint32_t more = LWIP_MIN(connection->withheld, size);
    connection->withheld -= more;
    pcb->rcv_wnd += more;
    tcp_update_rcv_ann_wnd(pcb);
  }
  next_measure(connection);
}

struct connection *tw_connection_new(struct tcp_pcb *pcb) {
  struct connection *connection = tw_heap_allocate_zeroed(1, sizeof *connection);
  if (connection == NULL) {
    return NULL;
  }
  connection->handle = tw_handle_open(HANDLE_CONNECTION, connection);
  if (connection->handle < 0) {
    tw_heap_free(connection);
    return NULL;
  }
  connection->pcb = pcb;
  connection->send_limit = 2 * CONNECTION_SEND_BATCH;
  count++;
  pcb->connection = connection;
  tcp_arg(pcb, connection);
  tcp_recv(pcb, on_received);
  tcp_err(pcb, on_error);
  tcp_nagle_disable(pcb); /* as asyncio does for its sockets */
  return connection;
}

IN_PLACE struct connection *tw_connection_of(const struct tcp_pcb *pcb) { return pcb->connection; }

void tw_connection_release(struct connection *connection) {
  if (connection->pcb == NULL && connection->handle == 0 &&
      (connection->flags & (CONNECTION_PENDING | CONNECTION_REPORT)) == 0) {
    tw_heap_free(connection);
  }
}

/* Data for a connection that the host has closed: a reset reports to the peer that it is not read (RFC 1122, section
   4.2.2.13), but not before all that the host wrote has arrived. */
static err_t on_received_by_orphan(void *argument, struct tcp_pcb *pcb, struct pbuf *data, err_t error) {
  (void)argument;
  (void)error;
  if (data == NULL) {
    return ERR_OK;
  }
  uint16_t length = data->tot_len;
  pbuf_free(data);
  if (pcb->snd_buf != TCP_SND_BUF) {
    tcp_recved(pcb, length);
    return ERR_OK;
  }
  tcp_abort(pcb);
  return ERR_ABRT;
}

/* A reset is sent once, and where it is lost, a silent peer waits for ever. So it waits for room in the transmit buffer. */
void tw_connection_abort(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  const struct netif *netif = ip_route(&pcb->local_ip, &pcb->remote_ip);
  if (netif == NULL || tw_interface_room(netif) >= CONNECTION_RESET_ROOM) {
    tcp_abort(pcb);
    return;
  }
  tw_early_free(pcb);
  connection->flags |= CONNECTION_ABORTED;
  connection->progressed = tcp_ticks;
  tcp_recv(pcb, on_received_by_orphan);
  tw_connection_send_later(connection);
}

/* The host has closed its handle: lwIP delivers what was written, says FIN and frees the rest by itself. Where the host has
   left data unread, the peer must not take it for read (RFC 2525, section 2.17): a reset is sent in the place of the FIN,
   at once or, unlike on Linux, when what was written has arrived. */
void tw_connection_orphan(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  connection->handle = 0;
  connection->flags &= ~(uint32_t)(CONNECTION_WANTS_ROOM | CONNECTION_ENDED);
  if (pcb == NULL) {
    tw_connection_release(connection);
    return;
  }
  tw_early_free(pcb);
  connection->progressed = tcp_ticks;
  tcp_err(pcb, NULL);
  tcp_recv(pcb, on_received_by_orphan);
  if (connection->unread > 0) {
    connection->flags |= CONNECTION_UNREAD;
    tw_connection_send_later(connection);
  }
  for (uint32_t left = connection->unread, step; left > 0; left -= step) {
    step = LWIP_MIN(left, 0xffff);
    tcp_recved(pcb, (u16_t)step);
  }
  if (pcb->state <= SYN_RCVD) {
    tcp_abort(pcb);
  } else if (connection->unread == 0) {
    tw_connection_finish(pcb);
  }
}

/* The end whose FIN comes second has no TIME-WAIT in which the sequence numbers would be remembered, and may be the one that
   connects again with the same ports. */
int8_t tw_connection_finish(struct tcp_pcb *pcb) {
  bool is_last = pcb->state == CLOSE_WAIT;
  err_t error = tcp_shutdown(pcb, 0, 1);
  if (is_last && error == ERR_OK) {
    tw_tcp_sequence_numbers_after(pcb->local_port, pcb->remote_port, pcb->snd_lbb);
  }
  return error;
}

void tw_connection_touch(struct connection *connection) {
  if (connection->pcb != NULL && tw_tcp_ticked_touch(connection->pcb)) {
    connection->progress = tw_now; /* nothing was under way */
  }
}

/* Acknowledged data is progress, in microseconds for the user's time-out and in tcp_ticks for an orphan's. */
static void note_progress(struct connection *connection) {
  if (connection->pcb->lastack != connection->acknowledged) {
    connection->acknowledged = connection->pcb->lastack;
    connection->progress = tw_now;
    connection->progressed = tcp_ticks;
  }
}

uint64_t tw_connection_time_left(struct connection *connection) {
  const struct tcp_pcb *pcb = connection->pcb;
  if (connection->user_timeout == 0) {
    return 0;
  }
  note_progress(connection);
  if (pcb->unacked == NULL && pcb->unsent == NULL) {
    connection->progress = tw_now;
    return 0;
  }
  uint64_t due = connection->progress + (uint64_t)connection->user_timeout * 1000;
  return due > tw_now ? due - tw_now : 1;
}

/* True where the peer of a connection that the host has closed has made no progress for too long: it answers every probe
   but keeps its window closed, or never sends its FIN. Acknowledged data is progress, so that a slow reader gets all. What
   it answers is none: RFC 9293, section 3.8.6.1 lets a sender wait for an open window as long as a peer answers, but only
   the application can want that, and it is gone; Linux, too, bounds an orphan's probes. While data is under way, lwIP
   counts retransmissions; once the peer has all, it waits for the FIN no longer than TCP_FIN_WAIT_TIMEOUT. */
static bool orphan_gives_up(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  bool finished = pcb->state == FIN_WAIT_2;
  if (finished) {
    tcp_set_flags(pcb, TF_RXCLOSED);
  }
  note_progress(connection);
  if (pcb->persist_backoff == 0 && !finished) {
    connection->progressed = tcp_ticks;
  }
  return tcp_ticks - connection->progressed > CONNECTION_ORPHAN_TICKS;
}

bool tw_connection_gives_up(struct tcp_pcb *pcb) {
  struct connection *connection = tw_connection_of(pcb);
  return connection != NULL &&
         (tw_connection_time_left(connection) == 1 || (connection->handle == 0 && orphan_gives_up(connection)));
}
