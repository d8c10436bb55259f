/*
 * The send queue: send.c builds frames into it when send() is called, and they are written when lws
 * says that a connection is writable, as many as there are in one write.
 *
 * The queue is a list of chunks. Small frames share a chunk, which goes to lws whole: lws copies
 * what the socket did not take. A large frame has a chunk to itself and is written in pieces, of
 * which lws keeps nothing. Where it can, the chunk has only its beginning, and the rest is read
 * where the caller has it ("pinned"): nothing is copied but what a client must mask. While such a
 * frame is under way no other may come in between, not even one of lws's own, which is what our
 * patch for writing in parts is for; without it large payloads go to lws like small ones.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "uvws.h"

#define CHUNK_CAPACITY   16384
#define SPARE_CHUNKS_MAX 64
#define PIECE_SIZE       (256 * 1024)
/* After this much, other connections get their turn first. */
#define TURN_SIZE       (4 * PIECE_SIZE)
#define CLOSING_TIMEOUT 5 /* seconds */
#define TLS_RECORD_MAX  16384
#define GOODBYE_REASON  64 /* bytes */

struct tx_chunk {
    struct tx_chunk *next;
    size_t capacity; /* of data */
    size_t size;     /* bytes in data */
    size_t payload;  /* how many of the bytes still here count in send_queue_size */
    /* A large frame: `data` is its beginning, the rest is Python's until the UNPIN event. */
    uint64_t token; /* 0: not a large frame */
    const uint8_t *pinned;
    size_t pinned_size;
    size_t written; /* of data and pinned together */
    bool begun;     /* offered to the socket: OpenSSL may hold some of it and have taken nothing */
    size_t masked_at; /* where in the payload `pinned` begins */
    uint8_t mask[4];
    uint8_t data[];
};

static struct tx_chunk *chunk_new(uvws_context *context, size_t capacity)
{
    struct tx_chunk *chunk = context->spare_chunks;
    if (chunk && capacity <= CHUNK_CAPACITY) {
        context->spare_chunks = chunk->next;
        context->spare_chunk_count--;
    } else {
        if (capacity < CHUNK_CAPACITY)
            capacity = CHUNK_CAPACITY;
        chunk = malloc(sizeof(*chunk) + capacity);
        if (!chunk)
            return NULL;
        chunk->capacity = capacity;
    }
    chunk->next = NULL;
    chunk->size = 0;
    chunk->payload = 0;
    chunk->token = 0;
    chunk->pinned = NULL;
    chunk->pinned_size = 0;
    chunk->written = 0;
    chunk->begun = false;
    return chunk;
}

static void chunk_free(uvws_context *context, struct tx_chunk *chunk)
{
    if (chunk->capacity == CHUNK_CAPACITY && context->spare_chunk_count < SPARE_CHUNKS_MAX) {
        chunk->next = context->spare_chunks;
        context->spare_chunks = chunk;
        context->spare_chunk_count++;
        return;
    }
    free(chunk);
}

void uvws_tx_free_spares(uvws_context *context)
{
    while (context->spare_chunks) {
        struct tx_chunk *chunk = context->spare_chunks;
        context->spare_chunks = chunk->next;
        free(chunk);
    }
    context->spare_chunk_count = 0;
    free(context->mask_scratch);
    context->mask_scratch = NULL;
}

static void append_chunk(uvws_connection *connection, struct tx_chunk *chunk)
{
    if (connection->tx_tail)
        connection->tx_tail->next = chunk;
    else
        connection->tx_head = chunk;
    connection->tx_tail = chunk;
}

static struct tx_chunk *chunk_with_room(uvws_connection *connection, size_t size)
{
    struct tx_chunk *tail = connection->tx_tail;
    if (tail && !tail->token && tail->capacity - tail->size >= size)
        return tail;
    struct tx_chunk *chunk = chunk_new(connection->context, size);
    if (chunk)
        append_chunk(connection, chunk);
    return chunk;
}

static void drop_head(uvws_connection *connection)
{
    struct tx_chunk *chunk = connection->tx_head;
    connection->tx_head = chunk->next;
    if (!connection->tx_head)
        connection->tx_tail = NULL;
    connection->queued -= chunk->payload;
    connection->framed -= chunk->size + chunk->pinned_size - chunk->written;
    if (chunk->token)
        uvws_event_unpin(connection->context, connection->slot, chunk->token);
    chunk_free(connection->context, chunk);
}

static void drop_pongs(uvws_connection *connection)
{
    if (connection->pongs)
        chunk_free(connection->context, connection->pongs);
    connection->pongs = NULL;
}

