/* Runs epochs, each in a process of its own with a seed of its own; reports, replays and reduces one that fails.

   fuzz [SECONDS] [SEED] [EPOCHS] [STEPS] [verbose|shrink] [FRAMES]

   Runs until so many seconds have passed, epochs are over or frames have been exchanged, whichever is first; 0 is no limit. */
#include "fuzz.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STEPS = 3000, MOST_SECONDS = 120, MOST_STEPS = 100000 };

static struct shared {
  struct totals totals;
  uint32_t step, steps;
  uint8_t left_out[MOST_STEPS];
} *shared;

struct totals *totals;
bool verbose;
static uint64_t seed;

_Noreturn void fail(const char *file, int line, const char *condition, const char *format, ...) {
  va_list arguments;
  fprintf(stderr, "%s:%d: %s: ", file, line, condition);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, "\n");
  abort();
}

/* A small quarantine and short backtraces: a replay has all details, and each fork copies the quarantine. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
  return "quarantine_size_mb=8:malloc_context_size=12:detect_leaks=1:abort_on_error=1:max_allocation_size_mb=512:"
         "leak_check_at_exit=0:handle_abort=0";
}
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "print_stacktrace=1:abort_on_error=1"; }

static void (*const KINDS[])(void) = {peers_step,    programs_step, openings_step, datagrams_step, neighbours_step,
                                      messages_step, links_step,    routes_step,   router_step};
static const char *const NAMES[] = {"peers",    "programs", "openings", "datagrams", "neighbours",
                                    "messages", "links",    "routes",   "router"};
/* Every epoch has the first three. */
static const uint32_t FLOOR[] = {10, 6, 2, 0, 1, 0, 1, 0, 0};

static uint32_t choose_kind(void) {
  uint32_t total = 0, kind = 0;
  for (uint32_t i = 0; i < COUNT(KINDS); i++) {
    total += style.weights[i] + FLOOR[i];
  }
  for (uint32_t at = below(total); at >= style.weights[kind] + FLOOR[kind]; kind++) {
    at -= style.weights[kind] + FLOOR[kind];
  }
  return kind;
}

static int64_t time_to_pass(void) {
  if (percent(style.jumps)) {
    return (int64_t)ONE_OF(1, 10, 60, 120, 3600) * SECOND * (percent(1) ? 24 : 1);
  }
  return percent(50) ? 0 : percent(70) ? below(3 * MILLISECOND) : percent(80) ? below(60 * MILLISECOND) : below(2 * SECOND);
}

static void run_step(uint32_t step) {
  choices_restart(seed, step + 1);
  shared->step = step;
  if (shared->left_out[step]) {
    return;
  }
  uint32_t kind = choose_kind();
  bool failing = percent(style.failing);
  if (verbose) {
    fprintf(stderr, "step %u at %.6f: %s%s\n", step, world_time(), NAMES[kind], failing ? ", allocations fail" : "");
  }
  for (uint32_t i = 0; i < MAX_LINKS; i++) {
    links[i].stalled -= links[i].stalled > 0;
  }
  world_pass(time_to_pass());
  allocations_fail_once = percent(70);
  allocations_left = failing ? (int64_t)below(percent(50) ? 10 : 200) : -1;
  KINDS[kind]();
  if (percent(85)) {
    world_poll();
  }
  allocations_left = -1;
  totals->steps++;
}

static void run_epoch(void) {
  setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = MOST_SECONDS}, NULL);
  choices_restart(seed, 0);
  epoch_begin(seed);
  choices_restart(seed, 0);
  style_choose();
  links_start();
  programs_start();
  for (uint32_t step = 0; step < shared->steps; step++) {
    run_step(step);
  }
  choices_restart(seed, UINT64_MAX);
  epoch_finish();
  totals->epochs++;
}

