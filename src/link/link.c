/* Streams of a link: opening, sending, credit, ending. Frames that come are input.c's, the order in
 * which queued frames go out is output.c's. A stream of the opener lives until its CLOSE has come;
 * one of the acceptor until its own CLOSE went to the output. */
#include "link/link.h"

#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"
#include "link/inner.h"

enum {
    MAX_QUEUE = 2 * (CG_LINK_WINDOW + CG_LINK_MAX_PAYLOAD), /* a window of DATA, and messages */
    MAX_FIRST = 64 * 1024,
    MAX_OUT = CG_LINK_MAX_PAYLOAD + 128 * 1024,
    GRANT_STEP = CG_LINK_WINDOW / 4, /* credit is given back in steps, not for every frame */
};

struct cg_link *cg_link_create(bool opener, const char *hello_json,
                               const struct cg_link_handlers *handlers, void *ctx)
{
    struct cg_link *l = cg_alloc(sizeof *l);
    l->opener = opener;
    l->on = *handlers;
    l->ctx = ctx;
    cg_buf_init(&l->in, CG_LINK_HEADER + CG_LINK_MAX_PAYLOAD);
    cg_buf_init(&l->first, MAX_FIRST);
    cg_buf_init(&l->out, MAX_OUT);
    if (!hello_json)
        hello_json = "{\"v\":1}";
    cg_link_queue_first(l, CG_FRAME_HELLO, hello_json, strlen(hello_json));
    return l;
}

void cg_link_destroy(struct cg_link *l)
{
    if (!l)
        return;
    for (unsigned i = 0; i < CG_LINK_BUCKETS; i++) {
        while (l->buckets[i])
            cg_link_remove(l->buckets[i]);
    }
    cg_buf_finish(&l->in);
    cg_buf_finish(&l->first);
    cg_buf_finish(&l->out);
    free(l);
}

struct cg_link_stream *cg_link_find(struct cg_link *l, unsigned id)
{
    struct cg_link_stream *s = l->buckets[id % CG_LINK_BUCKETS];
    while (s && s->id != id)
        s = s->bucket_next;
    return s;
}

struct cg_link_stream *cg_link_add(struct cg_link *l, unsigned id)
{
    struct cg_link_stream *s = cg_alloc(sizeof *s);
    s->link = l;
    s->id = (uint16_t)id;
    s->send_credit = CG_LINK_WINDOW;
    s->recv_window = CG_LINK_WINDOW;
    s->last_data = SIZE_MAX;
    cg_buf_init(&s->queue, MAX_QUEUE);
    struct cg_link_stream **bucket = &l->buckets[id % CG_LINK_BUCKETS];
    s->bucket_next = *bucket;
    *bucket = s;
    l->streams++;
    return s;
}

static void leave_turns(struct cg_link_stream *s)
{
    struct cg_link *l = s->link;
    struct cg_link_stream *before = NULL;
    for (struct cg_link_stream *at = l->turn_first; at; before = at, at = at->turn_next) {
        if (at != s)
            continue;
        if (before)
            before->turn_next = s->turn_next;
        else
            l->turn_first = s->turn_next;
        if (l->turn_last == s)
            l->turn_last = before;
        break;
    }
    s->queued = false;
}

void cg_link_remove(struct cg_link_stream *s)
{
    struct cg_link *l = s->link;
    if (s->queued)
        leave_turns(s);
    struct cg_link_stream **at = &l->buckets[s->id % CG_LINK_BUCKETS];
    while (*at != s)
        at = &(*at)->bucket_next;
    *at = s->bucket_next;
    l->streams--;
    cg_buf_finish(&s->queue);
    free(s);
}

static unsigned free_id(struct cg_link *l)
{
    do {
        l->next_id = (uint16_t)(l->next_id == UINT16_MAX ? 1 : l->next_id + 1);
    } while (cg_link_find(l, l->next_id));
    return l->next_id;
}

struct cg_link_stream *cg_link_open(struct cg_link *l, struct cg_slice request, void *user,
                                    struct cg_err *e)
{
    CG_ASSERT(l->opener);
    if (l->dead) {
        cg_fail(e, CG_CLOSED, "the link is down");
        return NULL;
    }
    if (l->streams >= CG_LINK_MAX_STREAMS) {
        cg_fail(e, CG_LIMIT, "%d streams are open already", (int)CG_LINK_MAX_STREAMS);
        return NULL;
    }
    if (request.n > CG_LINK_MAX_PAYLOAD) {
        cg_fail(e, CG_TOO_LARGE, "the request has %zu bytes, at most %d fit", request.n,
                (int)CG_LINK_MAX_PAYLOAD);
        return NULL;
    }
    struct cg_link_stream *s = cg_link_add(l, free_id(l));
    s->user = user;
    cg_link_queue(s, CG_FRAME_OPEN, 0, request.p, request.n);
    return s;
}

void cg_link_accept(struct cg_link_stream *s, struct cg_slice info)
{
    CG_ASSERT(!s->link->opener && !s->accepted);
    s->accepted = true;
    cg_link_queue(s, CG_FRAME_ACCEPT, 0, info.p, info.n);
}

/* Adds to the last queued frame when that is DATA of the same channel with room; the rest is what
 * did not fit. */
static size_t extend_last(struct cg_link_stream *s, unsigned channel, const char *p, size_t n)
{
    if (s->last_data == SIZE_MAX || s->last_data < s->queue_at)
        return 0;
    unsigned char *header = (unsigned char *)s->queue.p + s->last_data;
    struct cg_frame f = cg_frame_get(header);
    size_t take = CG_MIN(n, (size_t)CG_LINK_MAX_DATA - f.length);
    if (f.flags != channel || take == 0 || !cg_buf_add(&s->queue, p, take))
        return 0;
    f.length += (uint32_t)take;
    cg_frame_put((unsigned char *)s->queue.p + s->last_data, f);
    return take;
}

