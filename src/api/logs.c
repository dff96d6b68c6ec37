/* logs: the last lines of a sandbox's story for people, out of its record; also after its end. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "record/reader.h"

enum { TAIL_DEFAULT = 100, TAIL_MAX = 1000, SPAN_FIRST = 4096, SPAN_GROWTH = 16 };

struct logs {
    uv_work_t work;
    struct op *op;
    char *dir;
    unsigned tail;
    uint64_t limit; /* the last line that is durable */
    char **lines;   /* a ring of JSON objects */
    unsigned next, count;
    struct cg_err err;
};

static bool told(const struct cg_record_line *l)
{
    return cg_slice_eq(l->type, "lifecycle") || cg_slice_eq(l->type, "command") ||
           cg_slice_eq(l->type, "error") || cg_slice_eq(l->type, "gap");
}

static void write_words(struct cg_buf *b, const struct cg_json *argv)
{
    for (const struct cg_json *a = argv ? argv->child : NULL; a; a = a->next) {
        if (a->type == CG_JSON_STR)
            cg_buf_addf(b, "%s%.*s", b->n ? " " : "", (int)CG_MIN(a->str.n, 200), a->str.p);
    }
}

/* One line of text for people. */
static void describe(struct cg_buf *b, struct cg_slice type, const struct cg_json *d)
{
    const char *event = cg_json_str(d, "event");
    const char *phase = cg_json_str(d, "phase");
    const char *reason = cg_json_str(d, "reason");
    if (cg_slice_eq(type, "lifecycle")) {
        cg_buf_adds(b, event ? event : "?");
        if (reason)
            cg_buf_addf(b, " (%s)", reason);
        if (cg_json_get(d, "boot_ms"))
            cg_buf_addf(b, " after %lld ms", (long long)cg_json_int(d, "boot_ms", 0));
    } else if (cg_slice_eq(type, "command") && cg_streq(phase, "start")) {
        const char *shell = cg_json_str(d, "shell");
        if (shell)
            cg_buf_addf(b, "%.400s", shell);
        else
            write_words(b, cg_json_get(d, "argv"));
        if (b->n == 0)
            cg_buf_adds(b, "login shell");
    } else if (cg_slice_eq(type, "command")) {
        cg_buf_addf(b, "%s", phase ? phase : "?");
        if (cg_json_get(d, "exit_code"))
            cg_buf_addf(b, " %lld", (long long)cg_json_int(d, "exit_code", 0));
        cg_buf_addf(b, " (%s)", cg_json_str(d, "exec_id") ? cg_json_str(d, "exec_id") : "?");
    } else {
        const char *text = cg_json_str(d, "text");
        cg_buf_addf(b, "%s%s%.400s", reason ? reason : "", reason && text ? ": " : "",
                    text ? text : "");
    }
}

static void add_line(struct logs *g, const struct cg_record_line *l)
{
    CG_OWN(cg_drop_json) struct cg_json *data = cg_json_parse(l->data, NULL, NULL);
    CG_OWN(cg_drop_buf) struct cg_buf text;
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&text, 4096);
    cg_buf_init(&out, 32768);
    describe(&text, l->type, data);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstrn(&w, "timestamp", l->ts.p, l->ts.n);
    cg_jsonw_kstrn(&w, "type", l->type.p, l->type.n);
    cg_jsonw_kstrn(&w, "message", text.p, text.n);
    cg_jsonw_kuint(&w, "seq", l->seq);
    cg_jsonw_obj_end(&w);
    unsigned at = g->next++ % g->tail;
    free(g->lines[at]);
    g->lines[at] = cg_buf_take(&out);
    g->count = CG_MIN(g->count + 1, g->tail);
}

/* Lines behind `after`, the last ones of interest kept. */
static void read_behind(struct logs *g, int dir, uint64_t after)
{
    struct cg_record_reader *r = cg_record_reader_open(dir, after, &g->err);
    struct cg_slice text;
    struct cg_record_line line;
    g->next = g->count = 0;
    while (r && cg_record_read(r, g->limit, &text, &line, &g->err) == CG_RECORD_LINE) {
        if (told(&line))
            add_line(g, &line);
    }
    cg_record_reader_close(r);
}

/* From the end backwards, in growing steps: a record may be long, and most of it is not told here.
 */
static void read_work(uv_work_t *work)
{
    struct logs *g = CG_CONTAINER(work, struct logs, work);
    CG_OWN(cg_drop_fd) int dir = open(g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t last = 0;
    if (dir < 0 || !cg_record_last_seq(dir, &last, &g->err))
        return;
    last = CG_MIN(last, g->limit);
    for (uint64_t span = SPAN_FIRST;; span *= SPAN_GROWTH) {
        read_behind(g, dir, last > span ? last - span : 0);
        if (g->count == g->tail || last <= span)
            return;
    }
}

static void read_done(uv_work_t *work, int status)
{
    struct logs *g = CG_CONTAINER(work, struct logs, work);
    struct op *op = g->op;
    (void)status;
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < g->count; i++) {
        const char *line = g->lines[(g->next - g->count + i) % g->tail];
        cg_jsonw_raw(w, line, strlen(line));
    }
    cg_jsonw_arr_end(w);
    for (unsigned i = 0; i < g->tail; i++)
        free(g->lines[i]);
    free(g->lines);
    free(g->dir);
    free(g);
    op_send_json(op, 200);
}

static void start_reading(struct op *op, uint64_t limit)
{
    struct logs *g = cg_alloc(sizeof *g);
    g->op = op;
    g->tail = op->step;
    g->limit = limit;
    g->lines = cg_alloc_array(g->tail, sizeof *g->lines);
    g->dir = cg_sandbox_record_dir(op->sb);
    op_outlive(op);
    uv_queue_work(op->api->core->loop, &g->work, read_work, read_done);
}

static void on_status(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    int64_t durable = cg_json_int(result, "durable_seq", 0);
    start_reading(op, error ? UINT64_MAX : (uint64_t)CG_MAX(durable, (int64_t)0));
}

void api_logs(struct op *op)
{
    struct cg_err e = CG_ERR_INIT;
    int64_t tail = TAIL_DEFAULT;
    if (!op_query_int(op, "tail", INT64_MIN, INT64_MAX, &tail, &e)) {
        op_fail(op, &e);
        return;
    }
    if (!op_record_kept(op, op->sb))
        return;
    op->step = tail <= 0 ? TAIL_DEFAULT : (unsigned)CG_MIN(tail, (int64_t)TAIL_MAX);
    op->call = (struct cg_wcall){.on_close = on_status};
    /* of a living one, only what is on disk for good */
    bool asked = cg_sandbox_usable(op->sb, &e) &&
                 cg_wcall_open(op->sb->warden, &op->call, cg_slice_of("{\"kind\":\"status\"}"), &e);
    if (!asked)
        start_reading(op, UINT64_MAX);
}
