/*
 * Drives the C core without Python, as a loop that Python drives does: the callbacks into Python
 * are implemented here, and write down what a user would have been told. The clock stands still
 * unless it is moved, and nothing is random, so that an input does the same each time.
 *
 * There is one core for all inputs. After each everything must be as it was before: connections,
 * watches, descriptors.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include "reference.h"
#include "uvws.h"

/* What cannot be, with the line of the harness that found it. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            harness_fail(__FILE__, __LINE__, #condition);                                          \
    } while (0)

struct harness {
    uvws_context *context;
    uvws_listener *listener;
    char listener_path[108];
    char server_path[108]; /* where the client finds the harness */
    int server_fd;
    int64_t timer_due; /* milliseconds on the virtual clock; -1: not set */
    bool awake;
    int descriptors; /* the lowest that was free before the input */
    size_t watches;

    /* One input's. */
    uvws_connection *connection;
    bool opened;
    bool closed;
    int code;
    struct bytes reason;
    bool failed; /* to connect */
    int failure;
    int failure_status;
    bool too_big;
    int requests; /* for no upgrade */
    struct records messages;
    struct records pongs;
    struct records sent; /* messages, by the core, in order */
    bool echo;

    uvws_deflate_options deflate_options;
    bool deflate;
    bool refuse;
    uint64_t limit;
    const char *response; /* to plain requests, or NULL */

    int peer; /* the harness's end; -1: closed */
    bool peer_reads;
    bool peer_saw_end;
    struct bytes to_core; /* not taken by the socket yet */
    size_t to_core_at;
    struct bytes from_core;
};

_Noreturn void harness_fail(const char *file, int line, const char *what);

/* The one harness; made when first asked for. */
struct harness *harness_get(void);
void harness_begin(struct harness *harness);
/* Ends the connection if there is one, and checks that nothing is left. */
void harness_end(struct harness *harness);

/* A connection to the core as a server: accepted, or adopted with something that was read. */
void harness_connect(struct harness *harness);
void harness_adopt(struct harness *harness, const void *data, size_t size);
/* A connection of the core as a client; the harness accepts it. */
void harness_accept(struct harness *harness, const uvws_tunnel_options *tunnel_or_null);

void harness_write(struct harness *harness, const void *data, size_t size);
void harness_send(struct harness *harness, int kind, const void *data, size_t size);
void harness_close_peer(struct harness *harness);
/* Lets the core work until nothing is left to do; a core that never comes to rest fails. */
void harness_settle(struct harness *harness);
void harness_advance(struct harness *harness, int64_t milliseconds);

/* Sec-WebSocket-Accept for the key in a request; false where there is none. */
bool harness_accept_key(const struct bytes *request, char out[29]);

/* The input, read from its beginning; zeros behind its end. */
struct input {
    const uint8_t *at;
    size_t left;
};

uint8_t input_byte(struct input *input);
size_t input_take(struct input *input, size_t size, const uint8_t **data);

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
