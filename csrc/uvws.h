/*
 * The structs of the C core, and what its files offer each other.
 *
 * Everything here runs on the thread that runs the loop. Dependencies point one way:
 * context, client, listener -> protocol -> send, tx, rx, handshake, headers -> events, evlib ->
 * loop.
 */
#ifndef UVWS_UVWS_H
#define UVWS_UVWS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include <libwebsockets.h>
#include <openssl/ssl.h>
#include <zlib.h>

#include "api.h"
#include "loop.h"

#define UVWS_ERROR_SIZE 256
/* The largest head of a request or a response, in bytes; lws's own 4096 are too few for some
 * cookies. */
#define UVWS_HEAD_MAX 16384
/* For lws's own time limits, where ours count: a year and more, in seconds. */
#define UVWS_NEVER     (400 * 24 * 3600)
#define UVWS_PING_SIZE 8

struct adoption;
struct tx_chunk;
struct tunnel;

/* One growable block of memory; `data` is owned. */
struct buffer {
    char *data;
    size_t size;
    size_t capacity;
};

/* How far a sequence of bytes has come: utf8.c. */
struct utf8 {
    uint8_t missing; /* continuation bytes still to come */
    uint8_t first;   /* the range of the next one */
    uint8_t last;
};

/* What a client connection needs until it is established; owned by the connection. */
struct client {
    uvws_connection *connection; /* the one it belongs to */
    char *server_name;           /* what the certificate must say; owned */
    char *extra_headers;         /* "Name: value\r\n" lines; owned */
    struct tunnel *tunnel;       /* what is said to the proxy; owned; NULL without one */
    struct buffer headers; /* of the response, kept from the filter callback to "established" */
    lws_sorted_usec_list_t timeout;
    int fd;      /* of the attempt under way, or -1: finds the connection for OpenSSL's callback */
    int failure; /* what it will be called if it fails now: UVWS_FAILURE_... */
    bool verify;
    int alert;     /* the TLS alert that the server sent, or 0: RFC 8446 section 6.2 */
    int bad_depth; /* in the chain, of the certificate that does not do */
    int status;    /* of the response, once its head is there; or 0 */
    char why[160]; /* what is wrong with the response, or "" */
    bool attempting;
    bool timed_out;
    bool is_total; /* the time limit is for all attempts together */
    bool reported; /* the last attempt failed, and Python's answer to that has not come yet */
};

/* permessage-deflate: deflate.c. */
struct deflate {
    uvws_deflate_options options;
    z_stream *out; /* owned; NULL until it is needed */
    z_stream *in;
    bool in_message; /* bytes of a message went into `in`, and not its tail */
};

/* One stream of each kind that no connection needs just now. */
struct spare_streams {
    z_stream *deflate; /* owned */
    z_stream *inflate; /* owned */
    uvws_deflate_options deflate_options;
    int in_bits;
};

/* What a server connection needs while Python is asked about it, and to answer something else than
 * 101; owned by the connection. */
struct handshake {
    struct buffer headers; /* more lines for the response */
    bool answered;         /* there is a whole response */
    bool body_left;        /* of a request for no upgrade, to be read: answer.c */
    size_t response_size;
    size_t body_size;
    size_t body_read;
    lws_usec_t body_until; /* when reading it is given up */
};

/* An IP address. It is kept because a connection that was reset can no longer be asked. */
struct peer {
    uint8_t family; /* AF_INET, AF_INET6, or 0 where there is none */
    uint16_t port;
    uint8_t address[16]; /* the first four bytes for AF_INET */
};

