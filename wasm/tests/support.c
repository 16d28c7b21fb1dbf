/* Drives the stack of this program as an embedder does: through the calls of abi.h, the shared areas and a clock that only the
   test moves. Buffers are found by their 32-bit addresses: on a 64-bit machine a control word holds the lower half of an
   address, and the upper half is that of a neighbouring static object. */
#include "support.h"
#include "abi/handles.h"
#include "abi/staging.h"
#include "link/interface.h"
#include "port/consistency.h"
#include "port/heap.h"
#include "tcp/connection.h"
#include "tcp/tcp_lookup.h"
#include "tcp/tcp_output.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/udp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

enum { MAX_EVENTS = 16384, MAX_FRAMES = 65536, MAX_POLLS = 10000 };

static int64_t clock_now = 1000 * (int64_t)SECOND, deadline;
static struct event events[MAX_EVENTS];
static struct frame frames[MAX_FRAMES];
static uint32_t event_first, event_last, frame_first, frame_last;
static bool fetching = true;
static uint32_t heap_base;
static int32_t watched[ABI_MAX_INTERFACES]; /* interfaces that a test has opened */
static const char *running = "";

_Noreturn void check_failed(const char *file, int line, const char *what) {
  fprintf(stderr, "%s:%d: in %s: %s\n", file, line, running, what);
  _Exit(1);
}

void check_equal(const char *file, int line, const char *what, int64_t actual, int64_t expected) {
  if (actual != expected) {
    fprintf(stderr, "%s:%d: in %s: %s is %lld, not %lld\n", file, line, running, what, (long long)actual, (long long)expected);
    _Exit(1);
  }
}

/* --- Allocations, through the linker's --wrap ------------------------------------------------------------------- */

uint32_t failures_expected;
int64_t allocations_left = -1;
bool allocations_fail_once;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool refuse(void) {
  if (allocations_left == 0) {
    allocations_left = allocations_fail_once ? -1 : 0;
    return true;
  }
  allocations_left -= allocations_left > 0;
  return false;
}

void *__wrap_malloc(size_t size) { return refuse() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return refuse() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *memory, size_t size) { return refuse() ? NULL : __real_realloc(memory, size); }

/* Copies that the test keeps are exempt from the failing allocations. */
static void *keep(const void *bytes, uint32_t length) {
  void *copy = __real_malloc(length + 1u);
  CHECK(copy != NULL);
  memcpy(copy, bytes, length);
  return copy;
}

/* --- Polls ------------------------------------------------------------------------------------------------------ */

static const void *address_near(uint32_t low, const void *neighbour) {
  uint64_t near = (uint64_t)(uintptr_t)neighbour, address = (near & ~(uint64_t)UINT32_MAX) | low;
  if (address > near + ((uint64_t)1 << 31)) {
    address -= (uint64_t)1 << 32;
  } else if (address + ((uint64_t)1 << 31) < near) {
    address += (uint64_t)1 << 32;
  }
  return (const void *)(uintptr_t)address; /* a static buffer and a static word are less than 2 GiB apart */
}

static struct interface *interface_at(int32_t handle) {
  struct interface *interface = tw_handle_object(handle, HANDLE_INTERFACE);
  CHECK(interface != NULL);
  return interface;
}

static void take_frames(int32_t handle, int32_t value) {
  struct interface *interface = interface_at(handle);
  uint32_t end = interface->block[ABI_BLOCK_TRANSMIT_LENGTH], length;
  CHECK_EQUAL(value, end);
  for (uint32_t at = 0; at < end; at += record_size(length)) {
    memcpy(&length, interface->transmit + at, sizeof length);
    CHECK(at + record_size(length) <= end);
    CHECK(frame_last < MAX_FRAMES);
    frames[frame_last++] = (struct frame){length, keep(interface->transmit + at + ABI_RECORD_HEADER_SIZE, length)};
  }
  interface->block[ABI_BLOCK_TRANSMIT_LENGTH] = 0;
}

