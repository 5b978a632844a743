#include "daemon/api_json.h"

#include <string.h>

#include "base/utf8.h"

static int append(const char *p, size_t n, void *arg)
{
    return buf_append(arg, p, n) ? 0 : -1;
}

void api_respond_json(struct api_response *response, json_t *json, bool pretty)
{
    size_t flags = JSON_ENCODE_ANY | (pretty ? JSON_INDENT(2) : JSON_COMPACT);
    response->content_type = "application/json";
    if (!json || json_dump_callback(json, append, &response->body, flags) != 0 ||
        append("\n", 1, &response->body) != 0) {
        static const char failed[] = "{\"error\":\"out of memory\"}\n";
        response->status = 500;
        buf_take(&response->body, buf_len(&response->body));
        append(failed, sizeof failed - 1, &response->body);
    }
    json_decref(json);
}

void api_respond_error(struct api_response *response, unsigned status, const char *text)
{
    response->status = status;
    api_respond_json(response, json_pack("{s:o}", "error", api_json_text(text, strlen(text))), false);
}

json_t *api_json_text(const char *s, size_t n)
{
    json_t *json = json_stringn(s, n);
    struct buf clean = {0};
    for (bool ok = true; !json && ok && n > 0;) {
        uint32_t cp;
        size_t used = utf8_decode(s, n, &cp);
        ok = cp == UTF8_BAD ? buf_append(&clean, UTF8_BAD_TEXT, 3) : buf_append(&clean, s, used);
        s += used;
        n -= used;
    }
    if (!json && n == 0)
        json = json_stringn((const char *)buf_begin(&clean), buf_len(&clean));
    buf_free(&clean);
    return json;
}
