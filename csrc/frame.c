/* Frames as RFC 6455 section 5.2 lays them out, and masking (section 5.3). */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "uvws.h"

#define MASKED    0x80
#define LENGTH_16 126
#define LENGTH_64 127

/* `first` is FRAME_FINAL and so on, and the opcode. */
size_t uvws_frame_header(uint8_t *out, int first, size_t size, const uint8_t *mask_or_null)
{
    uint8_t masked = mask_or_null ? MASKED : 0;
    size_t at = 2;
    out[0] = (uint8_t)first;
    if (size < LENGTH_16) {
        out[1] = (uint8_t)(masked | size);
    } else if (size <= UINT16_MAX) {
        out[1] = masked | LENGTH_16;
        out[2] = (uint8_t)(size >> 8);
        out[3] = (uint8_t)size;
        at = 4;
    } else {
        out[1] = masked | LENGTH_64;
        for (int n = 0; n < 8; n++)
            out[2 + n] = (uint8_t)((uint64_t)size >> (56 - 8 * n));
        at = 10;
    }
    if (mask_or_null) {
        memcpy(out + at, mask_or_null, 4);
        at += 4;
    }
    return at;
}

/* A whole frame, masked as a client's has to be. Returns its size, 0 where there is no mask key. */
size_t uvws_frame_build(uvws_connection *connection, uint8_t *out, int first, const void *payload,
                        size_t size)
{
    uint8_t key[4];
    if (!connection->is_client) {
        size_t header = uvws_frame_header(out, first, size, NULL);
        memcpy(out + header, payload, size);
        return header + size;
    }
    if (!uvws_frame_mask_key(connection->context, key))
        return 0;
    size_t header = uvws_frame_header(out, first, size, key);
    uvws_frame_mask(out + header, payload, size, key, 0);
    return header + size;
}

/* `offset` is where in the payload `in` begins: a large one is masked in pieces. */
void uvws_frame_mask(uint8_t *out, const uint8_t *in, size_t size, const uint8_t key[4],
                     size_t offset)
{
    uint8_t turned[8];
    for (int n = 0; n < 8; n++)
        turned[n] = key[(offset + (size_t)n) & 3];
    uint64_t wide;
    memcpy(&wide, turned, 8);
    size_t n = 0;
    for (; n + 8 <= size; n += 8) {
        uint64_t word;
        memcpy(&word, in + n, 8);
        word ^= wide;
        memcpy(out + n, &word, 8);
    }
    for (; n < size; n++)
        out[n] = in[n] ^ turned[n & 7];
}

/* The key must not be predictable (RFC 6455 section 5.3), so it comes from the kernel, by the page:
 * one system call for each frame would cost more than the frame. */
bool uvws_frame_mask_key(uvws_context *context, uint8_t key[4])
{
    while (context->random_left < 4) {
        ssize_t got = getrandom(context->random, sizeof(context->random), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 4)
            return false;
        context->random_left = (size_t)got;
    }
    context->random_left -= 4;
    memcpy(key, context->random + context->random_left, 4);
    return true;
}
