/*
 * utf8.c against the reference, which decides by numbers rather than by ranges of bytes. The input
 * is a text in pieces: a byte says how long the next one is.
 */
#include "harness.h"

struct expected {
    uint8_t character[4];
    size_t size;
    bool wrong;
};

static void expect(struct expected *expected, const uint8_t *data, size_t size)
{
    for (size_t n = 0; n < size && !expected->wrong; n++) {
        expected->character[expected->size++] = data[n];
        expected->wrong = !utf8_may_become_character(expected->character, expected->size);
        if (utf8_is_character(expected->character, expected->size))
            expected->size = 0;
    }
}

static void compare(struct expected *expected, struct utf8 *state, const uint8_t *data, size_t size)
{
    expect(expected, data, size);
    CHECK(uvws_utf8_feed(state, data, size) == !expected->wrong);
    CHECK(expected->wrong || uvws_utf8_complete(state) == !expected->size);
}

static void compare_one(const uint8_t bytes[4], size_t size)
{
    compare(&(struct expected){0}, &(struct utf8){0}, bytes, size);
}

/* Every text of three bytes that begins with a lead byte, and of those of four the ones whose last
 * two lie where something changes. */
static void compare_short_ones(void)
{
    static const uint8_t edges[] = {0, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    for (uint32_t text = 0x800000; text < 0x1000000; text++) {
        uint8_t bytes[4] = {(uint8_t)(text >> 16), (uint8_t)(text >> 8), (uint8_t)text};
        compare_one(bytes, 3);
    }
    for (uint32_t text = 0xE000; text < 0x10000; text++)
        for (size_t third = 0; third < sizeof(edges); third++)
            for (size_t fourth = 0; fourth < sizeof(edges); fourth++) {
                uint8_t bytes[4] = {(uint8_t)(text >> 8), (uint8_t)text, edges[third],
                                    edges[fourth]};
                compare_one(bytes, 4);
            }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool compared;
    struct input input = {data, size};
    struct expected expected = {0};
    struct utf8 state = {0};
    if (!compared)
        compare_short_ones();
    compared = true;
    while (input.left && !expected.wrong) {
        const uint8_t *piece;
        size_t length = input_take(&input, input_byte(&input), &piece);
        compare(&expected, &state, piece, length);
    }
    return 0;
}
