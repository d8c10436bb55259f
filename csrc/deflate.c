/*
 * permessage-deflate (RFC 7692), with what Python has negotiated.
 *
 * zlib's streams are large, a quarter of a megabyte to compress and 40 KiB to decompress: they are
 * made at the first message, and without context takeover they go back to the context after each.
 */
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

#define FIRST_RESERVE 4096
#define SCRATCH_KEEP  (1024 * 1024)
/* One byte inflates to a thousand, so that a read is to bring no more of them than this. What they
 * make is 8 MiB, after which others get their turn. */
#define READ_MAX 8192
/* zlib counts in unsigned int. */
#define PIECE_MAX (1024 * 1024 * 1024)
/* Raw deflate with a window of 256 bytes is what zlib cannot write. */
#define SMALLEST_WINDOW 9

/* What z_stream.data_type is where a block has ended on the last bit of the input. */
#define BETWEEN_BLOCKS 128

/* The end of every message that is left out on the wire: RFC 7692 section 7.2.1. */
static const uint8_t tail[] = {0x00, 0x00, 0xff, 0xff};

static z_stream *new_deflate(const uvws_deflate_options *options)
{
    z_stream *stream = calloc(1, sizeof(*stream));
    if (stream && deflateInit2(stream, options->level, Z_DEFLATED, -options->out_bits,
                               options->memory_level, Z_DEFAULT_STRATEGY) == Z_OK)
        return stream;
    free(stream);
    return NULL;
}

static z_stream *new_inflate(const uvws_deflate_options *options)
{
    z_stream *stream = calloc(1, sizeof(*stream));
    if (stream && inflateInit2(stream, -options->in_bits) == Z_OK)
        return stream;
    free(stream);
    return NULL;
}

static void free_deflate(z_stream *stream)
{
    if (stream)
        deflateEnd(stream);
    free(stream);
}

static void free_inflate(z_stream *stream)
{
    if (stream)
        inflateEnd(stream);
    free(stream);
}

static bool same_deflate(const uvws_deflate_options *one, const uvws_deflate_options *other)
{
    return one->level == other->level && one->out_bits == other->out_bits &&
           one->memory_level == other->memory_level;
}

static z_stream *take_deflate(uvws_context *context, const uvws_deflate_options *options)
{
    struct spare_streams *spare = &context->spare_streams;
    z_stream *stream = spare->deflate;
    if (!stream || !same_deflate(&spare->deflate_options, options))
        return new_deflate(options);
    spare->deflate = NULL;
    return stream;
}

static z_stream *take_inflate(uvws_context *context, const uvws_deflate_options *options)
{
    struct spare_streams *spare = &context->spare_streams;
    z_stream *stream = spare->inflate;
    if (!stream || spare->in_bits != options->in_bits)
        return new_inflate(options);
    spare->inflate = NULL;
    return stream;
}

static void give_deflate(uvws_connection *connection)
{
    struct spare_streams *spare = &connection->context->spare_streams;
    struct deflate *deflate = connection->deflate;
    deflateReset(deflate->out);
    free_deflate(spare->deflate);
    spare->deflate = deflate->out;
    spare->deflate_options = deflate->options;
    deflate->out = NULL;
}

static void give_inflate(uvws_connection *connection)
{
    struct spare_streams *spare = &connection->context->spare_streams;
    struct deflate *deflate = connection->deflate;
    inflateReset(deflate->in);
    free_inflate(spare->inflate);
    spare->inflate = deflate->in;
    spare->in_bits = deflate->options.in_bits;
    deflate->in = NULL;
}

#ifdef UVWS_BUNDLED_LWS
int uvws_has_deflate(void)
{
    return 1;
}

void uvws_deflate_open(uvws_connection *connection)
{
    if (!connection->deflate)
        return;
    lws_ws_allow_rsv1(connection->wsi);
    lws_ws_rx_at_most(connection->wsi, READ_MAX);
}
#else
/* lws closes connections on which it sees RSV1. */
int uvws_has_deflate(void)
{
    return 0;
}

void uvws_deflate_open(uvws_connection *connection)
{
    (void)connection;
}
#endif

int uvws_deflate_negotiated(uvws_connection *connection, const uvws_deflate_options *options)
{
    if (connection->deflate)
        return UVWS_FAILED;
    connection->deflate = calloc(1, sizeof(*connection->deflate));
    if (!connection->deflate)
        return UVWS_NO_MEMORY;
    connection->deflate->options = *options;
    return UVWS_OK;
}

void uvws_deflate_free(uvws_connection *connection)
{
    if (!connection->deflate)
        return;
    free_deflate(connection->deflate->out);
    free_inflate(connection->deflate->in);
    free(connection->deflate);
    connection->deflate = NULL;
}

void uvws_deflate_free_spares(uvws_context *context)
{
    free_deflate(context->spare_streams.deflate);
    free_inflate(context->spare_streams.inflate);
    context->spare_streams = (struct spare_streams){0};
    uvws_buffer_free(&context->deflated);
}

bool uvws_deflate_wanted(const uvws_connection *connection, size_t size)
{
    const struct deflate *deflate = connection->deflate;
    return deflate && size >= deflate->options.threshold &&
           deflate->options.out_bits >= SMALLEST_WINDOW;
}

static bool grow(struct buffer *buffer, size_t first, uint64_t most)
{
    size_t capacity = buffer->capacity ? buffer->capacity * 2 : first;
    if (most && capacity > most)
        capacity = (size_t)most;
    return uvws_buffer_reserve(buffer, capacity);
}

