#include "base/log_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

/* Kept free for what closes a cut line: `"]}`, `,"truncated":true}`, the newline. */
#define CLOSING_MAX 32

/*
 * A line in the making. Openings and characters are put as long as they fit below `limit`; the first that
 * does not sets `cut`, after which nothing but closings is put. Closings go into the reserve beyond the
 * limit, so they always fit.
 */
struct line {
    char *out;
    size_t len, limit;
    bool cut;
};

static void put(struct line *l, const char *p, size_t n)
{
    if (l->cut || l->len + n > l->limit) { /* closings may have gone beyond the limit */
        l->cut = true;
        return;
    }
    memcpy(l->out + l->len, p, n);
    l->len += n;
}

static void put_text(struct line *l, const char *text)
{
    put(l, text, strlen(text));
}

static void close_with(struct line *l, const char *text)
{
    size_t n = strlen(text);
    memcpy(l->out + l->len, text, n);
    l->len += n;
}

/* How many characters at the front are ASCII that stands for itself. */
static size_t plain_run(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && s[i] >= ' ' && s[i] <= '~' && s[i] != '"' && s[i] != '\\')
        i++;
    return i;
}

/* The characters of a JSON string without its quotes. A character is put whole or not at all. */
static void put_escaped(struct line *l, const char *s, size_t n)
{
    while (n > 0 && !l->cut) {
        size_t plain = plain_run(s, n);
        if (plain > 0) {
            /* What does not fit as a whole is cut at the last character that does. */
            size_t room = l->len < l->limit ? l->limit - l->len : 0;
            put(l, s, plain < room ? plain : room);
            l->cut = l->cut || plain > room;
            s += plain;
            n -= plain;
            continue;
        }
        uint32_t cp;
        size_t used = utf8_decode(s, n, &cp);
        char esc[8] = {'\\'};
        if (cp == '"' || cp == '\\') {
            esc[1] = (char)cp;
            put(l, esc, 2);
        } else if (cp == '\n' || cp == '\r' || cp == '\t') {
            esc[1] = cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't';
            put(l, esc, 2);
        } else if (utf8_unsafe(cp)) {
            snprintf(esc, sizeof esc, "\\u%04x", (unsigned)cp);
            put(l, esc, 6);
        } else if (cp == UTF8_BAD) {
            put_text(l, UTF8_BAD_TEXT);
        } else {
            put(l, s, used);
        }
        s += used;
        n -= used;
    }
}

/* A JSON string. When not even its opening quote fits nothing is put. */
static void put_string(struct line *l, const char *s, size_t n)
{
    put(l, "\"", 1);
    if (l->cut)
        return;
    put_escaped(l, s, n);
    close_with(l, "\"");
}

/* `,"key":[` and the like: all of it or, with the line cut, nothing of it. */
static bool put_key(struct line *l, const char *before, const char *key, size_t key_len, const char *after)
{
    size_t start = l->len;
    put_text(l, before);
    put_escaped(l, key, key_len);
    put_text(l, after);
    if (l->cut)
        l->len = start;
    return !l->cut;
}

static bool same_key(const struct kv_pair *a, const struct kv_pair *b)
{
    return a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0;
}

static bool seen_before(const struct kv *kv, const struct kv_pair *pair)
{
    struct kv_pair other;
    for (uint32_t pos = 0; kv_next(kv, &pos, &other) && other.key != pair->key;)
        if (same_key(&other, pair))
            return true;
    return false;
}

/* {"a":["1","2"],"b":["3"]}: an array a key, where the key first stands. */
static void put_pairs(struct line *l, const struct kv *kv)
{
    put(l, "{", 1);
    if (l->cut)
        return;
    struct kv_pair pair;
    bool first_key = true;
    for (uint32_t pos = 0; !l->cut && kv_next(kv, &pos, &pair);) {
        if (seen_before(kv, &pair))
            continue;
        if (!put_key(l, first_key ? "\"" : ",\"", pair.key, pair.key_len, "\":["))
            break;
        first_key = false;
        put_string(l, pair.val, pair.val_len);
        struct kv_pair more;
        for (uint32_t at = pos; !l->cut && kv_next(kv, &at, &more);) {
            if (!same_key(&more, &pair))
                continue;
            size_t start = l->len;
            put(l, ",", 1);
            put_string(l, more.val, more.val_len);
            /* The comma fitted and the quote did not: no comma may stand before the bracket. */
            if (l->cut && l->len == start + 1)
                l->len = start;
        }
        close_with(l, "]");
    }
    close_with(l, "}");
}

