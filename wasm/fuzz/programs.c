/* The programs that use TCP: listeners, connects, and when each stream acts. */
#include "fuzz.h"

struct listening listeners[MAX_LISTENERS];
static uint16_t connects;

struct listening *listener_any(void) {
  for (uint32_t i = 0, first = below(MAX_LISTENERS); i < MAX_LISTENERS; i++) {
    if (listeners[(first + i) % MAX_LISTENERS].handle != 0) {
      return &listeners[(first + i) % MAX_LISTENERS];
    }
  }
  return NULL;
}

static void listen_somewhere(void) {
  struct listening *free = NULL;
  for (uint32_t i = 0; i < MAX_LISTENERS; i++) {
    free = listeners[i].handle == 0 ? &listeners[i] : free;
  }
  if (free == NULL) {
    return;
  }
  memset(tw_scratch.bytes, 0, 16);
  int32_t family = (int32_t)ONE_OF(ABI_FAMILY_ANY, ABI_FAMILY_ANY, ABI_FAMILY_IPV4, ABI_FAMILY_IPV6);
  int32_t port = (int32_t)(percent(80) ? 80 + below(8) : 0);
  int32_t handle = abi_tcp_listen(family, port, (int32_t)ONE_OF(1, 2, 5, 100, 255), 0);
  if (handle > 0) {
    *free = (struct listening){handle, family, (uint16_t)abi_tcp_local_port(handle)};
  }
}

static struct stream *free_stream(void) {
  struct stream *stream = streams;
  while (stream < streams + MAX_STREAMS && stream->handle != 0) {
    stream++;
  }
  return stream == streams + MAX_STREAMS ? NULL : stream;
}

static void connect_somewhere(void) {
  struct stream *stream = free_stream();
  struct link *link = link_any();
  struct listening *listener = percent(25) ? listener_any() : NULL;
  if (stream == NULL || link == NULL) {
    return;
  }
  bool six = percent(style.six);
  uint16_t port = (uint16_t)(20000 + connects++ % 40000);
  memset(stream, 0, sizeof *stream);
  memset(tw_scratch.bytes, 0, 32);
  if (listener != NULL) { /* the stack itself */
    port = listener->port;
    memcpy(stream->remote, six ? link->own6 : link->own4, six ? 16 : 4);
    if (percent(50)) {
      memset(stream->remote, 0, 16);
      memcpy(stream->remote, (const uint8_t[]){127, 0, 0, 1}, six ? 0 : 4);
      stream->remote[15] = six;
    }
  } else {
    peer_address(link, below(PEERS), six, stream->remote);
  }
  memcpy(tw_scratch.bytes, stream->remote, six ? 16 : 4);
  stream->six = six;
  stream->remote_port = port;
  int32_t local = (int32_t)(percent(10) ? 30000 + below(100) : 0);
  int32_t handle = abi_tcp_connect(six ? ABI_FAMILY_IPV6 : ABI_FAMILY_IPV4, port, local, 0);
  CHECK(handle > 0 || (handle < 0 && handle >= ABI_ERROR_NOT_FOUND), "%d", handle);
  stream->handle = LARGER(handle, 0);
}

static void connect_from_peer(void) {
  struct link *link = link_any();
  struct listening *listener = listener_any();
  bool six = percent(style.six);
  if (link == NULL || (six ? !link->has6 : !link->has4)) {
    return;
  }
  struct flow *flow = flow_new(link, six, false);
  if (flow != NULL) {
    flow->stack_port = listener != NULL && percent(97) ? listener->port : 9;
    flow_move(flow);
  }
}

void openings_step(void) {
  switch (below(16)) {
    case 0:
    case 1:
      listen_somewhere();
      break;
    case 2: {
      struct listening *listener = listener_any();
      if (listener != NULL && percent(20)) {
        CHECK(abi_tcp_close(listener->handle) == 0, "%x", listener->handle);
        listener->handle = 0;
      }
      break;
    }
    case 3:
    case 4:
    case 5:
    case 6:
      connect_somewhere();
      break;
    default:
      connect_from_peer();
  }
}

void programs_start(void) {
  for (uint32_t i = 0; i < 4; i++) {
    listen_somewhere();
  }
}

void programs_step(void) {
  for (uint32_t rounds = 1 + below(8); rounds > 0; rounds--) {
    uint32_t first = below(MAX_STREAMS);
    for (uint32_t i = 0; i < MAX_STREAMS; i++) {
      struct stream *stream = &streams[(first + i) % MAX_STREAMS];
      if (stream->handle != 0) {
        stream_act(stream);
        break;
      }
    }
  }
}

void programs_end(bool abruptly) {
  for (struct stream *stream = streams; stream < streams + MAX_STREAMS; stream++) {
    if (stream->handle == 0) {
      continue;
    }
    int32_t result = abruptly ? abi_tcp_abort(stream->handle) : abi_tcp_close(stream->handle);
    CHECK(result == 0, "%d", result);
    if (stream->flow != NULL) {
      stream->flow->may_finish = true;
      stream->flow->stream = NULL;
    }
    stream->handle = 0;
  }
  for (uint32_t i = 0; i < MAX_LISTENERS; i++) {
    if (listeners[i].handle != 0) {
      CHECK(abi_tcp_close(listeners[i].handle) == 0, "%x", listeners[i].handle);
      listeners[i].handle = 0;
    }
  }
}
