/*
 * echoserver: the floor under an echo server, and under one that sends to everyone.
 *
 * One thread, one epoll, plain TCP. A message is unmasked where it was received and goes back from
 * there, all that came in one read with one write; nothing is copied but to move the headers out of
 * the way. It knows as much of the protocol as the load generator speaks: whole messages, and
 * Close. What a library takes longer is its own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "accept.h"
#include "common.h"

enum {
    KEY = 4,
    READ_ROOM = 256 * 1024, /* of the buffer that connections share while they hold nothing */
    EVENTS = 256,
    BACKLOG = 1024,
};

/* Bytes that a connection holds: the beginning of a message, or what the socket did not take. */
struct block {
    uint8_t *memory; /* owned; NULL: none */
    size_t room;
    size_t at;
    size_t size;
};

struct connection {
    int fd;
    bool open;    /* the handshake is done */
    bool closing; /* after what is held is sent */
    struct block in;
    struct block out; /* while it holds anything nothing is read */
    struct connection *previous, *next;
};

struct server {
    int epoll;
    int listener;
    bool broadcast;
    struct connection *connections; /* owned */
    uint8_t room[READ_ROOM];
};

struct frame {
    enum opcode opcode;
    uint8_t *payload;
    uint64_t size;
    uint64_t whole; /* bytes of header and payload; 0: the header is not all there */
};