static bool is_plain(const char *s)
{
    size_t n = strlen(s);
    if (n == 0)
        return false;
    while (n > 0) {
        uint32_t cp;
        size_t used = utf8_decode(s, n, &cp);
        if (cp == ' ' || cp == '"' || cp == '\\' || cp == UTF8_BAD || utf8_unsafe(cp))
            return false;
        s += used;
        n -= used;
    }
    return true;
}

static bool absent(const struct log_field *f)
{
    return (f->kind == LOG_FIELD_STRING && !f->string) || (f->kind == LOG_FIELD_PAIRS && !f->pairs);
}

static void put_field(struct line *l, const struct log_field *f, bool json)
{
    if (absent(f))
        return;
    size_t start = l->len;
    if (!put_key(l, json ? ",\"" : " ", f->key, strlen(f->key), json ? "\":" : "="))
        return;
    size_t value = l->len;
    size_t limit = l->limit;
    if (l->len + LOG_VALUE_MAX < limit)
        l->limit = l->len + LOG_VALUE_MAX;
    if (f->kind == LOG_FIELD_NUMBER) {
        char text[24];
        snprintf(text, sizeof text, "%" PRId64, f->number);
        put_text(l, text);
    } else if (f->kind == LOG_FIELD_PAIRS) {
        put_pairs(l, f->pairs);
    } else if (json || !is_plain(f->string)) {
        put_string(l, f->string, strlen(f->string));
    } else {
        put_escaped(l, f->string, strlen(f->string));
    }
    if (l->len == value)
        l->len = start; /* a key without any value would not be well formed */
    l->limit = limit;
}

static void put_fields(struct line *l, const struct log_record *r, bool json)
{
    static const struct log_field none[] = {LOG_END_FIELD};
    struct log_field service = LOG_STR("service", r->service);
    bool service_due = r->service != NULL, cut = false;
    for (const struct log_field *f = r->fields ? r->fields : none;; f++) {
        if (service_due && (f->kind == LOG_FIELD_END || strcmp(f->key, service.key) > 0)) {
            put_field(l, &service, json);
            service_due = false;
        }
        if (f->kind == LOG_FIELD_END)
            break;
        put_field(l, f, json);
        /* One field that was too long leaves room for the next ones. */
        cut = cut || l->cut;
        l->cut = false;
    }
    l->cut = l->cut || cut;
}

size_t log_format_json(const struct log_record *r, char out[static LOG_LINE_MAX])
{
    struct line l = {.out = out, .limit = LOG_LINE_MAX - CLOSING_MAX};
    char time[TIME_TEXT_MAX];
    put_text(&l, "{\"time\":\"");
    put_text(&l, clock_text(r->wall_ns, 3, time));
    put_text(&l, "\",\"level\":\"");
    put_text(&l, log_level_name(r->level));
    put_text(&l, "\",\"message\":");
    put_string(&l, r->msg, strlen(r->msg));
    bool cut = l.cut;
    l.cut = false;
    put_fields(&l, r, true);
    if (cut || l.cut)
        close_with(&l, ",\"truncated\":true");
    close_with(&l, "}\n");
    return l.len;
}

size_t log_format_text(const struct log_record *r, char out[static LOG_LINE_MAX])
{
    static const char *const tag[] = {[LOG_LEVEL_DEBUG] = " DBG ",
                                      [LOG_LEVEL_INFO] = " INF ",
                                      [LOG_LEVEL_WARN] = " WRN ",
                                      [LOG_LEVEL_ERROR] = " ERR "};
    struct line l = {.out = out, .limit = LOG_LINE_MAX - CLOSING_MAX};
    char time[TIME_TEXT_MAX];
    put_text(&l, clock_text(r->wall_ns, 0, time));
    put_text(&l, tag[r->level]);
    put_escaped(&l, r->msg, strlen(r->msg));
    bool cut = l.cut;
    l.cut = false;
    put_fields(&l, r, false);
    if (cut || l.cut)
        close_with(&l, " truncated=true");
    close_with(&l, "\n");
    return l.len;
}
