/* The audit log: see audit.h. Lines gather while a batch is written; who waits for one is told when
 * it is on disk. */
#include "core/audit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/seals.h"
#include "record/reader.h"
#include "record/record.h"
#include "record/seal.h"

enum { TICK_MS = 1000, SEAL_TICKS = 30 };

/* The record's name for its owner, which is no sandbox. */
static const char log_name[] = "cage-auditlog";

struct waiter {
    struct waiter *next;
    uint64_t seq;
    cg_audit_done *done;
    void *ctx;
};

static struct {
    struct cg_core *core;
    struct cg_record *record;
    char *dir;
    struct cg_audit *ring; /* by seq % CG_AUDIT_KEPT */
    uint64_t last;
    struct waiter *first, **tail;
    uv_work_t work, seal_work;
    uv_timer_t timer;
    uint64_t seal_limit;
    unsigned ticks;
    bool working, sealing;
} audit;

static void take(const struct cg_audit *a)
{
    audit.ring[a->seq % CG_AUDIT_KEPT] = *a;
    audit.last = a->seq;
}

static void answer_all(const struct cg_err *err)
{
    uint64_t durable = cg_record_durable(audit.record);
    while (audit.first && (err || audit.first->seq <= durable)) {
        struct waiter *w = audit.first;
        audit.first = w->next;
        if (!audit.first)
            audit.tail = &audit.first;
        w->done(w->ctx, err);
        free(w);
    }
}

static void on_work(uv_work_t *work)
{
    (void)work;
    cg_record_flush_run(audit.record);
}

static void flush(void);

static void on_worked(uv_work_t *work, int status)
{
    struct cg_err e = CG_ERR_INIT;
    (void)work;
    (void)status;
    audit.working = false;
    bool ok = cg_record_flush_end(audit.record, &e);
    if (!ok)
        cg_log(CG_LOG_ERROR, CG_EVENT("audit.not_written"), CG_E(&e));
    answer_all(ok ? NULL : &e);
    flush();
}

static void flush(void)
{
    if (audit.working || !cg_record_flush_begin(audit.record))
        return;
    audit.working = true;
    CG_ASSERT(uv_queue_work(audit.core->loop, &audit.work, on_work, on_worked) == 0);
}

/* --- seals --- */

static bool seal(struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *memory = cg_seals_memory(audit.core, log_name);
    const struct cg_sealer_options o = {audit.dir, memory, &audit.core->seals.key,
                                        audit.seal_limit};
    return cg_seal_run(&o, e);
}

static void on_seal(uv_work_t *work)
{
    struct cg_err e = CG_ERR_INIT;
    (void)work;
    if (!seal(&e) && e.code != CG_NOT_FOUND)
        cg_log(CG_LOG_ERROR, CG_EVENT("audit.not_sealed"), CG_E(&e));
}

static void on_sealed(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
    audit.sealing = false;
}

static void on_tick(uv_timer_t *t)
{
    uint64_t durable = cg_record_durable(audit.record);
    (void)t;
    cg_record_tick(audit.record, false);
    flush();
    if (++audit.ticks < SEAL_TICKS || audit.sealing || durable == audit.seal_limit)
        return;
    audit.ticks = 0;
    audit.sealing = true;
    audit.seal_limit = durable;
    CG_ASSERT(uv_queue_work(audit.core->loop, &audit.seal_work, on_seal, on_sealed) == 0);
}

/* --- start --- */

static void copy(const struct cg_json *j, const char *key, char *out, size_t size)
{
    const char *text = cg_json_str(j, key);
    (void)cg_strlcpy(out, size, text ? text : "");
}

static void load_line(const struct cg_record_line *line)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(line->data, NULL, NULL);
    if (!j || !cg_streq(cg_json_str(j, "event"), "audit"))
        return;
    struct cg_audit a = {.seq = line->seq, .status = (int)cg_json_int(j, "status", 0)};
    char ts[CG_TIME_TEXT];
    cg_snprintf(ts, sizeof ts, "%.*s", (int)line->ts.n, line->ts.p);
    if (!cg_time_parse(ts, &a.wall))
        return;
    copy(j, "account", a.account, sizeof a.account);
    copy(j, "person", a.person, sizeof a.person);
    copy(j, "key", a.key, sizeof a.key);
    copy(j, "action", a.action, sizeof a.action);
    copy(j, "target", a.target, sizeof a.target);
    copy(j, "ip", a.ip, sizeof a.ip);
    copy(j, "request_id", a.request, sizeof a.request);
    take(&a);
}

