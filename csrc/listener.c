/*
 * Listeners. Python opens the socket, so that its errors are Python's own; accepting is done here,
 * and each connection is handed to lws. lws's own listening offers neither clear errors, nor Unix
 * sockets and both address families alike, nor an end that leaves the connections open.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "uvws.h"

/* So many at one go, and the connections there are get their turn. */
#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE     (100 * LWS_US_PER_MS)

static void adopt(uvws_listener *listener, int fd, const struct sockaddr_storage *peer)
{
    uvws_connection *connection = uvws_connection_new(listener->context, &listener->limits);
    if (!connection) {
        close(fd);
        return;
    }
    connection->listener = listener;
    listener->connections++;
    connection->secure = listener->secure;
    if (connection->secure)
        connection->secure->connections++;
    connection->wants_drain = listener->wants_drain;
    uvws_peer_set(&connection->peer, peer);
    uvws_socket_prepare(fd);
    lws_adopt_desc_t adoption = {
        .vh = listener->vhost,
        .type = LWS_ADOPT_SOCKET | LWS_ADOPT_HTTP | LWS_ADOPT_ALLOW_SSL,
        .fd = {.sockfd = fd},
        .opaque = connection,
    };
    uvws_timeouts_begin(connection);
    uint32_t slot = connection->slot;
    listener->context->busy++;
    listener->context->serving++;
    struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&adoption);
    listener->context->serving--;
    listener->context->busy--;
    bool waits = connection->in_use && connection->slot == slot &&
                 connection->state == UVWS_CONNECTING && !connection->wsi;
    if (wsi && waits) {
        connection->wsi = wsi;
    } else if (waits) {
        /* lws closes the descriptor where it fails, and where it got far enough says so itself. */
        uvws_live_changed(listener->context, -1);
        uvws_connection_free(connection);
    }
}

static void resume(lws_sorted_usec_list_t *timer)
{
    uvws_listener *listener = lws_container_of(timer, uvws_listener, pause);
    uvws_watch *watch = uvws_watch_find(listener->context, listener->fd);
    if (!watch)
        return;
    watch->wanted = UVWS_READABLE;
    uvws_watch_apply(listener->context, watch);
}

/* Out of descriptors or memory. The socket stays readable, so that to go on watching it would be to
 * spin; the connections that are there may free something meanwhile. */
static void pause_accepting(uvws_listener *listener)
{
    uvws_context *context = listener->context;
    uvws_watch *watch = uvws_watch_find(context, listener->fd);
    if (!watch)
        return;
    watch->wanted = 0;
    uvws_watch_apply(context, watch);
    lws_sul_schedule(context->lws, 0, &listener->pause, resume, ACCEPT_PAUSE);
    uvws_wake(context);
}

void uvws_listener_ready(uvws_listener *listener)
{
    for (int n = 0; n < ACCEPTS_PER_TURN; n++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof(peer);
        int fd =
            accept4(listener->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EINTR)
            continue;
        if (fd < 0 && errno == ECONNABORTED)
            continue;
        if (fd < 0) {
            if (errno != EAGAIN)
                pause_accepting(listener);
            return;
        }
        if (listener->max_connections && listener->connections >= listener->max_connections)
            uvws_refused_add(listener, fd);
        else
            adopt(listener, fd, &peer);
        if (listener->context->closed)
            return;
    }
}

static void secure_vhost_free(uvws_context *context, struct secure_vhost *secure)
{
    if (secure && context->lws)
        lws_vhost_destroy(secure->vhost);
    free(secure);
}

/* NULL on failure, with the reason in `error`: none is for want of memory. */
static struct secure_vhost *secure_vhost_new(uvws_listener *listener, const uvws_tls_pem *tls,
                                             char *error)
{
    struct lws_context_creation_info info;
    char name[32];
    struct secure_vhost *secure = calloc(1, sizeof(*secure));
    error[0] = 0;
    if (!secure)
        return NULL;
    uvws_vhost_info(listener->context, &info);
    snprintf(name, sizeof(name), "\1tls-%u-%u", listener->slot, listener->reloads);
    info.vhost_name = name;
    info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
    info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_CREATE_VHOST_SSL_CTX |
                    LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
    info.user = listener;
    listener->pem = tls;
    listener->error = error;
    secure->vhost = lws_create_vhost(listener->context->lws, &info);
    listener->pem = NULL;
    listener->error = NULL;
    if (secure->vhost)
        return secure;
    if (!error[0])
        snprintf(error, UVWS_ERROR_SIZE, "libwebsockets could not set up TLS");
    free(secure);
    return NULL;
}

static bool make_vhost(uvws_listener *listener, const uvws_tls_pem *tls, char *error)
{
    listener->vhost = listener->context->server_vhost;
    if (!tls)
        return true;
    listener->secure = secure_vhost_new(listener, tls, error);
    if (!listener->secure)
        return false;
    listener->vhost = listener->secure->vhost;
    return true;
}

