/*
 * loadgen: a neutral load generator for WebSocket servers.
 *
 * One thread, epoll, no library but libc, OpenSSL and zlib. It opens N connections, keeps K
 * messages in flight on each, verifies every echo (opcode, length, sequence number, content) and
 * prints one line of JSON. Anything that is not the right echo ends the run with exit code 1; wrong
 * usage ends it with 2.
 *
 * What is sent on a connection is a pure function of (connection, message number, offset): the
 * masking key comes from a hash of the first two, the payload from one shared template, or from
 * texts that were compressed beforehand. So a connection holds no buffer: after a partial send the
 * bytes that were not taken are simply made again.
 *
 * Linux on a 64-bit machine. `harness.py` builds it.
 */
#include "loadgen.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

static void set_up(struct run *r)
{
    const struct options *o = &r->options;

    pin(o->cpu);
    /* OpenSSL writes without MSG_NOSIGNAL. */
    signal(SIGPIPE, SIG_IGN);
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
    r->delivered = allocate(o->in_flight, sizeof *r->delivered);
    r->timed = o->mode <= MODE_BROADCAST && o->in_flight == 1;
    if (o->deflate)
        r->corpus = make_corpus(r->seed, o->size);
    else
        make_template(r);
    if (o->certificate != NULL)
        r->tls = tls_for_client(o->certificate);
}

static void tear_down(struct run *r)
{
    close(r->epoll);
    free(r->connections);
    free(r->histogram);
    free(r->template);
    free(r->tx);
    free(r->rx);
    free(r->delivered);
    free_corpus(r->corpus);
    SSL_CTX_free(r->tls);
}

int main(int argc, char **argv)
{
    struct run r = {.options = parse_options(argc, argv)};

    set_up(&r);
    run_mode(&r);
    close_all(&r);
    tear_down(&r);
    return fflush(stdout) == 0 ? 0 : 1;
}