static void listen_on_loopback(struct server *s)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    socklen_t size = sizeof address;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(s->listener, BACKLOG) != 0 ||
        getsockname(s->listener, (struct sockaddr *)&address, &size) != 0 ||
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &event) != 0)
        fail("cannot listen: %s", strerror(errno));
    printf("PORT %u\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void watch(const struct server *s, struct connection *c, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(s->epoll, operation, c->fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void accept_all(struct server *s)
{
    int fd;
    while ((fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *c = allocate(1, sizeof *c);
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        c->fd = fd;
        c->next = s->connections;
        if (c->next)
            c->next->previous = c;
        s->connections = c;
        watch(s, c, EPOLLIN, EPOLL_CTL_ADD);
    }
}

static void end(struct server *s, struct connection *c)
{
    if (c->previous)
        c->previous->next = c->next;
    else
        s->connections = c->next;
    if (c->next)
        c->next->previous = c->previous;
    close(c->fd);
    free(c->in.memory);
    free(c->out.memory);
    free(c);
}

/* ------------------------------------------------------------------ sending */

/* `data` lies in c->in, whose memory the rest is left in, or elsewhere. */
static void hold_output(struct connection *c, uint8_t *data, size_t size)
{
    struct block *in = &c->in;
    if (in->memory && data >= in->memory && data < in->memory + in->room) {
        c->out = (struct block){in->memory, in->room, (size_t)(data - in->memory), size};
        *in = (struct block){0};
        return;
    }
    c->out = (struct block){allocate(1, size), size, 0, size};
    memcpy(c->out.memory, data, size);
}

/* False: the connection broke. */
static bool send_some(struct server *s, struct connection *c, uint8_t *data, size_t size)
{
    ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        return false;
    if (n < 0)
        n = 0;
    if ((size_t)n < size) {
        hold_output(c, data + n, size - (size_t)n);
        watch(s, c, EPOLLOUT, EPOLL_CTL_MOD);
    }
    return true;
}

static bool send_held(struct server *s, struct connection *c)
{
    struct block *out = &c->out;
    ssize_t n = send(c->fd, out->memory + out->at, out->size, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN;
    out->at += (size_t)n;
    out->size -= (size_t)n;
    if (out->size)
        return true;
    if (c->in.memory)
        free(out->memory);
    else
        c->in = (struct block){out->memory, out->room, 0, 0};
    *out = (struct block){0};
    watch(s, c, EPOLLIN, EPOLL_CTL_MOD);
    return !c->closing;
}

static bool send_to_everyone(struct server *s, struct connection *from, uint8_t *data, size_t size)
{
    bool fine = true;
    for (struct connection *c = s->connections; c; c = c->next) {
        if (!c->open)
            continue;
        if (c->out.size)
            fail("a listener reads too slowly for this server");
        if (!send_some(s, c, data, size) && c == from)
            fine = false; /* the others are told by epoll */
    }
    return fine;
}

/* ------------------------------------------------------------------ receiving */

static bool shake_hands(struct server *s, struct connection *c, const uint8_t *data, size_t size)
{
    static const char name[] = "\r\nSec-WebSocket-Key: ";
    char accept[ACCEPT_TEXT + 1];
    char response[256];
    const char *key = memmem(data, size, name, sizeof name - 1);
    if (key == NULL || size < 4 || memcmp(data + size - 4, "\r\n\r\n", 4) != 0)
        fail("a request did not come in one piece");
    accept_of(key + sizeof name - 1, accept);
    int n = snprintf(response, sizeof response,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                     accept);
    c->open = true;
    return send_some(s, c, (uint8_t *)response, (size_t)n);
}

static void unmask(uint8_t *payload, uint64_t size, const uint8_t *key)
{
    uint32_t word;
    uint64_t words, i = 0;
    memcpy(&word, key, KEY);
    words = (uint64_t)word << 32 | word;
    for (; i + 8 <= size; i += 8) {
        uint64_t part;
        memcpy(&part, payload + i, 8);
        part ^= words;
        memcpy(payload + i, &part, 8);
    }
    for (; i < size; i++)
        payload[i] ^= key[i % KEY];
}

static struct frame frame_at(uint8_t *data, size_t size)
{
    struct frame f = {0};
    if (size < 2)
        return f;
    f.size = data[1] & 0x7f;
    size_t length_bytes = f.size < 126 ? 0 : f.size == 126 ? 2 : 8;
    size_t header = 2 + length_bytes + KEY;
    if (size < header)
        return f;
    if (length_bytes)
        f.size = 0;
    for (size_t i = 0; i < length_bytes; i++)
        f.size = f.size << 8 | data[2 + i];
    if (f.size > MAX_SIZE)
        fail("a frame is too large");
    f.opcode = data[0] & 0x0f;
    f.payload = data + header;
    f.whole = header + f.size;
    return f;
}

/* Makes the server's frames of the client's whole ones at `data`, in place; they begin at *start.
 * Returns how many bytes they have; *used is what they had. */
static size_t turn_frames(uint8_t *data, size_t size, uint8_t **start, size_t *used, bool *closing)
{
    size_t out = 0;
    *used = 0;
    while (!*closing) {
        struct frame f = frame_at(data + *used, size - *used);
        uint8_t header[MAX_HEADER];
        if (!f.whole || f.whole > size - *used)
            break;
        *used += f.whole;
        *closing = f.opcode == OP_CLOSE;
        unmask(f.payload, f.size, f.payload - KEY);
        size_t n = put_frame_header(header, f.opcode, f.size);
        uint8_t *frame = f.payload - n;
        memcpy(frame, header, n);
        if (out == 0)
            *start = frame;
        else
            memmove(*start + out, frame, n + f.size);
        out += n + f.size;
    }
    return out;
}

/* Keeps the beginning of a message where the rest of it has room. */
static void keep_input(struct connection *c, uint8_t *data, size_t size)
{
    struct frame f = frame_at(data, size);
    size_t wanted = f.whole > READ_ROOM ? f.whole : READ_ROOM;
    if (c->in.room < wanted) {
        uint8_t *memory = allocate(1, wanted);
        memcpy(memory, data, size);
        free(c->in.memory);
        c->in = (struct block){memory, wanted, 0, size};
        return;
    }
    memmove(c->in.memory, data, size);
    c->in.size = size;
}

static bool answer(struct server *s, struct connection *c, uint8_t *data, size_t size)
{
    uint8_t *start = NULL;
    size_t used;
    size_t out = turn_frames(data, size, &start, &used, &c->closing);
    bool fine = true;
    /* Where the socket does not take all, the block goes into c->out, and is still there. */
    if (out)
        fine = s->broadcast && !c->closing ? send_to_everyone(s, c, start, out)
                                           : send_some(s, c, start, out);
    c->in.size = 0;
    if (used < size)
        keep_input(c, data + used, size - used);
    return fine && !(c->closing && !c->out.size);
}

static bool receive(struct server *s, struct connection *c)
{
    /* A large block is kept for the next large message. */
    uint8_t *data = c->in.memory ? c->in.memory : s->room;
    size_t room = c->in.memory ? c->in.room : READ_ROOM;
    ssize_t n = recv(c->fd, data + c->in.size, room - c->in.size, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    size_t size = c->in.size + (size_t)n;
    return c->open ? answer(s, c, data, size) : shake_hands(s, c, data, size);
}

static void serve(struct server *s, const struct epoll_event *event)
{
    struct connection *c = event->data.ptr;
    if (c == NULL)
        accept_all(s);
    else if (!(c->out.size ? send_held(s, c) : receive(s, c)))
        end(s, c);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"broadcast", no_argument, NULL, 'b'},
        {NULL, 0, NULL, 0},
    };
    struct epoll_event events[EVENTS];
    struct server *s = allocate(1, sizeof *s);
    int flag;

    while ((flag = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (flag != 'b')
            usage_error("usage: echoserver [--broadcast]");
        s->broadcast = true;
    }
    /* Large blocks come and go: the kernel need not clear their pages every time. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    s->epoll = epoll_create1(0);
    listen_on_loopback(s);
    for (;;) {
        int count = epoll_wait(s->epoll, events, EVENTS, -1);
        for (int i = 0; i < count; i++)
            serve(s, &events[i]);
    }
}
