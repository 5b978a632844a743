#include "agent/reload.h"

#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "base/log.h"
#include "daemon/env_file.h"
#include "daemon/notify.h"

/* How often the file of a rejected token is looked at. */
#define LOOK_MS 5000

/* Room for a word of the option's values, and for one that is none. */
#define LOG_LEVEL_MAX 32

enum outcome { KEPT, UNCHANGED, CHANGED, FAILED };

static enum outcome read_token(struct agent *a, struct err *e)
{
    char *token = a->config->token;
    char fresh[AGENT_TOKEN_MAX + 1];
    if (!a->config->token_path)
        return KEPT;
    if (!agent_token_read(a->config->token_path, fresh, e))
        return FAILED;
    /* In place: whoever opens a call has a pointer to it. */
    enum outcome outcome = strcmp(fresh, token) == 0 ? UNCHANGED : CHANGED;
    strcpy(token, fresh);
    explicit_bzero(fresh, sizeof fresh);
    a->token_unreadable = false;
    return outcome;
}

static void tell_unreadable(const struct err *e)
{
    log_error("the token cannot be read again, going on with the old one", LOG_STR("error", e->text));
}

static enum outcome read_certificates(struct agent *a, struct err *e)
{
    const struct agent_config *c = a->config;
    struct tls_client_config tls = {.ca_file = c->ca_file, .cert_file = c->tls_cert, .key_file = c->tls_key};
    if (!a->tls)
        return KEPT;
    return tls_client_ctx_reload(a->tls, &tls, e) ? CHANGED : FAILED;
}

static void find_log_level(void *arg, const char *key, const char *value)
{
    char *found = arg;
    if (strcmp(key, "KBGP_LOG_LEVEL") == 0)
        snprintf(found, LOG_LEVEL_MAX, "%s", value);
}

/* The one setting of the file of variables that can change while sessions go on. Returns the level that counts now. */
static const char *read_log_level(struct agent *a)
{
    struct agent_config *c = a->config;
    char text[LOG_LEVEL_MAX] = "";
    struct err e;
    if (!c->env_file || c->log_level_flag)
        return log_level_name(c->log_level);
    if (!env_file_read(c->env_file, find_log_level, text, &e))
        log_error("the file of variables cannot be read again, going on with the old log level",
                  LOG_STR("error", e.text));
    else if (text[0] && !log_level_parse(text, &c->log_level))
        log_error("KBGP_LOG_LEVEL is no log level, going on with the old one", LOG_STR("value", text));
    log_set_level(c->log_level);
    return log_level_name(c->log_level);
}

void reload_all(struct agent *a)
{
    static const char *const token_text[] = {
        [KEPT] = "not from a file", [UNCHANGED] = "unchanged", [CHANGED] = "changed", [FAILED] = "kept"};
    static const char *const certificate_text[] = {
        [KEPT] = "none", [CHANGED] = "read again", [FAILED] = "kept"};
    struct err e;
    notify_reloading();
    export_wake(a->export); /* first, so that what is logged below is exported */
    enum outcome token = read_token(a, &e);
    if (token == FAILED)
        tell_unreadable(&e);
    enum outcome certificates = read_certificates(a, &e);
    if (certificates == FAILED)
        log_error("the certificates cannot be read again, going on with the old ones",
                  LOG_STR("error", e.text));
    const char *level = read_log_level(a);
    log_info("reloaded", LOG_STR("log-level", level), LOG_STR("token", token_text[token]),
             LOG_STR("token-file", a->config->token_path),
             LOG_STR("certificates", certificate_text[certificates]));
    if (token == CHANGED)
        control_credentials_changed(a->host.control);
    notify_ready();
}

bool reload_rejected_token(struct agent *a)
{
    struct err e;
    enum outcome token = read_token(a, &e);
    if (token == FAILED && !a->token_unreadable) {
        a->token_unreadable = true;
        tell_unreadable(&e);
    }
    if (token == CHANGED)
        log_info("the rejected token has changed in its file, trying again",
                 LOG_STR("token-file", a->config->token_path));
    if (token == CHANGED)
        export_wake(a->export);
    a->token_looked_ms = loop_now_ms(a->loop);
    return token == CHANGED;
}

void reload_tick(struct agent *a)
{
    if (control_stats(a->host.control)->rejected && loop_now_ms(a->loop) - a->token_looked_ms >= LOOK_MS &&
        reload_rejected_token(a))
        control_credentials_changed(a->host.control);
}
