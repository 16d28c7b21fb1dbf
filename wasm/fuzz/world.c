/* The stack of this epoch, driven as an embedder drives it: calls, polls, shared areas, and a clock that only steps move. A
   control word holds the lower half of an address: the upper half is that of a neighbouring static object. */
#include "fuzz.h"
#include "abi/handles.h"

#include <math.h>
#include <sanitizer/asan_interface.h>

/* The most that one poll may allocate: the allocations that grow with what a peer sends stay below. */
enum { MOST_POLLS = 3000, MOST_ALLOCATIONS = 200000, GUARD = 4096 };

int64_t clock_now = 1000 * (int64_t)SECOND;
static int64_t deadline;

static const uint8_t *event_buffer(void) {
  uint64_t near = (uint64_t)(uintptr_t)tw_control,
           address = (near & ~(uint64_t)UINT32_MAX) | tw_control[ABI_CONTROL_EVENT_BUFFER];
  if (address > near + ((uint64_t)1 << 31)) {
    address -= (uint64_t)1 << 32;
  } else if (address + ((uint64_t)1 << 31) < near) {
    address += (uint64_t)1 << 32;
  }
  return (const uint8_t *)(uintptr_t)address;
}

/* Half a microsecond more: truncated to microseconds, the result is the same number again. */
double world_time(void) { return ((double)clock_now + 0.5) / SECOND; }

double world_time_or_none(void) { return percent(style.at_once) ? world_time() : 0; }

void world_pass(int64_t duration) { clock_now += duration; }

int64_t world_deadline(void) { return deadline; }

/* Only what was written to a receive buffer may be read. */
static void guard_receive_buffers(bool on) {
  for (uint32_t i = 0; i < MAX_LINKS; i++) {
    struct interface *interface = links[i].handle == 0 ? NULL : tw_interface_object(links[i].handle);
    if (interface == NULL || interface->kind == ABI_KIND_LOOPBACK || interface->kind == ABI_KIND_BRIDGE) {
      continue;
    }
    uint32_t end = SMALLER(interface->block[ABI_BLOCK_RECEIVE_LENGTH], ABI_RECEIVE_CAPACITY);
    uint32_t length = SMALLER(GUARD, ABI_RECEIVE_CAPACITY - end);
    if (on) {
      ASAN_POISON_MEMORY_REGION(interface->receive + end, length);
    } else {
      ASAN_UNPOISON_MEMORY_REGION(interface->receive, ABI_RECEIVE_CAPACITY);
    }
  }
}

static void handle_event(const uint32_t *head, const uint8_t *payload) {
  uint32_t kind = head[1];
  int32_t handle = (int32_t)head[2];
  switch (kind) {
    case ABI_EVENT_TRANSMIT:
      CHECK(tw_interface_object(handle) != NULL, "handle %x", handle);
      /* More than reported where the reset of a refused connection was added. */
      CHECK(tw_interface_object(handle)->block[ABI_BLOCK_TRANSMIT_LENGTH] >= head[3], "%u", head[3]);
      break;
    case ABI_EVENT_WRITABLE:
    case ABI_EVENT_CONNECTED:
    case ABI_EVENT_ACCEPTED:
    case ABI_EVENT_DATA:
    case ABI_EVENT_EOF:
    case ABI_EVENT_CLOSED:
      stream_event(kind, handle, (int32_t)head[3], payload, head[0] - ABI_EVENT_HEADER_SIZE);
      break;
    case ABI_EVENT_DATAGRAM:
    case ABI_EVENT_DATAGRAM_ERROR:
    case ABI_EVENT_ECHO_REPLY:
    case ABI_EVENT_ECHO_ERROR:
      datagram_event(kind, handle, (int32_t)head[3], payload, head[0] - ABI_EVENT_HEADER_SIZE);
      break;
    default:
      CHECK(kind >= ABI_EVENT_ADDRESS && kind <= ABI_EVENT_LEASE_LOST, "kind %u", kind);
      CHECK(tw_interface_object(handle) != NULL, "handle %x", handle);
  }
}

