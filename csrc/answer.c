/* Requests that ask for no upgrade: who answers them, and how their connections end.
 *
 * A connection ends with its response (RFC 9112 section 9.6), but not before all of that was taken,
 * nor before what the client sends was read: to close with bytes unread is a reset, which can take
 * the response with it. */
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

/* A client that takes a response, beyond what the system holds of it, more slowly than that, in
 * bytes a second, is given up, but not before that time. */
#define SLOWEST  4096
#define PATIENCE 30 /* seconds */
/* A body is read for so long, and no more of it than that: nobody looks at it. */
#define BODY_TIME             (30 * LWS_US_PER_SEC)
#define BODY_MAX              (64 * 1024 * 1024)
#define HTTP_UPGRADE_REQUIRED 426

bool uvws_answer_begin(uvws_connection *connection)
{
    uvws_handshake_free(connection);
    connection->handshake = calloc(1, sizeof(*connection->handshake));
    return connection->handshake != NULL;
}

static void set_deadline(uvws_connection *connection)
{
    lws_set_timeout(connection->wsi, PENDING_TIMEOUT_HTTP_CONTENT,
                    PATIENCE + (int)(connection->handshake->response_size / SLOWEST));
}

/* lws keeps what the socket does not take. */
int uvws_respond(uvws_connection *connection, const char *response, size_t size)
{
    struct handshake *handshake = connection->handshake;
    if (!handshake || handshake->answered)
        return UVWS_FAILED;
    handshake->answered = true;
    handshake->response_size = size;
    unsigned char *memory = malloc(LWS_PRE + size);
    if (!memory)
        return UVWS_NO_MEMORY;
    memcpy(memory + LWS_PRE, response, size);
    int written = lws_write(connection->wsi, memory + LWS_PRE, size, LWS_WRITE_HTTP);
    free(memory);
    return written < 0 ? UVWS_FAILED : UVWS_OK;
}

/* Negative, as lws wants to hear it, where nothing is left to do. */
static int end_if_done(uvws_connection *connection)
{
    return connection->handshake->body_left || lws_partial_buffered(connection->wsi) ? 0 : -1;
}

/* The socket has taken all. */
int uvws_answer_taken(uvws_connection *connection)
{
    return connection->handshake ? end_if_done(connection) : 0;
}

/* A part of the request's body, or nothing at its end. */
int uvws_answer_body(uvws_connection *connection, size_t size)
{
    struct handshake *handshake = connection->handshake;
    if (!handshake)
        return -1;
    handshake->body_read += size;
    if (handshake->body_read >= handshake->body_size)
        handshake->body_left = false;
    if (handshake->body_read > BODY_MAX || lws_now_usecs() > handshake->body_until)
        return -1;
    if (!handshake->body_left)
        set_deadline(connection); /* lws has one of its own for bodies */
    return end_if_done(connection);
}

/* lws takes the coding of a body off for nobody, so that the end of one is not seen; it reads such
 * bodies with these methods only. */
static bool is_chunked(struct lws *wsi)
{
    return lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0 &&
           (lws_hdr_total_length(wsi, WSI_TOKEN_POST_URI) > 0 ||
            lws_hdr_total_length(wsi, WSI_TOKEN_PUT_URI) > 0 ||
            lws_hdr_total_length(wsi, WSI_TOKEN_PATCH_URI) > 0);
}

/* 0 where there is none, SIZE_MAX where it ends with the connection only. */
static size_t body_size(struct lws *wsi)
{
    char text[32];
    if (lws_hdr_copy(wsi, text, sizeof(text) - 1, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0) {
        long long size = atoll(text);
        return size > 0 ? (size_t)size : 0;
    }
    return is_chunked(wsi) ? SIZE_MAX : 0;
}

static void ask(uvws_connection *connection, struct lws *wsi)
{
    struct buffer head = {0};
    if (uvws_headers_collect(wsi, true, &head))
        uvws_py_request(connection->context->handle, connection, connection->listener->slot,
                        uvws_request_method(wsi), head.data, head.size);
    uvws_buffer_free(&head);
}

/* Negative closes the connection. The user is called below lws: see handshake.c. */
int uvws_answer_request(uvws_connection *connection, struct lws *wsi)
{
    if (!connection || !uvws_answer_begin(connection))
        return -1;
    struct handshake *handshake = connection->handshake;
    connection->wsi = wsi;
    if (connection->listener && connection->listener->wants_requests)
        ask(connection, wsi);
    else
        uvws_handshake_refuse(wsi, HTTP_UPGRADE_REQUIRED);
    if (connection->context->closed)
        return -1;
#ifndef UVWS_BUNDLED_LWS
    /* lws would take the head for the body, and free the wsi twice. */
    if (connection->adoption)
        return -1;
#endif
    handshake->body_size = body_size(wsi);
    handshake->body_left = handshake->body_size > 0;
    handshake->body_until = lws_now_usecs() + BODY_TIME;
    uvws_timeouts_begin(connection);
    set_deadline(connection);
    return end_if_done(connection);
}
