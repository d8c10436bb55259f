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
#include <openssl/err.h>
#include <stdio.h>

#include "uvws.h"

#define READ_AHEAD (128 * 1024)

/* Of TLS 1.2: what Mozilla's guidelines call "intermediate", forward secrecy and AEAD. A server has
 * no parameters for the finite fields of DHE, so that only a client speaks these. Those of TLS 1.3
 * are all fine. */
#define CIPHERS_1_2                                                                                \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"                                   \
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305"
/* 112 bits: no RSA below 2048, no signature with MD5 or SHA-1. Also OpenSSL's default where a
 * distribution builds it so; upstream's is lower before 3.2. */
#define SECURITY_LEVEL 2

void uvws_tls_init(void)
{
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS, NULL);
}

static bool common_options(SSL_CTX *tls, char *error)
{
    if (SSL_CTX_get_security_level(tls) < SECURITY_LEVEL)
        SSL_CTX_set_security_level(tls, SECURITY_LEVEL);
    if (SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(tls, CIPHERS_1_2) != 1)
        return uvws_tls_complain(error, "OpenSSL lacks what TLS 1.2 needs");
    SSL_CTX_set_options(tls, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
#ifdef UVWS_BUNDLED_LWS
    /* As many records as there are in one go: the patch 0034 leaves none behind. The memory is
     * given back between reads. */
    SSL_CTX_set_read_ahead(tls, 1);
    SSL_CTX_set_default_read_buffer_len(tls, READ_AHEAD);
#endif
    SSL_CTX_set_mode(tls, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_RELEASE_BUFFERS);
    return true;
}

/* Who resumes a session shows no certificate again, and that may have expired meanwhile. */
static void demand_certificates(SSL_CTX *tls)
{
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_options(tls, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(tls, 0);
}

/* lws has just made `tls` for a vhost of the listener. Nonzero makes the vhost fail. */
int uvws_tls_server_setup(uvws_listener *listener, SSL_CTX *tls)
{
    if (!listener->pem)
        return 0;
    SSL_CTX_set_tlsext_servername_callback(tls, NULL);
    SSL_CTX_set_info_callback(tls, uvws_tls_server_event);
    /* Sessions are in tickets, which cost no memory, or nowhere. */
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    if (!common_options(tls, listener->error) ||
        !uvws_tls_load(tls, listener->pem, true, listener->error))
        return 1;
    if (listener->pem->ca)
        demand_certificates(tls);
    return 0;
}

static SSL_CTX *client_context(uvws_context *context, const uvws_tls_pem *pem, char *error)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (!tls) {
        uvws_tls_complain(error, "OpenSSL could not make a context");
        return NULL;
    }
    SSL_CTX_set_app_data(tls, context);
    SSL_CTX_set_info_callback(tls, uvws_tls_client_event);
    bool fine = common_options(tls, error) && uvws_tls_load(tls, pem, false, error);
    if (fine && !pem->ca && SSL_CTX_set_default_verify_paths(tls) != 1)
        fine = uvws_tls_complain(error, "OpenSSL's default certificates cannot be read");
    if (fine)
        return tls;
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
    /* It would not tell sessions whose certificates were checked from others. */
    info.options |= LWS_SERVER_OPTION_DISABLE_TLS_SESSION_CACHE;
    context->client_tls_vhost = lws_create_vhost(context->lws, &info);
    if (!context->client_tls_vhost) {
        SSL_CTX_free(tls);
        snprintf(error, error_size, "libwebsockets could not make a vhost");
        return UVWS_FAILED;
    }
    context->client_tls = tls;
    return UVWS_OK;
}
