#include "reference.h"

#include <stdlib.h>
#include <string.h>

#define OPCODE_CONTINUATION 0
#define OPCODE_TEXT         1
#define OPCODE_BINARY       2
#define OPCODE_CLOSE        8
#define OPCODE_PING         9
#define OPCODE_PONG         10

#define PROTOCOL_ERROR 1002
#define NO_STATUS      1005
#define BAD_DATA       1007
#define TOO_BIG        1009

/* Large blocks are kept for the next input: to give them back and have them again, page by page,
 * took half of the time. */
#define KEPT_MIN 65536
#define KEPT_MAX 16

static struct bytes kept[KEPT_MAX];
static size_t kept_count;

static void bytes_grow(struct bytes *bytes, size_t size)
{
    struct bytes *block = kept_count ? &kept[kept_count - 1] : NULL;
    if (size >= KEPT_MIN / 2 && bytes->capacity < KEPT_MIN && block && block->capacity >= size) {
        if (bytes->size)
            memcpy(block->data, bytes->data, bytes->size);
        free(bytes->data);
        bytes->data = block->data;
        bytes->capacity = block->capacity;
        kept_count--;
        return;
    }
    bytes->capacity = 2 * size;
    bytes->data = realloc(bytes->data, bytes->capacity);
    if (!bytes->data)
        abort();
}

void bytes_append(struct bytes *bytes, const void *data, size_t size)
{
    if (bytes->size + size > bytes->capacity)
        bytes_grow(bytes, bytes->size + size);
    if (size)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

void bytes_free(struct bytes *bytes)
{
    if (bytes->capacity >= KEPT_MIN && kept_count < KEPT_MAX)
        kept[kept_count++] = *bytes;
    else
        free(bytes->data);
    *bytes = (struct bytes){0};
}

void records_add(struct records *records, uint8_t opcode, const void *data, size_t size)
{
    if (records->count == records->capacity) {
        records->capacity = records->capacity ? 2 * records->capacity : 16;
        records->items = realloc(records->items, records->capacity * sizeof(*records->items));
        if (!records->items)
            abort();
    }
    records->items[records->count++] = (struct frame_record){opcode, records->payloads.size, size};
    bytes_append(&records->payloads, data, size);
}

const uint8_t *records_payload(const struct records *records, size_t index)
{
    return records->payloads.data + records->items[index].begin;
}

void records_free(struct records *records)
{
    free(records->items);
    bytes_free(&records->payloads);
    *records = (struct records){0};
}

/* --- UTF-8: by the smallest and the largest number that a beginning can come to --------------- */

static size_t character_size(uint8_t lead)
{
    if (lead < 0x80)
        return 1;
    if ((lead & 0xE0) == 0xC0)
        return 2;
    if ((lead & 0xF0) == 0xE0)
        return 3;
    return (lead & 0xF8) == 0xF0 ? 4 : 0;
}

bool utf8_may_become_character(const uint8_t *bytes, size_t size)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t whole = character_size(bytes[0]);
    if (!whole || size > whole)
        return false;
    uint32_t low = whole == 1 ? bytes[0] : bytes[0] & (0x7Fu >> whole);
    uint32_t high = low;
    for (size_t n = 1; n < whole; n++) {
        if (n < size && (bytes[n] & 0xC0) != 0x80)
            return false;
        low = low << 6 | (n < size ? bytes[n] & 0x3F : 0);
        high = high << 6 | (n < size ? bytes[n] & 0x3F : 0x3F);
    }
    bool is_surrogate = low >= 0xD800 && high <= 0xDFFF;
    return high >= smallest[whole] && low <= 0x10FFFF && !is_surrogate;
}

bool utf8_is_character(const uint8_t *bytes, size_t size)
{
    return size == character_size(bytes[0]) && utf8_may_become_character(bytes, size);
}

/* --- Messages -------------------------------------------------------------------------------- */

static void fail(struct reference *reference, int code)
{
    if (reference->code)
        return;
    reference->code = code;
    if (!reference->receiver_closed)
        return;
    /* Whether its own Close frame went out before that is not known here. */
    reference->code = REFERENCE_ABNORMAL;
    reference->other_code = code;
}

static bool text_is_fine(struct reference *reference, const uint8_t *data, size_t size)
{
    for (size_t n = 0; n < size; n++) {
        if (!reference->character_size && data[n] < 0x80)
            continue;
        reference->character[reference->character_size++] = data[n];
        if (!utf8_may_become_character(reference->character, reference->character_size))
            return false;
        if (utf8_is_character(reference->character, reference->character_size))
            reference->character_size = 0;
    }
    return true;
}

static void add_to_message(struct reference *reference, const uint8_t *data, size_t size)
{
    bytes_append(&reference->message, data, size);
    if (reference->compressed && reference->limit && reference->message.size > reference->limit)
        fail(reference, TOO_BIG);
    if (reference->message_opcode == OPCODE_TEXT && !text_is_fine(reference, data, size))
        fail(reference, BAD_DATA);
}

