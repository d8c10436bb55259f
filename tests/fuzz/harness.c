#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#define DESCRIPTORS_MAX 256
/* A core that has more to do than that without anybody giving it something spins. */
#define TURNS_MAX 20000
/* Longer than any time limit of the core. */
#define PATIENCE 120000
/* As in cpython.c. */
#define BYTES_MIN 32768
#define BYTES_MAX (64u << 20)

static struct harness the_harness = {.peer = -1, .server_fd = -1};
static int interest[DESCRIPTORS_MAX];
static int64_t clock_us = 1000000;

_Noreturn void harness_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

/* --- What is not to change from run to run -----------------------------------------------------
 */

lws_usec_t __wrap_lws_now_usecs(void);
size_t __wrap_lws_get_random(struct lws_context *context, void *buf, size_t len);
ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags);

lws_usec_t __wrap_lws_now_usecs(void)
{
    return clock_us;
}

size_t __wrap_lws_get_random(struct lws_context *context, void *buf, size_t len)
{
    (void)context;
    memset(buf, 0x5A, len);
    return len;
}

ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags)
{
    uint8_t *bytes = buffer;
    (void)flags;
    for (size_t n = 0; n < size; n++)
        bytes[n] = (uint8_t)(n * 37 + 11);
    return (ssize_t)size;
}

/* --- Python's own objects: memory is what matters of them ---------------------------------------
 */

bool uvws_cpython_bytes_wanted(const uvws_context *context, size_t size)
{
    (void)context;
    return size >= BYTES_MIN && size <= BYTES_MAX;
}

struct bytes_object {
    size_t size;
    char data[];
};

void *uvws_cpython_bytes(size_t size, char **data)
{
    struct bytes_object *object = malloc(sizeof(*object) + size);
    if (!object)
        return NULL;
    object->size = size;
    *data = object->data;
    return object;
}

void uvws_cpython_release(void *object)
{
    free(object);
}

void uvws_cpython_events(uvws_context *context, const struct event_queue *queue)
{
    (void)context;
    (void)queue;
    CHECK(!"there is no Python");
}

/* --- Callbacks into Python ----------------------------------------------------------------------
 */

void harness_send(struct harness *harness, int kind, const void *data, size_t size)
{
    if (!harness->connection)
        return;
    int64_t result = uvws_send(harness->connection, kind, size ? data : "", size);
    if (result >= 0)
        records_add(&harness->sent, (uint8_t)kind, data, size);
}

static void message(struct harness *harness, int kind, const void *data, size_t size)
{
    CHECK(harness->opened && !harness->closed);
    records_add(&harness->messages, (uint8_t)kind, data, size);
    if (harness->echo)
        harness_send(harness, kind, data, size);
}

static void large_message(struct harness *harness, int kind, const int64_t *record)
{
    void *data = (void *)(intptr_t)record[1];
    message(harness, kind, data, (size_t)record[2]);
    uvws_recycle(harness->context, data, (size_t)record[3]);
}

static void ended(struct harness *harness, int code, const char *reason, size_t size)
{
    CHECK(harness->opened && !harness->closed);
    harness->closed = true;
    harness->code = code;
    bytes_append(&harness->reason, reason, size);
    uvws_end_seen(harness->connection);
    uvws_connection_release(harness->connection);
    harness->connection = NULL;
}

static void connect_failed(struct harness *harness, int64_t third)
{
    CHECK(!harness->opened && !harness->failed);
    harness->failed = true;
    harness->failure = (int)(third & 0xFF);
    harness->failure_status = (int)(third >> 8);
    uvws_connection *connection = harness->connection;
    harness->connection = NULL;
    uvws_connect_abort(connection);
}

static void opened(struct harness *harness, uint32_t slot)
{
    CHECK(!harness->opened && !harness->failed);
    harness->opened = true;
    harness->connection = uvws_connection_at(harness->context, slot);
}

