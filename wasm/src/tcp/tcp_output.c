/* When segments leave, and when the host is notified of room and of ends. lwIP would answer each segment as it comes; here
   the answer to a batch, one acknowledgement and what it made room for, leaves once: at the end of the poll,
   or where data was handed up, at the next one. */
#include "tcp/tcp_output.h"

#include "abi.h"
#include "lwip_hooks.h"
#include "abi/events.h"
#include "abi/module.h"
#include "abi/work.h"
#include "ip/path_mtu.h"
#include "port/consistency.h"
#include "tcp/connection.h"
#include "tcp/tcp_early.h"
#include "tcp/tcp_emit.h"
#include "tcp/tcp_recovery.h"
#include "lwip/stats.h"

enum { SMALL_SEGMENT = 512 }; /* bytes: of smaller ones, one call does not build 64 KiB (abi_tcp_send) */

static struct connection *pending, *report;
static struct connection *flushing; /* those of `pending` that the latest flush has left */
uint32_t tw_tcp_retransmissions;
static bool neighbour_doubtful;

/* LWIP_HOOK_TCP_RETRANSMITTED: a segment has left again, `nrtx` times in a row. */
void tw_tcp_retransmitted(struct tcp_pcb *pcb) {
  tw_tcp_retransmissions++;
  neighbour_doubtful = pcb->nrtx >= 2;
  tw_path_mtu_suspect(pcb);
}

/* LWIP_HOOK_ETHARP_DOUBTFUL: asked for, and reset, where the next frame to a neighbour leaves. */
bool tw_neighbour_is_doubtful(void) {
  bool doubtful = neighbour_doubtful;
  neighbour_doubtful = false;
  return doubtful;
}

void tw_connection_send_later(struct connection *connection) {
  if ((connection->flags & CONNECTION_PENDING) == 0) {
    connection->flags |= CONNECTION_PENDING;
    connection->next_pending = pending;
    pending = connection;
  }
}

/* lwIP calls this where it would call tcp_output at the end of an incoming segment. */
void tw_tcp_output_later(struct tcp_pcb *pcb) {
  struct connection *connection = tw_connection_of(pcb);
  if (connection == NULL) {
    tcp_output(pcb);
    return;
  }
  tw_connection_touch(connection);
  if (connection->part_mss != 0) {
    tw_path_mtu_learn(connection);
  }
  if (pcb->unsent != NULL || (pcb->flags & TF_ACK_NOW) != 0 || (connection->flags & CONNECTION_UNREAD) != 0 ||
      tw_recovery_wants_output(connection)) {
    tw_connection_send_later(connection);
  }
}

bool tw_tcp_has_pending(void) { return pending != NULL || flushing != NULL; }

bool tw_tcp_others_pending(const struct connection *connection) {
  return flushing != NULL || (pending == connection ? connection->next_pending : pending) != NULL;
}

/* Sends what is ready. What a full transmit buffer refused stays pending, and is tried again at the next poll: for it alone
   no other poll is asked for, since the host has to empty the buffer first. */
bool tw_tcp_flush(void) {
  if (flushing == NULL) {
    flushing = pending;
    pending = NULL;
  }
  uint32_t sent = lwip_stats.tcp.xmit, tries = 0, cut = 0, refused = 0;
  tw_tcp_emit_in_flush(true);
  for (struct connection *connection; (connection = flushing) != NULL;) {
    if (++tries + cut + lwip_stats.tcp.xmit - sent > WORK_SEGMENTS) {
      break;
    }
    flushing = connection->next_pending;
    connection->flags &= ~(uint32_t)CONNECTION_PENDING;
    if (connection->pcb == NULL) {
      tw_connection_release(connection);
      continue;
    }
    bool unread = (connection->flags & CONNECTION_UNREAD) != 0 && connection->pcb->snd_buf == TCP_SND_BUF;
    if (unread || (connection->flags & CONNECTION_ABORTED) != 0) {
      tw_connection_abort(connection);
      continue;
    }
    tw_connection_touch(connection);
    cut += tw_path_mtu_follow(connection);
    if (tcp_output(connection->pcb) != ERR_OK) {
      refused++; /* lwIP counts a segment before the transmit buffer refuses it */
      tw_connection_send_later(connection);
    }
  }
  tw_tcp_emit_in_flush(false);
  consistency_restore();
  return flushing != NULL && (cut > 0 || (int32_t)(lwip_stats.tcp.xmit - sent - refused) > 0);
}

