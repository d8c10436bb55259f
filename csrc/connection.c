/* The life of a connection's struct, and what Python asks of one connection. */
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

/* Structs live in slabs that are given back only with their context: a call from another thread,
 * or on a connection that ended, always finds memory to look at. */
static bool add_slab(uvws_context *context)
{
    struct slab **slabs = context->slabs;
    uint32_t count = context->slab_count;
    if (!(count & (count - 1))) { /* the array is full: its size is a power of two */
        slabs = realloc(slabs, (count ? 2 * count : 1) * sizeof(*slabs));
        if (!slabs)
            return false;
        context->slabs = slabs;
    }
    struct slab *slab = calloc(1, sizeof(*slab));
    if (!slab)
        return false;
    slabs[count] = slab;
    for (int n = CONNECTIONS_PER_SLAB - 1; n >= 0; n--) {
        uvws_connection *connection = &slab->connections[n];
        connection->context = context;
        connection->slot = count * CONNECTIONS_PER_SLAB + (uint32_t)n;
        connection->next = context->free_connections;
        context->free_connections = connection;
    }
    context->slab_count++;
    return true;
}

uvws_connection *uvws_connection_new(uvws_context *context, const uvws_limits *limits)
{
    if ((!context->free_connections && !add_slab(context)) || !uvws_events_promise(context))
        return NULL; /* the event that it has ended must not fail */
    uvws_connection *connection = context->free_connections;
    context->free_connections = connection->next;
    uint32_t slot = connection->slot;
    *connection = (uvws_connection){.context = context,
                                    .limits = *limits,
                                    .slot = slot,
                                    .in_use = true,
                                    .state = UVWS_CONNECTING};
    if (!limits->max_send_queue)
        connection->limits.max_send_queue = UINT64_MAX;
    uvws_live_changed(context, 1);
    return connection;
}

static void forget_to_write(uvws_connection *connection)
{
    uvws_connection **link = &connection->context->to_write;
    while (*link && *link != connection)
        link = &(*link)->next;
    if (*link)
        *link = connection->next;
    connection->to_write = false;
}

void uvws_connection_free(uvws_connection *connection)
{
    uvws_context *context = connection->context;
    if (!connection->in_use)
        return;
    if (connection->to_write)
        forget_to_write(connection);
    uvws_tx_clear(connection);
    uvws_message_clear(connection);
    uvws_client_free(connection);
    uvws_handshake_free(connection);
    uvws_adoption_free(connection);
    uvws_deflate_free(connection);
    if (connection->listener)
        uvws_listener_left(connection);
    uvws_events_take_back(context);
    connection->in_use = false;
    connection->state = UVWS_CLOSED;
    connection->next = context->free_connections;
    context->free_connections = connection;
}

/* What lws has left behind: those that it did not know yet, or knew no more. */
void uvws_connections_free(uvws_context *context)
{
    uvws_connection *connection = NULL;
    while ((connection = uvws_connection_after(context, connection)))
        uvws_connection_free(connection);
}

void uvws_connections_free_slabs(uvws_context *context)
{
    for (uint32_t n = 0; n < context->slab_count; n++)
        free(context->slabs[n]);
    free(context->slabs);
    context->slabs = NULL;
    context->slab_count = 0;
}

uvws_connection *uvws_connection_at(uvws_context *context, uint32_t slot)
{
    uint32_t slab = slot / CONNECTIONS_PER_SLAB;
    if (slab >= context->slab_count)
        return NULL;
    return &context->slabs[slab]->connections[slot % CONNECTIONS_PER_SLAB];
}

/* Goes through those in use, by slot; begins with NULL and ends with it. */
uvws_connection *uvws_connection_after(uvws_context *context, const uvws_connection *previous)
{
    uint32_t slot = previous ? previous->slot + 1 : 0;
    uvws_connection *connection;
    while ((connection = uvws_connection_at(context, slot++)))
        if (connection->in_use)
            return connection;
    return NULL;
}

void uvws_connection_release(uvws_connection *connection)
{
    uvws_connection_free(connection);
}

