/* `append`: a line in the record on behalf of the server, answered once it is on disk. */
#include <stdlib.h>

#include "warden/up.h"

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

void append_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                 const struct cg_json *request)
{
    const char *name = cg_json_str(request, "type");
    const char *session = cg_json_str(request, "session");
    const struct cg_json *data = cg_json_get(request, "data");
    enum cg_record_type type = CG_REC_TYPE_COUNT;
    if (!name || !cg_record_type_parse(cg_slice_of(name), &type) || !data ||
        data->type != CG_JSON_OBJ || (session && !cg_record_session_valid(session))) {
        refuse(c, s, CG_INVALID, "append needs type (a known one) and data (an object)");
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, CG_RECORD_LINE_MAX - 512);
    cg_jsonw_init(&j, &b);
    cg_jsonw_value(&j, data);
    if (b.full) {
        refuse(c, s, CG_TOO_LARGE, "data is too large for a line of the record");
        return;
    }
    struct appending *a = cg_alloc(sizeof *a);
    up_init(&a->up, &ops, c, s);
    a->wait.done = on_durable;
    uint64_t seq =
        cg_record_append(w->record, type, type == CG_REC_CLAIM ? CG_SRC_CLAIM : CG_SRC_SERVER,
                         session, cg_buf_slice(&b));
    commit_wait(&w->commit, &a->wait, seq);
}
