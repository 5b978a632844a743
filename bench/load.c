/*
 * Load for a chain of relays: opens sessions to one address as many routers, and is itself the server at the chain's far end.
 * Every byte is verified. One thread, one epoll.
 *
 *     load MODE --connect HOST:PORT --listen HOST:PORT [--sessions N] [--bytes N] [--rounds N] [--seconds N] [--pids A,B]
 *
 *     up, down   moves --bytes in sum over all sessions, one way; prints Gbit/s. With --seconds instead of --bytes: as much as
 *                goes in that time, counted after --warmup seconds (slow start), and the Gbit/s of each second from the start
 *     ping       19 bytes to and fro on each session, --rounds times; prints round-trip percentiles. --at-once: so many are on
 *                their way at any time, the sessions in turn (without: each session has one on its way)
 *     mixed      session 0 moves bulk without end (--bulk up, down, both or none), each other one sends 19 bytes every
 *                --interval milliseconds and gets them back, for --seconds: Gbit/s and round-trip percentiles
 *     idle       opens sessions, sends a keepalive on each every 30 s for --seconds
 *     open       opens --sessions connections, 64 at a time, and keeps them; how many a second come up at the far end
 *     setup      opens and closes --sessions connections, 64 (--at-once) at a time, each with one round trip
 *     flood      connects --rounds times a second for --seconds from addresses that nobody knows (127.9.0.1 and on), and
 *                counts how many are closed by the other side
 *
 * Sources are 127.1.0.1, 127.1.0.2, … so that each session is a device of its own (--same-source: 127.0.0.1; --any-source:
 * what the kernel takes). --listen-netns NAME listens in that network namespace; the routers stay where we were started.
 * Prints one line of JSON. For each process in --pids: CPU seconds used meanwhile, RSS at the end, and its private memory
 * before the first session and at the end, while all sessions are open; in KiB. "up_seconds": until all sessions were open.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATTERN (1u << 20)
#define CHUNK   (256u << 10)
#define PING    19
#define HELLO   8

#define PIDS_MAX 16

static uint8_t pattern[2 * PATTERN]; /* twice the same, so that a chunk never wraps */

struct end {
    int fd;
    struct session *s;
    bool server;
    uint64_t sent, received;
    uint64_t hello; /* server: bytes of the session number received so far, and the number */
    unsigned hello_have;
    uint32_t armed;
};

struct session {
    unsigned index;
    struct end router, backend;
    uint64_t total;
    int rounds_left;
    double ping_at, ping_due;
    bool pinging, done;
};

static struct {
    const char *mode;
    struct sockaddr_in connect, listen;
    const char *listen_netns;
    unsigned sessions, rounds, at_once;
    uint64_t bytes;
    double seconds, warmup, interval; /* seconds */
    bool same_source, any_source, bulk_up, bulk_down;
    int pids[PIDS_MAX], n_pids;
} opt = {
    .sessions = 1, .rounds = 1000, .bytes = 1u << 30, .interval = 0.1, .bulk_up = true, .bulk_down = true};

static int ep, listen_fd;
static struct session *sessions;
static unsigned n_done, n_open;
static double *rtts;
static size_t n_rtts;
static uint8_t buf[CHUNK];
static uint64_t moved; /* bulk bytes that have arrived, all sessions */

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void wrong(const char *what, unsigned index)
{
    fprintf(stderr, "load: session %u: %s\n", index, what);
    exit(1);
}

static const uint8_t *expected(unsigned index, uint64_t pos)
{
    return pattern + (pos + (uint64_t)index * 7919) % PATTERN;
}

static void arm(struct end *e, uint32_t events)
{
    if (e->armed == events)
        return;
    struct epoll_event ev = {.events = events, .data.ptr = e};
    epoll_ctl(ep, e->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, e->fd, &ev);
    e->armed = events;
}