void uvws_py_events(void *handle, const int64_t *records, size_t count, const char *arena,
                    size_t arena_size)
{
    struct harness *harness = handle;
    for (size_t n = 0; n < count; n++) {
        const int64_t *record = records + n * UVWS_EVENT_WORDS;
        int kind = (int)(record[0] & 0xFF);
        uint32_t slot = (uint32_t)(record[0] >> 8);
        /* Those whose second and third words are a place in the arena. */
        const char *payload = arena ? arena + record[1] : NULL;
        size_t size = (size_t)record[2];
        switch (kind) {
        case UVWS_EVENT_TEXT:
        case UVWS_EVENT_BINARY:
            CHECK((size_t)record[1] + size <= arena_size);
            message(harness, kind == UVWS_EVENT_TEXT ? UVWS_TEXT : UVWS_BINARY, payload, size);
            break;
        case UVWS_EVENT_LARGE_TEXT:
        case UVWS_EVENT_LARGE_BINARY:
            large_message(harness, kind == UVWS_EVENT_LARGE_TEXT ? UVWS_TEXT : UVWS_BINARY, record);
            break;
        case UVWS_EVENT_BYTES: {
            struct bytes_object *object = (struct bytes_object *)(intptr_t)record[1];
            message(harness, UVWS_BINARY, object->data, object->size);
            uvws_cpython_release(object);
            break;
        }
        case UVWS_EVENT_ACCEPTED:
        case UVWS_EVENT_CONNECTED:
        case UVWS_EVENT_ADOPTED:
            opened(harness, slot);
            break;
        case UVWS_EVENT_CLOSED:
            CHECK((size_t)record[1] + size <= arena_size);
            ended(harness, (int)(record[3] & 0xFFFF), payload, size);
            break;
        case UVWS_EVENT_CONNECT_FAILED:
            CHECK((size_t)record[1] + size <= arena_size);
            connect_failed(harness, record[3]);
            break;
        case UVWS_EVENT_PONG:
            records_add(&harness->pongs, UVWS_PONG, payload, size);
            break;
        case UVWS_EVENT_MESSAGE_TOO_BIG:
            harness->too_big = true;
            break;
        case UVWS_EVENT_CLOSING:
            uvws_end_seen(harness->connection);
            break;
        default:
            break; /* DRAIN, RESUMED, UNPIN: nothing hangs on them here */
        }
    }
}

int uvws_py_handshake(void *handle, uvws_connection *connection, uint32_t slot, uint32_t listener,
                      const char *head, size_t size)
{
    struct harness *harness = handle;
    (void)slot;
    (void)listener;
    CHECK(!size || !head[size - 1]);
    connection->limits.max_message_size = harness->limit;
    if (harness->deflate)
        CHECK(!uvws_deflate_negotiated(connection, &harness->deflate_options));
    return harness->refuse;
}

int uvws_py_negotiate(void *handle, uint32_t slot, const char *head, size_t size)
{
    struct harness *harness = handle;
    CHECK(!size || !head[size - 1]);
    uvws_connection *connection = uvws_connection_at(harness->context, slot);
    if (harness->deflate)
        CHECK(!uvws_deflate_negotiated(connection, &harness->deflate_options));
    return !harness->deflate;
}

void uvws_py_request(void *handle, uvws_connection *connection, uint32_t listener,
                     const char *method, const char *head, size_t size)
{
    struct harness *harness = handle;
    (void)listener;
    CHECK(method[0] && (!size || !head[size - 1]));
    harness->requests++;
    if (harness->response)
        uvws_respond(connection, harness->response, strlen(harness->response));
}

void uvws_py_watch(void *handle, int fd, int events)
{
    struct harness *harness = handle;
    CHECK(fd >= 0 && fd < DESCRIPTORS_MAX);
    harness->watches += (size_t)(events != 0) - (size_t)(interest[fd] != 0);
    interest[fd] = events;
}

void uvws_py_timer(void *handle, int64_t milliseconds)
{
    struct harness *harness = handle;
    harness->timer_due = milliseconds < 0 ? -1 : clock_us / 1000 + milliseconds;
}

void uvws_py_wake(void *handle)
{
    ((struct harness *)handle)->awake = true;
}

void uvws_py_called_soon(void *handle)
{
    (void)handle;
}

void uvws_py_released(void *handle)
{
    uvws_context_release(((struct harness *)handle)->context);
}

void uvws_py_log(int level, const char *line, size_t size)
{
    (void)level;
    if (getenv("UVWS_FUZZ_LOG"))
        fprintf(stderr, "%.*s\n", (int)size, line);
}

/* --- The loop ------------------------------------------------------------------------------------
 */

static bool peer_writes(struct harness *harness)
{
    struct bytes *out = &harness->to_core;
    if (harness->peer < 0 || harness->to_core_at == out->size)
        return false;
    ssize_t count = send(harness->peer, out->data + harness->to_core_at,
                         out->size - harness->to_core_at, MSG_NOSIGNAL);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (count < 0)
        harness->to_core_at = out->size; /* nobody is there any more */
    else
        harness->to_core_at += (size_t)count;
    if (harness->to_core_at == out->size)
        harness->to_core_at = out->size = 0;
    return true;
}

