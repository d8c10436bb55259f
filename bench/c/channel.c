/* The byte channel: plain TCP or TLS 1.3. */
#include "channel.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

/* One cipher and one group, so that every peer does the same work. */
static const char CIPHER[] = "TLS_AES_128_GCM_SHA256";
static const char GROUP[] = "X25519";

enum { RECORD = 16384, READ_AHEAD = 4 * RECORD };

const char *channel_error(void)
{
    unsigned long error = ERR_peek_last_error();
    const char *text = error != 0 ? ERR_reason_error_string(error) : NULL;
    return text != NULL ? text : strerror(errno);
}

static SSL_CTX *tls_context(const SSL_METHOD *method)
{
    SSL_CTX *tls = SSL_CTX_new(method);
    if (tls == NULL || SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(tls, CIPHER) != 1 || SSL_CTX_set1_groups_list(tls, GROUP) != 1)
        fail("TLS: %s", channel_error());
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(tls, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(tls, 1);
    SSL_CTX_set_default_read_buffer_len(tls, READ_AHEAD);
    return tls;
}

SSL_CTX *tls_for_client(const char *certificate)
{
    SSL_CTX *tls = tls_context(TLS_client_method());
    if (SSL_CTX_load_verify_locations(tls, certificate, NULL) != 1)
        fail("the certificate %s: %s", certificate, channel_error());
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    return tls;
}

SSL_CTX *tls_for_server(const char *certificate, const char *key)
{
    SSL_CTX *tls = tls_context(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        fail("the certificate %s, its key %s: %s", certificate, key, channel_error());
    SSL_CTX_set_num_tickets(tls, 0);
    return tls;
}

void channel_secure(struct channel *c, SSL_CTX *tls, const char *host)
{
    c->ssl = SSL_new(tls);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
        fail("TLS: %s", channel_error());
    if (host == NULL) {
        SSL_set_accept_state(c->ssl);
        return;
    }
    SSL_set_connect_state(c->ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), host) != 1)
        fail("TLS: %s", channel_error());
}

static int tls_outcome(const struct channel *c, int result)
{
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return CHANNEL_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return CHANNEL_END;
    default:
        return CHANNEL_FAILED;
    }
}

static int socket_outcome(void)
{
    bool again = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    return again ? CHANNEL_AGAIN : CHANNEL_FAILED;
}

int channel_handshake(struct channel *c, bool *want_write)
{
    ERR_clear_error();
    int result = SSL_do_handshake(c->ssl);
    *want_write = result != 1 && SSL_get_error(c->ssl, result) == SSL_ERROR_WANT_WRITE;
    return result == 1 ? 1 : tls_outcome(c, result);
}

/* An end or a failure behind data is met again by the next call, which the socket will not cause.
 */
static ssize_t tls_put_off(struct channel *c, int result, size_t got)
{
    c->ended = tls_outcome(c, result) != CHANNEL_AGAIN;
    return (ssize_t)got;
}

/* Record by record, as many as there are: a buffer is then worth looking at. */
static ssize_t tls_receive(struct channel *c, uint8_t *buffer, size_t room)
{
    size_t got = 0;
    do {
        ERR_clear_error();
        int n = SSL_read(c->ssl, buffer + got, (int)(room - got));
        if (n <= 0)
            return got > 0 ? tls_put_off(c, n, got) : tls_outcome(c, n);
        got += (size_t)n;
    } while (room - got >= RECORD);
    return (ssize_t)got;
}

static ssize_t tls_send(struct channel *c, const uint8_t *data, size_t length)
{
    size_t sent = 0;
    while (sent < length) {
        ERR_clear_error();
        int n = SSL_write(c->ssl, data + sent, (int)(length - sent));
        if (n > 0) {
            c->pending = 0;
            sent += (size_t)n;
            continue;
        }
        int outcome = tls_outcome(c, n);
        if (outcome != CHANNEL_AGAIN)
            return outcome;
        c->pending = minimum(length - sent, RECORD);
        return sent > 0 ? (ssize_t)sent : CHANNEL_AGAIN;
    }
    return (ssize_t)sent;
}

ssize_t channel_receive(struct channel *c, void *buffer, size_t room)
{
    if (c->ssl != NULL)
        return tls_receive(c, buffer, room);
    ssize_t n = recv(c->fd, buffer, room, 0);
    return n < 0 ? socket_outcome() : n;
}

ssize_t channel_send(struct channel *c, const void *data, size_t length)
{
    if (c->ssl != NULL)
        return tls_send(c, data, length);
    ssize_t n = send(c->fd, data, length, MSG_NOSIGNAL);
    return n < 0 ? socket_outcome() : n;
}

bool channel_has_more(const struct channel *c)
{
    return c->ssl != NULL && (c->ended || SSL_has_pending(c->ssl));
}

void channel_close(struct channel *c)
{
    SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd);
}
