#include "grpc/h2.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/*
 * The connection's own window: large, because its credit returns at once (memory is bounded by the streams' windows).
 * nghttp2 returns credit when half a window is used, so the sender always sees at least half of this.
 */
#define CONNECTION_WINDOW (64 << 20)
/* Headers of one request that nghttp2 lets us send or that we accept in number. */
#define HEADERS_COUNT_MAX 128
/* Measuring the round trip again before this is over would tell nothing new, and servers count PINGs. */
#define PING_GAP_NS 100000000
/*
 * The first round trip is measured while both sides make other connections, too (all routers of a site come at once): a TLS
 * handshake in front of the answer is a millisecond, a thousand of them are a second. So the first few messages bring a look
 * each, without a gap. Not more: a server of gRPC's ends a connection for three PINGs that follow none of its own frames.
 */
#define FIRST_LOOKS 3
/*
 * Windows follow the shortest round trip of late: one that was measured behind the data that a window let through would
 * justify a larger window, and that one a longer round trip, until the kernel's buffers hold megabytes in front of every
 * keepalive. "Of late" is this long or up to twice as long: a connection may get another route.
 */
#define RTT_MIN_KEEP_NS (300ll * 1000000000)
/* The shortest time that a rate is taken over: between two turns of a loop bytes come at any rate. */
#define ROUND_MIN_NS 10000000
/*
 * A stream's credit returns when so large a part of its window is used. nghttp2 would wait for half of it, and a sender with
 * the same window to go on with would stand still twice as often.
 */
#define CREDIT_PART 4
/* Bytes wait for the two programs, too, and these for the processor: so much more, within what the path justifies. */
#define TURNS_NS 20000000
/* RST_STREAMs a second that a peer may cause before it is taken as an attack (CVE-2023-44487), and how many at once. */
#define RESET_BURST 1000u
#define RESET_PER_S 200u

/*
 * What nghttp2 takes when a session begins lies in a mapping of the session's own. Most of it is a buffer of 16 KiB for the
 * frame being sent, of which a connection with small header blocks uses the first few hundred bytes for all its life: in the
 * heap it would cost what it is long, here the pages that nobody touched cost nothing.
 *
 *     | small pieces …                 | frame buffer …                                  |
 *     | page       | page       | page       | page (untouched) | page (untouched) | …
 *
 * The gap in front of the buffer goes to the first streams; what comes later is malloc()'s.
 */
#define START_BYTES (48u << 10)
#define START_PAGE  4096u
/* In front of each piece there: its size. */
#define START_HEADER 16u
/* A piece that is longer is the frame buffer, and so much of it lies in a page that is used anyway. */
#define FRAME_MIN  8192u
#define FRAME_HEAD 1024u

struct h2 {
    nghttp2_session *session;
    uint8_t *start; /* the mapping */
    size_t start_used;
    size_t frame_at; /* of the frame buffer, with its header; 0: there is none yet */
    bool starting;   /* the session is being made */
    const struct h2_ops *ops;
    void *arg;
    bool server, ready;
    bool ending;     /* either side has said GOAWAY */
    bool goaway_due; /* ours with the last stream is to follow */
    uint8_t *out;    /* where the running h2_drain() writes */
    size_t out_len, out_cap;
    int64_t now_ns;
    int64_t ping_sent_ns; /* 0: none under way */
    int64_t ping_done_ns;
    int64_t ping_asked_ns; /* when the last one that was answered was sent */
    unsigned looks;        /* round trips measured, up to FIRST_LOOKS */
    int64_t rtt_ns;
    int64_t rtt_min_ns, rtt_min_before_ns; /* of this period and of the one before; 0: not measured */
    int64_t rtt_min_since_ns;              /* when this period began */
    int64_t reset_refill_ns;
    uint32_t reset_tokens;
    uint32_t streams;  /* open ones */
    struct kv headers; /* block being received */
    uint32_t headers_size;
    char *why; /* of the last h2_feed(): NULL: nothing was wrong */
};

static void set_why(struct h2 *h, const char *text)
{
    free(h->why);
    h->why = strdup(text);
}

/* How much windows have grown in sum; the process has one thread. */
static uint64_t window_growth;

static struct h2_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static void note_rtt_min(struct h2 *h, int64_t rtt)
{
    if (h->now_ns - h->rtt_min_since_ns > RTT_MIN_KEEP_NS) {
        h->rtt_min_before_ns = h->rtt_min_ns;
        h->rtt_min_ns = 0;
        h->rtt_min_since_ns = h->now_ns;
    }
    if (h->rtt_min_ns == 0 || rtt < h->rtt_min_ns)
        h->rtt_min_ns = rtt;
}

