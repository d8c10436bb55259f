/*
 * Events on their way to Python.
 *
 * lws's callbacks never call the user: they append a record here, and one call hands over all that
 * came in since the last one. That is what makes small messages cheap, and what lets the user close
 * anything from any callback, since lws is never on the stack below it.
 *
 * There are two queues: while Python reads one, new events go to the other.
 *
 * Some events must not be lost for want of memory: that a connection ended, or that a payload is no
 * longer needed. Room for one is promised when the connection is made or the payload taken, where
 * the answer can still be no, and both queues keep as much free as is promised.
 */
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

/* Hand over early once this much payload waits: beyond the caches, waiting longer saves nothing. */
#define ARENA_FULL (256 * 1024)
/* The same for messages that have memory of their own. */
#define LARGE_FULL (4 * 1024 * 1024)
/* An arena that one burst made larger than this is given back. */
#define ARENA_KEEP   (1024 * 1024)
#define RECORDS_KEEP 65536

static bool queue_resize(struct event_queue *queue, size_t capacity)
{
    int64_t *records =
        realloc(queue->records, capacity * UVWS_EVENT_WORDS * sizeof(queue->records[0]));
    if (!records)
        return false;
    queue->records = records;
    queue->capacity = capacity;
    return true;
}

static bool queue_reserve(struct event_queue *queue, size_t capacity)
{
    if (capacity <= queue->capacity)
        return true;
    size_t doubled = queue->capacity ? queue->capacity * 2 : 64;
    return queue_resize(queue, capacity > doubled ? capacity : doubled);
}

bool uvws_events_promise(uvws_context *context)
{
    for (int n = 0; n < 2; n++) {
        struct event_queue *queue = &context->queues[n];
        if (!queue_reserve(queue, queue->count + context->promised + 1))
            return false;
    }
    context->promised++;
    return true;
}

void uvws_events_take_back(uvws_context *context)
{
    context->promised--;
}

static void put(uvws_context *context, int kind, uint32_t slot, int64_t first, int64_t second,
                int64_t third)
{
    struct event_queue *queue = context->queue;
    int64_t *record = queue->records + queue->count * UVWS_EVENT_WORDS;
    record[0] = kind | ((int64_t)slot << 8);
    record[1] = first;
    record[2] = second;
    record[3] = third;
    queue->count++;
    uvws_wake(context);
}

static bool is_large(int kind)
{
    return kind == UVWS_EVENT_LARGE_TEXT || kind == UVWS_EVENT_LARGE_BINARY ||
           kind == UVWS_EVENT_BYTES;
}

/* Of a message that has memory of its own `second` is the size. */
bool uvws_event(uvws_context *context, int kind, uint32_t slot, int64_t first, int64_t second,
                int64_t third)
{
    struct event_queue *queue = context->queue;
    if (!queue_reserve(queue, queue->count + context->promised + 1))
        return false;
    put(context, kind, slot, first, second, third);
    if (is_large(kind))
        context->queue->large += (size_t)second;
    return true;
}

/* One that was promised. The promise holds until it is taken back: a connection that fails to
 * connect and tries again says so each time, but once in each queue at the most. */
void uvws_event_promised(uvws_context *context, int kind, uint32_t slot, int64_t first,
                         int64_t third)
{
    put(context, kind, slot, first, 0, third);
}

/* The same with a payload, where there is memory for that; `instead` is its last word if not. */
void uvws_event_promised_with_payload(uvws_context *context, int kind, uint32_t slot,
                                      const void *payload, size_t size, int64_t third,
                                      int64_t instead)
{
    struct buffer *arena = &context->queue->arena;
    size_t offset = arena->size;
    if (uvws_buffer_append(arena, payload, size))
        put(context, kind, slot, (int64_t)offset, (int64_t)size, third);
    else
        put(context, kind, slot, 0, 0, instead);
}

/* What uvws_events_promise() promised to the payload with that token. */
void uvws_event_unpin(uvws_context *context, uint32_t slot, uint64_t token)
{
    uvws_event_promised(context, UVWS_EVENT_UNPIN, slot, (int64_t)token, 0);
    uvws_events_take_back(context);
}

bool uvws_event_with_payload(uvws_context *context, int kind, uint32_t slot, const void *payload,
                             size_t size, int64_t third)
{
    struct buffer *arena = &context->queue->arena;
    size_t offset = arena->size;
    if (!uvws_buffer_append(arena, payload, size))
        return false;
    if (uvws_event(context, kind, slot, (int64_t)offset, (int64_t)size, third))
        return true;
    arena->size = offset;
    return false;
}

bool uvws_events_pending(const uvws_context *context)
{
    return context->queue->count != 0;
}

bool uvws_events_are_many(const uvws_context *context)
{
    return context->queue->arena.size >= ARENA_FULL || context->queue->large >= LARGE_FULL;
}

static void queue_reset(struct event_queue *queue, size_t promised)
{
    queue->count = 0;
    queue->arena.size = 0;
    queue->large = 0;
    if (queue->arena.capacity > ARENA_KEEP)
        uvws_buffer_free(&queue->arena);
    if (queue->capacity > RECORDS_KEEP && promised < RECORDS_KEEP)
        queue_resize(queue, RECORDS_KEEP); /* where that fails it stays as it is */
}

void uvws_events_deliver(uvws_context *context)
{
    struct event_queue *queue = context->queue;
    /* A callback that runs the loop again gets here while the outer batch is half done: what is
     * new has to wait for its turn, or messages would overtake each other. */
    if (context->dispatching || !queue->count)
        return;
    context->queue = queue == &context->queues[0] ? &context->queues[1] : &context->queues[0];
    context->dispatching = true;
    context->busy++;
    if (context->python_core)
        uvws_cpython_events(context, queue);
    else
        uvws_py_events(context->handle, queue->records, queue->count, queue->arena.data,
                       queue->arena.size);
    context->busy--;
    context->dispatching = false;
    queue_reset(queue, context->promised);
}

/* Messages that nobody will ask for any more still own their memory. */
static void queue_free(struct event_queue *queue)
{
    for (size_t n = 0; n < queue->count; n++) {
        const int64_t *record = queue->records + n * UVWS_EVENT_WORDS;
        int kind = (int)(record[0] & 0xff);
        if (kind == UVWS_EVENT_LARGE_TEXT || kind == UVWS_EVENT_LARGE_BINARY)
            free((void *)(intptr_t)record[1]);
        if (kind == UVWS_EVENT_BYTES || (kind == UVWS_EVENT_UNPIN && uvws_is_object(record[1])))
            uvws_cpython_release((void *)(intptr_t)record[1]);
    }
    free(queue->records);
    uvws_buffer_free(&queue->arena);
    *queue = (struct event_queue){0};
}

void uvws_events_free(uvws_context *context)
{
    queue_free(&context->queues[0]);
    queue_free(&context->queues[1]);
}
