#ifndef KBGP_TARGET_OPTIONS_H
#define KBGP_TARGET_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/log.h"
#include "daemon/options.h"

/* The options of `kbgp-target serve`, checked and ready to use. */

#define TARGET_LISTEN_MAX       64
#define TARGET_BACKEND_HOST_MAX 253 /* a DNS name; an IPv6 address stands without its brackets */

enum target_backend_kind { TARGET_BACKEND_COLLECTOR, TARGET_BACKEND_TCP };

struct target_config {
    char *db;
    struct addr listen[TARGET_LISTEN_MAX];
    size_t listen_count;      /* at least 1 */
    char *tls_cert, *tls_key; /* both or, with `insecure`, neither */
    bool insecure;

    enum target_backend_kind backend;
    char backend_host[TARGET_BACKEND_HOST_MAX + 1]; /* name or address, of a tcp backend */
    uint16_t backend_port;
    char *backend_md5_file; /* of a tcp backend: the file with its MD5 password, or NULL */

    /* Of the collector. */
    char *collector_json; /* file, "-" for stdout, NULL for none */
    uint32_t local_as;    /* 0: the router's own AS, which makes the session iBGP */
    uint32_t router_id;   /* host byte order */
    uint16_t hold_time;   /* seconds; 0 or at least 3 */

    enum log_level log_level;
    bool human_logs;
    struct addr metrics; /* address and port of the status pages */
    uint32_t max_sessions;
    uint32_t max_connection_age; /* seconds; 0: no limit */
    bool version;                /* --version was given: nothing else has been looked at */

    /* As the option engine read it; what is above was made from it. */
    struct {
        struct option_list listen;
        char *backend, *router_id, *log_level, *metrics_addr;
        int64_t local_as, hold_time, metrics_port, max_sessions, max_connection_age;
    } given;
};

/*
 * Where the status pages are: what the rows of the tables of `serve`, which opens them, and of `ready`, which asks there, have
 * in common. Each adds its help and its field.
 */
bool target_options_check_ip(const char *value, struct err *e);
#define TARGET_METRICS_ADDR_OPTION                                                                           \
    .name = "metrics-addr", .kind = OPTION_STRING, .env = "KBGP_TARGET_METRICS_ADDR", .def = "127.0.0.1",    \
    .value = "IP", .check = target_options_check_ip
#define TARGET_METRICS_PORT_OPTION                                                                           \
    .name = "metrics-port", .kind = OPTION_INT, .env = "KBGP_TARGET_METRICS_PORT", .def = "20921",           \
    .value = "PORT", .min = 1, .max = UINT16_MAX

/*
 * Reads arguments (argv[0] is skipped), variables and defaults. OPTIONS_ERROR with words: the flag or
 * variable, the value, what is accepted. TLS files are opened once to see that they can be read. Whatever the
 * answer, target_options_free() may and must follow.
 */
enum options_result target_options_load(int argc, char **argv, struct target_config *config, struct err *e);
void target_options_free(struct target_config *config);
void target_options_help(FILE *out);

/* The table itself, for the pages made from it (daemon/options_doc.h). */
const struct option *target_options_table(size_t *count);

#endif