static void inflate_piece(struct reference *reference, const uint8_t *data, size_t size)
{
    static uint8_t out[65536];
    z_stream *stream = &reference->inflate;
    if (!reference->inflating && inflateInit2(stream, -reference->window_bits) != Z_OK)
        abort();
    reference->inflating = true;
    stream->next_in = (z_const Bytef *)(uintptr_t)data;
    stream->avail_in = (uInt)size;
    for (;;) {
        stream->next_out = out;
        stream->avail_out = sizeof(out);
        int result = inflate(stream, Z_SYNC_FLUSH);
        add_to_message(reference, out, sizeof(out) - stream->avail_out);
        if (reference->message.size > REFERENCE_INFLATED_MAX)
            reference->too_much = true;
        if (reference->code || reference->too_much)
            return;
        if (result == Z_STREAM_END)
            inflateResetKeep(stream);
        else if (result != Z_OK && result != Z_BUF_ERROR)
            fail(reference, BAD_DATA);
        if (reference->code)
            return;
        if (stream->avail_out && (!stream->avail_in || result == Z_BUF_ERROR)) {
            if (stream->avail_in)
                fail(reference, BAD_DATA);
            return;
        }
    }
}

/* Inflated bytes that are no UTF-8, in a message that is too big as well. */
static void note_other_code(struct reference *reference)
{
    if (reference->limit && reference->code == BAD_DATA)
        reference->other_code = TOO_BIG;
    if (reference->limit && reference->code == TOO_BIG)
        reference->other_code = BAD_DATA;
}

static void message_payload(struct reference *reference, const uint8_t *data, size_t size)
{
    if (reference->receiver_closed)
        return;
    if (!reference->compressed) {
        /* What the header announces is known before the first byte is looked at. */
        if (reference->limit &&
            (reference->left + size > reference->limit ||
             reference->message.size > reference->limit - reference->left - size))
            fail(reference, TOO_BIG);
        else
            add_to_message(reference, data, size);
        return;
    }
    reference->message_raw += size;
    if (size)
        inflate_piece(reference, data, size);
    note_other_code(reference);
}

static void message_done(struct reference *reference)
{
    static const uint8_t tail[] = {0x00, 0x00, 0xFF, 0xFF};
    if (reference->compressed && reference->message_raw && !reference->receiver_closed) {
        inflate_piece(reference, tail, sizeof(tail));
        if (!reference->code && reference->inflate.data_type != 128)
            fail(reference, BAD_DATA);
        note_other_code(reference);
        if (!reference->takeover)
            inflateReset(&reference->inflate);
    }
    if (reference->character_size && !reference->receiver_closed)
        fail(reference, BAD_DATA);
    if (!reference->code && !reference->receiver_closed)
        records_add(&reference->messages, reference->message_opcode, reference->message.data,
                    reference->message.size);
}

static bool is_close_code(int code)
{
    return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
           (code >= 3000 && code <= 4999);
}

static void close_received(struct reference *reference)
{
    const struct bytes *payload = &reference->control;
    reference->receiver_closed = false; /* it looks at Close frames as ever */
    if (payload->size == 1) {
        fail(reference, PROTOCOL_ERROR);
        return;
    }
    int code = reference->said ? reference->said : NO_STATUS;
    if (payload->size)
        code = payload->data[0] << 8 | payload->data[1];
    reference->character_size = 0;
    bool is_text =
        !payload->size || (text_is_fine(reference, payload->data + 2, payload->size - 2) &&
                           !reference->character_size);
    if (payload->size && !is_close_code(code)) {
        reference->other_code = is_text ? 0 : BAD_DATA;
        fail(reference, PROTOCOL_ERROR);
    } else if (!is_text)
        fail(reference, BAD_DATA);
    else
        reference->closed_by_peer = true;
    fail(reference, code);
    if (payload->size)
        bytes_append(&reference->reason, payload->data + 2, payload->size - 2);
}

static void frame_done(struct reference *reference)
{
    bool final = reference->header[0] & 0x80;
    int opcode = reference->header[0] & 0x0F;
    const struct bytes *control = &reference->control;
    reference->in_payload = false;
    reference->header_size = 0;
    reference->header_needed = 2;
    if (opcode == OPCODE_CLOSE)
        close_received(reference);
    else if (opcode == OPCODE_PING) /* may be answered until the Close frame is out */
        records_add(&reference->pings, OPCODE_PING, control->data, control->size);
    else if (opcode == OPCODE_PONG && !reference->receiver_closed)
        records_add(&reference->pongs, OPCODE_PONG, control->data, control->size);
    else if (opcode < OPCODE_CLOSE && final)
        message_done(reference);
}

