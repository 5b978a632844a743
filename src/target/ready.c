#include "target/ready.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/clock.h"
#include "target/options.h"

#define TIMEOUT_MS 5000
/* The answer is a line of JSON and a few headers. */
#define ANSWER_MAX 4096

struct ready_args {
    char *addr;
    int64_t port;
};

static const struct option table[] = {
    {TARGET_METRICS_ADDR_OPTION, .help = "Address of the server's status pages.",
     .offset = offsetof(struct ready_args, addr)},
    {TARGET_METRICS_PORT_OPTION, .help = "Their port.", .offset = offsetof(struct ready_args, port)},
};

const char target_ready_help[] =
    "Ask the running server whether it is ready; exit code 0 when it is, else 1. For health checks.";

static const struct options options = {
    .program = "kbgp-target",
    .usage =
        "Usage: kbgp-target ready [OPTIONS]\n\n"
        "Asks the running server whether it is ready; exit code 0 when it is, else 1. For health checks.",
    .table = table,
    .count = sizeof table / sizeof table[0],
};

const struct option *target_ready_table(size_t *count)
{
    *count = options.count;
    return options.table;
}

/* --- the question --- */

/* The address to connect to for one that was listened on. */
static void make_reachable(struct addr *a)
{
    static const struct addr any4 = {.family = 4}, any6 = {.family = 6};
    if (addr_same_ip(a, &any4))
        addr_parse_ip(a, "127.0.0.1");
    else if (addr_same_ip(a, &any6))
        addr_parse_ip(a, "::1");
}

/* False, with words, when the time is over. */
static bool wait_for(int fd, short events, int64_t deadline_ms, struct err *e)
{
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        int64_t now = clock_mono_ms();
        int n = now < deadline_ms ? poll(&p, 1, (int)(deadline_ms - now)) : 0;
        if (n > 0)
            return true;
        if (n == 0)
            return err_set(e, "no answer within %d s", TIMEOUT_MS / 1000);
        if (errno != EINTR)
            return err_set(e, "%s", strerror(errno));
    }
}

static bool reach(int fd, const struct addr *at, int64_t deadline_ms, struct err *e)
{
    struct sockaddr_storage ss;
    socklen_t n = addr_to_sockaddr(at, &ss);
    int why = 0;
    if (connect(fd, (struct sockaddr *)&ss, n) == 0)
        return true;
    if (errno != EINPROGRESS)
        why = errno;
    else if (!wait_for(fd, POLLOUT, deadline_ms, e))
        return false;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &(socklen_t){sizeof why}) != 0)
        why = errno;
    if (why == ECONNREFUSED)
        return err_set(e, "no kbgp-target is running here: nobody listens (--metrics-addr, --metrics-port)");
    return why == 0 || err_set(e, "%s", strerror(why));
}

/* Reads to the end of the answer, which becomes a string. */
static bool exchange(int fd, char answer[static ANSWER_MAX + 1], int64_t deadline_ms, struct err *e)
{
    static const char question[] = "GET /hc HTTP/1.0\r\n\r\n";
    size_t got = 0;
    /* So few bytes fit into a new socket's buffer. */
    if (send(fd, question, strlen(question), MSG_NOSIGNAL) != (ssize_t)strlen(question))
        return err_set(e, "%s", strerror(errno));
    for (;;) {
        if (!wait_for(fd, POLLIN, deadline_ms, e))
            return false;
        ssize_t n = recv(fd, answer + got, ANSWER_MAX - got, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_set(e, "%s", strerror(errno));
        if (n == 0)
            break;
        got += n > 0 ? (size_t)n : 0;
        if (got == ANSWER_MAX)
            return err_set(e, "what answers is not kbgp-target: its answer is too long");
    }
    answer[got] = 0;
    return true;
}

static bool ask(const struct addr *at, char answer[static ANSWER_MAX + 1], struct err *e)
{
    int fd = socket(at->family == 6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_set(e, "%s", strerror(errno));
    int64_t deadline_ms = clock_mono_ms() + TIMEOUT_MS;
    bool ok = reach(fd, at, deadline_ms, e) && exchange(fd, answer, deadline_ms, e);
    close(fd);
    return ok;
}

/* --- the answer --- */

/* What stands as "status" in the JSON after the headers. Whoever else listens there says something else. */
static bool read_status(const char *answer, char word[static 32], struct err *e)
{
    json_error_t unused;
    const char *body = strstr(answer, "\r\n\r\n");
    json_t *json = body ? json_loads(body, JSON_REJECT_DUPLICATES, &unused) : NULL;
    const char *status = json_string_value(json_object_get(json, "status"));
    snprintf(word, 32, "%s", status ? status : "");
    json_decref(json);
    bool is_200 = body && strncmp(answer, "HTTP/1.", 7) == 0 && strncmp(answer + 8, " 200", 4) == 0;
    if (word[0] == 0 || (strcmp(word, "ok") == 0) != is_200)
        return err_set(e, "what answers is not kbgp-target: no status at /hc");
    for (char *p = word; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    return true;
}

static int report(const struct ready_args *args)
{
    struct addr at;
    struct err e;
    char answer[ANSWER_MAX + 1], word[32], text[ADDR_TEXT_MAX];
    addr_parse_ip(&at, args->addr); /* which the engine has checked */
    make_reachable(&at);
    at.port = (uint16_t)args->port;
    if (!ask(&at, answer, &e) || !read_status(answer, word, &e)) {
        printf("not ready: %s: %s\n", addr_text(&at, text), e.text);
        return 1;
    }
    bool ok = strcmp(word, "ok") == 0;
    printf("%s%s\n", ok ? "" : "not ready: ", word);
    return ok ? 0 : 1;
}

int target_ready(int argc, char **argv)
{
    struct ready_args args;
    struct err e;
    int code = 2;
    switch (options_parse(&options, argc, argv, &args, NULL, 0, NULL, &e)) {
    case OPTIONS_HELP:
        options_help(&options, stdout);
        code = 0;
        break;
    case OPTIONS_ERROR:
        fprintf(stderr, "kbgp-target ready: %s\n", e.text);
        break;
    case OPTIONS_OK:
        code = report(&args);
        break;
    }
    options_free(&options, &args);
    return code;
}