struct uvws_connection {
    uvws_context *context;
    struct lws *wsi;             /* borrowed from lws; NULL before the attempt and after the end */
    uvws_listener *listener;     /* borrowed; NULL on a client and where the socket was adopted */
    struct secure_vhost *secure; /* borrowed from the listener; NULL without TLS */
    struct client *client;       /* owned; NULL on a server and once established */
    uvws_connection *next;   /* in the free list or in the list of those with something to write */
    struct deflate *deflate; /* owned; NULL where it was not negotiated */
    uvws_limits limits;
    struct handshake *handshake; /* owned; NULL on a client and once established */
    struct peer peer;
    struct adoption *adoption; /* owned; NULL but between uvws_adopt() and the next flush */
    uint32_t slot;
    uint8_t state;
    bool in_use;
    bool is_client;
    bool is_adopted;
    bool wants_handshake; /* of one that is adopted */
    bool announced;       /* Python knows it: an ACCEPTED or CONNECTED event was queued */
    bool wants_drain;
    bool drain_due;     /* something was queued since the last DRAIN event */
    bool to_write;      /* in the context's list */
    bool close_wanted;  /* by us, once the queue is empty */
    bool close_by_peer; /* a Close frame came */
    bool close_by_us;   /* that code went to lws */
    /* It is closing or closed, and the user does not know yet: events are on their way. Until they
     * arrive it looks open, and what is sent is dropped, as it would be had it been sent a little
     * earlier: whoever answers each message must not get an error for a Close frame behind it. */
    bool end_unseen;
    bool refused;       /* what the peer sent was: close_code says why */
    bool out_of_memory; /* that is why it does not come about */
    bool paused;        /* by the user */
    bool clogged;       /* not read from until the send queue is empty */
    bool deaf;          /* for one of these reasons: so lws was told */
    bool timed_out;
    bool heard;        /* of the peer, since the last sweep: timeouts.c */
    int64_t pinged_at; /* on the context's clock; 0: no Ping of ours waits for an answer */
    int64_t heard_at;  /* when the peer was last heard of, on the context's clock; 0: not known */
    lws_usec_t ping_sent; /* when the last Ping of ours was; 0: it was answered */
    int64_t latency;      /* of its answer, until Python asks; microseconds */

    uint32_t head_checked; /* bytes of the peer's head that are known to be fine: head.c */

    /* Receiving: the message that is being put together. */
    struct buffer message;
    void *message_bytes; /* the Python object whose memory `message` is; owned, mostly NULL */
    bool in_message;
    bool message_is_text;
    bool message_is_compressed;
    struct utf8 utf8;

    /* Sending: a list of chunks, first in first out. */
    struct tx_chunk *tx_head;
    struct tx_chunk *tx_tail;
    struct tx_chunk *pongs; /* owned; NULL where none is due */
    size_t queued;          /* payload bytes in the list */
    uint64_t framed;        /* bytes of frames in the list */
    size_t in_flight;       /* payload bytes that lws holds because the socket was full */
    bool socket_full;       /* the last write was not taken whole */
    uint8_t fragment_kind;  /* of the message that is being sent in fragments, or 0 */
    bool fragments_compressed;
    struct utf8 fragment_utf8;

    /* Closing. */
    uint16_t close_code; /* before the handshake is done: the status it was refused with */
    uint8_t close_reason_size;
    char close_reason[123];
};

/* One connection too many: refused.c. */
#define REFUSED_MAX 32
struct refused {
    int fd; /* owned */
    lws_usec_t until;
};

/* What connections are accepted with: certificates and authorities. It stays as long as one of them
 * does, as lws closes those that are bound to a vhost that goes. */
struct secure_vhost {
    struct lws_vhost *vhost; /* owned */
    struct secure_vhost *next;
    size_t connections; /* that point here */
};

struct uvws_listener {
    uvws_context *context;
    struct lws_vhost *vhost;      /* the context's shared one, or that of `secure` */
    struct secure_vhost *secure;  /* owned; NULL for plain TCP */
    struct secure_vhost *retired; /* owned: those that a reload has replaced */
    unsigned reloads;
    uvws_listener *next;
    int fd;             /* owned; -1 once closed */
    size_t connections; /* that point here */
    uint32_t slot;
    uvws_limits limits; /* of each of its connections */
    bool wants_drain;
    bool wants_handshake;
    bool wants_requests;
    size_t max_connections; /* 0: no limit */
    char *error; /* where the TLS set-up says what is wrong; both are valid while it is at it */
    const uvws_tls_pem *pem;
    lws_sorted_usec_list_t pause;        /* of accepting, while out of descriptors */
    struct refused refused[REFUSED_MAX]; /* a ring; the oldest is the first */
    unsigned refused_first;
    unsigned refused_count;
    lws_sorted_usec_list_t refused_timer;
};

#define CONNECTIONS_PER_SLAB 64
struct slab {
    uvws_connection connections[CONNECTIONS_PER_SLAB];
};

/* The records and small payloads that wait for the next call into Python. */
struct event_queue {
    int64_t *records;
    size_t count;    /* of records */
    size_t capacity; /* of records */
    struct buffer arena;
    size_t large; /* bytes of messages that are elsewhere */
};