static void take_events(void) {
  const uint8_t *buffer = address_near(tw_control[ABI_CONTROL_EVENT_BUFFER], tw_control);
  uint32_t end = tw_control[ABI_CONTROL_EVENT_LENGTH], head[4];
  CHECK(end <= ABI_EVENT_CAPACITY);
  for (uint32_t at = 0; at < end; at += head[0]) {
    memcpy(head, buffer + at, sizeof head);
    CHECK(head[0] >= ABI_EVENT_HEADER_SIZE && head[0] % 4 == 0 && at + head[0] <= end);
    if (head[1] == ABI_EVENT_TRANSMIT) {
      if (fetching) {
        take_frames((int32_t)head[2], (int32_t)head[3]);
      }
      continue;
    }
    uint32_t length = head[1] == ABI_EVENT_DATA ? head[3] : head[0] - ABI_EVENT_HEADER_SIZE;
    CHECK(length <= head[0] - ABI_EVENT_HEADER_SIZE);
    CHECK(event_last < MAX_EVENTS);
    events[event_last++] =
        (struct event){head[1], (int32_t)head[2], (int32_t)head[3], length, keep(buffer + at + ABI_EVENT_HEADER_SIZE, length)};
  }
}

/* Only what was written to a receive buffer may be read: the bytes behind it are left from earlier frames. */
static void guard_receive_buffers(bool on) {
  for (int i = 0; i < ABI_MAX_INTERFACES; i++) {
    const struct interface *interface = watched[i] == 0 ? NULL : tw_handle_object(watched[i], HANDLE_INTERFACE);
    if (interface == NULL || interface->kind == ABI_KIND_LOOPBACK || interface->kind == ABI_KIND_BRIDGE) {
      continue;
    }
    uint32_t end = LWIP_MIN(interface->block[ABI_BLOCK_RECEIVE_LENGTH], ABI_RECEIVE_CAPACITY);
    if (on) {
      ASAN_POISON_MEMORY_REGION(interface->receive + end, ABI_RECEIVE_CAPACITY - end);
    } else {
      ASAN_UNPOISON_MEMORY_REGION(interface->receive, ABI_RECEIVE_CAPACITY);
    }
  }
}

/* Half a microsecond more: truncated to microseconds, the result is the same number again. */
double host_seconds(int64_t microseconds) { return ((double)microseconds + 0.5) / SECOND; }

double host_clock(void) { return host_seconds(clock_now); }

double host_clock_or_none(void) { return random_next() % 2 == 0 ? 0 : host_clock(); }

int32_t host_take_sent(void) {
  int32_t handle = (int32_t)tw_control[ABI_CONTROL_SENT_AT_ONCE];
  if (handle != 0 && fetching) {
    const struct interface *interface = interface_at(handle);
    CHECK(interface->block[ABI_BLOCK_TRANSMIT_LENGTH] != 0);
    take_frames(handle, (int32_t)interface->block[ABI_BLOCK_TRANSMIT_LENGTH]);
  }
  return handle;
}

void host_poll_once(int64_t duration) {
  clock_now += duration;
  guard_receive_buffers(true);
  double due = abi_poll(host_clock());
  guard_receive_buffers(false);
  deadline = isinf(due) ? -1 : (int64_t)(due * SECOND);
  CHECK(deadline == -1 || deadline > clock_now);
  take_events();
}

void host_poll(void) {
  for (int polls = 0; polls < MAX_POLLS; polls++) {
    host_poll_once(0);
    if ((tw_control[ABI_CONTROL_MORE] & (ABI_MORE_NOW | ABI_MORE_SOON)) == 0) {
      return;
    }
  }
  check_failed(__FILE__, __LINE__, "the stack asks for another poll without end");
}

int64_t host_deadline(void) { return deadline; }

void host_pass(int64_t duration) { clock_now += duration; }

void host_jump(int64_t duration) {
  clock_now += duration;
  host_poll();
}

void host_advance(int64_t duration) {
  int64_t end = clock_now + duration;
  host_poll();
  while (deadline != -1 && deadline < end) {
    clock_now = deadline;
    host_poll();
  }
  clock_now = end;
  host_poll();
}

