/* The adapter for loops that Python drives: the wishes go out as callbacks. */
#include <stdlib.h>

#include "uvws.h"

static uvws_watch *python_watch_new(uvws_context *context, int fd)
{
    (void)context;
    (void)fd;
    return calloc(1, sizeof(uvws_watch));
}

static int python_watch_set(uvws_watch *watch, int events)
{
    if (!watch->context->loop.dead)
        uvws_py_watch(watch->context->handle, watch->fd, events);
    return 0;
}

static void python_watch_close(uvws_watch *watch)
{
    if (watch->armed)
        python_watch_set(watch, 0);
    free(watch);
}

static void python_timer_set(uvws_context *context, int64_t milliseconds)
{
    if (!context->loop.dead)
        uvws_py_timer(context->handle, milliseconds);
}

static void python_wake(uvws_context *context)
{
    if (!context->loop.dead)
        uvws_py_wake(context->handle);
}

static void python_sleep(uvws_context *context)
{
    (void)context;
}

static void python_keep_alive(uvws_context *context, bool on)
{
    (void)context;
    (void)on;
}

static int python_call_soon(uvws_context *context)
{
    (void)context;
    return UVWS_FAILED; /* Python has the loop's own call_soon_threadsafe */
}

static void python_close(uvws_context *context)
{
    python_timer_set(context, -1);
    context->loop.dead = true;
}

static const struct uvws_loop_ops python_ops = {
    .watch_new = python_watch_new,
    .watch_set = python_watch_set,
    .watch_close = python_watch_close,
    .timer_set = python_timer_set,
    .wake = python_wake,
    .sleep = python_sleep,
    .keep_alive = python_keep_alive,
    .call_soon = python_call_soon,
    .close = python_close,
};

void uvws_loop_open_python(uvws_context *context)
{
    context->loop.ops = &python_ops;
}