struct uvws_context {
    void *handle;             /* Python's; borrowed */
    void *python_core;        /* for cpython.c; borrowed, NULL where that is not used */
    void *python_connections; /* the core's dict of them, by slot; borrowed */
    struct lws_context *lws;
    struct lws_vhost *server_vhost; /* every plain listener; also see tls.c */
    struct lws_vhost *client_vhost;
    struct lws_vhost *client_tls_vhost;
    SSL_CTX *client_tls; /* owned */
    uvws_loop loop;
    _Atomic(unsigned long) thread;
    int busy;         /* depth of calls into lws or Python that need the structs to stay */
    int serving;      /* depth of calls that make lws work on descriptors and timers */
    bool closed;      /* uvws_context_close() was called */
    bool forked;      /* this is a copy; see uvws_context_forked() */
    bool dispatching; /* Python is working through a batch of events */
    bool unwatched;   /* a descriptor of lws's own cannot be watched: there is to be no context */
    bool flushing;
    atomic_int references; /* Python's and those of the loop's handles */

    /* Descriptors. The table maps one to its watch; lws has no public way from a wsi to ours. */
    uvws_watch **watches;
    size_t watch_capacity;
    int *eager; /* descriptors to be offered POLLOUT without asking the kernel */
    size_t eager_count;
    size_t eager_capacity;

    uvws_listener *listeners;
    uvws_connection *adopting;  /* lws is being handed its socket */
    struct adoption *adoptions; /* sockets for lws, in order; each owned by its connection */
    struct adoption *last_adoption;
    int descriptors_max; /* lws has tables for as many */
    bool listeners_left; /* something that is out of use lost its last connection */
    struct slab **slabs; /* owned, and each of them */
    uint32_t slab_count;
    uvws_connection *free_connections;
    uvws_connection *to_write;
    size_t live; /* listeners and connections: what keeps the loop alive */

    lws_sorted_usec_list_t sweep; /* timeouts.c */
    int64_t sweep_period;         /* milliseconds; 0 while it does not run */
    lws_usec_t sweep_due;
    lws_usec_t swept_at;
    char ping[UVWS_PING_SIZE]; /* the payload of pings that nobody asked for */
    int64_t clock; /* as of the last sweep: milliseconds for which the loop was turning */

    struct event_queue queues[2];
    struct event_queue *queue; /* the one being filled */
    size_t promised;           /* records for which both have room, whatever else comes */

    struct buffer spare_message; /* rx.c */
    size_t heap_expects;         /* heap.c */
    struct tx_chunk *spare_chunks;
    unsigned spare_chunk_count;
    struct spare_streams spare_streams;
    struct buffer deflated; /* deflate.c */
    char *mask_scratch;     /* owned; made at the first large masked payload */
    uint8_t random[2048];
    size_t random_left;
};

/* cpython.c */
bool uvws_cpython_bytes_wanted(const uvws_context *context, size_t size);
void *uvws_cpython_bytes(size_t size, char **data);
void uvws_cpython_release(void *object);
void uvws_cpython_events(uvws_context *context, const struct event_queue *queue);

/* The tokens of what Python pins itself are odd, those of cpython.c are addresses. */
static inline bool uvws_is_object(int64_t token)
{
    return token && !(token & 1);
}

/* heap.c */
void uvws_heap_expect(uvws_context *context, size_t size);

/* buffer.c */
bool uvws_buffer_reserve(struct buffer *buffer, size_t capacity);
bool uvws_buffer_append(struct buffer *buffer, const void *data, size_t size);
void uvws_buffer_free(struct buffer *buffer);

/* events.c */
bool uvws_event(uvws_context *context, int kind, uint32_t slot, int64_t first, int64_t second,
                int64_t third);
bool uvws_event_with_payload(uvws_context *context, int kind, uint32_t slot, const void *payload,
                             size_t size, int64_t third);
bool uvws_events_promise(uvws_context *context);
void uvws_events_take_back(uvws_context *context);
void uvws_event_promised(uvws_context *context, int kind, uint32_t slot, int64_t first,
                         int64_t third);
void uvws_event_promised_with_payload(uvws_context *context, int kind, uint32_t slot,
                                      const void *payload, size_t size, int64_t third,
                                      int64_t instead);
void uvws_event_unpin(uvws_context *context, uint32_t slot, uint64_t token);
bool uvws_events_pending(const uvws_context *context);
bool uvws_events_are_many(const uvws_context *context);
void uvws_events_deliver(uvws_context *context);
void uvws_events_free(uvws_context *context);

