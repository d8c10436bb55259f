/*
 * An established connection and whatever comes through it. The input is a program: what the peer
 * sends, how it is cut up, and what the user does meanwhile. The core is a server, or with
 * FUZZ_CLIENT a client.
 *
 * What must hold: each message and each Pong that the reference finds in the peer's bytes is
 * delivered, in order and to the byte, and nothing else; the connection ends with the code that the
 * reference says; what the core writes is free of faults (the reference reads that as well), has
 * what was sent in it, in order, and answers pings.
 */
#include <stdio.h>
#include <string.h>

#include "harness.h"

#ifdef FUZZ_CLIENT
#define CORE_IS_CLIENT true
#else
#define CORE_IS_CLIENT false
#endif

#define PATTERN_SIZE  200000
#define WIRE_MAX      600000
#define MASKED        0x80
#define TIME_STEP     500
#define PIN_TOKEN     1
#define DEFLATE_LEVEL 1

enum operation {
    OP_FRAME,
    OP_PATTERN_FRAME,
    OP_RAW,
    OP_DEFLATED_FRAME,
    OP_FLUSH,
    OP_FLUSH_PART,
    OP_SEND,
    OP_PING,
    OP_CLOSE,
    OP_PAUSE,
    OP_RESUME,
    OP_PEER_READS,
    OP_ADVANCE,
    OP_SEND_FRAGMENT,
    OP_SEND_LARGE,
    OP_LARGE_FRAME,
    OPERATIONS
};

struct run {
    struct harness *harness;
    struct input input;
    struct reference expected; /* what the core is to find in the peer's bytes */
    struct reference written;  /* what the peer finds in the core's */
    size_t written_at;
    struct bytes wire;   /* of the peer, not sent yet */
    struct bytes unread; /* sent while the core does not read */
    size_t total;        /* bytes the peer has sent */
    z_stream deflate;    /* the peer's */
    bool deflating;
    bool paused;
    bool clogged; /* the peer did not read at some time */
    bool waited;  /* time went by */
    bool in_fragments;
    bool fragments_sent;
};

static uint8_t pattern[PATTERN_SIZE];
static char ascii[PATTERN_SIZE];

static const uint64_t limits[] = {0, 0, 0, 1, 125, 126, 5000, 70000};

/* --- The peer's bytes ---------------------------------------------------------------------------
 */

static void add_header(struct run *run, int first, uint64_t size, int width, bool masked)
{
    uint8_t header[10] = {(uint8_t)first};
    size_t length = 2;
    int bytes = width == 126 ? 2 : width == 127 ? 8 : 0;
    header[1] = (uint8_t)((masked ? MASKED : 0) | (bytes ? width : (int)size));
    for (int n = 0; n < bytes; n++)
        header[length++] = (uint8_t)(size >> (8 * (bytes - 1 - n)));
    bytes_append(&run->wire, header, length);
}

/* `odd` frames are masked the other way round than they should be; `wide` ones have more bytes of
 * length than are needed. */
static void add_frame(struct run *run, int first, const uint8_t *payload, size_t size, bool odd,
                      int wide)
{
    uint8_t key[4] = {0x11, 0xA7, 0, (uint8_t)size};
    bool masked = !CORE_IS_CLIENT != odd;
    int width = size > UINT16_MAX || wide == 2 ? 127 : size > 125 || wide == 1 ? 126 : 0;
    add_header(run, first, size, width, masked);
    if (masked)
        bytes_append(&run->wire, key, sizeof(key));
    size_t begin = run->wire.size;
    bytes_append(&run->wire, payload, size);
    for (size_t n = 0; masked && n < size; n++)
        run->wire.data[begin + n] ^= key[n % 4];
}

static void frame(struct run *run)
{
    const uint8_t *payload;
    int first = input_byte(&run->input);
    int how = input_byte(&run->input);
    size_t size = input_take(&run->input, input_byte(&run->input), &payload);
    add_frame(run, first, payload, size, how % 16 == 15, how >> 4 > 13 ? how >> 4 & 3 : 0);
}

static void pattern_frame(struct run *run, size_t unit)
{
    int first = input_byte(&run->input);
    size_t size = (size_t)(input_byte(&run->input) | input_byte(&run->input) << 8) * unit;
    if (size > PATTERN_SIZE)
        size = PATTERN_SIZE;
    const uint8_t *payload = (first & 0x0F) == UVWS_TEXT ? (const uint8_t *)ascii : pattern;
    add_frame(run, first, payload, size, false, 0);
}

static void raw(struct run *run)
{
    const uint8_t *data;
    size_t size = input_take(&run->input, input_byte(&run->input), &data);
    bytes_append(&run->wire, data, size);
}