/* Returns true if the epoch passed. Where a log is given, the output of the process goes there. */
static bool run_process(uint64_t its_seed, FILE *log) {
  seed = its_seed;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    if (log != NULL) {
      dup2(fileno(log), STDERR_FILENO);
    }
    run_epoch();
    exit(0);
  }
  int status = 1;
  if (child < 0 || waitpid(child, &status, 0) != child) {
    perror("fork");
    exit(2);
  }
  if (log == NULL && WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF) {
    fprintf(stderr, "an epoch took more than %d s of CPU time: a poll that does not end?\n", MOST_SECONDS);
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Compares the first line of the output, up to the first address in it. */
static bool fails_in_the_same_way(uint64_t its_seed, char *line, size_t size) {
  char output[256] = "";
  FILE *log = tmpfile();
  bool passed = run_process(its_seed, log);
  rewind(log);
  while (fgets(output, sizeof output, log) != NULL && (output[0] == '=' || output[0] == '\n') &&
         strstr(output, "ERROR") == NULL) {
  }
  fclose(log);
  char *start = strstr(output, "ERROR") != NULL ? strstr(output, "ERROR") : output, *end = strstr(start, "0x");
  if (end != NULL) {
    *end = 0;
  }
  if (line[0] == 0) {
    snprintf(line, size, "%.60s", start);
  }
  return !passed && strncmp(line, start, strlen(line)) == 0;
}

/* Leaves out ever smaller ranges of steps for as long as the epoch fails in the same way. */
static void shrink(uint64_t its_seed) {
  char line[64] = "";
  uint32_t steps = shared->step + 1, left = steps;
  shared->steps = steps;
  if (!fails_in_the_same_way(its_seed, line, sizeof line)) {
    fprintf(stderr, "does not fail again\n");
    return;
  }
  for (uint32_t size = steps / 2; size > 0; size /= 2) {
    for (uint32_t at = 0; at < steps; at += size) {
      uint8_t before[MOST_STEPS];
      memcpy(before, shared->left_out, steps);
      uint32_t count = SMALLER(size, steps - at);
      memset(shared->left_out + at, 1, count);
      if (!fails_in_the_same_way(its_seed, line, sizeof line)) {
        memcpy(shared->left_out, before, steps);
      }
    }
    left = 0;
    for (uint32_t i = 0; i < steps; i++) {
      left += !shared->left_out[i];
    }
    fprintf(stderr, "ranges of %u: %u steps left\n", size, left);
  }
  verbose = true;
  run_process(its_seed, NULL);
}

static double elapsed(const struct timespec *since) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)(time.tv_sec - since->tv_sec) + (double)(time.tv_nsec - since->tv_nsec) * 1e-9;
}

static void say(uint64_t first, uint64_t last, double seconds) {
  const struct totals *t = totals;
  uint64_t frames = t->frames_in + t->frames_out;
  printf("%llu frames (%llu in, %llu out) in %.1f s, %.0f a second; seeds %llu to %llu, %llu steps, %llu polls\n",
         (unsigned long long)frames, (unsigned long long)t->frames_in, (unsigned long long)t->frames_out, seconds,
         (double)frames / seconds, (unsigned long long)first, (unsigned long long)last, (unsigned long long)t->steps,
         (unsigned long long)t->polls);
  printf(
      "%llu accepted, %llu connected, %llu closed; %llu bytes taken, %llu delivered; %llu datagrams, %llu allocations failed\n",
      (unsigned long long)t->accepted, (unsigned long long)t->connected, (unsigned long long)t->closed,
      (unsigned long long)t->bytes_taken, (unsigned long long)t->bytes_delivered, (unsigned long long)t->datagrams,
      (unsigned long long)t->failed_allocations);
  fflush(stdout);
}

static uint64_t number(int count, char **arguments, int index, uint64_t otherwise) {
  return index < count && arguments[index][0] != 0 ? strtoull(arguments[index], NULL, 0) : otherwise;
}

int main(int count, char **arguments) {
  uint64_t seconds = number(count, arguments, 1, 60), first = number(count, arguments, 2, 1);
  uint64_t epochs = number(count, arguments, 3, 0), frames = number(count, arguments, 6, 0);
  const char *mode = count > 5 ? arguments[5] : "";
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  shared->steps = (uint32_t)SMALLER(number(count, arguments, 4, STEPS), MOST_STEPS);
  totals = &shared->totals;
  verbose = strcmp(mode, "verbose") == 0;
  filler_start();
  struct timespec begin;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  uint64_t its_seed = first;
  bool passed = true, over = false;
  for (; passed && !over && (epochs == 0 || its_seed < first + epochs); its_seed++) {
    passed = run_process(its_seed, NULL);
    double time = elapsed(&begin);
    over = (seconds != 0 && time >= (double)seconds) || (frames != 0 && totals->frames_in + totals->frames_out >= frames) ||
           its_seed + 1 == first + epochs;
    if (!passed || over || its_seed % 500 == 0) {
      say(first, its_seed, time);
    }
  }
  if (passed) {
    return 0;
  }
  its_seed--;
  fprintf(stderr, "seed %llu failed in step %u; again: make fuzz SEED=%llu EPOCHS=1 STEPS=%u MODE=verbose (or MODE=shrink)\n",
          (unsigned long long)its_seed, shared->step, (unsigned long long)its_seed, shared->step + 1);
  if (strcmp(mode, "shrink") == 0) {
    shrink(its_seed);
  }
  return 1;
}
