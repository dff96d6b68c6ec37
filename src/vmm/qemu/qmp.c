/* QEMU Machine Protocol (docs/interop/qmp-spec): JSON values, one a line. The VMM greets, we answer
 * with qmp_capabilities, and then every command has a number that its answer repeats. Answers to
 * numbers that were never given are a protocol error; late answers to timed-out ones are dropped.
 * Callbacks may destroy the client: memory goes in the timer's close callback, and every loop over
 * pending commands looks at `destroyed` again. */
#include "vmm/qemu/qmp.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/jsonw.h"
#include "loop/stream.h"

enum { OUTPUT_MAX = 65536, GREETING_MS = 30000 };

struct command {
    int64_t id; /* 0: free */
    int64_t deadline_ns;
    cg_qmp_done *done;
    void *ctx;
};

struct cg_qmp {
    struct cg_stream *stream;
    uv_timer_t timer; /* the nearest deadline */
    struct cg_qmp_handlers h;
    void *ctx;
    struct cg_buf in;
    struct cg_buf out;
    struct command pending[CG_QMP_PENDING_MAX];
    int64_t last_id;
    enum { GREETING, NEGOTIATING, READY, GONE } state;
    bool destroyed;
};

static const struct cg_json_limits limits = {CG_QMP_LINE_MAX, 16, 4096};

static void finish(struct command *c, const struct cg_json *result, const struct cg_err *err)
{
    struct command done = *c;
    *c = (struct command){.id = 0};
    done.done(done.ctx, result, err);
}

static void fail_all(struct cg_qmp *q, const struct cg_err *why)
{
    for (size_t i = 0; i < CG_QMP_PENDING_MAX; i++) {
        if (q->pending[i].id != 0)
            finish(&q->pending[i], NULL, why);
    }
}

static void gone(struct cg_qmp *q, const struct cg_err *why)
{
    if (q->state == GONE)
        return;
    q->state = GONE;
    uv_timer_stop(&q->timer);
    struct cg_err closed = *why;
    closed.code = CG_CLOSED;
    fail_all(q, &closed);
    if (!q->destroyed && q->h.on_gone)
        q->h.on_gone(q->ctx, why);
}

static void on_timer(uv_timer_t *timer);

static void arm(struct cg_qmp *q)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < CG_QMP_PENDING_MAX; i++) {
        if (q->pending[i].id != 0)
            next = CG_MIN(next, q->pending[i].deadline_ns);
    }
    if (q->destroyed || q->state == GONE || next == INT64_MAX) {
        uv_timer_stop(&q->timer);
        return;
    }
    int64_t left_ms = (next - cg_mono_ns()) / 1000000 + 1;
    uv_timer_start(&q->timer, on_timer, left_ms > 0 ? (uint64_t)left_ms : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct cg_qmp *q = timer->data;
    struct cg_err late = CG_ERR_INIT;
    cg_fail(&late, CG_TIMEOUT, "the VMM does not answer");
    for (size_t i = 0; i < CG_QMP_PENDING_MAX && !q->destroyed; i++) {
        if (q->pending[i].id != 0 && q->pending[i].deadline_ns <= cg_mono_ns())
            finish(&q->pending[i], NULL, &late);
    }
    arm(q);
}

/* Output waits in q->out until the greeting has been answered. */
static bool emit(struct cg_qmp *q, int64_t id, const char *name, const char *arguments)
{
    struct cg_jsonw w;
    size_t before = q->out.n;
    cg_jsonw_init(&w, &q->out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "execute", name);
    cg_jsonw_kint(&w, "id", id);
    if (arguments) {
        cg_jsonw_key(&w, "arguments");
        cg_jsonw_raw(&w, arguments, strlen(arguments));
    }
    cg_jsonw_obj_end(&w);
    cg_buf_addc(&q->out, '\n');
    if (q->out.full) {
        q->out.n = before;
        q->out.full = false;
        return false;
    }
    return true;
}

static const char hello[] = "{\"execute\":\"qmp_capabilities\",\"id\":0}\n";

static struct cg_slice output(void *ctx)
{
    struct cg_qmp *q = ctx;
    return q->state == READY ? cg_buf_slice(&q->out) : (struct cg_slice){NULL, 0};
}

static void wrote(void *ctx, size_t n)
{
    struct cg_qmp *q = ctx;
    cg_buf_consume(&q->out, n);
}

/* The client's first command is short and the socket is empty: it always fits in one write. */
static bool negotiate(struct cg_qmp *q, struct cg_err *e)
{
    q->state = NEGOTIATING;
    if (write(cg_stream_fd(q->stream), hello, sizeof hello - 1) != (ssize_t)sizeof hello - 1)
        return cg_fail_sys(e, "answer the VMM's greeting");
    return true;
}

static void answer(struct cg_qmp *q, int64_t id, const struct cg_json *message)
{
    struct command *c = NULL;
    for (size_t i = 0; i < CG_QMP_PENDING_MAX && !c; i++) {
        if (q->pending[i].id == id)
            c = &q->pending[i];
    }
    if (!c)
        return;
    const struct cg_json *error = cg_json_get(message, "error");
    if (error) {
        struct cg_err refused = CG_ERR_INIT;
        const char *text = cg_json_str(error, "desc");
        cg_fail(&refused, CG_CONFLICT, "the VMM refused: %.160s", text ? text : "no reason given");
        finish(c, NULL, &refused);
    } else {
        finish(c, cg_json_get(message, "return"), NULL);
    }
    arm(q);
}