/* evlib.c */
extern const lws_plugin_evlib_t uvws_event_library;
uvws_watch *uvws_watch_find(const uvws_context *context, int fd);
uvws_watch *uvws_watch_open(uvws_context *context, int fd);
void uvws_watch_drop(uvws_context *context, int fd);
bool uvws_watch_apply(uvws_context *context, uvws_watch *watch);

/* service.c */
void uvws_wake(uvws_context *context);
void uvws_own_thread(uvws_context *context);
void uvws_live_changed(uvws_context *context, int by);

/* tx.c */
static inline bool uvws_tx_is_full(const uvws_connection *connection)
{
    return connection->framed + connection->in_flight >= connection->limits.max_send_queue;
}
uint8_t *uvws_tx_room(uvws_connection *connection, size_t size);
int64_t uvws_tx_added(uvws_connection *connection, size_t size, size_t payload);
int64_t uvws_tx_pin(uvws_connection *connection, int kind, const uint8_t *payload, size_t size,
                    uint64_t token, const uint8_t *key_or_null);
void uvws_tx_control(uvws_connection *connection, int opcode, const char *payload, size_t size);
void uvws_tx_ping(uvws_connection *connection, const char *payload, size_t size);
int uvws_tx_write(uvws_connection *connection);
void uvws_tx_schedule(uvws_connection *connection);
void uvws_tx_clear(uvws_connection *connection);
void uvws_tx_clear_but_begun(uvws_connection *connection);
void uvws_tx_free_spares(uvws_context *context);
void uvws_tx_deadline(uvws_connection *connection);
bool uvws_tx_goodbye(uvws_connection *connection, int code, const char *reason);

/* frame.c */
#define FRAME_HEADER_MAX    14
#define FRAME_FINAL         0x80
#define FRAME_RSV1          0x40
#define OPCODE_CONTINUATION 0
#define OPCODE_CLOSE        8
#define OPCODE_PING         9
#define OPCODE_PONG         10
size_t uvws_frame_build(uvws_connection *connection, uint8_t *out, int first, const void *payload,
                        size_t size);
size_t uvws_frame_header(uint8_t *out, int first, size_t size, const uint8_t *mask_or_null);
void uvws_frame_mask(uint8_t *out, const uint8_t *in, size_t size, const uint8_t key[4],
                     size_t offset);
bool uvws_frame_mask_key(uvws_context *context, uint8_t key[4]);

/* rx.c */
int uvws_rx(uvws_connection *connection, const char *data, size_t size);
int uvws_refuse_no_memory(uvws_connection *connection);
int uvws_rx_close(uvws_connection *connection, const uint8_t *payload, size_t size);
int uvws_rx_pong(uvws_connection *connection, const char *payload, size_t size);
int uvws_rx_ping(uvws_connection *connection, const char *payload, size_t size);

/* message.c */
void uvws_message_take_spare(uvws_connection *connection);
bool uvws_message_add(uvws_connection *connection, const char *data, size_t size, size_t remaining);
void uvws_message_clear(uvws_connection *connection);

/* deflate.c */
void uvws_deflate_open(uvws_connection *connection);
void uvws_deflate_free(uvws_connection *connection);
void uvws_deflate_free_spares(uvws_context *context);
bool uvws_deflate_wanted(const uvws_connection *connection, size_t size);
int uvws_deflate(uvws_connection *connection, const char *data, size_t size, bool final);
void uvws_deflate_done(uvws_connection *connection, bool sent);
int uvws_inflate(uvws_connection *connection, const char *data, size_t size, bool whole,
                 struct buffer *out);

/* utf8.c */
bool uvws_utf8_feed(struct utf8 *state, const void *data, size_t size);
bool uvws_utf8_complete(const struct utf8 *state);

/* headers.c */
bool uvws_headers_collect(struct lws *wsi, bool is_request, struct buffer *out);
const char *uvws_request_method(struct lws *wsi);

/* handshake.c */
int uvws_handshake_upgrade(struct lws *wsi);
int uvws_handshake_add_headers(uvws_connection *connection, struct lws_process_html_args *args);
#define HTTP_HEAD_TOO_LARGE 431
void uvws_handshake_refuse(struct lws *wsi, unsigned int status);
void uvws_handshake_free(uvws_connection *connection);

/* request.c */
int uvws_request_received(uvws_connection *connection, struct lws *wsi);
unsigned int uvws_request_check(struct lws *wsi);