static void parse_addr(const char *text, struct sockaddr_in *out)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon)
        die(text);
    snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    out->sin_family = AF_INET;
    out->sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &out->sin_addr) != 1)
        die(text);
}

static void open_session(struct session *s)
{
    int one = 1;
    s->router.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (s->router.fd < 0)
        die("socket");
    struct sockaddr_in src = {.sin_family = AF_INET};
    src.sin_addr.s_addr = htonl(opt.same_source ? 0x7f000001u : 0x7f010001u + s->index);
    setsockopt(s->router.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(s->router.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!opt.any_source && bind(s->router.fd, (struct sockaddr *)&src, sizeof src) != 0)
        die("bind");
    if (connect(s->router.fd, (struct sockaddr *)&opt.connect, sizeof opt.connect) != 0 &&
        errno != EINPROGRESS)
        die("connect");
    s->router.s = s;
    arm(&s->router, EPOLLIN | EPOLLOUT);
    n_open++;
}

static void close_session(struct session *s)
{
    if (s->done)
        return;
    s->done = true;
    n_done++;
    close(s->router.fd);
    if (s->backend.fd > 0)
        close(s->backend.fd);
    n_open--;
}

static void send_all(struct end *e, const void *p, size_t n)
{
    /* Small messages on an otherwise empty connection: the socket buffer takes them. */
    if (send(e->fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
        die("send");
}

static bool mode_is(const char *m)
{
    return strcmp(opt.mode, m) == 0;
}

/* Bulk: writes what fits. */
static void pour(struct end *e)
{
    struct session *s = e->s;
    /* Beside pings only a little at once: it is their wait that is measured, not ours. */
    for (int i = 0; e->sent < s->total && (i == 0 || !mode_is("mixed")); i++) {
        uint64_t left = s->total - e->sent;
        size_t most = mode_is("mixed") ? CHUNK / 4 : CHUNK;
        size_t n = left < most ? (size_t)left : most;
        ssize_t w = send(e->fd, expected(s->index, e->sent), n, MSG_NOSIGNAL);
        if (w < 0 && errno == EAGAIN)
            return;
        if (w < 0)
            die("send");
        e->sent += (uint64_t)w;
    }
    if (e->sent == s->total)
        arm(e, EPOLLIN);
}

static void drain(struct end *e)
{
    struct session *s = e->s;
    for (int i = 0; i < (mode_is("mixed") ? 1 : 4); i++) {
        ssize_t n = recv(e->fd, buf, sizeof buf, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            wrong("closed before the end", s->index);
        if (memcmp(buf, expected(s->index, e->received), (size_t)n) != 0)
            wrong("wrong bytes", s->index);
        e->received += (uint64_t)n;
        moved += (uint64_t)n;
        if (e->received > s->total)
            wrong("too many bytes", s->index);
        if (e->received == s->total) {
            n_done++;
            arm(e, EPOLLRDHUP);
            return;
        }
    }
}

static void start_ping(struct session *s)
{
    s->ping_at = now();
    s->pinging = true;
    send_all(&s->router, expected(s->index, 0), PING);
}

/* With --at-once: whose turn it is. A session whose last one has not come back yet is passed over. */
static void ping_next(void)
{
    static unsigned turn;
    for (unsigned i = 0; i < opt.sessions; i++) {
        struct session *s = &sessions[turn++ % opt.sessions];
        if (!s->pinging && s->rounds_left > 0) {
            start_ping(s);
            return;
        }
    }
}

static void on_ping(struct end *e)
{
    struct session *s = e->s;
    size_t have = e->received % PING; /* a message may come in pieces */
    ssize_t n = recv(e->fd, buf, PING - have, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0 || memcmp(buf, expected(s->index, have), (size_t)n) != 0)
        wrong("wrong bytes in a round trip", s->index);
    e->received += (uint64_t)n;
    if (e->received % PING != 0)
        return;
    if (e->server) {
        send_all(e, expected(s->index, 0), PING);
        return;
    }
    s->pinging = false;
    if (rtts)
        rtts[n_rtts++] = now() - s->ping_at;
    if (mode_is("setup"))
        close_session(s);
    if (!mode_is("ping"))
        return;
    if (--s->rounds_left == 0)
        n_done++;
    if (opt.at_once < opt.sessions)
        ping_next();
    else if (s->rounds_left > 0)
        start_ping(s);
}

/* The session has come up at the far end. */
static unsigned n_up;
static void up(struct session *s)
{
    n_up++;
    if (mode_is("setup"))
        start_ping(s);
}

static void on_event(struct end *e, uint32_t events)
{
    if (e->server && e->hello_have < HELLO) {
        ssize_t n = recv(e->fd, (uint8_t *)&e->hello + e->hello_have, HELLO - e->hello_have, 0);
        if (n <= 0)
            wrong("no hello", 0);
        e->hello_have += (unsigned)n;
        if (e->hello_have < HELLO)
            return;
        if (e->hello >= opt.sessions)
            wrong("a session number that is none", (unsigned)e->hello);
        struct session *s = &sessions[e->hello];
        s->backend = *e;
        free(e);
        s->backend.s = s;
        s->backend.armed = 0;
        epoll_ctl(ep, EPOLL_CTL_DEL, s->backend.fd, NULL);
        arm(&s->backend, EPOLLIN);
        up(s);
        return;
    }
    struct session *s = e->s;
    if (s->done)
        return;
    if (!e->server && (events & EPOLLOUT) && e->hello_have == 0) {
        uint64_t index = s->index;
        int err = 0;
        socklen_t len = sizeof err;
        getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &err, &len);
        if (err) {
            errno = err;
            die("connect");
        }
        send_all(e, &index, HELLO);
        e->hello_have = HELLO;
        arm(e, EPOLLIN);
        return;
    }
    if (mode_is("up") || mode_is("down") || (mode_is("mixed") && s->index == 0)) {
        if (events & EPOLLIN)
            drain(e);
        if ((events & EPOLLOUT) && n_up == opt.sessions)
            pour(e);
    } else if (events & EPOLLIN) {
        on_ping(e);
    }
}

static void poll_once(int timeout_ms)
{
    struct epoll_event ev[256];
    int n = epoll_wait(ep, ev, 256, timeout_ms);
    for (int i = 0; i < n; i++) {
        if (ev[i].data.ptr) {
            on_event(ev[i].data.ptr, ev[i].events);
            continue;
        }
        int fd, one = 1;
        while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
            struct end *e = calloc(1, sizeof *e);
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            e->fd = fd;
            e->server = true;
            arm(e, EPOLLIN);
        }
    }
}

static double cpu_of(int pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f || !fgets(line, sizeof line, f))
        die(path);
    fclose(f);
    unsigned long user, sys;
    if (sscanf(strrchr(line, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
        die(path);
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static long rss_of(int pid)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

/* What would be free if the process were not there: pages that no other process has. */
static long private_of(int pid)
{
    char path[64], line[256];
    long sum = 0, kib;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        die(path);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Private_Clean: %ld", &kib) == 1 || sscanf(line, "Private_Dirty: %ld", &kib) == 1)
            sum += kib;
    fclose(f);
    return sum;
}

/* What the processes of --pids had used before. */
static double cpu_before[PIDS_MAX];
static long private_before[PIDS_MAX];

static void note_cpu(void)
{
    for (int i = 0; i < opt.n_pids; i++)
        cpu_before[i] = cpu_of(opt.pids[i]);
}

static void note_memory(void)
{
    for (int i = 0; i < opt.n_pids; i++)
        private_before[i] = private_of(opt.pids[i]);
}

static void print_pids(void)
{
    printf(",\"cpu_seconds\":[");
    for (int i = 0; i < opt.n_pids; i++)
        printf("%s%.2f", i ? "," : "", cpu_of(opt.pids[i]) - cpu_before[i]);
    printf("],\"rss_kib\":[");
    for (int i = 0; i < opt.n_pids; i++)
        printf("%s%ld", i ? "," : "", rss_of(opt.pids[i]));
    printf("],\"private_kib_before\":[");
    for (int i = 0; i < opt.n_pids; i++)
        printf("%s%ld", i ? "," : "", private_before[i]);
    printf("],\"private_kib\":[");
    for (int i = 0; i < opt.n_pids; i++)
        printf("%s%ld", i ? "," : "", private_of(opt.pids[i]));
    printf("]}\n");
}

/* Each session closes when its message has come back, and another one takes its place. */
static void open_and_close(void)
{
    for (unsigned next = 0; n_done < opt.sessions;) {
        while (next < opt.sessions && n_open < opt.at_once)
            open_session(&sessions[next++]);
        poll_once(1000);
    }
}

/* Returns the seconds from t0 until the last session was up. */
static double open_all(double t0)
{
    for (unsigned next = 0; n_up < opt.sessions;) {
        while (next < opt.sessions && next - n_up < 64)
            open_session(&sessions[next++]);
        poll_once(1000);
        if (now() - t0 > 120)
            wrong("sessions do not come up", n_up);
    }
    return now() - t0;
}

/* A message every 30 s on each session, spread over them as with routers: one by one. */
static void keep_alive(double t0)
{
    unsigned turn = 0;
    for (double due = t0; now() - t0 < opt.seconds; poll_once(1))
        for (; now() >= due; due += 30.0 / opt.sessions)
            start_ping(&sessions[turn++ % opt.sessions]);
}

/* Bulk or messages on the open sessions. */
static void begin(double t0)
{
    for (unsigned i = 0; i < opt.sessions; i++) {
        struct session *s = &sessions[i];
        if (mode_is("mixed") && i > 0) {
            s->ping_due = t0 + opt.interval * i / opt.sessions;
        } else if (mode_is("mixed")) {
            if (opt.bulk_up)
                arm(&s->router, EPOLLIN | EPOLLOUT);
            if (opt.bulk_down)
                arm(&s->backend, EPOLLIN | EPOLLOUT);
        } else if (mode_is("up"))
            arm(&s->router, EPOLLIN | EPOLLOUT);
        else if (mode_is("down"))
            arm(&s->backend, EPOLLIN | EPOLLOUT);
        else if (i < opt.at_once)
            ping_next();
    }
}

/* Bulk by time. Returns Gbit/s after the warm-up; `rates`: of each second from the start. */
static double pour_for(double t0, double *rates, unsigned *n_rates)
{
    double end = opt.warmup + opt.seconds, since = t0, mark = 0;
    uint64_t at_second = 0, at_mark = 0;
    bool counting = false;
    for (double t = t0; t - t0 < end; t = now()) {
        if (!counting && t - t0 >= opt.warmup) {
            counting = true;
            mark = t;
            at_mark = moved;
            note_cpu();
        }
        if (t - since >= 1 && *n_rates < 600) {
            rates[(*n_rates)++] = (double)(moved - at_second) * 8 / (t - since) / 1e9;
            at_second = moved;
            since = t;
        }
        if (mode_is("mixed"))
            for (unsigned i = 1; i < opt.sessions; i++) {
                struct session *s = &sessions[i];
                if (t < s->ping_due || s->pinging)
                    continue; /* one that is still on its way counts with its whole wait */
                start_ping(s);
                s->ping_due = s->ping_due + opt.interval > t ? s->ping_due + opt.interval : t + opt.interval;
            }
        poll_once(1);
    }
    /* Those that still wait have waited so long at the least. */
    for (unsigned i = 1; mode_is("mixed") && i < opt.sessions; i++)
        if (sessions[i].pinging)
            rtts[n_rtts++] = now() - sessions[i].ping_at;
    moved -= at_mark;
    return (double)moved * 8 / (now() - mark) / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Connections of strangers: each should be closed by the other side, and cost it little. */
static void flood(void)
{
    unsigned n = 0, refused = 0, open = 0;
    double t0 = now(), longest = 0;
    while (now() - t0 < opt.seconds || (open > 0 && now() - t0 < opt.seconds + 15)) {
        while (now() - t0 < opt.seconds && n < (now() - t0) * opt.rounds && open < 20000) {
            struct session *s = calloc(1, sizeof *s);
            struct sockaddr_in src = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(0x7f090001u + n % 60000)};
            s->router.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            s->router.s = s;
            s->ping_at = now();
            if (s->router.fd < 0 || bind(s->router.fd, (struct sockaddr *)&src, sizeof src) != 0 ||
                (connect(s->router.fd, (struct sockaddr *)&opt.connect, sizeof opt.connect) != 0 &&
                 errno != EINPROGRESS))
                die("connect");
            arm(&s->router, EPOLLIN);
            n++;
            open++;
        }
        struct epoll_event ev[256];
        int k = epoll_wait(ep, ev, 256, 1);
        for (int i = 0; i < k; i++) {
            struct end *e = ev[i].data.ptr;
            double waited = now() - e->s->ping_at;
            longest = waited > longest ? waited : longest;
            refused++;
            open--;
            close(e->fd);
            free(e->s);
        }
    }
    printf("{\"mode\":\"flood\",\"attempts\":%u,\"refused\":%u,\"still_open\":%u,\"longest_ms\":%.1f,"
           "\"seconds\":%.1f",
           n, refused, open, longest * 1e3, now() - t0);
}

/* A socket stays in the namespace that it was made in. */
static void enter_netns(const char *name)
{
    if (!name)
        return;
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        die(path);
    close(fd);
}

static void usage(void)
{
    fprintf(stderr,
            "usage: load up|down|mixed|ping|idle|open|setup|flood --connect HOST:PORT [--listen HOST:PORT] "
            "[--sessions N] [--bytes N]\n"
            "       [--rounds N] [--at-once N] [--seconds N] [--warmup N] [--interval MS] [--bulk "
            "up|down|both|none] [--pids A,B] [--same-source|--any-source] "
            "[--listen-netns NAME]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        usage();
    opt.mode = argv[1];
    for (int i = 2; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--same-source") == 0) {
            opt.same_source = true;
            continue;
        }
        if (strcmp(a, "--any-source") == 0) {
            opt.any_source = true;
            continue;
        }
        const char *v = ++i < argc ? argv[i] : NULL;
        if (!v)
            usage();
        if (strcmp(a, "--connect") == 0)
            parse_addr(v, &opt.connect);
        else if (strcmp(a, "--listen") == 0)
            parse_addr(v, &opt.listen);
        else if (strcmp(a, "--sessions") == 0)
            opt.sessions = (unsigned)atoi(v);
        else if (strcmp(a, "--rounds") == 0)
            opt.rounds = (unsigned)atoi(v);
        else if (strcmp(a, "--at-once") == 0)
            opt.at_once = (unsigned)atoi(v);
        else if (strcmp(a, "--listen-netns") == 0)
            opt.listen_netns = v;
        else if (strcmp(a, "--bytes") == 0)
            opt.bytes = strtoull(v, NULL, 10);
        else if (strcmp(a, "--seconds") == 0)
            opt.seconds = atof(v);
        else if (strcmp(a, "--warmup") == 0)
            opt.warmup = atof(v);
        else if (strcmp(a, "--interval") == 0)
            opt.interval = atof(v) / 1000;
        else if (strcmp(a, "--bulk") == 0) {
            opt.bulk_up = strcmp(v, "up") == 0 || strcmp(v, "both") == 0;
            opt.bulk_down = strcmp(v, "down") == 0 || strcmp(v, "both") == 0;
        } else if (strcmp(a, "--pids") == 0)
            for (char *p = strtok((char *)(uintptr_t)v, ","); p && opt.n_pids < PIDS_MAX;
                 p = strtok(NULL, ","))
                opt.pids[opt.n_pids++] = atoi(p);
        else
            usage();
    }
    bool timed = mode_is("mixed") || (opt.seconds > 0 && (mode_is("up") || mode_is("down")));
    if (opt.seconds <= 0)
        opt.seconds = 60;
    struct rlimit lim;
    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);

    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < PATTERN; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        pattern[i] = pattern[i + PATTERN] = (uint8_t)x;
    }
    ep = epoll_create1(0);
    if (mode_is("flood")) {
        note_memory();
        note_cpu();
        flood();
        print_pids();
        return 0;
    }
    if (opt.at_once == 0)
        opt.at_once = mode_is("setup") ? 64 : opt.sessions;
    if (opt.at_once > opt.sessions)
        opt.at_once = opt.sessions;
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    enter_netns(opt.listen_netns);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (opt.listen_netns && setns(home, CLONE_NEWNET) != 0)
        die("setns");
    close(home);
    int one = 1;
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listen_fd, (struct sockaddr *)&opt.listen, sizeof opt.listen) != 0 ||
        listen(listen_fd, 4096) != 0)
        die("listen");
    struct epoll_event ev = {.events = EPOLLIN};
    epoll_ctl(ep, EPOLL_CTL_ADD, listen_fd, &ev);
    sessions = calloc(opt.sessions, sizeof *sessions);
    for (unsigned i = 0; i < opt.sessions; i++) {
        sessions[i].index = i;
        sessions[i].total = timed ? UINT64_MAX : opt.bytes / opt.sessions;
        sessions[i].rounds_left = (int)opt.rounds;
    }
    if (mode_is("ping"))
        rtts = calloc((size_t)opt.sessions * opt.rounds, sizeof *rtts);
    if (mode_is("mixed"))
        rtts = calloc(opt.sessions * (size_t)((opt.warmup + opt.seconds) / opt.interval + 2), sizeof *rtts);

    static double rates[600];
    unsigned n_rates = 0;
    double gbit_s = 0;

    note_memory();
    note_cpu();
    double up_seconds = 0, t0 = now();
    if (mode_is("setup"))
        open_and_close();
    else
        up_seconds = open_all(t0);
    if (!mode_is("setup") && !mode_is("open")) {
        note_cpu();
        t0 = now();
        if (mode_is("idle"))
            keep_alive(t0);
        else
            begin(t0);
        if (timed)
            gbit_s = pour_for(t0, rates, &n_rates);
        while (!timed && !mode_is("idle") && n_done < opt.sessions)
            poll_once(1000);
    }
    double t = now() - t0;
    printf("{\"mode\":\"%s\",\"sessions\":%u,\"seconds\":%.4f,\"up_seconds\":%.4f", opt.mode, opt.sessions, t,
           up_seconds);
    if (timed) {
        printf(",\"bytes\":%llu,\"gbit_s\":%.3f,\"each_second\":[", (unsigned long long)moved, gbit_s);
        for (unsigned i = 0; i < n_rates; i++)
            printf("%s%.3f", i ? "," : "", rates[i]);
        printf("]");
    } else if (mode_is("up") || mode_is("down"))
        printf(",\"bytes\":%llu,\"gbit_s\":%.3f",
               (unsigned long long)(opt.bytes / opt.sessions * opt.sessions),
               (double)(opt.bytes / opt.sessions * opt.sessions) * 8 / t / 1e9);
    if (mode_is("setup") || mode_is("open"))
        printf(",\"per_second\":%.0f", opt.sessions / t);
    if (n_rtts > 0) {
        qsort(rtts, n_rtts, sizeof *rtts, by_value);
        printf(",\"round_trips\":%zu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f", n_rtts,
               rtts[n_rtts / 2] * 1e6, rtts[n_rtts * 99 / 100] * 1e6, rtts[n_rtts - 1] * 1e6);
    }
    print_pids();
    return 0;
}