/* Compressed as it should be, in one frame or several. */
static void deflated_frame(struct run *run)
{
    static uint8_t out[PATTERN_SIZE];
    const uint8_t *payload;
    int how = input_byte(&run->input);
    size_t size = input_take(&run->input, input_byte(&run->input), &payload);
    if (how & 0x10) {
        payload = (const uint8_t *)ascii;
        size *= 200;
    }
    int bits = run->expected.window_bits > 8 ? run->expected.window_bits : 9;
    if (!run->deflating && deflateInit2(&run->deflate, DEFLATE_LEVEL, Z_DEFLATED, -bits, 8,
                                        Z_DEFAULT_STRATEGY) != Z_OK)
        CHECK(!"deflateInit2");
    run->deflating = true;
    run->deflate.next_in = (z_const Bytef *)(uintptr_t)payload;
    run->deflate.avail_in = (uInt)size;
    run->deflate.next_out = out;
    run->deflate.avail_out = sizeof(out);
    deflate(&run->deflate, how & 0x20 ? Z_FULL_FLUSH : Z_SYNC_FLUSH);
    size_t made = sizeof(out) - run->deflate.avail_out;
    made = made > 4 ? made - 4 : 0;
    if (!run->expected.takeover || how & 0x40)
        deflateReset(&run->deflate);
    int opcode = how & 1 ? UVWS_TEXT : UVWS_BINARY;
    if (how & 2) {
        size_t half = made / 2;
        add_frame(run, FRAME_RSV1 | opcode, out, half, false, 0);
        add_frame(run, FRAME_FINAL, out + half, made - half, false, 0);
        return;
    }
    add_frame(run, FRAME_FINAL | FRAME_RSV1 | opcode, out, made, false, 0);
}

/* --- What must hold ------------------------------------------------------------------------------
 */

static void check_same(const struct records *found, const struct records *expected, size_t count)
{
    for (size_t n = 0; n < count; n++) {
        size_t size = found->items[n].size;
        CHECK(found->items[n].opcode == expected->items[n].opcode);
        CHECK(size == expected->items[n].size);
        CHECK(!size || !memcmp(records_payload(found, n), records_payload(expected, n), size));
    }
}

static void check_received(const struct run *run)
{
    const struct harness *harness = run->harness;
    CHECK(harness->messages.count == run->expected.messages.count);
    check_same(&harness->messages, &run->expected.messages, harness->messages.count);
    CHECK(harness->pongs.count == run->expected.pongs.count);
    check_same(&harness->pongs, &run->expected.pongs, harness->pongs.count);
}

/* Each Pong answers one of the pings, in their order; not all must be answered. */
static void check_answers(const struct run *run)
{
    const struct records *pongs = &run->written.pongs;
    const struct records *pings = &run->expected.pings;
    size_t ping = 0;
    for (size_t n = 0; n < pongs->count; n++) {
        size_t size = pongs->items[n].size;
        while (ping < pings->count && (pings->items[ping].size != size ||
                                       (size && memcmp(records_payload(pings, ping),
                                                       records_payload(pongs, n), size) != 0)))
            ping++;
        CHECK(ping++ < pings->count);
    }
    if (!run->expected.code && !run->expected.receiver_closed && !run->clogged)
        CHECK(ping == pings->count && (pongs->count > 0) == (pings->count > 0));
}

static void read_written(struct run *run)
{
    const struct bytes *out = &run->harness->from_core;
    if (run->written_at < out->size)
        reference_feed(&run->written, out->data + run->written_at, out->size - run->written_at);
    run->written_at = out->size;
}

static bool is_open(const struct run *run)
{
    return run->harness->connection && run->harness->opened;
}

static void check_written(struct run *run)
{
    const struct harness *harness = run->harness;
    const struct records *got = &run->written.messages;
    read_written(run);
    CHECK(!run->written.behind);
    if (run->fragments_sent)
        return; /* whole messages only are written down */
    CHECK(!run->written.code || run->written.closed_by_peer);
    CHECK(got->count <= harness->sent.count);
    check_same(got, &harness->sent, got->count);
    if (!run->expected.code && harness->peer_reads && !run->waited)
        CHECK(got->count == harness->sent.count);
    check_answers(run);
}

static bool is_settled(const struct run *run)
{
    return !run->paused && run->harness->peer_reads && run->harness->peer >= 0;
}

static void check(struct run *run)
{
    if (run->expected.too_much)
        return;
    if (is_settled(run) && !run->clogged)
        check_received(run);
    check_written(run);
}

static bool code_is_right(const struct run *run)
{
    int expected = run->expected.code ? run->expected.code : REFERENCE_ABNORMAL;
    int code = run->harness->code;
    if (run->expected.other_code && code == run->expected.other_code)
        return true;
    /* What it answers, and then gets no answer to, within the time that there is. */
    return code == expected || (run->waited && code == REFERENCE_ABNORMAL);
}

