/* Small things that the programs of the benchmark share. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

_Static_assert(sizeof(size_t) == 8, "the benchmark is for 64-bit machines");

#define NS_PER_SECOND 1000000000ull
#define MAX_SIZE      ((uint64_t)1 << 30)

enum opcode {
    OP_CONTINUATION = 0,
    OP_TEXT = 1,
    OP_BINARY = 2,
    OP_CLOSE = 8,
    OP_PING = 9,
    OP_PONG = 10
};

enum { MAX_HEADER = 14 };

/* Ends the program: something went wrong (status 1). */
__attribute__((format(printf, 1, 2))) _Noreturn void fail(const char *format, ...);

/* Ends the program: the command line is wrong (status 2). */
__attribute__((format(printf, 1, 2))) _Noreturn void usage_error(const char *format, ...);

/* Zeroed memory; never NULL. */
void *allocate(size_t count, size_t size);

uint64_t clock_ns(clockid_t clock);
uint64_t now_ns(void);

/* The clock of the CPU time that a process has had. */
clockid_t cpu_clock_of(pid_t process);

uint64_t mix(uint64_t x);
uint64_t minimum(uint64_t a, uint64_t b);

/* The header of an unmasked frame that is a whole message; returns its length. */
size_t put_frame_header(uint8_t *out, enum opcode opcode, uint64_t size);

/* Values of options. */
uint64_t whole_number(const char *name, const char *text, uint64_t low, uint64_t high);
double duration(const char *name, const char *text, double low);

/* Keep to one CPU; -1: wherever the scheduler likes. */
void pin(int cpu);

void raise_descriptor_limit(uint32_t connections);

#endif