/* --- receiving --- */

/* What the PING says that follows a server's first GOAWAY; others say nothing. */
static const uint8_t goaway_ping[8] = "goaway";

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h = arg;
    /* Blocks come one after the other, so that the connection needs one place for them. */
    kv_free(&h->headers);
    h->headers_size = 0;
    if (!h->server || frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct h2_stream *st = h->ops->open(h->arg);
    if (!st) {
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    st->h2 = h;
    st->id = frame->hd.stream_id;
    st->window = H2_WINDOW_FIRST;
    h->streams++;
    nghttp2_session_set_stream_user_data(session, st->id, st);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
    struct h2 *h = arg;
    (void)flags;
    struct h2_stream *st = stream_of(session, frame->hd.stream_id);
    if (!st || st->headers_bad)
        return 0;
    h->headers_size += (uint32_t)(name_len + value_len + 32);
    if (h->headers_size > H2_HEADERS_MAX || h->headers.count >= HEADERS_COUNT_MAX ||
        !kv_add_n(&h->headers, (const char *)name, name_len, (const char *)value, value_len)) {
        st->headers_bad = true;
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_ENHANCE_YOUR_CALM);
    }
    return 0;
}

static void headers_complete(struct h2 *h, struct h2_stream *st, const nghttp2_frame *frame)
{
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (end)
        st->remote_end = true;
    struct kv headers = h->headers;
    h->headers = (struct kv){0};
    bool trailers = frame->headers.cat == NGHTTP2_HCAT_HEADERS;
    const char *status = kv_get(&headers, ":status");
    bool interim = status && status[0] == '1';
    /* A second block with :status is the final response after a 1xx one, not trailers. */
    if (trailers && status)
        trailers = false;
    if (!interim && !st->headers_bad)
        st->ops->headers(st->arg, &headers, trailers, end);
    kv_free(&headers);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct h2 *h = arg;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS: {
        struct h2_stream *st = stream_of(session, frame->hd.stream_id);
        if (st)
            headers_complete(h, st, frame);
        break;
    }
    case NGHTTP2_DATA: {
        struct h2_stream *st = stream_of(session, frame->hd.stream_id);
        if (st && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
            st->remote_end = true;
            st->ops->end(st->arg);
        }
        break;
    }
    case NGHTTP2_WINDOW_UPDATE: {
        struct h2_stream *st = frame->hd.stream_id != 0 ? stream_of(session, frame->hd.stream_id) : NULL;
        if (st && st->ops->room)
            st->ops->room(st->arg);
        break;
    }
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && !h->ready) {
            h->ready = true;
            if (h->ops->ready)
                h->ops->ready(h->arg);
        }
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) &&
            memcmp(frame->ping.opaque_data, goaway_ping, sizeof goaway_ping) == 0)
            h2_goaway_last(h);
        else if ((frame->hd.flags & NGHTTP2_FLAG_ACK) && h->ping_sent_ns != 0) {
            int64_t rtt = h->now_ns - h->ping_sent_ns;
            h->ping_asked_ns = h->ping_sent_ns;
            h->ping_sent_ns = 0;
            h->ping_done_ns = h->now_ns;
            h->looks += h->looks < FIRST_LOOKS;
            h->rtt_ns = h->rtt_ns == 0 ? rtt : (7 * h->rtt_ns + rtt) / 8;
            note_rtt_min(h, rtt);
            if (h->ops->ping_ack)
                h->ops->ping_ack(h->arg, rtt);
        }
        break;
    case NGHTTP2_GOAWAY:
        h->ending = true;
        if (h->ops->goaway) {
            char debug[128];
            snprintf(debug, sizeof debug, "%.*s", (int)frame->goaway.opaque_data_len,
                     frame->goaway.opaque_data ? (const char *)frame->goaway.opaque_data : "");
            h->ops->goaway(h->arg, frame->goaway.last_stream_id, frame->goaway.error_code, debug);
        }
        break;
    case NGHTTP2_RST_STREAM:
        if (h->server) {
            int64_t passed_ms = (h->now_ns - h->reset_refill_ns) / 1000000;
            if (passed_ms >= 100) {
                uint64_t tokens = h->reset_tokens + (uint64_t)passed_ms * RESET_PER_S / 1000;
                h->reset_tokens = tokens > RESET_BURST ? RESET_BURST : (uint32_t)tokens;
                h->reset_refill_ns = h->now_ns;
            }
            if (h->reset_tokens == 0) {
                struct err e;
                err_set(&e, "the peer resets streams faster than %u a second", RESET_PER_S);
                set_why(h, e.text);
                return NGHTTP2_ERR_CALLBACK_FAILURE;
            }
            h->reset_tokens--;
        }
        break;
    default:
        break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                         void *arg)
{
    (void)flags;
    (void)arg;
    nghttp2_session_consume_connection(session, n);
    struct h2_stream *st = stream_of(session, id);
    if (st)
        st->ops->data(st->arg, p, n);
    else
        nghttp2_session_consume_stream(session, id, n);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
    (void)arg;
    struct h2_stream *st = stream_of(session, id);
    if (!st)
        return 0;
    h2_stream_forget(st);
    st->ops->closed(st->arg, error);
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    const struct h2 *h = arg;
    if (!h->server || frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    /* The answer is complete. A client that still sends is told to stop (RFC 9113 section 8.1). */
    const struct h2_stream *st = stream_of(session, frame->hd.stream_id);
    if (st && !st->remote_end)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_error(nghttp2_session *session, int code, const char *msg, size_t len, void *arg)
{
    (void)session;
    (void)code;
    struct h2 *h = arg;
    struct err e;
    err_set(&e, "%.*s", (int)len, msg);
    set_why(h, e.text);
    return 0;
}

/* --- sending --- */

static ssize_t read_data(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
                         nghttp2_data_source *source, void *arg)
{
    (void)buf;
    (void)source;
    (void)arg;
    struct h2_stream *st = stream_of(session, id);
    if (!st) /* forgotten: what it still had to say is cut off by RST_STREAM */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t n = st->ops->ready(st->arg, length < H2_FRAME_PAYLOAD ? length : H2_FRAME_PAYLOAD);
    if (n > 0) {
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
        return (ssize_t)n;
    }
    const struct kv *trailers = NULL;
    if (!st->ops->finished(st->arg, &trailers))
        return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    st->local_end = true;
    if (trailers) {
        nghttp2_nv nva[HEADERS_COUNT_MAX];
        size_t count = 0;
        struct kv_pair pair;
        for (uint32_t pos = 0; count < HEADERS_COUNT_MAX && kv_next(trailers, &pos, &pair); count++)
            nva[count] = (nghttp2_nv){(uint8_t *)(uintptr_t)pair.key, (uint8_t *)(uintptr_t)pair.val,
                                      pair.key_len, pair.val_len, NGHTTP2_NV_FLAG_NONE};
        if (nghttp2_submit_trailer(session, id, nva, count) == 0)
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    }
    return 0;
}

static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd, size_t length,
                     nghttp2_data_source *source, void *arg)
{
    (void)source;
    struct h2 *h = arg;
    struct h2_stream *st = stream_of(session, frame->hd.stream_id);
    if (!st)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (h->out_cap - h->out_len < 9 + length || frame->data.padlen > 0)
        return NGHTTP2_ERR_WOULDBLOCK;
    memcpy(h->out + h->out_len, framehd, 9);
    h->out_len += 9;
    st->ops->write(st->arg, h->out + h->out_len, length);
    h->out_len += length;
    return 0;
}

/* --- nghttp2's memory --- */

static bool in_start(const struct h2 *h, const void *p)
{
    return (const uint8_t *)p >= h->start && (const uint8_t *)p < h->start + START_BYTES;
}

/* Zeroed, because nothing there is used twice. NULL: it belongs to malloc(). */
static void *start_get(struct h2 *h, size_t n)
{
    if (n > START_BYTES || (!h->starting && (h->frame_at == 0 || n >= FRAME_MIN)))
        return NULL;
    size_t size = (n + START_HEADER - 1) / START_HEADER * START_HEADER;
    size_t at = h->start_used, end = h->frame_at != 0 ? h->frame_at : START_BYTES;
    bool frame = n >= FRAME_MIN && h->frame_at == 0;
    if (frame) /* so that it begins FRAME_HEAD before a page does */
        at = (at + START_HEADER + FRAME_HEAD + START_PAGE - 1) / START_PAGE * START_PAGE - FRAME_HEAD -
             START_HEADER;
    if (at > end || end - at < START_HEADER + size)
        return NULL;
    if (frame)
        h->frame_at = at;
    else
        h->start_used = at + START_HEADER + size;
    memcpy(h->start + at, &size, sizeof size);
    return h->start + at + START_HEADER;
}

static void *mem_malloc(size_t n, void *arg)
{
    void *p = start_get(arg, n);
    return p ? p : malloc(n);
}

static void *mem_calloc(size_t count, size_t n, void *arg)
{
    void *p = n > 0 && count > START_BYTES / n ? NULL : start_get(arg, count * n);
    return p ? p : calloc(count, n);
}

static void mem_free(void *p, void *arg)
{
    if (!in_start(arg, p))
        free(p);
}

static void *mem_realloc(void *p, size_t n, void *arg)
{
    if (!p)
        return mem_malloc(n, arg);
    if (!in_start(arg, p))
        return realloc(p, n);
    size_t had;
    memcpy(&had, (uint8_t *)p - START_HEADER, sizeof had);
    void *to = malloc(n);
    if (to)
        memcpy(to, p, had < n ? had : n);
    return to;
}

static bool start_map(struct h2 *h)
{
    void *at =
        mmap(NULL, START_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return false;
    madvise(at, START_BYTES,
            MADV_NOHUGEPAGE); /* neighbours are one mapping to the kernel: it must not fill the gaps */
    h->start = at;
    return true;
}

/* --- life --- */

struct h2 *h2_new(bool server, uint32_t max_streams, const struct h2_ops *ops, void *arg)
{
    struct h2 *h = calloc(1, sizeof *h);
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    if (!h || !start_map(h) || nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&opt) != 0)
        goto fail;
    h->ops = ops;
    h->arg = arg;
    h->server = server;
    h->reset_tokens = RESET_BURST;

    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
    nghttp2_session_callbacks_set_error_callback2(cb, on_error);
    nghttp2_option_set_no_auto_window_update(opt, 1);
#ifdef KBGP_HAVE_NGHTTP2_RESET_LIMIT
    /* nghttp2 has such a limit, too, and ends the connection without a word: ours, which tells why, comes first. */
    nghttp2_option_set_stream_reset_rate_limit(opt, 2 * RESET_BURST, 2 * RESET_PER_S);
#endif
    /* A closed stream is forgotten at once: no memory for priority trees of the past. */
    nghttp2_option_set_no_closed_streams(opt, 1);

    nghttp2_mem mem = {.mem_user_data = h,
                       .malloc = mem_malloc,
                       .free = mem_free,
                       .calloc = mem_calloc,
                       .realloc = mem_realloc};
    h->starting = true;
    int rc = server ? nghttp2_session_server_new3(&h->session, cb, h, opt, &mem)
                    : nghttp2_session_client_new3(&h->session, cb, h, opt, &mem);
    h->starting = false;
    if (rc != 0)
        goto fail;
    nghttp2_settings_entry iv[4] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_WINDOW_FIRST},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_HEADERS_MAX},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_streams},
    };
    if (server)
        iv[2] = iv[3];
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, iv, 3) != 0 ||
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0)
        goto fail;
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(opt);
    return h;
