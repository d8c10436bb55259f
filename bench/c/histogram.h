/* Latencies, and the percentiles of them. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

/*
 * In ns: 128 linear steps for each power of two, so a bucket is at most 0.8 % wide whatever the
 * magnitude.
 */
enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = (64 - STEP_BITS + 1) * STEPS };

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total;
    uint64_t max;
};

void record(struct histogram *h, uint64_t value);
uint64_t percentile(const struct histogram *h, double fraction);

#endif
