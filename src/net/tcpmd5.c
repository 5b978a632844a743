#include "net/tcpmd5.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTMEM_PATH "/proc/sys/net/core/optmem_max"

_Static_assert(TCPMD5_KEY_MAX == TCP_MD5SIG_MAXKEYLEN, "the kernel's limit");

static long optmem_max(void)
{
    FILE *file = fopen(OPTMEM_PATH, "re");
    long value = -1;
    if (file) {
        if (fscanf(file, "%ld", &value) != 1)
            value = -1;
        fclose(file);
    }
    return value;
}

static bool describe(int errnum, struct err *e)
{
    long limit;
    switch (errnum) {
    case ENOMEM:
        limit = optmem_max();
        if (limit > 0)
            err_set(e,
                    "the kernel has no room for more TCP-MD5 keys on a socket: raise the sysctl "
                    "net.core.optmem_max (it is %ld; a key takes about 200 bytes)",
                    limit);
        else
            err_set(e, "the kernel has no room for more TCP-MD5 keys on a socket: raise the sysctl "
                       "net.core.optmem_max (a key takes about 200 bytes)");
        break;
    case ENOPROTOOPT:
        err_set(e, "this kernel has no TCP-MD5 (CONFIG_TCP_MD5SIG)");
        break;
    default:
        err_set(e, "the kernel does not take the TCP-MD5 key: %s", strerror(errnum));
    }
    errno = errnum;
    return false;
}

/* len 0 removes. Returns 0 or the errno. */
static int apply(int fd, const struct addr *peer, const uint8_t *key, size_t len)
{
    struct tcp_md5sig sig = {.tcpm_flags = TCP_MD5SIG_FLAG_PREFIX,
                             .tcpm_prefixlen = peer->family == 6 ? 128 : 32,
                             .tcpm_keylen = (uint16_t)len};
    struct sockaddr_storage ss;
    _Static_assert(sizeof sig.tcpm_addr == sizeof ss, "both hold any address");
    addr_to_sockaddr(peer, &ss);
    memcpy(&sig.tcpm_addr, &ss, sizeof ss);
    if (len > 0)
        memcpy(sig.tcpm_key, key, len);
    int errnum = setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG_EXT, &sig, sizeof sig) == 0 ? 0 : errno;
    explicit_bzero(&sig, sizeof sig);
    return errnum;
}

bool tcpmd5_set(int fd, const struct addr *peer, const uint8_t *key, size_t len, struct err *e)
{
    if (len == 0 || len > TCPMD5_KEY_MAX) {
        errno = EINVAL;
        return err_set(e, "a TCP-MD5 key of %zu bytes: 1 to %d are possible", len, TCPMD5_KEY_MAX);
    }
    int errnum = apply(fd, peer, key, len);
    return errnum == 0 || describe(errnum, e);
}

bool tcpmd5_remove(int fd, const struct addr *peer, struct err *e)
{
    int errnum = apply(fd, peer, NULL, 0);
    return errnum == 0 || errnum == ENOENT || describe(errnum, e);
}

/* --- what the kernel counts: a line of names, then one of values, both beginning with "TcpExt:" --- */

static uint64_t *counter_named(struct tcpmd5_failures *f, const char *name)
{
    if (strcmp(name, "TCPMD5NotFound") == 0)
        return &f->not_found;
    if (strcmp(name, "TCPMD5Unexpected") == 0)
        return &f->unexpected;
    return strcmp(name, "TCPMD5Failure") == 0 ? &f->failure : NULL;
}

bool tcpmd5_failures(struct tcpmd5_failures *out)
{
    static const char prefix[] = "TcpExt:";
    *out = (struct tcpmd5_failures){0};
    FILE *file = fopen("/proc/self/net/netstat", "re");
    if (!file)
        return false;
    char *names = NULL, *values = NULL, *at_name = NULL, *at_value = NULL;
    size_t names_cap = 0, values_cap = 0;
    bool found = false;
    while (!found && getline(&names, &names_cap, file) > 0 && getline(&values, &values_cap, file) > 0) {
        if (strncmp(names, prefix, sizeof prefix - 1) != 0)
            continue;
        char *name = strtok_r(names, " \n", &at_name), *value = strtok_r(values, " \n", &at_value);
        for (; name && value;
             name = strtok_r(NULL, " \n", &at_name), value = strtok_r(NULL, " \n", &at_value)) {
            uint64_t *to = counter_named(out, name);
            if (!to)
                continue;
            *to = strtoull(value, NULL, 10);
            found = true;
        }
    }
    free(names);
    free(values);
    fclose(file);
    return found;
}
