#include "agent/client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

/* The address to connect to for one that was listened on. */
static struct addr reachable(const struct addr *listening)
{
    static const struct addr any4 = {.family = 4}, any6 = {.family = 6};
    struct addr a = *listening;
    if (addr_same_ip(&a, &any4))
        addr_parse_ip(&a, "127.0.0.1");
    else if (addr_same_ip(&a, &any6))
        addr_parse_ip(&a, "::1");
    a.port = listening->port;
    return a;
}

static size_t on_body(char *p, size_t one, size_t n, void *arg)
{
    struct buf *body = arg;
    (void)one; /* always 1 */
    return buf_len(body) + n <= CLIENT_BODY_MAX && buf_append(body, p, n) ? n : 0;
}

static bool fetch(CURL *easy, const struct addr *at, const char *path, struct buf *body, long *status,
                  struct err *e)
{
    char url[ADDR_TEXT_MAX + 64], where[ADDR_TEXT_MAX], ip[ADDR_TEXT_MAX], why[CURL_ERROR_SIZE] = "";
    addr_text(at, where);
    addr_ip_text(at, ip);
    /* In a URL the zone goes its own way (CURLOPT_ADDRESS_SCOPE): libcurl 7.76 reads "%25" there, not "%". */
    ip[strcspn(ip, "%")] = 0;
    snprintf(url, sizeof url, at->family == 6 ? "http://[%s]:%u%s" : "http://%s:%u%s", ip, at->port, path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_ADDRESS_SCOPE, (long)at->scope);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)CLIENT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, body);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, status);
    switch (code) {
    case CURLE_OK:
        return true;
    case CURLE_COULDNT_CONNECT:
        return err_set(e, "no kbgp is running here: nobody listens on %s (--metrics-addr, --metrics-port)",
                       where);
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(e, "%s does not answer within %d s", where, CLIENT_TIMEOUT_MS / 1000);
    case CURLE_WRITE_ERROR:
        return err_set(e, "%s: the answer is too long", where);
    default:
        return err_set(e, "%s: %s", where, why[0] ? why : curl_easy_strerror(code));
    }
}

json_t *client_get(const struct addr *metrics, const char *path, long *http_status, struct err *e)
{
    struct addr at = reachable(metrics);
    struct buf body = {0};
    long status = 0;
    CURL *easy = curl_easy_init();
    bool ok = easy ? fetch(easy, &at, path, &body, &status, e) : err_set(e, "libcurl cannot start");
    curl_easy_cleanup(easy);
    json_t *json = NULL;
    if (ok) {
        json_error_t unused;
        json = json_loadb((const char *)buf_begin(&body), buf_len(&body), JSON_REJECT_DUPLICATES, &unused);
        char where[ADDR_TEXT_MAX];
        if (!json_is_object(json)) {
            err_set(e, "what answers on %s is not kbgp: no JSON at %s (HTTP status %ld)",
                    addr_text(&at, where), path, status);
            json_decref(json);
            json = NULL;
        }
    }
    buf_free(&body);
    if (http_status)
        *http_status = status;
    return json;
}

const char *client_text(const json_t *value, char *out, size_t cap)
{
    const char *text = json_string_value(value);
    snprintf(out, cap, "%s", text ? text : "");
    for (char *p = out; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    return out;
}

bool client_health(const struct addr *metrics, char word[static 32], struct err *e)
{
    long status;
    json_t *json = client_get(metrics, "/hc", &status, e);
    if (!json)
        return false;
    client_text(json_object_get(json, "status"), word, 32);
    json_decref(json);
    char where[ADDR_TEXT_MAX];
    if (word[0] == 0 || (strcmp(word, "ok") == 0) != (status == 200))
        return err_set(e, "what answers on %s is not kbgp: no status at /hc (HTTP status %ld)",
                       addr_text(metrics, where), status);
    return true;
}
