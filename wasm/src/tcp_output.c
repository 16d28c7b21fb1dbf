/* When segments leave, and when the host hears of room and of ends. lwIP would answer each segment as it comes; here
   the answer to a batch, one acknowledgement and what it made room for, leaves once: at the end of the poll,
   or where data was handed up, at the next one. */
#include "connection.h"

#include "lwip/stats.h"

enum { SMALL_SEGMENT = 512 }; /* bytes: of smaller ones, one call does not build 64 KiB (abi_tcp_send) */

static struct connection *pending, *report;
static struct connection *flushing; /* those of `pending` that the latest flush has left */
uint32_t tcp_retransmissions;
bool neighbour_doubtful; /* asked for, and reset, where the next frame to a neighbour leaves */

void connection_send_later(struct connection *connection) {
  if ((connection->flags & CONNECTION_PENDING) == 0) {
    connection->flags |= CONNECTION_PENDING;
    connection->next_pending = pending;
    pending = connection;
  }
}

/* lwIP calls this where it would call tcp_output at the end of an incoming segment. */
void tcp_output_later(struct tcp_pcb *pcb) {
  struct connection *connection = connection_of(pcb);
  if (connection == NULL) {
    tcp_output(pcb);
  } else if (pcb->unsent != NULL || (pcb->flags & TF_ACK_NOW) != 0) {
    connection_send_later(connection);
  }
}

bool tcp_has_pending(void) { return pending != NULL || flushing != NULL; }

bool tcp_others_pending(const struct connection *connection) {
  return flushing != NULL || (pending == connection ? connection->next_pending : pending) != NULL;
}

/* Sends what is ready. What a full transmit buffer refused stays pending, and is tried again at the next poll: for it alone
   no other poll is asked for, since the host has to empty the buffer first. */
bool tcp_flush(void) {
  if (flushing == NULL) {
    flushing = pending;
    pending = NULL;
  }
  uint32_t sent = lwip_stats.tcp.xmit, tries = 0, cut = 0;
  tcp_emit_in_flush(true);
  for (struct connection *connection; (connection = flushing) != NULL;) {
    if (++tries + cut + lwip_stats.tcp.xmit - sent > WORK_SEGMENTS) {
      break;
    }
    flushing = connection->next_pending;
    connection->flags &= ~(uint32_t)CONNECTION_PENDING;
    if (connection->pcb == NULL) {
      connection_release(connection);
      continue;
    }
    if ((connection->flags & CONNECTION_ABORTED) != 0) {
      connection_abort(connection);
      continue;
    }
    cut += path_mtu_follow(connection);
    if (tcp_output(connection->pcb) != ERR_OK) {
      connection_send_later(connection);
    }
  }
  tcp_emit_in_flush(false);
  consistency_restore();
  return flushing != NULL && (cut > 0 || lwip_stats.tcp.xmit != sent);
}

void connection_report(struct connection *connection, uint32_t flag) {
  connection->flags |= flag;
  if ((connection->flags & CONNECTION_REPORT) == 0) {
    connection->flags |= CONNECTION_REPORT;
    connection->next_report = report;
    report = connection;
  }
}

uint32_t connection_send_room(const struct connection *connection) {
  uint32_t waiting = TCP_SND_BUF - connection->pcb->snd_buf;
  return waiting < connection->send_limit ? connection->send_limit - waiting : 0;
}

/* A batch has room again: half of the first buffer. Half of a larger one would be too much, since the other half is all
   that is under way when it is filled up: too little for a network that holds more. Where the wait was so long that the
   network, not the host, must have been waited for, the limit doubles. */
static bool has_room(struct connection *connection) {
  if (now < connection->stalled || connection_send_room(connection) < CONNECTION_SEND_BATCH ||
      tcp_sndqueuelen(connection->pcb) >= TCP_SND_QUEUELEN / 2) {
    return false;
  }
  if (connection_waits_long(&connection->stalls, connection->stalled) && connection->send_limit < TCP_SND_BUF) {
    connection->send_limit *= 2;
  }
  return true;
}

/* The host fills a queue of small segments, which takes as long as many of large ones. */
static uint32_t report_weight(const struct tcp_pcb *pcb) {
  return pcb != NULL && LWIP_MIN(pcb->mss, pcb->snd_wnd_max / 2) < SMALL_SEGMENT ? WORK_REPORTS / 4 : 1;
}

/* Tells the host of connections that ended and of room for those that wait for it; true if events are left to add. */
bool tcp_report(void) {
  struct connection **link = &report;
  uint32_t reports = 0;
  while (*link != NULL) {
    struct connection *connection = *link;
    if (!events_have_room() || reports >= WORK_REPORTS) {
      return true;
    }
    if ((connection->flags & CONNECTION_ENDED) != 0) {
      event_add(ABI_EVENT_CLOSED, connection->handle, -connection->error);
      connection->flags &= ~(uint32_t)(CONNECTION_ENDED | CONNECTION_WANTS_ROOM);
    } else if ((connection->flags & CONNECTION_WANTS_ROOM) != 0 && connection->pcb != NULL && has_room(connection)) {
      event_add(ABI_EVENT_WRITABLE, connection->handle, (int32_t)connection_send_room(connection));
      connection->flags &= ~(uint32_t)CONNECTION_WANTS_ROOM;
    }
    if ((connection->flags & CONNECTION_WANTS_ROOM) != 0) {
      link = &connection->next_report;
      continue;
    }
    reports += report_weight(connection->pcb);
    *link = connection->next_report;
    connection->flags &= ~(uint32_t)CONNECTION_REPORT;
    connection_release(connection);
  }
  return false;
}

bool tcp_reports_wait(void) { return report != NULL; }
