#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/check.h"
#include "agent/client.h"
#include "agent/synwatch.h"
#include "net/listener.h"
#include "net/tcpmd5.h"

/* --- listening --- */

static void refuse(void *arg, int fd, const struct addr *peer, const struct addr *local)
{
    (void)arg;
    (void)peer;
    (void)local;
    close(fd);
}

static bool can_listen(struct check *c, const struct addr *addr, struct err *e)
{
    struct listener *l = listener_new(c->loop, addr, refuse, NULL, e);
    listener_free(l);
    return l != NULL;
}

/* Whether a listener on `has` also takes what comes to `wanted`. */
static bool covers(const struct addr *has, const struct addr *wanted)
{
    struct addr any = {.family = has->family};
    return has->port == wanted->port && has->family == wanted->family &&
           (addr_same_ip(has, wanted) || addr_same_ip(has, &any));
}

/* Whether an agent listens there; its listener's text goes to `where`. */
static bool agent_listens(struct check *c, const struct addr *wanted, char where[static ADDR_TEXT_MAX])
{
    struct err unused;
    json_t *status = client_get(&c->config->metrics, "/admin/status", NULL, &unused);
    const json_t *list = json_object_get(json_object_get(status, "Config"), "Listeners");
    bool found = false;
    for (size_t i = 0; i < json_array_size(list) && !found; i++) {
        struct addr has;
        client_text(json_array_get(list, i), where, ADDR_TEXT_MAX);
        found = addr_parse(&has, where, 0) && covers(&has, wanted);
    }
    json_decref(status);
    return found;
}

static void check_listener(struct check *c, const struct addr *addr)
{
    char name[ADDR_TEXT_MAX + 16], text[ADDR_TEXT_MAX], where[ADDR_TEXT_MAX];
    struct err e;
    snprintf(name, sizeof name, "listen %s", addr_text(addr, text));
    if (can_listen(c, addr, &e))
        check_line(c, CHECK_OK, name, "free");
    else if (agent_listens(c, addr, where))
        check_line(c, CHECK_OK, name, "in use by the running kbgp, which listens on %s", where);
    else
        check_line(c, CHECK_PROBLEM, name,
                   "%s (who has the port: ss -ltnp 'sport = :%u'; another address: --listen)", e.text,
                   addr->port);
}

static void check_status_pages(struct check *c)
{
    const struct addr *addr = &c->config->metrics;
    char word[32];
    struct err e, unused;
    if (can_listen(c, addr, &e))
        check_line(c, CHECK_OK, "status pages", "free");
    else if (client_health(addr, word, &unused))
        check_line(c, CHECK_OK, "status pages", "in use by the running kbgp, whose health is: %s", word);
    else
        check_line(c, CHECK_PROBLEM, "status pages", "%s (another address: --metrics-addr, --metrics-port)",
                   e.text);
}

/* --- MD5 --- */

static void check_capture(struct check *c)
{
    struct err e;
    if (synwatch_possible(c->config->md5_interface, &e))
        check_line(c, CHECK_OK, "capture", "interface %s", c->config->md5_interface);
    else
        check_line(c, CHECK_PROBLEM, "capture", "%s", e.text);
}

static void check_kernel_md5(struct check *c)
{
    struct addr nobody;
    struct err e;
    addr_parse_ip(&nobody, "192.0.2.1");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0)
        check_line(c, CHECK_PROBLEM, "TCP-MD5", "no socket: %s", strerror(errno));
    else if (tcpmd5_set(fd, &nobody, (const uint8_t *)"kbgp", 4, &e))
        check_line(c, CHECK_OK, "TCP-MD5", "the kernel takes keys");
    else if (errno == ENOPROTOOPT)
        check_line(c, CHECK_PROBLEM, "TCP-MD5", "%s: use another kernel, or sessions without a password",
                   e.text);
    else
        check_line(c, CHECK_PROBLEM, "TCP-MD5", "%s", e.text);
    if (fd >= 0)
        close(fd);
}

void check_local(struct check *c)
{
    for (size_t i = 0; i < c->config->n_listeners; i++)
        check_listener(c, &c->config->listeners[i]);
    check_status_pages(c);
    if (c->config->md5) {
        check_capture(c);
        check_kernel_md5(c);
    } else {
        check_line(c, CHECK_NONE, "capture", "not needed without --enable-md5-support");
        check_line(c, CHECK_NONE, "TCP-MD5", "not needed without --enable-md5-support");
    }
}
