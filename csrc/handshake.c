/* A server's side of the opening handshake: what the user says, and refusals. */
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

#define VERSION       "13"
#define RESPONSE_SIZE 512
/* Of ours in a response, in bytes: what upgrade.py allows, and an extension. lws has 500 more. */
#define HEADERS_MAX           (16384 + 512)
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
static int ask_about_upgrade(uvws_connection *connection, struct lws *wsi)
{
    uvws_context *context = connection->context;
    struct buffer head = {0};
    int refused = 1;
    connection->wsi = wsi;
    if (uvws_answer_begin(connection) && uvws_headers_collect(wsi, true, &head))
        refused =
            uvws_py_handshake(context->handle, connection, connection->slot,
                              connection->listener ? connection->listener->slot : UVWS_NO_LISTENER,
                              head.data, head.size);
    uvws_buffer_free(&head);
    return refused || context->closed ? -1 : 0;
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
