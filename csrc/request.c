/* What a server demands of a request: HTTP/1.1 (RFC 9112), and if it is for an upgrade, what RFC
 * 6455 section 4.2.1 says. */
#include <string.h>

#include "head.h"
#include "uvws.h"

#define VERSION  "13"
#define KEY_SIZE 24 /* 16 bytes in base64 */

static bool key_is_fine(struct text key)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (key.size != KEY_SIZE)
        return false;
    for (size_t n = 0; n < KEY_SIZE - 2; n++)
        if (!key.at[n] || !strchr(alphabet, key.at[n]))
            return false;
    return memcmp(key.at + KEY_SIZE - 2, "==", 2) == 0;
}

#ifdef UVWS_BUNDLED_LWS

/* What there is in a request of the headers that matter here. */
struct request {
    struct request_line line;
    int hosts;
    int keys;
    int versions;
    int lengths; /* Content-Length */
    int codings; /* Transfer-Encoding */
    struct text host;
    struct text length;
    struct text coding;
    struct text key;
    struct text version;
    bool upgrade;    /* Upgrade lists "websocket" */
    bool connection; /* Connection lists "upgrade" */
    bool malformed;  /* an offer of subprotocols or of extensions */
};

static void read_field(struct request *request, struct text name, struct text value)
{
    if (uvws_text_is(name, "Host")) {
        request->hosts++;
        request->host = value;
    } else if (uvws_text_is(name, "Content-Length")) {
        request->lengths++;
        request->length = value;
    } else if (uvws_text_is(name, "Transfer-Encoding")) {
        request->codings++;
        request->coding = value;
    } else if (uvws_text_is(name, "Upgrade")) {
        request->upgrade |= uvws_text_lists(value, "websocket");
    } else if (uvws_text_is(name, "Connection")) {
        request->connection |= uvws_text_lists(value, "upgrade");
    } else if (uvws_text_is(name, "Sec-WebSocket-Key")) {
        request->keys++;
        request->key = value;
    } else if (uvws_text_is(name, "Sec-WebSocket-Version")) {
        request->versions++;
        request->version = value;
    } else if (uvws_text_is(name, "Sec-WebSocket-Protocol")) {
        request->malformed |= !uvws_text_is_tokens(value);
    } else if (uvws_text_is(name, "Sec-WebSocket-Extensions")) {
        request->malformed |= !uvws_text_is_extensions(value);
    }
}

/* Of a head that is whole. */
static void read_request(struct lws *wsi, struct request *request)
{
    struct text name;
    struct text value;
    size_t size;
    struct head head = {.at = lws_hdr_raw(wsi, &size)};
    head.end = head.at + size;
    *request = (struct request){0};
    uvws_request_line(uvws_head_line(&head), &request->line);
    while (uvws_head_field(&head, &name, &value))
        read_field(request, name, value);
}

static bool is_old(const struct request *request)
{
    return uvws_text_is(request->line.version, "1.0");
}

/* Those that lws can tell apart. CONNECT is not among them: lws would make a tunnel's end of it. */
static bool is_known(struct text method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
    for (size_t n = 0; n < sizeof(known) / sizeof(known[0]); n++)
        if (method.size == strlen(known[n]) && !memcmp(method.at, known[n], method.size))
            return true;
    return false;
}

/* Whether it can be a host and a port: RFC 9112 section 3.2. */
static bool host_is_fine(struct text host)
{
    static const char others[] = " \t\"#,/<>?@\\^`{|}";
    for (size_t n = 0; n < host.size; n++)
        if ((unsigned char)host.at[n] >= 0x80 || strchr(others, host.at[n]))
            return false;
    return true;
}

static bool is_number(struct text text)
{
    for (size_t n = 0; n < text.size; n++)
        if (text.at[n] < '0' || text.at[n] > '9')
            return false;
    return text.size > 0;
}

/* 0, or the status to refuse with: a body whose end others could see elsewhere (RFC 9112 section
 * 6.3, and there stricter than it has to be). */
static unsigned int check_framing(const struct request *request)
{
    if (request->lengths > 1 || request->codings > 1 || (request->lengths && request->codings))
        return 400;
    if (request->lengths && !is_number(request->length))
        return 400;
    if (request->codings && is_old(request))
        return 400;
    return !request->codings || uvws_text_is(request->coding, "chunked") ? 0 : 501;
}

static bool has_body(const struct request *request)
{
    return request->codings || (request->lengths && !uvws_text_is(request->length, "0"));
}

/* 0, or the status to refuse with: what holds for every request. */
static unsigned int check_http(const struct request *request)
{
    if (request->line.version.at[0] != '1')
        return 505;
    if (!is_known(request->line.method))
        return 501;
    if (request->hosts != 1 && !(is_old(request) && request->hosts == 0))
        return 400;
    if (!host_is_fine(request->host) || !uvws_target_is_fine(request->line.target))
        return 400;
    return check_framing(request);
}

/* Looks at what came of a request. Negative: refused; 1: whole, and for an upgrade; else 0.
 * In HTTP/1.0 there is no upgrade (RFC 9110 section 7.8). */
int uvws_request_received(uvws_connection *connection, struct lws *wsi)
{
    struct request request;
    size_t size;
    const char *head = lws_hdr_raw(wsi, &size);
    if (size > connection->limits.max_header_size) {
        uvws_handshake_refuse(wsi, HTTP_HEAD_TOO_LARGE);
        return -1;
    }
    enum head_verdict verdict = uvws_head_check(head, size, true, &connection->head_checked);
    if (verdict == HEAD_PARTIAL)
        return 0;
    unsigned int status = 400;
    if (verdict == HEAD_WHOLE) {
        read_request(wsi, &request);
        status = check_http(&request);
    }
    if (status) {
        uvws_handshake_refuse(wsi, status);
        return -1;
    }
    return request.upgrade && request.connection && !is_old(&request);
}

/* 0, or the status to refuse an upgrade with. */
unsigned int uvws_request_check(struct lws *wsi)
{
    struct request request;
    read_request(wsi, &request);
    if (!uvws_text_is(request.line.method, "GET"))
        return 405;
    if (request.versions > 1 || request.keys > 1 || has_body(&request))
        return 400;
    if (!request.versions || !uvws_text_is(request.version, VERSION))
        return 426;
    return request.keys && key_is_fine(request.key) && !request.malformed ? 0 : 400;
}

#else

static struct text header(struct lws *wsi, enum lws_token_indexes token, char *value, int room)
{
    int size = lws_hdr_copy(wsi, value, room, token);
    return (struct text){value, size > 0 ? (size_t)size : 0};
}

unsigned int uvws_request_check(struct lws *wsi)
{
    char value[KEY_SIZE + 1];
    if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) <= 0)
        return 405;
    if (!uvws_text_is(header(wsi, WSI_TOKEN_VERSION, value, sizeof(value)), VERSION))
        return 426;
    return key_is_fine(header(wsi, WSI_TOKEN_KEY, value, sizeof(value))) ? 0 : 400;
}

#endif