static void take_events(void) {
  const uint8_t *buffer = event_buffer();
  uint32_t end = tw_control[ABI_CONTROL_EVENT_LENGTH], head[4];
  CHECK(end <= ABI_EVENT_CAPACITY, "%u", end);
  for (uint32_t at = 0; at < end; at += head[0]) {
    memcpy(head, buffer + at, sizeof head);
    CHECK(head[0] >= ABI_EVENT_HEADER_SIZE && head[0] % 4 == 0 && at + head[0] <= end, "at %u", at);
    handle_event(head, buffer + at + ABI_EVENT_HEADER_SIZE);
  }
}

static bool poll_once(void) {
  uint64_t before = allocations_made;
  guard_receive_buffers(true);
  double due = abi_poll(world_time());
  guard_receive_buffers(false);
  totals->polls++;
  CHECK(allocations_made - before <= MOST_ALLOCATIONS, "%llu allocations", (unsigned long long)(allocations_made - before));
  deadline = isinf(due) ? -1 : (int64_t)(due * SECOND);
  CHECK(deadline == -1 || deadline > clock_now, "deadline %lld, now %lld", (long long)deadline, (long long)clock_now);
  take_events();
  return (tw_control[ABI_CONTROL_MORE] & (ABI_MORE_NOW | ABI_MORE_SOON)) != 0;
}

void world_poll(void) {
  for (int turn = 0; poll_once(); turn++) {
    CHECK(turn < MOST_POLLS, "the stack asks for another poll without end");
    world_collect();
  }
  world_collect();
}

void world_advance(int64_t duration, uint32_t most_polls) {
  int64_t end = clock_now + duration;
  world_poll();
  while (deadline != -1 && deadline < end && most_polls-- > 0) {
    clock_now = deadline;
    world_poll();
  }
  clock_now = end;
  world_poll();
}

/* Fetching the frames of one interface may queue more on it: these are left for the next time. */
static void take_frames(struct link *link) {
  static uint8_t taken[ABI_TRANSMIT_CAPACITY];
  struct interface *interface = link_interface(link);
  uint32_t end = interface->block[ABI_BLOCK_TRANSMIT_LENGTH], length;
  CHECK(end <= ABI_TRANSMIT_CAPACITY, "%u", end);
  memcpy(taken, interface->transmit, end);
  interface->block[ABI_BLOCK_TRANSMIT_LENGTH] = 0;
  for (uint32_t at = 0; at < end; at += record_size(length)) {
    memcpy(&length, taken + at, sizeof length);
    CHECK(at + record_size(length) <= end, "at %u of %u: %u", at, end, length);
    totals->frames_out++;
    frame_receive(link, taken + at + ABI_RECORD_HEADER_SIZE, length);
  }
}

void world_collect(void) {
  for (uint32_t i = 0; i < MAX_LINKS; i++) {
    struct link *link = &links[i];
    if (link->handle != 0 && link->kind != ABI_KIND_LOOPBACK && link->kind != ABI_KIND_BRIDGE && link->stalled == 0) {
      take_frames(link);
    }
  }
}

/* The table of handles never shrinks, and the pbuf of the first segment that is read in place is kept: both are allocated
   before the heap is measured. */
void world_start(uint64_t seed) {
  static int32_t handles[8192];
  abi_start(world_time(), (int64_t)seed, (int64_t)~seed);
  for (uint32_t i = 0; i < COUNT(handles); i++) {
    handles[i] = tw_handle_open(HANDLE_LISTENER, handles);
    CHECK(handles[i] > 0, "%d", handles[i]);
  }
  for (uint32_t i = 0; i < COUNT(handles); i++) {
    tw_handle_close(handles[i]);
  }
  poll_once();
}
