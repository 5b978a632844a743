#include "net/tcp_connect.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct tcp_connect {
    struct loop *loop;
    struct addr addrs[TCP_CONNECT_ADDRS_MAX];
    size_t n, at;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *timer;
    tcp_connect_done *done;
    void *arg;
    struct err why;
};

static void on_event(void *arg, unsigned events);

static void drop_socket(struct tcp_connect *c)
{
    loop_watch_free(c->watch);
    c->watch = NULL;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

void tcp_connect_cancel(struct tcp_connect *c)
{
    if (!c)
        return;
    drop_socket(c);
    loop_timer_free(c->timer);
    free(c);
}

static void answer(struct tcp_connect *c, int fd)
{
    tcp_connect_done *done = c->done;
    void *arg = c->arg;
    struct err why = c->why;
    tcp_connect_cancel(c);
    done(arg, fd, fd < 0 ? &why : NULL);
}

static void failed(struct tcp_connect *c, const char *why)
{
    char text[ADDR_TEXT_MAX];
    err_set(&c->why, "%s: %s", addr_text(&c->addrs[c->at], text), why);
    drop_socket(c);
    c->at++;
}

/* Starts with the next address; when none is left the answer comes from the timer, so that it never comes from inside
 * tcp_connect_start(). */
static void try_next(struct tcp_connect *c)
{
    while (c->at < c->n) {
        struct sockaddr_storage ss;
        socklen_t len = addr_to_sockaddr(&c->addrs[c->at], &ss);
        c->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || (connect(c->fd, (struct sockaddr *)&ss, len) != 0 && errno != EINPROGRESS)) {
            failed(c, strerror(errno));
            continue;
        }
        struct err e;
        c->watch = loop_watch_new(c->loop, c->fd, on_event, c, &e);
        if (!c->watch) {
            failed(c, e.text);
            continue;
        }
        loop_watch_set(c->watch, LOOP_WRITE);
        loop_timer_start(c->timer, TCP_CONNECT_TIMEOUT_MS, 0);
        return;
    }
    loop_timer_start(c->timer, 0, 0);
}

static void on_event(void *arg, unsigned events)
{
    struct tcp_connect *c = arg;
    (void)events;
    int errnum = 0;
    socklen_t len = sizeof errnum;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) != 0)
        errnum = errno;
    if (errnum != 0) {
        failed(c, strerror(errnum));
        try_next(c);
        return;
    }
    int fd = c->fd;
    c->fd = -1;
    answer(c, fd);
}

static void on_timer(void *arg)
{
    struct tcp_connect *c = arg;
    if (c->at >= c->n) {
        answer(c, -1);
        return;
    }
    failed(c, strerror(ETIMEDOUT));
    try_next(c);
}

struct tcp_connect *tcp_connect_start(struct loop *loop, const struct addr *addrs, size_t n, tcp_connect_done *done,
                                      void *arg)
{
    struct tcp_connect *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->loop = loop;
    c->n = n < TCP_CONNECT_ADDRS_MAX ? n : TCP_CONNECT_ADDRS_MAX;
    memcpy(c->addrs, addrs, c->n * sizeof *addrs);
    c->fd = -1;
    c->done = done;
    c->arg = arg;
    c->timer = loop_timer_new(loop, on_timer, c);
    try_next(c);
    return c;
}

size_t tcp_resolve(const char *host, uint16_t port, struct addr out[static TCP_CONNECT_ADDRS_MAX], struct err *e)
{
    if (addr_parse_ip(&out[0], host)) {
        out[0].port = port;
        return 1;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0) {
        err_set(e, "%s: %s", host, gai_strerror(rc));
        return 0;
    }
    size_t n = 0;
    for (struct addrinfo *ai = list; ai && n < TCP_CONNECT_ADDRS_MAX; ai = ai->ai_next)
        if (addr_from_sockaddr(&out[n], ai->ai_addr))
            out[n++].port = port;
    freeaddrinfo(list);
    if (n == 0)
        err_set(e, "%s: no address", host);
    return n;
}