/* False where there is no memory to tell Python: then it is as if the handshake had failed. */
bool uvws_connection_set_open(uvws_connection *connection, const struct buffer *headers)
{
    uvws_context *context = connection->context;
    bool told;
    connection->state = UVWS_CONNECTED;
    connection->close_code = 0;
    connection->heard = true;
    uvws_timeouts_begin(connection);
    uvws_deflate_open(connection);
    if (connection->is_client)
        uvws_peer_ask(&connection->peer, lws_get_socket_fd(connection->wsi));
    if (connection->is_client)
        told = uvws_event_with_payload(context, UVWS_EVENT_CONNECTED, connection->slot,
                                       headers->data, headers->size, 0);
    else if (connection->is_adopted)
        told = uvws_event(context, UVWS_EVENT_ADOPTED, connection->slot, 0, 0, 0);
    else
        told =
            uvws_event_with_payload(context, UVWS_EVENT_ACCEPTED, connection->slot, headers->data,
                                    headers->size, (int64_t)connection->listener->slot);
    connection->announced = told;
    if (!told) {
        connection->out_of_memory = true;
        connection->state = UVWS_CONNECTING;
    }
    return told;
}

/* It is closing, and not because the user said so. */
void uvws_connection_closing(uvws_connection *connection)
{
    if (connection->state != UVWS_CONNECTED)
        return;
    connection->state = UVWS_CLOSING;
    connection->end_unseen = true;
    uvws_event(connection->context, UVWS_EVENT_CLOSING, connection->slot, 0, 0, 0);
}

void uvws_end_seen(uvws_connection *connection)
{
    connection->end_unseen = false;
}

/* RFC 6455 section 5.5.1: no body means that there is no code, which is reported as 1005. */
void uvws_connection_peer_closes(uvws_connection *connection, const uint8_t *payload, size_t size)
{
    connection->close_by_peer = true;
    connection->close_wanted = false;
    uvws_connection_closing(connection);
    uvws_message_clear(connection);
    uvws_tx_clear_but_begun(connection);
    uvws_tx_deadline(connection);
    if (connection->refused || (size < 2 && connection->close_by_us))
        return; /* an answer without a body agrees with what we said */
    connection->close_code = LWS_CLOSE_STATUS_NO_STATUS;
    connection->close_reason_size = 0;
    if (size < 2)
        return;
    connection->close_code = (uint16_t)(payload[0] << 8 | payload[1]);
    size -= 2;
    if (size > sizeof(connection->close_reason))
        size = sizeof(connection->close_reason);
    memcpy(connection->close_reason, payload + 2, size);
    connection->close_reason_size = (uint8_t)size;
}

/* Whether lws itself sent a Close frame, which it does for a protocol error only. Its code can be
 * read back on a server; a client has masked it in place. */
static int code_of_lws(uvws_connection *connection)
{
    return lws_get_close_length(connection->wsi) >= 2 ? LWS_CLOSE_STATUS_PROTOCOL_ERR : 0;
}

static int final_code(uvws_connection *connection)
{
    if (connection->close_by_peer || connection->refused)
        return connection->close_code;
#ifndef UVWS_BUNDLED_LWS
    /* Without our patch lws does not tell whether the answer to our Close frame came. */
    if (connection->close_by_us)
        return connection->close_code;
#endif
    if (connection->close_by_us)
        return LWS_CLOSE_STATUS_ABNORMAL_CLOSE;
    /* Also where we wanted to close, and lws had begun to. */
    int code = code_of_lws(connection);
    return code ? code : LWS_CLOSE_STATUS_ABNORMAL_CLOSE;
}

/* lws is done with the wsi of an established connection. */
void uvws_connection_ended(uvws_connection *connection)
{
    uvws_context *context = connection->context;
    int code = final_code(connection);
    bool announced = connection->announced;
    bool of_peer = connection->close_by_peer && !connection->refused;
    connection->end_unseen = connection->end_unseen || connection->state == UVWS_CONNECTED;
    connection->state = UVWS_CLOSED;
    connection->wsi = NULL;
    uvws_live_changed(context, -1);
    if (context->closed || !announced) {
        uvws_connection_free(connection);
        return;
    }
    if (code == LWS_CLOSE_STATUS_ABNORMAL_CLOSE)
        connection->close_reason_size = 0;
    uvws_tx_clear(connection);
    uvws_message_clear(connection);
    if (of_peer)
        code |= UVWS_CODE_OF_PEER;
    uvws_event_promised_with_payload(context, UVWS_EVENT_CLOSED, connection->slot,
                                     connection->close_reason, connection->close_reason_size, code,
                                     code);
}

