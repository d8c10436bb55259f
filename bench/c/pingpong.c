/*
 * pingpong: the floor under a round trip with both ends in one loop.
 *
 * One process, one thread, one epoll, a TCP connection over the loopback device. The client's end
 * sends a masked WebSocket frame, the server's end unmasks it and sends it back, the client's end
 * compares. Nothing is allocated, and there is nothing else: what a library takes longer is its
 * own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "histogram.h"

enum { LARGEST = 65535, ROOM = LARGEST + MAX_HEADER, KEY = 4 };

struct end {
    int fd;
    bool client;
    uint8_t rx[ROOM];
    size_t length; /* of what has come */
};

struct game {
    struct end client;
    struct end server;
    int epoll;
    size_t size;
    uint8_t payload[LARGEST];
    uint8_t tx[ROOM];
    uint64_t number;
    uint64_t sent_at;
    bool measuring;
    struct histogram histogram;
};

static void check(int result, const char *what)
{
    if (result < 0)
        fail("%s: %s", what, strerror(errno));
}

static void watch(struct game *g, struct end *e)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = e};
    int yes = 1;
    check(setsockopt(e->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes), "TCP_NODELAY");
    check(epoll_ctl(g->epoll, EPOLL_CTL_ADD, e->fd, &event), "epoll_ctl");
}

static void connect_ends(struct game *g)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    check(listener, "socket");
    check(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(listener, 1), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
    g->client.fd = socket(AF_INET, SOCK_STREAM, 0);
    check(g->client.fd, "socket");
    check(connect(g->client.fd, (struct sockaddr *)&address, sizeof address), "connect");
    g->server.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    check(g->server.fd, "accept");
    close(listener);
    g->client.client = true;
    g->epoll = epoll_create1(0);
    check(g->epoll, "epoll_create1");
    watch(g, &g->client);
    watch(g, &g->server);
}

static void apply_mask(uint8_t *data, size_t length, const uint8_t key[KEY])
{
    uint32_t word;
    uint64_t key2;
    size_t i = 0;

    memcpy(&word, key, KEY);
    key2 = (uint64_t)word << 32 | word;
    for (; i + 8 <= length; i += 8) {
        uint64_t part;
        memcpy(&part, data + i, 8);
        part ^= key2;
        memcpy(data + i, &part, 8);
    }
    for (; i < length; i++)
        data[i] ^= key[i % KEY];
}

static void send_frame(struct game *g, struct end *e, size_t length)
{
    if (send(e->fd, g->tx, length, MSG_NOSIGNAL) != (ssize_t)length)
        fail("a frame was not sent whole: %s", strerror(errno));
}

static void serve_client_end(struct game *g)
{
    uint64_t random = mix(g->number++);
    size_t n = put_frame_header(g->tx, OP_TEXT, g->size);

    g->tx[1] |= 0x80;
    memcpy(g->tx + n, &random, KEY);
    memcpy(g->tx + n + KEY, g->payload, g->size);
    apply_mask(g->tx + n + KEY, g->size, g->tx + n);
    g->sent_at = now_ns();
    send_frame(g, &g->client, n + KEY + g->size);
}

/* A whole frame is there: its payload starts at `header`. */
static void take_frame(struct game *g, struct end *e, size_t header)
{
    uint8_t *payload = e->rx + header;

    if (!e->client)
        apply_mask(payload, g->size, payload - KEY);
    if (memcmp(payload, g->payload, g->size) != 0)
        fail("wrong content");
    if (!e->client) {
        size_t n = put_frame_header(g->tx, OP_TEXT, g->size);
        memcpy(g->tx + n, payload, g->size);
        send_frame(g, e, n + g->size);
        return;
    }
    if (g->measuring)
        record(&g->histogram, now_ns() - g->sent_at);
    serve_client_end(g);
}

static void receive(struct game *g, struct end *e)
{
    size_t header = (g->size <= 125 ? 2 : 4) + (e->client ? 0 : KEY);
    ssize_t n = recv(e->fd, e->rx + e->length, sizeof e->rx - e->length, 0);

    if (n <= 0)
        fail("receiving: %s", n == 0 ? "the end" : strerror(errno));
    e->length += (size_t)n;
    if (e->length < header + g->size)
        return;
    e->length = 0;
    take_frame(g, e, header);
}

static void play(struct game *g, double seconds)
{
    uint64_t deadline = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < deadline) {
        struct epoll_event events[2];
        int count = epoll_wait(g->epoll, events, 2, 1000);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++)
            receive(g, events[i].data.ptr);
    }
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        {"size", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 'S'},
        {"warmup", required_argument, NULL, 'W'},
        {"cpu", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    struct game *g = allocate(1, sizeof *g);
    double seconds = 3;
    double warmup = 0.5;
    int flag;

    g->size = 64;
    while ((flag = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (flag == 's')
            g->size = whole_number("size", optarg, 1, LARGEST);
        else if (flag == 'S')
            seconds = duration("seconds", optarg, 0.001);
        else if (flag == 'W')
            warmup = duration("warmup", optarg, 0);
        else if (flag == 'c')
            pin((int)whole_number("cpu", optarg, 0, CPU_SETSIZE - 1));
        else
            usage_error("usage: pingpong [--size B] [--seconds S] [--warmup W] [--cpu C]");
    }
    for (size_t i = 0; i < g->size; i++)
        g->payload[i] = (uint8_t)(' ' + mix(i) % 95);
    connect_ends(g);
    serve_client_end(g);
    play(g, warmup);

    g->measuring = true;
    uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t start = now_ns();
    play(g, seconds);
    double lasted = (double)(now_ns() - start) / 1e9;
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"messages\":%" PRIu64 ",\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"p50_us\":%.3f,"
           "\"p99_us\":%.3f}\n",
           g->histogram.total, lasted, (double)cpu / 1e9,
           (double)percentile(&g->histogram, 0.50) / 1e3,
           (double)percentile(&g->histogram, 0.99) / 1e3);
    free(g);
    return 0;
}