void host_fetch_frames(bool fetch) { fetching = fetch; }

/* The stack keeps the pbuf of the first segment that it reads in place: the heap's base is measured after one. */
void host_start(void) {
  abi_start(host_clock(), 0x0123456789abcdef, 0x0fedcba987654321);
  host_poll();
  struct peer peer = peer_new(interface_open(ABI_KIND_TUN, 1500), ABI_FAMILY_IPV4, 1);
  peer_send(&peer, ACK, NULL, 0);
  host_poll();
  frames_forget();
  CHECK_EQUAL(abi_interface_remove(peer.interface), 0);
  heap_base = tw_heap_used();
}

void host_reserve_handles(int32_t count) {
  uint32_t before = tw_heap_used(), opened = tw_handle_count();
  int32_t *handles = __real_calloc((size_t)count, sizeof *handles);
  CHECK(handles != NULL);
  for (int32_t i = 0; i < count; i++) {
    handles[i] = tw_handle_open(HANDLE_LISTENER, handles);
    CHECK(handles[i] > 0);
  }
  for (int32_t i = 0; i < count; i++) {
    tw_handle_close(handles[i]);
  }
  free(handles);
  CHECK_EQUAL(tw_handle_count(), opened);
  heap_base += tw_heap_used() - before;
}

void host_expect_clean(void) {
  event_expect_none();
  CHECK_EQUAL(tw_consistency_failures(), failures_expected);
  frames_forget();
  host_advance(300 * (int64_t)SECOND); /* longer than TIME-WAIT and the time-out of reassembly */
  host_poll();
  frames_forget();
  CHECK_EQUAL(host_deadline(), -1);
  CHECK(tcp_active_pcbs == NULL);
  CHECK(tcp_tw_pcbs == NULL);
  CHECK(tcp_bound_pcbs == NULL);
  CHECK(tcp_listen_pcbs.listen_pcbs == NULL);
  CHECK(udp_pcbs == NULL);
  CHECK(netif_list == NULL);
  CHECK_EQUAL(tw_tcp_connections(), 0);
  CHECK_EQUAL(tw_tcp_time_wait_count(), 0);
  CHECK_EQUAL(tw_handle_count(), 0);
  CHECK(!tw_tcp_has_pending());
  CHECK(!tw_tcp_reports_wait());
  CHECK_EQUAL(tw_heap_used(), heap_base);
}

void test_run(const char *name, void (*test)(void)) {
  running = name;
  random_restart(1);
  test();
  host_expect_clean();
}

/* --- Events and frames ------------------------------------------------------------------------------------------ */

/* Payloads that were returned stay valid until the queue has been emptied and fills again. */
struct event event_next(void) {
  if (event_first == event_last) {
    return (struct event){0};
  }
  struct event event = events[event_first++];
  if (event_first == event_last) {
    static struct event kept[MAX_EVENTS];
    static uint32_t count;
    while (count > 0) {
      free((void *)(uintptr_t)kept[--count].payload);
    }
    memcpy(kept, events, event_last * sizeof *events);
    count = event_last;
    event_first = event_last = 0;
  }
  return event;
}

struct event event_expect(uint32_t kind, int32_t handle) {
  struct event event = event_next();
  CHECK_EQUAL(event.kind, kind);
  CHECK_EQUAL(event.handle, handle);
  return event;
}

void event_expect_none(void) { CHECK_EQUAL(event_next().kind, 0); }

uint32_t event_expect_data(int32_t handle, void *bytes, uint32_t capacity) {
  uint32_t length = 0;
  while (event_first < event_last && events[event_first].kind == ABI_EVENT_DATA && events[event_first].handle == handle) {
    struct event event = event_next();
    CHECK(event.length > 0 && event.length <= ABI_MAX_DATA && length + event.length <= capacity);
    memcpy((uint8_t *)bytes + length, event.payload, event.length);
    length += event.length;
  }
  CHECK(length > 0);
  return length;
}

