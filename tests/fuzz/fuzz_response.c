/*
 * What a client may be answered before there is a WebSocket: by the server, and by a proxy before
 * that. The input is what they say, in pieces; the answer to the key is given as it should be where
 * the input asks for that.
 *
 * What must hold: the connection opens only behind a tunnel that was granted and a response with
 * status 101, the right key and no more than was offered; otherwise it fails, once, and for a
 * reason that fits; and whatever comes, the attempt ends when the peer is gone.
 */
#include <stdio.h>
#include <string.h>

#include "harness.h"

#define CONNECT "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n"

static const uvws_tunnel_options tunnels[] = {
    {.kind = UVWS_TUNNEL_HTTP, .hello = CONNECT, .hello_size = sizeof(CONNECT) - 1},
    {.kind = UVWS_TUNNEL_SOCKS,
     .hello = "\5\1\0",
     .hello_size = 3,
     .request = "\5\1\0\3\1x\0\120",
     .request_size = 8},
    {.kind = UVWS_TUNNEL_SOCKS,
     .hello = "\5\2\0\2",
     .hello_size = 4,
     .credentials = "\1\1u\1p",
     .credentials_size = 5,
     .request = "\5\1\0\3\1x\0\120",
     .request_size = 8},
};

static const struct {
    const char *text;
    size_t size;
} pieces[] = {
#define PIECE(text) {text, sizeof(text) - 1}
    PIECE("HTTP/1.1 101 Switching Protocols\r\n"),
    PIECE("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
    PIECE("\r\n"),
    PIECE("HTTP/1.1 200 Connection established\r\n"),
    PIECE("Sec-WebSocket-Protocol: chat\r\n"),
    PIECE("Sec-WebSocket-Protocol: other\r\n"),
    PIECE("Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    PIECE("HTTP/1.1 100 Continue\r\n\r\n"),
    PIECE("\5\0"),
    PIECE("\5\2\1\0"),
    PIECE("\5\0\0\1\0\0\0\0\0\0"),
    PIECE("\5\0\0\3\2ab\0\0"),
    PIECE("HTTP/1.1 302 Found\r\nLocation: http://localhost/\r\n"),
    PIECE("Content-Length: 3\r\n"),
    PIECE("HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n"),
    PIECE("\x81\2hi"),
#undef PIECE
};

struct answer {
    struct harness *harness;
    struct bytes said;
    bool right_key;
};

static void say(struct answer *answer, const void *data, size_t size)
{
    bytes_append(&answer->said, data, size);
    harness_write(answer->harness, data, size);
}

static void say_key(struct answer *answer)
{
    char key[29];
    char line[64];
    harness_settle(answer->harness);
    if (!harness_accept_key(&answer->harness->from_core, key))
        return;
    int size = snprintf(line, sizeof(line), "Sec-WebSocket-Accept: %s\r\n", key);
    answer->right_key = true;
    say(answer, line, (size_t)size);
}

static void step(struct answer *answer, struct input *input)
{
    const uint8_t *data;
    uint8_t what = input_byte(input);
    if (what & 0x80) {
        size_t size = input_take(input, what & 0x7F, &data);
        say(answer, data, size);
    } else if (what == 0x7F) {
        for (int n = input_byte(input) * 2; n > 0; n--)
            say(answer, "X-Filler: 0123456789012345678901234567890\r\n", 43);
    } else if (what & 0x40) {
        harness_advance(answer->harness, (what & 0x3F) * 500);
    } else if (what & 0x20) {
        harness_settle(answer->harness);
    } else if (what & 0x10) {
        say_key(answer);
    } else {
        say(answer, pieces[what & 0x0F].text, pieces[what & 0x0F].size);
    }
}

static bool was_said(const struct answer *answer, const char *text)
{
    return answer->said.size &&
           memmem(answer->said.data, answer->said.size, text, strlen(text)) != NULL;
}

static void check_opened(const struct answer *answer, int proxy)
{
    CHECK(answer->right_key && was_said(answer, " 101"));
    if (proxy == 1)
        CHECK(was_said(answer, "HTTP/1.") && was_said(answer, " 2"));
    if (proxy > 1)
        CHECK(answer->said.data[0] == 5);
}

static void check_failed(const struct harness *harness, int proxy)
{
    CHECK(harness->failure >= UVWS_FAILURE_NETWORK && harness->failure <= UVWS_FAILURE_SOCKS);
    CHECK(proxy || harness->failure < UVWS_FAILURE_PROXY);
    CHECK(proxy != 1 || harness->failure != UVWS_FAILURE_SOCKS);
    CHECK(harness->failure != UVWS_FAILURE_HANDSHAKE || !harness->failure_status ||
          (harness->failure_status >= 100 && harness->failure_status <= 999));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct harness *harness = harness_get();
    struct input input = {data, size};
    struct answer answer = {.harness = harness};
    harness_begin(harness);
    uint8_t flags = input_byte(&input);
    int proxy = flags & 3;
    harness->deflate = flags & 4;
    harness->deflate_options = (uvws_deflate_options){
        .level = 1, .memory_level = 1, .out_bits = 9, .in_bits = 15, .threshold = 1};
    harness_accept(harness, proxy ? &tunnels[proxy - 1] : NULL);
    while (input.left && !harness->opened && !harness->failed && answer.said.size < 60000)
        step(&answer, &input);
    harness_settle(harness);
    if (harness->opened)
        check_opened(&answer, proxy);
    harness_end(harness);
    CHECK(harness->opened != harness->failed);
    if (harness->failed)
        check_failed(harness, proxy);
    bytes_free(&answer.said);
    return 0;
}
