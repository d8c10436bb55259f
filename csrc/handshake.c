/* What a server demands of an upgrade request beyond what lws looks at (RFC 6455 section 4.2.1). */
#include <string.h>

#include "uvws.h"

#define VERSION       "13"
#define KEY_SIZE      24 /* 16 bytes in base64 */
#define RESPONSE_SIZE 512

static bool header_is(struct lws *wsi, enum lws_token_indexes token, const char *wanted)
{
    char value[16];
    int size = lws_hdr_copy(wsi, value, sizeof(value), token);
    return size > 0 && strcmp(value, wanted) == 0;
}

static bool key_is_fine(struct lws *wsi)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char key[KEY_SIZE + 1];
    int size = lws_hdr_copy(wsi, key, sizeof(key), WSI_TOKEN_KEY);
    return size == KEY_SIZE && strspn(key, alphabet) == KEY_SIZE - 2 &&
           strcmp(key + KEY_SIZE - 2, "==") == 0;
}

static bool add(const char *name, const char *value, unsigned char **at, unsigned char *end,
                struct lws *wsi)
{
    return !lws_add_http_header_by_name(wsi, (const unsigned char *)name,
                                        (const unsigned char *)value, (int)strlen(value), at, end);
}

/* Writes a response without a body. The caller closes the connection, written or not. */
void uvws_handshake_refuse(struct lws *wsi, unsigned int status)
{
    unsigned char response[LWS_PRE + RESPONSE_SIZE];
    unsigned char *start = response + LWS_PRE;
    unsigned char *at = start;
    unsigned char *end = response + sizeof(response);
    if (lws_add_http_header_status(wsi, status, &at, end))
        return;
    if (status == 426 && (!add("upgrade:", "websocket", &at, end, wsi) ||
                          !add("sec-websocket-version:", VERSION, &at, end, wsi)))
        return;
    if (add("connection:", "close", &at, end, wsi) &&
        !lws_add_http_header_content_length(wsi, 0, &at, end) &&
        lws_finalize_write_http_header(wsi, start, &at, end))
        return;
}

/* 0, or the status to refuse with. */
unsigned int uvws_handshake_check(struct lws *wsi)
{
    if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) <= 0)
        return 405;
    if (!header_is(wsi, WSI_TOKEN_VERSION, VERSION))
        return 426;
    return key_is_fine(wsi) ? 0 : 400;
}
