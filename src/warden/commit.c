#include "warden/commit.h"

#include "base/log.h"

enum { DELAY_MS = 4 };

static void release(struct commit *c, bool all)
{
    uint64_t durable = cg_record_durable(c->record);
    while (c->first && (all || c->first->seq <= durable)) {
        struct commit_wait *wait = c->first;
        c->first = wait->next;
        if (!c->first)
            c->last = NULL;
        wait->waiting = false;
        wait->done(wait);
    }
}

static void on_work(uv_work_t *work)
{
    struct commit *c = work->data;
    cg_record_flush_run(c->record);
}

static void on_worked(uv_work_t *work, int status)
{
    (void)status;
    struct commit *c = work->data;
    struct cg_err e = CG_ERR_INIT;
    c->busy = false;
    bool fine = cg_record_flush_end(c->record, &e);
    if (!fine && !c->failing)
        cg_log(CG_LOG_ERROR, CG_EVENT("record.failed"), CG_E(&e));
    else if (fine && c->failing)
        cg_log(CG_LOG_INFO, CG_EVENT("record.works_again"));
    c->failing = !fine;
    release(c, !fine);
    if (c->on_progress)
        c->on_progress(c->ctx);
}

static void begin(struct commit *c)
{
    if (c->busy || !cg_record_flush_begin(c->record))
        return;
    c->busy = true;
    c->urgent = false;
    if (c->delay_on)
        uv_timer_stop(&c->delay);
    c->delay_on = false;
    c->work.data = c;
    CG_ASSERT(uv_queue_work(c->loop, &c->work, on_work, on_worked) == 0);
}

static void on_delay(uv_timer_t *timer)
{
    struct commit *c = timer->data;
    c->delay_on = false;
    begin(c);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct commit *c = prepare->data;
    release(c, false);
    if (c->busy || !cg_record_pending(c->record)) {
        c->urgent = c->busy && c->urgent;
        return;
    }
    if (c->urgent || c->first || cg_record_busy(c->record)) {
        begin(c);
    } else if (!c->delay_on) {
        c->delay_on = true;
        uv_timer_start(&c->delay, on_delay, DELAY_MS, 0);
    }
}

void commit_init(struct commit *c, uv_loop_t *loop, struct cg_record *record,
                 void (*on_progress)(void *ctx), void *ctx)
{
    *c = (struct commit){.loop = loop, .record = record, .on_progress = on_progress, .ctx = ctx};
    uv_prepare_init(loop, &c->prepare);
    uv_timer_init(loop, &c->delay);
    c->prepare.data = c->delay.data = c;
    uv_prepare_start(&c->prepare, on_prepare);
}

void commit_close(struct commit *c)
{
    CG_ASSERT(!c->busy);
    uv_close((uv_handle_t *)&c->prepare, NULL);
    uv_close((uv_handle_t *)&c->delay, NULL);
}

void commit_wait(struct commit *c, struct commit_wait *wait, uint64_t seq)
{
    CG_ASSERT(!wait->waiting);
    wait->waiting = true;
    wait->seq = seq;
    wait->next = NULL;
    if (seq <= cg_record_durable(c->record)) { /* in front: it waits for nothing */
        wait->next = c->first;
        c->first = wait;
        if (!c->last)
            c->last = wait;
        return;
    }
    if (c->last)
        c->last->next = wait;
    else
        c->first = wait;
    c->last = wait;
}

void commit_forget(struct commit *c, struct commit_wait *wait)
{
    if (!wait->waiting)
        return;
    wait->waiting = false;
    struct commit_wait *before = NULL;
    for (struct commit_wait *w = c->first; w && w != wait; w = w->next)
        before = w;
    if (before)
        before->next = wait->next;
    else
        c->first = wait->next;
    if (c->last == wait)
        c->last = before;
}

void commit_now(struct commit *c)
{
    c->urgent = true;
}

bool commit_idle(const struct commit *c)
{
    return !c->busy && !cg_record_pending(c->record);
}