fail:
    if (cb)
        nghttp2_session_callbacks_del(cb);
    if (opt)
        nghttp2_option_del(opt);
    h2_free(h);
    return NULL;
}

void h2_free(struct h2 *h)
{
    if (!h)
        return;
    if (h->session)
        nghttp2_session_del(h->session);
    if (h->start)
        munmap(h->start, START_BYTES);
    kv_free(&h->headers);
    free(h->why);
    free(h);
}

bool h2_feed(struct h2 *h, const uint8_t *p, size_t n, int64_t now_ns, struct err *e)
{
    h->now_ns = now_ns;
    free(h->why);
    h->why = NULL;
    ssize_t rc = nghttp2_session_mem_recv(h->session, p, n);
    if (rc < 0) {
        const char *what =
            rc == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? "no HTTP/2 preface" : nghttp2_strerror((int)rc);
        return err_set(e, "HTTP/2: %s%s%s", what, h->why ? ": " : "", h->why ? h->why : "");
    }
    /* A protocol error of the peer is answered with GOAWAY by nghttp2 itself and shows as "wants nothing any more". */
    if (!nghttp2_session_want_read(h->session) && (h->why || !h->ending))
        return err_set(e, "HTTP/2: %s", h->why ? h->why : "the other side does not keep to the protocol");
    return true;
}

