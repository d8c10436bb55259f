/* Who is at the other end. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "uvws.h"

/* IPv4 over a socket for both families: RFC 4291 section 2.5.5.2. */
static void set_ipv6(struct peer *peer, const struct in6_addr *address)
{
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        peer->family = AF_INET;
        memcpy(peer->address, &address->s6_addr[12], 4);
    } else {
        peer->family = AF_INET6;
        memcpy(peer->address, address, 16);
    }
}

void uvws_peer_set(struct peer *peer, const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)address;
        peer->family = AF_INET;
        peer->port = ntohs(ipv4->sin_port);
        memcpy(peer->address, &ipv4->sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)address;
        peer->port = ntohs(ipv6->sin6_port);
        set_ipv6(peer, &ipv6->sin6_addr);
    }
}

void uvws_peer_ask(struct peer *peer, int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    if (!getpeername(fd, (struct sockaddr *)&address, &size))
        uvws_peer_set(peer, &address);
}

/* The path that the peer's end is bound to, if it is: a client's seldom is. */
static int unix_path(int fd, char *out, size_t size)
{
    struct sockaddr_un address = {0};
    socklen_t got = sizeof(address);
    if (fd < 0 || getpeername(fd, (struct sockaddr *)&address, &got) ||
        address.sun_family != AF_UNIX || got <= offsetof(struct sockaddr_un, sun_path))
        return 0;
    size_t length = strnlen(address.sun_path, got - offsetof(struct sockaddr_un, sun_path));
    if (!length || length >= size)
        return 0;
    memcpy(out, address.sun_path, length);
    out[length] = 0;
    return (int)length;
}

int uvws_peer_address(const uvws_connection *connection, char *out, size_t size)
{
    if (!connection)
        return 0;
    int result = uvws_context_check_thread(connection->context);
    if (result)
        return result;
    const struct peer *peer = &connection->peer;
    if (!peer->family)
        return connection->wsi ? unix_path(lws_get_socket_fd(connection->wsi), out, size) : 0;
    return inet_ntop(peer->family, peer->address, out, (socklen_t)size) ? (int)strlen(out) : 0;
}

int uvws_peer_port(const uvws_connection *connection)
{
    if (!connection)
        return 0;
    int result = uvws_context_check_thread(connection->context);
    return result ? result : connection->peer.port;
}
