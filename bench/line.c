/*
 * A long line between two network namespaces: what leaves one comes out of the other after the line's delay, no faster than
 * the line's rate, in order. For kernels without netem too, and the same on all of them.
 *
 *     line NAMESPACE-A NAMESPACE-B --delay-us N [--mbit N] [--queue BYTES] [--device NAME]
 *
 * `--delay-us` is one way. `--mbit` (0: no limit) counts IP packets as they would be on the wire: a packet of 64 KiB that TCP
 * hands to the device as one counts as the 1500-byte packets it stands for. What does not fit into `--queue` bytes in front of
 * the line (default 32 MiB) is dropped. Makes a TUN device in each namespace, says "ready", and ends with its devices on
 * SIGTERM or when its standard input closes. At the end it prints one line of JSON with what it carried and dropped.
 *
 * One thread a direction. Packets keep the kernel's segmentation offload, so the line takes many gigabits a second.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX (sizeof(struct virtio_net_hdr) + 65536u)
#define SLOTS      65536u /* packets on the way, one direction; a power of two */

struct packet {
    int64_t due_ns;
    uint32_t len;
    uint8_t *bytes;
};

struct way {
    int from, to;
    struct packet *slots;
    uint32_t first, end; /* counting up; slot: modulo SLOTS */
    int64_t free_ns;     /* when the line has sent what it holds */
    uint64_t packets, bytes, dropped, refused;
    int refused_errno;
};

static int64_t delay_ns, queue_bytes = 32 << 20;
static double ns_per_byte;
static const char *device = "line0";

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "line: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_tun(const char *namespace)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) != 0)
        die(path);
    close(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        die("/dev/net/tun");
    struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", device);
    if (ioctl(fd, TUNSETIFF, &ifr) != 0)
        die("TUNSETIFF");
    if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) != 0)
        die("TUNSETOFFLOAD");
    return fd;
}

/* What the packet takes on the wire, IP headers and up. */
static uint64_t wire_bytes(const uint8_t *p, uint32_t len)
{
    struct virtio_net_hdr h;
    memcpy(&h, p, sizeof h);
    uint64_t ip = len - sizeof h;
    if (h.gso_type == VIRTIO_NET_HDR_GSO_NONE || h.gso_size == 0 || h.hdr_len == 0 || ip <= h.hdr_len)
        return ip;
    uint64_t segments = (ip - h.hdr_len + h.gso_size - 1) / h.gso_size;
    return ip + (segments - 1) * h.hdr_len;
}

/* Takes what the device has. */
static void take(struct way *w, uint8_t *buf)
{
    for (int i = 0; i < 64; i++) {
        ssize_t n = read(w->from, buf, PACKET_MAX);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0)
            die("reading a packet");
        if ((size_t)n <= sizeof(struct virtio_net_hdr))
            continue;
        int64_t now = now_ns(), start = w->free_ns > now ? w->free_ns : now;
        uint64_t wire = wire_bytes(buf, (uint32_t)n);
        bool full = w->end - w->first >= SLOTS;
        if (ns_per_byte > 0 && (double)(start - now) > (double)queue_bytes * ns_per_byte)
            full = true;
        uint8_t *copy = full ? NULL : malloc((size_t)n);
        if (!copy) {
            w->dropped++;
            continue;
        }
        memcpy(copy, buf, (size_t)n);
        w->free_ns = start + (int64_t)((double)wire * ns_per_byte);
        w->slots[w->end++ % SLOTS] =
            (struct packet){.due_ns = w->free_ns + delay_ns, .len = (uint32_t)n, .bytes = copy};
        w->packets++;
        w->bytes += wire;
    }
}

static void give(struct way *w)
{
    for (int64_t now = now_ns(); w->first != w->end; w->first++) {
        struct packet *p = &w->slots[w->first % SLOTS];
        if (p->due_ns > now)
            return;
        /* A device that is down takes nothing: the packet is lost, as on a real line. */
        if (write(w->to, p->bytes, p->len) < 0) {
            w->refused++;
            w->refused_errno = errno;
        }
        free(p->bytes);
    }
}

static void *run(void *arg)
{
    struct way *w = arg;
    uint8_t *buf = malloc(PACKET_MAX);
    if (!buf)
        die("memory");
    prctl(PR_SET_TIMERSLACK, 1000);
    for (;;) {
        struct timespec wait, *timeout = NULL;
        if (w->first != w->end) {
            int64_t ns = w->slots[w->first % SLOTS].due_ns - now_ns();
            if (ns < 0)
                ns = 0;
            wait = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
            timeout = &wait;
        }
        struct pollfd pfd = {.fd = w->from, .events = POLLIN};
        if (ppoll(&pfd, 1, timeout, NULL) > 0)
            take(w, buf);
        give(w);
    }
    return NULL;
}

static void usage(void)
{
    fprintf(stderr,
            "usage: line NAMESPACE-A NAMESPACE-B --delay-us N [--mbit N] [--queue BYTES] [--device NAME]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc % 2 == 0)
        usage();
    for (int i = 3; i < argc; i += 2) {
        const char *a = argv[i], *v = argv[i + 1];
        if (strcmp(a, "--delay-us") == 0)
            delay_ns = atoll(v) * 1000;
        else if (strcmp(a, "--mbit") == 0)
            ns_per_byte = atof(v) > 0 ? 8000 / atof(v) : 0;
        else if (strcmp(a, "--queue") == 0)
            queue_bytes = atoll(v);
        else if (strcmp(a, "--device") == 0)
            device = v;
        else
            usage();
    }
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int a = open_tun(argv[1]), b = open_tun(argv[2]);
    static struct way ways[2];
    ways[0].from = ways[1].to = a;
    ways[1].from = ways[0].to = b;
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        ways[i].slots = calloc(SLOTS, sizeof *ways[i].slots);
        if (!ways[i].slots || pthread_create(&thread, NULL, run, &ways[i]) != 0)
            die("starting");
    }
    printf("ready\n");
    fflush(stdout);
    /* Standard input is our parent's end of a pipe: when the parent is gone the line goes too. */
    for (struct pollfd in = {.fd = 0, .events = POLLIN};;) {
        struct timespec tick = {.tv_nsec = 100000000};
        if (sigtimedwait(&ends, NULL, &tick) > 0)
            break;
        char c;
        if (poll(&in, 1, 0) > 0 && read(0, &c, 1) == 0)
            break;
    }
    for (int i = 0; i < 2; i++)
        printf("%s{\"packets\":%llu,\"bytes\":%llu,\"dropped\":%llu,\"refused\":%llu,\"errno\":%d}%s",
               i ? "," : "[", (unsigned long long)ways[i].packets, (unsigned long long)ways[i].bytes,
               (unsigned long long)ways[i].dropped, (unsigned long long)ways[i].refused,
               ways[i].refused_errno, i ? "]\n" : "");
    return 0;
}
