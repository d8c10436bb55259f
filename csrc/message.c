/*
 * The memory that a message is put together in: a block of our own, of which one is kept for the
 * next message, or a bytes object that the user will get as it is.
 */
#include <stdlib.h>

#include "uvws.h"

/* How much is set aside on the word of a frame header alone. */
#define FIRST_RESERVE     (1024 * 1024)
#define SPARE_MESSAGE_MAX (4 * 1024 * 1024)
/* Of a frame that has so much left the rest is read to where the message is put together. */
#define READ_INTO_MIN 16384

#ifdef UVWS_BUNDLED_LWS
static void read_into(struct lws *wsi, struct buffer *message, size_t remaining)
{
    size_t room = message->capacity - message->size;
    bool large = remaining >= READ_INTO_MIN && room >= READ_INTO_MIN;
    lws_ws_rx_into(wsi, large ? message->data + message->size : NULL, large ? room : 0);
}

static void read_no_more_into(struct lws *wsi)
{
    lws_ws_rx_into(wsi, NULL, 0);
}

static bool is_final_frame(struct lws *wsi)
{
    return lws_ws_is_final_frame(wsi);
}
#else
static void read_into(struct lws *wsi, struct buffer *message, size_t remaining)
{
    (void)wsi;
    (void)message;
    (void)remaining;
}

static void read_no_more_into(struct lws *wsi)
{
    (void)wsi;
}

static bool is_final_frame(struct lws *wsi)
{
    (void)wsi;
    return false;
}
#endif

/* One buffer is kept for the next large message: getting it from the system and touching it for the
 * first time, page by page, would cost as much as filling it. */
void uvws_recycle(uvws_context *context, void *memory, size_t capacity)
{
    struct buffer *spare = &context->spare_message;
    if (capacity > SPARE_MESSAGE_MAX || capacity <= spare->capacity || context->closed) {
        free(memory);
        return;
    }
    free(spare->data);
    *spare = (struct buffer){.data = memory, .capacity = capacity};
}

void uvws_message_take_spare(uvws_connection *connection)
{
    struct buffer *spare = &connection->context->spare_message;
    if (connection->message.capacity)
        return;
    connection->message = *spare;
    *spare = (struct buffer){0};
}

/* Of what is known to come no more is set aside; behind a fragment, however, anything may follow,
 * and to make room for each by itself would be to copy the message as often. */
static size_t next_capacity(const struct buffer *message, size_t announced, bool ends)
{
    size_t capacity = message->capacity ? message->capacity * 2 : FIRST_RESERVE;
    bool all_known = ends || !message->size;
    return all_known && capacity > announced ? announced : capacity;
}

static bool collect(struct buffer *message, const char *data, size_t size, size_t remaining,
                    bool ends)
{
    if (message->data && data == message->data + message->size) {
        message->size += size; /* it was read to there */
        return true;
    }
    size_t announced = message->size + size + remaining;
    if (announced < remaining)
        announced = SIZE_MAX;
    if (message->size + size > message->capacity) {
        size_t capacity = next_capacity(message, announced, ends);
        if (capacity < message->size + size)
            capacity = message->size + size;
        if (!uvws_buffer_reserve(message, capacity ? capacity : 1))
            return false;
    }
    return uvws_buffer_append(message, data, size);
}

/* A message of which this frame is all is received into the object that the user gets. A text is
 * not: it has to be decoded. */
static bool take_bytes(uvws_connection *connection, size_t announced)
{
    if (connection->message_is_text || !is_final_frame(connection->wsi) ||
        !uvws_cpython_bytes_wanted(connection->context, announced))
        return false;
    struct buffer *message = &connection->message;
    connection->message_bytes = uvws_cpython_bytes(announced, &message->data);
    if (connection->message_bytes)
        message->capacity = announced;
    return connection->message_bytes != NULL;
}

static void take_memory(uvws_connection *connection, size_t announced)
{
    if (connection->message.data)
        return;
    if (!take_bytes(connection, announced))
        uvws_message_take_spare(connection);
}

/* Puts a piece of a frame behind what is there; `remaining` more of the frame will come. */
bool uvws_message_add(uvws_connection *connection, const char *data, size_t size, size_t remaining)
{
    take_memory(connection, size + remaining);
    /* It cannot happen, and Python's memory is not ours to make larger. */
    if (connection->message_bytes && size > connection->message.capacity - connection->message.size)
        return false;
    bool ends = is_final_frame(connection->wsi);
    if (!collect(&connection->message, data, size, remaining, ends))
        return false;
    read_into(connection->wsi, &connection->message, remaining);
    return true;
}

void uvws_message_clear(uvws_connection *connection)
{
    if (connection->wsi && connection->message.data)
        read_no_more_into(connection->wsi);
    if (connection->message_bytes) {
        uvws_cpython_release(connection->message_bytes);
        connection->message_bytes = NULL;
        connection->message = (struct buffer){0};
    }
    uvws_buffer_free(&connection->message);
    connection->in_message = false;
}