int64_t h2_drain(struct h2 *h, uint8_t *dst, size_t cap, int64_t now_ns)
{
    h->now_ns = now_ns;
    h->out = dst;
    h->out_len = 0;
    h->out_cap = cap;
    while (h->out_cap - h->out_len >= H2_DRAIN_MIN) {
        const uint8_t *frame;
        size_t before = h->out_len;
        ssize_t n = nghttp2_session_mem_send(h->session, &frame);
        if (n < 0)
            return -1;
        if (n == 0 && h->out_len == before)
            break;
        /* DATA went straight to its place through send_data(); other frames lie in nghttp2's own buffer. They are at
         * most one frame long, and one frame is the room that is left at the least. */
        if (n > 0 && (size_t)n > h->out_cap - h->out_len)
            return -1;
        if (n > 0)
            memcpy(h->out + h->out_len, frame, (size_t)n);
        h->out_len += (size_t)n;
    }
    h->out = NULL;
    return (int64_t)h->out_len;
}

bool h2_wants_write(struct h2 *h)
{
    return nghttp2_session_want_write(h->session);
}

bool h2_done(struct h2 *h)
{
    return !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session);
}

/* --- streams --- */

/*
 * Header fields that go into no table of HPACK. The token, so that it is kept nowhere; and what differs with each call:
 * it would push out what is the same for all of them, and cost memory and time at both ends for nothing.
 */
