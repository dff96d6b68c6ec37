/* /workspace as it stood: files, contents and differences at sequence numbers of the record, also
 * when the sandbox is gone. Told by the record alone; nothing is asked of a guest. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/moments.h"
#include "record/diff.h"
#include "record/workspace.h"

enum { CONTENT_MAX = 1 << 20, DIFF_MAX = 8 << 20 };

enum what { FILES, CONTENT, DIFF };

struct moment {
    uv_work_t work;
    struct op *op;
    enum what what;
    uint64_t from, to; /* FILES, CONTENT: at `to` */
    char *dir, *record;
    char *path; /* as the caller gave it, made absolute */
    struct cg_buf out;
    struct cg_jsonw w;
    struct cg_buf diff;
    int64_t epoch_wall;
    bool cut;
    struct cg_err err;
};

static const char root[] = "/workspace";

static void free_moment(struct op *op)
{
    struct moment *m = op->own;
    free(m->dir);
    free(m->record);
    free(m->path);
    cg_buf_finish(&m->out);
    cg_buf_finish(&m->diff);
    free(m);
    op->own = NULL;
}

/* The part of m->path below /workspace; "" for itself. */
static const char *below(const struct moment *m)
{
    const char *p = m->path + sizeof root - 1;
    return *p == '/' ? p + 1 : p;
}

/* --- files --- */

struct child {
    const char *name; /* into the tree's key */
    size_t n;
    bool folder;
    const struct cg_workspace_file *file; /* NULL: a folder that is known by what is in it */
};

