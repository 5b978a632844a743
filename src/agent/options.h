#ifndef KBGP_AGENT_OPTIONS_H
#define KBGP_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/log.h"
#include "daemon/options.h"

/* The options of `kbgp`, checked and ready to use. All defaults stand in options.c, in one place. */

#define AGENT_LISTEN_MAX 64
#define AGENT_HOST_MAX   253 /* a DNS name; an IPv6 address stands without its brackets */
#define AGENT_TOKEN_MAX  4096

enum agent_command {
    AGENT_RUN,    /* no word: the agent itself */
    AGENT_CHECK,  /* "check": look at everything that the agent needs */
    AGENT_STATUS, /* "status", "sessions": ask the running agent */
    AGENT_SESSIONS,
};

struct agent_config {
    enum agent_command command;
    bool ready, quiet; /* of AGENT_CHECK: ask the running agent only; print nothing */
    bool json;         /* of AGENT_STATUS and AGENT_SESSIONS */

    /* Account. Both are printable ASCII without spaces: they become headers. */
    char *email;
    char token[AGENT_TOKEN_MAX + 1];
    char *
        token_path; /* the file that the token came from and may be read from again; NULL: flag or variable */
    int64_t site_id; /* 0: any site */
    /*
     * AGENT_CHECK only, where the account may be missing: what is wrong with it. NULL: nothing. The commands
     * that ask the running agent need no account and leave everything but `metrics` alone.
     */
    char *account_problem;

    /* Where to: a DNS name or an IP address. */
    char target_host[AGENT_HOST_MAX + 1];
    uint16_t target_port;
    char target[AGENT_HOST_MAX +
                9];           /* both as text for people: "grpc.api.kentik.com:443", "[2001:db8::1]:443" */
    bool insecure;            /* HTTP/2 without TLS */
    char *ca_file;            /* NULL: the system's trust store */
    char *tls_server_name;    /* name to verify instead of target_host; NULL: none */
    char *tls_cert, *tls_key; /* client certificate; both or neither */
    uint32_t multi;           /* sessions on one HTTP/2 connection */

    struct addr listeners[AGENT_LISTEN_MAX];
    size_t n_listeners; /* at least 1 */
    bool md5;
    char *md5_interface; /* "any" or a name */

    enum log_level log_level;
    bool log_level_flag; /* given on the command line: a file of variables does not change it */
    char *env_file;      /* file of variables, NULL: none */
    bool human_logs;
    struct addr metrics; /* address and port of the status pages */
    bool metrics_per_device;
    bool log_export; /* false with --disable-log-export */
    char *log_export_url, *metrics_export_url;

    bool version; /* --version was given: nothing else has been looked at */

    /* As the option engine read it; what is above was made from it. */
    struct {
        char *token, *token_file, *region, *target, *log_level, *metrics_addr;
        struct option_list listen;
        int64_t multi, metrics_port;
        bool disable_log_export;
    } given;
};

/*
 * Reads arguments (argv[0] is skipped; a token is overwritten there), variables, defaults and the token file.
 * Of OPTIONS_ERROR the reason names the flag or variable, the value and what is accepted. Whatever the
 * answer, agent_options_free() may and must follow.
 */
enum options_result agent_options_load(int argc, char **argv, struct agent_config *config, struct err *e);

/* Frees what the config owns and wipes the token. */
void agent_options_free(struct agent_config *config);

void agent_options_help(FILE *out);

/*
 * What the build installs beside the program, made from the option table: see options_doc_write(). False when
 * `what` is nothing that it knows.
 */
bool agent_options_doc(const char *what, FILE *template, FILE *out);

/*
 * Reads a token from a file again: white space at the end is dropped. Waits for nothing, not even for the
 * writer of a pipe. On failure `token` is not changed and the reason names the path.
 */
bool agent_token_read(const char *path, char token[static AGENT_TOKEN_MAX + 1], struct err *e);

#endif
