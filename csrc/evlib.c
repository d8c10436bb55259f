/*
 * The event library that lws is given (info.event_lib_custom): it turns what lws wants to hear of a
 * descriptor into watches on the loop.
 *
 * Writing is eager. lws wants every write made in its WRITEABLE callback, and asks for POLLOUT to
 * get it; waiting for the kernel to report POLLOUT would cost two epoll_ctl and a turn of the loop
 * for each message, for a socket that nearly always has room. So the wish is noted in a list, and
 * service.c offers POLLOUT at once; only if lws still wants it afterwards is the kernel asked.
 * While a TCP connect or a TLS handshake is under way POLLOUT means something, and the kernel is
 * asked.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

struct event_library_pt {
    uvws_context *context;
};

/* Not lws_context_user(): lws makes its event pipe before that is set. */
static uvws_context *context_of(struct lws *wsi)
{
    struct event_library_pt *pt = lws_evlib_wsi_to_evlib_pt(wsi);
    return pt->context;
}

uvws_watch *uvws_watch_find(const uvws_context *context, int fd)
{
    return fd >= 0 && (size_t)fd < context->watch_capacity ? context->watches[fd] : NULL;
}

static bool table_reserve(uvws_context *context, int fd)
{
    size_t needed = (size_t)fd + 1;
    if (needed <= context->watch_capacity)
        return true;
    size_t capacity = context->watch_capacity ? context->watch_capacity : 64;
    while (capacity < needed)
        capacity *= 2;
    uvws_watch **watches = realloc(context->watches, capacity * sizeof(*watches));
    if (!watches)
        return false;
    memset(watches + context->watch_capacity, 0,
           (capacity - context->watch_capacity) * sizeof(*watches));
    context->watches = watches;
    context->watch_capacity = capacity;
    return true;
}

/* lws may have closed a descriptor without a word and got its number again: what is known under
 * that number is stale then, so the caller decides by the connection whether to drop it. */
uvws_watch *uvws_watch_open(uvws_context *context, int fd)
{
    if (fd < 0 || !table_reserve(context, fd))
        return NULL;
    uvws_watch_drop(context, fd);
    uvws_watch *watch = context->loop.ops->watch_new(context, fd);
    if (!watch)
        return NULL;
    watch->context = context;
    watch->fd = fd;
    context->watches[fd] = watch;
    return watch;
}

void uvws_watch_drop(uvws_context *context, int fd)
{
    uvws_watch *watch = uvws_watch_find(context, fd);
    if (!watch)
        return;
    context->watches[fd] = NULL;
    context->loop.ops->watch_close(watch);
}

bool uvws_watch_apply(uvws_context *context, uvws_watch *watch)
{
    uint8_t events = watch->tunnel_wants ? watch->tunnel_wants : watch->wanted;
    if (watch->armed == events)
        return true;
    if (context->loop.ops->watch_set(watch, events))
        return false;
    watch->armed = events;
    return true;
}

static bool want_eagerly(uvws_context *context, uvws_watch *watch)
{
    if (watch->eager)
        return true;
    if (context->eager_count == context->eager_capacity) {
        size_t capacity = context->eager_capacity ? context->eager_capacity * 2 : 64;
        int *eager = realloc(context->eager, capacity * sizeof(*eager));
        if (!eager)
            return false;
        context->eager = eager;
        context->eager_capacity = capacity;
    }
    context->eager[context->eager_count++] = watch->fd;
    watch->eager = true;
    uvws_wake(context);
    return true;
}

static bool may_be_eager(const uvws_watch *watch)
{
    return watch->connection && watch->connection->wsi &&
           watch->connection->state != UVWS_CONNECTING;
}

static uvws_watch *watch_of(uvws_context *context, struct lws *wsi)
{
    int fd = lws_get_socket_fd(wsi);
    uvws_connection *connection = lws_get_opaque_user_data(wsi);
    uvws_watch *watch = uvws_watch_find(context, fd);
    if (!watch || watch->connection != connection || watch->listener) {
        watch = uvws_watch_open(context, fd);
        if (watch)
            watch->connection = connection;
    }
    return watch;
}

static int translate(unsigned int flags)
{
    return (flags & LWS_EV_READ ? UVWS_READABLE : 0) | (flags & LWS_EV_WRITE ? UVWS_WRITABLE : 0);
}

static void op_io(struct lws *wsi, unsigned int flags)
{
    uvws_context *context = context_of(wsi);
    uvws_connection *connection;
    int events = translate(flags);
    uvws_adopt_claim(context, wsi);
    if (flags & LWS_EV_STOP) {
        uvws_watch *watch = uvws_watch_find(context, lws_get_socket_fd(wsi));
        if (!watch || watch->connection != lws_get_opaque_user_data(wsi))
            return;
        /* Both at once is how lws says that the descriptor leaves its tables; it closes it next. */
        if (events == (UVWS_READABLE | UVWS_WRITABLE)) {
            uvws_watch_drop(context, watch->fd);
            return;
        }
        watch->wanted &= (uint8_t)~events;
        /* While POLLOUT is served eagerly it was never armed, and this costs nothing. */
        uvws_watch_apply(context, watch);
        return;
    }
    uvws_watch *watch = watch_of(context, wsi);
    if (!watch)
        goto fail;
    if (events == UVWS_WRITABLE && may_be_eager(watch)) {
        if (!(watch->armed & UVWS_WRITABLE) && !want_eagerly(context, watch))
            goto fail;
        watch->wanted |= UVWS_WRITABLE;
        return;
    }
    watch->wanted |= (uint8_t)events;
    if (uvws_watch_apply(context, watch))
        return;
fail:
    /* lws takes no answer here; a connection that cannot be watched would hang for ever. */
    connection = lws_get_opaque_user_data(wsi);
    if (connection)
        connection->out_of_memory = true;
    else
        context->unwatched = true;
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

static int op_init_pt(struct lws_context *lws, void *loop, int tsi)
{
    struct event_library_pt *pt = lws_evlib_tsi_to_evlib_pt(lws, tsi);
    pt->context = loop;
    return 0;
}

/* lws's own watches (its event pipe) are dropped as it closes the descriptor without asking. */
static int op_wsi_logical_close(struct lws *wsi)
{
    uvws_context *context = context_of(wsi);
    uvws_watch *watch = uvws_watch_find(context, lws_get_socket_fd(wsi));
    if (watch && watch->connection == lws_get_opaque_user_data(wsi) && !watch->listener)
        uvws_watch_drop(context, watch->fd);
    return 0; /* go on at once: the descriptor may be closed now */
}

static const struct lws_event_loop_ops event_loop_ops = {
    .name = "uvws",
    .init_pt = op_init_pt,
    .wsi_logical_close = op_wsi_logical_close,
    .io = op_io,
    .evlib_size_pt = sizeof(struct event_library_pt),
};

const lws_plugin_evlib_t uvws_event_library = {
    .hdr = {"uvws event loop", "lws_evlib_plugin", LWS_BUILD_HASH, LWS_PLUGIN_API_MAGIC},
    .ops = &event_loop_ops,
};
