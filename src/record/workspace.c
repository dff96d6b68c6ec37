#include "record/workspace.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "record/query.h"

static const char home[] = "/workspace/";

void cg_workspace_finish(struct cg_workspace *t)
{
    size_t at = 0;
    const char *path;
    void *value;
    while (cg_map_next(&t->files, &at, &path, &value))
        free(value);
    cg_map_finish(&t->files);
}

/* The part below /workspace; NULL: it is elsewhere. */
static const char *below(const char *path)
{
    return path && cg_has_prefix(path, home) && path[sizeof home - 1] ? path + sizeof home - 1
                                                                      : NULL;
}

static struct cg_workspace_file *get(struct cg_workspace *t, const char *path,
                                     const struct cg_record_line *line)
{
    struct cg_workspace_file *f = cg_map_get(&t->files, path);
    if (!f && t->files.count >= CG_WORKSPACE_FILES_MAX) {
        t->cut = true;
        return NULL;
    }
    if (!f) {
        f = cg_alloc(sizeof *f);
        f->size = -1;
        cg_map_put(&t->files, path, f);
    }
    f->t = line->t;
    f->seq = line->seq;
    return f;
}

static void drop(struct cg_workspace *t, const char *path)
{
    free(cg_map_remove(&t->files, path));
}

/* Every path below a folder: removed, or moved to another place. */
static void each_below(struct cg_workspace *t, const char *folder, const char *to)
{
    size_t n = strlen(folder);
    size_t count = 0;
    CG_OWN(cg_drop_free) char **paths = cg_alloc_array(t->files.count + 1, sizeof *paths);
    size_t at = 0;
    const char *path;
    void *value;
    while (cg_map_next(&t->files, &at, &path, &value))
        if (strncmp(path, folder, n) == 0 && path[n] == '/')
            paths[count++] = cg_strdup(path);
    for (size_t i = 0; i < count; i++) {
        struct cg_workspace_file *f = cg_map_remove(&t->files, paths[i]);
        CG_OWN(cg_drop_free) char *moved = to ? cg_format("%s%s", to, paths[i] + n) : NULL;
        if (to)
            free(cg_map_put(&t->files, moved, f));
        else
            free(f);
        free(paths[i]);
    }
}

static void move(struct cg_workspace *t, const char *from, const char *to,
                 const struct cg_record_line *line)
{
    struct cg_workspace_file *f = from ? cg_map_remove(&t->files, from) : NULL;
    if (!to) { /* out of the workspace */
        if (from && (!f || f->folder))
            each_below(t, from, NULL);
        free(f);
        return;
    }
    if (f) {
        f->t = line->t;
        f->seq = line->seq;
        free(cg_map_put(&t->files, to, f));
    } else {
        (void)get(t, to, line);
    }
    if (from && (!f || f->folder))
        each_below(t, from, to);
}

static void take_op(struct cg_workspace *t, const struct cg_json *o,
                    const struct cg_record_line *line)
{
    const char *op = cg_json_str(o, "op");
    const char *path = below(cg_json_str(o, "path"));
    const char *to = below(cg_json_str(o, "to"));
    if (cg_json_get(o, "error"))
        return;
    if (cg_streq(op, "rename")) {
        move(t, path, to, line);
        return;
    }
    if (!path)
        return;
    if (cg_streq(op, "delete") || cg_streq(op, "rmdir")) {
        const struct cg_workspace_file *f = cg_map_get(&t->files, path);
        if (!f || f->folder) /* the API deletes folders whole */
            each_below(t, path, NULL);
        drop(t, path);
    } else if (cg_streq(op, "mkdir") || cg_streq(op, "create") || cg_streq(op, "write") ||
               cg_streq(op, "truncate")) {
        struct cg_workspace_file *f = get(t, path, line);
        if (f)
            f->folder = cg_streq(op, "mkdir");
        if (f && cg_json_get(o, "size"))
            f->size = cg_json_int(o, "size", -1);
    } else if (cg_streq(op, "link") && to) {
        const struct cg_workspace_file *of = cg_map_get(&t->files, path);
        struct cg_workspace_file copy = of ? *of : (struct cg_workspace_file){.size = -1};
        struct cg_workspace_file *f = get(t, to, line);
        if (f)
            *f = copy;
    }
}

static void take_content(struct cg_workspace *t, const struct cg_json *o,
                         const struct cg_record_line *line)
{
    const char *path = below(cg_json_str(o, "path"));
    const char *blob = cg_json_str(o, "blob");
    const char *skipped = cg_json_str(o, "skipped");
    struct cg_workspace_file *f = path ? get(t, path, line) : NULL;
    if (!f)
        return;
    f->folder = false;
    f->blob[0] = f->skipped[0] = '\0';
    f->size = cg_json_int(o, "size", f->size);
    if (blob && cg_blob_name_valid(blob))
        cg_strlcpy(f->blob, sizeof f->blob, blob);
    (void)cg_strlcpy(f->skipped, sizeof f->skipped, skipped ? skipped : "");
}

struct fold {
    struct cg_workspace *tree;
    uint64_t until;
    bool over;
};

static bool take(void *ctx, const struct cg_record_line *line)
{
    struct fold *f = ctx;
    f->over = line->seq > f->until;
    if (f->over || cg_slice_eq(line->src, "claim"))
        return !f->over;
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(line->data, NULL, NULL);
    if (o && cg_slice_eq(line->type, "content"))
        take_content(f->tree, o, line);
    else if (o)
        take_op(f->tree, o, line);
    return true;
}

bool cg_workspace_at(const struct cg_index *ix, int record_dir, uint64_t seq,
                     struct cg_workspace *out, struct cg_err *e)
{
    struct fold f = {.tree = out, .until = seq};
    struct cg_query q = {.limit = UINT32_MAX,
                         .session = CG_TALLY_NONE,
                         .types = UINT32_C(1) << CG_REC_FILE_OP | UINT32_C(1) << CG_REC_CONTENT};
    struct cg_query_end end = {.more = true};
    cg_map_init(&out->files);
    out->cut = false;
    while (end.more && !f.over && q.after < seq) {
        if (!cg_query_run(ix, record_dir, &q, take, &f, &end, e))
            return false;
        q.after = end.next;
    }
    return true;
}
