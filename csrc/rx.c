/* Receiving: lws gives the payload of frames in pieces, Python gets whole messages. */
#include <stdlib.h>

#include "uvws.h"

/* A message up to this size travels in the arena with its neighbours, a larger one by itself. */
#define SMALL_MESSAGE 16384

static bool message_too_big(const uvws_connection *connection, size_t size, size_t remaining)
{
    uint64_t limit = connection->limits.max_message_size;
    if (!limit)
        return false;
    /* Written so that a frame that announces 2^63 bytes cannot overflow the sum. */
    uint64_t held = connection->message.size + size;
    return held > limit || remaining > limit - held;
}

static int refuse(uvws_connection *connection, int code, const char *why, size_t size)
{
    uvws_message_clear(connection);
    uvws_connection_closing(connection);
    connection->refused = true;
    connection->close_code = (uint16_t)code;
    uvws_tx_clear_but_begun(connection);
    lws_close_reason(connection->wsi, (enum lws_close_status)code, (unsigned char *)(intptr_t)why,
                     size);
    return -1;
}

int uvws_refuse_no_memory(uvws_connection *connection)
{
    static const char why[] = "out of memory";
    return refuse(connection, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, why, sizeof(why) - 1);
}

static int refuse_too_big(uvws_connection *connection)
{
    static const char why[] = "message too big";
    if (!uvws_event(connection->context, UVWS_EVENT_MESSAGE_TOO_BIG, connection->slot,
                    (int64_t)connection->limits.max_message_size, 0, 0))
        return uvws_refuse_no_memory(connection);
    return refuse(connection, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, why, sizeof(why) - 1);
}

static int refuse_invalid_text(uvws_connection *connection)
{
    static const char why[] = "invalid UTF-8";
    return refuse(connection, LWS_CLOSE_STATUS_INVALID_PAYLOAD, why, sizeof(why) - 1);
}

static bool text_is_valid(uvws_connection *connection, const char *data, size_t size, bool whole)
{
    return uvws_utf8_feed(&connection->utf8, data, size) &&
           (!whole || uvws_utf8_complete(&connection->utf8));
}

static bool deliver_small(uvws_connection *connection, const char *data, size_t size)
{
    int kind = connection->message_is_text ? UVWS_EVENT_TEXT : UVWS_EVENT_BINARY;
    return uvws_event_with_payload(connection->context, kind, connection->slot, data, size, 0);
}

static bool deliver_bytes(uvws_connection *connection)
{
    if (!uvws_event(connection->context, UVWS_EVENT_BYTES, connection->slot,
                    (int64_t)(intptr_t)connection->message_bytes, (int64_t)connection->message.size,
                    0))
        return false;
    connection->message_bytes = NULL;
    connection->message = (struct buffer){0};
    return true;
}

/* The buffer itself goes to Python, which frees it. */
static bool deliver_large(uvws_connection *connection)
{
    struct buffer *message = &connection->message;
    uvws_heap_expect(connection->context, message->size);
    if (connection->message_bytes)
        return deliver_bytes(connection);
    int kind = connection->message_is_text ? UVWS_EVENT_LARGE_TEXT : UVWS_EVENT_LARGE_BINARY;
    if (!uvws_event(connection->context, kind, connection->slot, (int64_t)(intptr_t)message->data,
                    (int64_t)message->size, (int64_t)message->capacity))
        return false;
    *message = (struct buffer){0};
    return true;
}

static int refuse_bad_compression(uvws_connection *connection)
{
    static const char why[] = "invalid compressed data";
    return refuse(connection, LWS_CLOSE_STATUS_INVALID_PAYLOAD, why, sizeof(why) - 1);
}

static void begin_message(uvws_connection *connection)
{
    connection->message_is_text = !lws_frame_is_binary(connection->wsi);
    connection->message_is_compressed =
        connection->deflate && lws_get_reserved_bits(connection->wsi) & FRAME_RSV1;
    connection->utf8 = (struct utf8){0};
}

/* The message is whole. */
static int deliver(uvws_connection *connection)
{
    struct buffer *message = &connection->message;
    bool sent;
    if (message->size > SMALL_MESSAGE) {
        sent = deliver_large(connection);
    } else {
        sent = deliver_small(connection, message->data, message->size);
        uvws_recycle(connection->context, message->data, message->capacity);
        *message = (struct buffer){0};
    }
    return sent ? 0 : uvws_refuse_no_memory(connection);
}