static void check_end(struct run *run)
{
    const struct harness *harness = run->harness;
    if (run->expected.too_much)
        return;
    check_received(run);
    if (!code_is_right(run))
        fprintf(stderr, "ended with %d, not with %d\n", harness->code, run->expected.code);
    CHECK(code_is_right(run));
    if (run->expected.closed_by_peer && !run->expected.said && !run->waited) {
        CHECK(harness->reason.size == run->expected.reason.size);
        CHECK(!harness->reason.size ||
              !memcmp(harness->reason.data, run->expected.reason.data, harness->reason.size));
    }
    CHECK(harness->too_big == (harness->code == 1009 && !run->expected.closed_by_peer));
    bool must_say = run->expected.code && run->expected.code != REFERENCE_ABNORMAL;
    if (must_say && !run->clogged && !run->waited && !run->fragments_sent && !run->expected.said) {
        /* A Close frame says the same, where it says anything. */
        CHECK(run->written.closed_by_peer);
        CHECK(run->written.code == harness->code || run->written.code == 1005);
    }
}

/* --- The program ---------------------------------------------------------------------------------
 */

static void expect(struct run *run, const uint8_t *data, size_t size)
{
    if (run->paused)
        bytes_append(&run->unread, data, size);
    else
        reference_feed(&run->expected, data, size);
}

static void expect_unread(struct run *run)
{
    run->paused = false;
    if (run->unread.size)
        reference_feed(&run->expected, run->unread.data, run->unread.size);
    run->unread.size = 0;
}

static void flush(struct run *run, size_t size)
{
    if (size > run->wire.size)
        size = run->wire.size;
    if (size) {
        run->total += size;
        expect(run, run->wire.data, size);
        harness_write(run->harness, run->wire.data, size);
        memmove(run->wire.data, run->wire.data + size, run->wire.size - size);
        run->wire.size -= size;
    }
    harness_settle(run->harness);
    check(run);
}

static void user_sends(struct run *run)
{
    int kind = input_byte(&run->input) & 1 ? UVWS_TEXT : UVWS_BINARY;
    size_t size = input_byte(&run->input);
    size += (size_t)input_byte(&run->input) << 8;
    if (!run->in_fragments)
        harness_send(run->harness, kind, ascii, size);
}

static void user_sends_fragment(struct run *run)
{
    int how = input_byte(&run->input);
    size_t size = input_byte(&run->input);
    int kind = how & 1 ? UVWS_TEXT : UVWS_BINARY;
    if (!is_open(run))
        return;
    run->fragments_sent = true;
    if (uvws_send_fragment(run->harness->connection, kind, ascii, size, how & 2) >= 0)
        run->in_fragments = !(how & 2);
}

static void user_pings(struct run *run)
{
    size_t size = input_byte(&run->input); /* more than 125 are cut off */
    if (is_open(run))
        uvws_send_control(run->harness->connection, UVWS_PING, ascii, size);
}

/* A large one, which is not copied. */
static void user_sends_large(struct run *run)
{
    size_t size = UVWS_PIN_SIZE + (size_t)input_byte(&run->input) * 500;
    if (!is_open(run) || run->in_fragments)
        return;
    int64_t result =
        uvws_send_pinned(run->harness->connection, UVWS_BINARY, ascii, size, PIN_TOKEN);
    if (result >= 0)
        records_add(&run->harness->sent, UVWS_BINARY, ascii, size);
}

static void user_closes(struct run *run)
{
    static const int codes[] = {1000, 1001, 1011, 3000, 4999};
    uint8_t byte = input_byte(&run->input);
    int code = codes[byte % 5];
    if (!is_open(run) || uvws_state(run->harness->connection) != UVWS_CONNECTED)
        return;
    CHECK(!uvws_close(run->harness->connection, code, ascii, byte % 124));
    run->expected.receiver_closed = true;
    run->expected.said = code;
    expect_unread(run);
    harness_settle(run->harness);
}

