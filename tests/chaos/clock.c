/* A wall clock that can be set while a process runs: preloaded, it answers for the kernel's.
 *
 * The file that CHAOS_CLOCK_FILE names holds two 64-bit numbers: nanoseconds to add to the true time, and the instant at
 * which the clock stands still (nanoseconds since 1970; 0 where it goes). Clocks that never jump are left alone, as a
 * step of the wall clock leaves them alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static const volatile int64_t *setting;
static int (*kernels)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    kernels = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CHAOS_CLOCK_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        setting = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!kernels)
        begin();
    int failed = kernels(clock, now);
    if (failed || !setting || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return failed;
    int64_t told = setting[1] ? setting[1] : now->tv_sec * SECOND + now->tv_nsec + setting[0];
    now->tv_sec = told / SECOND;
    now->tv_nsec = told % SECOND;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec told;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &told);
    now->tv_sec = told.tv_sec;
    now->tv_usec = told.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec told;
    clock_gettime(CLOCK_REALTIME, &told);
    if (now)
        *now = told.tv_sec;
    return told.tv_sec;
}
