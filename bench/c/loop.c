/* The loop. */
#include "loadgen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

void set_interest(struct run *r, struct connection *c, bool write, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.ptr = c};
    if (epoll_ctl(r->epoll, operation, c->channel.fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
    c->want_write = write;
}

/* Level-triggered, so write interest is only on while a send has found the socket full. */
void want_write(struct run *r, struct connection *c, bool wanted)
{
    if (c->want_write != wanted)
        set_interest(r, c, wanted, EPOLL_CTL_MOD);
}

/* Takes one buffer; false where there is no more, or no connection. */
static bool receive(struct run *r, struct connection *c)
{
    ssize_t n = channel_receive(&c->channel, r->rx, RX_ROOM);
    if (n == CHANNEL_AGAIN)
        return false;
    if (n <= 0 && c->state == CLOSING) {
        close_connection(r, c);
        return false;
    }
    if (n == CHANNEL_FAILED)
        fail("connection %u: receiving: %s", c->index, channel_error());
    if (n == CHANNEL_END)
        fail("connection %u: the server ended it", c->index);

    uint64_t used = c->state == HANDSHAKE ? take_response(r, c, r->rx, (uint64_t)n) : 0;
    take_bytes(r, c, r->rx + used, (uint64_t)n - used);
    if (c->state == OPEN && c->tx_message < c->tx_limit && !c->want_write)
        flush_connection(r, c);
    return channel_has_more(&c->channel);
}

static void handle(struct run *r, struct connection *c, uint32_t events)
{
    if (c->state == CONNECTING || c->state == TLS_HANDSHAKE) {
        go_on_opening(r, c);
        /* The last flight of a handshake may bring more than it. */
        if (c->state != HANDSHAKE || !channel_has_more(&c->channel))
            return;
        events = EPOLLIN;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        while (receive(r, c))
            ;
    if ((events & EPOLLOUT) && c->state == OPEN)
        flush_connection(r, c);
}

/* One turn of the loop, no later than the deadline; returns the time after it. */
uint64_t turn(struct run *r, uint64_t now, uint64_t deadline)
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

uint64_t run_for(struct run *r, double seconds)
{
    uint64_t now = now_ns();
    uint64_t deadline = now + (uint64_t)(seconds * 1e9);
    while (now < deadline)
        now = turn(r, now, deadline);
    return now;
}

void open_all(struct run *r)
{
    uint64_t now = r->last_progress = now_ns();
    while (r->opened < r->options.connections) {
        while (r->opening < OPENING_AT_ONCE && r->started < r->options.connections)
            start_connection(r);
        now = turn(r, now, now + NS_PER_SECOND);
    }
}

void close_all(struct run *r)
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
