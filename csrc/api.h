/*
 * What crosses the border between Python and C, and nothing else.
 *
 * build_lws.py gives this file to cffi, which understands plain C declarations and `#define NAME
 * number` only; every other preprocessor line is dropped on the way. The prototypes between the two
 * "callbacks into Python" lines are what C calls and Python implements.
 */
#ifndef UVWS_API_H
#define UVWS_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct uvws_context uvws_context;
typedef struct uvws_connection uvws_connection;
typedef struct uvws_listener uvws_listener;

/* Results. A function that returns int or int64_t gives UVWS_OK (or a count) or one of these. */
#define UVWS_OK           0
#define UVWS_NOT_OPEN     -1
#define UVWS_WRONG_THREAD -2
#define UVWS_NO_MEMORY    -3
#define UVWS_FAILED       -4
/* A whole message inside a fragmented one. */
#define UVWS_IN_FRAGMENTS -5
#define UVWS_INVALID_TEXT -6
#define UVWS_TOO_BIG      -7
#define UVWS_QUEUE_FULL   -8

/* What a full send queue does: docs/limits.md. */
#define UVWS_OVERFLOW_RAISE 0
#define UVWS_OVERFLOW_CLOSE 1
#define UVWS_OVERFLOW_PAUSE 2

/* States of a connection, in the order in which they follow each other. */
#define UVWS_CONNECTING 0
#define UVWS_CONNECTED  1
#define UVWS_CLOSING    2
#define UVWS_CLOSED     3

/* Message kinds: the opcodes of RFC 6455 section 5.2. */
#define UVWS_TEXT   1
#define UVWS_BINARY 2
#define UVWS_PING   9
#define UVWS_PONG   10

/* Event kinds, the lowest byte of an event record's first word; the slot is in the bytes above. */
#define UVWS_EVENT_TEXT            1
#define UVWS_EVENT_BINARY          2
#define UVWS_EVENT_LARGE_TEXT      3
#define UVWS_EVENT_LARGE_BINARY    4
#define UVWS_EVENT_ACCEPTED        5
#define UVWS_EVENT_CONNECTED       6
#define UVWS_EVENT_CLOSED          7
#define UVWS_EVENT_CONNECT_FAILED  8
#define UVWS_EVENT_MESSAGE_TOO_BIG 9
#define UVWS_EVENT_DRAIN           10
#define UVWS_EVENT_UNPIN           11
#define UVWS_EVENT_LISTENER_GONE   12
#define UVWS_EVENT_CLOSING         13
#define UVWS_EVENT_PONG            14
#define UVWS_EVENT_RESUMED         15
#define UVWS_EVENT_ADOPTED         16
#define UVWS_EVENT_BYTES           17
#define UVWS_EVENT_SEND_QUEUE_FULL 18
/* While debugging: whom a listener did not agree on TLS with, a NUL, and why. */
#define UVWS_EVENT_TLS_FAILED   19
#define UVWS_EVENT_PING_TIMEOUT 20
#define UVWS_EVENT_WORDS        4

/* Added to the close code of a CLOSED event: the code came in a Close frame of the peer's. */
#define UVWS_CODE_OF_PEER 65536

/* Why a connect failed: the fourth word of a UVWS_EVENT_CONNECT_FAILED record. */
#define UVWS_FAILURE_NETWORK 1
#define UVWS_FAILURE_TIMEOUT 2
/* With one of X509_V_ERR_... in the lowest 12 bits of the status, the depth in the chain in the
 * next 8, and a TLS alert in the 8 above. */
#define UVWS_FAILURE_TLS       3
#define UVWS_FAILURE_HANDSHAKE 4
/* The proxy: with the status of its answer to CONNECT, if there was one. */
#define UVWS_FAILURE_PROXY 5
/* The same, with the reply code of RFC 1928 section 6 for a status. */
#define UVWS_FAILURE_SOCKS 6
/* This address took too long; another may not. */
#define UVWS_FAILURE_SLOW   7
#define UVWS_FAILURE_MEMORY 8

/* Kinds of proxy. */
#define UVWS_TUNNEL_HTTP  1
#define UVWS_TUNNEL_SOCKS 2

/* Interest in a descriptor, for the loop adapter that Python implements. */
#define UVWS_READABLE 1
#define UVWS_WRITABLE 2

/* A payload of this many bytes or more is not copied at send time: see uvws_send_pinned(). */
#define UVWS_PIN_SIZE 65536

#define UVWS_NO_LISTENER 0xffffffff

const char *uvws_lws_version(void);
const char *uvws_lws_patches(void);
/* Whether this libwebsockets lets permessage-deflate through. */
int uvws_has_deflate(void);
void uvws_set_log_level(int debug);

/*
 * Makes a context. `handle` comes back in every callback. `uv_loop` is a uv_loop_t * and
 * `uv_library` the path of the shared object whose libuv made it, or both are NULL: then Python
 * drives the context through uvws_descriptor_ready(), uvws_timer_due() and uvws_flush().
 * `keep_alive` says whether listeners and connections keep uv_run() from returning. NULL on
 * failure, with the reason in `error`, and in errno where the system refused something, else 0.
 */