/* Feeds zlib with one piece and takes what comes out. */
static int deflate_piece(z_stream *stream, const char *data, size_t size, int flush,
                         struct buffer *out)
{
    stream->next_in = (z_const Bytef *)(uintptr_t)data;
    stream->avail_in = (uInt)size;
    do {
        if (out->capacity - out->size < 64 && !grow(out, FIRST_RESERVE, 0))
            return UVWS_NO_MEMORY;
        size_t room = out->capacity - out->size;
        stream->next_out = (Bytef *)out->data + out->size;
        stream->avail_out = (uInt)(room > PIECE_MAX ? PIECE_MAX : room);
        uInt before = stream->avail_out;
        int result = deflate(stream, flush);
        out->size += before - stream->avail_out;
        if (result != Z_OK && result != Z_BUF_ERROR)
            return UVWS_FAILED;
    } while (stream->avail_in || !stream->avail_out);
    return UVWS_OK;
}

static int deflate_all(z_stream *stream, const char *data, size_t size, struct buffer *out)
{
    while (size > PIECE_MAX) {
        int result = deflate_piece(stream, data, PIECE_MAX, Z_NO_FLUSH, out);
        if (result)
            return result;
        data += PIECE_MAX;
        size -= PIECE_MAX;
    }
    return deflate_piece(stream, data, size, Z_SYNC_FLUSH, out);
}

/* The end of the message: without the tail, and never without a byte (section 7.2.3.6). */
static void strip_tail(struct buffer *out)
{
    if (out->size > sizeof(tail))
        out->size -= sizeof(tail);
    else
        out->size = 0;
    if (!out->size)
        out->data[out->size++] = 0;
}

/* Compresses a fragment into the context's scratch buffer, to be used at once: see
 * uvws_deflate_done(). */
int uvws_deflate(uvws_connection *connection, const char *data, size_t size, bool final)
{
    struct deflate *deflate = connection->deflate;
    struct buffer *out = &connection->context->deflated;
    out->size = 0;
    if (!deflate->out)
        deflate->out = take_deflate(connection->context, &deflate->options);
    if (!deflate->out || !uvws_buffer_reserve(out, FIRST_RESERVE))
        return UVWS_NO_MEMORY;
    int result = deflate_all(deflate->out, data, size, out);
    if (result)
        return result;
    if (final)
        strip_tail(out);
    if (final && !deflate->options.out_takeover)
        give_deflate(connection);
    return UVWS_OK;
}

/* After uvws_deflate(), also where it failed. What follows must not refer back to a fragment that
 * was not `sent`: the peer would look for it in what it has. */
void uvws_deflate_done(uvws_connection *connection, bool sent)
{
    struct buffer *out = &connection->context->deflated;
    if (out->capacity > SCRATCH_KEEP)
        uvws_buffer_free(out);
    if (!sent && connection->deflate->out)
        deflateReset(connection->deflate->out);
}

/* `limit` is what the message may come to, 0 for no limit. */
static int inflate_piece(z_stream *stream, const uint8_t *data, size_t size, struct buffer *out,
                         uint64_t limit)
{
    stream->next_in = (z_const Bytef *)(uintptr_t)data;
    stream->avail_in = (uInt)size;
    for (;;) {
        /* One more than the limit tells a message that is too big from one that just fits. */
        if (out->size == out->capacity && !grow(out, FIRST_RESERVE, limit ? limit + 1 : 0))
            return UVWS_NO_MEMORY;
        size_t room = out->capacity - out->size;
        stream->next_out = (Bytef *)out->data + out->size;
        stream->avail_out = (uInt)(room > PIECE_MAX ? PIECE_MAX : room);
        uInt before = stream->avail_out;
        int result = inflate(stream, Z_SYNC_FLUSH);
        out->size += before - stream->avail_out;
        if (limit && out->size > limit)
            return UVWS_TOO_BIG;
        if (result == Z_STREAM_END)
            inflateResetKeep(stream); /* a block marked as the last: section 7.2.3.4 */
        else if (result == Z_MEM_ERROR)
            return UVWS_NO_MEMORY;
        else if (result != Z_OK && result != Z_BUF_ERROR)
            return UVWS_FAILED;
        if (stream->avail_out && (!stream->avail_in || result == Z_BUF_ERROR))
            return stream->avail_in ? UVWS_FAILED : UVWS_OK;
    }
}

/* What is cut off in the middle of a block takes the tail for a part of that, without an error. */
static int inflate_tail(z_stream *stream, struct buffer *out, uint64_t limit)
{
    int result = inflate_piece(stream, tail, sizeof(tail), out, limit);
    return !result && stream->data_type != BETWEEN_BLOCKS ? UVWS_FAILED : result;
}

/* A piece of a message. One without a byte is taken for empty, as others do: it should be one zero
 * (section 7.2.3.6), and the tail without that would begin a block that never ends. */
static int inflate_part(struct deflate *deflate, const char *data, size_t size, bool whole,
                        struct buffer *out, uint64_t limit)
{
    if (!size && !deflate->in_message)
        return UVWS_OK;
    deflate->in_message = !whole;
    int result = inflate_piece(deflate->in, (const uint8_t *)data, size, out, limit);
    return !result && whole ? inflate_tail(deflate->in, out, limit) : result;
}

/* Decompresses a piece of a message to the end of `out`; `whole` when it is the last. */
int uvws_inflate(uvws_connection *connection, const char *data, size_t size, bool whole,
                 struct buffer *out)
{
    struct deflate *deflate = connection->deflate;
    uint64_t limit = connection->limits.max_message_size;
    if (!deflate->in)
        deflate->in = take_inflate(connection->context, &deflate->options);
    if (!deflate->in)
        return UVWS_NO_MEMORY;
    int result = inflate_part(deflate, data, size, whole, out, limit);
    if (!result && whole && !deflate->options.in_takeover)
        give_inflate(connection);
    return result;
}