/* --- Frames ---------------------------------------------------------------------------------- */

static void first_byte(struct reference *reference)
{
    uint8_t byte = reference->header[0];
    int opcode = byte & 0x0F;
    bool is_control = opcode & 8;
    bool begins = opcode == OPCODE_TEXT || opcode == OPCODE_BINARY;
    bool rsv1_is_fine = reference->deflate && begins;
    bool known = opcode <= OPCODE_BINARY || (opcode >= OPCODE_CLOSE && opcode <= OPCODE_PONG);
    if (!known || byte & 0x30 || (byte & 0x40 && !rsv1_is_fine) || (is_control && !(byte & 0x80)) ||
        (begins && reference->in_message) ||
        (opcode == OPCODE_CONTINUATION && !reference->in_message)) {
        fail(reference, PROTOCOL_ERROR);
        return;
    }
    if (is_control) {
        reference->control.size = 0;
        return;
    }
    if (begins) {
        reference->message_opcode = (uint8_t)opcode;
        reference->compressed = byte & 0x40;
        reference->message.size = 0;
        reference->message_raw = 0;
        reference->character_size = 0;
    }
    reference->in_message = !(byte & 0x80);
}

/* How many bytes the length takes behind the second byte. */
static size_t length_width(const struct reference *reference)
{
    int length = reference->header[1] & 0x7F;
    return length == 126 ? 2 : length == 127 ? 8 : 0;
}

static uint64_t read_length(const struct reference *reference)
{
    size_t width = length_width(reference);
    uint64_t length = width ? 0 : reference->header[1] & 0x7F;
    for (size_t n = 0; n < width; n++)
        length = length << 8 | reference->header[2 + n];
    return length;
}

static void second_byte(struct reference *reference)
{
    uint8_t byte = reference->header[1];
    bool is_masked = byte & 0x80;
    bool is_control = reference->header[0] & 8;
    if (is_masked == reference->receiver_is_client || (is_control && length_width(reference))) {
        fail(reference, PROTOCOL_ERROR);
        return;
    }
    reference->header_needed = 2 + length_width(reference) + (is_masked ? 4 : 0);
}

static void length_done(struct reference *reference)
{
    uint64_t smallest = length_width(reference) == 2 ? 126 : UINT16_MAX + 1;
    if (read_length(reference) < smallest)
        fail(reference, PROTOCOL_ERROR);
}

static void header_done(struct reference *reference)
{
    const uint8_t *header = reference->header;
    uint64_t length = read_length(reference);
    reference->left = length;
    reference->at = 0;
    reference->in_payload = true;
    if (!length) {
        if (!(header[0] & 8))
            message_payload(reference, header, 0);
        if (!reference->code)
            frame_done(reference);
    }
}

static void header_byte(struct reference *reference, uint8_t byte)
{
    if (!reference->header_needed)
        reference->header_needed = 2;
    reference->header[reference->header_size++] = byte;
    if (reference->header_size == 1)
        first_byte(reference);
    else if (reference->header_size == 2)
        second_byte(reference);
    else if (reference->header_size == 3 && (reference->header[1] & 0x7F) == 127 && byte & 0x80)
        fail(reference, PROTOCOL_ERROR);
    else if (reference->header_size == 2 + length_width(reference))
        length_done(reference);
    if (!reference->code && reference->header_size == reference->header_needed)
        header_done(reference);
}

static size_t payload_piece(struct reference *reference, const uint8_t *data, size_t size)
{
    static uint8_t piece[4096];
    const uint8_t *key = reference->header + reference->header_needed - 4;
    if (size > reference->left)
        size = (size_t)reference->left;
    if (size > sizeof(piece))
        size = sizeof(piece);
    for (size_t n = 0; n < size; n++)
        piece[n] = reference->receiver_is_client ? data[n] : data[n] ^ key[(reference->at + n) % 4];
    reference->at += size;
    reference->left -= size;
    if (reference->header[0] & 8)
        bytes_append(&reference->control, piece, size);
    else
        message_payload(reference, piece, size);
    if (!reference->code && !reference->left)
        frame_done(reference);
    return size;
}

/* What comes after the end does not count. */
void reference_feed(struct reference *reference, const uint8_t *data, size_t size)
{
    while (size && !reference->code && !reference->too_much) {
        size_t used = 1;
        if (reference->in_payload)
            used = payload_piece(reference, data, size);
        else
            header_byte(reference, *data);
        data += used;
        size -= used;
    }
    reference->behind += size;
}

void reference_free(struct reference *reference)
{
    records_free(&reference->messages);
    records_free(&reference->pings);
    records_free(&reference->pongs);
    bytes_free(&reference->message);
    bytes_free(&reference->control);
    bytes_free(&reference->reason);
    if (reference->inflating)
        inflateEnd(&reference->inflate);
}
