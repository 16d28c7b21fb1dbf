/* One connection of a program: what it writes and reads, and the events that it gets. */
#include "fuzz.h"
#include "abi/staging.h"

#include <stdio.h>

struct stream streams[MAX_STREAMS];
static int32_t refused[64]; /* accepted when the table of streams was full */
static uint32_t refused_count;

static struct stream *stream_of(int32_t handle) {
  for (struct stream *stream = streams; stream < streams + MAX_STREAMS; stream++) {
    if (stream->handle == handle && handle != 0) {
      return stream;
    }
  }
  return NULL;
}

/* --- Calls ------------------------------------------------------------------------------------------------------ */

static void sent_at_once(void) {
  int32_t handle = (int32_t)tw_control[ABI_CONTROL_SENT_AT_ONCE];
  if (handle != 0) {
    struct interface *interface = tw_interface_object(handle);
    CHECK(interface != NULL && interface->block[ABI_BLOCK_TRANSMIT_LENGTH] != 0, "handle %x", handle);
    if (percent(50)) {
      world_collect();
    }
  }
}

static uint32_t write_size(void) {
  return percent(60) ? size_up_to(4000) : ONE_OF(1, 2, 32767, 32768, 65535, 65536, ABI_STAGING_CAPACITY, 1460, 2920);
}

static void write_some(struct stream *stream) {
  uint32_t length = write_size();
  filler_put((uint8_t *)(uintptr_t)tw_staging(), length, stream->out_key, stream->written);
  int32_t taken = abi_tcp_send(world_time_or_none(), stream->handle, (int32_t)length);
  if (!stream->connected || stream->shut || stream->ended) {
    CHECK(taken == ABI_ERROR_NOT_CONNECTED, "%d", taken);
    return;
  }
  if (taken == ABI_ERROR_NOT_CONNECTED) {
    return; /* the connection ended, and the event is not delivered yet */
  }
  CHECK(taken >= 0 && taken <= (int32_t)length, "%d of %u", taken, length);
  CHECK(taken == (int32_t)length || tw_control[ABI_CONTROL_SEND_FULL] == 1, "%d of %u", taken, length);
  if (verbose) {
    fprintf(stderr, "  = %x: wrote %d of %u at %u\n", stream->handle, taken, length, stream->written);
  }
  stream->written += (uint32_t)taken;
  totals->bytes_taken += (uint32_t)taken;
  if (stream->flow != NULL) {
    stream->flow->written += (uint32_t)taken;
  }
  sent_at_once();
}

static void read_some(struct stream *stream) {
  uint32_t length = percent(70) ? stream->unread : below(stream->unread + 1);
  if (percent(style.late_reads)) {
    return;
  }
  if (percent(2)) {
    CHECK(abi_tcp_received(0, stream->handle, (int32_t)stream->unread + 1) == ABI_ERROR_INVALID, "%u", stream->unread);
  }
  CHECK(abi_tcp_received(world_time_or_none(), stream->handle, (int32_t)length) == 0, "%u of %u", length, stream->unread);
  stream->unread -= length;
  sent_at_once();
}

static void shut(struct stream *stream) {
  int32_t result = abi_tcp_shutdown(stream->handle);
  CHECK(result == 0 || result == ABI_ERROR_NOT_CONNECTED || result == ABI_ERROR_NO_MEMORY, "%d", result);
  if (result == 0 && stream->connected) {
    stream->shut = true;
    if (stream->flow != NULL) {
      stream->flow->may_finish = true;
    }
  }
}

static void end(struct stream *stream, bool abruptly) {
  CHECK((abruptly ? abi_tcp_abort(stream->handle) : abi_tcp_close(stream->handle)) == 0, "%x", stream->handle);
  CHECK(abi_tcp_close(stream->handle) == ABI_ERROR_BAD_HANDLE, "%x", stream->handle);
  if (stream->flow != NULL) {
    stream->flow->may_finish = true;
    stream->flow->stream = NULL;
  }
  stream->handle = 0;
}

static void change_option(const struct stream *stream) {
  int32_t option = (int32_t)(percent(90) ? ABI_OPTION_NODELAY + below(5) : below(20));
  int32_t value = (int32_t)ONE_OF(0, 1, 1, 2, 100, 1000, 60000, 127, 128, 32767000, (uint32_t)-1);
  abi_tcp_option(stream->handle, option, value);
}

void stream_act(struct stream *stream) {
  uint32_t kind = below(100);
  if (stream->ended && percent(50)) {
    kind = 99;
  }
  if (kind < 45) {
    write_some(stream);
  } else if (kind < 80) {
    read_some(stream);
  } else if (kind < 90) {
    CHECK(abi_tcp_accepted(stream->handle) >= 0, "%x", stream->handle);
  } else if (kind < 94) {
    change_option(stream);
  } else if (kind < 97) {
    if (percent(30)) {
      shut(stream);
    }
  } else if (percent(stream->ended ? 100 : 30)) {
    end(stream, percent(30));
  }
}

/* A flow has the stream of its latest connection, and a stream whose flow has another one is no longer checked. */
void flow_unbind(struct flow *flow) {
  if (flow->stream != NULL) {
    flow->stream->matched = false;
    flow->stream->flow = NULL;
    flow->stream = NULL;
  }
}

void stream_bind(struct stream *stream, struct flow *flow) {
  if (stream->flow == flow) {
    return;
  }
  if (stream->flow != NULL) {
    flow_unbind(stream->flow);
  }
  if (flow != NULL) {
    flow_unbind(flow);
    flow->stream = stream;
    flow->former_written = flow->written;
    flow->written = 0;
    flow->may_finish = false;
  }
  stream->flow = flow;
}

