/* What OpenSSL tells of handshakes under way: names, certificates, alerts, failures. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "uvws.h"

#define DEPTH_SHIFT 12
#define DEPTH_MAX   255
#define ALERT_SHIFT 20

static uvws_connection *client_of(const SSL *ssl)
{
    uvws_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    uvws_watch *watch = context ? uvws_watch_find(context, SSL_get_fd(ssl)) : NULL;
    return watch && watch->connection && watch->connection->client ? watch->connection : NULL;
}

static bool is_address(const char *name)
{
    unsigned char address[16];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* Without the dot that marks a name as complete, which no certificate has (RFC 6066 section 3). */
static size_t name_size(const char *name)
{
    size_t size = strlen(name);
    return size && name[size - 1] == '.' ? size - 1 : size;
}

/* lws took the server's name from the Host header, which it cuts at the first colon. Here the real
 * one goes in, and an address goes into no SNI at all. */
static void set_name(SSL *ssl, const char *name)
{
    char without_dot[256];
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    if (is_address(name)) {
        SSL_set_tlsext_host_name(ssl, NULL);
        X509_VERIFY_PARAM_set1_ip_asc(parameters, name);
        return;
    }
    snprintf(without_dot, sizeof(without_dot), "%.*s", (int)name_size(name), name);
    SSL_set_tlsext_host_name(ssl, without_dot);
    /* Names stand in the subjectAltName and nowhere else: RFC 9525 section 2. */
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                                    X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    X509_VERIFY_PARAM_set1_host(parameters, without_dot, 0);
}

static int on_certificate(int fine, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    uvws_connection *connection = client_of(ssl);
    if (!fine && connection)
        connection->client->bad_depth = X509_STORE_CTX_get_error_depth(store);
    return fine;
}

static int take_any_certificate(int fine, X509_STORE_CTX *store)
{
    (void)fine;
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

void uvws_tls_client_event(const SSL *ssl, int where, int value)
{
    bool begins = where & SSL_CB_HANDSHAKE_START;
    bool is_alert = (where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT;
    uvws_connection *connection = begins || is_alert ? client_of(ssl) : NULL;
    if (!connection)
        return;
    struct client *client = connection->client;
    if (begins) {
        SSL *changed = (SSL *)(uintptr_t)ssl;
        set_name(changed, client->server_name);
        /* Not lws's own callback, whose exceptions are others than ours. */
        SSL_set_verify(changed, SSL_VERIFY_PEER,
                       client->verify ? on_certificate : take_any_certificate);
    } else if (value & 0xff) { /* 0 is close_notify */
        client->alert = value & 0xff;
    }
}

/* With TLS 1.3 a server may refuse our certificate after we think that all is well; and where that
 * was noticed when writing, its alert is still to be read. */
static void look_for_alert(SSL *ssl)
{
    char byte;
    if (!SSL_is_init_finished(ssl))
        return;
    SSL_peek(ssl, &byte, 1);
    ERR_clear_error();
}

bool uvws_tls_explain(uvws_connection *connection, int *failure, int *status, const char **reason)
{
    struct client *client = connection->client;
    SSL *ssl = connection->wsi ? lws_get_ssl(connection->wsi) : NULL;
    if (ssl && *failure == UVWS_FAILURE_HANDSHAKE && !client->status && !client->alert)
        look_for_alert(ssl);
    if (client->alert && !client->status) {
        *failure = UVWS_FAILURE_TLS;
        *status = client->alert << ALERT_SHIFT;
        *reason = SSL_alert_desc_string_long(client->alert);
        return true;
    }
    long result = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
    if (*failure != UVWS_FAILURE_TLS || !client->verify || result == X509_V_OK)
        return false;
    int depth = client->bad_depth < DEPTH_MAX ? client->bad_depth : DEPTH_MAX;
    *status = (int)result | depth << DEPTH_SHIFT;
    *reason = X509_verify_cert_error_string(result);
    return true;
}

static void tell_of_failure(uvws_connection *connection, const SSL *ssl)
{
    char text[UVWS_ERROR_SIZE];
    int size = uvws_peer_address(connection, text, sizeof(text));
    long result = SSL_get_verify_result(ssl);
    const char *reason = result == X509_V_OK ? ERR_reason_error_string(ERR_peek_error())
                                             : X509_verify_cert_error_string(result);
    text[size] = 0;
    size += 1 + snprintf(text + size + 1, sizeof(text) - (size_t)size - 1, "%s",
                         reason ? reason : "no reason given");
    uvws_event_with_payload(connection->context, UVWS_EVENT_TLS_FAILED, 0, text, (size_t)size,
                            (int64_t)connection->listener->slot);
}

/* What fails here has no connection yet that the user could be told about; so it is for the log. */
void uvws_tls_server_event(const SSL *ssl, int where, int value)
{
    if (!(where & SSL_CB_EXIT) || value > 0 || !ERR_peek_error() || !lwsl_visible(LLL_INFO))
        return;
    struct lws *wsi = SSL_get_app_data(ssl);
    uvws_connection *connection = wsi ? lws_get_opaque_user_data(wsi) : NULL;
    if (connection && connection->listener && connection->state == UVWS_CONNECTING)
        tell_of_failure(connection, ssl);
}
