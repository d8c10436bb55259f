/*
 * What comes to a listener that has as many connections as it may: lws never hears of it.
 *
 * It is told 503 and kept for a moment: the request is still on its way, and to close a socket
 * before that has come is a reset, which can take the answer with it. Only so many are kept, and
 * nothing of them but the descriptor; over TLS there is nobody to tell.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "uvws.h"

#define LINGER    LWS_US_PER_SEC
#define READ_SIZE 4096
#define READS_MAX 16

static const char response[] = "HTTP/1.1 503 Service Unavailable\r\n"
                               "Connection: close\r\n"
                               "Content-Length: 0\r\n"
                               "\r\n";

/* With all that has come read, the end is no reset. */
static void end(int fd)
{
    char unread[READ_SIZE];
    for (int n = 0; n < READS_MAX; n++)
        if (recv(fd, unread, sizeof(unread), MSG_DONTWAIT) <= 0)
            break;
    close(fd);
}

static void end_oldest(uvws_listener *listener)
{
    end(listener->refused[listener->refused_first].fd);
    listener->refused_first = (listener->refused_first + 1) % REFUSED_MAX;
    listener->refused_count--;
}

static void on_timer(lws_sorted_usec_list_t *timer)
{
    uvws_listener *listener = lws_container_of(timer, uvws_listener, refused_timer);
    lws_usec_t now = lws_now_usecs();
    while (listener->refused_count && listener->refused[listener->refused_first].until <= now)
        end_oldest(listener);
    if (!listener->refused_count)
        return;
    lws_usec_t next = listener->refused[listener->refused_first].until - now;
    lws_sul_schedule(listener->context->lws, 0, timer, on_timer, next);
    uvws_wake(listener->context);
}

/* Takes over `fd`. */
void uvws_refused_add(uvws_listener *listener, int fd)
{
    bool is_tls = listener->vhost != listener->context->server_vhost;
    if (is_tls || send(fd, response, sizeof(response) - 1, MSG_NOSIGNAL) < 0) {
        close(fd);
        return;
    }
    shutdown(fd, SHUT_WR);
    if (listener->refused_count == REFUSED_MAX)
        end_oldest(listener);
    unsigned at = (listener->refused_first + listener->refused_count) % REFUSED_MAX;
    listener->refused[at] = (struct refused){.fd = fd, .until = lws_now_usecs() + LINGER};
    listener->refused_count++;
    if (listener->refused_count > 1)
        return;
    lws_sul_schedule(listener->context->lws, 0, &listener->refused_timer, on_timer, LINGER);
    uvws_wake(listener->context);
}

/* While lws still has the timer. */
void uvws_refused_end(uvws_listener *listener)
{
    while (listener->refused_count)
        end_oldest(listener);
    if (listener->context->lws)
        lws_sul_cancel(&listener->refused_timer);
}