static bool not_indexed(const char *key)
{
    static const char *const keys[] = {"x-ch-auth-api-token", "session-id", "device-ip", "device-port"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

/* Returns how many there are, or SIZE_MAX for too many: none is left out without a word. */
static size_t to_nva(const struct kv *headers, nghttp2_nv nva[static HEADERS_COUNT_MAX])
{
    size_t count = 0;
    if (headers->count > HEADERS_COUNT_MAX)
        return SIZE_MAX;
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(headers, &pos, &pair); count++)
        nva[count] = (nghttp2_nv){(uint8_t *)(uintptr_t)pair.key, (uint8_t *)(uintptr_t)pair.val,
                                  pair.key_len, pair.val_len,
                                  not_indexed(pair.key) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
    return count;
}

bool h2_open(struct h2 *h, struct h2_stream *st, const struct kv *headers)
{
    nghttp2_nv nva[HEADERS_COUNT_MAX];
    size_t count = to_nva(headers, nva);
    if (count == SIZE_MAX)
        return false;
    nghttp2_data_provider source = {.read_callback = read_data};
    int32_t id = nghttp2_submit_request(h->session, NULL, nva, count, &source, st);
    if (id < 0)
        return false;
    st->h2 = h;
    st->id = id;
    st->window = H2_WINDOW_FIRST;
    h->streams++;
    return true;
}

uint32_t h2_peer_max_streams(struct h2 *h)
{
    return nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

bool h2_respond(struct h2_stream *st, const struct kv *headers, bool end)
{
    nghttp2_nv nva[HEADERS_COUNT_MAX];
    size_t count = to_nva(headers, nva);
    if (count == SIZE_MAX)
        return false;
    nghttp2_data_provider source = {.read_callback = read_data};
    if (end)
        st->local_end = true;
    return nghttp2_submit_response(st->h2->session, st->id, nva, count, end ? NULL : &source) == 0;
}

void h2_stream_wake(struct h2_stream *st)
{
    if (st->id != 0 && !st->local_end)
        nghttp2_session_resume_data(st->h2->session, st->id);
}

size_t h2_stream_room(struct h2_stream *st, size_t *most)
{
    nghttp2_session *session = st->h2->session;
    int64_t room = nghttp2_session_get_stream_remote_window_size(session, st->id);
    if (room < 0) /* nghttp2 does not know the stream before its HEADERS leave */
        room = nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE);
    if (room > st->most_room)
        st->most_room = (uint32_t)room;
    *most = st->most_room;
    return (size_t)room;
}

void h2_stream_reset(struct h2_stream *st, uint32_t error)
{
    if (st->id != 0)
        nghttp2_submit_rst_stream(st->h2->session, NGHTTP2_FLAG_NONE, st->id, error);
}

void h2_stream_forget(struct h2_stream *st)
{
    if (st->id == 0)
        return;
    nghttp2_session_set_stream_user_data(st->h2->session, st->id, NULL);
    if (st->window > H2_WINDOW_FIRST)
        window_growth -= st->window - H2_WINDOW_FIRST;
    st->h2->streams--;
    st->id = 0;
}

/* The path as it is when nothing waits on it. */
static int64_t rtt_min(const struct h2 *h)
{
    int64_t rtt = h->rtt_min_ns;
    if (h->rtt_min_before_ns != 0 && (rtt == 0 || h->rtt_min_before_ns < rtt))
        rtt = h->rtt_min_before_ns;
    /* Without a measured round trip take a millisecond: too short only means that the window grows later. */
    return rtt > 0 ? rtt : 1000000;
}

/* The window for a reader that reads at this rate, in bytes a nanosecond. */
static uint64_t wanted_window(double rate, int64_t rtt, bool alone)
{
    /*
     * The sender has three quarters of the window to work with (CREDIT_PART), and these must be more than the path holds, or
     * nobody would find out that the path can do more.
     */
    double path = 3 * rate * (double)rtt;
    double programs = rate * TURNS_NS, bulk = alone ? H2_WINDOW_BULK_ALONE : H2_WINDOW_BULK;
    double most = path > bulk ? path : bulk;
    double wanted = path + (programs < most ? programs : most);
    return wanted < H2_WINDOW_MAX ? (uint64_t)wanted : H2_WINDOW_MAX;
}

/* Measures the round trip, unless that is under way. */
static void look_at_path(struct h2 *h, int64_t now_ns)
{
    if (h->ping_sent_ns == 0 && nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL) == 0)
        h->ping_sent_ns = now_ns;
}

static void grow_window(struct h2_stream *st, int64_t now_ns)
{
    struct h2 *h = st->h2;
    int64_t rtt = rtt_min(h), passed = now_ns - st->round_start_ns;
    if (passed < rtt || passed < ROUND_MIN_NS)
        return;
    /* Of two rounds: what has gathered while a program did not get to run comes in a burst, which alone would look like a
     * faster path. */
    double rate = ((double)st->last_bytes + st->round_bytes) / (double)(now_ns - st->last_start_ns);
    uint64_t wanted = wanted_window(rate, rtt, h->streams == 1);
    bool measured = h->ping_asked_ns >= st->last_start_ns;
    st->last_bytes = st->round_bytes;
    st->last_start_ns = st->round_start_ns;
    st->round_bytes = 0;
    st->round_start_ns = now_ns;
    if (wanted <= st->window)
        return;
    /*
     * Not by round trips of a bad beginning alone (see FIRST_LOOKS): one has to be measured while these bytes come. It waits
     * behind them, but not for long, because the window is still small.
     */
    if (!measured) {
        look_at_path(h, now_ns);
        return;
    }
    uint64_t more = wanted - st->window;
    if (window_growth + more > H2_WINDOW_BUDGET)
        return;
    if (nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, st->id, (int32_t)wanted) != 0)
        return;
    window_growth += more;
    st->window = (uint32_t)wanted;
}