static bool load(int dir, struct cg_err *e)
{
    uint64_t last = 0;
    if (!cg_record_last_seq(dir, &last, e))
        return false;
    struct cg_record_reader *r =
        cg_record_reader_open(dir, last > CG_AUDIT_KEPT ? last - CG_AUDIT_KEPT : 0, e);
    struct cg_record_line line;
    struct cg_slice text;
    enum cg_record_got got = CG_RECORD_ERROR;
    while (r && (got = cg_record_read(r, UINT64_MAX, &text, &line, e)) == CG_RECORD_LINE)
        load_line(&line);
    cg_record_reader_close(r);
    return got == CG_RECORD_END;
}

bool cg_audit_start(struct cg_core *c, struct cg_err *e)
{
    audit.core = c;
    audit.tail = &audit.first;
    audit.dir = cg_format("%s/audit", c->options.state_dir);
    audit.ring = cg_alloc(CG_AUDIT_KEPT * sizeof *audit.ring);
    if (!cg_fs_mkdirs(audit.dir, 0700, e))
        return false;
    CG_OWN(cg_drop_fd) int dir = open(audit.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return cg_fail_sys(e, "open %s", audit.dir);
    const struct cg_record_options o = {.sandbox = log_name, .quota_bytes = UINT64_MAX / 4};
    audit.record = cg_record_open(dir, &o, e);
    if (!audit.record || !load(dir, e))
        return cg_wrap(e, "the audit log");
    uv_timer_init(c->loop, &audit.timer);
    uv_timer_start(&audit.timer, on_tick, TICK_MS, TICK_MS);
    return true;
}

void cg_audit_stop(struct cg_core *c)
{
    struct cg_err e = CG_ERR_INIT;
    (void)c;
    if (!audit.record)
        return;
    uv_timer_stop(&audit.timer);
    while (audit.working || audit.sealing)
        uv_run(audit.core->loop, UV_RUN_ONCE);
    bool fine = cg_record_sync(audit.record, &e);
    audit.seal_limit = cg_record_durable(audit.record);
    if (!fine || !seal(&e))
        cg_log(CG_LOG_ERROR, CG_EVENT("audit.not_sealed"), CG_E(&e));
    cg_record_close(audit.record);
    audit.record = NULL;
}

/* --- use --- */

void cg_audit_note(struct cg_core *c, const struct cg_audit *given, cg_audit_done *done, void *ctx)
{
    struct cg_audit a = *given;
    (void)c;
    struct cg_jsonw *w = cg_record_begin(audit.record, CG_REC_LIFECYCLE, CG_SRC_SERVER, NULL);
    cg_jsonw_kstr(w, "event", "audit");
    cg_jsonw_kstr(w, "account", a.account);
    cg_jsonw_kstr(w, "person", a.person);
    cg_jsonw_kstr(w, "key", a.key);
    cg_jsonw_kstr(w, "action", a.action);
    cg_jsonw_kstr(w, "target", a.target);
    cg_jsonw_kint(w, "status", a.status);
    cg_jsonw_kstr(w, "ip", a.ip);
    cg_jsonw_kstr(w, "request_id", a.request);
    a.seq = cg_record_end(audit.record);
    a.wall = cg_wall_ns();
    if (a.seq > 0)
        take(&a);
    if (done) {
        struct waiter *n = cg_alloc(sizeof *n);
        *n = (struct waiter){.seq = a.seq, .done = done, .ctx = ctx};
        *audit.tail = n;
        audit.tail = &n->next;
    }
    flush();
}

void cg_audit_each(const char *account, uint64_t before,
                   bool (*each)(void *ctx, const struct cg_audit *a), void *ctx)
{
    uint64_t seq = before && before <= audit.last ? before - 1 : audit.last;
    for (unsigned i = 0; i < CG_AUDIT_KEPT && seq > 0; i++, seq--) {
        const struct cg_audit *a = &audit.ring[seq % CG_AUDIT_KEPT];
        if (a->seq == seq && strcmp(a->account, account) == 0 && !each(ctx, a))
            return;
    }
}