static void step(struct run *run)
{
    struct harness *harness = run->harness;
    switch (input_byte(&run->input) % OPERATIONS) {
    case OP_FRAME:
        frame(run);
        break;
    case OP_PATTERN_FRAME:
        pattern_frame(run, 1);
        break;
    case OP_LARGE_FRAME:
        pattern_frame(run, 100);
        break;
    case OP_RAW:
        raw(run);
        break;
    case OP_DEFLATED_FRAME:
        deflated_frame(run);
        break;
    case OP_FLUSH:
        flush(run, run->wire.size);
        break;
    case OP_FLUSH_PART:
        flush(run, input_byte(&run->input));
        break;
    case OP_SEND:
        user_sends(run);
        break;
    case OP_SEND_FRAGMENT:
        user_sends_fragment(run);
        break;
    case OP_PING:
        user_pings(run);
        break;
    case OP_SEND_LARGE:
        user_sends_large(run);
        break;
    case OP_CLOSE:
        user_closes(run);
        break;
    case OP_PAUSE:
        if (is_open(run) && harness->connection->state == UVWS_CONNECTED && !run->paused &&
            !run->clogged) {
            CHECK(!uvws_pause(harness->connection));
            run->paused = true;
        }
        break;
    case OP_RESUME:
        if (is_open(run) && run->paused)
            CHECK(!uvws_resume(harness->connection));
        expect_unread(run);
        harness_settle(harness); /* or what the user does next comes before what is unread */
        break;
    case OP_PEER_READS:
        harness->peer_reads = !harness->peer_reads;
        run->clogged = true;
        break;
    case OP_ADVANCE:
        run->waited = true;
        harness_advance(harness, input_byte(&run->input) * TIME_STEP);
        break;
    }
}

/* --- The whole -----------------------------------------------------------------------------------
 */

#define DEFLATE_FIELD "Sec-WebSocket-Extensions: permessage-deflate\r\n"

/* Returns what the peer says, all of it that is not the core's. */
static void handshake(struct run *run, bool adopt)
{
    static const char request[] =
        "GET /?a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    struct harness *harness = run->harness;
    char response[256];
    char key[29];
    if (CORE_IS_CLIENT) {
        harness_accept(harness, NULL);
        CHECK(harness_accept_key(&harness->from_core, key));
        snprintf(response, sizeof(response),
                 "HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n%s\r\n",
                 key, harness->deflate ? DEFLATE_FIELD : "");
        harness_write(harness, response, strlen(response));
    } else if (adopt) {
        harness_adopt(harness, request, sizeof(request) - 1);
    } else {
        harness_connect(harness);
        harness_write(harness, request, sizeof(request) - 1);
    }
    harness_settle(harness);
    CHECK(harness->opened);
    CHECK(CORE_IS_CLIENT || memmem(harness->from_core.data, harness->from_core.size, " 101 ", 5));
    harness->from_core.size = 0;
}

static void configure(struct run *run)
{
    struct harness *harness = run->harness;
    uint8_t flags = input_byte(&run->input);
    uint8_t sizes = input_byte(&run->input);
    harness->echo = flags & 2;
    harness->deflate = flags & 4;
    harness->limit = limits[sizes & 7];
    harness->deflate_options = (uvws_deflate_options){
        .level = DEFLATE_LEVEL,
        .memory_level = 5,
        .out_bits = 9 + (flags >> 5 & 3) * 2,
        .in_bits = 8 + (sizes >> 3 & 7),
        .out_takeover = (flags & 8) != 0,
        .in_takeover = (flags & 16) != 0,
        .threshold = sizes >> 6 ? 1u << (sizes >> 6) * 3 : 0,
    };
    run->expected.receiver_is_client = CORE_IS_CLIENT;
    run->expected.limit = harness->limit;
    run->expected.deflate = harness->deflate;
    run->expected.takeover = harness->deflate_options.in_takeover;
    run->expected.window_bits = harness->deflate_options.in_bits;
    run->written.receiver_is_client = !CORE_IS_CLIENT;
    run->written.deflate = harness->deflate;
    run->written.takeover = harness->deflate_options.out_takeover;
    run->written.window_bits = 15;
    handshake(run, flags & 1);
}

static void prepare(void)
{
    if (pattern[1])
        return;
    for (size_t n = 0; n < PATTERN_SIZE; n++) {
        pattern[n] = (uint8_t)(n * 7 + (n >> 8));
        ascii[n] = (char)('a' + n % 23 + (n >> 10) % 3);
    }
}

/* Before the peer goes, it takes all that it is sent. */
static void finish(struct run *run)
{
    struct harness *harness = run->harness;
    flush(run, run->wire.size);
    if (run->paused && is_open(run))
        uvws_resume(harness->connection);
    expect_unread(run);
    harness->peer_reads = true;
    harness_settle(harness);
    check(run);
    /* From here on whatever is not settled ends because nobody is there. */
    harness_close_peer(harness);
    if (!harness->closed) {
        run->waited = true;
        harness_advance(harness, 60000);
    }
    CHECK(harness->closed);
    check_end(run);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run run = {.harness = harness_get(), .input = {data, size}};
    prepare();
    harness_begin(run.harness);
    configure(&run);
    while (run.input.left && run.wire.size < WIRE_MAX && run.total < WIRE_MAX &&
           run.harness->from_core.size < WIRE_MAX)
        step(&run);
    finish(&run);
    harness_end(run.harness);
    reference_free(&run.expected);
    reference_free(&run.written);
    bytes_free(&run.wire);
    bytes_free(&run.unread);
    if (run.deflating)
        deflateEnd(&run.deflate);
    return 0;
}
