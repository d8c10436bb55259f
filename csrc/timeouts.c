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
#include <string.h>
#include <sys/socket.h>

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
    if (connection->state == UVWS_CONNECTED) {
        limit = shorter(limits->idle_timeout, limits->ping_interval);
        if (limits->ping_interval)
            limit = shorter(limit, limits->ping_timeout);
    } else if (connection->state == UVWS_CONNECTING && !connection->is_client) {
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

/* Whether the kernel has nothing from the peer that was not read yet. */
static bool is_silent(const uvws_connection *connection)
{
    char byte;
    return recv(lws_get_socket_fd(connection->wsi), &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

static void hear(uvws_connection *connection)
{
    connection->heard = false;
    connection->heard_at = connection->context->clock;
    connection->pinged_at = 0;
}

static void ping(uvws_connection *connection)
{
    connection->pinged_at = connection->context->clock;
    connection->ping_sent = lws_now_usecs();
    uvws_tx_ping(connection, connection->context->ping, UVWS_PING_SIZE);
}

/* What the peer is told it may yet read, where it was only slow. */
static void end_dead(uvws_connection *connection)
{
    uvws_tx_goodbye(connection, LWS_CLOSE_STATUS_UNEXPECTED_CONDITION, "keepalive ping timeout");
    uvws_event(connection->context, UVWS_EVENT_PING_TIMEOUT, connection->slot,
               connection->limits.ping_timeout, 0, 0);
    uvws_connection_closing(connection);
    uvws_tx_clear(connection);
    drop(connection);
}

static bool is_past(int64_t limit, int64_t time)
{
    return limit && time >= limit;
}

/* When the peer was heard of is rounded up to the next sweep. While it is not read from, nobody can
 * say that it is silent. */
static void check_open(uvws_connection *connection)
{
    const uvws_limits *limits = &connection->limits;
    int64_t now = connection->context->clock;
    if (connection->heard || connection->deaf) {
        hear(connection);
        return;
    }
    int64_t silence = now - connection->heard_at;
    bool dead = connection->pinged_at && is_past(limits->ping_timeout, now - connection->pinged_at);
    bool idle = is_past(limits->idle_timeout, silence);
    if ((dead || idle) && !is_silent(connection))
        hear(connection);
    else if (dead)
        end_dead(connection);
    else if (idle)
        uvws_connection_close(connection, LWS_CLOSE_STATUS_GOINGAWAY, "idle timeout");
    else if (!connection->pinged_at && is_past(limits->ping_interval, silence))
        ping(connection);
}

static void check(uvws_connection *connection)
{
    if (connection->state == UVWS_CONNECTED)
        check_open(connection);
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

/* A Pong with a payload that others cannot know of answers a Ping of ours. */
void uvws_timeouts_init(uvws_context *context)
{
    uint8_t key[4];
    for (size_t n = 0; n < UVWS_PING_SIZE; n += sizeof(key)) {
        if (!uvws_frame_mask_key(context, key))
            return;
        memcpy(context->ping + n, key, sizeof(key));
    }
}

bool uvws_timeouts_is_ours(const uvws_context *context, const char *payload, size_t size)
{
    return size == UVWS_PING_SIZE && !memcmp(payload, context->ping, size);
}

void uvws_timeouts_stop(uvws_context *context)
{
    lws_sul_cancel(&context->sweep);
}

void uvws_timeouts_answered(uvws_connection *connection)
{
    if (connection->ping_sent)
        connection->latency = lws_now_usecs() - connection->ping_sent;
    connection->ping_sent = 0;
}
