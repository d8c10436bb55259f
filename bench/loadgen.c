/*
 * loadgen: a neutral load generator for WebSocket echo servers.
 *
 * One thread, epoll, no library but libc. It opens N connections, keeps K messages in flight on
 * each, verifies every echo (opcode, length, sequence number, content) and prints one line of JSON.
 * Anything that is not the right echo ends the run with exit code 1; wrong usage ends it with 2.
 *
 * What is sent on a connection is a pure function of (connection, message number, offset): the
 * masking key comes from a hash of the first two, the payload from one shared template. So a
 * connection holds no buffer: after a partial send the bytes that were not taken are simply made
 * again.
 *
 * Linux on a 64-bit machine. Build: cc -O2 -std=c11 -Wall -Wextra -Werror -o loadgen loadgen.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(size_t) == 8, "loadgen is for 64-bit machines");

#define NS_PER_SECOND   1000000000ull
#define STALL_NS        (10 * NS_PER_SECOND) /* no byte from the server for so long is an error */
#define CLOSE_WAIT_NS   (2 * NS_PER_SECOND)  /* how long the closing handshakes may take together */
#define MAX_SIZE        ((uint64_t)1 << 30)
#define MAX_IN_FLIGHT   100000
#define MAX_CONNECTIONS 60000

enum {
    BATCH = 256 * 1024,   /* most bytes of whole frames made for one send */
    PIECE = 128 * 1024,   /* most payload bytes of a larger frame */
    TX_ROOM = BATCH + 64, /* a header in front, and the last word may run over */
    RX_ROOM = 256 * 1024,
    MAX_HEADER = 14,
    EVENTS = 512,
    OPENING_AT_ONCE = 64, /* below the usual listen backlog of 100: no SYN is dropped */
    PER_SOURCE = 8000,    /* connections for each loopback source address */
    RESPONSE_ROOM = 4096,
    KEY_TEXT = 24,
    ACCEPT_TEXT = 28,
};

enum opcode {
    OP_CONTINUATION = 0,
    OP_TEXT = 1,
    OP_BINARY = 2,
    OP_CLOSE = 8,
    OP_PING = 9,
    OP_PONG = 10
};

enum state { CONNECTING, HANDSHAKE, OPEN, CLOSING, CLOSED };

enum mode { MODE_ECHO, MODE_CONNECTIONS };

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
    int cpu;          /* -1: wherever the scheduler likes */
    pid_t server_pid; /* 0: the server's CPU time is not asked for */
};

/* What is only needed until the 101 has come. */
struct handshake {
    char key[KEY_TEXT + 1];
    char response[RESPONSE_ROOM + 1];
    size_t length;
};

struct connection {
    int fd;
    uint32_t index;
    enum state state;
    bool want_write;
    struct handshake *handshake;

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

/*
 * Latencies in ns: 128 linear steps for each power of two, so a bucket is at most 0.8 % wide
 * whatever the magnitude.
 */
enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = (64 - STEP_BITS + 1) * STEPS };

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total;
    uint64_t max;
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

    uint8_t header[MAX_HEADER]; /* of every frame, the key excepted: all have the same size */
    uint32_t header_length;     /* with the key */
    uint64_t frame_length;

    uint32_t started;
    uint32_t opening;
    uint32_t opened;
    uint32_t closed;
    uint64_t messages;
    uint64_t bytes;
    bool measuring;
    bool draining;
    bool timed; /* round trips are measured: one message in flight */
    uint64_t last_progress;
};

/* ------------------------------------------------------------------ small things */

static _Noreturn void quit(int status, const char *format, va_list arguments)
{
    fflush(stdout);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(status);
}

__attribute__((format(printf, 1, 2))) static _Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    quit(1, format, arguments);
}

__attribute__((format(printf, 1, 2))) static _Noreturn void usage_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    quit(2, format, arguments);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("out of memory (%zu x %zu bytes)", count, size);
    return memory;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) != 0)
        fail("clock_gettime: %s", strerror(errno));
    return (uint64_t)t.tv_sec * NS_PER_SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* splitmix64's finaliser: keys and patterns that look random, and can be made again. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t minimum(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ------------------------------------------------------------------ histogram */

static uint32_t bucket_of(uint64_t value)
{
    if (value < STEPS)
        return (uint32_t)value;
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(value) - STEP_BITS;
    return (shift + 1) * STEPS + (uint32_t)(value >> shift) - STEPS;
}

static uint64_t bucket_middle(uint32_t bucket)
{
    if (bucket < STEPS)
        return bucket;
    uint32_t shift = bucket / STEPS - 1;
    uint64_t low = ((uint64_t)STEPS + bucket % STEPS) << shift;
    return low + (((uint64_t)1 << shift) >> 1);
}

