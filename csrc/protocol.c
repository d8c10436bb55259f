/* lws's callbacks: what happened to a connection, translated for the rest of the core. */
#include <string.h>
#include <sys/socket.h>

#include "uvws.h"

#ifdef UVWS_BUNDLED_LWS
#define RX_BUFFER (128 * 1024)
#else
#define RX_BUFFER 16384
#endif
/* What one lws_write may pass to the socket: more than any piece of tx.c. */
#define TX_PACKET (1024 * 1024)

static int accepted(uvws_connection *connection, struct lws *wsi)
{
    struct buffer headers = {0};
    int result = -1;
    connection->wsi = wsi;
    uvws_handshake_free(connection);
    if (uvws_headers_collect(wsi, true, &headers)) {
        result = uvws_connection_set_open(connection, &headers) ? 0 : -1;
    } else {
        connection->out_of_memory = true;
    }
    uvws_buffer_free(&headers);
    return result;
}

static int client_answered(uvws_connection *connection, struct lws *wsi)
{
    uvws_context *context = connection->context;
    struct buffer *head = &connection->client->headers;
    if (!uvws_headers_collect(wsi, false, head)) {
        connection->out_of_memory = true;
        return -1;
    }
    if (lws_hdr_total_length(wsi, WSI_TOKEN_EXTENSIONS) <= 0)
        return 0;
    int refused = uvws_py_negotiate(context->handle, connection->slot, head->data, head->size);
    return refused || context->closed ? -1 : 0;
}

static int client_established(uvws_connection *connection)
{
    if (!uvws_connection_set_open(connection, &connection->client->headers))
        return -1;
    uvws_client_free(connection);
    return 0;
}

/* lws is about to speak to the server. That it is not behind the proxy yet may not be, as connect()
 * takes its time on a socket that does not block; but nothing must go to the proxy in its place. */
static void connected(struct client *client)
{
    client->failure = UVWS_FAILURE_TLS;
    if (uvws_tunnel_missing(client))
        shutdown(client->fd, SHUT_RDWR);
}

/* The wsi goes away. A connection that was never open has no "closed" event. */
static void gone(uvws_connection *connection)
{
    if (connection->state == UVWS_CONNECTING && connection->is_adopted) {
        uvws_adopt_failed(connection);
    } else if (connection->state == UVWS_CONNECTING && !connection->is_client) {
        connection->wsi = NULL;
        uvws_live_changed(connection->context, -1);
        uvws_connection_free(connection);
    } else if (connection->state == UVWS_CONNECTING) {
        if (!connection->client || !connection->client->attempting)
            return; /* an attempt that has already failed */
        static const char reason[] = "closed before the handshake was done";
        uvws_client_failed(connection, reason, sizeof(reason) - 1);
    } else if (connection->state != UVWS_CLOSED) {
        uvws_connection_ended(connection);
    }
}

#ifdef UVWS_BUNDLED_LWS
/* As lws wants to hear it: see the patch that keeps the head. */
static int head_received(uvws_connection *connection, struct lws *wsi)
{
    if (!connection)
        return -1;
    if (!connection->is_client)
        return uvws_request_received(connection, wsi);
    return connection->client ? uvws_response_received(connection, wsi) : -1;
}

static void head_too_large(uvws_connection *connection, struct lws *wsi)
{
    if (connection && !connection->is_client)
        uvws_handshake_refuse(wsi, HTTP_HEAD_TOO_LARGE);
    else if (connection && connection->client)
        uvws_response_too_large(connection);
}
#endif

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size)
{
    (void)user;
    uvws_connection *connection;
    switch (reason) {
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_CLIENT_RECEIVE:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? uvws_rx(connection, in, size) : 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        connection = lws_get_opaque_user_data(wsi);
        return connection && connection->wsi ? uvws_tx_write(connection) : 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? uvws_rx_close(connection, in, size) : 0;
    case LWS_CALLBACK_ESTABLISHED:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? accepted(connection, wsi) : -1;
    case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
        connection = lws_get_opaque_user_data(wsi);
        return connection && connection->client ? client_answered(connection, wsi) : -1;
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        connection = lws_get_opaque_user_data(wsi);
        return connection && connection->client ? client_established(connection) : -1;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        connection = lws_get_opaque_user_data(wsi);
        if (connection)
            uvws_client_failed(connection, in, in ? strnlen(in, size) : 0);
        return 0;
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? uvws_client_append_headers(connection, in, size) : -1;
    case LWS_CALLBACK_CONNECTING:
        connection = lws_get_opaque_user_data(wsi);
        if (connection && connection->client)
            connection->client->fd = (int)(intptr_t)in;
        return 0;
    case LWS_CALLBACK_WSI_CREATE:
        connection = lws_get_opaque_user_data(wsi);
        if (connection && connection->client)
            connected(connection->client);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        connection = lws_get_opaque_user_data(wsi);
        lws_set_opaque_user_data(wsi, NULL);
        if (connection && connection->in_use && (!connection->wsi || connection->wsi == wsi))
            gone(connection);
        return 0;
#ifdef UVWS_BUNDLED_LWS
    case LWS_CALLBACK_RECEIVE_PING:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? uvws_rx_ping(connection, in, size) : 0;
#endif
    case LWS_CALLBACK_RECEIVE_PONG:
    case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? uvws_rx_pong(connection, in, size) : 0;
#ifdef UVWS_BUNDLED_LWS
    case LWS_CALLBACK_HEAD_RECEIVED:
        return head_received(lws_get_opaque_user_data(wsi), wsi);
    case LWS_CALLBACK_HEAD_TOO_LARGE:
        head_too_large(lws_get_opaque_user_data(wsi), wsi);
        return 0;
#endif
    case LWS_CALLBACK_HTTP:
        return uvws_answer_request(lws_get_opaque_user_data(wsi), wsi);
    case LWS_CALLBACK_HTTP_BODY:
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? uvws_answer_body(connection, in ? size : 0) : -1;
    case LWS_CALLBACK_HTTP_WRITEABLE:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? uvws_answer_taken(connection) : 0;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return uvws_handshake_upgrade(wsi);
    case LWS_CALLBACK_ADD_HEADERS:
        connection = lws_get_opaque_user_data(wsi);
        return connection ? uvws_handshake_add_headers(connection, in) : 0;
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
        return uvws_tls_server_setup(lws_vhost_user(in), user);
    case LWS_CALLBACK_CONFIRM_EXTENSION_OKAY:
        return 1; /* none yet */
    default:
        return 0;
    }
}

/* The name is empty so that no subprotocol that a client offers can equal it. */
const struct lws_protocols uvws_protocols[] = {
    {.name = "", .callback = on_event, .rx_buffer_size = RX_BUFFER, .tx_packet_size = TX_PACKET},
    LWS_PROTOCOL_LIST_TERM,
};
