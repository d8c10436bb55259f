/*
 * Service: what happens when the loop calls.
 *
 * A descriptor that is ready goes to lws at once. What follows from it, the calls into Python and
 * the writes, waits for uvws_flush(), which the loop calls right after it has polled and right
 * before it blocks: all messages that came in with one turn of the loop cross into Python together,
 * and all that they made the user send goes out together.
 */
#include "uvws.h"

/* More rounds than that in one flush, and the rest waits for the next turn of the loop. */
#define FLUSH_ROUNDS 16
/* How often a descriptor is offered POLLOUT before the kernel is asked: a PONG, a full batch and a
 * Close frame each take one. */
#define EAGER_OFFERS 8
#define LONGEST_WAIT (24 * 60 * 60 * 1000)

int uvws_context_check_thread(const uvws_context *context)
{
    unsigned long owner = atomic_load_explicit(&context->thread, memory_order_relaxed);
    return owner == (unsigned long)pthread_self() ? UVWS_OK : UVWS_WRONG_THREAD;
}

void uvws_context_forked(uvws_context *context)
{
    context->forked = true;
    atomic_store_explicit(&context->thread, 0, memory_order_relaxed); /* nobody's */
}

/* A context belongs to the thread that runs its loop, which may not be the one that made it. */
void uvws_own_thread(uvws_context *context)
{
    atomic_store_explicit(&context->thread, (unsigned long)pthread_self(), memory_order_relaxed);
}

void uvws_wake(uvws_context *context)
{
    if (context->loop.awake || context->closed)
        return;
    context->loop.awake = true;
    context->loop.ops->wake(context);
}

void uvws_live_changed(uvws_context *context, int by)
{
    if (context->closed)
        return;
    context->live = (size_t)((long)context->live + by);
    bool alive = context->live != 0;
    if (alive == context->loop.alive)
        return;
    context->loop.alive = alive;
    context->loop.ops->keep_alive(context, alive);
}

static void give_to_lws(uvws_context *context, int fd, int events, int wanted)
{
    struct lws_pollfd pollfd = {
        .fd = fd,
        .events = (short)((wanted & UVWS_READABLE ? LWS_POLLIN : 0) |
                          (wanted & UVWS_WRITABLE ? LWS_POLLOUT : 0)),
        .revents = (short)((events & UVWS_READABLE ? LWS_POLLIN : 0) |
                           (events & UVWS_WRITABLE ? LWS_POLLOUT : 0)),
    };
    context->busy++;
    context->serving++;
    lws_service_fd(context->lws, &pollfd);
    context->serving--;
    context->busy--;
}

static void finish_close(uvws_context *context);
static void flush(uvws_context *context, bool may_read);

void uvws_descriptor_ready(uvws_context *context, int fd, int events)
{
    if (context->forked)
        return;
    uvws_own_thread(context);
    uvws_watch *watch = uvws_watch_find(context, fd);
    /* `serving`: a callback in the middle of a handshake runs the loop; it will be asked again. */
    if (!watch || context->closed || context->serving)
        return;
    if (watch->listener) {
        uvws_listener_ready(watch->listener);
    } else {
        int wanted = watch->wanted;
        if (watch->connection && events & UVWS_READABLE)
            watch->connection->heard = true;
        events = uvws_tunnel_ready(watch, events);
        if (events)
            give_to_lws(context, fd, events, wanted);
    }
    watch = uvws_watch_find(context, fd);
    if (watch)
        uvws_watch_apply(context, watch); /* libuv stops a handle whose descriptor is in error */
    /* The timers of lws change with what it was just told. */
    uvws_wake(context);
    if (uvws_events_are_many(context))
        flush(context, false); /* other descriptors wait for their turn */
    finish_close(context);
}

/* Offers POLLOUT as long as lws goes on asking and the socket takes what it is given. */
static void offer_pollout(uvws_context *context, int fd)
{
    uvws_watch *watch = uvws_watch_find(context, fd);
    for (int offers = 0; watch && watch->wanted & UVWS_WRITABLE; offers++) {
        uvws_connection *connection = watch->connection;
        bool full = connection && connection->wsi &&
                    (connection->socket_full || lws_partial_buffered(connection->wsi));
        if (offers == EAGER_OFFERS || full) {
            uvws_watch_apply(context, watch);
            return;
        }
        watch->eager = true; /* keeps what lws asks for meanwhile out of the list */
        give_to_lws(context, fd, UVWS_WRITABLE, watch->wanted);
        watch = uvws_watch_find(context, fd);
        if (watch)
            watch->eager = false;
    }
}

static void offer_all(uvws_context *context)
{
    /* By index: offering may lengthen the list, and may move it. */
    for (size_t n = 0; n < context->eager_count; n++) {
        uvws_watch *watch = uvws_watch_find(context, context->eager[n]);
        if (!watch || !watch->eager)
            continue;
        watch->eager = false;
        offer_pollout(context, watch->fd);
    }
    context->eager_count = 0;
}