void uvws_tx_clear(uvws_connection *connection)
{
    drop_pongs(connection);
    while (connection->tx_head)
        drop_head(connection);
    connection->in_flight = 0;
}

/* A frame that is written in parts is under way. */
static bool has_begun(const uvws_connection *connection)
{
    return connection->tx_head && connection->tx_head->begun;
}

/* What may still be said once the connection is closing: the rest of a frame that has begun, or a
 * Close frame would end up in the middle of its payload. */
void uvws_tx_clear_but_begun(uvws_connection *connection)
{
    struct tx_chunk *begun = connection->tx_head;
    drop_pongs(connection); /* nothing may follow a Close frame */
    if (!has_begun(connection)) {
        uvws_tx_clear(connection);
        return;
    }
    connection->tx_head = begun->next;
    while (connection->tx_head)
        drop_head(connection);
    begun->next = NULL;
    connection->tx_head = connection->tx_tail = begun;
}

void uvws_tx_schedule(uvws_connection *connection)
{
    uvws_context *context = connection->context;
    if (connection->to_write)
        return;
    connection->to_write = true;
    connection->next = context->to_write;
    context->to_write = connection;
    uvws_wake(context);
}

/* A Pong goes out before what is queued. A peer that sends pings and does not read gets the answers
 * that fit one chunk, the latest among them (RFC 6455 section 5.5.3). Where there is no memory or
 * no mask key it gets none, and will find out. */
void uvws_tx_control(uvws_connection *connection, int opcode, const char *payload, size_t size)
{
    struct tx_chunk *pongs = connection->pongs;
    if (!pongs)
        pongs = connection->pongs = chunk_new(connection->context, CHUNK_CAPACITY);
    if (!pongs)
        return;
    if (pongs->capacity - pongs->size < FRAME_HEADER_MAX + size)
        pongs->size = 0;
    pongs->size += uvws_frame_build(connection, pongs->data + pongs->size, FRAME_FINAL | opcode,
                                    payload, size);
    uvws_tx_schedule(connection);
}

/* Room for so many bytes behind what is queued, to be filled at once: see uvws_tx_added(). */
uint8_t *uvws_tx_room(uvws_connection *connection, size_t size)
{
    struct tx_chunk *chunk = chunk_with_room(connection, size);
    return chunk ? chunk->data + chunk->size : NULL;
}

static int64_t queued_now(uvws_connection *connection, size_t payload)
{
    connection->queued += payload;
    connection->drain_due = true;
    uvws_tx_schedule(connection);
    return (int64_t)(connection->queued + connection->in_flight);
}

/* So much of that room was used, of which `payload` counts in send_queue_size. Returns that. */
int64_t uvws_tx_added(uvws_connection *connection, size_t size, size_t payload)
{
    connection->tx_tail->size += size;
    connection->framed += size;
    connection->tx_tail->payload += payload;
    return queued_now(connection, payload);
}

#ifndef UVWS_BUNDLED_LWS
static bool is_large(const struct tx_chunk *chunk)
{
    (void)chunk;
    return false;
}

static int write_large(uvws_connection *connection, struct tx_chunk *chunk, size_t *written)
{
    (void)connection;
    (void)chunk;
    (void)written;
    return -1; /* there are none */
}
#else
/* Written in pieces, so that lws holds little and progress shows. */
static bool is_large(const struct tx_chunk *chunk)
{
    return chunk->token || chunk->size > CHUNK_CAPACITY;
}

static struct tx_chunk *large_frame(uvws_connection *connection, int kind, const uint8_t *payload,
                                    size_t size, const uint8_t *key)
{
    struct tx_chunk *chunk = chunk_new(connection->context, CHUNK_CAPACITY);
    if (!chunk)
        return NULL;
    size_t header = uvws_frame_header(chunk->data, FRAME_FINAL | kind, size, key);
    /* A TLS record of its own for the header would be a waste. */
    size_t inside = lws_get_ssl(connection->wsi) ? CHUNK_CAPACITY - header : 0;
    if (inside > size)
        inside = size;
    if (key) {
        memcpy(chunk->mask, key, 4);
        uvws_frame_mask(chunk->data + header, payload, inside, key, 0);
    } else {
        memcpy(chunk->data + header, payload, inside);
    }
    chunk->size = header + inside;
    chunk->payload = size;
    chunk->pinned = payload + inside;
    chunk->pinned_size = size - inside;
    chunk->masked_at = inside;
    return chunk;
}

