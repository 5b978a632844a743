#ifndef KBGP_AGENT_SYNWATCH_H
#define KBGP_AGENT_SYNWATCH_H

#include "agent/syn_parse.h"
#include "net/loop.h"

/*
 * Sees the SYNs that reach the ports listened on, also those that the kernel drops because they carry an MD5
 * option that it has no key for. libpcap stays inside; a filter that runs in the kernel lets through only
 * SYNs with TCP options (and IPv6 packets with extension headers, which it cannot step over). Needs
 * CAP_NET_RAW, also later: an interface that goes away and comes back is opened again.
 */
struct synwatch;

/* Ports are few: what --listen takes. */
#define SYNWATCH_PORTS_MAX 64

/* A SYN with TCP options, signed or not, to one of the ports. May not free the capture. */
typedef void synwatch_syn(void *arg, const struct syn *syn);

/*
 * Opens the capture: `interface` is "any" or a name (borrowed). NULL with the reason, in words for an
 * operator, where the right is missing, the interface does not exist or its kind cannot be captured. One that
 * is only down is waited for.
 */
struct synwatch *synwatch_new(struct loop *loop, const char *interface, const uint16_t *ports, size_t n_ports,
                              synwatch_syn *on_syn, void *arg, struct err *e);
bool synwatch_running(const struct synwatch *w);
/* SYNs that came faster than they were read, and that the kernel dropped from the capture. */
uint64_t synwatch_dropped(const struct synwatch *w);
void synwatch_free(struct synwatch *w);

/* Whether a capture could be opened now: what `kbgp check` asks. False with the reason. */
bool synwatch_possible(const char *interface, struct err *e);

#endif
