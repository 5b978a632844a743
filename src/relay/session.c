#include "relay/session.h"

#include <string.h>

_Static_assert(sizeof(struct session) <= 640, "what an idle session weighs; slots come in steps of 64 bytes");
_Static_assert(SESSION_OUT_MAX <= (RING_IOV - 1) * ARENA_BLOCK, "one read can fill the out ring");

void session_init(struct session *s, enum session_role role, const struct uuid *id, const struct addr *device,
                  const struct addr *proxy)
{
    *s = (struct session){.id = *id, .device = *device, .proxy = *proxy, .role = (uint8_t)role};
}

void session_release(struct session *s, struct arena *a)
{
    ring_clear(&s->out, a);
    ring_clear(&s->in, a);
}

/* --- TCP side --- */

size_t session_tcp_wants(const struct session *s)
{
    if (s->tcp_eof || s->over || s->kill_due || s->out.len >= SESSION_OUT_MAX)
        return 0;
    return SESSION_OUT_MAX - s->out.len;
}

void session_tcp_read(struct session *s, struct arena *a, const struct iovec *iov, size_t n,
                      const struct bgp_watch_time *now)
{
    size_t left = n;
    for (int i = 0; left > 0; i++) {
        size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;
        bgp_watch_feed(&s->seen, &s->seen.out, iov[i].iov_base, part, now);
        left -= part;
    }
    ring_filled(&s->out, a, n);
}

bool session_tcp_put(struct session *s, struct arena *a, const void *p, size_t n,
                     const struct bgp_watch_time *now)
{
    if (!ring_append(&s->out, a, p, n))
        return false;
    bgp_watch_feed(&s->seen, &s->seen.out, p, n, now);
    return true;
}

void session_tcp_eof(struct session *s)
{
    s->tcp_eof = true;
}

size_t session_tcp_broken(struct session *s, struct arena *a)
{
    size_t dropped = s->in.len;
    ring_clear(&s->in, a);
    s->tcp_eof = s->tcp_broken = true;
    return dropped;
}

void session_tcp_wrote(struct session *s, struct arena *a, size_t n)
{
    ring_take(&s->in, a, n);
}

/* --- stream side --- */

void session_stream_open(struct session *s)
{
    s->stream = SESSION_STREAM_OPEN;
    s->sent_before = (struct session_counts){s->sent.messages, s->sent.actions};
    s->received_before = (struct session_counts){s->received.messages, s->received.actions};
    s->end_sent = s->peer_ended = false;
    s->restart_due = s->restart_sent = s->restart_received = false;
    s->decoder = (struct data_decoder){0};
    s->tx_payload = 0;
    s->tx_header_len = s->tx_header_at = 0;
}

struct session_counters session_counters(const struct session *s)
{
    bool agent = s->role == SESSION_AGENT;
    return (struct session_counters){.up = agent ? s->sent.messages : s->received.messages,
                                     .down = agent ? s->received.messages : s->sent.messages,
                                     .has_up = true,
                                     .has_down = true};
}

bool session_peer_counters(struct session *s, const struct session_counters *peer)
{
    const struct session_counts *up = s->role == SESSION_AGENT ? &s->sent_before : &s->received_before;
    const struct session_counts *down = s->role == SESSION_AGENT ? &s->received_before : &s->sent_before;
    bool as_written =
        (!peer->has_up || peer->up == up->messages) && (!peer->has_down || peer->down == down->messages);
    bool without_actions = (!peer->has_up || peer->up == up->messages - up->actions) &&
                           (!peer->has_down || peer->down == down->messages - down->actions);
    if (as_written || without_actions)
        return true;
    session_kill(s);
    return false;
}

void session_message_begin(struct session *s, uint32_t len)
{
    s->decoder = (struct data_decoder){.length = len};
}

/* Behind everything that came before: noted where it lies, or copied. */
static bool take_in(struct session *s, struct arena *a, struct lent *lent, const uint8_t *p, size_t n)
{
    if (!lent)
        return ring_append(&s->in, a, p, n);
    if (s->in.len == 0 && lent_add(lent, p, n))
        return true;
    return lent_keep(lent, 0, &s->in, a) && ring_append(&s->in, a, p, n);
}

size_t session_message_bytes(struct session *s, struct arena *a, struct lent *lent, const uint8_t *p,
                             size_t n, const struct bgp_watch_time *now)
{
    const uint8_t *end = p + n, *payload;
    size_t len, done = n;
    for (;;) {
        switch (data_decode(&s->decoder, &p, end, &payload, &len)) {
        case DATA_MORE:
            return done;
        case DATA_BAD:
            s->malformed = true;
            session_kill(s);
            return SIZE_MAX;
        case DATA_PAYLOAD:
            s->received.bytes += len;
            /* Being killed: these may be bytes behind a gap, which nobody must get. */
            if (s->tcp_broken || s->over || s->kill_due)
                break;
            bgp_watch_feed(&s->seen, &s->seen.in, payload, len, now);
            if (!take_in(s, a, lent, payload, len)) {
                session_kill(s);
                return SIZE_MAX;
            }
            done -= len;
            break;
        }
    }
}

void session_lent_back(struct session *s, struct arena *a, struct lent *lent, size_t n)
{
    if (!lent_keep(lent, n, &s->in, a))
        session_kill(s);
}

