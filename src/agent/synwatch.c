#include "agent/synwatch.h"

#include <net/if.h>
#include <pcap/pcap.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/uuid.h"

/* Room for some thousand SYNs that come in one turn of the loop. */
#define BUFFER_BYTES (2 << 20)
/* Frames taken in one turn, so that a flood leaves room for the sessions. */
#define FRAMES_PER_TURN 256
/* How often to look whether the interface is still the one that was opened. */
#define LOOK_MS       1000
#define RETRY_MAX_MS  2000
#define RETRY_WAIT_MS 500

struct synwatch {
    struct loop *loop;
    const char *interface;
    bool any;
    uint16_t ports[SYNWATCH_PORTS_MAX];
    size_t n_ports;
    synwatch_syn *on_syn;
    void *arg;
    pcap_t *pcap; /* NULL: not running */
    struct loop_watch *watch;
    enum syn_link link;
    uint32_t ifindex; /* of the interface that was opened; 0 with "any" */
    struct loop_timer *timer;
    struct backoff backoff;
    uint64_t dropped_before; /* of captures closed since */
};

/* --- the filter --- */

static bool add(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool add(struct buf *b, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return n > 0 && (size_t)n < sizeof text && buf_append(b, text, (size_t)n);
}

/* "(P = 179 or P = 1179)" */
static bool add_ports(struct buf *b, const struct synwatch *w, const char *place)
{
    bool ok = add(b, "(");
    for (size_t i = 0; i < w->n_ports; i++)
        ok = ok && add(b, "%s%s = %u", i ? " or " : "", place, w->ports[i]);
    return ok && add(b, ")");
}

/*
 * A SYN without ACK whose data offset says that options follow, to one of the ports. The kernel's filter
 * language has no loops: in IPv6 packets with extension headers TCP is found later, by syn_parse().
 */
static bool add_packet(struct buf *b, const struct synwatch *w)
{
    return add(b, "((ip and tcp and tcp[13] & 0x12 = 2 and tcp[12] >= 0x60 and ") &&
           add_ports(b, w, "tcp[2:2]") &&
           add(b, ") or (ip6 and ip6[6] = 6 and ip6[53] & 0x12 = 2 and ip6[52] >= 0x60 and ") &&
           add_ports(b, w, "ip6[42:2]") &&
           add(b, ") or (ip6 and (ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 51 or ip6[6] = 60 or "
                  "ip6[6] = 135 or ip6[6] = 139 or ip6[6] = 140)))");
}

/*
 * The kernel takes one VLAN tag off before a capture sees the packet, so that on a cooked header a tag is the
 * inner one of two. libpcap's `vlan` does not know cooked headers: the bytes behind the tag are found by
 * hand, at fixed places (an offset that is computed makes libpcap filter after copying). `h`: the header's
 * length, the tag's included.
 */
static bool add_cooked_tag(struct buf *b, const struct synwatch *w, unsigned h)
{
    char port[32];
    snprintf(port, sizeof port, "link[%u:2]", h + 22);
    bool ok = add(b,
                  " or ((ether proto 0x8100 or ether proto 0x88a8) and ((link[%u:2] = 0x0800 and link[%u] = "
                  "6 and link[%u:2] & 0x1fff = 0 and (link[%u] & 0xf > 5 or (link[%u] & 0x12 = 2 and "
                  "link[%u] >= 0x60 and ",
                  h - 2, h + 9, h + 6, h, h + 33, h + 32) &&
              add_ports(b, w, port);
    snprintf(port, sizeof port, "link[%u:2]", h + 42);
    return ok &&
           add(b,
               "))) or (link[%u:2] = 0x86dd and link[%u] = 6 and link[%u] & 0x12 = 2 and link[%u] >= 0x60 "
               "and ",
               h - 2, h + 6, h + 53, h + 52) &&
           add_ports(b, w, port) && add(b, ")))");
}

static bool filter_text(struct buf *b, const struct synwatch *w)
{
    if (!add_packet(b, w))
        return false;
    switch (w->link) {
    case SYN_LINK_ETHERNET:
        /* `vlan` moves all that follows it. */
        if (!add(b, " or (vlan and (") || !add_packet(b, w) || !add(b, " or (vlan and ") ||
            !add_packet(b, w) || !add(b, ")))"))
            return false;
        break;
    case SYN_LINK_SLL:
        if (!add_cooked_tag(b, w, 16 + 4))
            return false;
        break;
    case SYN_LINK_SLL2:
        if (!add_cooked_tag(b, w, 20 + 4))
            return false;
        break;
    case SYN_LINK_NULL:
    case SYN_LINK_RAW:
        break;
    }
    return buf_append(b, "", 1);
}

static bool set_filter(const struct synwatch *w, pcap_t *p, struct err *e)
{
    struct buf text = {0};
    struct bpf_program program;
    if (!filter_text(&text, w)) {
        buf_free(&text);
        return err_set(e, "out of memory");
    }
    bool ok = pcap_compile(p, &program, (const char *)buf_begin(&text), 1, PCAP_NETMASK_UNKNOWN) == 0;
    if (ok) {
        ok = pcap_setfilter(p, &program) == 0;
        pcap_freecode(&program);
    }
    buf_free(&text);
    return ok || err_set(e, "the capture's filter: %s", pcap_geterr(p));
}

/* --- open and close --- */

static bool describe(const struct synwatch *w, pcap_t *p, int rc, struct err *e)
{
    switch (rc) {
    case PCAP_ERROR_PERM_DENIED:
#ifdef PCAP_ERROR_PROMISC_PERM_DENIED
    case PCAP_ERROR_PROMISC_PERM_DENIED:
#endif
        return err_set(e, "capturing needs root or CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW "
                          "CAP_NET_BIND_SERVICE; Docker: --cap-add NET_RAW)");
    case PCAP_ERROR_NO_SUCH_DEVICE:
        return err_set(
            e,
            "there is no network interface %s (--md5-listen-interface; \"ip link\" lists them; any is all)",
            w->interface);
    case PCAP_ERROR_IFACE_NOT_UP:
        return err_set(e, "the network interface %s is down", w->interface);
    default: {
        const char *detail = pcap_geterr(p);
        return err_set(e, "capturing on %s: %s", w->interface,
                       detail && *detail ? detail : pcap_statustostr(rc));
    }
    }
}

/* Returns 0, or a negative PCAP_ERROR with the reason in `e`. */
static int activate(struct synwatch *w, pcap_t **out, struct err *e)
{
    char text[PCAP_ERRBUF_SIZE] = "";
    *out = NULL;
    w->ifindex = w->any ? 0 : if_nametoindex(w->interface);
    pcap_t *p = pcap_create(w->interface, text);
    if (!p) {
        err_set(e, "capturing on %s: %s", w->interface, text);
        return PCAP_ERROR;
    }
    pcap_set_snaplen(p, SYN_SNAPLEN);
    pcap_set_promisc(p, 0);
    pcap_set_immediate_mode(p, 1); /* a SYN alone, at once */
    pcap_set_buffer_size(p, BUFFER_BYTES);
    int rc = pcap_activate(p);
    if (rc >= 0)
        rc = 0; /* warnings: no promiscuous mode, which we do not want */
    else
        describe(w, p, rc, e);
    /* With the interface in each frame, which link-local addresses need. */
    if (rc == 0 && w->any)
        pcap_set_datalink(p, DLT_LINUX_SLL2);
    if (rc == 0 && !syn_link_of(pcap_datalink(p), &w->link)) {
        err_set(e, "capturing on %s: its link type %d is not known here (--md5-listen-interface any works)",
                w->interface, pcap_datalink(p));
        rc = PCAP_ERROR;
    }
    if (rc == 0 && (!set_filter(w, p, e)))
        rc = PCAP_ERROR;
    if (rc == 0 && pcap_setnonblock(p, 1, text) != 0) {
        err_set(e, "capturing on %s: %s", w->interface, text);
        rc = PCAP_ERROR;
    }
    /* What this host sends itself is nobody's attempt to connect. Where it is not supported we see more, that
     * is all. */
    if (rc == 0)
        pcap_setdirection(p, PCAP_D_IN);
    if (rc != 0) {
        pcap_close(p);
        return rc;
    }
    *out = p;
    return 0;
}

static void on_frames(void *arg, unsigned events);

static int open_capture(struct synwatch *w, struct err *e)
{
    int rc = activate(w, &w->pcap, e);
    if (rc != 0)
        return rc;
    w->watch = loop_watch_new(w->loop, pcap_get_selectable_fd(w->pcap), LOOP_READ, on_frames, w, e);
    if (!w->watch) {
        pcap_close(w->pcap);
        w->pcap = NULL;
        return PCAP_ERROR;
    }
    return 0;
}

static uint64_t dropped_now(const struct synwatch *w)
{
    struct pcap_stat s;
    return w->pcap && pcap_stats(w->pcap, &s) == 0 ? s.ps_drop : 0;
}

static void close_capture(struct synwatch *w)
{
    if (!w->pcap)
        return;
    w->dropped_before += dropped_now(w);
    loop_watch_free(w->watch);
    w->watch = NULL;
    pcap_close(w->pcap);
    w->pcap = NULL;
}

/* The capture is over; the timer opens it again. */
static void lose(struct synwatch *w, const char *why)
{
    log_warn("the capture of signed SYNs has stopped, opening it again: routers whose TCP-MD5 key is not "
             "known yet cannot connect meanwhile",
             LOG_STR("interface", w->interface), LOG_STR("error", why));
    close_capture(w);
    loop_timer_start(w->timer, RETRY_WAIT_MS, 0);
}

static void on_timer(void *arg)
{
    struct synwatch *w = arg;
    struct err e;
    if (w->pcap) {
        /* A new interface of the same name is another one, and the old capture is silent without an error. */
        if (!w->any && if_nametoindex(w->interface) != w->ifindex)
            lose(w, "the interface is gone, or another one has its name");
        return;
    }
    if (open_capture(w, &e) != 0) {
        int64_t wait = backoff_next_max(&w->backoff, RETRY_MAX_MS, random_u64());
        log_at(w->backoff.failures == 1 ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG,
               "the capture of signed SYNs cannot be opened yet, trying on", LOG_STR("error", e.text),
               LOG_NUM("retry-ms", wait));
        loop_timer_start(w->timer, wait, 0);
        return;
    }
    backoff_reset(&w->backoff);
    log_info("the capture of signed SYNs goes on", LOG_STR("interface", w->interface));
    loop_timer_start(w->timer, LOOK_MS, LOOK_MS);
}

/* --- frames --- */

static void on_frame(u_char *arg, const struct pcap_pkthdr *h, const u_char *frame)
{
    struct synwatch *w = (struct synwatch *)(void *)arg;
    struct syn syn;
    if (!syn_parse(w->link, frame, h->caplen, w->ifindex, &syn))
        return;
    for (size_t i = 0; i < w->n_ports; i++) {
        if (w->ports[i] != syn.local.port)
            continue;
        w->on_syn(w->arg, &syn);
        return;
    }
}

static void on_frames(void *arg, unsigned events)
{
    struct synwatch *w = arg;
    if (events & LOOP_GONE) {
        lose(w, "the interface is down or gone");
        return;
    }
    int rc = pcap_dispatch(w->pcap, FRAMES_PER_TURN, on_frame, (u_char *)w);
    if (rc >= 0)
        return;
    char why[PCAP_ERRBUF_SIZE];
    snprintf(why, sizeof why, "%s", pcap_geterr(w->pcap));
    lose(w, why);
}

/* --- life --- */

struct synwatch *synwatch_new(struct loop *loop, const char *interface, const uint16_t *ports, size_t n_ports,
                              synwatch_syn *on_syn, void *arg, struct err *e)
{
    struct synwatch *w = calloc(1, sizeof *w);
    if (!w) {
        err_set(e, "out of memory");
        return NULL;
    }
    w->loop = loop;
    w->interface = interface;
    w->any = strcmp(interface, "any") == 0;
    w->n_ports = n_ports < SYNWATCH_PORTS_MAX ? n_ports : SYNWATCH_PORTS_MAX;
    memcpy(w->ports, ports, w->n_ports * sizeof *ports);
    w->on_syn = on_syn;
    w->arg = arg;
    w->timer = loop_timer_new(loop, on_timer, w);
    int rc = open_capture(w, e);
    if (rc == PCAP_ERROR_IFACE_NOT_UP) {
        log_warn("the capture of signed SYNs cannot start yet, waiting: routers whose TCP-MD5 key is not "
                 "known yet cannot connect meanwhile",
                 LOG_STR("interface", interface), LOG_STR("error", e->text));
        loop_timer_start(w->timer, RETRY_WAIT_MS, 0);
    } else if (rc != 0) {
        synwatch_free(w);
        return NULL;
    } else {
        loop_timer_start(w->timer, LOOK_MS, LOOK_MS);
    }
    return w;
}

bool synwatch_running(const struct synwatch *w)
{
    return w->pcap != NULL;
}

uint64_t synwatch_dropped(const struct synwatch *w)
{
    return w->dropped_before + dropped_now(w);
}

void synwatch_free(struct synwatch *w)
{
    if (!w)
        return;
    close_capture(w);
    loop_timer_free(w->timer);
    free(w);
}

bool synwatch_possible(const char *interface, struct err *e)
{
    struct synwatch w = {
        .interface = interface, .any = strcmp(interface, "any") == 0, .ports = {179}, .n_ports = 1};
    pcap_t *p;
    int rc = activate(&w, &p, e);
    if (p)
        pcap_close(p);
    return rc == 0;
}
