/* git/diff: what git says of the working tree, asked inside the guest with hooks and file-system
 * monitors off; three commands one after the other: status, diff, staged diff. */
#include <string.h>

#include "api/api.h"
#include "api/moments.h"

enum { DIFF_MAX = 8 << 20 };

static void ask_next(struct op *op);

static struct cg_buf *buffer_of(struct op *op)
{
    return op->step == 0 ? &op->a : &op->b;
}

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    if (channel == CG_LINK_STDOUT && !cg_buf_add(buffer_of(op), bytes.p, bytes.n))
        op->truncated = true;
    cg_wcall_grant(call, bytes.n);
}

static const char *status_word(const char code[2])
{
    if (code[0] == '?')
        return "untracked";
    if (code[0] == 'D' || code[1] == 'D')
        return "deleted";
    if (code[0] == 'A')
        return "added";
    return "modified";
}

/* "XY path\0", and for renames a second "path\0". */
static void write_files(struct cg_jsonw *w, struct cg_slice s)
{
    cg_jsonw_arr(w);
    while (s.n > 3) {
        size_t len = strnlen(s.p + 3, s.n - 3);
        cg_jsonw_obj(w);
        cg_jsonw_kstrn(w, "path", s.p + 3, len);
        cg_jsonw_kstr(w, "status", status_word(s.p));
        cg_jsonw_obj_end(w);
        bool renamed = s.p[0] == 'R' || s.p[0] == 'C';
        size_t used = CG_MIN(s.n, len + 4);
        s.p += used;
        s.n -= used;
        if (renamed && s.n > 0) {
            size_t old = CG_MIN(s.n, strnlen(s.p, s.n) + 1);
            s.p += old;
            s.n -= old;
        }
    }
    cg_jsonw_arr_end(w);
}

static void reply(struct op *op)
{
    struct cg_jsonw *w = op_json(op);
    size_t first = op->owed; /* where the staged diff begins in b */
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "files");
    write_files(w, cg_buf_slice(&op->a));
    cg_jsonw_kstrn(w, "diff", op->b.p, first);
    cg_jsonw_kstrn(w, "staged_diff", op->b.p ? op->b.p + first : "", op->b.n - first);
    cg_jsonw_kbool(w, "truncated", op->truncated);
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

static void on_close(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    if (error) {
        op_fail(op, error);
        return;
    }
    if (cg_json_int(result, "exit_code", 1) != 0) {
        op_problem(op, 400, "invalid", "%s is not inside a git repository", op->path);
        return;
    }
    if (op->step == 1)
        op->owed = op->b.n;
    op->step++;
    if (op->step == 3)
        reply(op);
    else
        ask_next(op);
}

static void ask_next(struct op *op)
{
    static const char *const common[] = {"git", "-c", "core.fsmonitor=false"};
    static const char *const commands[3][5] = {
        {"status", "--porcelain=v1", "-z", "--untracked-files=all", NULL},
        {"diff", "--no-color", "--no-ext-diff", "--no-textconv", NULL},
        {"diff", "--staged", "--no-color", "--no-ext-diff", NULL},
    };
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 32 * 1024);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "exec");
    cg_jsonw_kbool(&w, "quiet", true);
    cg_jsonw_kstr(&w, "cwd", op->path);
    cg_jsonw_key(&w, "argv");
    cg_jsonw_arr(&w);
    for (size_t i = 0; i < CG_COUNT(common); i++)
        cg_jsonw_str(&w, common[i]);
    for (const char *const *word = commands[op->step]; *word; word++)
        cg_jsonw_str(&w, *word);
    cg_jsonw_arr_end(&w);
    cg_jsonw_key(&w, "env");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "GIT_OPTIONAL_LOCKS", "0");
    /* no hook runs because somebody looks. Not in argv: there it is the mark of an agent that
     * goes round the hooks, and this is not the agent */
    cg_jsonw_kstr(&w, "GIT_CONFIG_COUNT", "1");
    cg_jsonw_kstr(&w, "GIT_CONFIG_KEY_0", "core.hooksPath");
    cg_jsonw_kstr(&w, "GIT_CONFIG_VALUE_0", "/dev/null");
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    op->call = (struct cg_wcall){.on_data = on_data, .on_close = on_close};
    (void)!op_call(op, &b);
}

void api_git_diff(struct op *op)
{
    if (api_diff_between(op))
        return;
    struct cg_err e = CG_ERR_INIT;
    cg_strlcpy(op->path, sizeof op->path, "/workspace");
    if (!op_query_str(op, "path", op->path, sizeof op->path, &e)) {
        op_fail(op, &e);
        return;
    }
    if (!op->path[0])
        cg_strlcpy(op->path, sizeof op->path, "/workspace");
    cg_buf_init(&op->a, DIFF_MAX);
    cg_buf_init(&op->b, DIFF_MAX);
    ask_next(op);
}