struct frame frame_next(void) {
  static const uint8_t *kept; /* until the next one is returned */
  if (frame_first == frame_last) {
    frame_first = frame_last = 0;
    return (struct frame){0};
  }
  struct frame frame = frames[frame_first++];
  free((void *)(uintptr_t)kept);
  kept = frame.bytes;
  return frame;
}

void frames_forget(void) {
  while (frame_next().length != 0) {
  }
}

/* --- Calls ------------------------------------------------------------------------------------------------------ */

int32_t interface_open(int32_t kind, int32_t mtu) {
  memcpy(tw_scratch.bytes, HOST_MAC, 6);
  int32_t handle = abi_interface_add(kind, mtu, 1);
  for (int i = 0; handle > 0 && i < ABI_MAX_INTERFACES; i++) {
    if (watched[i] == 0 || tw_handle_object(watched[i], HANDLE_INTERFACE) == NULL) {
      watched[i] = handle;
      break;
    }
  }
  return handle;
}

uint32_t *interface_words(int32_t interface) { return interface_at(interface)->block; }

void interface_receive(int32_t handle, const void *frame, uint32_t length) {
  struct interface *interface = interface_at(handle);
  uint32_t at = interface->block[ABI_BLOCK_RECEIVE_LENGTH];
  CHECK(at + record_size(length) <= ABI_RECEIVE_CAPACITY);
  memcpy(interface->receive + at, &length, sizeof length);
  memcpy(interface->receive + at + ABI_RECORD_HEADER_SIZE, frame, length);
  interface->block[ABI_BLOCK_RECEIVE_LENGTH] = at + record_size(length);
}

int32_t interface_set_ipv4(int32_t interface, const uint8_t address[4], int32_t prefix) {
  memcpy(tw_scratch.bytes, address, 4);
  return abi_interface_address(interface, ABI_FAMILY_IPV4, prefix);
}

int32_t interface_set_ipv6(int32_t interface, const uint8_t address[16]) {
  memcpy(tw_scratch.bytes, address, 16);
  return abi_interface_address(interface, ABI_FAMILY_IPV6, 64);
}

int32_t tcp_open(int32_t family, const uint8_t *remote, int32_t port) {
  memset(tw_scratch.bytes, 0, 32);
  memcpy(tw_scratch.bytes, remote, family == ABI_FAMILY_IPV4 ? 4 : 16);
  return abi_tcp_connect(family, port, 0, 0);
}

int32_t tcp_listener(int32_t family, const uint8_t *address, int32_t port, int32_t backlog) {
  memset(tw_scratch.bytes, 0, 16);
  if (address != NULL) {
    memcpy(tw_scratch.bytes, address, family == ABI_FAMILY_IPV4 ? 4 : 16);
  }
  return abi_tcp_listen(family, port, backlog, 0);
}

int32_t tcp_put_at(double time, int32_t handle, const void *bytes, int32_t length) {
  memcpy((void *)(uintptr_t)tw_staging(), bytes, (size_t)length);
  return abi_tcp_send(time, handle, length);
}

int32_t tcp_put(int32_t handle, const void *bytes, int32_t length) { return tcp_put_at(0, handle, bytes, length); }

/* --- Reproducible bytes ----------------------------------------------------------------------------------------- */

static uint32_t random_state = 1;

void random_restart(uint32_t seed) { random_state = seed; }

/* Marsaglia's xorshift: any reproducible sequence will do. */
uint32_t random_next(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state;
}

static uint8_t pattern(uint32_t position) { return (uint8_t)(position * 2654435761u >> 24); }

void pattern_fill(uint8_t *bytes, uint32_t length, uint32_t offset) {
  for (uint32_t i = 0; i < length; i++) {
    bytes[i] = pattern(offset + i);
  }
}

void pattern_check(const uint8_t *bytes, uint32_t length, uint32_t offset) {
  for (uint32_t i = 0; i < length; i++) {
    if (bytes[i] != pattern(offset + i)) {
      fprintf(stderr, "byte %u of %u, at %u of the stream, is wrong\n", i, length, offset + i);
      check_failed(__FILE__, __LINE__, "the received stream equals the sent one");
    }
  }
}
