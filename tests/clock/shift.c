/* Shifts the wall clock of one process, for tests: preloaded, it adds to CLOCK_REALTIME the milliseconds that the file named by
 * ONECODE_TEST_CLOCK holds as eight bytes. The file may change at any time: then the clock jumps. Waits until a moment of that clock
 * are shifted back, as the kernel knows nothing of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile long long *shift_ms;

__attribute__((constructor)) static void open_clock(void) {
    const char *path = getenv("ONECODE_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *shift_ms, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) shift_ms = mapped;
    close(file);
}

static void add_ms(struct timespec *time, long long ms) {
    long long ns = time->tv_nsec + ms % 1000 * 1000000;
    time->tv_sec += ms / 1000 + (ns >= 1000000000) - (ns < 0);
    time->tv_nsec = ns - (ns >= 1000000000) * 1000000000LL + (ns < 0) * 1000000000LL;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (!failed && clock == CLOCK_REALTIME && shift_ms) add_ms(time, *shift_ms);
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
    struct timespec shifted = *until;
    if (!real) real = (int (*)(cnd_t *, mtx_t *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
    if (shift_ms) add_ms(&shifted, -*shift_ms);
    if (shifted.tv_sec < 0) shifted.tv_sec = 0;
    return real(condition, mutex, &shifted);
}
