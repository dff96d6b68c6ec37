/* `append`: lines in the record on behalf of the server, answered once they are on disk. */
#include <stdlib.h>

#include "warden/up.h"

enum { LINES_MAX = 1000 };

struct appending {
    struct up up;
    struct commit_wait wait;
};

static void on_durable(struct commit_wait *wait)
{
    struct appending *a = CG_CONTAINER(wait, struct appending, wait);
    char result[64];
    cg_snprintf(result, sizeof result, "{\"seq\":%llu}", (unsigned long long)wait->seq);
    if (a->up.w->commit.failing || wait->seq == 0)
        up_close_error(&a->up, CG_IO, "the record cannot be written");
    else
        up_close(&a->up, cg_slice_of(result));
    free(a);
}

static const struct up_ops ops = {.on_cancel = NULL};

static bool check_line(const struct cg_json *o, enum cg_record_type *type, struct cg_err *e)
{
    const char *name = cg_json_str(o, "type");
    const char *session = cg_json_str(o, "session");
    const struct cg_json *data = cg_json_get(o, "data");
    if (!name || !cg_record_type_parse(cg_slice_of(name), type) || !data ||
        data->type != CG_JSON_OBJ || (session && !cg_record_session_valid(session)))
        return cg_fail(e, CG_INVALID, "append needs type (a known one) and data (an object)");
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, CG_RECORD_LINE_MAX - 512);
    cg_jsonw_init(&j, &b);
    cg_jsonw_value(&j, data);
    return !b.full || cg_fail(e, CG_TOO_LARGE, "data is too large for a line of the record");
}

/* The line's number, 0 when it is lost. */
static uint64_t write_line(struct warden *w, const struct cg_json *o, enum cg_record_type type)
{
    const char *session = cg_json_str(o, "session");
    struct cg_jsonw *j =
        cg_record_begin(w->record, type, type == CG_REC_CLAIM ? CG_SRC_CLAIM : CG_SRC_SERVER,
                        session ? session : "");
    for (const struct cg_json *m = cg_json_get(o, "data")->child; m; m = m->next) {
        cg_jsonw_keyn(j, m->key.p, m->key.n);
        cg_jsonw_value(j, m);
    }
    return cg_record_end(w->record);
}

/* All or none, but for those that the quota refuses: then the answer is an error. */
void append_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                 const struct cg_json *request)
{
    const struct cg_json *lines = cg_json_get(request, "lines");
    const struct cg_json *first = lines ? lines->child : request;
    enum cg_record_type type = CG_REC_TYPE_COUNT;
    struct cg_err e = CG_ERR_INIT;
    bool fine =
        !lines || (lines->type == CG_JSON_ARR && lines->count > 0 && lines->count <= LINES_MAX);
    if (!fine)
        cg_fail(&e, CG_INVALID, "lines must be an array of 1 to %d", LINES_MAX);
    for (const struct cg_json *o = first; fine && o; o = lines ? o->next : NULL)
        fine = check_line(o, &type, &e);
    if (!fine) {
        refuse(c, s, e.code, e.text);
        return;
    }
    uint64_t seq = 1;
    for (const struct cg_json *o = first; o; o = lines ? o->next : NULL) {
        fine = check_line(o, &type, &e);
        uint64_t n = write_line(w, o, type);
        seq = n > 0 && seq > 0 ? n : 0;
    }
    struct appending *a = cg_alloc(sizeof *a);
    up_init(&a->up, &ops, c, s);
    a->wait.done = on_durable;
    commit_wait(&w->commit, &a->wait, seq);
}
