/* Two channels between two TAP devices in real time.
 *
 *   path_emulator SCRIPT_A_TO_B SCRIPT_B_TO_A FD_A FD_B   carry frames until standard input ends, then print a line of JSON
 *   path_emulator SCRIPT                                  replay: reads "NANOSECONDS BYTES" lines, prints when frames arrive
 *
 * Owns the time at which frames are handed over, and how late that was.
 */

#define _GNU_SOURCE 1

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "path_channel.h"

enum {
  LONGEST = 2048,   /* bytes of a frame */
  BATCH = 64,       /* frames read from a device before due frames are sent */
  SPIN = 30 * 1000, /* nanoseconds before something is due in which sleeping is not worth it */
  PRIORITY = 20,    /* of SCHED_FIFO */
};

/* --- Replay ----------------------------------------------------------------------------------------------- */

static void replay_until(struct channel *channel, int64_t until) {
  int64_t due;
  while ((due = channel_due(channel)) <= until && due != NEVER) {
    struct frame *frame;
    while ((frame = channel_arrived(channel, due)) != NULL) {
      for (int32_t i = 0; i < frame->fate.copies; i++) {
        uint64_t index;
        memcpy(&index, frame->data, sizeof index);
        printf("%lld %llu\n", (long long)frame->arrival, (unsigned long long)index);
      }
      free(frame);
    }
  }
}

static int replay(const char *path) {
  static unsigned char data[LONGEST];
  struct channel channel;
  long long now;
  unsigned size;
  channel_load(&channel, path);
  for (uint64_t index = 0; scanf("%lld %u", &now, &size) == 2; index++) {
    if (size < sizeof index || size > sizeof data) {
      fputs("a frame has 8 to 2048 bytes\n", stderr);
      return 1;
    }
    memcpy(data, &index, sizeof index);
    replay_until(&channel, now);
    channel_send(&channel, now, data, size);
  }
  replay_until(&channel, NEVER);
  return 0;
}

/* --- Real time -------------------------------------------------------------------------------------------- */

static struct {
  uint32_t *late; /* microseconds, one for each frame that was read or handed over */
  size_t count, room;
  uint64_t refused;
  int64_t stalled; /* nanoseconds, in all, by which hand-overs came more than a millisecond late */
} watch;

static int64_t started;

static int64_t clock_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - started;
}

static void note(int64_t late) {
  if (watch.count == watch.room) {
    watch.room = watch.room * 2 + (1 << 20);
    watch.late = claim(watch.late, watch.room * sizeof *watch.late);
  }
  watch.late[watch.count++] = (uint32_t)(late / 1000);
}

static int compare(const void *a, const void *b) {
  uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
  return (left > right) - (left < right);
}

static void read_frames(struct channel *channel, int fd, int64_t waited) {
  static unsigned char data[LONGEST];
  for (int i = 0; i < BATCH; i++) {
    ssize_t size = read(fd, data, sizeof data);
    if (size < 0) {
      if (errno != EAGAIN && errno != EINTR) {
        fail("read");
      }
      return;
    }
    channel_send(channel, clock_now(), data, (size_t)size);
    note(waited);
  }
}

static void hand_over(struct channel *channel, int fd) {
  struct frame *frame;
  int64_t worst = 0;
  for (int i = 0; i < BATCH && (frame = channel_arrived(channel, clock_now())) != NULL; i++) {
    int64_t late = clock_now() - frame->arrival;
    worst = late > worst ? late : worst;
    note(late);
    for (int32_t copy = 0; copy < frame->fate.copies; copy++) {
      watch.refused += write(fd, frame->data, frame->size) != (ssize_t)frame->size;
    }
    free(frame);
  }
  watch.stalled += worst > 1000000 ? worst : 0;
}

static void carry(struct channel *a_to_b, struct channel *b_to_a, int a, int b) {
  struct pollfd fds[] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  for (int64_t polled = clock_now();;) {
    int64_t now = clock_now(), waited = now - polled;
    polled = now;
    read_frames(a_to_b, a, waited);
    read_frames(b_to_a, b, waited);
    hand_over(a_to_b, b);
    hand_over(b_to_a, a);
    int64_t due = channel_due(a_to_b), other = channel_due(b_to_a);
    int64_t wait = (due < other ? due : other) - clock_now() - SPIN;
    if (wait <= 0) {
      continue;
    }
    wait = wait < 1000000000 ? wait : 999999999;
    int64_t slept = clock_now();
    if (ppoll(fds, 3, &(struct timespec){.tv_nsec = wait}, NULL) < 0) {
      fail("ppoll");
    }
    polled += clock_now() - slept; /* what came in while it slept did not wait */
    if (fds[2].revents != 0) {
      return;
    }
  }
}

static void report(const char *name, const struct channel *channel) {
  printf("\"%s\": {\"delivered\": %llu, \"lost\": %llu, \"queue\": %llu, \"codel\": %llu}, ", name,
         (unsigned long long)channel->delivered, (unsigned long long)channel->lost, (unsigned long long)channel->dropped_full,
         (unsigned long long)channel->dropped_codel);
}

int main(int argc, char **argv) {
  struct channel a_to_b, b_to_a;
  if (argc == 2) {
    return replay(argv[1]);
  }
  if (argc != 5) {
    fputs("path_emulator SCRIPT_A_TO_B SCRIPT_B_TO_A FD_A FD_B, or path_emulator SCRIPT\n", stderr);
    return 2;
  }
  channel_load(&a_to_b, argv[1]);
  channel_load(&b_to_a, argv[2]);
  /* It sleeps whenever nothing is due; where this is not allowed, the report of lateness decides. */
  sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = PRIORITY});
  mlockall(MCL_CURRENT | MCL_FUTURE);
  started = clock_now();
  carry(&a_to_b, &b_to_a, atoi(argv[3]), atoi(argv[4]));
  qsort(watch.late, watch.count, sizeof *watch.late, compare);
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  putchar('{');
  report("a_to_b", &a_to_b);
  report("b_to_a", &b_to_a);
  double processor =
      (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  printf("\"late_p99_us\": %u, \"late_most_us\": %u, \"stalled\": %.4f, \"refused\": %llu, \"processor\": %.2f}\n",
         watch.count != 0 ? watch.late[watch.count * 99 / 100] : 0, watch.count != 0 ? watch.late[watch.count - 1] : 0,
         (double)watch.stalled / 1e9, (unsigned long long)watch.refused, processor);
  return 0;
}
