/* Making a context, and freeing it once both Python and the loop have let go of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "uvws.h"
#include "uvws_build.h" /* build_lws.py writes it */

/* One read takes at most this much. Bundled lws only: see the patch on receive buffers. */
#define READ_SIZE (128 * 1024)
/* What lws without that patch sets aside for each connection as well. */
#define READ_SIZE_UNPATCHED 16384
/* More descriptors than this are no use to one thread; see limit_descriptors(). */
#define DESCRIPTORS_MAX 1048576

#ifdef UVWS_BUNDLED_LWS
#define SERVICE_BUFFER READ_SIZE
#else
#define SERVICE_BUFFER READ_SIZE_UNPATCHED
#endif

const char *uvws_lws_version(void)
{
    return lws_get_library_version();
}

const char *uvws_lws_patches(void)
{
    return UVWS_LWS_PATCHES;
}

int uvws_context_call_soon(uvws_context *context)
{
    return context->loop.ops->call_soon(context);
}

static void context_free(uvws_context *context)
{
    uvws_events_free(context);
    uvws_tx_free_spares(context);
    uvws_deflate_free_spares(context);
    uvws_buffer_free(&context->spare_message);
    uvws_connections_free_slabs(context);
    free(context->watches);
    free(context->eager);
    free(context);
}

/* The network side or one of the loop's handles lets go. The struct itself is Python's to free:
 * objects of the user's may point at connections in it until then. */
void uvws_context_unref(uvws_context *context)
{
    if (atomic_fetch_sub(&context->references, 1) != 1)
        return;
    if (context->handle)
        uvws_py_released(context->handle);
    else
        context_free(context);
}

void uvws_context_release(uvws_context *context)
{
    context_free(context);
}

/* No pings and no hang-ups of lws's own: it would arm a timer for each connection. */
const lws_retry_bo_t uvws_no_keepalive = {.secs_since_valid_ping = 0};

void uvws_vhost_info(uvws_context *context, struct lws_context_creation_info *info)
{
    *info = (struct lws_context_creation_info){
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = uvws_protocols,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .user = context,
        .retry_and_idle_policy = &uvws_no_keepalive,
        .timeout_secs = UVWS_NEVER,
        .timeout_secs_ah_idle = UVWS_NEVER,
        .connect_timeout_secs = UVWS_NEVER,
        .max_http_header_data = UVWS_HEAD_MAX,
        .pt_serv_buf_size = SERVICE_BUFFER,
        .event_lib_custom = &uvws_event_library,
#ifdef LWS_CLIENT_HTTP_PROXYING
        /* A proxy without address or port is none; NULL has lws look into the environment. */
        .http_proxy_address = ":0",
#endif
#ifdef LWS_WITH_SOCKS5
        .socks_proxy_address = ":0",
#endif
    };
}

/* lws makes tables as long as RLIMIT_NOFILE, which a container's runtime may have set to 2^30. Its
 * own option against that (fd_limit_per_thread) makes every look-up linear, so the limit it sees
 * while it makes them is what is lowered. */
static struct lws_context *create_lws(uvws_context *context,
                                      const struct lws_context_creation_info *info)
{
    struct rlimit limit;
    struct rlimit lower;
    bool lowered = false;
    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur > DESCRIPTORS_MAX) {
        lower = limit;
        lower.rlim_cur = DESCRIPTORS_MAX;
        lowered = !setrlimit(RLIMIT_NOFILE, &lower);
    }
    context->descriptors_max = (int)sysconf(_SC_OPEN_MAX);
    struct lws_context *lws = lws_create_context(info);
    if (lowered)
        setrlimit(RLIMIT_NOFILE, &limit);
    return lws;
}

/* 0, or what the system says when it is asked for the two descriptors that lws needs: lws does not
 * tell why it failed. */
static int missing_descriptors(void)
{
    int first = eventfd(0, EFD_CLOEXEC);
    int second = first < 0 ? -1 : eventfd(0, EFD_CLOEXEC);
    int missing = second < 0 ? errno : 0;
    if (first >= 0)
        close(first);
    if (second >= 0)
        close(second);
    return missing;
}

static bool open_lws(uvws_context *context, char *error, size_t error_size)
{
    struct lws_context_creation_info info;
    void *loops[1] = {context};
    uvws_vhost_info(context, &info);
    info.foreign_loops = loops;
    /* Never LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT: see tls.c. */
    context->lws = create_lws(context, &info);
    if (!context->lws || context->unwatched) {
        snprintf(error, error_size, "libwebsockets could not make a context");
        return false;
    }
    /* The one for plain servers comes first: see tls.c on the vhost that lws picks by name. */
    uvws_vhost_info(context, &info);
    info.vhost_name = "\1server";
    info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
    context->server_vhost = lws_create_vhost(context->lws, &info);
    uvws_vhost_info(context, &info);
    info.vhost_name = "\1client";
    context->client_vhost = lws_create_vhost(context->lws, &info);
    if (context->server_vhost && context->client_vhost)
        return true;
    snprintf(error, error_size, "libwebsockets could not make a vhost");
    return false;
}

uvws_context *uvws_context_new(void *handle, void *uv_loop, const char *uv_library, int keep_alive,
                               char *error, size_t error_size)
{
    uvws_context *context = calloc(1, sizeof(*context));
    int refused;
    if (!context) {
        errno = 0;
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    context->handle = handle;
    context->queue = &context->queues[0];
    atomic_init(&context->references, 1); /* the network side's, until it is closed */
    uvws_own_thread(context);
    if (!uv_loop)
        uvws_loop_open_python(context);
    else if (!uvws_loop_open_libuv(context, uv_loop, uv_library, keep_alive, error, error_size))
        goto fail;
    uvws_timeouts_init(context);
    if (open_lws(context, error, error_size)) {
        /* The first thing that the loop does: it tells which thread runs it. */
        context->loop.ops->timer_set(context, 0);
        return context;
    }
fail:
    context->closed = true;
    refused = context->loop.refusal ? context->loop.refusal : missing_descriptors();
    if (context->lws)
        lws_context_destroy(context->lws);
    if (context->loop.ops)
        context->loop.ops->close(context);
    context->handle = NULL; /* nobody is told; the struct goes with the last handle */
    uvws_context_unref(context);
    errno = refused;
    return NULL;
}

int uvws_context_say_goodbye(uvws_context *context, int code)
{
    int count = 0;
    uvws_connection *connection = NULL;
    while ((connection = uvws_connection_after(context, connection)))
        if (connection->announced)
            count += uvws_tx_goodbye(connection, code, "");
    return count;
}
