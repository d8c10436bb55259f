/*
 * The one narrow interface behind which all event loops stand: watch this descriptor, stop, a
 * timer, a wake-up before the loop blocks. loop_libuv.c and loop_python.c implement it.
 */
#ifndef UVWS_LOOP_H
#define UVWS_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

typedef struct uvws_watch uvws_watch;
typedef struct uvws_loop uvws_loop;
struct uv_table;

/*
 * One watched descriptor. The loop owns the memory once the watch is closed: libuv closes handles
 * asynchronously and reads them until then.
 */
struct uvws_watch {
    uvws_context *context;
    uvws_connection *connection; /* borrowed; NULL for lws's own descriptors */
    uvws_listener *listener;     /* borrowed; NULL for anything but a listening socket */
    int fd;
    uint8_t wanted;       /* UVWS_READABLE | UVWS_WRITABLE, as lws asks */
    uint8_t armed;        /* what the loop was told */
    uint8_t tunnel_wants; /* while a proxy is spoken to, this instead of `wanted`; 0: nobody is */
    bool eager;           /* in the context's list of descriptors to be offered POLLOUT */
};

struct uvws_loop_ops {
    uvws_watch *(*watch_new)(uvws_context *context, int fd);
    int (*watch_set)(uvws_watch *watch, int events);
    void (*watch_close)(uvws_watch *watch);
    void (*timer_set)(uvws_context *context, int64_t milliseconds);
    /* Asks for uvws_flush() before the loop blocks. */
    void (*wake)(uvws_context *context);
    void (*sleep)(uvws_context *context);
    void (*keep_alive)(uvws_context *context, bool on);
    int (*call_soon)(uvws_context *context);
    void (*close)(uvws_context *context);
};

struct uvws_loop {
    const struct uvws_loop_ops *ops;
    int64_t timer_due; /* on lws's clock, in milliseconds; 0 when the timer is not set */
    bool awake;
    bool alive;
    int refusal; /* errno: why libuv could not make a handle */
    bool dead;   /* the loop was closed under us: its functions are not to be called */
    /* libuv only. Handles are owned; freed in their close callbacks. */
    const struct uv_table *uv;
    void *uv_loop;
    bool may_keep_alive;
    struct uv_owned_handle *timer;
    struct uv_owned_handle *prepare;
    struct uv_owned_handle *check;
    struct uv_owned_handle *async;
};

bool uvws_loop_open_libuv(uvws_context *context, void *uv_loop, const char *library,
                          bool may_keep_alive, char *error, size_t error_size);
void uvws_loop_open_python(uvws_context *context);

/* What the loops call; service.c and context.c implement them. */
void uvws_context_unref(uvws_context *context);

#endif
