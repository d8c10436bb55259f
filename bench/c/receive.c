/* What is received. */
#include "loadgen.h"

#include <inttypes.h>
#include <string.h>

static void wrong(const struct connection *c, const char *what)
{
    fail("connection %u, message %" PRIu64 ", byte %" PRIu64 ": %s", c->index, c->rx_message,
         c->rx_offset, what);
}

static void check_content(struct connection *c, const uint8_t *expected, const uint8_t *data,
                          uint64_t length)
{
    if (memcmp(data, expected + c->rx_offset, length) != 0)
        wrong(c, "wrong content");
    c->rx_offset += length;
}

static void check_plain(const struct run *r, struct connection *c, const uint8_t *data,
                        uint64_t length)
{
    if (c->rx_offset < 8) {
        uint64_t word = sequence_word(r, sender_of(r, c), c->rx_message);
        uint64_t n = minimum(8 - c->rx_offset, length);
        if (memcmp(data, (const uint8_t *)&word + c->rx_offset, n) != 0)
            wrong(c, "wrong sequence number");
        c->rx_offset += n;
        data += n;
        length -= n;
    }
    check_content(c, r->template, data, length);
}

static void check_compressed(const struct run *r, struct connection *c, const uint8_t *data,
                             uint64_t length)
{
    const uint8_t *expected = text_of(r->corpus, c->rx_message);
    uint8_t out[INFLATED];
    z_stream *z = c->inflater;

    z->next_in = (Bytef *)(uintptr_t)data;
    z->avail_in = (uInt)length;
    do {
        z->next_out = out;
        z->avail_out = sizeof out;
        int result = inflate(z, Z_SYNC_FLUSH);
        if (result != Z_OK && result != Z_BUF_ERROR)
            wrong(c, "what zlib cannot decompress");
        uint64_t got = sizeof out - z->avail_out;
        if (got > r->options.size - c->rx_offset)
            wrong(c, "the echo is too long");
        check_content(c, expected, out, got);
    } while (z->avail_out == 0);
}

static void end_compressed(const struct run *r, struct connection *c)
{
    static const uint8_t left_out[] = {0, 0, 0xff, 0xff};
    check_compressed(r, c, left_out, sizeof left_out);
    if (c->rx_offset < r->options.size)
        wrong(c, "the echo is too short");
}

/* How long the header is, as far as its bytes so far tell. */
static uint32_t header_need(const struct connection *c)
{
    if (c->rx_header_length < 2)
        return 2;
    uint32_t code = c->rx_header[1] & 0x7f;
    return code == 127 ? 10 : code == 126 ? 4 : 2;
}

static void check_data_header(const struct run *r, struct connection *c, enum opcode opcode)
{
    const struct connection *from = sender_of(r, c);
    bool fin = c->rx_header[0] & 0x80;
    bool compressed = r->corpus != NULL && !c->rx_in_message;
    if ((c->rx_header[0] & RSV1) && !compressed)
        wrong(c, "a reserved bit is set");
    if (!(c->rx_header[0] & RSV1) && compressed)
        wrong(c, "the echo is not compressed");
    if (opcode != (c->rx_in_message ? OP_CONTINUATION : r->options.opcode))
        wrong(c, "wrong opcode");
    if (c->rx_message >= from->tx_message + (from->tx_offset + from->channel.pending > 0))
        wrong(c, "an echo of a message that was not sent");
    c->rx_in_message = true;
    if (r->corpus != NULL)
        return;
    if (c->rx_left > r->options.size - c->rx_offset)
        wrong(c, "the echo is too long");
    if (fin && c->rx_left < r->options.size - c->rx_offset)
        wrong(c, "the echo is too short");
}

static void check_header(const struct run *r, struct connection *c)
{
    enum opcode opcode = c->rx_header[0] & 0x0f;
    uint32_t code = c->rx_header[1] & 0x7f;

    c->rx_left = code < 126 ? code : 0;
    for (uint32_t i = 2; i < c->rx_header_length; i++)
        c->rx_left = c->rx_left << 8 | c->rx_header[i];
    if (c->rx_header[0] & (opcode >= OP_CLOSE ? 0x70 : 0x70 & ~RSV1))
        wrong(c, "a reserved bit is set");
    if (c->rx_header[1] & 0x80)
        wrong(c, "the frame is masked");
    if (opcode == OP_PING || opcode == OP_PONG)
        wrong(c, "a ping or pong: turn the server's timers off");
    if (opcode == OP_CLOSE)
        c->close_code = 0;
    else
        check_data_header(r, c, opcode);
}

static void end_of_frame(struct run *r, struct connection *c, uint64_t received_at)
{
    bool fin = c->rx_header[0] & 0x80;
    if ((c->rx_header[0] & 0x0f) == OP_CLOSE) {
        if (c->state != CLOSING)
            fail("connection %u: the server closed it with code %u", c->index, c->close_code);
    } else if (fin) {
        if (r->corpus != NULL)
            end_compressed(r, c);
        message_done(r, c, received_at);
    }
    c->rx_header_length = 0;
    c->rx_in_payload = false;
}

/* Takes header bytes; returns how many. */
static uint64_t take_header(struct run *r, struct connection *c, const uint8_t *data,
                            uint64_t length)
{
    uint64_t used = 0;
    while (used < length && c->rx_header_length < header_need(c))
        c->rx_header[c->rx_header_length++] = data[used++];
    if (c->rx_header_length == header_need(c)) {
        check_header(r, c);
        c->rx_in_payload = true;
    }
    return used;
}

static uint64_t take_payload(struct run *r, struct connection *c, const uint8_t *data,
                             uint64_t length)
{
    uint64_t n = minimum(c->rx_left, length);
    if ((c->rx_header[0] & 0x0f) == OP_CLOSE) {
        for (uint64_t i = 0; i < n; i++)
            if (c->rx_header[1] - c->rx_left + i < 2)
                c->close_code = (uint16_t)(c->close_code << 8 | data[i]);
    } else {
        uint64_t before = c->rx_offset;
        (r->corpus != NULL ? check_compressed : check_plain)(r, c, data, n);
        r->bytes += c->rx_offset - before;
        r->wire_bytes += n;
    }
    c->rx_left -= n;
    return n;
}

void take_bytes(struct run *r, struct connection *c, const uint8_t *data, uint64_t length)
{
    uint64_t received_at = r->timed ? now_ns() : 0;
    while (length > 0) {
        uint64_t n =
            c->rx_in_payload ? take_payload(r, c, data, length) : take_header(r, c, data, length);
        data += n;
        length -= n;
        if (c->rx_in_payload && c->rx_left == 0)
            end_of_frame(r, c, received_at);
    }
}