static void record(struct histogram *h, uint64_t value)
{
    h->counts[bucket_of(value)]++;
    h->total++;
    if (value > h->max)
        h->max = value;
}

static uint64_t percentile(const struct histogram *h, double fraction)
{
    uint64_t wanted = (uint64_t)(fraction * (double)h->total);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > wanted)
            return minimum(bucket_middle(i), h->max);
    }
    return h->max;
}

/* ------------------------------------------------------------------ SHA-1 and base64 */

static uint32_t rotate(uint32_t x, int n)
{
    return (x << n) | (x >> (32 - n));
}

static void sha1_block(uint32_t h[5], const uint8_t block[64])
{
    uint32_t w[80];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);

    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t t = rotate(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* For a text of at most 119 bytes, which is all that a handshake needs. */
static void sha1_short(const char *text, size_t length, uint8_t digest[20])
{
    uint8_t blocks[128] = {0};
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    size_t total = length + 9 <= 64 ? 64 : 128;

    memcpy(blocks, text, length);
    blocks[length] = 0x80;
    blocks[total - 2] = (uint8_t)(length * 8 >> 8);
    blocks[total - 1] = (uint8_t)(length * 8);
    for (size_t i = 0; i < total; i += 64)
        sha1_block(h, blocks + i);
    for (int i = 0; i < 20; i++)
        digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *data, size_t length, char *out)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        uint32_t left = (uint32_t)(length - i);
        uint32_t v = (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                     (left > 2 ? data[i + 2] : 0);
        *out++ = letters[v >> 18];
        *out++ = letters[v >> 12 & 63];
        *out++ = left > 1 ? letters[v >> 6 & 63] : '=';
        *out++ = left > 2 ? letters[v & 63] : '=';
    }
    *out = '\0';
}

/* ------------------------------------------------------------------ the byte channel */

/*
 * The only two functions that move bytes: TLS would go in here. Both return a count, or
 * CHANNEL_AGAIN where the call would block, or CHANNEL_END at the end of the stream.
 */
enum { CHANNEL_END = 0, CHANNEL_AGAIN = -1 };

static ssize_t channel_failed(const struct connection *c, const char *what)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return CHANNEL_AGAIN;
    if (c->state == CLOSING)
        return CHANNEL_END;
    fail("connection %u: %s: %s", c->index, what, strerror(errno));
}

static ssize_t channel_receive(const struct connection *c, void *buffer, size_t room)
{
    ssize_t n = recv(c->fd, buffer, room, 0);
    return n < 0 ? channel_failed(c, "receiving") : n;
}

static ssize_t channel_send(const struct connection *c, const void *data, size_t length)
{
    ssize_t n = send(c->fd, data, length, MSG_NOSIGNAL);
    return n < 0 ? channel_failed(c, "sending") : n;
}

