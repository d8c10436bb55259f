/* Small things that the programs of the benchmark share. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common.h"

static _Noreturn void quit(int status, const char *format, va_list arguments)
{
    fflush(stdout);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(status);
}

_Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    quit(1, format, arguments);
}

_Noreturn void usage_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    quit(2, format, arguments);
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("out of memory (%zu x %zu bytes)", count, size);
    return memory;
}

uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) != 0)
        fail("clock_gettime: %s", strerror(errno));
    return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* splitmix64's finaliser: keys and patterns that look random, and can be made again. */
uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t minimum(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t whole_number(const char *name, const char *text, uint64_t low, uint64_t high)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < low || value > high)
        usage_error("--%s takes a whole number from %" PRIu64 " to %" PRIu64 ", not \"%s\"", name,
                    low, high, text);
    return value;
}

double duration(const char *name, const char *text, double low)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= low && value <= 86400))
        usage_error("--%s takes seconds from %g to 86400, not \"%s\"", name, low, text);
    return value;
}

void pin(int cpu)
{
    cpu_set_t set;

    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        fail("cannot run on CPU %d: %s", cpu, strerror(errno));
}

void raise_descriptor_limit(uint32_t connections)
{
    struct rlimit limit;
    rlim_t needed = (rlim_t)connections + 16;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("getrlimit: %s", strerror(errno));
    if (limit.rlim_cur >= needed)
        return;
    if (limit.rlim_max < needed)
        fail("%u connections need %ju descriptors; the hard limit is %ju (ulimit -Hn)", connections,
             (uintmax_t)needed, (uintmax_t)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("setrlimit: %s", strerror(errno));
}

clockid_t cpu_clock_of(pid_t process)
{
    clockid_t clock;
    int error = clock_getcpuclockid(process, &clock);
    if (error != 0)
        fail("the CPU clock of process %d: %s", (int)process, strerror(error));
    return clock;
}

size_t put_frame_header(uint8_t *out, enum opcode opcode, uint64_t size)
{
    size_t n = 2;

    out[0] = (uint8_t)(0x80 | opcode);
    if (size <= 125) {
        out[1] = (uint8_t)size;
        return n;
    }
    int width = size <= 0xffff ? 2 : 8;
    out[1] = width == 2 ? 126 : 127;
    for (int i = 0; i < width; i++)
        out[n++] = (uint8_t)(size >> 8 * (width - 1 - i));
    return n;
}
