/* Opening and closing. */
#define _GNU_SOURCE
#include "loadgen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Several loopback source addresses, so that local ports do not run out. */
static void bind_source(const struct run *r, struct connection *c, const struct sockaddr_in *server)
{
    int yes = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    uint32_t host = ntohl(server->sin_addr.s_addr);

    if (host >> 24 != 127 || r->options.connections <= PER_SOURCE)
        return;
    source.sin_addr.s_addr = htonl(0x7f000001u + c->index / PER_SOURCE);
    setsockopt(c->channel.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(c->channel.fd, (struct sockaddr *)&source, sizeof source) != 0)
        fail("bind to a loopback address: %s", strerror(errno));
}

void start_connection(struct run *r)
{
    struct connection *c = &r->connections[r->started];
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(r->options.port)};
    int yes = 1;

    c->index = r->started++;
    c->channel.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->channel.fd < 0)
        fail("socket: %s", strerror(errno));
    if (setsockopt(c->channel.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        fail("TCP_NODELAY: %s", strerror(errno));
    inet_pton(AF_INET, r->options.host, &server.sin_addr);
    bind_source(r, c, &server);
    if (connect(c->channel.fd, (struct sockaddr *)&server, sizeof server) != 0 &&
        errno != EINPROGRESS)
        fail("cannot connect to %s:%u: %s", r->options.host, r->options.port, strerror(errno));
    c->handshake = allocate(1, sizeof *c->handshake);
    c->state = CONNECTING;
    r->opening++;
    set_interest(r, c, true, EPOLL_CTL_ADD);
}

static void send_request(struct run *r, struct connection *c)
{
    static const char offer[] = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    uint8_t nonce[16];
    char text[320];

    for (int i = 0; i < 2; i++) {
        uint64_t random = mix(r->seed + 2 * (uint64_t)c->index + (uint64_t)i);
        memcpy(nonce + 8 * i, &random, 8);
    }
    base64(nonce, sizeof nonce, c->handshake->key);
    int length = snprintf(text, sizeof text,
                          "GET / HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                          "Sec-WebSocket-Version: 13\r\n%s\r\n",
                          r->options.host, r->options.port, c->handshake->key,
                          r->options.deflate ? offer : "");
    /* The first bytes on a connection always fit in its socket buffer. */
    if (channel_send(&c->channel, text, (size_t)length) != length)
        fail("connection %u: the request was not sent whole", c->index);
    c->state = HANDSHAKE;
    want_write(r, c, false);
}

/* Goes on once the socket is connected, and after each step of the TLS handshake. */
static void go_on_securing(struct run *r, struct connection *c)
{
    bool write = false;
    int result = channel_handshake(&c->channel, &write);
    if (result == 1)
        send_request(r, c);
    else if (result == CHANNEL_AGAIN)
        want_write(r, c, write);
    else
        fail("connection %u: the TLS handshake: %s", c->index, channel_error());
}

void go_on_opening(struct run *r, struct connection *c)
{
    int error = 0;
    socklen_t size = sizeof error;

    if (c->state == TLS_HANDSHAKE) {
        go_on_securing(r, c);
        return;
    }
    if (getsockopt(c->channel.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
        fail("cannot connect to %s:%u: %s", r->options.host, r->options.port, strerror(error));
    if (r->tls == NULL) {
        send_request(r, c);
        return;
    }
    channel_secure(&c->channel, r->tls, r->options.host);
    c->state = TLS_HANDSHAKE;
    go_on_securing(r, c);
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

static void check_extensions(const struct run *r, const struct connection *c)
{
    size_t length = 0;
    const char *value = header_value(c->handshake->response, "Sec-WebSocket-Extensions", &length);

    if (value == NULL && r->options.deflate)
        fail("connection %u: the server does not compress", c->index);
    if (value == NULL)
        return;
    if (!r->options.deflate)
        fail("connection %u: the server chose a Sec-WebSocket-Extensions that was not offered",
             c->index);
    /* Nothing less than the whole window and context takeover in both directions. */
    if (length != strlen("permessage-deflate") || strncmp(value, "permessage-deflate", length) != 0)
        fail("connection %u: the server compresses differently: \"%.*s\"", c->index, (int)length,
             value);
}

static void check_response(const struct run *r, const struct connection *c)
{
    const struct handshake *h = c->handshake;
    char accept[ACCEPT_TEXT + 1];
    size_t length;

    if (strncmp(h->response, "HTTP/1.1 101", 12) != 0 ||
        (h->response[12] != ' ' && h->response[12] != '\r'))
        fail("connection %u: the handshake was answered \"%.*s\"", c->index,
             (int)strcspn(h->response, "\r\n"), h->response);
    accept_of(h->key, accept);
    expect_header(c, "Upgrade", "websocket", false);
    expect_header(c, "Connection", "upgrade", false);
    expect_header(c, "Sec-WebSocket-Accept", accept, true);
    if (header_value(h->response, "Sec-WebSocket-Protocol", &length) != NULL)
        fail("connection %u: the server chose a Sec-WebSocket-Protocol that was not offered",
             c->index);
    check_extensions(r, c);
}

static void start_inflating(struct connection *c)
{
    c->inflater = allocate(1, sizeof *c->inflater);
    if (inflateInit2(c->inflater, -DEFLATE_WINDOW) != Z_OK)
        fail("zlib: inflateInit2");
}

/* Takes response bytes; returns how many belong to the handshake. */
uint64_t take_response(struct run *r, struct connection *c, const uint8_t *data, uint64_t length)
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
    check_response(r, c);
    if (r->options.deflate)
        start_inflating(c);
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

void close_connection(struct run *r, struct connection *c)
{
    channel_close(&c->channel);
    if (c->inflater != NULL)
        inflateEnd(c->inflater);
    free(c->inflater);
    c->inflater = NULL;
    c->state = CLOSED;
    r->closed++;
}

void start_closing(struct run *r, struct connection *c)
{
    uint8_t frame[8] = {0x80 | OP_CLOSE, 0x80 | 2, 0, 0, 0, 0, 1000 >> 8, 1000 & 0xff};
    uint32_t key = mask_key(r, c, c->tx_message);

    memcpy(frame + 2, &key, 4);
    frame[6] ^= frame[2];
    frame[7] ^= frame[3];
    c->state = CLOSING;
    if (channel_send(&c->channel, frame, sizeof frame) != sizeof frame)
        close_connection(r, c);
}