/* A large frame, whose payload stays where it is until the UNPIN event. */
int64_t uvws_tx_pin(uvws_connection *connection, int kind, const uint8_t *payload, size_t size,
                    uint64_t token, const uint8_t *key_or_null)
{
    uvws_context *context = connection->context;
    if (key_or_null && !context->mask_scratch) {
        context->mask_scratch = malloc(PIECE_SIZE);
        if (!context->mask_scratch)
            return UVWS_NO_MEMORY;
    }
    if (!uvws_events_promise(context))
        return UVWS_NO_MEMORY;
    struct tx_chunk *chunk = large_frame(connection, kind, payload, size, key_or_null);
    if (!chunk) {
        uvws_events_take_back(context);
        return UVWS_NO_MEMORY;
    }
    chunk->token = token;
    append_chunk(connection, chunk);
    connection->framed += chunk->size + chunk->pinned_size;
    return queued_now(connection, size);
}

/* What is left of a large frame's beginning, and a piece of the rest; returns how many parts. */
static int next_parts(uvws_connection *connection, const struct tx_chunk *chunk,
                      struct iovec parts[2])
{
    int count = 0;
    size_t at = 0;
    size_t most = connection->is_client || lws_get_ssl(connection->wsi) ? PIECE_SIZE : TURN_SIZE;
    if (chunk->written < chunk->size) {
        size_t left = chunk->size - chunk->written;
        parts[count++] = (struct iovec){(void *)(uintptr_t)(chunk->data + chunk->written),
                                        left > most ? most : left};
    } else {
        at = chunk->written - chunk->size;
    }
    size_t size = chunk->pinned_size - at;
    if (!size)
        return count;
    const uint8_t *piece = chunk->pinned + at;
    if (size > most)
        size = most;
    if (connection->is_client) {
        uint8_t *scratch = (uint8_t *)connection->context->mask_scratch;
        uvws_frame_mask(scratch, piece, size, chunk->mask, chunk->masked_at + at);
        piece = scratch;
    }
    parts[count++] = (struct iovec){(void *)(uintptr_t)piece, size};
    return count;
}

/* OpenSSL writes each record by itself; the kernel is to put them together, and to wake the peer
 * once. */
static void cork(uvws_connection *connection, size_t size, bool on)
{
#ifdef TCP_CORK
    int value = on;
    if (size > TLS_RECORD_MAX && lws_get_ssl(connection->wsi))
        setsockopt(lws_get_socket_fd(connection->wsi), IPPROTO_TCP, TCP_CORK, &value,
                   sizeof(value));
#endif
}

static int write_large(uvws_connection *connection, struct tx_chunk *chunk, size_t *written)
{
    struct iovec parts[2];
    int count = next_parts(connection, chunk, parts);
    size_t size = 0;
    for (int n = 0; n < count; n++)
        size += parts[n].iov_len;
    bool last = chunk->written + size == chunk->size + chunk->pinned_size;
    chunk->begun = true;
    cork(connection, size, true);
    long taken = lws_ws_write_parts(connection->wsi, parts, count, last);
    cork(connection, size, false);
    if (taken < 0)
        return -1;
    *written = (size_t)taken;
    connection->socket_full = (size_t)taken < size;
    chunk->written += (size_t)taken;
    connection->framed -= (size_t)taken;
    /* The header counts as payload here until all of it is gone; it is a few bytes. */
    size_t left = chunk->size + chunk->pinned_size - chunk->written;
    if (left < chunk->payload) {
        connection->queued -= chunk->payload - left;
        chunk->payload = left;
    }
    if (!left)
        drop_head(connection);
    return 0;
}
#endif

/* LWS_WRITE_HTTP is what lws passes through unframed on a WebSocket connection, with its own
 * buffering of what the socket did not take. It does not write to the memory. */
static int write_raw(uvws_connection *connection, const uint8_t *data, size_t size)
{
    return lws_write(connection->wsi, (unsigned char *)(uintptr_t)data, size, LWS_WRITE_HTTP);
}

/* At once where nothing is in the way: a chunk each would be a lot for ten thousand connections
 * that are all silent. A write that fails is for whoever reads to notice. */
void uvws_tx_ping(uvws_connection *connection, const char *payload, size_t size)
{
    uint8_t frame[FRAME_HEADER_MAX + UVWS_PING_SIZE];
    if (connection->tx_head || connection->pongs || lws_partial_buffered(connection->wsi)) {
        uvws_tx_control(connection, OPCODE_PING, payload, size);
        return;
    }
    size = uvws_frame_build(connection, frame, FRAME_FINAL | OPCODE_PING, payload, size);
    if (size && write_raw(connection, frame, size) >= 0 && lws_partial_buffered(connection->wsi))
        lws_callback_on_writable(connection->wsi);
}

