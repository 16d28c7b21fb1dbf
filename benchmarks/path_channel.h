/* One direction of a path: what tcpip_wasm.simulation.Channel does to frames, with chance's decisions from a script.
 *
 * It knows no clock: times are handed in, in whole nanoseconds. Numbers are rounded as Python rounds them, so that frames
 * arrive when they arrive in the simulation (tests/test_paths.py).
 */

#ifndef PATH_CHANNEL_H
#define PATH_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEVER INT64_MAX

struct fate {
  int64_t extra; /* nanoseconds that the frame takes longer */
  int32_t copies;
  int32_t late; /* whether others may overtake it */
};

struct frame {
  struct frame *next;
  int64_t since; /* when it began to wait */
  int64_t arrival;
  uint64_t number;
  struct fate fate;
  size_t size;
  unsigned char data[];
};

struct channel {
  double nanoseconds; /* of a byte */
  int64_t delay;
  uint64_t packets; /* that may wait */
  struct frame *first, **last;
  uint64_t waiting, waiting_bytes;
  bool codel;
  int64_t target, interval, first_above_time, drop_next;
  uint64_t most_packet, count, last_count;
  bool dropping;
  int64_t free_at, last_arrival;
  struct frame **heap;
  size_t under_way, heap_room;
  uint64_t number, accepted;
  uint64_t fate_count, toggle_count, toggled;
  struct fate *fates;
  int64_t *toggles; /* when bursts begin and end, in turn */
  uint64_t lost, dropped_full, dropped_codel, delivered;
};

/* End the program with the reason that errno gives. */
void fail(const char *what);

/* realloc, which ends the program where memory is short. */
void *claim(void *old, size_t size);

/* Make a channel of a script that path_emulator.py has written. */
void channel_load(struct channel *channel, const char *path);

/* Send a frame: it arrives, waits, or is dropped and counted. */
void channel_send(struct channel *channel, int64_t now, const unsigned char *data, size_t size);

/* Return when something happens next. Queued frames arrive after they are sent, and CoDel decides when a frame leaves. */
int64_t channel_due(const struct channel *channel);

/* Return a frame that has arrived by now, which the caller frees, or NULL. */
struct frame *channel_arrived(struct channel *channel, int64_t now);

#endif