uvws_context *uvws_context_new(void *handle, void *uv_loop, const char *uv_library, int keep_alive,
                               char *error, size_t error_size);
int uvws_context_check_thread(const uvws_context *context);
/* This process is a fork of the one that made the context, with which it shares the sockets and
 * what the loop watches them with: nothing of that is touched from now on. */
void uvws_context_forked(uvws_context *context);
/* Sends a Close frame on every open connection where that needs no waiting. */
int uvws_context_say_goodbye(uvws_context *context, int code);
/* Ends the network side. No callback but uvws_py_released comes after it. */
int uvws_context_close(uvws_context *context, int loop_is_closed);
/* Frees the struct, after uvws_py_released: until then the loop still looks at it. */
void uvws_context_release(uvws_context *context);
/* The hot path through CPython's own API, where there is one: csrc/cpython.c. The arguments are
 * addresses of Python objects; the last two stay borrowed. */
int uvws_cpython_install(void *connection_type);
void uvws_cpython_attach(uvws_context *context, void *core, void *connections);
/* The one call that any thread may make: uvws_py_called_soon comes on the loop's thread. */
int uvws_context_call_soon(uvws_context *context);
void uvws_descriptor_ready(uvws_context *context, int fd, int events);
void uvws_timer_due(uvws_context *context);
void uvws_flush(uvws_context *context);

/* Checks that `uv_loop` is a loop of that library, by its backend descriptor. */
int uvws_uv_loop_check(void *uv_loop, const char *uv_library, int backend_fd, char *error,
                       size_t error_size);
void *uvws_uv_default_loop(const char *uv_library);

typedef struct {
    const char *cert;
    size_t cert_size;
    const char *key;
    size_t key_size;
    const char *ca;
    size_t ca_size;
} uvws_tls_pem;

/* What a connection is held to: docs/limits.md. 0 stands for no limit. Times are in milliseconds.
 */
typedef struct {
    uint64_t max_message_size; /* bytes after decompression */
    uint64_t max_send_queue;   /* bytes of frames: no more once there are so many */
    int on_send_overflow;      /* UVWS_OVERFLOW_... */
    size_t max_header_size;    /* of a request's head; a server's alone */
    int64_t handshake_timeout; /* likewise */
    int64_t idle_timeout;
    int64_t ping_interval;
    int64_t ping_timeout;
} uvws_limits;

typedef struct {
    const uvws_tls_pem *tls; /* NULL for plain TCP */
    const uvws_limits *limits;
    int want_drain;
    int want_handshake;     /* uvws_py_handshake() is to be asked about each upgrade */
    int want_requests;      /* and uvws_py_request() about each other request */
    size_t max_connections; /* 0: no limit */
} uvws_listen_options;

/* Takes over `fd`, a listening socket, on success only. `error` is empty when memory ran out. */
uvws_listener *uvws_listener_new(uvws_context *context, int fd, uint32_t slot,
                                 const uvws_listen_options *options, char *error,
                                 size_t error_size);
int uvws_listener_close(uvws_listener *listener);
/* Has what is accepted from now on shown another certificate, or leaves everything as it was and
 * says in `error` why. For an open listener with TLS only. */
int uvws_listener_reload_tls(uvws_listener *listener, const uvws_tls_pem *tls, char *error,
                             size_t error_size);

/* What is said to a proxy: all of it in `hello` where it speaks HTTP. With SOCKS5 `hello` offers
 * the methods, and `credentials` is NULL where there are none. */
typedef struct {
    int kind;
    const char *hello;
    size_t hello_size;
    const char *credentials;
    size_t credentials_size;
    const char *request;
    size_t request_size;
} uvws_tunnel_options;

typedef struct {
    const char *address; /* the proxy's, where there is one; so is the port */
    const char *unix_path;
    int port;
    const char *host_header;
    const char *server_name;
    const char *path;
    const char *protocols;
    const char *extra_headers;
    int secure;
    int verify;
    int want_drain;
    const uvws_tunnel_options *tunnel; /* NULL: no proxy */
} uvws_connect_options;

/* Initialises OpenSSL's globals; again does nothing. Otherwise OpenSSL does so when first used. */
void uvws_tls_init(void);
int uvws_client_tls(uvws_context *context, const uvws_tls_pem *tls, char *error, size_t error_size);
/* Makes a client connection in the state "connecting"; nothing is sent before uvws_connect().
 * `timeout` is for all attempts together, in seconds; 0: each has a limit of its own. */
uvws_connection *uvws_client_new(uvws_context *context, const uvws_limits *limits, double timeout,
                                 uint32_t *slot);
/* Starts one attempt at one numeric address; a failed attempt may be followed by another. */
int uvws_connect(uvws_connection *connection, const uvws_connect_options *options);
/* Gives up on a client's or adopted connection that is not established; no event comes after it. */
void uvws_connect_abort(uvws_connection *connection);

