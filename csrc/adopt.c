/* Server connections whose socket somebody else has accepted, and perhaps read from. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "uvws.h"

uvws_connection *uvws_adopted_new(uvws_context *context, const uvws_adopt_options *options,
                                  uint32_t *slot)
{
    uvws_connection *connection = uvws_connection_new(context, options->limits);
    if (!connection)
        return NULL;
    connection->is_adopted = true;
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
    connection->wsi = wsi;
}

/* A socket that lws does not have yet; owned by its connection. */
struct adoption {
    uvws_connection *connection; /* the one it belongs to */
    struct adoption *next;       /* in the context's list */
    int fd;                      /* owned; -1 once lws has it */
    size_t size;
    char data[];
};

/* lws serves the socket at once if there is data. That would be below lws where the caller is in a
 * callback that lws waits for, and would open the connection before the caller has it: so it waits
 * for the next flush. */
int uvws_adopt(uvws_connection *connection, int fd, const char *data, size_t size)
{
    uvws_context *context = connection->context;
    struct adoption *adoption = NULL;
    int result = UVWS_FAILED;
    if (fd < context->descriptors_max) {
        adoption = malloc(sizeof(*adoption) + size);
        result = UVWS_NO_MEMORY;
    }
    if (!adoption) {
        close(fd);
        return result;
    }
    *adoption = (struct adoption){.connection = connection, .fd = fd, .size = size};
    if (size)
        memcpy(adoption->data, data, size);
    uvws_peer_ask(&connection->peer, fd);
    connection->adoption = adoption;
    if (context->last_adoption)
        context->last_adoption->next = adoption;
    else
        context->adoptions = adoption;
    context->last_adoption = adoption;
    uvws_timeouts_begin(connection);
    uvws_wake(context);
    return UVWS_OK;
}

static void forget(uvws_context *context, const struct adoption *adoption)
{
    struct adoption *previous = NULL;
    struct adoption **link = &context->adoptions;
    while (*link != adoption) {
        previous = *link;
        link = &previous->next;
    }
    *link = adoption->next;
    if (context->last_adoption == adoption)
        context->last_adoption = previous;
}

void uvws_adoption_free(uvws_connection *connection)
{
    struct adoption *adoption = connection->adoption;
    if (!adoption)
        return;
    forget(connection->context, adoption);
    if (adoption->fd >= 0) {
        shutdown(adoption->fd, SHUT_RDWR); /* the peer must know, whoever else has it open */
        close(adoption->fd);
    }
    free(adoption);
    connection->adoption = NULL;
}

static void hand_over(struct adoption *adoption)
{
    uvws_connection *connection = adoption->connection;
    uvws_context *context = connection->context;
    int fd = adoption->fd;
    adoption->fd = -1; /* lws closes it also where it fails */
    uvws_socket_prepare(fd);
    context->adopting = connection;
    context->busy++;
    context->serving++;
    lws_adopt_socket_vhost_readbuf(context->server_vhost, fd, adoption->data, adoption->size);
    context->serving--;
    context->busy--;
    /* Not claimed: lws failed before it had a wsi that could say so. */
    bool claimed = !context->adopting;
    context->adopting = NULL;
    uvws_adoption_free(connection);
    if (!claimed)
        uvws_adopt_failed(connection);
}

void uvws_adoptions_hand_over(uvws_context *context)
{
    while (context->adoptions)
        hand_over(context->adoptions);
}

/* The wsi is gone before there was a WebSocket. */
void uvws_adopt_failed(uvws_connection *connection)
{
    static const char refused[] = "the request was refused";
    static const char ended[] = "closed before the handshake was done";
    static const char late[] = "the request took longer than handshake_timeout";
    int status = connection->close_code;
    const char *reason = status ? refused : connection->timed_out ? late : ended;
    int failure = connection->out_of_memory ? UVWS_FAILURE_MEMORY : UVWS_FAILURE_HANDSHAKE;
    connection->wsi = NULL;
    uvws_event_promised_with_payload(connection->context, UVWS_EVENT_CONNECT_FAILED,
                                     connection->slot, reason, strlen(reason),
                                     failure | (int64_t)status << 8, UVWS_FAILURE_MEMORY);
}
