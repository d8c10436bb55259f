/* Server connections whose socket somebody else has accepted, and perhaps read from. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "uvws.h"

uvws_connection *uvws_adopted_new(uvws_context *context, const uvws_adopt_options *options,
                                  uint32_t *slot)
{
    uvws_connection *connection = uvws_connection_new(context);
    if (!connection)
        return NULL;
    connection->is_adopted = true;
    connection->max_message_size = options->max_message_size;
    connection->wants_drain = options->want_drain != 0;
    connection->wants_handshake = options->want_handshake != 0;
    *slot = connection->slot;
    return connection;
}

void uvws_socket_prepare(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* no such thing on Unix sockets */
}

/* lws has a function for a socket that was read from, and another that takes opaque user data. Of
 * the first, what comes through here first is the new wsi. */
void uvws_adopt_claim(uvws_context *context, struct lws *wsi)
{
    uvws_connection *connection = context->adopting;
    if (!connection || lws_get_opaque_user_data(wsi))
        return;
    context->adopting = NULL;
    lws_set_opaque_user_data(wsi, connection);
}

int uvws_adopt(uvws_connection *connection, int fd, const char *data, size_t size)
{
    uvws_context *context = connection->context;
    uvws_socket_prepare(fd);
    uvws_peer_ask(&connection->peer, fd);
    context->adopting = connection;
    context->busy++;
    context->serving++;
    struct lws *wsi = lws_adopt_socket_vhost_readbuf(context->server_vhost, fd, data, size);
    context->serving--;
    context->busy--;
    /* Not claimed: lws failed before it had a wsi for it. */
    bool claimed = !context->adopting;
    context->adopting = NULL;
    uvws_wake(context);
    return wsi || claimed ? UVWS_OK : UVWS_NO_MEMORY;
}

/* The wsi is gone before there was a WebSocket. */
void uvws_adopt_failed(uvws_connection *connection)
{
    static const char refused[] = "the request was refused";
    static const char ended[] = "closed before the handshake was done";
    int status = connection->close_code;
    const char *reason = status ? refused : ended;
    connection->wsi = NULL;
    uvws_event_with_payload(connection->context, UVWS_EVENT_CONNECT_FAILED, connection->slot,
                            reason, strlen(reason), UVWS_FAILURE_HANDSHAKE | (int64_t)status << 8);
}
