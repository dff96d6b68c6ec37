/* A stream of a server, joined to one of the guest. Credit is passed end to end: a side may send
 * what the other side can take, so bytes never wait here. What is recorded depends on the kind; an
 * answer goes to the server once all that it tells is on disk.
 *
 *   open --guest CLOSE--> [observed lines still to come] --> recorded --durable--> answered, freed
 *
 * A server that goes away cancels; the stream lives on until the guest has answered. */
#include "warden/pass.h"

#include <stdlib.h>
#include <string.h>

enum { CONTROLS_MAX = 512 * 1024 };

#define LATE_NS (INT64_C(1) * 1000000000)

static const struct up_ops up_ops;
static const struct down_ops down_ops;

static struct pass *of_up(struct up *u)
{
    return CG_CONTAINER(u, struct pass, up);
}

static struct pass *of_down(struct down *d)
{
    return CG_CONTAINER(d, struct pass, down);
}

static void pass_free(struct pass *p)
{
    CG_ASSERT(!p->up.s && !p->down.s && !p->wait.waiting);
    struct warden *w = p->w;
    if (p->prev)
        p->prev->next = p->next;
    else
        w->passes = p->next;
    if (p->next)
        p->next->prev = p->prev;
    term_destroy(p->term);
    unpacked_destroy(p->unpacked);
    cg_buf_finish(&p->result);
    free(p->path);
    free(p->to);
    free(p);
}

/* --- credit --- */

/* What may be granted of `owed` to a sender whose bytes go where `room` is left. */
static size_t grantable(size_t owed, size_t room)
{
    size_t outstanding = CG_LINK_WINDOW - owed; /* it may still send so much */
    return room > outstanding ? CG_MIN(owed, room - outstanding) : 0;
}

static void grant_guest(struct pass *p)
{
    if (!p->down.s || p->owed_guest == 0)
        return;
    bool sink = !p->up.s || p->cancelled;
    if (p->term && cg_record_busy(p->w->record))
        return; /* pass_progress asks again */
    size_t g = grantable(p->owed_guest, sink ? CG_LINK_WINDOW : cg_link_room(p->up.s));
    if (g > 0) {
        cg_link_grant(p->down.s, g);
        p->owed_guest -= g;
        guest_kick(p->w);
    }
    if (p->owed_guest > 0 && !sink)
        cg_link_want_room(p->up.s);
}

static void grant_server(struct pass *p)
{
    if (!p->up.s || p->owed_server == 0)
        return;
    size_t g = grantable(p->owed_server, p->down.s ? cg_link_room(p->down.s) : CG_LINK_WINDOW);
    if (g > 0) {
        cg_link_grant(p->up.s, g);
        p->owed_server -= g;
        up_kick(&p->up);
    }
    if (p->owed_server > 0 && p->down.s)
        cg_link_want_room(p->down.s);
}

/* --- from the guest --- */

static void on_accept(struct down *d, const struct cg_json *info)
{
    struct pass *p = of_down(d);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    if (p->kind->record == KIND_COMMAND)
        cg_jsonw_kstr(&j, "exec_id", p->exec_id);
    fields_copy(p->kind->accepted, info, &j);
    if (cg_streq(p->kind->name, "exec")) {
        p->pid = cg_json_int(info, "pid", 0);
        sessions_pid(p->w->sessions, p->session, p->pid);
    }
    cg_jsonw_obj_end(&j);
    up_accept(&p->up, cg_buf_slice(&b));
}

static void on_guest_data(struct down *d, unsigned channel, struct cg_slice data)
{
    struct pass *p = of_down(d);
    p->bytes[channel] += data.n;
    if (!p->term && p->kind->record != KIND_QUIET)
        warden_active(p->w);
    if (p->term) {
        term_add(p->term, TERM_OUT, data, cg_mono_ns());
        warden_want_tick(p->w);
    }
    if (p->up.s && !p->cancelled) {
        size_t n = cg_link_send(p->up.s, channel, data.p, data.n);
        (void)n; /* less only when the server's link is dead: its end is being told */
        up_kick(&p->up);
    }
    p->owed_guest += data.n;
    grant_guest(p);
}

static void on_guest_eof(struct down *d, unsigned channel)
{
    struct pass *p = of_down(d);
    if (p->up.s && !p->cancelled) {
        cg_link_eof(p->up.s, channel);
        up_kick(&p->up);
    }
}

static void on_guest_writable(struct down *d)
{
    grant_server(of_down(d));
}

/* --- the end --- */

static void answer(struct pass *p)
{
    if (p->result.full || p->result.n == 0)
        up_close_error(&p->up, CG_TOO_LARGE, "the guest's answer is too large");
    else
        up_close(&p->up, cg_buf_slice(&p->result));
    pass_free(p);
}

static void on_durable(struct commit_wait *wait)
{
    answer(CG_CONTAINER(wait, struct pass, wait));
}

static void finish(struct pass *p, bool late)
{
    uint64_t seq = pass_record_end(p, late);
    if (p->recorded)
        commit_wait(&p->w->commit, &p->wait, seq);
    else
        answer(p);
}

static bool observed_all(const struct pass *p)
{
    return p->w->guest.observed >= p->need_observed || !p->w->guest.observe.s;
}

static void take_result(struct pass *p, const struct cg_json *result)
{
    struct cg_jsonw j;
    cg_jsonw_init(&j, &p->result);
    cg_jsonw_obj(&j);
    p->failed = fields_copy_error(result, &j);
    if (!p->failed) {
        if (p->kind->record == KIND_COMMAND)
            cg_jsonw_kstr(&j, "exec_id", p->exec_id);
        fields_copy(p->kind->result, result, &j);
    }
    cg_jsonw_obj_end(&j);
}

