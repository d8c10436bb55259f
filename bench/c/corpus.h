/* JSON texts, and what they are when a client compresses them one after the other. */
#ifndef BENCH_CORPUS_H
#define BENCH_CORPUS_H

#include <stdint.h>
#include <zlib.h>

/* What all the servers are told too: level 1 is the only one that aiohttp has. */
enum { DEFLATE_LEVEL = 1, DEFLATE_MEMORY = 8, DEFLATE_WINDOW = 15 };

/* Bytes of a text: room for one object at least, and zlib counts in 32 bits. */
enum { MIN_JSON = 512, MAX_JSON = 16 << 20 };

struct compressed {
    uint8_t *data; /* owned */
    uint64_t length;
};

/*
 * Messages go round and round. Compressing is done once, beforehand: with context takeover a
 * message depends on the window before it, which is the same in every round but the first, as a
 * round is longer than the window.
 */
struct corpus {
    uint64_t count;
    uint64_t size;
    uint8_t *texts;           /* count * size; owned */
    struct compressed *first; /* the first round; owned */
    struct compressed *later; /* every other; owned */
};

struct corpus *make_corpus(uint64_t seed, uint64_t size);
void free_corpus(struct corpus *corpus);

const uint8_t *text_of(const struct corpus *corpus, uint64_t message);
const struct compressed *compressed_of(const struct corpus *corpus, uint64_t message);

#endif
