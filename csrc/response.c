/* What a client makes of the response to its handshake, above all of one that is no good. */
#include <stdio.h>
#include <string.h>

#include "head.h"
#include "uvws.h"

/* How much of what is not HTTP is shown. */
#define SHOWN_MAX 64

#ifdef UVWS_BUNDLED_LWS

/* The one that counts is to follow: RFC 9110 section 15.2. */
static bool is_interim(const struct status_line *line)
{
    return line->status >= 100 && line->status < 200 && line->status != 101;
}

/* What is wrong with a response of status 101 (RFC 6455 section 4.1) and lws does not see; where it
 * has words of its own, in these, which failures.py knows. */
static const char *fault_of_upgrade(struct head head)
{
    struct text name;
    struct text value;
    int upgrades = 0;
    int accepts = 0;
    bool is_listed = false;
    while (uvws_head_field(&head, &name, &value)) {
        upgrades += uvws_text_is(name, "Upgrade");
        accepts += uvws_text_is(name, "Sec-WebSocket-Accept");
        is_listed |= uvws_text_is(name, "Connection") && uvws_text_lists(value, "upgrade");
        if (uvws_text_is(name, "Sec-WebSocket-Protocol") && !value.size)
            return "HS: PROTOCOL malformed";
    }
    if (upgrades > 1)
        return "response has Upgrade more than once";
    if (accepts > 1)
        return "response has Sec-WebSocket-Accept more than once";
    return is_listed ? "" : "HS: UPGRADE malformed";
}

/* The rest that is to be in a response of status 101 lws checks. */
static int check_whole(uvws_connection *connection, struct head head)
{
    struct client *client = connection->client;
    struct status_line line;
    uvws_status_line(uvws_head_line(&head), &line);
    if (is_interim(&line)) {
        connection->head_checked = 0;
        return 1;
    }
    client->status = line.status;
    if (line.status != 101)
        snprintf(client->why, sizeof(client->why), "server answered %.*s", (int)line.phrase.size,
                 line.phrase.at);
    else if (!uvws_text_is(line.version, "1.1"))
        snprintf(client->why, sizeof(client->why), "server speaks HTTP/%.*s, not HTTP/1.1",
                 (int)line.version.size, line.version.at);
    else
        snprintf(client->why, sizeof(client->why), "%s", fault_of_upgrade(head));
    return client->why[0] ? -1 : 0;
}

/* Looks at what came of the response. Negative: it will not do, and client->why says why; 1: this
 * one does not count. */
int uvws_response_received(uvws_connection *connection, struct lws *wsi)
{
    struct client *client = connection->client;
    size_t size;
    const char *data = lws_hdr_raw(wsi, &size);
    switch (uvws_head_check(data, size, false, &connection->head_checked)) {
    case HEAD_PARTIAL:
        return 0;
    case HEAD_WHOLE:
        return check_whole(connection, (struct head){data, data + size});
    case HEAD_NOT_HTTP:
        snprintf(client->why, sizeof(client->why), "response is not HTTP");
        return -1;
    default:
        snprintf(client->why, sizeof(client->why), "response has a malformed header");
        return -1;
    }
}

/* Too large to be taken in, or with more fields than lws has room for. */
void uvws_response_too_large(uvws_connection *connection)
{
    snprintf(connection->client->why, sizeof(connection->client->why),
             "head of the response is too large");
    connection->head_checked = 0;
}

/* What Python gets of a handshake that failed: the reason, a NUL, and then the headers, or where
 * there is no whole head, some of what came: a malformed header, or else the beginning. */
bool uvws_response_explain(uvws_connection *connection, const char *reason, size_t size,
                           struct buffer *out)
{
    struct client *client = connection->client;
    size_t came = 0;
    const char *data = connection->wsi ? lws_hdr_raw(connection->wsi, &came) : NULL;
    if (client->why[0]) {
        reason = client->why;
        size = strlen(reason);
    }
    if (!uvws_buffer_append(out, reason, size) || !uvws_buffer_append(out, "", 1))
        return false;
    if (client->status && data)
        return uvws_headers_collect(connection->wsi, false, out);
    size_t begin = came && client->why[0] ? connection->head_checked : 0;
    size_t shown = came - begin < SHOWN_MAX ? came - begin : SHOWN_MAX;
    return !shown || uvws_buffer_append(out, data + begin, shown);
}

#else

bool uvws_response_explain(uvws_connection *connection, const char *reason, size_t size,
                           struct buffer *out)
{
    if (connection->wsi)
        connection->client->status = (int)lws_http_client_http_response(connection->wsi);
    return uvws_buffer_append(out, reason, size);
}

#endif
