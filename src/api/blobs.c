/* …/blobs/{blob}: content that a record names, as what a model was sent and answered. Read on the
 * pool, also after the sandbox's end; bytes whose hash is not their name are never given out. */
#include <fcntl.h>
#include <stdlib.h>

#include "api/api.h"
#include "record/blob.h"

struct fetch {
    uv_work_t work;
    struct op *op;
    char *dir;
    char name[CG_BLOB_NAME];
    struct cg_buf bytes;
    struct cg_err err;
    bool good;
};

static void read_work(uv_work_t *work)
{
    struct fetch *f = CG_CONTAINER(work, struct fetch, work);
    CG_OWN(cg_drop_fd) int dir = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        cg_fail(&f->err, CG_NOT_FOUND, "this sandbox has no record any more");
    else
        f->good = cg_blob_get(dir, f->name, CG_BLOB_MAX, &f->bytes, &f->err);
}

static void read_done(uv_work_t *work, int status)
{
    struct fetch *f = CG_CONTAINER(work, struct fetch, work);
    struct op *op = f->op;
    (void)status;
    if (f->good && op->r) {
        struct cg_http_req *r = op->r;
        r->abort = NULL;
        op->r = NULL;
        cg_http_reply(r, 200, "application/octet-stream", cg_buf_slice(&f->bytes));
        op_end(op);
    } else {
        op_fail(op, &f->err);
    }
    cg_buf_finish(&f->bytes);
    free(f->dir);
    free(f);
}

void api_blob(struct op *op)
{
    const char *name = op_param(op, "blob");
    if (!cg_blob_name_valid(name)) {
        op_problem(op, 400, "invalid", "a blob is named by 64 hexadecimal digits");
        return;
    }
    if (!op_record_kept(op, op->sb))
        return;
    struct fetch *f = cg_alloc(sizeof *f);
    f->op = op;
    cg_strlcpy(f->name, sizeof f->name, name);
    f->dir = cg_sandbox_record_dir(op->sb);
    cg_buf_init(&f->bytes, CG_BLOB_MAX);
    op_outlive(op);
    uv_queue_work(op->api->core->loop, &f->work, read_work, read_done);
}