/* --- Events ----------------------------------------------------------------------------------------------------- */

static void read_endpoints(struct stream *stream, const uint8_t *payload) {
  uint32_t local[3], remote[3];
  memcpy(local, payload, sizeof local);
  memcpy(remote, payload + ABI_ENDPOINT_SIZE, sizeof remote);
  CHECK(local[0] == remote[0] && (local[0] == 4 || local[0] == 6), "families %u and %u", local[0], remote[0]);
  stream->six = local[0] == 6;
  stream->local_port = (uint16_t)local[1];
  stream->remote_port = (uint16_t)remote[1];
  stream->out_key = filler_key(stream->local_port, stream->remote_port);
  stream->in_key = filler_key(stream->remote_port, stream->local_port);
  struct flow *flow = flow_find(stream->six, payload + ABI_ENDPOINT_SIZE + 12, remote[1], payload + 12, local[1]);
  struct link *own = NULL;
  for (struct link *link = links; link < links + MAX_LINKS; link++) {
    bool same = memcmp(payload + ABI_ENDPOINT_SIZE + 12, stream->six ? link->own6 : link->own4, stream->six ? 16 : 4) == 0;
    own = link->handle != 0 && same ? link : own;
  }
  stream_bind(stream, flow);
  stream->matched = flow != NULL || own != NULL || payload[ABI_ENDPOINT_SIZE + 12] == 127;
  stream->bases[0] = 0;
  stream->base_count = 1;
  if (verbose) {
    fprintf(stderr, "  = %x: %u and %u, flow %d, own %d\n", stream->handle, stream->local_port, stream->remote_port,
            flow != NULL, own != NULL);
  }
  if (flow != NULL) {
    stream->bases[0] = (flow->active ? flow->start : flow->irs) + 1;
    flow->early = !flow->active && flow->calling;
    for (uint32_t i = 0; flow->early && i < SMALLER(flow->call_count, MAX_CALLS); i++) {
      stream->bases[stream->base_count++] = flow->calls[i] + 1;
    }
  }
}

static void accept_one(const uint8_t *payload, int32_t handle) {
  struct stream *stream = streams;
  while (stream < streams + MAX_STREAMS && stream->handle != 0) {
    stream++;
  }
  totals->accepted++;
  CHECK(stream_of(handle) == NULL, "%x", handle);
  if (stream == streams + MAX_STREAMS) {
    refused[refused_count++ % COUNT(refused)] = handle;
    abi_tcp_abort(handle);
    return;
  }
  memset(stream, 0, sizeof *stream);
  stream->handle = handle;
  stream->connected = true;
  read_endpoints(stream, payload);
}

static bool has_fin(const struct flow *flow, uint32_t sequence) {
  bool found = false;
  for (uint32_t i = 0; i < flow->fin_count; i++) {
    found |= flow->fins[i] == sequence;
  }
  return found;
}

/* Bytes, or the FIN where there are none, leave those bases at which the peer has sent them; returns how many. */
static uint32_t filter_bases(struct stream *stream, const uint8_t *payload, uint32_t length) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < stream->base_count; i++) {
    uint32_t base = stream->bases[i], at = base + stream->delivered;
    if (length > 0 ? filler_is(payload, length, stream->in_key, at) : has_fin(stream->flow, at)) {
      stream->bases[count++] = base;
    }
  }
  return stream->base_count = count;
}

static void check_end_of_stream(struct stream *stream) {
  const struct flow *flow = stream->flow;
  if (flow == NULL || flow->tainted || !stream->matched) {
    return;
  }
  CHECK(filter_bases(stream, NULL, 0) > 0, "port %u: EOF after %u bytes, where none of %u FINs was", flow->port,
        stream->delivered, flow->fin_count);
}

static void deliver(struct stream *stream, const uint8_t *payload, uint32_t length) {
  CHECK(stream->connected && !stream->eof && !stream->ended, "port %u: %u bytes", stream->remote_port, length);
  bool checked = stream->matched && (stream->flow == NULL || !stream->flow->tainted);
  CHECK(!checked || filter_bases(stream, payload, length) > 0, "port %u: %u bytes at %u", stream->remote_port, length,
        stream->delivered);
  stream->delivered += length;
  stream->unread += length;
  totals->bytes_delivered += length;
}

void stream_event(uint32_t kind, int32_t handle, int32_t value, const uint8_t *payload, uint32_t length) {
  if (kind == ABI_EVENT_ACCEPTED) {
    accept_one(payload, value);
    return;
  }
  struct stream *stream = stream_of(handle);
  if (stream == NULL) {
    bool known = false;
    for (uint32_t i = 0; i < COUNT(refused); i++) {
      known |= refused[i] == handle;
    }
    CHECK(known || kind == ABI_EVENT_WRITABLE, "event %u of handle %x", kind, handle);
    return;
  }
  switch (kind) {
    case ABI_EVENT_CONNECTED:
      CHECK(!stream->connected, "%x", handle);
      stream->connected = true;
      totals->connected++;
      read_endpoints(stream, payload);
      break;
    case ABI_EVENT_DATA:
      CHECK(value > 0 && (uint32_t)value <= length, "%d in %u", value, length);
      deliver(stream, payload, (uint32_t)value);
      break;
    case ABI_EVENT_EOF:
      CHECK(!stream->eof, "port %u", stream->remote_port);
      stream->eof = true;
      check_end_of_stream(stream);
      break;
    case ABI_EVENT_CLOSED:
      CHECK(!stream->ended && value <= 17 && value >= 0, "port %u: %d", stream->remote_port, value);
      stream->ended = true;
      totals->closed++;
      break;
    default:
      CHECK(!stream->ended, "port %u", stream->remote_port);
  }
}