bool session_message_end(struct session *s)
{
    if (!data_decode_end(&s->decoder)) {
        s->malformed = true;
        session_kill(s);
        return false;
    }
    s->received.messages++;
    if (s->decoder.action != DATA_CARRY_ON)
        s->received.actions++;
    if (s->decoder.action == DATA_KILL) {
        s->kill_received = true;
    } else if (s->decoder.action == DATA_RESTART) {
        s->restart_received = true;
        if (!s->restart_sent)
            s->restart_due = true;
    }
    return true;
}

void session_stream_half_closed(struct session *s)
{
    s->peer_ended = true;
    if (!s->restart_received)
        s->peer_done = true;
}

void session_stream_closed(struct session *s, bool ok)
{
    if (s->stream != SESSION_STREAM_OPEN)
        return;
    s->peer_ended = true;
    bool restarted = s->restart_received && ok;
    s->restart_received = restarted; /* one that came on a stream that broke was not completed */
    bool over;
    if (s->role == SESSION_AGENT)
        over = ok && !restarted; /* the target has no more for us */
    else
        over = s->end_sent && !s->restart_sent; /* we ended it, because the backend had no more */
    if (over) {
        s->stream = SESSION_STREAM_OVER;
        s->peer_done = true;
    } else {
        s->stream = SESSION_STREAM_NONE;
    }
}

/* Whether a message is begun and not wholly written. */
static bool writing(const struct session *s)
{
    return s->tx_payload > 0 || s->tx_header_at < s->tx_header_len;
}

static void begin_action(struct session *s, enum data_action action)
{
    s->tx_header_len = (uint8_t)data_msg_action(s->tx_header, action);
    s->sent.actions++;
}

int64_t session_message_next(struct session *s)
{
    if (s->stream != SESSION_STREAM_OPEN || s->end_sent || s->kill_sent)
        return -1;
    if (s->restart_sent && !s->kill_due)
        return -1;
    if (s->kill_due) {
        begin_action(s, DATA_KILL);
        s->kill_sent = true;
    } else if (s->restart_due) {
        begin_action(s, DATA_RESTART);
        s->restart_due = false;
        s->restart_sent = true;
    } else if (s->out.len > 0) {
        s->tx_payload = s->out.len < DATA_PAYLOAD_MAX ? s->out.len : DATA_PAYLOAD_MAX;
        s->tx_header_len = (uint8_t)data_msg_header(s->tx_header, s->tx_payload);
        s->sent.bytes += s->tx_payload;
    } else {
        return -1;
    }
    s->tx_header_at = 0;
    s->sent.messages++;
    return (int64_t)s->tx_header_len + s->tx_payload;
}

void session_message_write(struct session *s, struct arena *a, uint8_t *dst, size_t n)
{
    while (n > 0 && s->tx_header_at < s->tx_header_len) {
        *dst++ = s->tx_header[s->tx_header_at++];
        n--;
    }
    if (n > s->tx_payload)
        n = s->tx_payload;
    ring_move_out(&s->out, a, dst, n);
    s->tx_payload -= (uint32_t)n;
}

/* --- the owner's wishes --- */

void session_restart(struct session *s)
{
    if (s->stream == SESSION_STREAM_OPEN && !s->restart_sent && !s->end_sent)
        s->restart_due = true;
}

void session_kill(struct session *s)
{
    s->kill_due = true;
}

/* --- what follows --- */

static enum session_todo over(struct session *s, enum session_todo how)
{
    s->over = true;
    return how;
}

/* An abort waits for nothing but its own KILL message, and not for that where our half is closed already. */
static bool abort_now(const struct session *s)
{
    if (s->kill_received)
        return true;
    bool can_say = s->stream == SESSION_STREAM_OPEN && !s->end_sent;
    return s->kill_due && (!can_say || (s->kill_sent && !writing(s)));
}

/* Whether we have nothing more to say on this call. */
static bool nothing_to_say(const struct session *s)
{
    if (writing(s) || s->kill_due || s->restart_due)
        return false;
    /* A client that had half-closed when our RESTART came cannot answer it: its END_STREAM is all we wait for. */
    if (s->restart_sent)
        return s->role == SESSION_AGENT || s->peer_ended;
    return s->tcp_eof && s->out.len == 0;
}

enum session_todo session_todo(struct session *s)
{
    if (s->over)
        return SESSION_NOTHING;
    if (abort_now(s))
        return over(s, SESSION_ABORT);

    if (s->stream == SESSION_STREAM_OPEN && !s->end_sent && nothing_to_say(s)) {
        s->end_sent = true;
        return s->role == SESSION_AGENT ? SESSION_END_STREAM : SESSION_FINISH_CALL;
    }
    bool drained = s->in.len == 0 || s->tcp_broken;
    if (s->stream == SESSION_STREAM_OVER && drained)
        return over(s, SESSION_CLOSE);
    if (s->peer_done && drained && !s->tcp_shut && !s->tcp_broken) {
        s->tcp_shut = true;
        return SESSION_SHUT_TCP;
    }
    if (s->stream == SESSION_STREAM_NONE && s->role == SESSION_AGENT && s->restart_received &&
        s->in.len <= SESSION_REOPEN_MAX) {
        s->restart_received = false;
        return SESSION_REOPEN;
    }
    return SESSION_NOTHING;
}