static void apply_reading(uvws_connection *connection)
{
    bool deaf = connection->paused || connection->clogged;
    if (!connection->wsi || connection->deaf == deaf)
        return;
    connection->deaf = deaf;
    lws_rx_flow_control(connection->wsi, !deaf);
    uvws_wake(connection->context);
}

static void set_paused(uvws_connection *connection, bool paused)
{
    connection->paused = paused;
    apply_reading(connection);
}

void uvws_connection_set_clogged(uvws_connection *connection, bool clogged)
{
    connection->clogged = clogged;
    apply_reading(connection);
}

/* A Close frame follows what is queued. */
static void begin_close(uvws_connection *connection, int code, const char *reason, size_t size)
{
    connection->close_code = (uint16_t)code;
    connection->close_reason_size = (uint8_t)size;
    memcpy(connection->close_reason, reason, size);
    connection->close_wanted = true;
    connection->clogged = false;
    uvws_tx_deadline(connection);
    uvws_message_clear(connection);
    set_paused(connection, false); /* or the answer would never be read */
    uvws_tx_schedule(connection);
}

/* Closes it, and not because the user said so. */
void uvws_connection_close(uvws_connection *connection, int code, const char *reason)
{
    uvws_connection_closing(connection);
    begin_close(connection, code, reason, strlen(reason));
}

int uvws_close(uvws_connection *connection, int code, const char *reason, size_t reason_size)
{
    if (!connection)
        return UVWS_NOT_OPEN;
    int result = uvws_context_check_thread(connection->context);
    if (result)
        return result;
    if (connection->end_unseen) {
        connection->end_unseen = false;
        return UVWS_OK;
    }
    if (connection->state != UVWS_CONNECTED)
        return UVWS_NOT_OPEN;
    if (reason_size > sizeof(connection->close_reason))
        return UVWS_FAILED;
    connection->state = UVWS_CLOSING;
    begin_close(connection, code, reason, reason_size);
    return UVWS_OK;
}

int uvws_state(const uvws_connection *connection)
{
    if (!connection)
        return UVWS_CLOSED;
    int result = uvws_context_check_thread(connection->context);
    if (result)
        return result;
    return connection->end_unseen ? UVWS_CONNECTED : connection->state;
}

int64_t uvws_send_queue_size(const uvws_connection *connection)
{
    if (!connection)
        return 0;
    int result = uvws_context_check_thread(connection->context);
    return result ? result : (int64_t)(connection->queued + connection->in_flight);
}

int uvws_pause(uvws_connection *connection)
{
    if (!connection)
        return UVWS_NOT_OPEN;
    int result = uvws_context_check_thread(connection->context);
    if (result)
        return result;
    if (connection->state == UVWS_CONNECTED)
        set_paused(connection, true);
    return UVWS_OK;
}

int uvws_resume(uvws_connection *connection)
{
    if (!connection)
        return UVWS_NOT_OPEN;
    int result = uvws_context_check_thread(connection->context);
    if (result)
        return result;
    bool told = uvws_event(connection->context, UVWS_EVENT_RESUMED, connection->slot, 0, 0, 0);
    set_paused(connection, false);
    return told ? UVWS_OK : UVWS_NO_MEMORY;
}

int uvws_want_drain(uvws_connection *connection, int wanted)
{
    if (!connection)
        return UVWS_NOT_OPEN;
    int result = uvws_context_check_thread(connection->context);
    if (!result)
        connection->wants_drain = wanted != 0;
    return result;
}

/* By way of a timer of lws's, which may be at work on this connection or another one now. */
int uvws_abort(uvws_connection *connection)
{
    if (!connection)
        return UVWS_NOT_OPEN;
    int result = uvws_context_check_thread(connection->context);
    if (result)
        return result;
    if (!connection->wsi || !connection->announced || connection->state == UVWS_CLOSED)
        return UVWS_NOT_OPEN;
    connection->state = UVWS_CLOSING;
    connection->close_wanted = false;
    set_paused(connection, false);
    lws_set_timeout(connection->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    uvws_wake(connection->context);
    return UVWS_OK;
}

int uvws_descriptor(const uvws_connection *connection)
{
    if (!connection || uvws_context_check_thread(connection->context))
        return -1;
    return connection->wsi ? (int)lws_get_socket_fd(connection->wsi) : -1;
}

int64_t uvws_take_latency(uvws_connection *connection)
{
    if (!connection || uvws_context_check_thread(connection->context))
        return 0;
    int64_t latency = connection->latency;
    connection->latency = 0;
    return latency;
}
