/* Certificates and keys out of PEM in memory, with errors that name the user's argument. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>

#include "uvws.h"

/* Returns false, for callers that fail with it. */
bool uvws_tls_complain(char *error, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    snprintf(error, UVWS_ERROR_SIZE, "%s%s%.160s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
    return false;
}

/* That no more certificates are there is an error to OpenSSL, and the only one that is none. */
static bool at_end(void)
{
    unsigned long code = ERR_peek_last_error();
    if (code && (ERR_GET_LIB(code) != ERR_LIB_PEM || ERR_GET_REASON(code) != PEM_R_NO_START_LINE))
        return false;
    ERR_clear_error();
    return true;
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
    fine = fine && at_end();
    BIO_free(bio);
    return fine || uvws_tls_complain(error, "ssl_cert holds no usable certificate in PEM format");
}

static bool load_key(SSL_CTX *tls, const char *pem, size_t size, char *error)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)size);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
    bool loaded = key && SSL_CTX_use_PrivateKey(tls, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    if (!key)
        return uvws_tls_complain(error, "ssl_key holds no usable private key in PEM format");
    if (!loaded || SSL_CTX_check_private_key(tls) != 1)
        return uvws_tls_complain(error, "ssl_key is not the key of the first certificate in "
                                        "ssl_cert");
    return true;
}

static bool load_ca(SSL_CTX *tls, const char *pem, size_t size, bool announce, char *error)
{
    X509_STORE *store = SSL_CTX_get_cert_store(tls);
    BIO *bio = BIO_new_mem_buf(pem, (int)size);
    bool fine = bio != NULL;
    int count = 0;
    X509 *certificate;
    while (fine && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        fine = X509_STORE_add_cert(store, certificate) == 1 &&
               (!announce || SSL_CTX_add_client_CA(tls, certificate) == 1);
        X509_free(certificate);
        count++;
    }
    fine = fine && count && at_end();
    BIO_free(bio);
    return fine || uvws_tls_complain(error, "ssl_ca holds no usable certificate in PEM format");
}

bool uvws_tls_load(SSL_CTX *tls, const uvws_tls_pem *pem, bool is_server, char *error)
{
    ERR_clear_error();
    return (!pem->cert || load_chain(tls, pem->cert, pem->cert_size, error)) &&
           (!pem->key || load_key(tls, pem->key, pem->key_size, error)) &&
           (!pem->ca || load_ca(tls, pem->ca, pem->ca_size, is_server, error));
}
