/*
 * Time limits on what a peer is slow to do, all of them watched by one timer.
 *
 * A timer for each connection would have to be moved with each byte that comes, and lws keeps its
 * timers in a list that is searched from the front. So there is a sweep: it looks at every
 * connection, four times within the shortest limit that counts for any of them, and does not run
 * where none does.
 *
 * Its clock stands still while something else keeps the loop from turning. What peers have sent
 * meanwhile waits in the kernel, and is no silence of theirs.
 */
#include "uvws.h"

#define SWEEPS     4  /* within the shortest limit */
#define SHORTEST   10 /* between two sweeps; milliseconds, as are all times here */
#define BODY_SWEEP 1000
#define US_PER_MS  1000

static int64_t shorter(int64_t one, int64_t other)
{
    return !other || (one && one < other) ? one : other;
}

/* How often a connection is to be looked at; 0: never. */
static int64_t period_of(const uvws_connection *connection)
{
    const uvws_limits *limits = &connection->limits;
    int64_t limit = 0;
    if (connection->state == UVWS_CONNECTING && !connection->is_client) {
        if (connection->handshake)
            return connection->handshake->body_left ? BODY_SWEEP : 0;
        limit = limits->handshake_timeout;
    }
    if (!limit)
        return 0;
    return limit / SWEEPS > SHORTEST ? limit / SWEEPS : SHORTEST;
}

/* It goes without a word. */
static void drop(uvws_connection *connection)
{
    lws_set_timeout(connection->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
}

/* The time counts from the first sweep that finds the connection, however much has come of it. */
static void check_handshake(uvws_connection *connection)
{
    int64_t now = connection->context->clock;
    const struct handshake *handshake = connection->handshake;
    if (!connection->wsi || connection->close_code)
        return; /* lws does not have it yet, or it was refused and lws sees to its end */
    if (handshake) {
        if (handshake->body_left && lws_now_usecs() > handshake->body_until)
            drop(connection);
    } else if (!connection->heard_at) {
        connection->heard_at = now;
    } else if (connection->limits.handshake_timeout &&
               now - connection->heard_at >= connection->limits.handshake_timeout) {
        connection->timed_out = true;
        drop(connection);
    }
}

static void check(uvws_connection *connection)
{
    if (connection->state == UVWS_CONNECTING && !connection->is_client)
        check_handshake(connection);
}

/* By the time since the last sweep, less what this one is late. */
static void advance_clock(uvws_context *context)
{
    lws_usec_t now = lws_now_usecs();
    lws_usec_t late = now - context->sweep_due;
    lws_usec_t allowed = context->sweep_period * US_PER_MS;
    lws_usec_t passed = now - context->swept_at - (late > allowed ? late - allowed : 0);
    context->clock += passed > US_PER_MS ? passed / US_PER_MS : 1;
    context->swept_at = now;
}

static void sweep(lws_sorted_usec_list_t *timer);

static void schedule(uvws_context *context, int64_t period)
{
    context->sweep_period = period;
    context->sweep_due = lws_now_usecs() + period * US_PER_MS;
    lws_sul_schedule(context->lws, 0, &context->sweep, sweep, period * US_PER_MS);
    uvws_wake(context);
}

static void sweep(lws_sorted_usec_list_t *timer)
{
    uvws_context *context = lws_container_of(timer, uvws_context, sweep);
    int64_t period = 0;
    advance_clock(context);
    uvws_connection *connection = NULL;
    while ((connection = uvws_connection_after(context, connection))) {
        check(connection);
        if (connection->in_use)
            period = shorter(period, period_of(connection));
    }
    context->sweep_period = 0;
    if (period)
        schedule(context, period);
}

/* To be called where other limits begin to count for a connection. */
void uvws_timeouts_begin(uvws_connection *connection)
{
    uvws_context *context = connection->context;
    int64_t period = period_of(connection);
    if (!period || (context->sweep_period && context->sweep_period <= period))
        return;
    if (!context->sweep_period)
        context->swept_at = lws_now_usecs();
    schedule(context, period);
}

void uvws_timeouts_stop(uvws_context *context)
{
    lws_sul_cancel(&context->sweep);
}
