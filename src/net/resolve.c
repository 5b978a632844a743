#include "net/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What the thread and the loop share. The last one to let go frees it. */
struct lookup {
    atomic_int holders;
    int event; /* an eventfd: readable when the result is there */
    int rc, errnum;
    size_t n;
    struct addr addrs[RESOLVE_ADDRS_MAX];
    char host[256];
};

struct resolve {
    struct lookup *lookup; /* NULL: an address, in `ip` */
    struct addr ip;
    struct loop_watch *watch;
    struct loop_task now;
    uint16_t port;
    resolve_done *done;
    void *arg;
};

static void let_go(struct lookup *l)
{
    if (atomic_fetch_sub(&l->holders, 1) > 1)
        return;
    close(l->event);
    free(l);
}

static void *ask(void *arg)
{
    struct lookup *l = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    l->rc = getaddrinfo(l->host, NULL, &hints, &list);
    l->errnum = errno;
    if (l->rc == 0) {
        for (struct addrinfo *ai = list; ai && l->n < RESOLVE_ADDRS_MAX; ai = ai->ai_next)
            if (addr_from_sockaddr(&l->addrs[l->n], ai->ai_addr))
                l->n++;
        freeaddrinfo(list);
    }
    eventfd_write(l->event, 1);
    let_go(l);
    return NULL;
}

static bool start_thread(struct lookup *l)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    if (pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    /* Signals are the loop's business. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&thread, &attr, ask, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0;
}

void resolve_cancel(struct resolve *r)
{
    if (!r)
        return;
    loop_watch_free(r->watch);
    loop_task_cancel(&r->now);
    if (r->lookup)
        let_go(r->lookup);
    free(r);
}

static void answer(struct resolve *r)
{
    struct addr addrs[RESOLVE_ADDRS_MAX];
    struct err why = {{0}};
    size_t n = 1;
    if (r->lookup) {
        const struct lookup *l = r->lookup;
        n = l->n;
        memcpy(addrs, l->addrs, n * sizeof addrs[0]);
        if (n == 0)
            err_set(&why, "the name %s is not resolved: %s", l->host,
                    l->rc == EAI_SYSTEM ? strerror(l->errnum)
                    : l->rc != 0        ? gai_strerror(l->rc)
                                        : "it has no address");
    } else {
        addrs[0] = r->ip;
    }
    for (size_t i = 0; i < n; i++)
        addrs[i].port = r->port;
    resolve_done *done = r->done;
    void *arg = r->arg;
    resolve_cancel(r);
    done(arg, addrs, n, n == 0 ? &why : NULL);
}

static void on_event(void *arg, unsigned events)
{
    (void)events;
    answer(arg);
}

static void on_now(void *arg)
{
    answer(arg);
}

struct resolve *resolve_start(struct loop *loop, const char *host, uint16_t port, resolve_done *done,
                              void *arg, struct err *e)
{
    struct resolve *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, "out of memory");
        return NULL;
    }
    loop_task_init(&r->now, loop, on_now, r);
    r->port = port;
    r->done = done;
    r->arg = arg;
    if (addr_parse_ip(&r->ip, host)) {
        loop_task_defer(&r->now);
        return r;
    }
    struct lookup *l = calloc(1, sizeof *l);
    if (!l || strlen(host) >= sizeof l->host) {
        err_set(e, l ? "the name %.60s… is too long" : "out of memory", host);
        free(l);
        free(r);
        return NULL;
    }
    strcpy(l->host, host);
    atomic_init(&l->holders, 1);
    l->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->event < 0) {
        err_set(e, "resolving %s: %s", host, strerror(errno));
        free(l);
        free(r);
        return NULL;
    }
    r->lookup = l;
    r->watch = loop_watch_new(loop, l->event, LOOP_READ, on_event, r, e);
    if (!r->watch) {
        resolve_cancel(r);
        return NULL;
    }
    atomic_fetch_add(&l->holders, 1);
    if (!start_thread(l)) {
        let_go(l);
        resolve_cancel(r);
        err_set(e, "resolving %s: no thread can be started", host);
        return NULL;
    }
    return r;
}
