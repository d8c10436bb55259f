/* Sending: messages, fragments and control frames, put into the send queue as frames. */
#include <string.h>

#include "uvws.h"

#define CONTROL_MAX 125 /* bytes of payload: RFC 6455 section 5.5 */

#define OPEN    1
#define DROPPED 0

/* OPEN, or what is returned to Python at once. */
static int check_open(const uvws_connection *connection)
{
    if (!connection)
        return UVWS_NOT_OPEN;
    int result = uvws_context_check_thread(connection->context);
    if (result)
        return result;
    if (connection->state == UVWS_CONNECTED && connection->wsi)
        return OPEN;
    return connection->end_unseen ? DROPPED : UVWS_NOT_OPEN;
}

/* The same, where the send queue may be full. */
static int check_room(uvws_connection *connection)
{
    int open = check_open(connection);
    return open == OPEN && uvws_tx_is_full(connection) ? uvws_overflow(connection) : open;
}

static int64_t append_frame(uvws_connection *connection, int first, const char *data, size_t size)
{
    uint8_t *out = uvws_tx_room(connection, FRAME_HEADER_MAX + size);
    if (!out)
        return UVWS_NO_MEMORY;
    size_t frame = uvws_frame_build(connection, out, first, data, size);
    if (!frame)
        return UVWS_FAILED;
    return uvws_tx_added(connection, frame, size);
}

static int64_t append_compressed(uvws_connection *connection, int first, const char *data,
                                 size_t size)
{
    const struct buffer *deflated = &connection->context->deflated;
    int64_t result = uvws_deflate(connection, data, size, (first & FRAME_FINAL) != 0);
    if (!result)
        result = append_frame(connection, first, deflated->data, deflated->size);
    uvws_deflate_done(connection, result >= 0);
    return result;
}

int64_t uvws_send(uvws_connection *connection, int kind, const char *data, size_t size)
{
    int open = check_room(connection);
    if (open != OPEN)
        return open;
    if (connection->fragment_kind)
        return UVWS_IN_FRAGMENTS;
    if (uvws_deflate_wanted(connection, size))
        return append_compressed(connection, FRAME_FINAL | FRAME_RSV1 | kind, data, size);
    return append_frame(connection, FRAME_FINAL | kind, data, size);
}

/* Sends what has no need of the payload afterwards, and lets go of it. */
static int64_t send_and_unpin(uvws_connection *connection, int first, const char *data, size_t size,
                              uint64_t token)
{
    uvws_context *context = connection->context;
    if (!uvws_events_promise(context))
        return UVWS_NO_MEMORY;
    int64_t result = first & FRAME_RSV1 ? append_compressed(connection, first, data, size)
                                        : append_frame(connection, first, data, size);
    if (result < 0)
        uvws_events_take_back(context);
    else
        uvws_event_unpin(context, connection->slot, token);
    return result;
}

static int64_t drop_and_unpin(uvws_connection *connection, uint64_t token)
{
    if (!uvws_events_promise(connection->context))
        return UVWS_NO_MEMORY;
    uvws_event_unpin(connection->context, connection->slot, token);
    return DROPPED;
}

#ifdef UVWS_BUNDLED_LWS
static int64_t send_pinned(uvws_connection *connection, int kind, const char *data, size_t size,
                           uint64_t token)
{
    uint8_t key[4];
    if (connection->is_client && !uvws_frame_mask_key(connection->context, key))
        return UVWS_FAILED;
    return uvws_tx_pin(connection, kind, (const uint8_t *)data, size, token,
                       connection->is_client ? key : NULL);
}
#else
static int64_t send_pinned(uvws_connection *connection, int kind, const char *data, size_t size,
                           uint64_t token)
{
    return send_and_unpin(connection, FRAME_FINAL | kind, data, size, token);
}
#endif

int64_t uvws_send_pinned(uvws_connection *connection, int kind, const char *data, size_t size,
                         uint64_t token)
{
    int open = check_room(connection);
    if (open == DROPPED)
        return drop_and_unpin(connection, token);
    if (open != OPEN)
        return open;
    if (connection->fragment_kind)
        return UVWS_IN_FRAGMENTS;
    if (!uvws_deflate_wanted(connection, size))
        return send_pinned(connection, kind, data, size, token);
    return send_and_unpin(connection, FRAME_FINAL | FRAME_RSV1 | kind, data, size, token);
}

/* A text may be cut inside a character, but what comes together has to be UTF-8. */
static bool fragment_is_valid(struct utf8 *utf8, const char *data, size_t size, bool final)
{
    return uvws_utf8_feed(utf8, data, size) && (!final || uvws_utf8_complete(utf8));
}

int64_t uvws_send_fragment(uvws_connection *connection, int kind, const char *data, size_t size,
                           int final)
{
    int open = check_room(connection);
    if (open != OPEN)
        return open;
    bool begins = !connection->fragment_kind;
    int message_kind = begins ? kind : connection->fragment_kind;
    struct utf8 utf8 = begins ? (struct utf8){0} : connection->fragment_utf8;
    if (message_kind == UVWS_TEXT && !fragment_is_valid(&utf8, data, size, final))
        return UVWS_INVALID_TEXT;
    bool compressed =
        begins ? uvws_deflate_wanted(connection, size) : connection->fragments_compressed;
    int first = (final ? FRAME_FINAL : 0) | (begins ? kind : OPCODE_CONTINUATION) |
                (begins && compressed ? FRAME_RSV1 : 0);
    int64_t result = compressed ? append_compressed(connection, first, data, size)
                                : append_frame(connection, first, data, size);
    if (result < 0)
        return result;
    connection->fragments_compressed = compressed;
    connection->fragment_kind = final ? 0 : (uint8_t)message_kind;
    connection->fragment_utf8 = utf8;
    return result;
}

int64_t uvws_send_control(uvws_connection *connection, int opcode, const char *data, size_t size)
{
    int open = check_room(connection);
    if (open != OPEN)
        return open;
    return append_frame(connection, FRAME_FINAL | opcode, data,
                        size > CONTROL_MAX ? CONTROL_MAX : size);
}
