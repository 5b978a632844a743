#include <errno.h>
#include <linux/if_packet.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/check.h"
#include "agent/client.h"
#include "net/listener.h"

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
    const char *interface = c->config->md5_interface;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* what libpcap opens; 0: no packet comes in */
    int errnum = errno;
    if (fd >= 0)
        close(fd);
    if (fd < 0 && (errnum == EPERM || errnum == EACCES))
        check_line(c, CHECK_PROBLEM, "capture",
                   "seeing the MD5 option of a router's SYN needs root or CAP_NET_RAW (systemd: "
                   "AmbientCapabilities=CAP_NET_RAW CAP_NET_BIND_SERVICE; Docker: --cap-add NET_RAW)");
    else if (fd < 0)
        check_line(c, CHECK_PROBLEM, "capture", "no packet socket: %s", strerror(errnum));
    else if (strcmp(interface, "any") != 0 && if_nametoindex(interface) == 0)
        check_line(
            c, CHECK_PROBLEM, "capture",
            "there is no network interface %s (--md5-listen-interface; \"ip link\" lists them; any is all)",
            interface);
    else
        check_line(c, CHECK_OK, "capture", "interface %s", interface);
}

static void check_kernel_md5(struct check *c)
{
    struct tcp_md5sig key = {.tcpm_keylen = 4, .tcpm_key = "kbgp"};
    struct addr nobody;
    addr_parse_ip(&nobody, "192.0.2.1");
    struct sockaddr_storage ss;
    addr_to_sockaddr(&nobody, &ss);
    memcpy(&key.tcpm_addr, &ss, sizeof ss);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    int rc = fd < 0 ? -1 : setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key);
    int errnum = errno;
    if (fd >= 0)
        close(fd);
    if (rc == 0)
        check_line(c, CHECK_OK, "TCP-MD5", "the kernel takes keys");
    else if (errnum == ENOPROTOOPT)
        check_line(c, CHECK_PROBLEM, "TCP-MD5",
                   "this kernel has no TCP-MD5 (CONFIG_TCP_MD5SIG): use another kernel, or sessions without "
                   "a password");
    else
        check_line(c, CHECK_PROBLEM, "TCP-MD5", "the kernel takes no key: %s", strerror(errnum));
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
