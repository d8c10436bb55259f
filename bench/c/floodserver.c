/*
 * floodserver: sends messages to one WebSocket client as fast as it takes them.
 *
 * Prints "PORT n", serves one connection to the path /PID, where PID is the client's process, and
 * prints one line of JSON: the messages that went out in the measured window and the CPU time that
 * the client had for them, and all that were sent, for the client's own count to be compared with.
 * It ends with a Close frame and waits for the client's. Blocking sockets, one thread.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "accept.h"
#include "channel.h"
#include "common.h"

enum {
    BATCH = 256 * 1024, /* bytes of small frames for each send */
    REQUEST_ROOM = 8192,
    PATIENCE_SECONDS = 20,
};

struct options {
    uint64_t size;
    double seconds;
    double warmup;
    enum opcode opcode;
    const char *certificate; /* NULL: plain TCP */
    const char *key;
    int cpu;
};

/* Whole frames, sent over and over. */
struct batch {
    uint8_t *data; /* owned */
    uint64_t length;
    uint64_t messages;
};

struct tally {
    uint64_t messages;
    double seconds;
    double client_cpu;
    double server_cpu;
};

/* ------------------------------------------------------------------ the connection */

static int listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 8) != 0 || getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        fail("cannot listen: %s", strerror(errno));
    printf("PORT %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* A client that is stuck must not hold the benchmark up. */
static void be_patient(int fd, int option)
{
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    if (setsockopt(fd, SOL_SOCKET, option, &patience, sizeof patience) != 0)
        fail("setsockopt: %s", strerror(errno));
}

static struct channel accept_client(int listener, SSL_CTX *tls)
{
    struct channel c = {0};
    int yes = 1;
    bool ignored;

    be_patient(listener, SO_RCVTIMEO);
    c.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (c.fd < 0)
        fail("no client came: %s", strerror(errno));
    be_patient(c.fd, SO_RCVTIMEO);
    be_patient(c.fd, SO_SNDTIMEO);
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (tls != NULL) {
        channel_secure(&c, tls, NULL);
        if (channel_handshake(&c, &ignored) != 1)
            fail("the TLS handshake: %s", channel_error());
    }
    return c;
}

static void send_whole(struct channel *c, const void *data, uint64_t length)
{
    uint64_t sent = 0;
    while (sent < length) {
        ssize_t n = channel_send(c, (const uint8_t *)data + sent, length - sent);
        if (n <= 0)
            fail("sending: %s", n == CHANNEL_AGAIN ? "the client reads nothing" : channel_error());
        sent += (uint64_t)n;
    }
}

static size_t receive_some(struct channel *c, void *buffer, size_t room)
{
    ssize_t n = channel_receive(c, buffer, room);
    if (n < 0)
        fail("receiving: %s", n == CHANNEL_AGAIN ? "the client sends nothing" : channel_error());
    return (size_t)n;
}

/* Reads the request and answers it; returns the client's process, which the path tells. */
static pid_t shake_hands(struct channel *c)
{
    char request[REQUEST_ROOM + 1] = "";
    char accept[ACCEPT_TEXT + 1];
    char response[256];
    size_t length = 0;
    int pid = 0;

    while (strstr(request, "\r\n\r\n") == NULL) {
        /* In TLS, room for a record at least is asked for; a request is never that long. */
        size_t n = receive_some(c, request + length, REQUEST_ROOM - length);
        if (n == 0 || length + n >= REQUEST_ROOM)
            fail("the request ended, or is too long");
        length += n;
        request[length] = '\0';
    }
    const char *key = strcasestr(request, "\r\nSec-WebSocket-Key:");
    if (sscanf(request, "GET /%d ", &pid) != 1 || key == NULL)
        fail("what request is that? \"%.*s\"", (int)strcspn(request, "\r\n"), request);
    key += strlen("\r\nSec-WebSocket-Key:");
    key += strspn(key, " ");
    accept_of(key, accept);
    int n = snprintf(response, sizeof response,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                     accept);
    send_whole(c, response, (uint64_t)n);
    return (pid_t)pid;
}

/* Sends a Close frame, and waits for the client to end the connection or to answer. */
static void part(struct channel *c)
{
    static const uint8_t close_frame[] = {0x80 | OP_CLOSE, 2, 1000 >> 8, 1000 & 0xff};
    uint8_t answer[64];

    send_whole(c, close_frame, sizeof close_frame);
    /* Whatever comes: it shows that the client has read as far as that. */
    receive_some(c, answer, sizeof answer);
    channel_close(c);
}

/* ------------------------------------------------------------------ the flood */

static struct batch make_batch(const struct options *o)
{
    uint8_t header[MAX_HEADER];
    size_t header_length = put_frame_header(header, o->opcode, o->size);
    uint64_t frame = header_length + o->size;
    struct batch b = {.messages = frame < BATCH ? BATCH / frame : 1};
    uint8_t *out = b.data = allocate(b.messages, frame);

    for (uint64_t i = 0; i < b.messages; i++) {
        memcpy(out, header, header_length);
        out += header_length;
        for (uint64_t k = 0; k < o->size; k++) {
            uint64_t random = mix(i * o->size + k);
            *out++ = (uint8_t)(o->opcode == OP_TEXT ? ' ' + random % 95 : random);
        }
    }
    b.length = b.messages * frame;
    return b;
}

/* Returns how many messages went out. */
static uint64_t flood(struct channel *c, const struct batch *b, double seconds)
{
    uint64_t deadline = now_ns() + (uint64_t)(seconds * 1e9);
    uint64_t messages = 0;
    while (now_ns() < deadline) {
        send_whole(c, b->data, b->length);
        messages += b->messages;
    }
    return messages;
}

static struct tally measure(struct channel *c, const struct batch *b, double seconds, pid_t client)
{
    clockid_t clock = cpu_clock_of(client);
    struct tally t = {0};
    uint64_t client_cpu = clock_ns(clock);
    uint64_t server_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t start = now_ns();

    t.messages = flood(c, b, seconds);
    t.seconds = (double)(now_ns() - start) / 1e9;
    t.client_cpu = (double)(clock_ns(clock) - client_cpu) / 1e9;
    t.server_cpu = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - server_cpu) / 1e9;
    return t;
}

