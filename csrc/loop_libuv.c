/*
 * The adapter for loops of libuv, by way of the libuv that the loop itself lives in.
 *
 * Three rules that pyuv and uvloop set: a handle's `data` stays NULL (they cast anything else to an
 * object of theirs when they walk the loop), a handle's memory is freed in its close callback and
 * not before, and nothing of this is called once the loop is closed.
 */
#include <assert.h>
#include <dlfcn.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uv_abi.h"
#include "uvws.h"

/* Our part comes first, libuv's handle behind it: from the handle's address to ours by arithmetic.
 */
struct uv_owned_handle {
    uvws_context *context;
    alignas(max_align_t) char handle[];
};

struct uv_owned_watch {
    uvws_watch watch;
    alignas(max_align_t) char handle[];
};

static struct uv_owned_handle *owner_of(uv_handle_t *handle)
{
    return (struct uv_owned_handle *)((char *)handle - offsetof(struct uv_owned_handle, handle));
}

static uvws_watch *watch_of(uv_handle_t *handle)
{
    return &((struct uv_owned_watch *)((char *)handle - offsetof(struct uv_owned_watch, handle)))
                ->watch;
}

static uv_handle_t *handle_of(uvws_watch *watch)
{
    return ((struct uv_owned_watch *)watch)->handle;
}

/* The functions of one library; a process has two or three at the most, and they stay loaded. */
struct uv_library {
    struct uv_library *next;
    struct uv_table table;
    char path[];
};
static struct uv_library *libraries;
static pthread_mutex_t libraries_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const function_names[] = {
    "uv_version",      "uv_handle_size",   "uv_backend_fd",   "uv_now",        "uv_close",
    "uv_ref",          "uv_unref",         "uv_async_init",   "uv_async_send", "uv_check_init",
    "uv_check_start",  "uv_check_stop",    "uv_poll_init",    "uv_poll_start", "uv_poll_stop",
    "uv_prepare_init", "uv_prepare_start", "uv_prepare_stop", "uv_timer_init", "uv_timer_start",
    "uv_timer_stop",   "uv_update_time",
};
#define FUNCTIONS (sizeof(function_names) / sizeof(function_names[0]))
static_assert(sizeof(struct uv_table) == FUNCTIONS * sizeof(void *),
              "function_names lists the members of struct uv_table in their order");

static bool resolve(void *library, struct uv_table *table, char *error, size_t error_size)
{
    for (size_t n = 0; n < FUNCTIONS; n++) {
        void *function = dlsym(library, function_names[n]);
        if (!function) {
            snprintf(error, error_size, "the loop's libuv does not export %s", function_names[n]);
            return false;
        }
        memcpy((char *)table + n * sizeof(void *), &function, sizeof(function));
    }
    return true;
}

static struct uv_library *library_load(const char *path, char *error, size_t error_size)
{
    /* NOLOAD: the loop exists, so its library is loaded; a second copy would be a different one. */
    void *handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (!handle) {
        snprintf(error, error_size, "the loop's libuv is not loaded from %s", path);
        return NULL;
    }
    struct uv_library *library = calloc(1, sizeof(*library) + strlen(path) + 1);
    if (!library)
        snprintf(error, error_size, "out of memory");
    if (library && resolve(handle, &library->table, error, error_size)) {
        strcpy(library->path, path);
        return library;
    }
    free(library);
    dlclose(handle);
    return NULL;
}

static const struct uv_table *library_find(const char *path, char *error, size_t error_size)
{
    pthread_mutex_lock(&libraries_lock);
    struct uv_library *library = libraries;
    while (library && strcmp(library->path, path) != 0)
        library = library->next;
    if (!library) {
        library = library_load(path, error, error_size);
        if (library) {
            library->next = libraries;
            libraries = library;
        }
    }
    pthread_mutex_unlock(&libraries_lock);
    return library ? &library->table : NULL;
}

int uvws_uv_loop_check(void *uv_loop, const char *uv_library, int backend_fd, char *error,
                       size_t error_size)
{
    const struct uv_table *uv = library_find(uv_library, error, error_size);
    if (!uv)
        return UVWS_FAILED;
    if (uv->version() >> 16 != 1) {
        snprintf(error, error_size, "libuv %u.x is not supported", uv->version() >> 16);
        return UVWS_FAILED;
    }
    if (uv->backend_fd(uv_loop) != backend_fd) {
        snprintf(error, error_size, "the address found is not that of the loop");
        return UVWS_FAILED;
    }
    return UVWS_OK;
}