size_t cg_link_send(struct cg_link_stream *s, unsigned channel, const char *p, size_t n)
{
    CG_ASSERT(!s->closing && channel <= CG_LINK_STDERR && !(s->eof_sent & 1U << channel));
    size_t take = CG_MIN(n, (size_t)s->send_credit);
    if (take < n)
        s->starved = true;
    if (s->link->dead)
        return 0;
    s->send_credit -= (uint32_t)take;
    size_t done = take ? extend_last(s, channel, p, take) : 0;
    while (done < take) {
        size_t part = CG_MIN(take - done, (size_t)CG_LINK_MAX_DATA);
        cg_link_queue(s, CG_FRAME_DATA, channel, p + done, part);
        done += part;
    }
    return take;
}

size_t cg_link_room(const struct cg_link_stream *s)
{
    return s->link->dead || s->closing ? 0 : s->send_credit;
}

void cg_link_want_room(struct cg_link_stream *s)
{
    s->starved = true;
}

size_t cg_link_pending(const struct cg_link_stream *s)
{
    return s->queue.n - s->queue_at;
}

void cg_link_eof(struct cg_link_stream *s, unsigned channel)
{
    CG_ASSERT(channel <= CG_LINK_STDERR);
    if (s->closing || (s->eof_sent & 1U << channel))
        return;
    s->eof_sent = (uint8_t)(s->eof_sent | 1U << channel);
    cg_link_queue(s, CG_FRAME_EOF, channel, NULL, 0);
}

void cg_link_control(struct cg_link_stream *s, struct cg_slice message)
{
    CG_ASSERT(!s->closing);
    cg_link_queue(s, CG_FRAME_CONTROL, 0, message.p, message.n);
}

void cg_link_grant(struct cg_link_stream *s, size_t n)
{
    CG_ASSERT(n + s->grant_due + s->recv_window <= CG_LINK_WINDOW);
    s->grant_due += (uint32_t)n;
    if (s->grant_due < GRANT_STEP || s->closing || s->cancelled)
        return;
    unsigned char amount[4];
    cg_put_u32(amount, s->grant_due);
    s->recv_window += s->grant_due;
    s->grant_due = 0;
    cg_link_queue(s, CG_FRAME_CREDIT, 0, amount, sizeof amount);
}

void cg_link_close(struct cg_link_stream *s, struct cg_slice result)
{
    CG_ASSERT(!s->link->opener && !s->closing);
    if (s->link->dead) {
        cg_link_remove(s);
        return;
    }
    s->closing = true;
    cg_link_queue(s, CG_FRAME_CLOSE, 0, result.p, result.n);
}

void cg_link_cancel(struct cg_link_stream *s, bool forget)
{
    CG_ASSERT(s->link->opener);
    if (forget)
        s->forgotten = true;
    if (s->cancelled || s->link->dead)
        return;
    s->cancelled = true;
    cg_link_queue(s, CG_FRAME_CANCEL, 0, NULL, 0);
}

void cg_link_ping(struct cg_link *l, uint64_t token)
{
    unsigned char bytes[8];
    cg_put_u64(bytes, token);
    if (!l->dead)
        cg_link_queue_first(l, CG_FRAME_PING, bytes, sizeof bytes);
}

void cg_link_hold(struct cg_link *l, bool held)
{
    l->held = held;
}

void cg_link_reset_frame(const unsigned char nonce[CG_LINK_NONCE], unsigned char out[CG_LINK_RESET])
{
    cg_frame_put(out, (struct cg_frame){CG_LINK_NONCE, 0, CG_FRAME_RESET, 0});
    memcpy(out + CG_LINK_HEADER, nonce, CG_LINK_NONCE);
}

/* The next stream that has not been told yet that the link is dead. */
static struct cg_link_stream *untold(struct cg_link *l)
{
    for (unsigned i = 0; i < CG_LINK_BUCKETS; i++) {
        for (struct cg_link_stream *s = l->buckets[i]; s; s = s->bucket_next) {
            /* removed streams are out of their bucket: the analyzer loses track of that
             * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
            if (l->opener || s->closing || !s->cancelled)
                return s;
        }
    }
    return NULL;
}

void cg_link_fail(struct cg_link *l, const struct cg_err *why)
{
    if (l->dead)
        return;
    l->dead = true;
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, 4096);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &text);
    cg_jsonw_obj(&w);
    cg_jsonw_key(&w, "error");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "code", cg_code_name(why->code));
    cg_jsonw_kstr(&w, "text", why->text);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_json) struct cg_json *result = cg_json_parse(cg_buf_slice(&text), NULL, NULL);
    struct cg_link_stream *s;
    while ((s = untold(l))) {
        s->cancelled = true;
        if (l->opener) {
            if (l->on.on_close && !s->forgotten)
                l->on.on_close(l->ctx, s, result);
            cg_link_remove(s);
        } else if (s->closing) {
            cg_link_remove(s);
        } else if (l->on.on_close) {
            l->on.on_close(l->ctx, s, NULL);
        }
    }
}

void *cg_link_user(const struct cg_link_stream *s)
{
    return s->user;
}

void cg_link_set_user(struct cg_link_stream *s, void *user)
{
    s->user = user;
}

unsigned cg_link_id(const struct cg_link_stream *s)
{
    return s->id;
}

unsigned cg_link_stream_count(const struct cg_link *l)
{
    return l->streams;
}

bool cg_link_dead(const struct cg_link *l)
{
    return l->dead;
}
