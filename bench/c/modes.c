/* What can be measured. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static uint64_t server_cpu(const struct run *r)
{
    return r->options.server_pid ? clock_ns(cpu_clock_of(r->options.server_pid)) : 0;
}

const struct connection *sender_of(const struct run *r, const struct connection *c)
{
    return r->options.mode == MODE_BROADCAST ? &r->connections[0] : c;
}

static void send_one(struct run *r, struct connection *c)
{
    c->tx_limit++;
    if (!c->want_write && c->state == OPEN)
        flush_connection(r, c);
}

static void send_on_next(struct run *r)
{
    struct connection *c = &r->connections[r->next];
    r->next = (r->next + 1) % r->options.connections;
    send_one(r, c);
}

/* A broadcast is over when the last connection has it; several may be under way. */
static bool all_have_it(struct run *r, uint64_t message)
{
    uint32_t *delivered = &r->delivered[message % r->options.in_flight];
    if (++*delivered < r->options.connections)
        return false;
    *delivered = 0;
    return true;
}

void message_done(struct run *r, struct connection *c, uint64_t received_at)
{
    struct connection *sender = r->options.mode == MODE_BROADCAST ? &r->connections[0] : c;

    c->rx_message++;
    c->rx_offset = 0;
    c->rx_in_message = false;
    r->messages++;
    if (r->options.mode == MODE_BROADCAST && !all_have_it(r, c->rx_message - 1))
        return;
    if (r->timed && r->measuring)
        record(r->histogram, received_at - sender->sent_at);
    if (r->draining)
        return;
    if (r->options.mode == MODE_ECHO)
        c->tx_limit = c->rx_message + r->options.in_flight;
    else if (r->options.mode == MODE_ROTATE)
        send_on_next(r);
    else if (r->options.mode == MODE_BROADCAST)
        send_one(r, sender);
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

static void start_sending(struct run *r)
{
    const struct options *o = &r->options;

    if (o->mode == MODE_BROADCAST) {
        r->connections[0].tx_limit = o->in_flight;
        flush_connection(r, &r->connections[0]);
        return;
    }
    if (o->mode == MODE_ROTATE) {
        for (uint32_t i = 0; i < o->in_flight; i++)
            send_on_next(r);
        return;
    }
    for (uint32_t i = 0; i < o->connections; i++) {
        r->connections[i].tx_limit = o->in_flight;
        flush_connection(r, &r->connections[i]);
    }
}

/* Keeps the messages in flight, and prints what came back in the measured window. */
static void measure(struct run *r)
{
    const struct options *o = &r->options;

    start_sending(r);
    run_for(r, o->warmup);

    r->messages = r->bytes = r->wire_bytes = 0;
    r->measuring = true;
    uint64_t server = server_cpu(r);
    uint64_t client = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t start = now_ns();
    double seconds = (double)(run_for(r, o->seconds) - start) / 1e9;
    client = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - client;
    server = server_cpu(r) - server;
    r->measuring = false;

    printf("{\"connections\":%u,\"in_flight\":%u,\"size\":%" PRIu64
           ",\"seconds\":%.6f,\"messages\":%" PRIu64
           ",\"per_second\":%.1f,\"bytes_per_second\":%.0f,\"wire_bytes_per_second\":%.0f",
           o->connections, o->in_flight, o->size, seconds, r->messages,
           (double)r->messages / seconds, (double)r->bytes / seconds,
           (double)r->wire_bytes / seconds);
    print_percentiles(r);
    printf(",\"client_cpu_seconds\":%.6f", (double)client / 1e9);
    if (o->server_pid)
        printf(",\"server_cpu_seconds\":%.6f", (double)server / 1e9);
    puts("}");
}

/* After the window every message that is still out must come back too. */
static void drain(struct run *r)
{
    uint64_t now = now_ns();
    r->draining = true;
    for (uint32_t i = 0; i < r->options.connections; i++)
        stop_sending(r, &r->connections[i]);
    for (uint32_t i = 0; i < r->options.connections; i++) {
        struct connection *c = &r->connections[i];
        while (c->rx_message < sender_of(r, c)->tx_limit)
            now = turn(r, now, now + NS_PER_SECOND);
    }
}

/* Opens all, and prints what that took. */
static void measure_opening(struct run *r)
{
    uint64_t server = server_cpu(r);
    uint64_t client = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t start = now_ns();
    open_all(r);
    double seconds = (double)(now_ns() - start) / 1e9;
    client = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - client;
    server = server_cpu(r) - server;
    printf("{\"open\":%u,\"seconds\":%.6f,\"client_cpu_seconds\":%.6f", r->opened, seconds,
           (double)client / 1e9);
    if (r->options.server_pid)
        printf(",\"server_cpu_seconds\":%.6f", (double)server / 1e9);
    puts("}");
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

void run_mode(struct run *r)
{
    switch (r->options.mode) {
    case MODE_OPEN:
        measure_opening(r);
        break;
    case MODE_CONNECTIONS:
        hold_connections(r);
        break;
    default:
        open_all(r);
        measure(r);
        drain(r);
    }
}