void *uvws_uv_default_loop(const char *uv_library)
{
    void *library = dlopen(uv_library, RTLD_NOW | RTLD_NOLOAD);
    if (!library)
        return NULL;
    void *symbol = dlsym(library, "uv_default_loop");
    uv_loop_t *(*default_loop)(void);
    memcpy(&default_loop, &symbol, sizeof(symbol));
    void *loop = symbol ? default_loop() : NULL;
    dlclose(library);
    return loop;
}

static void on_poll(uv_handle_t *handle, int status, int events)
{
    uvws_watch *watch = watch_of(handle);
    uvws_context *context = watch->context;
    if (status < 0) {
        /* libuv has stopped the handle. What is wrong is for recv() or getsockopt() to say, so lws
         * gets to try whatever it waits for. */
        watch->armed = 0;
        events = UVWS_READABLE | (watch->wanted & UVWS_WRITABLE);
    }
    uvws_descriptor_ready(context, watch->fd, events);
}

static uvws_watch *libuv_watch_new(uvws_context *context, int fd)
{
    const struct uv_table *uv = context->loop.uv;
    struct uv_owned_watch *owned = calloc(1, sizeof(*owned) + uv->handle_size(UV_POLL));
    if (!owned)
        return NULL;
    if (uv->poll_init(context->loop.uv_loop, owned->handle, fd)) {
        free(owned);
        return NULL;
    }
    /* Only the async handle keeps the loop alive: one place decides. */
    uv->unref(owned->handle);
    atomic_fetch_add(&context->references, 1);
    return &owned->watch;
}

static int libuv_watch_set(uvws_watch *watch, int events)
{
    const struct uvws_loop *loop = &watch->context->loop;
    if (loop->dead)
        return 0;
    return events ? loop->uv->poll_start(handle_of(watch), events, on_poll)
                  : loop->uv->poll_stop(handle_of(watch));
}

static void on_watch_closed(uv_handle_t *handle)
{
    uvws_watch *watch = watch_of(handle);
    uvws_context *context = watch->context;
    free(watch);
    uvws_context_unref(context);
}

static void libuv_watch_close(uvws_watch *watch)
{
    const struct uvws_loop *loop = &watch->context->loop;
    if (loop->dead) {
        on_watch_closed(handle_of(watch));
        return;
    }
    /* At once, since the descriptor is closed next; the handle follows when the loop turns. */
    loop->uv->poll_stop(handle_of(watch));
    loop->uv->close(handle_of(watch), on_watch_closed);
}

/* What is due waits until right before the loop blocks. An older libuv calls a timer that is set to
 * "at once" again before it does anything else, so that one connection with ever more to read would
 * have the loop to itself. Callbacks of the user's come before that, on this thread. */
static void on_timer(uv_handle_t *handle)
{
    uvws_context *context = owner_of(handle)->context;
    if (context->forked)
        return;
    uvws_own_thread(context);
    context->loop.timer_due = 0;
    uvws_wake(context);
}

static void on_before_or_after_poll(uv_handle_t *handle)
{
    uvws_context *context = owner_of(handle)->context;
    uvws_flush(context);
}

static void on_async(uv_handle_t *handle)
{
    uvws_context *context = owner_of(handle)->context;
    if (context->forked)
        return;
    uvws_own_thread(context);
    context->busy++;
    uvws_py_called_soon(context->handle);
    context->busy--;
    uvws_flush(context);
}

static void libuv_timer_set(uvws_context *context, int64_t milliseconds)
{
    const struct uvws_loop *loop = &context->loop;
    if (loop->dead)
        return;
    if (milliseconds < 0) {
        loop->uv->timer_stop(loop->timer->handle);
        return;
    }
    /* Without it the timeout counts from when this turn of the loop began. */
    loop->uv->update_time(loop->uv_loop);
    loop->uv->timer_start(loop->timer->handle, on_timer, (uint64_t)milliseconds, 0);
}

