#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/* More than a turn of the loop can take in; the kernel cuts it to net.core.somaxconn. */
#define BACKLOG 4096
/* Connections taken in one turn, so that a flood leaves room for the sessions that are up. */
#define ACCEPTS_PER_TURN 64

struct listener {
    struct addr addr;
    int fd;
    int spare; /* given up for a moment when descriptors run out, so that a connection can be taken and closed */
    struct loop_watch *watch;
    int64_t emptied_ns;
    listener_accepted *accepted;
    void *arg;
};

static void refuse_one(struct listener *l)
{
    char where[ADDR_TEXT_MAX];
    log_error("out of file descriptors, refusing connections (raise LimitNOFILE or ulimit -n)",
              LOG_STR("local-addr", addr_text(&l->addr, where)));
    close(l->spare);
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool is_any(const struct addr *a)
{
    static const uint8_t any[16];
    return memcmp(a->ip, any, sizeof any) == 0;
}

/* Our end of a connection: the address that is listened on, unless that stands for all. */
static bool local_of(const struct listener *l, int fd, struct addr *out)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    if (!is_any(&l->addr)) {
        *out = l->addr;
        return true;
    }
    return getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
           addr_from_sockaddr(out, (struct sockaddr *)&ss);
}

static void on_readable(void *arg, unsigned events)
{
    struct listener *l = arg;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage ss;
        socklen_t len = sizeof ss;
        int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                l->emptied_ns = clock_mono_ns();
            if (errno == EMFILE || errno == ENFILE)
                refuse_one(l);
            /* Errors of the new connection itself (ECONNABORTED and the like) concern nobody else. */
            if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EMFILE || errno == ENFILE)
                return;
            continue;
        }
        struct addr peer, local;
        if (!local_of(l, fd, &local) || !addr_from_sockaddr(&peer, (struct sockaddr *)&ss)) {
            close(fd);
            continue;
        }
        l->accepted(l->arg, fd, &peer, &local);
    }
}

static bool bind_error(const struct addr *addr, int errnum, struct err *e)
{
    char where[ADDR_TEXT_MAX];
    addr_text(addr, where);
    if (errnum == EADDRINUSE)
        return err_set(e, "cannot listen on %s: the port is in use by another program", where);
    if (errnum == EACCES)
        return err_set(e, "cannot listen on %s: a port below 1024 needs root or CAP_NET_BIND_SERVICE", where);
    return err_set(e, "cannot listen on %s: %s", where, strerror(errnum));
}

struct listener *listener_new(struct loop *loop, const struct addr *addr, listener_accepted *accepted,
                              void *arg, struct err *e)
{
    struct listener *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(e, "out of memory");
        return NULL;
    }
    l->accepted = accepted;
    l->arg = arg;
    l->spare = -1;
    struct sockaddr_storage ss;
    socklen_t len = addr_to_sockaddr(addr, &ss);
    int on = 1;
    l->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (l->fd < 0)
        goto fail;
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (addr->family == 6) {
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on);
    } else {
        setsockopt(l->fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on);
    }
    if (bind(l->fd, (struct sockaddr *)&ss, len) != 0 || listen(l->fd, BACKLOG) != 0)
        goto fail;
    len = sizeof ss;
    if (getsockname(l->fd, (struct sockaddr *)&ss, &len) != 0 ||
        !addr_from_sockaddr(&l->addr, (struct sockaddr *)&ss))
        goto fail;
    l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    l->watch = loop_watch_new(loop, l->fd, LOOP_READ, on_readable, l, e);
    if (!l->watch) {
        listener_free(l);
        return NULL;
    }
    return l;
fail:
    bind_error(addr, errno, e);
    listener_free(l);
    return NULL;
}

bool listener_pass_over(const struct addr *addr)
{
    if (addr->family != 6 || !is_any(addr))
        return false;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || errno != EAFNOSUPPORT)
        return false;
    char text[ADDR_TEXT_MAX];
    log_warn("this host has no IPv6, not listening there", LOG_STR("local-addr", addr_text(addr, text)));
    return true;
}

const struct addr *listener_addr(const struct listener *l)
{
    return &l->addr;
}

int listener_fd(const struct listener *l)
{
    return l->fd;
}

int64_t listener_emptied_ns(const struct listener *l)
{
    return l->emptied_ns;
}

void listener_free(struct listener *l)
{
    if (!l)
        return;
    loop_watch_free(l->watch);
    if (l->fd >= 0)
        close(l->fd);
    if (l->spare >= 0)
        close(l->spare);
    free(l);
}
