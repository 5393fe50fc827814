/* Preloaded into redis-server: its wall clock is the number in the file CLOCK_FILE (eight bytes, in µs since the epoch),
 * mapped, so that a test sets it by writing the file; a negative number is how far it goes behind the kernel's. Other
 * clocks are the kernel's. libfaketime can't do this: Debian's
 * redis-server uses jemalloc, which reads a clock before that library is ready, and it ends in a recursion. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *now;

__attribute__((constructor)) static void map_the_file(void) {
  int file = open(getenv("CLOCK_FILE"), O_RDONLY);
  void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();
  now = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
  if (!now || clock != CLOCK_REALTIME) return syscall(SYS_clock_gettime, clock, t);
  int64_t at = *now;
  if (at < 0) {
    syscall(SYS_clock_gettime, clock, t);
    at += t->tv_sec * INT64_C(1000000) + t->tv_nsec / 1000;
  }
  t->tv_sec = at / 1000000;
  t->tv_nsec = at % 1000000 * 1000;
  return 0;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
  struct timespec at;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &at);
  t->tv_sec = at.tv_sec;
  t->tv_usec = at.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *t) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (t) *t = at.tv_sec;
  return at.tv_sec;
}