static int write_whole(uvws_connection *connection, struct tx_chunk *chunk, size_t *written)
{
    if (write_raw(connection, chunk->data, chunk->size) < 0)
        return -1;
    connection->socket_full = lws_partial_buffered(connection->wsi);
    if (connection->socket_full)
        connection->in_flight += chunk->payload;
    *written = chunk->size;
    drop_head(connection);
    return 0;
}

/* Not in the middle of a large frame. */
static bool may_write_pongs(const uvws_connection *connection)
{
    return connection->pongs && !has_begun(connection);
}

static int write_pongs(uvws_connection *connection)
{
    const struct tx_chunk *pongs = connection->pongs;
    if (write_raw(connection, pongs->data, pongs->size) < 0)
        return -1;
    connection->socket_full = lws_partial_buffered(connection->wsi);
    drop_pongs(connection);
    return 0;
}

static int write_next(uvws_connection *connection, size_t *written)
{
    struct tx_chunk *chunk = connection->tx_head;
    if (may_write_pongs(connection))
        return write_pongs(connection);
    return is_large(chunk) ? write_large(connection, chunk, written)
                           : write_whole(connection, chunk, written);
}

static int finish(uvws_connection *connection)
{
    uvws_context *context = connection->context;
    if (connection->close_wanted) {
        connection->close_wanted = false; /* lws asks again while it waits for the answer */
        connection->close_by_us = true;
        lws_close_reason(connection->wsi, (enum lws_close_status)connection->close_code,
                         (unsigned char *)connection->close_reason, connection->close_reason_size);
        return -1; /* lws sends the Close frame and waits for the answer */
    }
    if (connection->drain_due && connection->state == UVWS_CONNECTED) {
        connection->drain_due = false;
        if (connection->clogged)
            uvws_connection_set_clogged(connection, false);
        if (connection->wants_drain &&
            !uvws_event(context, UVWS_EVENT_DRAIN, connection->slot, 0, 0, 0))
            return uvws_refuse_no_memory(connection);
    }
    return 0;
}

/* A connection that is closing has this long for each step that its peer lets it make. */
void uvws_tx_deadline(uvws_connection *connection)
{
    if (connection->wsi)
        lws_set_timeout(connection->wsi, PENDING_TIMEOUT_CLOSE_SEND, CLOSING_TIMEOUT);
}

/* lws may have found a fault in what the peer sent, of which it tells at the end only. Its Close
 * frame is on its way, or gone: nothing is to follow it but the rest of a frame that has begun. */
static bool lws_has_failed_it(const uvws_connection *connection)
{
    return !connection->close_by_us && !connection->close_by_peer && !connection->refused &&
           lws_get_close_length(connection->wsi) >= 2;
}

/* lws says that the connection is writable. Returns -1 to have it closed. */
int uvws_tx_write(uvws_connection *connection)
{
    struct lws *wsi = connection->wsi;
    size_t turn = 0;
    if (lws_partial_buffered(wsi))
        return 0; /* it comes back when that is gone */
    if (lws_has_failed_it(connection)) {
        connection->close_wanted = false;
        uvws_tx_clear_but_begun(connection);
    }
    connection->in_flight = 0;
    if (connection->socket_full)
        connection->heard = true; /* there is room again: the peer has acknowledged something */
    connection->socket_full = false;
    while (connection->tx_head || connection->pongs) {
        size_t written = 0;
        if (write_next(connection, &written))
            return -1;
        if (written && connection->state == UVWS_CLOSING)
            uvws_tx_deadline(connection);
        if (connection->socket_full) {
            lws_callback_on_writable(wsi);
            return 0;
        }
        turn += written;
        if (turn >= TURN_SIZE && connection->tx_head) {
            lws_callback_on_writable(wsi);
            return 0;
        }
    }
    return finish(connection);
}

/* What can be written at once is written, then a Close frame, and nobody waits for the answer. */
bool uvws_tx_goodbye(uvws_connection *connection, int code, const char *reason)
{
    uint8_t frame[FRAME_HEADER_MAX + 2 + GOODBYE_REASON];
    uint8_t payload[2 + GOODBYE_REASON] = {(uint8_t)(code >> 8), (uint8_t)code};
    size_t reason_size = strnlen(reason, GOODBYE_REASON);
    struct lws *wsi = connection->wsi;
    if (!wsi || connection->state != UVWS_CONNECTED || lws_partial_buffered(wsi) ||
        lws_has_failed_it(connection) || uvws_tx_write(connection) < 0 || connection->tx_head ||
        lws_partial_buffered(wsi))
        return false;
    memcpy(payload + 2, reason, reason_size);
    size_t size =
        uvws_frame_build(connection, frame, FRAME_FINAL | OPCODE_CLOSE, payload, 2 + reason_size);
    return size && write_raw(connection, frame, size) >= 0;
}
