/*
 * deflate.c by itself. One half of the inputs are messages on their way through compression and
 * back, in fragments: they must come out as they went in, and the reference must read them so too.
 * The other half is what a peer may send instead: it must give what the reference makes of it,
 * however it is cut up.
 */
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static uvws_deflate_options options_of(struct input *input)
{
    uint8_t one = input_byte(input);
    uint8_t two = input_byte(input);
    return (uvws_deflate_options){
        .level = one % 10,
        .memory_level = 1 + (two & 7),
        .out_bits = 9 + (one >> 5) % 7,
        .in_bits = 8 + (two >> 3 & 7),
        .out_takeover = (two & 64) != 0,
        .in_takeover = (two & 128) != 0,
    };
}

/* What the peer's frame would be, for the reference. */
static void tell_reference(struct reference *reference, const char *data, size_t size, bool first,
                           bool final)
{
    int kind = first ? FRAME_RSV1 | UVWS_BINARY : OPCODE_CONTINUATION;
    uint8_t header[10];
    reference_feed(reference, header,
                   uvws_frame_header(header, (final ? FRAME_FINAL : 0) | kind, size, NULL));
    if (size)
        reference_feed(reference, (const uint8_t *)data, size);
}

static void check_last(const struct reference *reference, const struct buffer *message)
{
    const struct records *messages = &reference->messages;
    CHECK(messages->count);
    size_t last = messages->count - 1;
    CHECK(messages->items[last].size == message->size);
    CHECK(!message->size || !memcmp(records_payload(messages, last), message->data, message->size));
}

static void round_trip(uvws_connection *connection, struct input *input,
                       struct reference *reference)
{
    struct buffer fragment = {0};
    struct buffer sent = {0};
    struct buffer received = {0};
    bool first = true;
    while (input->left) {
        const uint8_t *piece;
        uint8_t how = input_byte(input);
        size_t size = input_take(input, input_byte(input), &piece);
        bool final = how & 1 || !input->left;
        fragment.size = 0;
        for (int times = how >> 1; times >= 0; times -= 8)
            CHECK(uvws_buffer_append(&fragment, piece, size));
        CHECK(uvws_buffer_append(&sent, fragment.data, fragment.size));
        CHECK(!uvws_deflate(connection, fragment.data ? fragment.data : "", fragment.size, final));
        const struct buffer *out = &connection->context->deflated;
        tell_reference(reference, out->data, out->size, first, final);
        CHECK(!uvws_inflate(connection, out->data, out->size, final, &received));
        uvws_deflate_done(connection, true);
        first = final;
        if (!final)
            continue;
        CHECK(received.size == sent.size);
        CHECK(!received.size || !memcmp(received.data, sent.data, received.size));
        check_last(reference, &received);
        received.size = sent.size = 0;
    }
    uvws_buffer_free(&fragment);
    uvws_buffer_free(&sent);
    uvws_buffer_free(&received);
}

static void from_a_peer(uvws_connection *connection, struct input *input,
                        struct reference *reference)
{
    struct buffer received = {0};
    bool first = true;
    while (input->left && !reference->code && !reference->too_much) {
        const uint8_t *piece;
        uint8_t how = input_byte(input);
        size_t size = input_take(input, how >> 1, &piece);
        bool final = how & 1;
        tell_reference(reference, (const char *)piece, size, first, final);
        if (reference->too_much)
            break;
        int result = uvws_inflate(connection, (const char *)piece, size, final, &received);
        int code = result == UVWS_OK ? 0 : result == UVWS_TOO_BIG ? 1009 : 1007;
        CHECK(code == reference->code);
        CHECK(!connection->limits.max_message_size || result ||
              received.size <= connection->limits.max_message_size);
        first = final;
        if (!final || result)
            continue;
        check_last(reference, &received);
        received.size = 0;
    }
    uvws_buffer_free(&received);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uvws_context context;
    struct input input = {data, size};
    uvws_connection connection = {.context = &context};
    uint8_t flags = input_byte(&input);
    uvws_deflate_options options = options_of(&input);
    bool is_round_trip = flags & 1;
    if (is_round_trip) {
        options.in_bits = options.out_bits;
        options.in_takeover = options.out_takeover;
    } else if (flags & 2) {
        connection.limits.max_message_size = 1u << (flags >> 4);
    }
    struct reference reference = {.receiver_is_client = true,
                                  .deflate = true,
                                  .takeover = options.in_takeover,
                                  .limit = connection.limits.max_message_size,
                                  .window_bits = options.in_bits};
    CHECK(!uvws_deflate_negotiated(&connection, &options));
    if (is_round_trip)
        round_trip(&connection, &input, &reference);
    else
        from_a_peer(&connection, &input, &reference);
    uvws_deflate_free(&connection);
    uvws_deflate_free_spares(&context);
    reference_free(&reference);
    return 0;
}
