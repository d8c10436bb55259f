/*
 * Whether bytes are UTF-8, as they come (RFC 3629, RFC 6455 section 8.1). Ours and not lws's, which
 * takes a byte at a time: half of the time that a server would spend on large texts.
 */
#include <string.h>

#include "uvws.h"

#define CONTINUATION_FIRST 0x80
#define CONTINUATION_LAST  0xBF
#define HIGH_BITS          0x8080808080808080u

/* As wide as every x86-64 and every 64-bit ARM has it; the compiler makes words of it elsewhere. */
typedef uint64_t vector __attribute__((vector_size(16)));

static bool is_ascii(vector bytes)
{
    return !((bytes[0] | bytes[1]) & HIGH_BITS);
}

static size_t skip_ascii(const uint8_t *in, size_t size)
{
    size_t at = 0;
    vector block[8];
    for (; at + sizeof(block) <= size; at += sizeof(block)) {
        memcpy(block, in + at, sizeof(block));
        if (!is_ascii(block[0] | block[1] | block[2] | block[3] | block[4] | block[5] | block[6] |
                      block[7]))
            break;
    }
    for (; at + sizeof(vector) <= size; at += sizeof(vector)) {
        memcpy(block, in + at, sizeof(vector));
        if (!is_ascii(block[0]))
            break;
    }
    while (at < size && in[at] < 0x80)
        at++;
    return at;
}

/* What may follow a first byte: the ranges leave out overlong forms, surrogates and what lies
 * beyond U+10FFFF. */
static bool begin_sequence(struct utf8 *state, uint8_t lead)
{
    state->first = CONTINUATION_FIRST;
    state->last = CONTINUATION_LAST;
    if (lead >= 0xC2 && lead <= 0xDF) {
        state->missing = 1;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        state->missing = 2;
        if (lead == 0xE0)
            state->first = 0xA0;
        if (lead == 0xED)
            state->last = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        state->missing = 3;
        if (lead == 0xF0)
            state->first = 0x90;
        if (lead == 0xF4)
            state->last = 0x8F;
    } else {
        return false;
    }
    return true;
}

bool uvws_utf8_feed(struct utf8 *state, const void *data, size_t size)
{
    const uint8_t *in = data;
    size_t at = 0;
    while (at < size) {
        if (!state->missing) {
            at += skip_ascii(in + at, size - at);
            if (at < size && !begin_sequence(state, in[at++]))
                return false;
            continue;
        }
        if (in[at] < state->first || in[at] > state->last)
            return false;
        state->first = CONTINUATION_FIRST;
        state->last = CONTINUATION_LAST;
        state->missing--;
        at++;
    }
    return true;
}

bool uvws_utf8_complete(const struct utf8 *state)
{
    return !state->missing;
}
