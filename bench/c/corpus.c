/* JSON texts, and what they are when a client compresses them one after the other. */
#include "corpus.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

/* A round is this long, or this many messages if that is longer. */
enum { ROUND_BYTES = 512 * 1024, ROUND_MESSAGES = 16, RECORD_ROOM = 512 };

static const char *const NAMES[] = {"Amara", "Bjarne", "Chidi", "Dagny",  "Eleni", "Farid",
                                    "Greta", "Hiroko", "Ines",  "Jovana", "Kofi",  "Leila"};
static const char *const CITIES[] = {"Accra",   "Bergen", "Cusco", "Dakar", "Eindhoven",
                                     "Fukuoka", "Genoa",  "Hanoi", "Izmir", "Jaipur"};
static const char *const WORDS[] = {
    "order",    "shipped", "with",    "delay",   "from",    "the",   "northern", "warehouse",
    "please",   "check",   "invoice", "before",  "paying",  "and",   "return",   "damaged",
    "parts",    "within",  "thirty",  "days",    "because", "stock", "is",       "limited",
    "customer", "asked",   "for",     "another", "colour",  "we",    "offered",  "blue"};

#define PICK(list, random) ((list)[(random) % (sizeof(list) / sizeof *(list))])

/* One object of the array; returns its length. */
static size_t put_record(char *out, uint64_t seed, uint64_t number)
{
    uint64_t a = mix(seed ^ number * 4);
    uint64_t b = mix(a);
    uint64_t c = mix(b);
    uint64_t d = mix(c);
    int n = snprintf(
        out, RECORD_ROOM,
        "{\"id\":%" PRIu64 ",\"time\":\"2031-%02u-%02uT%02u:%02u:%02u.%03uZ\","
        "\"name\":\"%s\",\"city\":\"%s\",\"price\":%u.%02u,\"count\":%u,"
        "\"paid\":%s,\"note\":\"%s %s %s %s %s %s\",\"token\":\"%08x\"},",
        100000 + number * 7 + a % 7, (unsigned)(a >> 8) % 12 + 1, (unsigned)(a >> 16) % 28 + 1,
        (unsigned)(a >> 24) % 24, (unsigned)(a >> 32) % 60, (unsigned)(a >> 40) % 60,
        (unsigned)(a >> 48) % 1000, PICK(NAMES, b), PICK(CITIES, b >> 16),
        (unsigned)(b >> 32) % 5000, (unsigned)(b >> 48) % 100, (unsigned)c % 40,
        c >> 63 ? "true" : "false", PICK(WORDS, c >> 8), PICK(WORDS, c >> 16), PICK(WORDS, c >> 24),
        PICK(WORDS, c >> 32), PICK(WORDS, c >> 40), PICK(WORDS, d), (unsigned)(d >> 32));
    return (size_t)n;
}

/* A JSON array of exactly `size` bytes, filled up with blanks, which JSON allows. */
static void put_text(uint8_t *out, uint64_t size, uint64_t seed, uint64_t *number)
{
    uint64_t at = 1;
    memset(out, ' ', size);
    out[0] = '[';
    for (;;) {
        char record[RECORD_ROOM];
        size_t length = put_record(record, seed, *number);
        if (at + length > size)
            break;
        memcpy(out + at, record, length);
        at += length;
        ++*number;
    }
    out[at > 1 ? at - 1 : at] = ']';
}

static void compress_message(z_stream *deflater, const uint8_t *text, uint64_t size,
                             struct compressed *result)
{
    uint64_t room = size + size / 1000 + 64;
    uint8_t *buffer = allocate(room, 1);

    deflater->next_in = (Bytef *)(uintptr_t)text;
    deflater->avail_in = (uInt)size;
    deflater->next_out = buffer;
    deflater->avail_out = (uInt)room;
    if (deflate(deflater, Z_SYNC_FLUSH) != Z_OK || deflater->avail_out == 0)
        fail("a message could not be compressed");
    result->data = buffer;
    /* Less the 00 00 FF FF that RFC 7692 leaves out. */
    result->length = room - deflater->avail_out - 4;
}

static struct compressed *compress_round(z_stream *deflater, const struct corpus *corpus)
{
    struct compressed *round = allocate(corpus->count, sizeof *round);
    for (uint64_t i = 0; i < corpus->count; i++)
        compress_message(deflater, text_of(corpus, i), corpus->size, &round[i]);
    return round;
}

struct corpus *make_corpus(uint64_t seed, uint64_t size)
{
    struct corpus *corpus = allocate(1, sizeof *corpus);
    z_stream deflater = {0};
    uint64_t number = 0;

    corpus->size = size;
    corpus->count = ROUND_BYTES / size > ROUND_MESSAGES ? ROUND_BYTES / size : ROUND_MESSAGES;
    corpus->texts = allocate(corpus->count, size);
    for (uint64_t i = 0; i < corpus->count; i++)
        put_text(corpus->texts + i * size, size, seed, &number);

    if (deflateInit2(&deflater, DEFLATE_LEVEL, Z_DEFLATED, -DEFLATE_WINDOW, DEFLATE_MEMORY,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        fail("zlib: deflateInit2");
    corpus->first = compress_round(&deflater, corpus);
    corpus->later = compress_round(&deflater, corpus);
    deflateEnd(&deflater);
    return corpus;
}

void free_corpus(struct corpus *corpus)
{
    if (corpus == NULL)
        return;
    for (uint64_t i = 0; i < corpus->count; i++) {
        free(corpus->first[i].data);
        free(corpus->later[i].data);
    }
    free(corpus->first);
    free(corpus->later);
    free(corpus->texts);
    free(corpus);
}

const uint8_t *text_of(const struct corpus *corpus, uint64_t message)
{
    return corpus->texts + message % corpus->count * corpus->size;
}

const struct compressed *compressed_of(const struct corpus *corpus, uint64_t message)
{
    const struct compressed *round = message < corpus->count ? corpus->first : corpus->later;
    return &round[message % corpus->count];
}