typedef struct {
    const uvws_limits *limits;
    int want_drain;
    int want_handshake; /* as of a listener */
} uvws_adopt_options;

/* Makes the server's end of a connection that somebody else accepted, in the state "connecting". */
uvws_connection *uvws_adopted_new(uvws_context *context, const uvws_adopt_options *options,
                                  uint32_t *slot);
/* Takes `fd` over, also where it fails: it is closed then, and nothing else comes of it.
 * UVWS_FAILED says that its number is too high. `data` is what was read from it already. */
int uvws_adopt(uvws_connection *connection, int fd, const char *data, size_t size);

/* What Python may do inside of uvws_py_handshake() and uvws_py_request(). */
/* Adds "Name: value\r\n" lines to the response that accepts the upgrade. */
int uvws_handshake_headers(uvws_connection *connection, const char *lines, size_t size);
typedef struct {
    int level; /* of zlib, as is memory_level */
    int memory_level;
    int out_bits; /* the window of what is sent, as a power of two */
    int in_bits;  /* and of what is received */
    int out_takeover;
    int in_takeover;
    uint64_t threshold; /* smaller messages are sent as they are; bytes */
} uvws_deflate_options;

/* permessage-deflate is on from the end of the handshake. */
int uvws_deflate_negotiated(uvws_connection *connection, const uvws_deflate_options *options);
/* Answers with a whole HTTP response, after which the connection is closed. */
int uvws_respond(uvws_connection *connection, const char *response, size_t size);

/* The connection of an ACCEPTED event. */
uvws_connection *uvws_connection_at(uvws_context *context, uint32_t slot);

int64_t uvws_send(uvws_connection *connection, int kind, const char *data, size_t size);
/* As uvws_send, but the payload is read where it is until the event UNPIN with `token`. */
int64_t uvws_send_pinned(uvws_connection *connection, int kind, const char *data, size_t size,
                         uint64_t token);
/* One fragment of a message. `kind` counts for the first one. */
int64_t uvws_send_fragment(uvws_connection *connection, int kind, const char *data, size_t size,
                           int final);
/* A Ping or a Pong, of at most 125 bytes. */
int64_t uvws_send_control(uvws_connection *connection, int opcode, const char *data, size_t size);
int uvws_close(uvws_connection *connection, int code, const char *reason, size_t reason_size);
/* The event that says that the connection is closing was handed on. */
void uvws_end_seen(uvws_connection *connection);
int uvws_state(const uvws_connection *connection);
int64_t uvws_send_queue_size(const uvws_connection *connection);
int uvws_pause(uvws_connection *connection);
/* The event RESUMED comes before whatever is read from now on; without memory it does not come. */
int uvws_resume(uvws_connection *connection);
/* Writes the peer's address as text, NUL at the end; returns its length, 0 where there is none. */
int uvws_peer_address(const uvws_connection *connection, char *out, size_t size);
/* The peer's TCP port; 0 where there is none. */
int uvws_peer_port(const uvws_connection *connection);
/* The descriptor, -1 where there is none: to ask the system about it. */
int uvws_descriptor(const uvws_connection *connection);
/* Whether the event DRAIN is wanted, from now on. */
int uvws_want_drain(uvws_connection *connection, int wanted);
/* Ends an open or closing connection without another word; the event CLOSED follows. */
int uvws_abort(uvws_connection *connection);
/* The round trip of the last Ping of the context's own that was answered, in microseconds; 0 where
 * none was since this was asked. */
int64_t uvws_take_latency(uvws_connection *connection);
/* A closed connection's struct goes back to the context; the pointer is not to be used again. */
void uvws_connection_release(uvws_connection *connection);
/* Python has made its object of a large message: the memory is the context's again. */
void uvws_recycle(uvws_context *context, void *memory, size_t capacity);

/* --- callbacks into Python: begin --- */
void uvws_py_events(void *handle, const int64_t *records, size_t count, const char *arena,
                    size_t arena_size);
/* A server's opening handshake: 0 accepts it, anything else refuses it. UVWS_NO_LISTENER stands for
 * an adopted connection. */
int uvws_py_handshake(void *handle, uvws_connection *connection, uint32_t slot, uint32_t listener,
                      const char *head, size_t size);
/* A client's, where the response has extensions: 0 agrees, anything else fails the connection. */
int uvws_py_negotiate(void *handle, uint32_t slot, const char *head, size_t size);
/* A request without an upgrade; what is not answered ends. */
void uvws_py_request(void *handle, uvws_connection *connection, uint32_t listener,
                     const char *method, const char *head, size_t size);
void uvws_py_watch(void *handle, int fd, int events);
void uvws_py_timer(void *handle, int64_t milliseconds);
void uvws_py_wake(void *handle);
void uvws_py_called_soon(void *handle);
void uvws_py_released(void *handle);
void uvws_py_log(int level, const char *line, size_t size);
/* --- callbacks into Python: end --- */

#endif
