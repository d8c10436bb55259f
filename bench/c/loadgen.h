/* The load generator's state, and what its parts offer each other. */
#ifndef BENCH_LOADGEN_H
#define BENCH_LOADGEN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "accept.h"
#include "channel.h"
#include "common.h"
#include "corpus.h"
#include "histogram.h"

#define STALL_NS        (10 * NS_PER_SECOND) /* no byte from the server for so long is an error */
#define CLOSE_WAIT_NS   (2 * NS_PER_SECOND)  /* how long the closing handshakes may take together */
#define MAX_IN_FLIGHT   100000
#define MAX_CONNECTIONS 60000

enum {
    BATCH = 256 * 1024,   /* most bytes of whole frames made for one send */
    PIECE = 128 * 1024,   /* most payload bytes of a larger frame */
    TX_ROOM = BATCH + 64, /* a header in front, and the last word may run over */
    RX_ROOM = 256 * 1024,
    EVENTS = 512,
    INFLATED = 32 * 1024,
    RSV1 = 0x40,
    OPENING_AT_ONCE = 64, /* below the usual listen backlog of 100: no SYN is dropped */
    PER_SOURCE = 8000,    /* connections for each loopback source address */
    RESPONSE_ROOM = 4096,
};

enum state { CONNECTING, TLS_HANDSHAKE, HANDSHAKE, OPEN, CLOSING, CLOSED };

enum mode {
    MODE_ECHO,        /* so many messages in flight on each connection */
    MODE_ROTATE,      /* so many in all: each answer is followed by one on another connection */
    MODE_BROADCAST,   /* each message, sent on the first connection, comes back on all */
    MODE_OPEN,        /* nothing but opening */
    MODE_CONNECTIONS, /* one message on each, then held open */
};

struct options {
    const char *host;
    uint16_t port;
    uint32_t connections;
    uint32_t in_flight;
    uint64_t size;
    double seconds;
    double warmup;
    enum opcode opcode;
    enum mode mode;
    bool deflate;
    const char *certificate; /* of the server, which then speaks TLS; NULL: plain TCP */
    int cpu;                 /* -1: wherever the scheduler likes */
    pid_t server_pid;        /* 0: the server's CPU time is not asked for */
};

/* What is only needed until the 101 has come. */
struct handshake {
    char key[KEY_TEXT + 1];
    char response[RESPONSE_ROOM + 1];
    size_t length;
};

struct connection {
    struct channel channel;
    uint32_t index;
    enum state state;
    bool want_write;
    struct handshake *handshake; /* owned */
    z_stream *inflater;          /* owned; NULL without compression */

    uint64_t tx_message; /* the message being sent, */
    uint64_t tx_offset;  /* how much of its frame has gone, */
    uint64_t tx_limit;   /* and the first message that may not be sent yet */
    uint64_t sent_at;

    uint64_t rx_message; /* the message whose echo is awaited, */
    uint64_t rx_offset;  /* and how much of its payload has come */
    uint64_t rx_left;    /* of the present frame */
    uint8_t rx_header[MAX_HEADER];
    uint8_t rx_header_length;
    bool rx_in_payload;
    bool rx_in_message;
    uint16_t close_code;
};

struct run {
    struct options options;
    struct connection *connections;
    struct histogram *histogram;
    uint8_t *template;
    uint8_t *tx;
    uint8_t *rx;
    uint64_t seed;
    int epoll;
    SSL_CTX *tls;          /* NULL: plain TCP */
    struct corpus *corpus; /* NULL without compression */

    uint32_t started;
    uint32_t opening;
    uint32_t opened;
    uint32_t closed;
    uint64_t messages;
    uint64_t bytes;
    uint64_t wire_bytes; /* payload as received: compressed, where it is */
    uint32_t next;       /* connection to send on (MODE_ROTATE) */
    uint32_t *delivered; /* of each message under way (MODE_BROADCAST); owned */
    bool measuring;
    bool draining;
    bool timed; /* round trips are measured: no two messages overlap on a connection */
    uint64_t last_progress;
};

/* payload.c */

/* The first eight bytes of a message without compression. */
uint64_t sequence_word(const struct run *r, const struct connection *c, uint64_t message);
uint32_t mask_key(const struct run *r, const struct connection *c, uint64_t message);
void make_template(struct run *r);

/* Sends what is due on a connection, as far as the socket takes it. */
void flush_connection(struct run *r, struct connection *c);

/* Lets only what has been begun be sent. */
void stop_sending(const struct run *r, struct connection *c);

/* receive.c */

void take_bytes(struct run *r, struct connection *c, const uint8_t *data, uint64_t length);

/* opening.c */

void start_connection(struct run *r);
void go_on_opening(struct run *r, struct connection *c);

/* Takes response bytes; returns how many belong to the handshake. */
uint64_t take_response(struct run *r, struct connection *c, const uint8_t *data, uint64_t length);
void start_closing(struct run *r, struct connection *c);
void close_connection(struct run *r, struct connection *c);

/* loop.c */

void set_interest(struct run *r, struct connection *c, bool write, int operation);
void want_write(struct run *r, struct connection *c, bool wanted);

/* One turn of the loop, no later than the deadline; returns the time after it. */
uint64_t turn(struct run *r, uint64_t now, uint64_t deadline);
uint64_t run_for(struct run *r, double seconds);
void open_all(struct run *r);
void close_all(struct run *r);

/* modes.c */

/* The connection that sends what this one receives. */
const struct connection *sender_of(const struct run *r, const struct connection *c);

/* After the last byte of a message: lets the next one be sent. */
void message_done(struct run *r, struct connection *c, uint64_t received_at);
void run_mode(struct run *r);

/* options.c */

struct options parse_options(int argc, char **argv);

#endif
