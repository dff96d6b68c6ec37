/* Bodies of calls that are over go to the record in batches: hashed and compressed on a worker's
 * thread, put there and named by the call's last line back on the loop. A client waits for none of
 * it. When calls end faster than a worker packs, the loop does it itself, which slows the calls
 * down instead of filling the memory. */
#include <stdlib.h>

#include "gateway/inner.h"

/* A batch begins by time, by bytes or by calls; a backlog is four of them. */
enum { KEEP_MS = 10, KEEP_BATCH = 256 << 10, KEEP_CALLS = 32, KEEP_BACKLOG = 4 };

struct keep_job {
    uv_work_t work;
    struct cg_gateway *g; /* NULL: it is gone, nobody waits any more */
    struct call *first;
    uv_sem_t packed;
};

static bool is_batch(const struct keep *k, unsigned times)
{
    return k->bytes >= (size_t)times * KEEP_BATCH || k->calls >= times * KEEP_CALLS;
}

static void begin_bodies(struct call *c)
{
    const struct cg_gateway_options *o = &c->g->o;
    if (c->packing)
        return;
    c->packing = true;
    if (c->body.n > 0)
        o->ops->blob_begin(o->ctx, cg_buf_slice(&c->body), &c->blob[KEEP_REQUEST]);
    if (c->reply.n > 0)
        o->ops->blob_begin(o->ctx, cg_buf_slice(&c->reply), &c->blob[KEEP_REPLY]);
}

bool keep_put(struct call *c, enum keep_body which, char name[CG_BLOB_NAME])
{
    const struct cg_gateway_options *o = &c->g->o;
    const struct cg_buf *bytes = which == KEEP_REQUEST ? &c->body : &c->reply;
    if (!o->bodies || bytes->n == 0)
        return false;
    begin_bodies(c);
    return o->ops->blob_end(o->ctx, &c->blob[which], name);
}

static void tell(struct call *c)
{
    tell_call_close(c, &c->bill);
    c->told = true;
    gateway_soon(c->g); /* it is let go there */
}

static void on_work(uv_work_t *work)
{
    struct keep_job *job = work->data;
    for (struct call *c = job->first; c; c = c->keep_next) {
        if (c->body.n > 0)
            cg_blob_work_run(&c->blob[KEEP_REQUEST]);
        if (c->reply.n > 0)
            cg_blob_work_run(&c->blob[KEEP_REPLY]);
    }
    uv_sem_post(&job->packed);
}

static void on_worked(uv_work_t *work, int status)
{
    struct keep_job *job = work->data;
    struct cg_gateway *g = job->g;
    (void)status;
    struct call *next;
    for (struct call *c = g ? job->first : NULL; c; c = next) {
        next = c->keep_next;
        tell(c);
    }
    if (g)
        g->keep.job = NULL;
    if (g && is_batch(&g->keep, 1))
        keep_begin(g);
    else if (g && g->keep.first)
        uv_timer_start(&g->keep.timer, keep_due, KEEP_MS, 0);
    uv_sem_destroy(&job->packed);
    free(job);
}

void keep_begin(struct cg_gateway *g)
{
    struct keep *k = &g->keep;
    if (k->job || !k->first)
        return;
    struct keep_job *job = cg_alloc(sizeof *job);
    job->g = g;
    job->first = k->first;
    job->work.data = job;
    CG_ASSERT(uv_sem_init(&job->packed, 0) == 0);
    k->first = k->last = NULL;
    k->bytes = 0;
    k->calls = 0;
    k->job = job;
    uv_timer_stop(&k->timer);
    for (struct call *c = job->first; c; c = c->keep_next)
        begin_bodies(c);
    CG_ASSERT(uv_queue_work(g->loop, &job->work, on_work, on_worked) == 0);
}

void keep_due(uv_timer_t *timer)
{
    keep_begin(timer->data);
}

void keep_call(struct call *c)
{
    struct keep *k = &c->g->keep;
    size_t bytes = c->body.n + c->reply.n;
    if (!c->g->o.bodies || bytes == 0 || is_batch(k, KEEP_BACKLOG)) {
        tell(c);
        return;
    }
    if (k->last)
        k->last->keep_next = c;
    else
        k->first = c;
    k->last = c;
    k->bytes += bytes;
    k->calls++;
    if (is_batch(k, 1))
        keep_begin(c->g);
    else if (!k->job && !uv_is_active((const uv_handle_t *)&k->timer))
        uv_timer_start(&k->timer, keep_due, KEEP_MS, 0);
}

void keep_stop(struct cg_gateway *g)
{
    struct keep *k = &g->keep;
    if (k->job) {
        uv_sem_wait(&k->job->packed);
        k->job->g = NULL;
        k->job = NULL;
    }
    k->first = k->last = NULL;
}
