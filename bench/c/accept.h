/* What a server answers to a Sec-WebSocket-Key: SHA-1 and base64. */
#ifndef BENCH_ACCEPT_H
#define BENCH_ACCEPT_H

#include <stddef.h>
#include <stdint.h>

enum { KEY_TEXT = 24, ACCEPT_TEXT = 28 };

void base64(const uint8_t *data, size_t length, char *out);

/* `key` has KEY_TEXT characters; `accept` takes ACCEPT_TEXT and a NUL. */
void accept_of(const char *key, char accept[ACCEPT_TEXT + 1]);

#endif