static void on_guest_close(struct down *d, const struct cg_json *result)
{
    struct pass *p = of_down(d);
    take_result(p, result);
    p->closed = true;
    if (p->kind->record == KIND_COMMAND && !p->quiet) {
        int64_t need = cg_json_int(result, "observed", 0);
        p->need_observed = need > 0 ? (uint64_t)need : 0;
        if (!observed_all(p)) {
            p->late_at = cg_mono_ns() + LATE_NS;
            warden_want_tick(p->w);
            return;
        }
    }
    finish(p, false);
}

static const struct down_ops down_ops = {
    .on_accept = on_accept,
    .on_data = on_guest_data,
    .on_eof = on_guest_eof,
    .on_writable = on_guest_writable,
    .on_close = on_guest_close,
};

/* --- from the server --- */

static void on_server_data(struct up *u, unsigned channel, struct cg_slice data)
{
    struct pass *p = of_up(u);
    p->bytes[CG_LINK_STDIN] += data.n;
    warden_active(p->w);
    if (p->term) {
        term_add(p->term, TERM_IN, data, cg_mono_ns());
        warden_want_tick(p->w);
    }
    if (p->unpacked)
        unpacked_feed(p->unpacked, data);
    if (p->down.s) {
        size_t n = cg_link_send(p->down.s, channel, data.p, data.n);
        (void)n;
        guest_kick(p->w);
    }
    p->owed_server += data.n;
    grant_server(p);
}

static void on_server_eof(struct up *u, unsigned channel)
{
    struct pass *p = of_up(u);
    if (p->down.s) {
        cg_link_eof(p->down.s, channel);
        guest_kick(p->w);
    }
}

static void on_server_control(struct up *u, const struct cg_json *message)
{
    struct pass *p = of_up(u);
    if (!p->down.s || p->kind->record != KIND_COMMAND || cg_link_pending(p->down.s) > CONTROLS_MAX)
        return;
    pass_record_control(p, message);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 1024);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    fields_copy(kind_control_fields, message, &j);
    cg_jsonw_obj_end(&j);
    if (!b.full)
        cg_link_control(p->down.s, cg_buf_slice(&b));
    guest_kick(p->w);
}

static void on_server_writable(struct up *u)
{
    grant_guest(of_up(u));
}

static void on_cancel(struct up *u, bool lost)
{
    struct pass *p = of_up(u);
    (void)lost;
    p->cancelled = true;
    if (p->down.s) {
        cg_link_cancel(p->down.s, false);
        guest_kick(p->w);
        grant_guest(p);
    }
}

static const struct up_ops up_ops = {
    .on_data = on_server_data,
    .on_eof = on_server_eof,
    .on_control = on_server_control,
    .on_writable = on_server_writable,
    .on_cancel = on_cancel,
};

/* --- opening --- */

static void drop_pass(struct pass *p, enum cg_code code, const char *text)
{
    up_close_error(&p->up, code, text);
    pass_free(p);
}

bool pass_busy(const struct warden *w)
{
    for (const struct pass *p = w->passes; p; p = p->next)
        if (p->kind->record == KIND_COMMAND && !p->term)
            return true;
    return false;
}

bool pass_open(struct warden *w, struct conn *c, struct cg_link_stream *s, const char *name,
               const struct cg_json *request)
{
    const struct kind *kind = kind_find(name);
    if (!kind)
        return false;
    struct cg_err e = CG_ERR_INIT;
    struct pass *p = cg_alloc(sizeof *p);
    p->w = w;
    p->kind = kind;
    p->wait.done = on_durable;
    cg_buf_init(&p->result, CG_LINK_MAX_PAYLOAD);
    p->next = w->passes;
    if (p->next)
        p->next->prev = p;
    w->passes = p;
    up_init(&p->up, &up_ops, c, s);
    if (kind->record != KIND_QUIET)
        warden_active(w);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    if (!w->guest.ready || w->state != W_RUNNING) {
        drop_pass(p, CG_UNAVAILABLE, "the guest is not running");
    } else if (!pass_request(p, request, &b, &e)) {
        drop_pass(p, e.code, e.text);
    } else if (!guest_open(w, &p->down, &down_ops, cg_buf_slice(&b), &e)) {
        drop_pass(p, e.code, e.text);
    } else {
        pass_record_start(p, request);
        if (cg_streq(name, "tar.in") && p->path)
            p->unpacked = unpacked_create(p->path);
    }
    return true;
}

/* --- from the warden --- */

static void check_late(struct pass *p, int64_t now)
{
    if (!p->closed || p->late_at == 0)
        return;
    bool all = observed_all(p);
    if (!all && now < p->late_at)
        return;
    p->late_at = 0;
    finish(p, !all);
}

void pass_observed(struct warden *w)
{
    struct pass *next;
    for (struct pass *p = w->passes; p; p = next) {
        next = p->next;
        check_late(p, 0);
    }
}

void pass_tick(struct warden *w, int64_t now)
{
    struct pass *next;
    for (struct pass *p = w->passes; p; p = next) {
        next = p->next;
        if (p->term)
            term_tick(p->term, now);
        check_late(p, now);
    }
}

bool pass_wants_tick(const struct warden *w)
{
    for (const struct pass *p = w->passes; p; p = p->next)
        if (p->late_at || (p->term && term_waits(p->term)))
            return true;
    return false;
}

void pass_progress(struct warden *w)
{
    for (struct pass *p = w->passes; p; p = p->next)
        grant_guest(p);
}

void warden_drop_waiters(struct warden *w)
{
    while (w->passes) {
        struct pass *p = w->passes;
        commit_forget(&w->commit, &p->wait);
        pass_free(p);
    }
}
