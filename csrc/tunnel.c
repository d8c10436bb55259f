/*
 * The way through a proxy: CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).
 *
 * lws can speak to one proxy a vhost, but takes what one recv() gives for the whole answer, tells
 * no status, and has little room for credentials. So it is left to believe that its connect() is
 * under way: once there is a TCP connection, what the loop tells of the descriptor comes here, and
 * only when the proxy has let us through is lws told that the descriptor is writable, which is how
 * it learns that it is connected. All that may fail then fails the way a connect() does.
 *
 * Nothing behind the proxy's answer is read here: it is for TLS, or for lws.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "uvws.h"

/* Of an answer to CONNECT, in bytes: as much as of a handshake. */
#define HEAD_MAX 16384
/* "HTTP/1.1 200": what there must be of a status line; the reason behind it is for people. */
#define STATUS_SIZE 12
#define PEEK_SIZE   1024

#define SOCKS_VERSION         5
#define SOCKS_METHOD_NONE     0
#define SOCKS_METHOD_PASSWORD 2
#define SOCKS_ADDRESS_IPV4    1
#define SOCKS_ADDRESS_NAME    3
#define SOCKS_ADDRESS_IPV6    4
/* Version, reply, reserved, kind of address, length of the name, the name, port. */
#define SOCKS_ANSWER_MAX (5 + 255 + 2)

enum step { STEP_DONE, STEP_WAIT, STEP_FAILED };

/* What is said to the proxy, in this order; not all of it in every case. */
enum stage { STAGE_HELLO, STAGE_CREDENTIALS, STAGE_REQUEST, STAGE_THROUGH, STAGES = STAGE_THROUGH };

struct tunnel {
    int kind;
    enum stage stage;
    bool talking; /* there is a TCP connection: what fails now is the proxy's doing */
    struct buffer messages[STAGES];
    size_t sent; /* of this stage's message */
    int wants;   /* UVWS_READABLE or UVWS_WRITABLE */

    /* The answer to it. SOCKS keeps it whole, HTTP the beginning of its first line. */
    unsigned char answer[SOCKS_ANSWER_MAX];
    size_t answered; /* bytes of it so far */
    size_t column;   /* HTTP: in the line under way */
    bool has_status;

    int failure; /* UVWS_FAILURE_PROXY or UVWS_FAILURE_SOCKS, with a status or a reply code */
    int status;
    char reason[96];
};

static bool add_message(struct tunnel *tunnel, enum stage stage, const char *data, size_t size)
{
    return !size || uvws_buffer_append(&tunnel->messages[stage], data, size);
}

bool uvws_tunnel_open(struct client *client, const uvws_tunnel_options *options)
{
    uvws_tunnel_free(client);
    if (!options)
        return true;
    client->tunnel = calloc(1, sizeof(*client->tunnel));
    if (!client->tunnel)
        return false;
    client->tunnel->kind = options->kind;
    return add_message(client->tunnel, STAGE_HELLO, options->hello, options->hello_size) &&
           add_message(client->tunnel, STAGE_CREDENTIALS, options->credentials,
                       options->credentials_size) &&
           add_message(client->tunnel, STAGE_REQUEST, options->request, options->request_size);
}

void uvws_tunnel_free(struct client *client)
{
    if (!client->tunnel)
        return;
    for (int stage = 0; stage < STAGES; stage++)
        uvws_buffer_free(&client->tunnel->messages[stage]);
    free(client->tunnel);
    client->tunnel = NULL;
}

static enum step fail(struct tunnel *tunnel, int failure, int status, const char *reason)
{
    tunnel->failure = failure;
    tunnel->status = status;
    snprintf(tunnel->reason, sizeof(tunnel->reason), "%s", reason);
    return STEP_FAILED;
}

static enum step complain(struct tunnel *tunnel, const char *reason)
{
    return fail(tunnel, UVWS_FAILURE_PROXY, 0, reason);
}

/* A call on the socket gave nothing; errno says why where it gave -1. */
static enum step nothing(struct tunnel *tunnel, ssize_t result, int wants)
{
    if (result == 0)
        return complain(tunnel, "it closed the connection before it had answered");
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        return complain(tunnel, strerror(errno));
    tunnel->wants = wants;
    return STEP_WAIT;
}

static enum step send_message(struct tunnel *tunnel, int fd)
{
    const struct buffer *message = &tunnel->messages[tunnel->stage];
    while (tunnel->sent < message->size) {
        ssize_t count =
            send(fd, message->data + tunnel->sent, message->size - tunnel->sent, MSG_NOSIGNAL);
        if (count < 0)
            return nothing(tunnel, count, UVWS_WRITABLE);
        tunnel->sent += (size_t)count;
    }
    return STEP_DONE;
}

