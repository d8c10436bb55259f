/* What is sent. */
#include "loadgen.h"

#include <string.h>

/*
 * The first eight bytes of a message. Connections count from far-apart starts, so that an echo
 * sent to the wrong connection shows. For text: eight letters from a to p.
 */
uint64_t sequence_word(const struct run *r, const struct connection *c, uint64_t message)
{
    uint64_t x = (message + c->index * 0x9e3779b1ull) & 0xffffffffu;
    if (r->options.opcode == OP_BINARY)
        return mix(x);
    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    return x + 0x6161616161616161u;
}

uint32_t mask_key(const struct run *r, const struct connection *c, uint64_t message)
{
    return (uint32_t)mix(r->seed ^ ((uint64_t)c->index << 40) ^ message);
}

void make_template(struct run *r)
{
    uint64_t size = r->options.size;
    r->template = allocate(size + 64, 1);
    for (uint64_t i = 0; i < size; i++) {
        uint64_t random = mix(r->seed + i);
        r->template[i] = (uint8_t)(r->options.opcode == OP_TEXT ? ' ' + random % 95 : random);
    }
}

/* A message as it goes over the wire, before masking. Room for seven bytes more is behind it. */
struct form {
    const uint8_t *data;
    uint64_t length;
    uint64_t header_length; /* with the key */
    uint64_t frame_length;
    bool compressed;
};

static uint64_t header_length_of(uint64_t length)
{
    return (length <= 125 ? 2 : length <= 0xffff ? 4 : 10) + 4;
}

static struct form form_of(const struct run *r, uint64_t message)
{
    struct form f = {.data = r->template, .length = r->options.size};
    if (r->corpus != NULL) {
        const struct compressed *z = compressed_of(r->corpus, message);
        f.data = z->data;
        f.length = z->length;
        f.compressed = true;
    }
    f.header_length = header_length_of(f.length);
    f.frame_length = f.header_length + f.length;
    return f;
}

/*
 * Writes the masked payload from `offset` (a multiple of 8) on, whole words: up to seven bytes more
 * than `length`, which both buffers have room for.
 */
static void put_payload(const struct run *r, const struct connection *c, uint64_t message,
                        const struct form *f, uint64_t offset, uint64_t length, uint8_t *out)
{
    const uint8_t *in = f->data + offset;
    uint32_t key = mask_key(r, c, message);
    uint64_t key2 = (uint64_t)key << 32 | key;
    uint64_t i = 0;

    if (offset == 0 && length > 0 && !f->compressed) {
        uint64_t word = sequence_word(r, c, message) ^ key2;
        memcpy(out, &word, 8);
        i = 8;
    }
    for (; i + 32 <= length; i += 32) {
        uint64_t words[4];
        memcpy(words, in + i, 32);
        for (int k = 0; k < 4; k++)
            words[k] ^= key2;
        memcpy(out + i, words, 32);
    }
    for (; i < length; i += 8) {
        uint64_t word;
        memcpy(&word, in + i, 8);
        word ^= key2;
        memcpy(out + i, &word, 8);
    }
}

static void put_header(const struct run *r, const struct connection *c, uint64_t message,
                       const struct form *f, uint8_t *out)
{
    uint32_t key = mask_key(r, c, message);
    size_t n = put_frame_header(out, r->options.opcode, f->length);

    out[0] |= f->compressed ? RSV1 : 0;
    out[1] |= 0x80;
    memcpy(out + n, &key, 4);
}

struct span {
    const uint8_t *data;
    size_t length;
};

/* All the frames that are due and fit in the buffer, less what has gone of the first. */
static struct span make_batch(const struct run *r, const struct connection *c)
{
    uint8_t *out = r->tx;

    for (uint64_t message = c->tx_message; message < c->tx_limit; message++) {
        struct form f = form_of(r, message);
        if ((uint64_t)(out - r->tx) + f.frame_length > BATCH)
            break;
        put_header(r, c, message, &f, out);
        put_payload(r, c, message, &f, 0, f.length, out + f.header_length);
        out += f.frame_length;
    }
    return (struct span){r->tx + c->tx_offset, (size_t)(out - r->tx) - c->tx_offset};
}

/* The next piece of a frame that is larger than the buffer. */
static struct span make_piece(const struct run *r, const struct connection *c, const struct form *f)
{
    uint8_t *out = r->tx + 16;
    bool with_header = c->tx_offset < f->header_length;
    uint64_t wanted = with_header ? 0 : c->tx_offset - f->header_length;
    uint64_t start = wanted & ~(uint64_t)7;
    uint64_t length = minimum(f->length - start, PIECE);

    put_payload(r, c, c->tx_message, f, start, length, out);
    if (with_header) {
        put_header(r, c, c->tx_message, f, out - f->header_length);
        uint64_t rest = f->header_length - c->tx_offset;
        return (struct span){out - rest, length + rest};
    }
    return (struct span){out + (wanted - start), length - (wanted - start)};
}

static void advance(const struct run *r, struct connection *c, uint64_t sent)
{
    c->tx_offset += sent;
    for (;;) {
        uint64_t length = form_of(r, c->tx_message).frame_length;
        if (c->tx_offset < length)
            return;
        c->tx_offset -= length;
        c->tx_message++;
    }
}

void flush_connection(struct run *r, struct connection *c)
{
    while (c->tx_message < c->tx_limit) {
        struct form f = form_of(r, c->tx_message);
        struct span s = f.frame_length <= PIECE ? make_batch(r, c) : make_piece(r, c, &f);
        if (r->timed && c->tx_offset == 0)
            c->sent_at = now_ns();
        ssize_t n = channel_send(&c->channel, s.data, s.length);
        if (n == CHANNEL_FAILED)
            fail("connection %u: sending: %s", c->index, channel_error());
        if (n > 0)
            advance(r, c, (uint64_t)n);
        if (n < (ssize_t)s.length) {
            want_write(r, c, true);
            return;
        }
    }
    want_write(r, c, false);
}

void stop_sending(const struct run *r, struct connection *c)
{
    uint64_t begun = c->tx_offset + c->channel.pending;

    c->tx_limit = c->tx_message;
    for (uint64_t have = 0; have < begun; c->tx_limit++)
        have += form_of(r, c->tx_limit).frame_length;
}