static bool on_message(struct cg_qmp *q, const struct cg_json *m, struct cg_err *e)
{
    if (m->type != CG_JSON_OBJ)
        return cg_fail(e, CG_PROTOCOL, "the VMM sent something that is not an object");
    if (q->state == GREETING)
        return cg_json_get(m, "QMP") ? negotiate(q, e)
                                     : cg_fail(e, CG_PROTOCOL, "the VMM did not greet first");
    const char *event = cg_json_str(m, "event");
    if (event) {
        if (q->h.on_event)
            q->h.on_event(q->ctx, event, cg_json_get(m, "data"));
        return true;
    }
    int64_t id = cg_json_int(m, "id", -1);
    if (id < 0 || id > q->last_id || (!cg_json_get(m, "return") && !cg_json_get(m, "error")))
        return cg_fail(e, CG_PROTOCOL, "the VMM answered what was not asked");
    if (id > 0) {
        answer(q, id, m);
        return true;
    }
    if (q->state != NEGOTIATING || cg_json_get(m, "error"))
        return cg_fail(e, CG_PROTOCOL, "the VMM refused the protocol");
    q->state = READY;
    cg_stream_kick(q->stream);
    return true;
}

static bool on_line(struct cg_qmp *q, struct cg_slice line, struct cg_err *e)
{
    CG_OWN(cg_drop_json) struct cg_json *m = cg_json_parse(line, &limits, e);
    if (!m) {
        cg_wrap(e, "message of the VMM");
        e->code = CG_PROTOCOL;
        return false;
    }
    return on_message(q, m, e);
}

static bool on_read(void *ctx, struct cg_slice bytes, struct cg_err *e)
{
    struct cg_qmp *q = ctx;
    while (bytes.n > 0 && !q->destroyed && q->state != GONE) {
        const char *end = memchr(bytes.p, '\n', bytes.n);
        size_t n = end ? (size_t)(end - bytes.p) : bytes.n;
        if (!cg_buf_add(&q->in, bytes.p, n))
            return cg_fail(e, CG_PROTOCOL, "the VMM sent a message of more than %d bytes",
                           CG_QMP_LINE_MAX);
        bytes.p += n;
        bytes.n -= n;
        if (!end)
            break;
        bytes.p++;
        bytes.n--;
        if (q->in.n > 0 && q->in.p[q->in.n - 1] == '\r')
            q->in.n--;
        if (q->in.n > 0 && !on_line(q, cg_buf_slice(&q->in), e))
            return false;
        cg_buf_clear(&q->in);
    }
    return true;
}

static void on_end(void *ctx, const struct cg_err *why)
{
    gone(ctx, why);
}

struct cg_qmp *cg_qmp_create(uv_loop_t *loop, int fd, const struct cg_qmp_handlers *h, void *ctx,
                             struct cg_err *e)
{
    static const struct cg_stream_ops ops = {on_read, output, wrote, on_end};
    struct cg_qmp *q = cg_alloc(sizeof *q);
    q->h = *h;
    q->ctx = ctx;
    q->stream = cg_stream_create(loop, fd, &ops, q, e);
    if (!q->stream) {
        close(fd);
        free(q);
        return NULL;
    }
    cg_buf_init(&q->in, CG_QMP_LINE_MAX);
    cg_buf_init(&q->out, OUTPUT_MAX);
    uv_timer_init(loop, &q->timer);
    q->timer.data = q;
    return q;
}

static void on_closed(uv_handle_t *handle)
{
    struct cg_qmp *q = CG_CONTAINER(handle, struct cg_qmp, timer);
    cg_buf_finish(&q->in);
    cg_buf_finish(&q->out);
    free(q);
}

void cg_qmp_destroy(struct cg_qmp *q)
{
    if (!q || q->destroyed)
        return;
    q->destroyed = true;
    struct cg_err closed = CG_ERR_INIT;
    cg_fail(&closed, CG_CLOSED, "the connection to the VMM was ended");
    gone(q, &closed);
    cg_stream_destroy(q->stream);
    uv_close((uv_handle_t *)&q->timer, on_closed);
}

bool cg_qmp_command(struct cg_qmp *q, const char *name, const char *arguments, int timeout_ms,
                    cg_qmp_done *done, void *ctx, struct cg_err *e)
{
    if (q->state == GONE)
        return cg_fail(e, CG_CLOSED, "the connection to the VMM has ended");
    struct command *c = NULL;
    for (size_t i = 0; i < CG_QMP_PENDING_MAX && !c; i++) {
        if (q->pending[i].id == 0)
            c = &q->pending[i];
    }
    if (!c || !emit(q, q->last_id + 1, name, arguments))
        return cg_fail(e, CG_LIMIT, "too many requests to the VMM wait for an answer");
    int64_t ms = q->state == READY ? timeout_ms : CG_MAX(timeout_ms, GREETING_MS);
    *c = (struct command){++q->last_id, cg_mono_ns() + ms * 1000000, done, ctx};
    if (q->state == READY)
        cg_stream_kick(q->stream);
    arm(q);
    return true;
}

/* A line end is nothing to the parser, and the descriptor has to come with some byte. */
bool cg_qmp_send_fd(struct cg_qmp *q, int fd, struct cg_err *e)
{
    if (q->state != READY || q->out.n > 0)
        return cg_fail(e, CG_CONFLICT, "the VMM is not ready for a descriptor");
    return cg_fd_send(cg_stream_fd(q->stream), "\n", 1, &fd, 1, e) ||
           cg_wrap(e, "hand the VMM a descriptor");
}