static bool peer_reads(struct harness *harness)
{
    static uint8_t piece[65536];
    if (harness->peer < 0 || !harness->peer_reads || harness->peer_saw_end)
        return false;
    ssize_t count = recv(harness->peer, piece, sizeof(piece), 0);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (count <= 0)
        harness->peer_saw_end = true;
    else
        bytes_append(&harness->from_core, piece, (size_t)count);
    return true;
}

static bool core_works(struct harness *harness)
{
    struct pollfd set[DESCRIPTORS_MAX];
    nfds_t count = 0;
    bool worked = false;
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++)
        if (interest[fd])
            set[count++] =
                (struct pollfd){.fd = fd,
                                .events = (short)((interest[fd] & UVWS_READABLE ? POLLIN : 0) |
                                                  (interest[fd] & UVWS_WRITABLE ? POLLOUT : 0))};
    if (poll(set, count, 0) > 0)
        for (nfds_t n = 0; n < count; n++) {
            int events = (set[n].revents & ~POLLOUT ? UVWS_READABLE : 0) |
                         (set[n].revents & ~POLLIN ? UVWS_WRITABLE : 0);
            events &= interest[set[n].fd];
            if (!events)
                continue;
            CHECK(!(set[n].revents & POLLNVAL));
            uvws_descriptor_ready(harness->context, set[n].fd, events);
            worked = true;
        }
    if (harness->timer_due >= 0 && harness->timer_due <= clock_us / 1000) {
        harness->timer_due = -1;
        clock_us += 1000; /* what is due within the millisecond would be due for ever */
        uvws_timer_due(harness->context);
        worked = true;
    }
    if (harness->awake) {
        harness->awake = false;
        uvws_flush(harness->context);
        worked = true;
    }
    return worked;
}

void harness_settle(struct harness *harness)
{
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        bool worked = peer_writes(harness);
        worked |= core_works(harness);
        worked |= peer_reads(harness);
        if (!worked)
            return;
    }
    CHECK(!"the core comes to rest");
}

void harness_advance(struct harness *harness, int64_t milliseconds)
{
    clock_us += milliseconds * 1000;
    harness_settle(harness);
}

void harness_write(struct harness *harness, const void *data, size_t size)
{
    if (harness->peer >= 0)
        bytes_append(&harness->to_core, data, size);
}

void harness_close_peer(struct harness *harness)
{
    if (harness->peer < 0)
        return;
    close(harness->peer);
    harness->peer = -1;
    harness->to_core.size = harness->to_core_at = 0;
    harness_settle(harness);
}

/* --- Connections ---------------------------------------------------------------------------------
 */

static struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    return address;
}

static int listen_at(char path[108], const char *directory, const char *name)
{
    snprintf(path, 108, "%s/%s", directory, name);
    struct sockaddr_un address = unix_address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)) && !listen(fd, 64));
    return fd;
}

void harness_connect(struct harness *harness)
{
    struct sockaddr_un address = unix_address(harness->listener_path);
    harness->peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(!connect(harness->peer, (struct sockaddr *)&address, sizeof(address)));
}

static uvws_limits limits_of(const struct harness *harness)
{
    return (uvws_limits){
        .max_message_size = harness->limit, .max_header_size = 16384, .handshake_timeout = 15000};
}

void harness_adopt(struct harness *harness, const void *data, size_t size)
{
    int ends[2];
    const uvws_limits limits = limits_of(harness);
    uvws_adopt_options options = {.limits = &limits, .want_handshake = 1};
    uint32_t slot;
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends));
    harness->peer = ends[0];
    harness->connection = uvws_adopted_new(harness->context, &options, &slot);
    CHECK(harness->connection);
    CHECK(!uvws_adopt(harness->connection, ends[1], data, size));
}