void h2_stream_consume(struct h2_stream *st, size_t n, int64_t now_ns)
{
    if (st->id == 0 || n == 0)
        return;
    st->credit += (uint32_t)n;
    if (st->credit >= st->window / CREDIT_PART && !st->remote_end) {
        nghttp2_submit_window_update(st->h2->session, NGHTTP2_FLAG_NONE, st->id, (int32_t)st->credit);
        st->credit = 0;
    }
    st->round_bytes += (uint32_t)n;
    if (st->h2->looks < FIRST_LOOKS)
        look_at_path(st->h2, now_ns);
    /* Below a quarter of the window a round there is nothing to grow for: spare the arithmetic. */
    if (st->round_bytes > st->window / 4) {
        grow_window(st, now_ns);
        h2_ping(st->h2, now_ns);
    }
}

void h2_ping(struct h2 *h, int64_t now_ns)
{
    if (h->ping_done_ns == 0 || now_ns - h->ping_done_ns >= PING_GAP_NS)
        look_at_path(h, now_ns);
}

int64_t h2_rtt_ns(const struct h2 *h)
{
    return h->rtt_ns;
}

void h2_goaway(struct h2 *h)
{
    h->ending = true;
    if (!h->server) {
        nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
        return;
    }
    h->goaway_due = true;
    if (nghttp2_submit_shutdown_notice(h->session) != 0 ||
        nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, goaway_ping) != 0)
        h2_goaway_last(h);
}

bool h2_goaway_due(const struct h2 *h)
{
    return h->goaway_due;
}

void h2_goaway_last(struct h2 *h)
{
    if (!h->goaway_due)
        return;
    h->goaway_due = false;
    nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
}

const char *h2_error_name(uint32_t error)
{
    return nghttp2_http2_strerror(error);
}