void tw_connection_report(struct connection *connection, uint32_t flag) {
  connection->flags |= flag;
  if ((connection->flags & CONNECTION_REPORT) == 0) {
    connection->flags |= CONNECTION_REPORT;
    connection->next_report = report;
    report = connection;
  }
}

uint32_t tw_connection_send_room(const struct connection *connection) {
  uint32_t waiting = TCP_SND_BUF - connection->pcb->snd_buf;
  bool full = waiting >= connection->send_limit || tcp_sndqueuelen(connection->pcb) >= tw_connection_queue_limit(connection);
  return full ? 0 : connection->send_limit - waiting;
}

/* The embedder is asked for more when a batch has room: half of the first buffer. Half of a larger one would be too much,
   since the other half is all that is under way when it is filled up: too little for a network that holds more. In a network
   a quarter is enough, so that unsent data is left while a loss is repaired and nothing is acknowledged. */
static bool has_room(const struct connection *connection) {
  uint32_t batch = CONNECTION_SEND_BATCH;
  if (connection->least_round_trip >= CONNECTION_LONG_WAIT) {
    batch = LWIP_MIN(batch, connection->send_limit / 4);
  }
  return tw_now >= connection->stalled && tw_connection_send_room(connection) >= batch &&
         tcp_sndqueuelen(connection->pcb) < tw_connection_queue_limit(connection) / 2;
}

/* The host fills a queue of small segments, which takes as long as many of large ones. */
static uint32_t report_weight(const struct tcp_pcb *pcb) {
  return pcb != NULL && LWIP_MIN(pcb->mss, pcb->snd_wnd_max / 2) < SMALL_SEGMENT ? WORK_REPORTS / 4 : 1;
}

/* Hands the host more of what came early; returns true where some of it is left. */
static bool deliver(struct connection *connection) {
  struct tcp_pcb *pcb = connection->pcb;
  if (pcb == NULL) {
    connection->flags &= ~(uint32_t)CONNECTION_EARLY;
    return false;
  }
  if (tw_early_deliver(connection)) {
    pcb->rcv_wnd++;
    tcp_fin_received(pcb);
    tw_event_add(ABI_EVENT_EOF, connection->handle, 0);
  }
  tw_tcp_output_later(pcb);
  return (connection->flags & CONNECTION_EARLY) != 0;
}

/* Notifies the host of connections that ended and of room for those that wait for it; true if events are left to add. */
bool tw_tcp_report(void) {
  struct connection **link = &report;
  uint32_t reports = 0;
  bool early = false;
  while (*link != NULL) {
    struct connection *connection = *link;
    if (!tw_events_have_room() || reports >= WORK_REPORTS) {
      return true;
    }
    if ((connection->flags & CONNECTION_EARLY) != 0) {
      early |= deliver(connection);
    }
    if ((connection->flags & CONNECTION_ENDED) != 0) {
      tw_event_add(ABI_EVENT_CLOSED, connection->handle, -connection->error);
      connection->flags &= ~(uint32_t)(CONNECTION_ENDED | CONNECTION_WANTS_ROOM);
    } else if ((connection->flags & CONNECTION_WANTS_ROOM) != 0 && connection->pcb != NULL && has_room(connection)) {
      tw_event_add(ABI_EVENT_WRITABLE, connection->handle, (int32_t)tw_connection_send_room(connection));
      connection->flags &= ~(uint32_t)CONNECTION_WANTS_ROOM;
    }
    if ((connection->flags & (CONNECTION_WANTS_ROOM | CONNECTION_EARLY)) != 0) {
      link = &connection->next_report;
      continue;
    }
    reports += report_weight(connection->pcb);
    *link = connection->next_report;
    connection->flags &= ~(uint32_t)CONNECTION_REPORT;
    tw_connection_release(connection);
  }
  return early;
}

bool tw_tcp_reports_wait(void) { return report != NULL; }