static void start_writes(uvws_context *context)
{
    while (context->to_write) {
        uvws_connection *connection = context->to_write;
        context->to_write = connection->next;
        connection->to_write = false;
        if (connection->wsi && connection->state != UVWS_CLOSED)
            lws_callback_on_writable(connection->wsi);
    }
}

/*
 * Lets lws run what is due and says how long it can wait, 0 when something is left to do: bytes
 * that TLS has already decrypted, or that were put aside while reading was paused, raise no event
 * on the descriptor. These are read where `may_read` says so: once in a flush, so that whoever
 * always has more of them gets no more than a turn.
 */
static int run_timers(uvws_context *context, bool may_read)
{
    context->busy++;
    context->serving++;
    int wait = lws_service_adjust_timeout(context->lws, LONGEST_WAIT, 0);
    if (!wait && may_read)
        _lws_plat_service_forced_tsi(context->lws, 0);
    context->serving--;
    context->busy--;
    return wait;
}

/* The loop's timer is only ever moved forward: one that fires early finds nothing due and is set
 * again, which costs less than moving it with every turn of the loop. */
static void set_timer(uvws_context *context, int64_t wait)
{
    if (wait >= LONGEST_WAIT)
        return;
    int64_t due = lws_now_usecs() / 1000 + wait;
    if (context->loop.timer_due && context->loop.timer_due <= due)
        return;
    context->loop.timer_due = due;
    context->loop.ops->timer_set(context, wait);
}

static bool work_is_left(const uvws_context *context)
{
    return uvws_events_pending(context) || context->to_write || context->eager_count ||
           context->adoptions;
}

/* Gives lws what waits for it and lets it run its timers; returns how long it can wait. */
static int write_and_run_timers(uvws_context *context, bool may_read)
{
    uvws_listeners_tidy(context);
    uvws_adoptions_hand_over(context);
    start_writes(context);
    offer_all(context);
    return run_timers(context, may_read);
}

static int flush_rounds(uvws_context *context, bool may_read)
{
    int wait = 0;
    for (int round = 0; round < FLUSH_ROUNDS; round++) {
        bool reads = may_read && round == 0;
        uvws_events_deliver(context);
        if (context->closed)
            break;
        wait = write_and_run_timers(context, reads);
        /* What was read may have been all: that it is is asked once more. */
        bool settled = wait || !reads;
        if (context->closed || (settled && !work_is_left(context)))
            break;
    }
    return wait;
}

static void flush(uvws_context *context, bool may_read)
{
    if (context->forked)
        return;
    uvws_own_thread(context);
    if (context->serving)
        return; /* as above: what called lws comes here next */
    if (context->flushing) {
        /* A callback runs the loop again. What is received has to wait until it returns, but what
         * it sent goes out; lws is not on the stack when Python's callbacks are all that is. */
        if (context->dispatching && context->busy == 1 && !context->closed)
            write_and_run_timers(context, may_read);
        return;
    }
    if (context->closed) {
        finish_close(context); /* by a callback that was not called from here */
        return;
    }
    context->flushing = true;
    int wait = flush_rounds(context, may_read);
    context->flushing = false;
    if (!context->closed) {
        context->loop.awake = false;
        context->loop.ops->sleep(context);
        set_timer(context, work_is_left(context) && !context->dispatching ? 0 : wait);
    }
    finish_close(context);
}

void uvws_flush(uvws_context *context)
{
    flush(context, true);
}

void uvws_timer_due(uvws_context *context)
{
    if (context->closed)
        return;
    context->loop.timer_due = 0;
    uvws_flush(context);
}

static void destroy_lws(uvws_context *context)
{
    struct lws_context *lws = context->lws;
    /* While lws still has the list that they are in. */
    uvws_clients_stop_timers(context);
    for (uvws_listener *listener = context->listeners; listener; listener = listener->next) {
        lws_sul_cancel(&listener->pause);
        uvws_refused_end(listener);
    }
    uvws_timeouts_stop(context);
    /* A client without a descriptor would be forgotten, unless it goes before: that is due. */
    run_timers(context, false);
    context->lws = NULL;
    lws_context_destroy(lws);
    SSL_CTX_free(context->client_tls);
    context->client_tls = NULL;
    uvws_connections_free(context);
    while (context->listeners)
        uvws_listener_free(context->listeners);
}

/* lws must not be destroyed below one of its own calls, nor the structs below one of Python's. */
static void finish_close(uvws_context *context)
{
    if (!context->closed || context->busy || context->flushing || !context->lws)
        return;
    destroy_lws(context);
    uvws_events_free(context); /* nobody is told any more; they hold objects of the user's */
    context->loop.ops->close(context);
    uvws_context_unref(context);
}

int uvws_context_close(uvws_context *context, int loop_is_closed)
{
    if (context->closed)
        return UVWS_OK;
    if (loop_is_closed)
        context->loop.dead = true;
    uvws_live_changed(context, -(int)context->live);
    context->closed = true;
    finish_close(context);
    return UVWS_OK;
}