void harness_accept(struct harness *harness, const uvws_tunnel_options *tunnel)
{
    uint32_t slot;
    const uvws_limits limits = limits_of(harness);
    uvws_connect_options options = {
        .unix_path = harness->server_path,
        .port = 80,
        .host_header = "localhost",
        .server_name = "localhost",
        .path = "/",
        .protocols = "chat",
        .extra_headers = harness->deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "",
        .tunnel = tunnel,
    };
    harness->connection = uvws_client_new(harness->context, &limits, 30, &slot);
    CHECK(harness->connection);
    CHECK(!uvws_connect(harness->connection, &options));
    harness->peer = accept4(harness->server_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(harness->peer >= 0);
    harness_settle(harness);
}

bool harness_accept_key(const struct bytes *request, char out[29])
{
    static const char name[] = "Sec-WebSocket-Key: ";
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t hash[SHA_DIGEST_LENGTH];
    char text[24 + sizeof(guid)];
    const uint8_t *found =
        request->size ? memmem(request->data, request->size, name, sizeof(name) - 1) : NULL;
    if (!found || found + sizeof(name) - 1 + 24 > request->data + request->size)
        return false;
    memcpy(text, found + sizeof(name) - 1, 24);
    memcpy(text + 24, guid, sizeof(guid));
    SHA1((const uint8_t *)text, sizeof(text) - 1, hash);
    EVP_EncodeBlock((uint8_t *)out, hash, sizeof(hash));
    return true;
}

/* --- One input -----------------------------------------------------------------------------------
 */

static char directory[] = "/tmp/uvws-fuzz-XXXXXX";

static void remove_sockets(void)
{
    unlink(the_harness.listener_path);
    unlink(the_harness.server_path);
    rmdir(directory);
}

/* So that the leak checker has nothing of ours to tell of. */
static void finish(void)
{
    if (the_harness.context)
        uvws_context_close(the_harness.context, 0);
    remove_sockets();
}

static void open_core(struct harness *harness)
{
    char error[UVWS_ERROR_SIZE];
    const uvws_limits limits = limits_of(harness);
    uvws_listen_options options = {
        .limits = &limits, .want_drain = 1, .want_handshake = 1, .want_requests = 1};
    uvws_set_log_level(getenv("UVWS_FUZZ_LOG") != NULL);
    harness->context = uvws_context_new(harness, NULL, NULL, 1, error, sizeof(error));
    CHECK(harness->context);
    CHECK(mkdtemp(directory));
    int fd = listen_at(harness->listener_path, directory, "core");
    harness->server_fd = listen_at(harness->server_path, directory, "harness");
    harness->listener = uvws_listener_new(harness->context, fd, 0, &options, error, sizeof(error));
    CHECK(harness->listener);
    atexit(finish);
    harness_settle(harness);
}

struct harness *harness_get(void)
{
    if (!the_harness.context)
        open_core(&the_harness);
    return &the_harness;
}

static int lowest_free_descriptor(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

void harness_begin(struct harness *harness)
{
    harness->descriptors = lowest_free_descriptor();
    harness->opened = harness->closed = harness->failed = harness->too_big = false;
    harness->code = harness->failure = harness->failure_status = harness->requests = 0;
    harness->echo = harness->deflate = harness->refuse = false;
    harness->limit = 0;
    harness->response = NULL;
    harness->connection = NULL;
    harness->peer_reads = true;
    harness->peer_saw_end = false;
}

void harness_end(struct harness *harness)
{
    harness_close_peer(harness);
    /* Nobody is there: what is left of the connection waits for nothing but time. */
    if (harness->context->live != 1)
        harness_advance(harness, PATIENCE);
    if (harness->context->live != 1)
        harness_advance(harness, PATIENCE);
    CHECK(harness->context->live == 1);
    CHECK(!harness->connection);
    CHECK(harness->opened == harness->closed);
    CHECK(lowest_free_descriptor() == harness->descriptors);
    for (uint32_t slab = 0; slab < harness->context->slab_count; slab++)
        for (int n = 0; n < CONNECTIONS_PER_SLAB; n++)
            CHECK(!harness->context->slabs[slab]->connections[n].in_use);
    CHECK(harness->watches <= 2); /* lws's event pipe and the listener's socket */
    bytes_free(&harness->reason);
    bytes_free(&harness->to_core);
    bytes_free(&harness->from_core);
    records_free(&harness->messages);
    records_free(&harness->pongs);
    records_free(&harness->sent);
}

uint8_t input_byte(struct input *input)
{
    if (!input->left)
        return 0;
    input->left--;
    return *input->at++;
}

size_t input_take(struct input *input, size_t size, const uint8_t **data)
{
    if (size > input->left)
        size = input->left;
    *data = input->at;
    input->at += size;
    input->left -= size;
    return size;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}