static void set_interest(struct run *r, struct connection *c, bool write, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.ptr = c};
    if (epoll_ctl(r->epoll, operation, c->fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
    c->want_write = write;
}

/* Level-triggered, so write interest is only on while a send has found the socket full. */
static void want_write(struct run *r, struct connection *c, bool wanted)
{
    if (c->want_write != wanted)
        set_interest(r, c, wanted, EPOLL_CTL_MOD);
}

/* ------------------------------------------------------------------ what is sent */

/*
 * The first eight bytes of a message. Connections count from far-apart starts, so that an echo
 * sent to the wrong connection shows. For text: eight letters from a to p.
 */
static uint64_t sequence_word(const struct run *r, const struct connection *c, uint64_t message)
{
    uint64_t x = (message + c->index * 0x9e3779b1ull) & 0xffffffffu;
    if (r->options.opcode == OP_BINARY)
        return mix(x);
    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    return x + 0x6161616161616161u;
}

static uint32_t mask_key(const struct run *r, const struct connection *c, uint64_t message)
{
    return (uint32_t)mix(r->seed ^ ((uint64_t)c->index << 40) ^ message);
}

static void make_template(struct run *r)
{
    uint64_t size = r->options.size;
    r->template = allocate(size + 64, 1);
    for (uint64_t i = 0; i < size; i++) {
        uint64_t random = mix(r->seed + i);
        r->template[i] = (uint8_t)(r->options.opcode == OP_TEXT ? ' ' + random % 95 : random);
    }
}

static void make_header(struct run *r)
{
    uint64_t size = r->options.size;
    uint32_t n = 2;

    r->header[0] = (uint8_t)(0x80 | r->options.opcode);
    if (size <= 125) {
        r->header[1] = (uint8_t)(0x80 | size);
    } else {
        int width = size <= 0xffff ? 2 : 8;
        r->header[1] = width == 2 ? 0x80 | 126 : 0x80 | 127;
        for (int i = 0; i < width; i++)
            r->header[n++] = (uint8_t)(size >> 8 * (width - 1 - i));
    }
    r->header_length = n + 4;
    r->frame_length = r->header_length + size;
}

/*
 * Writes the masked payload from `offset` (a multiple of 8) on, whole words: up to seven bytes more
 * than `length`, which template and buffer have room for.
 */
static void put_payload(const struct run *r, const struct connection *c, uint64_t message,
                        uint64_t offset, uint64_t length, uint8_t *out)
{
    const uint8_t *in = r->template + offset;
    uint32_t key = mask_key(r, c, message);
    uint64_t key2 = (uint64_t)key << 32 | key;
    uint64_t i = 0;

    if (offset == 0 && length > 0) {
        uint64_t word = sequence_word(r, c, message) ^ key2;
        memcpy(out, &word, 8);
        i = 8;
    }
    for (; i + 32 <= length; i += 32) {
        uint64_t words[4];
        memcpy(words, in + i, 32);
        for (int k = 0; k < 4; k++)
            words[k] ^= key2;
        memcpy(out + i, words, 32);
    }
    for (; i < length; i += 8) {
        uint64_t word;
        memcpy(&word, in + i, 8);
        word ^= key2;
        memcpy(out + i, &word, 8);
    }
}

static void put_header(const struct run *r, const struct connection *c, uint64_t message,
                       uint8_t *out)
{
    uint32_t key = mask_key(r, c, message);
    memcpy(out, r->header, r->header_length - 4);
    memcpy(out + r->header_length - 4, &key, 4);
}

struct span {
    const uint8_t *data;
    size_t length;
};

/* All the frames that are due and fit in the buffer, less what has gone of the first. */
static struct span make_batch(const struct run *r, const struct connection *c)
{
    uint64_t count = minimum(c->tx_limit - c->tx_message, BATCH / r->frame_length);
    uint8_t *out = r->tx;

    for (uint64_t i = 0; i < count; i++) {
        put_header(r, c, c->tx_message + i, out);
        put_payload(r, c, c->tx_message + i, 0, r->options.size, out + r->header_length);
        out += r->frame_length;
    }
    return (struct span){r->tx + c->tx_offset, count * r->frame_length - c->tx_offset};
}

/* The next piece of a frame that is larger than the buffer. */
static struct span make_piece(const struct run *r, const struct connection *c)
{
    uint8_t *out = r->tx + 16;
    bool with_header = c->tx_offset < r->header_length;
    uint64_t wanted = with_header ? 0 : c->tx_offset - r->header_length;
    uint64_t start = wanted & ~(uint64_t)7;
    uint64_t length = minimum(r->options.size - start, PIECE);

    put_payload(r, c, c->tx_message, start, length, out);
    if (with_header) {
        put_header(r, c, c->tx_message, out - r->header_length);
        uint64_t rest = r->header_length - c->tx_offset;
        return (struct span){out - rest, length + rest};
    }
    return (struct span){out + (wanted - start), length - (wanted - start)};
}

static void advance(const struct run *r, struct connection *c, uint64_t sent)
{
    c->tx_offset += sent;
    c->tx_message += c->tx_offset / r->frame_length;
    c->tx_offset %= r->frame_length;
}

/* Sends what is due on a connection, as far as the socket takes it. */
static void flush_connection(struct run *r, struct connection *c)
{
    while (c->tx_message < c->tx_limit) {
        struct span s = r->frame_length <= PIECE ? make_batch(r, c) : make_piece(r, c);
        if (r->timed && c->tx_offset == 0)
            c->sent_at = now_ns();
        ssize_t n = channel_send(c, s.data, s.length);
        if (n > 0)
            advance(r, c, (uint64_t)n);
        if (n < (ssize_t)s.length) {
            want_write(r, c, true);
            return;
        }
    }
    want_write(r, c, false);
}

/* ------------------------------------------------------------------ what is received */

static void wrong(const struct connection *c, const char *what)
{
    fail("connection %u, message %" PRIu64 ", byte %" PRIu64 ": %s", c->index, c->rx_message,
         c->rx_offset, what);
}

static void check_payload(const struct run *r, struct connection *c, const uint8_t *data,
                          uint64_t length)
{
    if (c->rx_offset < 8) {
        uint64_t word = sequence_word(r, c, c->rx_message);
        uint64_t n = minimum(8 - c->rx_offset, length);
        if (memcmp(data, (const uint8_t *)&word + c->rx_offset, n) != 0)
            wrong(c, "wrong sequence number");
        c->rx_offset += n;
        data += n;
        length -= n;
    }
    if (memcmp(data, r->template + c->rx_offset, length) != 0)
        wrong(c, "wrong content");
    c->rx_offset += length;
}

static void message_done(struct run *r, struct connection *c, uint64_t received_at)
{
    c->rx_message++;
    c->rx_offset = 0;
    c->rx_in_message = false;
    r->messages++;
    if (r->timed && r->measuring)
        record(r->histogram, received_at - c->sent_at);
    if (r->options.mode == MODE_ECHO && !r->draining)
        c->tx_limit = c->rx_message + r->options.in_flight;
}

/* How long the header is, as far as its bytes so far tell. */
static uint32_t header_need(const struct connection *c)
{
    if (c->rx_header_length < 2)
        return 2;
    uint32_t code = c->rx_header[1] & 0x7f;
    return code == 127 ? 10 : code == 126 ? 4 : 2;
}

static void check_data_header(const struct run *r, struct connection *c, enum opcode opcode)
{
    bool fin = c->rx_header[0] & 0x80;
    if (opcode != (c->rx_in_message ? OP_CONTINUATION : r->options.opcode))
        wrong(c, "wrong opcode");
    if (c->rx_message >= c->tx_message + (c->tx_offset > 0))
        wrong(c, "an echo of a message that was not sent");
    if (c->rx_left > r->options.size - c->rx_offset)
        wrong(c, "the echo is too long");
    if (fin && c->rx_left < r->options.size - c->rx_offset)
        wrong(c, "the echo is too short");
    c->rx_in_message = true;
}

static void check_header(const struct run *r, struct connection *c)
{
    enum opcode opcode = c->rx_header[0] & 0x0f;
    uint32_t code = c->rx_header[1] & 0x7f;

    c->rx_left = code < 126 ? code : 0;
    for (uint32_t i = 2; i < c->rx_header_length; i++)
        c->rx_left = c->rx_left << 8 | c->rx_header[i];
    if (c->rx_header[0] & 0x70)
        wrong(c, "a reserved bit is set");
    if (c->rx_header[1] & 0x80)
        wrong(c, "the frame is masked");
    if (opcode == OP_PING || opcode == OP_PONG)
        wrong(c, "a ping or pong: turn the server's timers off");
    if (opcode == OP_CLOSE)
        c->close_code = 0;
    else
        check_data_header(r, c, opcode);
}

static void end_of_frame(struct run *r, struct connection *c, uint64_t received_at)
{
    bool fin = c->rx_header[0] & 0x80;
    if ((c->rx_header[0] & 0x0f) == OP_CLOSE) {
        if (c->state != CLOSING)
            fail("connection %u: the server closed it with code %u", c->index, c->close_code);
    } else if (fin) {
        message_done(r, c, received_at);
    }
    c->rx_header_length = 0;
    c->rx_in_payload = false;
}

/* Takes header bytes; returns how many. */
static uint64_t take_header(struct run *r, struct connection *c, const uint8_t *data,
                            uint64_t length)
{
    uint64_t used = 0;
    while (used < length && c->rx_header_length < header_need(c))
        c->rx_header[c->rx_header_length++] = data[used++];
    if (c->rx_header_length == header_need(c)) {
        check_header(r, c);
        c->rx_in_payload = true;
    }
    return used;
}

static uint64_t take_payload(struct run *r, struct connection *c, const uint8_t *data,
                             uint64_t length)
{
    uint64_t n = minimum(c->rx_left, length);
    if ((c->rx_header[0] & 0x0f) == OP_CLOSE) {
        for (uint64_t i = 0; i < n; i++)
            if (c->rx_header[1] - c->rx_left + i < 2)
                c->close_code = (uint16_t)(c->close_code << 8 | data[i]);
    } else {
        check_payload(r, c, data, n);
        r->bytes += n;
    }
    c->rx_left -= n;
    return n;
}

static void take_bytes(struct run *r, struct connection *c, const uint8_t *data, uint64_t length)
{
    uint64_t received_at = r->timed ? now_ns() : 0;
    while (length > 0) {
        uint64_t n =
            c->rx_in_payload ? take_payload(r, c, data, length) : take_header(r, c, data, length);
        data += n;
        length -= n;
        if (c->rx_in_payload && c->rx_left == 0)
            end_of_frame(r, c, received_at);
    }
}

/* ------------------------------------------------------------------ opening and closing */

/* Several loopback source addresses, so that local ports do not run out. */
static void bind_source(const struct run *r, struct connection *c, const struct sockaddr_in *server)
{
    int yes = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    uint32_t host = ntohl(server->sin_addr.s_addr);

    if (host >> 24 != 127 || r->options.connections <= PER_SOURCE)
        return;
    source.sin_addr.s_addr = htonl(0x7f000001u + c->index / PER_SOURCE);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(c->fd, (struct sockaddr *)&source, sizeof source) != 0)
        fail("bind to a loopback address: %s", strerror(errno));
}

