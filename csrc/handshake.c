/* A server's side of the opening handshake: what the user says, and the answers other than 101. */
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

#define VERSION               "13"
#define RESPONSE_SIZE         512
#define HEADERS_MAX           16384 /* of ours in a response, in bytes; lws has a little more room */
#define HTTP_UPGRADE_REQUIRED 426

static bool add(const char *name, const char *value, unsigned char **at, unsigned char *end,
                struct lws *wsi)
{
    return !lws_add_http_header_by_name(wsi, (const unsigned char *)name,
                                        (const unsigned char *)value, (int)strlen(value), at, end);
}

/* Writes a response without a body. The caller closes the connection, written or not. */
void uvws_handshake_refuse(struct lws *wsi, unsigned int status)
{
    uvws_connection *connection = lws_get_opaque_user_data(wsi);
    if (connection)
        connection->close_code = (uint16_t)status;
    unsigned char response[LWS_PRE + RESPONSE_SIZE];
    unsigned char *start = response + LWS_PRE;
    unsigned char *at = start;
    unsigned char *end = response + sizeof(response);
    if (lws_add_http_header_status(wsi, status, &at, end))
        return;
    if (status == HTTP_UPGRADE_REQUIRED && (!add("upgrade:", "websocket", &at, end, wsi) ||
                                            !add("sec-websocket-version:", VERSION, &at, end, wsi)))
        return;
    if (add("connection:", "close", &at, end, wsi) &&
        !lws_add_http_header_content_length(wsi, 0, &at, end) &&
        lws_finalize_write_http_header(wsi, start, &at, end))
        return;
}

int uvws_handshake_headers(uvws_connection *connection, const char *lines, size_t size)
{
    struct handshake *handshake = connection->handshake;
    if (!handshake || handshake->headers.size + size > HEADERS_MAX)
        return UVWS_FAILED;
    return uvws_buffer_append(&handshake->headers, lines, size) ? UVWS_OK : UVWS_NO_MEMORY;
}

/* lws keeps what the socket does not take, and closes only when that is gone. */
int uvws_respond(uvws_connection *connection, const char *response, size_t size)
{
    struct handshake *handshake = connection->handshake;
    if (!handshake || handshake->answered)
        return UVWS_FAILED;
    handshake->answered = true;
    unsigned char *memory = malloc(LWS_PRE + size);
    if (!memory)
        return UVWS_NO_MEMORY;
    memcpy(memory + LWS_PRE, response, size);
    int written = lws_write(connection->wsi, memory + LWS_PRE, size, LWS_WRITE_HTTP);
    free(memory);
    return written < 0 ? UVWS_FAILED : UVWS_OK;
}

int uvws_handshake_add_headers(uvws_connection *connection, struct lws_process_html_args *args)
{
    struct handshake *handshake = connection->handshake;
    if (!handshake || !handshake->headers.size)
        return 0;
    if (handshake->headers.size + 2 > (size_t)args->max_len)
        return -1;
    memcpy(args->p, handshake->headers.data, handshake->headers.size);
    args->p += handshake->headers.size;
    return 0;
}

void uvws_handshake_free(uvws_connection *connection)
{
    if (!connection->handshake)
        return;
    uvws_buffer_free(&connection->handshake->headers);
    free(connection->handshake);
    connection->handshake = NULL;
}

/* The user is called below lws here, which cannot put its answer off: hence `serving`, which keeps
 * a loop that the user runs in there from calling lws again. */
static bool begin_asking(uvws_connection *connection, struct lws *wsi, struct buffer *head)
{
    connection->wsi = wsi;
    connection->handshake = calloc(1, sizeof(*connection->handshake));
    return connection->handshake && uvws_headers_collect(wsi, true, head);
}

static int ask_about_upgrade(uvws_connection *connection, struct lws *wsi)
{
    uvws_context *context = connection->context;
    struct buffer head = {0};
    int refused = 1;
    if (begin_asking(connection, wsi, &head))
        refused =
            uvws_py_handshake(context->handle, connection, connection->slot,
                              connection->listener ? connection->listener->slot : UVWS_NO_LISTENER,
                              head.data, head.size);
    uvws_buffer_free(&head);
    return refused || context->closed ? -1 : 0;
}

static void ask_about_request(uvws_connection *connection, struct lws *wsi)
{
    struct buffer head = {0};
    if (begin_asking(connection, wsi, &head))
        uvws_py_request(connection->context->handle, connection, connection->listener->slot,
                        uvws_request_method(wsi), head.data, head.size);
    uvws_buffer_free(&head);
}

/* Negative closes the connection, once what was written is gone. */
int uvws_handshake_upgrade(struct lws *wsi)
{
    uvws_connection *connection = lws_get_opaque_user_data(wsi);
    if (!connection)
        return -1;
    unsigned int status = uvws_request_check(wsi);
    if (status) {
        uvws_handshake_refuse(wsi, status);
        return -1;
    }
    if (connection->listener ? connection->listener->wants_handshake : connection->wants_handshake)
        return ask_about_upgrade(connection, wsi);
    return 0;
}

static bool has_body(struct lws *wsi)
{
    char size[32];
    return lws_hdr_copy(wsi, size, sizeof(size), WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0 &&
           atoll(size) > 0;
}

/* A request for anything but an upgrade. Negative closes the connection. One that has a body is
 * read to the end first: to close with bytes unread is a reset, which can take the response with it
 * (RFC 9112 section 9.6). */
int uvws_handshake_request(struct lws *wsi)
{
    uvws_connection *connection = lws_get_opaque_user_data(wsi);
    if (connection && connection->listener && connection->listener->wants_requests) {
        ask_about_request(connection, wsi);
    } else {
        uvws_handshake_refuse(wsi, HTTP_UPGRADE_REQUIRED);
    }
    return has_body(wsi) && connection && !connection->context->closed ? 0 : -1;
}
