/*
 * What a server may be sent before there is a WebSocket. The input is the beginning of a
 * connection, in pieces, and then perhaps a frame.
 *
 * What must hold: a connection opens for a request that RFC 6455 section 4.2.1 demands and for no
 * other, by the word of a plain second reader; what is answered is HTTP, with one status line; and
 * whatever comes, the connection ends when its peer is gone.
 */
#include <string.h>
#include <strings.h>

#include "harness.h"

static const char good[] =
    "GET /chat?a=b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/* Whether a field is there whose value has `wanted` in it, upper or lower case. */
static bool has_field(const char *head, const char *name, const char *wanted)
{
    size_t name_size = strlen(name);
    size_t size = strlen(wanted);
    for (const char *line = head; (line = strchr(line, '\n')); line++) {
        if (strncasecmp(line + 1, name, name_size) != 0 || line[1 + name_size] != ':')
            continue;
        for (const char *at = line + 1 + name_size; *at && *at != '\r'; at++)
            if (!strncasecmp(at, wanted, size))
                return true;
    }
    return false;
}

/* What must be there at least. */
static void check_accepted(const struct bytes *request)
{
    static char head[1 << 16];
    size_t size = request->size < sizeof(head) - 1 ? request->size : sizeof(head) - 1;
    memcpy(head, request->data, size);
    head[size] = 0;
    CHECK(!strncmp(head, "GET ", 4));
    char *end = strstr(head, "\r\n\r\n");
    CHECK(end);
    end[2] = 0;
    CHECK(strstr(head, " HTTP/1."));
    CHECK(has_field(head, "Host", ""));
    CHECK(has_field(head, "Upgrade", "websocket"));
    CHECK(has_field(head, "Connection", "upgrade"));
    CHECK(has_field(head, "Sec-WebSocket-Version", "13"));
    CHECK(has_field(head, "Sec-WebSocket-Key", "=="));
}

static void check_answer(const struct harness *harness)
{
    const struct bytes *answer = &harness->from_core;
    if (!answer->size)
        return;
    CHECK(answer->size > 15 && !memcmp(answer->data, "HTTP/1.", 7) && answer->data[8] == ' ');
    CHECK(memmem(answer->data, answer->size, "\r\n\r\n", 4));
    bool accepted = !memcmp(answer->data + 9, "101", 3);
    CHECK(accepted == harness->opened);
}

static void piece(struct harness *harness, struct bytes *request, const void *data, size_t size)
{
    bytes_append(request, data, size);
    harness_write(harness, data, size);
}

static void add_piece(struct harness *harness, struct bytes *request, struct input *input)
{
    static const char *const lines[] = {
        good,
        "\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        "Sec-WebSocket-Protocol: a, b\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\n",
        "GET http://x/%41?%00 HTTP/1.1\r\n",
        "Host: x\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "\x81\x82\1\2\3\4hi",
        "GET / HTTP/1.0\r\n\r\n",
        "Expect: 100-continue\r\n",
    };
    const uint8_t *data;
    uint8_t what = input_byte(input);
    if (what & 0x80) {
        size_t size = input_take(input, what & 0x7F, &data);
        piece(harness, request, data, size);
    } else if (what == 0x7F) {
        for (int n = input_byte(input) * 2; n > 0; n--) /* a head that is too large, say */
            piece(harness, request, "X-Filler: 0123456789012345678901234567890\r\n", 43);
    } else if (what & 0x40) {
        harness_advance(harness, (what & 0x3F) * 500);
    } else if (what & 0x20) {
        harness_settle(harness);
    } else {
        const char *line = lines[(what & 0x1F) % (sizeof(lines) / sizeof(lines[0]))];
        piece(harness, request, line, strlen(line));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct harness *harness = harness_get();
    struct input input = {data, size};
    struct bytes request = {0};
    harness_begin(harness);
    uint8_t flags = input_byte(&input);
    harness->refuse = flags & 1;
    harness->deflate = flags & 2;
    harness->deflate_options = (uvws_deflate_options){
        .level = 1, .memory_level = 1, .out_bits = 9, .in_bits = 15, .threshold = 1};
    if (flags & 4)
        harness->response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    if (flags & 8) {
        const uint8_t *read;
        size_t count = input_take(&input, flags >> 4, &read);
        bytes_append(&request, read, count);
        harness_adopt(harness, read, count);
    } else {
        harness_connect(harness);
    }
    while (input.left && !harness->opened && request.size < 60000)
        add_piece(harness, &request, &input);
    harness_settle(harness);
    if (harness->opened)
        check_accepted(&request);
    check_answer(harness);
    harness_end(harness);
    bytes_free(&request);
    return 0;
}
