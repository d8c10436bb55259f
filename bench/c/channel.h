/* The byte channel: the only functions that move bytes, over TCP or TLS 1.3. */
#ifndef BENCH_CHANNEL_H
#define BENCH_CHANNEL_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Both directions return a count, or one of these. The end comes without a reason. */
enum { CHANNEL_END = 0, CHANNEL_AGAIN = -1, CHANNEL_FAILED = -2 };

struct channel {
    int fd;
    SSL *ssl;         /* NULL: plain TCP; owned */
    bool ended;       /* TLS has met an end that is still to be told */
    uint64_t pending; /* what TLS has taken of a send that found the socket full: the same bytes
                         must be offered again */
};

/* A client's TLS context, which accepts this one certificate and offers no session. */
SSL_CTX *tls_for_client(const char *certificate);
SSL_CTX *tls_for_server(const char *certificate, const char *key);

/* Puts TLS on a connected socket. */
void channel_secure(struct channel *c, SSL_CTX *tls, const char *host);

/* Goes on with the TLS handshake: 1 when it is done, or one of the above. */
int channel_handshake(struct channel *c, bool *want_write);

ssize_t channel_receive(struct channel *c, void *buffer, size_t room);
ssize_t channel_send(struct channel *c, const void *data, size_t length);

/* Whether TLS holds bytes already, of which the socket does not tell. */
bool channel_has_more(const struct channel *c);

/* Why the last one failed. */
const char *channel_error(void);

void channel_close(struct channel *c);

#endif