/* Before the loop blocks for what Python sent, and right after it for what came in. */
static void libuv_wake(uvws_context *context)
{
    const struct uvws_loop *loop = &context->loop;
    if (loop->dead)
        return;
    loop->uv->prepare_start(loop->prepare->handle, on_before_or_after_poll);
    loop->uv->check_start(loop->check->handle, on_before_or_after_poll);
}

static void libuv_sleep(uvws_context *context)
{
    const struct uvws_loop *loop = &context->loop;
    if (loop->dead)
        return;
    loop->uv->prepare_stop(loop->prepare->handle);
    loop->uv->check_stop(loop->check->handle);
}

static void libuv_keep_alive(uvws_context *context, bool on)
{
    const struct uvws_loop *loop = &context->loop;
    if (loop->dead || !loop->may_keep_alive)
        return;
    if (on)
        loop->uv->ref(loop->async->handle);
    else
        loop->uv->unref(loop->async->handle);
}

static int libuv_call_soon(uvws_context *context)
{
    const struct uvws_loop *loop = &context->loop;
    return loop->dead ? UVWS_FAILED : loop->uv->async_send(loop->async->handle);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct uv_owned_handle *owned = owner_of(handle);
    uvws_context *context = owned->context;
    free(owned);
    uvws_context_unref(context);
}

static void close_handle(uvws_context *context, struct uv_owned_handle **owned)
{
    if (!*owned)
        return;
    uv_handle_t *handle = (*owned)->handle;
    *owned = NULL;
    if (context->loop.dead)
        on_handle_closed(handle);
    else
        context->loop.uv->close(handle, on_handle_closed);
}

static void libuv_close(uvws_context *context)
{
    struct uvws_loop *loop = &context->loop;
    close_handle(context, &loop->timer);
    close_handle(context, &loop->prepare);
    close_handle(context, &loop->check);
    close_handle(context, &loop->async);
}

static const struct uvws_loop_ops libuv_ops = {
    .watch_new = libuv_watch_new,
    .watch_set = libuv_watch_set,
    .watch_close = libuv_watch_close,
    .timer_set = libuv_timer_set,
    .wake = libuv_wake,
    .sleep = libuv_sleep,
    .keep_alive = libuv_keep_alive,
    .call_soon = libuv_call_soon,
    .close = libuv_close,
};

static struct uv_owned_handle *handle_new(uvws_context *context, int type)
{
    struct uv_owned_handle *owned = calloc(1, sizeof(*owned) + context->loop.uv->handle_size(type));
    if (owned)
        owned->context = context;
    return owned;
}

/* An initialised handle is libuv's until its close callback; one that is not is just memory. */
static bool handle_ready(uvws_context *context, struct uv_owned_handle **owned, int result)
{
    if (result) {
        context->loop.refusal = -result;
        free(*owned);
        *owned = NULL;
        return false;
    }
    context->loop.uv->unref((*owned)->handle);
    atomic_fetch_add(&context->references, 1);
    return true;
}

static bool open_handles(uvws_context *context)
{
    struct uvws_loop *loop = &context->loop;
    const struct uv_table *uv = loop->uv;
    return (loop->timer = handle_new(context, UV_TIMER)) &&
           handle_ready(context, &loop->timer,
                        uv->timer_init(loop->uv_loop, loop->timer->handle)) &&
           (loop->prepare = handle_new(context, UV_PREPARE)) &&
           handle_ready(context, &loop->prepare,
                        uv->prepare_init(loop->uv_loop, loop->prepare->handle)) &&
           (loop->check = handle_new(context, UV_CHECK)) &&
           handle_ready(context, &loop->check,
                        uv->check_init(loop->uv_loop, loop->check->handle)) &&
           (loop->async = handle_new(context, UV_ASYNC)) &&
           handle_ready(context, &loop->async,
                        uv->async_init(loop->uv_loop, loop->async->handle, on_async));
}

bool uvws_loop_open_libuv(uvws_context *context, void *uv_loop, const char *library,
                          bool may_keep_alive, char *error, size_t error_size)
{
    struct uvws_loop *loop = &context->loop;
    loop->ops = &libuv_ops;
    loop->uv_loop = uv_loop;
    loop->may_keep_alive = may_keep_alive;
    loop->uv = library_find(library, error, error_size);
    if (!loop->uv)
        return false;
    if (open_handles(context))
        return true;
    snprintf(error, error_size, "libuv could not make the handles that a context needs");
    libuv_close(context);
    return false;
}
