/* Client connections until they are established: attempts, their time limit, their failures. */
#include <stdlib.h>
#include <string.h>

#include "uvws.h"

/* lws reads an address that begins with this as the path of a Unix socket. */
#define UNIX_PREFIX '+'
/* For one attempt, where there is no limit for all of them. */
#define ATTEMPT_TIMEOUT (15 * LWS_US_PER_SEC)

void uvws_client_free(uvws_connection *connection)
{
    struct client *client = connection->client;
    if (!client)
        return;
    lws_sul_cancel(&client->timeout);
    uvws_tunnel_free(client);
    uvws_buffer_free(&client->headers);
    free(client->server_name);
    free(client->extra_headers);
    free(client);
    connection->client = NULL;
}

void uvws_clients_stop_timers(uvws_context *context)
{
    uvws_connection *connection = NULL;
    while ((connection = uvws_connection_after(context, connection)))
        if (connection->client)
            lws_sul_cancel(&connection->client->timeout);
}

/* Ends the attempt under way. Not to be called below lws at work on its wsi. */
void uvws_client_give_up(uvws_connection *connection)
{
    struct client *client = connection->client;
    static const char reason[] = "given up";
    connection->context->busy++;
    if (client->attempting)
        /* lws reports the failure from there, and uvws_client_failed() calls it what it is. */
        lws_set_timeout(connection->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
    connection->context->busy--;
    if (connection->client == client)
        uvws_client_failed(connection, reason, sizeof(reason) - 1);
}

static void on_timeout(lws_sorted_usec_list_t *timer)
{
    struct client *client = lws_container_of(timer, struct client, timeout);
    client->timed_out = true;
    uvws_client_give_up(client->connection);
}

uvws_connection *uvws_client_new(uvws_context *context, const uvws_limits *limits, double timeout,
                                 uint32_t *slot)
{
    struct client *client = calloc(1, sizeof(*client));
    uvws_connection *connection = client ? uvws_connection_new(context, limits) : NULL;
    if (!connection) {
        free(client);
        return NULL;
    }
    client->connection = connection;
    client->fd = -1;
    connection->client = client;
    connection->is_client = true;
    *slot = connection->slot;
    client->is_total = timeout > 0;
    if (client->is_total) {
        lws_sul_schedule(context->lws, 0, &client->timeout, on_timeout,
                         (lws_usec_t)(timeout * LWS_USEC_PER_SEC));
        uvws_wake(context);
    }
    return connection;
}

/* One event for one attempt; Python decides whether another address is tried. */
void uvws_client_failed(uvws_connection *connection, const char *reason, size_t size)
{
    struct client *client = connection->client;
    /* What is reported must be answered first: see uvws_connect() on a time limit that is over. */
    if (!client || client->reported || (!client->attempting && !client->timed_out))
        return;
    bool timed_out = client->timed_out;
    int failure = connection->out_of_memory ? UVWS_FAILURE_MEMORY : client->failure;
    if (timed_out)
        failure = client->is_total ? UVWS_FAILURE_TIMEOUT : UVWS_FAILURE_SLOW;
    struct buffer explained = {0};
    if (failure == UVWS_FAILURE_HANDSHAKE &&
        uvws_response_explain(connection, reason, size, &explained)) {
        reason = explained.data;
        size = explained.size;
    }
    int status = client->status;
    if (!timed_out && uvws_tls_explain(connection, &failure, &status, &reason))
        size = strlen(reason);
    if (!timed_out && uvws_tunnel_explain(client, &failure, &status, &reason))
        size = strlen(reason);
    if (!client->is_total)
        lws_sul_cancel(&client->timeout);
    client->attempting = false;
    client->timed_out = false;
    client->reported = true;
    client->fd = -1;
    connection->wsi = NULL;
    connection->out_of_memory = false;
    uvws_event_promised_with_payload(connection->context, UVWS_EVENT_CONNECT_FAILED,
                                     connection->slot, reason, size, failure | (int64_t)status << 8,
                                     UVWS_FAILURE_MEMORY);
    uvws_buffer_free(&explained);
}

/* lws will close a descriptor that it cannot name by its connection any more: see evlib.c. */
static void abandon_attempt(uvws_connection *connection)
{
    uvws_context *context = connection->context;
    uvws_watch *watch = uvws_watch_find(context, lws_get_socket_fd(connection->wsi));
    if (watch && watch->connection == connection)
        uvws_watch_drop(context, watch->fd);
    if (connection->client)
        connection->client->attempting = false;
    lws_set_opaque_user_data(connection->wsi, NULL);
    lws_set_timeout(connection->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    uvws_wake(context);
}

/* Python's answer to the last failure, to a failed name look-up, or to the end of the context. */
void uvws_connect_abort(uvws_connection *connection)
{
    if (!connection || connection->state != UVWS_CONNECTING)
        return;
    uvws_context *context = connection->context;
    if (connection->wsi && (connection->is_adopted || connection->client->attempting))
        abandon_attempt(connection);
    uvws_live_changed(context, -1);
    uvws_connection_free(connection);
}

static bool remember(struct client *client, const uvws_connect_options *options)
{
    free(client->server_name);
    free(client->extra_headers);
    client->server_name = strdup(options->server_name);
    client->extra_headers = strdup(options->extra_headers);
    client->verify = options->verify;
    return client->server_name && client->extra_headers &&
           uvws_tunnel_open(client, options->tunnel);
}

static char *lws_address(const uvws_connect_options *options)
{
    if (!options->unix_path)
        return strdup(options->address);
    size_t size = strlen(options->unix_path);
    char *address = malloc(size + 2);
    if (!address)
        return NULL;
    address[0] = UNIX_PREFIX;
    memcpy(address + 1, options->unix_path, size + 1);
    return address;
}

static int tls_flags(const uvws_connect_options *options)
{
    if (!options->secure)
        return 0;
    /* tls.c checks the name: lws would cut an IPv6 address at its first colon. */
    int flags = LCCSCF_USE_SSL | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK;
    if (!options->verify)
        flags |= LCCSCF_ALLOW_SELFSIGNED | LCCSCF_ALLOW_INSECURE | LCCSCF_ALLOW_EXPIRED;
    return flags;
}

int uvws_connect(uvws_connection *connection, const uvws_connect_options *options)
{
    uvws_context *context = connection->context;
    struct client *client = connection->client;
    client->reported = false;
    if (client->timed_out) {
        /* While the failure of the last attempt was on its way to Python. */
        static const char late[] = "given up";
        uvws_client_failed(connection, late, sizeof(late) - 1);
        return UVWS_OK;
    }
    char *address = lws_address(options);
    if (!address || !remember(client, options)) {
        free(address);
        return UVWS_NO_MEMORY;
    }
    struct lws_client_connect_info info = {
        .context = context->lws,
        .vhost = options->secure ? context->client_tls_vhost : context->client_vhost,
        .address = address,
        .port = options->port,
        .path = options->path,
        .host = options->host_header,
        .protocol = options->protocols,
        .local_protocol_name = uvws_protocols[0].name,
        .ssl_connection = tls_flags(options) | LCCSCF_HTTP_NO_FOLLOW_REDIRECT,
        .ietf_version_or_minus_one = -1,
        /* A client does not take that of its vhost. */
        .retry_and_idle_policy = &uvws_no_keepalive,
        .opaque_user_data = connection,
        .pwsi = &connection->wsi,
    };
    connection->wants_drain = options->want_drain;
    client->attempting = true;
    if (!client->is_total)
        lws_sul_schedule(context->lws, 0, &client->timeout, on_timeout, ATTEMPT_TIMEOUT);
    client->failure = UVWS_FAILURE_NETWORK;
    client->status = 0;
    client->alert = 0;
    client->bad_depth = 0;
    client->why[0] = 0;
    connection->head_checked = 0;
    context->busy++;
    struct lws *wsi = lws_client_connect_via_info(&info);
    context->busy--;
    free(address);
    if (!wsi && client->attempting) {
        /* lws keeps quiet about what fails before it returns. */
        static const char reason[] = "Unable to connect";
        uvws_client_failed(connection, reason, sizeof(reason) - 1);
    }
    uvws_wake(context);
    return UVWS_OK;
}

int uvws_client_append_headers(uvws_connection *connection, unsigned char **at, size_t room)
{
    struct client *client = connection->client;
    if (!client)
        return -1;
    client->failure = UVWS_FAILURE_HANDSHAKE;
    size_t size = strlen(client->extra_headers);
    if (size >= room)
        return -1;
    memcpy(*at, client->extra_headers, size);
    *at += size;
    return 0;
}
