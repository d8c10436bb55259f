/* Latencies, and the percentiles of them. */
#include "histogram.h"

#include "common.h"

static uint32_t bucket_of(uint64_t value)
{
    if (value < STEPS)
        return (uint32_t)value;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - STEP_BITS;
    return (shift + 1) * STEPS + (uint32_t)(value >> shift) - STEPS;
}

static uint64_t bucket_middle(uint32_t bucket)
{
    if (bucket < STEPS)
        return bucket;
    uint32_t shift = bucket / STEPS - 1;
    uint64_t low = ((uint64_t)STEPS + bucket % STEPS) << shift;
    return low + (((uint64_t)1 << shift) >> 1);
}

void record(struct histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->total++;
    if (value > h->max)
        h->max = value;
}

uint64_t percentile(const struct histogram *h, double fraction)
{
    uint64_t wanted = (uint64_t)(fraction * (double)h->total);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > wanted)
            return minimum(bucket_middle(i), h->max);
    }
    return h->max;
}