uvws_listener *uvws_listener_new(uvws_context *context, int fd, uint32_t slot,
                                 const uvws_listen_options *options, char *error, size_t error_size)
{
    error[0] = 0;
    if (error_size < UVWS_ERROR_SIZE || !uvws_events_promise(context))
        return NULL;
    uvws_listener *listener = calloc(1, sizeof(*listener));
    if (!listener) {
        uvws_events_take_back(context);
        return NULL;
    }
    listener->context = context;
    listener->fd = fd;
    listener->slot = slot;
    listener->limits = *options->limits;
    listener->wants_drain = options->want_drain != 0;
    listener->wants_handshake = options->want_handshake != 0;
    listener->wants_requests = options->want_requests != 0;
    listener->max_connections = options->max_connections;
    if (!make_vhost(listener, options->tls, error))
        goto fail;
    uvws_watch *watch = uvws_watch_open(context, fd);
    if (!watch)
        goto fail;
    watch->listener = listener;
    watch->wanted = UVWS_READABLE;
    if (!uvws_watch_apply(context, watch)) {
        uvws_watch_drop(context, fd);
        snprintf(error, error_size, "the loop cannot watch the socket");
        goto fail;
    }
    listener->next = context->listeners;
    context->listeners = listener;
    uvws_live_changed(context, 1);
    uvws_wake(context);
    return listener;
fail:
    secure_vhost_free(context, listener->secure);
    uvws_events_take_back(context);
    free(listener);
    return NULL;
}

static void tidy_soon(uvws_listener *listener)
{
    listener->context->listeners_left = true;
    uvws_wake(listener->context);
}

/* What is accepted from now on is; connections and handshakes under way keep what they began with.
 * Sessions of before are not resumed: the keys of their tickets go as well. */
int uvws_listener_reload_tls(uvws_listener *listener, const uvws_tls_pem *tls, char *error,
                             size_t error_size)
{
    if (error_size < UVWS_ERROR_SIZE || !listener->secure || listener->fd < 0)
        return UVWS_FAILED;
    listener->reloads++;
    struct secure_vhost *secure = secure_vhost_new(listener, tls, error);
    if (!secure)
        return UVWS_FAILED;
    listener->secure->next = listener->retired;
    listener->retired = listener->secure;
    listener->secure = secure;
    listener->vhost = secure->vhost;
    tidy_soon(listener);
    return UVWS_OK;
}

static void stop_accepting(uvws_listener *listener)
{
    if (listener->fd < 0)
        return;
    if (listener->context->lws)
        lws_sul_cancel(&listener->pause);
    uvws_refused_end(listener);
    uvws_watch_drop(listener->context, listener->fd);
    close(listener->fd);
    listener->fd = -1;
}

static bool is_idle(const uvws_listener *listener)
{
    return listener->fd < 0 && !listener->connections;
}

static void forget(uvws_listener *listener)
{
    uvws_context *context = listener->context;
    if (!context->closed)
        uvws_event_promised(context, UVWS_EVENT_LISTENER_GONE, 0, listener->slot, 0);
    uvws_listener_free(listener);
}

/* The struct stays as long as connections point at it. */
int uvws_listener_close(uvws_listener *listener)
{
    if (listener->fd < 0)
        return UVWS_OK;
    stop_accepting(listener);
    uvws_live_changed(listener->context, -1);
    if (is_idle(listener))
        forget(listener);
    return UVWS_OK;
}

/* Called below lws, which may be at work on the very vhost that would go: so it is put off. */
void uvws_listener_left(uvws_connection *connection)
{
    uvws_listener *listener = connection->listener;
    struct secure_vhost *secure = connection->secure;
    connection->listener = NULL;
    connection->secure = NULL;
    listener->connections--;
    if (secure)
        secure->connections--;
    if (is_idle(listener) || (secure && secure != listener->secure && !secure->connections))
        tidy_soon(listener);
}

static void free_retired(uvws_listener *listener, bool also_in_use)
{
    struct secure_vhost **link = &listener->retired;
    while (*link) {
        struct secure_vhost *secure = *link;
        if (secure->connections && !also_in_use) {
            link = &secure->next;
            continue;
        }
        *link = secure->next;
        secure_vhost_free(listener->context, secure);
    }
}

void uvws_listeners_tidy(uvws_context *context)
{
    if (!context->listeners_left)
        return;
    context->listeners_left = false;
    uvws_listener *next;
    for (uvws_listener *listener = context->listeners; listener; listener = next) {
        next = listener->next;
        free_retired(listener, false);
        if (is_idle(listener))
            forget(listener);
    }
}

/* Its own vhosts go with it. */
void uvws_listener_free(uvws_listener *listener)
{
    uvws_context *context = listener->context;
    uvws_listener **link = &context->listeners;
    while (*link && *link != listener)
        link = &(*link)->next;
    if (*link)
        *link = listener->next;
    stop_accepting(listener);
    free_retired(listener, true);
    secure_vhost_free(context, listener->secure);
    uvws_events_take_back(context);
    free(listener);
}