/* answer.c */
bool uvws_answer_begin(uvws_connection *connection);
int uvws_answer_request(uvws_connection *connection, struct lws *wsi);
int uvws_answer_taken(uvws_connection *connection);
int uvws_answer_body(uvws_connection *connection, size_t size);

/* peer.c */
void uvws_peer_set(struct peer *peer, const struct sockaddr_storage *address);
void uvws_peer_ask(struct peer *peer, int fd);

/* response.c */
int uvws_response_received(uvws_connection *connection, struct lws *wsi);
void uvws_response_too_large(uvws_connection *connection);
bool uvws_response_explain(uvws_connection *connection, const char *reason, size_t size,
                           struct buffer *out);

/* overflow.c */
int uvws_overflow(uvws_connection *connection);

/* connection.c */
void uvws_connection_set_clogged(uvws_connection *connection, bool clogged);
uvws_connection *uvws_connection_new(uvws_context *context, const uvws_limits *limits);
void uvws_connection_free(uvws_connection *connection);
void uvws_connections_free(uvws_context *context);
void uvws_connections_free_slabs(uvws_context *context);
uvws_connection *uvws_connection_after(uvws_context *context, const uvws_connection *previous);
void uvws_connection_ended(uvws_connection *connection);
void uvws_connection_closing(uvws_connection *connection);
void uvws_connection_close(uvws_connection *connection, int code, const char *reason);
bool uvws_connection_set_open(uvws_connection *connection, const struct buffer *headers);
void uvws_connection_peer_closes(uvws_connection *connection, const uint8_t *payload, size_t size);

/* adopt.c */
void uvws_adopt_claim(uvws_context *context, struct lws *wsi);
void uvws_adopt_failed(uvws_connection *connection);
void uvws_adoption_free(uvws_connection *connection);
void uvws_adoptions_hand_over(uvws_context *context);
void uvws_socket_prepare(int fd);

/* client.c */
void uvws_client_failed(uvws_connection *connection, const char *reason, size_t size);
void uvws_client_give_up(uvws_connection *connection);
int uvws_client_append_headers(uvws_connection *connection, unsigned char **at, size_t room);
void uvws_client_free(uvws_connection *connection);
void uvws_clients_stop_timers(uvws_context *context);

/* timeouts.c */
void uvws_timeouts_init(uvws_context *context);
void uvws_timeouts_begin(uvws_connection *connection);
void uvws_timeouts_answered(uvws_connection *connection);
bool uvws_timeouts_is_ours(const uvws_context *context, const char *payload, size_t size);
void uvws_timeouts_stop(uvws_context *context);

/* refused.c */
void uvws_refused_add(uvws_listener *listener, int fd);
void uvws_refused_end(uvws_listener *listener);

/* tunnel.c */
/* For one attempt; false when out of memory. */
bool uvws_tunnel_open(struct client *client, const uvws_tunnel_options *options_or_null);
void uvws_tunnel_free(struct client *client);
/* Returns the events that lws is to be told of, if any. */
int uvws_tunnel_ready(uvws_watch *watch, int events);
/* There is to be a tunnel, and it is not there. */
bool uvws_tunnel_missing(const struct client *client);
/* Says why an attempt failed if it failed between us and the proxy; `reason` is the tunnel's. */
bool uvws_tunnel_explain(const struct client *client, int *failure, int *status,
                         const char **reason);

/* listener.c */
void uvws_listener_ready(uvws_listener *listener);
void uvws_listener_free(uvws_listener *listener);
void uvws_listener_left(uvws_connection *connection);
void uvws_listeners_tidy(uvws_context *context);

/* protocol.c */
extern const struct lws_protocols uvws_protocols[];
extern const lws_retry_bo_t uvws_no_keepalive;
void uvws_vhost_info(uvws_context *context, struct lws_context_creation_info *info);

/* tls.c */
int uvws_tls_server_setup(uvws_listener *listener, SSL_CTX *tls);

/* tls_load.c */
bool uvws_tls_complain(char *error, const char *what);
bool uvws_tls_load(SSL_CTX *tls, const uvws_tls_pem *pem, bool is_server, char *error);

/* tls_handshake.c */
void uvws_tls_client_event(const SSL *ssl, int where, int value);
void uvws_tls_server_event(const SSL *ssl, int where, int value);
/* Says why an attempt failed if it was for TLS; `reason` is OpenSSL's, or stays. */
bool uvws_tls_explain(uvws_connection *connection, int *failure, int *status, const char **reason);

#endif