static int by_name(const void *a, const void *b)
{
    const struct child *x = a;
    const struct child *y = b;
    int order = memcmp(x->name, y->name, CG_MIN(x->n, y->n));
    return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

/* Names directly in the folder, sorted; a folder may stand there more than once. */
static struct child *children(const struct cg_workspace *t, const char *folder, size_t *count)
{
    struct child *all = cg_alloc_array(t->files.count + 1, sizeof *all);
    size_t prefix = strlen(folder);
    size_t at = 0;
    const char *path;
    void *value;
    *count = 0;
    while (cg_map_next(&t->files, &at, &path, &value)) {
        const struct cg_workspace_file *f = value;
        const char *name = path + prefix + (prefix > 0);
        if (prefix > 0 && (strncmp(path, folder, prefix) != 0 || path[prefix] != '/'))
            continue;
        size_t n = strcspn(name, "/");
        all[(*count)++] =
            (struct child){name, n, name[n] == '/' || f->folder, name[n] == '/' ? NULL : f};
    }
    qsort(all, *count, sizeof *all, by_name);
    return all;
}

static void put_child(struct moment *m, const struct child *c)
{
    char time[CG_TIME_TEXT];
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%.*s", m->path, (int)c->n, c->name);
    cg_time_format(m->epoch_wall + (c->file ? c->file->t : 0), time);
    cg_jsonw_obj(&m->w);
    cg_jsonw_kstrn(&m->w, "name", c->name, c->n);
    cg_jsonw_kstr(&m->w, "path", path);
    cg_jsonw_kstr(&m->w, "type", c->folder ? "directory" : "file");
    cg_jsonw_kint(&m->w, "size", c->file && c->file->size > 0 ? c->file->size : 0);
    cg_jsonw_kstr(&m->w, "mod_time", c->file ? time : "");
    if (c->file && !c->folder) {
        cg_jsonw_kuint(&m->w, "seq", c->file->seq);
        cg_jsonw_kbool(&m->w, "kept", c->file->blob[0] != '\0');
        if (c->file->skipped[0])
            cg_jsonw_kstr(&m->w, "skipped", c->file->skipped);
    }
    cg_jsonw_obj_end(&m->w);
}

static void list_files(struct moment *m, const struct cg_workspace *t)
{
    size_t n = 0;
    CG_OWN(cg_drop_free) struct child *all = children(t, below(m), &n);
    cg_jsonw_arr(&m->w);
    for (size_t i = 0; i < n; i++) {
        bool again = i + 1 < n && all[i].n == all[i + 1].n &&
                     memcmp(all[i].name, all[i + 1].name, all[i].n) == 0;
        if (again) { /* the one that knows more goes on */
            all[i + 1].file = all[i + 1].file ? all[i + 1].file : all[i].file;
            all[i + 1].folder |= all[i].folder;
            continue;
        }
        put_child(m, &all[i]);
    }
    cg_jsonw_arr_end(&m->w);
}

/* --- contents --- */

static bool read_content(struct moment *m, int record, const struct cg_workspace *t)
{
    const struct cg_workspace_file *f = cg_map_get(&t->files, below(m));
    if (!f || f->folder)
        return cg_fail(&m->err, CG_NOT_FOUND, "the record knows no file %.200s at line %llu",
                       m->path, (unsigned long long)m->to);
    if (!f->blob[0])
        return cg_fail(&m->err, CG_NOT_FOUND, "the content of %.120s was not kept: %s", m->path,
                       f->skipped[0] ? f->skipped : "it was not read before that line");
    return cg_blob_get(record, f->blob, CONTENT_MAX, &m->out, &m->err) ||
           cg_wrap(&m->err, "content of %.120s", m->path);
}

/* --- differences --- */

static bool differs(const struct cg_workspace_file *a, const struct cg_workspace_file *b)
{
    bool there = a && !a->folder;
    bool here = b && !b->folder;
    if (there != here)
        return true;
    return here && (strcmp(a->blob, b->blob) != 0 ||
                    (!a->blob[0] && (a->seq != b->seq || a->size != b->size)));
}

/* True when it is known what the file held: nothing, for one that was not there or is empty. */
static bool content_of(int record, const struct cg_workspace_file *f, struct cg_buf *out)
{
    struct cg_err e = CG_ERR_INIT;
    cg_buf_init(out, CONTENT_MAX);
    if (!f || f->folder)
        return true;
    return f->blob[0] ? cg_blob_get(record, f->blob, CONTENT_MAX, out, &e) : f->size == 0;
}

static void put_difference(struct moment *m, int record, const char *path,
                           const struct cg_workspace_file *a, const struct cg_workspace_file *b)
{
    CG_OWN(cg_drop_buf) struct cg_buf from;
    CG_OWN(cg_drop_buf) struct cg_buf to;
    bool there = a && !a->folder;
    bool here = b && !b->folder;
    bool known = content_of(record, a, &from);
    known = content_of(record, b, &to) && known;
    cg_jsonw_obj(&m->w);
    cg_jsonw_kstr(&m->w, "path", path);
    cg_jsonw_kstr(&m->w, "status", !there ? "added" : !here ? "deleted" : "modified");
    cg_jsonw_kbool(&m->w, "kept", known);
    cg_jsonw_obj_end(&m->w);
    size_t before = m->diff.n;
    cg_buf_addf(&m->diff, "diff --git a/%s b/%s\n", path, path);
    cg_buf_addf(&m->diff, "%s",
                !there  ? "new file mode 100644\n"
                : !here ? "deleted file mode 100644\n"
                        : "");
    if (!known) {
        cg_buf_addf(&m->diff, "Binary files a/%s and b/%s differ\n", path, path);
    } else {
        cg_buf_addf(&m->diff, there ? "--- a/%s\n" : "--- /dev/null\n", path);
        cg_buf_addf(&m->diff, here ? "+++ b/%s\n" : "+++ /dev/null\n", path);
        (void)cg_diff(cg_buf_slice(&from), cg_buf_slice(&to), &m->diff);
    }
    if (m->diff.full) { /* whole files only */
        m->cut = true;
        m->diff.n = before;
        m->diff.full = false;
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void diff_trees(struct moment *m, int record, const struct cg_workspace *a,
                       const struct cg_workspace *b)
{
    size_t n = 0;
    CG_OWN(cg_drop_free)
    const char **paths = cg_alloc_array(a->files.count + b->files.count + 1, sizeof(const char *));
    size_t at = 0;
    const char *path;
    void *value;
    while (cg_map_next(&b->files, &at, &path, &value))
        if (differs(cg_map_get(&a->files, path), value))
            paths[n++] = path;
    at = 0;
    while (cg_map_next(&a->files, &at, &path, &value))
        if (!cg_map_get(&b->files, path) && differs(value, NULL))
            paths[n++] = path;
    qsort(paths, n, sizeof *paths, by_text);
    m->cut = a->cut || b->cut;
    cg_jsonw_obj(&m->w);
    cg_jsonw_key(&m->w, "files");
    cg_jsonw_arr(&m->w);
    for (size_t i = 0; i < n; i++)
        put_difference(m, record, paths[i], cg_map_get(&a->files, paths[i]),
                       cg_map_get(&b->files, paths[i]));
    cg_jsonw_arr_end(&m->w);
    cg_jsonw_kstrn(&m->w, "diff", m->diff.p ? m->diff.p : "", m->diff.n);
    cg_jsonw_kstr(&m->w, "staged_diff", "");
    cg_jsonw_kuint(&m->w, "from_seq", m->from);
    cg_jsonw_kuint(&m->w, "to_seq", m->to);
    cg_jsonw_kbool(&m->w, "truncated", m->cut);
    cg_jsonw_obj_end(&m->w);
}

/* --- the way of a request --- */

static void look_back(uv_work_t *work)
{
    struct moment *m = CG_CONTAINER(work, struct moment, work);
    CG_OWN(cg_drop_fd) int record = open(m->record, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cg_workspace a = {.cut = false};
    struct cg_workspace b = {.cut = false};
    if (record < 0) {
        cg_fail(&m->err, CG_NOT_FOUND, "the sandbox has no record");
        return;
    }
    struct cg_index *ix = cg_index_open(m->dir, &m->err);
    bool fine = ix && cg_workspace_at(ix, record, m->to, &b, &m->err);
    if (fine && m->what == DIFF)
        fine = cg_workspace_at(ix, record, m->from, &a, &m->err);
    m->epoch_wall = ix ? ix->epoch_wall : 0;
    m->cut = b.cut;
    if (fine && m->what == FILES)
        list_files(m, &b);
    else if (fine && m->what == CONTENT)
        (void)read_content(m, record, &b);
    else if (fine)
        diff_trees(m, record, &a, &b);
    cg_workspace_finish(&a);
    cg_workspace_finish(&b);
    cg_index_close(ix);
}

static void looked_back(uv_work_t *work, int status)
{
    struct moment *m = CG_CONTAINER(work, struct moment, work);
    struct op *op = m->op;
    (void)status;
    if (m->err.code != CG_OK) {
        op_fail(op, &m->err);
        return;
    }
    if (op->r && m->cut && m->what == FILES)
        cg_http_add_header(op->r, "X-Truncated", "true");
    if (m->what == CONTENT && op->r) {
        struct cg_http_req *r = op->r;
        r->abort = NULL;
        cg_http_reply(r, 200, "text/plain; charset=utf-8", cg_buf_slice(&m->out));
        op->r = NULL;
        op_end(op);
        return;
    }
    cg_jsonw_raw(op_json(op), m->out.p, m->out.n);
    op_send_json(op, 200);
}

static void on_fresh(void *ctx, const struct cg_err *err)
{
    struct moment *m = ctx;
    struct op *op = m->op;
    if (err) {
        op_fail(op, err);
        return;
    }
    m->dir = cg_replay_dir(op->api->core, op->sb->id);
    m->record = cg_sandbox_record_dir(op->sb);
    CG_ASSERT(uv_queue_work(op->api->core->loop, &m->work, look_back, looked_back) == 0);
}

static bool read_seq(struct op *op, const char *name, uint64_t *out, struct cg_err *e)
{
    char text[32];
    if (!cg_http_query_has(op->r, name) || !op_query_str(op, name, text, sizeof text, e))
        return false;
    size_t n = strlen(text);
    if (n == 0 || n > 18 || strspn(text, "0123456789") != n)
        return cg_fail(e, CG_INVALID, "%s must be a sequence number, not \"%s\"", name, text);
    *out = strtoull(text, NULL, 10);
    return true;
}

static bool read_path(struct op *op, struct moment *m, struct cg_err *e)
{
    char path[4096] = "";
    if (!op_query_str(op, "path", path, sizeof path, e))
        return false;
    if (!path[0]) {
        if (m->what == CONTENT)
            return cg_fail(e, CG_INVALID, "missing path parameter");
        cg_strlcpy(path, sizeof path, root);
    }
    m->path = path[0] == '/' ? cg_strdup(path) : cg_format("%s/%s", root, path);
    size_t n = strlen(m->path);
    while (n > 1 && m->path[n - 1] == '/')
        m->path[--n] = '\0';
    bool inside = cg_has_prefix(m->path, root) &&
                  (m->path[sizeof root - 1] == '\0' || m->path[sizeof root - 1] == '/');
    return inside || cg_fail(e, CG_INVALID, "the record keeps the files of %s only", root);
}

/* True when the request is about the past: it is answered here then. */
static bool begin(struct op *op, enum what what, const char *from, const char *to)
{
    struct cg_err e = CG_ERR_INIT;
    uint64_t first = 0;
    uint64_t last = UINT64_MAX;
    bool has_from = from && read_seq(op, from, &first, &e);
    bool has_to = e.code == CG_OK && read_seq(op, to, &last, &e);
    if (!has_from && !has_to && e.code == CG_OK)
        return false;
    if (!op_record_kept(op, op->sb))
        return true;
    struct moment *m = cg_alloc(sizeof *m);
    *m = (struct moment){.op = op, .what = what, .from = first, .to = last, .err = CG_ERR_INIT};
    cg_buf_init(&m->out, 64 << 20);
    cg_buf_init(&m->diff, DIFF_MAX);
    cg_jsonw_init(&m->w, &m->out);
    op->own = m;
    op->finish = free_moment;
    if (e.code != CG_OK || !read_path(op, m, &e)) {
        op_fail(op, &e);
        return true;
    }
    op_outlive(op);
    cg_replay_refresh(op->sb, on_fresh, m);
    return true;
}

bool api_files_at(struct op *op)
{
    return begin(op, FILES, NULL, "at_seq");
}

bool api_content_at(struct op *op)
{
    return begin(op, CONTENT, NULL, "at_seq");
}

bool api_diff_between(struct op *op)
{
    return begin(op, DIFF, "from_seq", "to_seq");
}