static void start_connection(struct run *r)
{
    struct connection *c = &r->connections[r->started];
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(r->options.port)};
    int yes = 1;

    c->index = r->started++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("socket: %s", strerror(errno));
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        fail("TCP_NODELAY: %s", strerror(errno));
    inet_pton(AF_INET, r->options.host, &server.sin_addr);
    bind_source(r, c, &server);
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) != 0 && errno != EINPROGRESS)
        fail("cannot connect to %s:%u: %s", r->options.host, r->options.port, strerror(errno));
    c->handshake = allocate(1, sizeof *c->handshake);
    c->state = CONNECTING;
    r->opening++;
    set_interest(r, c, true, EPOLL_CTL_ADD);
}

static void send_request(struct run *r, struct connection *c)
{
    uint8_t nonce[16];
    char text[256];
    int error = 0;
    socklen_t size = sizeof error;

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
        fail("cannot connect to %s:%u: %s", r->options.host, r->options.port, strerror(error));
    for (int i = 0; i < 2; i++) {
        uint64_t random = mix(r->seed + 2 * (uint64_t)c->index + (uint64_t)i);
        memcpy(nonce + 8 * i, &random, 8);
    }
    base64(nonce, sizeof nonce, c->handshake->key);
    int length = snprintf(text, sizeof text,
                          "GET / HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n",
                          r->options.host, r->options.port, c->handshake->key);
    /* The first bytes on a connection always fit in its socket buffer. */
    if (channel_send(c, text, (size_t)length) != length)
        fail("connection %u: the request was not sent whole", c->index);
    c->state = HANDSHAKE;
    want_write(r, c, false);
}