static void next_stage(struct tunnel *tunnel, enum stage stage)
{
    tunnel->stage = stage;
    tunnel->sent = 0;
    tunnel->answered = 0;
}

/* --- HTTP ------------------------------------------------------------------------------------ */

static bool fits_status_line(size_t column, char byte)
{
    static const char pattern[] = "HTTP/1.d ddd ";
    if (column >= sizeof(pattern) - 1)
        return true;
    return pattern[column] == 'd' ? byte >= '0' && byte <= '9' : byte == pattern[column];
}

static int status_of(const struct tunnel *tunnel)
{
    const unsigned char *digits = tunnel->answer + STATUS_SIZE - 3;
    return (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
}

/* The head is over. Any 2xx opens the tunnel, whatever the fields announce; before it there may be
 * 1xx answers, which say nothing. */
static enum step act_on_status(struct tunnel *tunnel)
{
    int status = status_of(tunnel);
    if (status / 100 == 2)
        return STEP_DONE;
    if (status / 100 != 1 || status == 101)
        return fail(tunnel, UVWS_FAILURE_PROXY, status, "");
    tunnel->has_status = false;
    return STEP_WAIT;
}

static enum step end_line(struct tunnel *tunnel)
{
    bool is_empty = tunnel->column == 0;
    bool is_first = !tunnel->has_status;
    if (is_first && (tunnel->column < STATUS_SIZE || status_of(tunnel) < 100))
        return complain(tunnel, "its answer is not HTTP");
    tunnel->has_status = true;
    tunnel->column = 0;
    return is_empty ? act_on_status(tunnel) : STEP_WAIT;
}

/* STEP_WAIT: the head goes on. */
static enum step take_byte(struct tunnel *tunnel, char byte)
{
    if (++tunnel->answered > HEAD_MAX)
        return complain(tunnel, "its answer is too long");
    if (byte == '\n')
        return end_line(tunnel);
    if (byte == '\r')
        return STEP_WAIT;
    if (!tunnel->has_status) {
        if (!fits_status_line(tunnel->column, byte))
            return complain(tunnel, "its answer is not HTTP");
        if (tunnel->column < STATUS_SIZE)
            tunnel->answer[tunnel->column] = (unsigned char)byte;
    }
    tunnel->column++;
    return STEP_WAIT;
}

/* Looks at what there is before it takes it, so that what follows the head stays in the socket. */
static enum step receive_head(struct tunnel *tunnel, int fd)
{
    char bytes[PEEK_SIZE];
    for (;;) {
        ssize_t count = recv(fd, bytes, sizeof(bytes), MSG_PEEK);
        if (count <= 0)
            return nothing(tunnel, count, UVWS_READABLE);
        enum step step = STEP_WAIT;
        ssize_t used = 0;
        while (used < count && step == STEP_WAIT)
            step = take_byte(tunnel, bytes[used++]);
        if (recv(fd, bytes, (size_t)used, 0) != used)
            return complain(tunnel, "its answer went away");
        if (step != STEP_WAIT)
            return step;
    }
}

/* --- SOCKS5 ---------------------------------------------------------------------------------- */

/* How long the answer is, as far as what there is of it tells. */
static size_t socks_answer_size(const struct tunnel *tunnel)
{
    if (tunnel->stage != STAGE_REQUEST || tunnel->answered < 2)
        return 2;
    if (tunnel->answer[1])
        return 2; /* a refusal: some proxies leave out the rest */
    if (tunnel->answered < 5)
        return 5;
    switch (tunnel->answer[3]) {
    case SOCKS_ADDRESS_IPV4:
        return 4 + 4 + 2;
    case SOCKS_ADDRESS_IPV6:
        return 4 + 16 + 2;
    default:
        return 5 + (size_t)tunnel->answer[4] + 2;
    }
}

static enum step receive_socks(struct tunnel *tunnel, int fd)
{
    size_t size;
    while (tunnel->answered < (size = socks_answer_size(tunnel))) {
        ssize_t count = recv(fd, tunnel->answer + tunnel->answered, size - tunnel->answered, 0);
        if (count <= 0)
            return nothing(tunnel, count, UVWS_READABLE);
        tunnel->answered += (size_t)count;
        /* An answer to the credentials has a version of its own, and proxies that get it wrong. */
        if (tunnel->stage != STAGE_CREDENTIALS && tunnel->answer[0] != SOCKS_VERSION)
            return complain(tunnel, "its answer is not SOCKS5");
    }
    return STEP_DONE;
}

static enum step choose_method(struct tunnel *tunnel)
{
    bool has_credentials = tunnel->messages[STAGE_CREDENTIALS].size != 0;
    if (tunnel->answer[1] == SOCKS_METHOD_NONE)
        next_stage(tunnel, STAGE_REQUEST);
    else if (tunnel->answer[1] == SOCKS_METHOD_PASSWORD && has_credentials)
        next_stage(tunnel, STAGE_CREDENTIALS);
    else if (has_credentials)
        return complain(tunnel, "it takes neither user and password nor a connection without");
    else
        return complain(tunnel, "it wants user and password, or another authentication");
    return STEP_DONE;
}

static enum step act_on_socks(struct tunnel *tunnel)
{
    switch (tunnel->stage) {
    case STAGE_HELLO:
        return choose_method(tunnel);
    case STAGE_CREDENTIALS:
        if (tunnel->answer[1])
            return complain(tunnel, "it refused user and password");
        next_stage(tunnel, STAGE_REQUEST);
        return STEP_DONE;
    default:
        if (tunnel->answer[1])
            return fail(tunnel, UVWS_FAILURE_SOCKS, tunnel->answer[1], "");
        if (tunnel->answer[3] != SOCKS_ADDRESS_IPV4 && tunnel->answer[3] != SOCKS_ADDRESS_NAME &&
            tunnel->answer[3] != SOCKS_ADDRESS_IPV6)
            return complain(tunnel, "its answer is not SOCKS5");
        next_stage(tunnel, STAGE_THROUGH);
        return STEP_DONE;
    }
}

/* --- Both ------------------------------------------------------------------------------------ */

static enum step receive_answer(struct tunnel *tunnel, int fd)
{
    bool is_socks = tunnel->kind == UVWS_TUNNEL_SOCKS;
    enum step step = is_socks ? receive_socks(tunnel, fd) : receive_head(tunnel, fd);
    if (step == STEP_DONE && is_socks)
        return act_on_socks(tunnel);
    if (step == STEP_DONE)
        next_stage(tunnel, STAGE_THROUGH);
    return step;
}

static enum step negotiate(struct tunnel *tunnel, int fd)
{
    while (tunnel->stage != STAGE_THROUGH) {
        enum step step = send_message(tunnel, fd);
        if (step == STEP_DONE)
            step = receive_answer(tunnel, fd);
        if (step != STEP_DONE)
            return step;
    }
    return STEP_DONE;
}

/* Before that the error is left for lws to take from the socket. */
static bool is_connected(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    return !getpeername(fd, (struct sockaddr *)&address, &size);
}

static struct tunnel *tunnel_of(const uvws_watch *watch)
{
    const uvws_connection *connection = watch->connection;
    if (!connection || !connection->client || connection->client->fd != watch->fd)
        return NULL;
    struct tunnel *tunnel = connection->client->attempting ? connection->client->tunnel : NULL;
    return tunnel && tunnel->stage != STAGE_THROUGH && !tunnel->failure ? tunnel : NULL;
}

int uvws_tunnel_ready(uvws_watch *watch, int events)
{
    struct tunnel *tunnel = tunnel_of(watch);
    if (!tunnel)
        return events;
    if (!tunnel->talking && !is_connected(watch->fd))
        return events;
    tunnel->talking = true;
    switch (negotiate(tunnel, watch->fd)) {
    case STEP_DONE:
        watch->tunnel_wants = 0;
        return UVWS_WRITABLE;
    case STEP_WAIT:
        watch->tunnel_wants = (uint8_t)tunnel->wants;
        return 0;
    default:
        uvws_client_give_up(watch->connection);
        return 0;
    }
}

bool uvws_tunnel_missing(const struct client *client)
{
    return client->tunnel && client->tunnel->stage != STAGE_THROUGH;
}

bool uvws_tunnel_explain(const struct client *client, int *failure, int *status,
                         const char **reason)
{
    const struct tunnel *tunnel = client->tunnel;
    if (!tunnel || !tunnel->talking || tunnel->stage == STAGE_THROUGH)
        return false;
    /* Without a failure of its own it was lws that ended it: its own time limit. */
    *failure = tunnel->failure ? tunnel->failure : UVWS_FAILURE_PROXY;
    *status = tunnel->status;
    *reason = tunnel->failure ? tunnel->reason : "it did not answer in time";
    return true;
}
