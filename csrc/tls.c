/*
 * TLS. The contexts of OpenSSL are made here and not by lws, for errors that say what is wrong, PEM
 * from memory with its whole chain, and the names in certificates.
 *
 * lws chooses a vhost by the names in SNI and in the Host header, among all that accept connections
 * the way ours do. The SNI callback is taken out, so that a listener always shows its own
 * certificate; and as what the Host header selects is the context's shared server vhost, which has
 * the same protocols, that does no harm.
 *
 * lws neither initialises OpenSSL's globals nor cleans them up: only a context with the option
 * LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT does, and none of ours has it. So the end of a last context
 * cannot take TLS away from the rest of the process, whatever a version of lws does there; and two
 * threads that make their first context together cannot both have lws take the indices at which it
 * keeps its data with OpenSSL's objects, the second time under those that are in use. Without the
 * option these stay 0, the application's own index, on objects that nobody else has. On a vhost the
 * same option means no more than that TLS is to be set up for it.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "uvws.h"

void uvws_tls_init(void)
{
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS, NULL);
}

#define READ_AHEAD (128 * 1024)

static bool complain(char *error, const char *what)
{
    char reason[160] = "";
    unsigned long code = ERR_peek_last_error();
    if (code)
        snprintf(reason, sizeof(reason), ": %s", ERR_reason_error_string(code));
    ERR_clear_error();
    snprintf(error, UVWS_ERROR_SIZE, "%s%s", what, reason);
    return false;
}

static bool load_chain(SSL_CTX *tls, const char *pem, size_t size, char *error)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)size);
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    bool fine = certificate && SSL_CTX_use_certificate(tls, certificate) == 1;
    X509_free(certificate);
    while (fine && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        if (SSL_CTX_add0_chain_cert(tls, certificate) != 1) {
            X509_free(certificate);
            fine = false;
        }
    if (fine)
        ERR_clear_error(); /* the end of the file is an error to OpenSSL */
    BIO_free(bio);
    return fine ? true : complain(error, "ssl_cert holds no usable certificate in PEM format");
}

static bool load_key(SSL_CTX *tls, const char *pem, size_t size, char *error)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)size);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
    bool loaded = key && SSL_CTX_use_PrivateKey(tls, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    if (!key)
        return complain(error, "ssl_key holds no usable private key in PEM format");
    if (!loaded || SSL_CTX_check_private_key(tls) != 1)
        return complain(error, "ssl_key is not the key of ssl_cert");
    return true;
}

static bool load_ca(SSL_CTX *tls, const char *pem, size_t size, bool announce, char *error)
{
    X509_STORE *store = SSL_CTX_get_cert_store(tls);
    BIO *bio = BIO_new_mem_buf(pem, (int)size);
    int count = 0;
    X509 *certificate;
    while (bio && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        count += X509_STORE_add_cert(store, certificate) == 1;
        if (announce)
            SSL_CTX_add_client_CA(tls, certificate);
        X509_free(certificate);
    }
    BIO_free(bio);
    if (!count)
        return complain(error, "ssl_ca holds no usable certificate in PEM format");
    ERR_clear_error();
    return true;
}

static bool load_pem(SSL_CTX *tls, const uvws_tls_pem *pem, bool is_server, char *error)
{
    if (pem->cert && !load_chain(tls, pem->cert, pem->cert_size, error))
        return false;
    if (pem->key && !load_key(tls, pem->key, pem->key_size, error))
        return false;
    if (pem->ca && !load_ca(tls, pem->ca, pem->ca_size, is_server, error))
        return false;
    return true;
}

static void common_options(SSL_CTX *tls)
{
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_options(tls, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
#ifdef UVWS_BUNDLED_LWS
    /* As many records as there are in one go: the patch 0034 leaves none behind. The memory is
     * given back between reads. */
    SSL_CTX_set_read_ahead(tls, 1);
    SSL_CTX_set_default_read_buffer_len(tls, READ_AHEAD);
#endif
    SSL_CTX_set_mode(tls, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_RELEASE_BUFFERS);
}

/* lws has just made `tls` for the listener's vhost. Nonzero makes the vhost fail. */
int uvws_tls_server_setup(uvws_listener *listener, SSL_CTX *tls)
{
    if (!listener->pem)
        return 0;
    common_options(tls);
    SSL_CTX_set_tlsext_servername_callback(tls, NULL);
    if (!load_pem(tls, listener->pem, true, listener->error))
        return 1;
    if (listener->pem->ca)
        SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static uvws_connection *connection_of(const SSL *ssl)
{
    uvws_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    uvws_watch *watch = context ? uvws_watch_find(context, SSL_get_fd(ssl)) : NULL;
    return watch ? watch->connection : NULL;
}

static bool is_address(const char *name)
{
    unsigned char address[16];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* Before the first byte of the handshake: lws took the server's name from the Host header, which
 * it cuts at the first colon. Here the real one goes in, and an address goes into no SNI at all
 * (RFC 6066 section 3). */
static void set_names(SSL *ssl, const struct client *client)
{
    bool address = is_address(client->server_name);
    SSL_set_tlsext_host_name(ssl, address ? NULL : client->server_name);
    if (!client->verify)
        return;
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (address)
        X509_VERIFY_PARAM_set1_ip_asc(parameters, client->server_name);
    else
        X509_VERIFY_PARAM_set1_host(parameters, client->server_name, 0);
}

static void on_tls_event(const SSL *ssl, int where, int value)
{
    if (!(where & SSL_CB_HANDSHAKE_START) && (where & SSL_CB_READ_ALERT) != SSL_CB_READ_ALERT)
        return;
    uvws_connection *connection = connection_of(ssl);
    if (!connection || !connection->client)
        return;
    if (where & SSL_CB_HANDSHAKE_START)
        set_names((SSL *)(uintptr_t)ssl, connection->client);
    else if (value & 0xff) /* 0 is close_notify */
        connection->client->alert = value;
}

static SSL_CTX *client_context(uvws_context *context, const uvws_tls_pem *pem, char *error)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (!tls) {
        complain(error, "OpenSSL could not make a context");
        return NULL;
    }
    common_options(tls);
    SSL_CTX_set_app_data(tls, context);
    SSL_CTX_set_info_callback(tls, on_tls_event);
    if (!pem->ca && SSL_CTX_set_default_verify_paths(tls) != 1) {
        complain(error, "OpenSSL's default certificates cannot be read");
        goto fail;
    }
    if (load_pem(tls, pem, false, error))
        return tls;
fail:
    SSL_CTX_free(tls);
    return NULL;
}

/* Made at the first wss:// connect: reading the system's certificates takes its time. */
int uvws_client_tls(uvws_context *context, const uvws_tls_pem *pem, char *error, size_t error_size)
{
    struct lws_context_creation_info info;
    if (context->client_tls_vhost)
        return UVWS_OK;
    if (error_size < UVWS_ERROR_SIZE)
        return UVWS_FAILED;
    SSL_CTX *tls = client_context(context, pem, error);
    if (!tls)
        return UVWS_FAILED;
    uvws_vhost_info(context, &info);
    info.vhost_name = "\1client-tls";
    info.provided_client_ssl_ctx = tls;
    context->client_tls_vhost = lws_create_vhost(context->lws, &info);
    if (!context->client_tls_vhost) {
        SSL_CTX_free(tls);
        snprintf(error, error_size, "libwebsockets could not make a vhost");
        return UVWS_FAILED;
    }
    context->client_tls = tls;
    return UVWS_OK;
}