/* The value of a header in a NUL-terminated response, or NULL; its length in *length. */
static const char *header_value(const char *response, const char *name, size_t *length)
{
    size_t n = strlen(name);
    for (const char *line = strstr(response, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        const char *value = line + n + 1;
        value += strspn(value, " \t");
        *length = strcspn(value, "\r\n");
        while (*length > 0 && (value[*length - 1] == ' ' || value[*length - 1] == '\t'))
            --*length;
        return value;
    }
    return NULL;
}

static void expect_header(const struct connection *c, const char *name, const char *expected,
                          bool exact)
{
    size_t length = 0;
    const char *value = header_value(c->handshake->response, name, &length);
    bool same = value != NULL && length == strlen(expected);
    if (same)
        same = (exact ? strncmp : strncasecmp)(value, expected, length) == 0;
    if (!same)
        fail("connection %u: %s is not \"%s\" in the handshake response", c->index, name, expected);
}

static void check_response(const struct connection *c)
{
    static const char *const unasked[] = {"Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"};
    const struct handshake *h = c->handshake;
    char text[KEY_TEXT + 36 + 1];
    char accept[ACCEPT_TEXT + 1];
    uint8_t digest[20];
    size_t length;

    if (strncmp(h->response, "HTTP/1.1 101", 12) != 0 ||
        (h->response[12] != ' ' && h->response[12] != '\r'))
        fail("connection %u: the handshake was answered \"%.*s\"", c->index,
             (int)strcspn(h->response, "\r\n"), h->response);
    snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", h->key);
    sha1_short(text, strlen(text), digest);
    base64(digest, sizeof digest, accept);
    expect_header(c, "Upgrade", "websocket", false);
    expect_header(c, "Connection", "upgrade", false);
    expect_header(c, "Sec-WebSocket-Accept", accept, true);
    for (int i = 0; i < 2; i++)
        if (header_value(h->response, unasked[i], &length) != NULL)
            fail("connection %u: the server chose a %s that was not offered", c->index, unasked[i]);
}

/* Takes response bytes; returns how many belong to the handshake. */
static uint64_t take_response(struct run *r, struct connection *c, const uint8_t *data,
                              uint64_t length)
{
    struct handshake *h = c->handshake;
    size_t before = h->length;
    size_t n = minimum(length, RESPONSE_ROOM - h->length);

    memcpy(h->response + h->length, data, n);
    h->length += n;
    h->response[h->length] = '\0';
    char *end = strstr(h->response, "\r\n\r\n");
    if (end == NULL && h->length == RESPONSE_ROOM)
        fail("connection %u: the handshake response is too long", c->index);
    if (end == NULL)
        return n;

    end[2] = '\0';
    check_response(c);
    uint64_t used = (uint64_t)(end + 4 - h->response) - before;
    free(h);
    c->handshake = NULL;
    c->state = OPEN;
    r->opening--;
    r->opened++;
    if (r->options.mode == MODE_CONNECTIONS)
        c->tx_limit = 1;
    return used;
}

static void close_connection(struct run *r, struct connection *c)
{
    close(c->fd);
    c->state = CLOSED;
    r->closed++;
}

static void start_closing(struct run *r, struct connection *c)
{
    uint8_t frame[8] = {0x80 | OP_CLOSE, 0x80 | 2, 0, 0, 0, 0, 1000 >> 8, 1000 & 0xff};
    uint32_t key = mask_key(r, c, c->tx_message);

    memcpy(frame + 2, &key, 4);
    frame[6] ^= frame[2];
    frame[7] ^= frame[3];
    c->state = CLOSING;
    if (channel_send(c, frame, sizeof frame) != sizeof frame)
        close_connection(r, c);
}

/* ------------------------------------------------------------------ the loop */

static void receive(struct run *r, struct connection *c)
{
    ssize_t n = channel_receive(c, r->rx, RX_ROOM);
    if (n == CHANNEL_AGAIN)
        return;
    if (n == CHANNEL_END && c->state == CLOSING) {
        close_connection(r, c);
        return;
    }
    if (n == CHANNEL_END)
        fail("connection %u: the server ended it", c->index);

    uint64_t used = c->state == HANDSHAKE ? take_response(r, c, r->rx, (uint64_t)n) : 0;
    take_bytes(r, c, r->rx + used, (uint64_t)n - used);
    if (c->state == OPEN && c->tx_message < c->tx_limit && !c->want_write)
        flush_connection(r, c);
}

static void handle(struct run *r, struct connection *c, uint32_t events)
{
    if (c->state == CONNECTING) {
        send_request(r, c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(r, c);
    if ((events & EPOLLOUT) && c->state == OPEN)
        flush_connection(r, c);
}

/* One turn of the loop, no later than the deadline; returns the time after it. */
static uint64_t turn(struct run *r, uint64_t now, uint64_t deadline)
{
    struct epoll_event events[EVENTS];
    uint64_t left = deadline > now ? deadline - now : 0;
    int timeout = (int)minimum((left + 999999) / 1000000, 500);

    int count = epoll_wait(r->epoll, events, EVENTS, timeout);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++)
        handle(r, events[i].data.ptr, events[i].events);

    now = now_ns();
    if (count > 0)
        r->last_progress = now;
    else if (now - r->last_progress > STALL_NS)
        fail("nothing came from the server for %d s (%u of %u connections open, %" PRIu64
             " messages echoed)",
             (int)(STALL_NS / NS_PER_SECOND), r->opened, r->options.connections, r->messages);
    return now;
}

static uint64_t run_for(struct run *r, double seconds)
{
    uint64_t now = now_ns();
    uint64_t deadline = now + (uint64_t)(seconds * 1e9);
    while (now < deadline)
        now = turn(r, now, deadline);
    return now;
}

static void open_all(struct run *r)
{
    uint64_t now = r->last_progress = now_ns();
    while (r->opened < r->options.connections) {
        while (r->opening < OPENING_AT_ONCE && r->started < r->options.connections)
            start_connection(r);
        now = turn(r, now, now + NS_PER_SECOND);
    }
}

static void close_all(struct run *r)
{
    uint64_t now = now_ns();
    uint64_t deadline = now + CLOSE_WAIT_NS;

    for (uint32_t i = 0; i < r->options.connections; i++)
        start_closing(r, &r->connections[i]);
    while (r->closed < r->options.connections && now < deadline)
        now = turn(r, now, deadline);
    if (r->closed < r->options.connections)
        fprintf(stderr, "loadgen: %u connections were not closed by the server in time\n",
                r->options.connections - r->closed);
}

/* ------------------------------------------------------------------ the two modes */

static clockid_t server_clock(const struct run *r)
{
    clockid_t clock;
    int error = clock_getcpuclockid(r->options.server_pid, &clock);
    if (error != 0)
        fail("the CPU clock of process %d: %s", (int)r->options.server_pid, strerror(error));
    return clock;
}

static void print_optional(const char *name, bool known, double value)
{
    if (known)
        printf(",\"%s\":%.3f", name, value);
    else
        printf(",\"%s\":null", name);
}

static void print_percentiles(const struct run *r)
{
    const struct histogram *h = r->histogram;
    bool known = h->total > 0;
    print_optional("p50_us", known, (double)percentile(h, 0.50) / 1e3);
    print_optional("p90_us", known, (double)percentile(h, 0.90) / 1e3);
    print_optional("p99_us", known, (double)percentile(h, 0.99) / 1e3);
    print_optional("max_us", known, (double)h->max / 1e3);
}

/* Keeps the messages in flight, and prints what came back in the measured window. */
static void measure(struct run *r)
{
    const struct options *o = &r->options;
    clockid_t server = o->server_pid ? server_clock(r) : 0;

    for (uint32_t i = 0; i < o->connections; i++) {
        r->connections[i].tx_limit = o->in_flight;
        flush_connection(r, &r->connections[i]);
    }
    run_for(r, o->warmup);

    r->messages = r->bytes = 0;
    r->measuring = true;
    uint64_t server_cpu = o->server_pid ? clock_ns(server) : 0;
    uint64_t client_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t start = now_ns();
    double seconds = (double)(run_for(r, o->seconds) - start) / 1e9;
    client_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - client_cpu;
    server_cpu = o->server_pid ? clock_ns(server) - server_cpu : 0;
    r->measuring = false;

    printf("{\"connections\":%u,\"in_flight\":%u,\"size\":%" PRIu64
           ",\"seconds\":%.6f,\"messages\":%" PRIu64
           ",\"per_second\":%.1f,\"bytes_per_second\":%.0f",
           o->connections, o->in_flight, o->size, seconds, r->messages,
           (double)r->messages / seconds, (double)r->bytes / seconds);
    print_percentiles(r);
    printf(",\"client_cpu_seconds\":%.6f", (double)client_cpu / 1e9);
    if (o->server_pid)
        printf(",\"server_cpu_seconds\":%.6f", (double)server_cpu / 1e9);
    puts("}");
}

/* After the window every message that is still out must come back too. */
static void drain(struct run *r)
{
    uint64_t now = now_ns();
    r->draining = true;
    for (uint32_t i = 0; i < r->options.connections; i++) {
        struct connection *c = &r->connections[i];
        c->tx_limit = c->tx_message + (c->tx_offset > 0);
    }
    for (uint32_t i = 0; i < r->options.connections; i++)
        while (r->connections[i].rx_message < r->connections[i].tx_limit)
            now = turn(r, now, now + NS_PER_SECOND);
}

static void wait_for_end_of_input(void)
{
    char ignored[256];
    ssize_t n;
    do
        n = read(STDIN_FILENO, ignored, sizeof ignored);
    while (n > 0 || (n < 0 && errno == EINTR));
}

/* Opens all, has one message echoed on each, and holds them until the input ends. */
static void hold_connections(struct run *r)
{
    uint64_t start = now_ns();
    open_all(r);
    uint64_t now = now_ns();
    double opened_after = (double)(now - start) / 1e9;
    while (r->messages < r->options.connections)
        now = turn(r, now, now + NS_PER_SECOND);
    printf("{\"open\":%u,\"echoed\":%" PRIu64 ",\"size\":%" PRIu64
           ",\"open_seconds\":%.6f,\"served_seconds\":%.6f}\n",
           r->opened, r->messages, r->options.size, opened_after, (double)(now - start) / 1e9);
    fflush(stdout);

    wait_for_end_of_input();
    /* Any connection that the server ended meanwhile shows now, and fails the run. */
    r->last_progress = now = now_ns();
    turn(r, now, now);
}

/* ------------------------------------------------------------------ options */

static const char usage[] =
    "usage: loadgen --port P [options]\n"
    "  --host ADDRESS     IPv4 address of the server (127.0.0.1)\n"
    "  --port P           its port\n"
    "  --connections N    connections to open (1)\n"
    "  --in-flight K      messages kept in flight on each (1); round trips are timed when it is 1\n"
    "  --size B           payload bytes of a message (64)\n"
    "  --seconds S        length of the measured window (3)\n"
    "  --warmup W         seconds before it (0.5)\n"
    "  --text, --binary   what the messages are (text)\n"
    "  --mode MODE        echo (the default), or connections: open N, echo one message on each,\n"
    "                     print, and hold them until standard input ends\n"
    "  --cpu C            run on this CPU only\n"
    "  --server-pid PID   also report that process's CPU time over the measured window\n";

static uint64_t whole_number(const char *name, const char *text, uint64_t low, uint64_t high)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < low || value > high)
        usage_error("--%s takes a whole number from %" PRIu64 " to %" PRIu64 ", not \"%s\"", name,
                    low, high, text);
    return value;
}