/* ------------------------------------------------------------------ the command line */

static const char usage[] = "usage: floodserver [options]\n"
                            "  --size B          payload bytes of a message (64)\n"
                            "  --seconds S       length of the measured window (3)\n"
                            "  --warmup W        seconds before it (0.5)\n"
                            "  --text, --binary  what the messages are (text)\n"
                            "  --tls CERTIFICATE --key KEY  TLS 1.3 (PEM)\n"
                            "  --cpu C           run on this CPU only\n";

static void set_option(struct options *o, int flag, const char *text)
{
    switch (flag) {
    case 's':
        o->size = whole_number("size", text, 1, MAX_SIZE);
        break;
    case 'S':
        o->seconds = duration("seconds", text, 0.001);
        break;
    case 'W':
        o->warmup = duration("warmup", text, 0);
        break;
    case 't':
        o->opcode = OP_TEXT;
        break;
    case 'b':
        o->opcode = OP_BINARY;
        break;
    case 'T':
        o->certificate = text;
        break;
    case 'K':
        o->key = text;
        break;
    case 'c':
        o->cpu = (int)whole_number("cpu", text, 0, CPU_SETSIZE - 1);
        break;
    case 'h':
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
        {"size", required_argument, NULL, 's'},   {"seconds", required_argument, NULL, 'S'},
        {"warmup", required_argument, NULL, 'W'}, {"text", no_argument, NULL, 't'},
        {"binary", no_argument, NULL, 'b'},       {"tls", required_argument, NULL, 'T'},
        {"key", required_argument, NULL, 'K'},    {"cpu", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    struct options o = {.size = 64, .seconds = 3, .warmup = 0.5, .opcode = OP_TEXT, .cpu = -1};
    int flag;

    while ((flag = getopt_long(argc, argv, "", known, NULL)) != -1)
        set_option(&o, flag, optarg);
    if (optind < argc)
        usage_error("what is \"%s\"? (--help)", argv[optind]);
    if ((o.certificate == NULL) != (o.key == NULL))
        usage_error("--tls and --key go together");
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse_options(argc, argv);
    struct batch b = make_batch(&o);
    SSL_CTX *tls = o.certificate != NULL ? tls_for_server(o.certificate, o.key) : NULL;

    pin(o.cpu);
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on_loopback();
    struct channel c = accept_client(listener, tls);
    pid_t client = shake_hands(&c);
    uint64_t sent = flood(&c, &b, o.warmup);
    struct tally t = measure(&c, &b, o.seconds, client);
    sent += t.messages;
    part(&c);
    printf("{\"size\":%" PRIu64 ",\"seconds\":%.6f,\"messages\":%" PRIu64 ",\"sent\":%" PRIu64
           ",\"client_cpu_seconds\":%.6f,\"server_cpu_seconds\":%.6f}\n",
           o.size, t.seconds, t.messages, sent, t.client_cpu, t.server_cpu);
    close(listener);
    SSL_CTX_free(tls);
    free(b.data);
    return fflush(stdout) == 0 ? 0 : 1;
}
