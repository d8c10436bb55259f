/*
 * What RFC 6455 and RFC 7692 say of a stream of frames, as plainly as possible: a byte at a time
 * and without a line of the core. The harnesses hold against it what the core made of the same
 * bytes.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zlib.h>

/* Nothing but the end of the connection ends it. */
#define REFERENCE_OPEN     0
#define REFERENCE_ABNORMAL 1006
/* What a message may inflate to before the reference gives up, and the harness with it. */
#define REFERENCE_INFLATED_MAX (4u << 20)

struct bytes {
    uint8_t *data; /* owned */
    size_t size;
    size_t capacity;
};

struct frame_record {
    uint8_t opcode;
    size_t begin; /* of the payload, in `payloads` */
    size_t size;
};

/* Whole messages, or whole control frames, in their order. */
struct records {
    struct frame_record *items; /* owned */
    size_t count;
    size_t capacity;
    struct bytes payloads;
};

struct reference {
    /* The receiver: given. */
    bool receiver_is_client; /* then frames are not masked, otherwise all are */
    uint64_t limit;          /* bytes of a message; 0: none */
    bool deflate;
    bool takeover;
    int window_bits;
    bool receiver_closed; /* by itself: messages are no more looked at */
    int said;             /* the code that it closed with, or 0 */

    struct records messages; /* their opcode is TEXT or BINARY */
    struct records pings;
    struct records pongs;
    int code;            /* of the end as the receiver sees it; REFERENCE_OPEN before that */
    bool closed_by_peer; /* by a Close frame without a fault */
    int other_code;      /* as good: of two faults, which is seen first depends on the pieces */
    bool too_much;       /* gave up */
    size_t behind;       /* bytes that came after the end */
    struct bytes reason;

    uint8_t header[14];
    size_t header_size;
    size_t header_needed;
    uint64_t left; /* of the payload */
    uint64_t at;   /* in the payload */
    bool in_payload;
    bool in_message;
    bool compressed;
    uint8_t message_opcode;
    size_t message_raw; /* bytes of it on the wire */
    struct bytes message;
    struct bytes control;
    uint8_t character[4]; /* of a text, unfinished */
    size_t character_size;
    z_stream inflate;
    bool inflating;
};

void bytes_append(struct bytes *bytes, const void *data, size_t size);
void bytes_free(struct bytes *bytes);
void records_add(struct records *records, uint8_t opcode, const void *data, size_t size);
const uint8_t *records_payload(const struct records *records, size_t index);
void records_free(struct records *records);

void reference_feed(struct reference *reference, const uint8_t *data, size_t size);
void reference_free(struct reference *reference);

/* Whether these bytes begin a character, and whether they are one. */
bool utf8_may_become_character(const uint8_t *bytes, size_t size);
bool utf8_is_character(const uint8_t *bytes, size_t size);

#endif