static double duration(const char *name, const char *text, double low)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= low && value <= 86400))
        usage_error("--%s takes seconds from %g to 86400, not \"%s\"", name, low, text);
    return value;
}

static const char *address(const char *text)
{
    struct in_addr ignored;
    if (inet_pton(AF_INET, text, &ignored) != 1)
        usage_error("--host takes an IPv4 address, not \"%s\"", text);
    return text;
}

static enum mode mode_named(const char *text)
{
    if (strcmp(text, "echo") == 0)
        return MODE_ECHO;
    if (strcmp(text, "connections") == 0)
        return MODE_CONNECTIONS;
    usage_error("--mode takes echo or connections, not \"%s\"", text);
}

enum flag {
    HOST = 256,
    PORT,
    CONNECTIONS,
    IN_FLIGHT,
    SIZE,
    SECONDS,
    WARMUP,
    TEXT,
    BINARY,
    MODE,
    CPU,
    SERVER,
    HELP
};

static void set_option(struct options *o, int flag, const char *text)
{
    switch (flag) {
    case HOST:
        o->host = address(text);
        break;
    case PORT:
        o->port = (uint16_t)whole_number("port", text, 1, 65535);
        break;
    case CONNECTIONS:
        o->connections = (uint32_t)whole_number("connections", text, 1, MAX_CONNECTIONS);
        break;
    case IN_FLIGHT:
        o->in_flight = (uint32_t)whole_number("in-flight", text, 1, MAX_IN_FLIGHT);
        break;
    case SIZE:
        o->size = whole_number("size", text, 0, MAX_SIZE);
        break;
    case SECONDS:
        o->seconds = duration("seconds", text, 0.001);
        break;
    case WARMUP:
        o->warmup = duration("warmup", text, 0);
        break;
    case TEXT:
        o->opcode = OP_TEXT;
        break;
    case BINARY:
        o->opcode = OP_BINARY;
        break;
    case MODE:
        o->mode = mode_named(text);
        break;
    case CPU:
        o->cpu = (int)whole_number("cpu", text, 0, CPU_SETSIZE - 1);
        break;
    case SERVER:
        o->server_pid = (pid_t)whole_number("server-pid", text, 1, INT32_MAX);
        break;
    case HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static struct options parse_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"host", required_argument, NULL, HOST},
        {"port", required_argument, NULL, PORT},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"in-flight", required_argument, NULL, IN_FLIGHT},
        {"size", required_argument, NULL, SIZE},
        {"seconds", required_argument, NULL, SECONDS},
        {"warmup", required_argument, NULL, WARMUP},
        {"text", no_argument, NULL, TEXT},
        {"binary", no_argument, NULL, BINARY},
        {"mode", required_argument, NULL, MODE},
        {"cpu", required_argument, NULL, CPU},
        {"server-pid", required_argument, NULL, SERVER},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.host = "127.0.0.1",
                        .connections = 1,
                        .in_flight = 1,
                        .size = 64,
                        .seconds = 3,
                        .warmup = 0.5,
                        .opcode = OP_TEXT,
                        .cpu = -1};
    int flag;

    while ((flag = getopt_long(argc, argv, "", known, NULL)) != -1)
        set_option(&o, flag, optarg);
    if (optind < argc)
        usage_error("what is \"%s\"? (--help)", argv[optind]);
    if (o.port == 0)
        usage_error("--port is needed (--help)");
    return o;
}