static int rx_plain(uvws_connection *connection, const char *data, size_t size, bool whole)
{
    size_t remaining = lws_remaining_packet_payload(connection->wsi);
    if (message_too_big(connection, size, remaining))
        return refuse_too_big(connection);
    if (connection->message_is_text && !text_is_valid(connection, data, size, whole))
        return refuse_invalid_text(connection);
    return uvws_message_add(connection, data, size, remaining) ? 0
                                                               : uvws_refuse_no_memory(connection);
}

static int rx_compressed(uvws_connection *connection, const char *data, size_t size, bool whole)
{
    struct buffer *message = &connection->message;
    uvws_message_take_spare(connection);
    size_t before = message->size;
    int result = uvws_inflate(connection, data, size, whole, message);
    if (result == UVWS_TOO_BIG)
        return refuse_too_big(connection);
    if (result == UVWS_NO_MEMORY)
        return uvws_refuse_no_memory(connection);
    if (result)
        return refuse_bad_compression(connection);
    /* Where nothing came of it there may be no memory. */
    const char *added = message->size > before ? message->data + before : "";
    if (connection->message_is_text &&
        !text_is_valid(connection, added, message->size - before, whole))
        return refuse_invalid_text(connection);
    return 0;
}

/* What most messages are: whole at once, and neither large nor compressed. */
static bool is_simple(const uvws_connection *connection, size_t size, bool whole)
{
    return whole && !connection->in_message && size <= SMALL_MESSAGE && !connection->deflate;
}

static int rx_simple(uvws_connection *connection, const char *data, size_t size)
{
    connection->message_is_text = !lws_frame_is_binary(connection->wsi);
    connection->utf8 = (struct utf8){0};
    if (message_too_big(connection, size, 0))
        return refuse_too_big(connection);
    if (connection->message_is_text && !text_is_valid(connection, data, size, true))
        return refuse_invalid_text(connection);
    return deliver_small(connection, data, size) ? 0 : uvws_refuse_no_memory(connection);
}

int uvws_rx(uvws_connection *connection, const char *data, size_t size)
{
    /* Once either side has begun to close, data is dropped (RFC 6455 section 1.4, Autobahn 7.1.4).
     */
    if (connection->state != UVWS_CONNECTED)
        return 0;
    bool whole = lws_is_final_fragment(connection->wsi);
    if (is_simple(connection, size, whole))
        return rx_simple(connection, data, size);
    if (!connection->in_message)
        begin_message(connection);
    connection->in_message = !whole;
    int result = connection->message_is_compressed ? rx_compressed(connection, data, size, whole)
                                                   : rx_plain(connection, data, size, whole);
    return result || !whole ? result : deliver(connection);
}

/* 1: it is dealt with. Once a Close frame is sent, or is to be next, nothing else is. */
int uvws_rx_ping(uvws_connection *connection, const char *payload, size_t size)
{
    if (connection->state == UVWS_CONNECTED || connection->close_wanted)
        uvws_tx_control(connection, OPCODE_PONG, payload, size);
    return 1;
}

int uvws_rx_pong(uvws_connection *connection, const char *payload, size_t size)
{
    if (connection->state != UVWS_CONNECTED)
        return 0;
    if (uvws_timeouts_is_ours(connection->context, payload, size)) {
        uvws_timeouts_answered(connection);
        return 0;
    }
    if (uvws_event_with_payload(connection->context, UVWS_EVENT_PONG, connection->slot, payload,
                                size, 0))
        return 0;
    return uvws_refuse_no_memory(connection);
}

/* What an endpoint may send (RFC 6455 section 7.4, and what is registered since). */
static bool is_close_code(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* A Close frame came. Its body is a code and a text, or nothing (RFC 6455 section 5.5.1). */
int uvws_rx_close(uvws_connection *connection, const uint8_t *payload, size_t size)
{
    static const char why[] = "bad close frame";
    struct utf8 utf8 = {0};
    if (size == 1 || (size && !is_close_code(payload[0] << 8 | payload[1])))
        return refuse(connection, LWS_CLOSE_STATUS_PROTOCOL_ERR, why, sizeof(why) - 1);
    if (size > 2 && (!uvws_utf8_feed(&utf8, payload + 2, size - 2) || !uvws_utf8_complete(&utf8)))
        return refuse(connection, LWS_CLOSE_STATUS_INVALID_PAYLOAD, why, sizeof(why) - 1);
    uvws_connection_peer_closes(connection, payload, size);
    return 0;
}