/* ------------------------------------------------------------------ setting up */

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        fail("cannot run on CPU %d: %s", cpu, strerror(errno));
}

static void raise_descriptor_limit(uint32_t connections)
{
    struct rlimit limit;
    rlim_t needed = (rlim_t)connections + 16;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("getrlimit: %s", strerror(errno));
    if (limit.rlim_cur >= needed)
        return;
    if (limit.rlim_max < needed)
        fail("%u connections need %ju descriptors; the hard limit is %ju (ulimit -Hn)", connections,
             (uintmax_t)needed, (uintmax_t)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("setrlimit: %s", strerror(errno));
}

static void set_up(struct run *r)
{
    const struct options *o = &r->options;

    if (o->cpu >= 0)
        pin(o->cpu);
    raise_descriptor_limit(o->connections);
    if (getrandom(&r->seed, sizeof r->seed, 0) != sizeof r->seed)
        fail("getrandom: %s", strerror(errno));
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll < 0)
        fail("epoll_create1: %s", strerror(errno));
    r->connections = allocate(o->connections, sizeof *r->connections);
    r->histogram = allocate(1, sizeof *r->histogram);
    r->tx = allocate(TX_ROOM, 1);
    r->rx = allocate(RX_ROOM, 1);
    r->timed = o->mode == MODE_ECHO && o->in_flight == 1;
    make_template(r);
    make_header(r);
}

static void tear_down(struct run *r)
{
    close(r->epoll);
    free(r->connections);
    free(r->histogram);
    free(r->template);
    free(r->tx);
    free(r->rx);
}

int main(int argc, char **argv)
{
    struct run r = {.options = parse_options(argc, argv)};

    set_up(&r);
    if (r.options.mode == MODE_CONNECTIONS) {
        hold_connections(&r);
    } else {
        open_all(&r);
        measure(&r);
        drain(&r);
    }
    close_all(&r);
    tear_down(&r);
    return fflush(stdout) == 0 ? 0 : 1;
}
