/* From what the backend found to the result of a tool: text for the model and, where the version of
 * the protocol has it, the same as structured content. */
#include <stdlib.h>
#include <string.h>

#include "mcp/inner.h"

enum { ENTRIES_MAX = 10000 };

static void entry_begin(struct cg_mcp_call *c)
{
    cg_buf_adds(&c->entries, c->has_entry ? "," : "");
    c->has_entry = true;
}

/* {"a": first, "b": second} into the structured list. */
static void add_pair(struct cg_mcp_call *c, const char *a, struct cg_slice first, const char *b,
                     struct cg_slice second)
{
    struct cg_jsonw w;
    entry_begin(c);
    cg_jsonw_init(&w, &c->entries);
    cg_jsonw_obj(&w);
    cg_jsonw_kstrn(&w, a, first.p, first.n);
    cg_jsonw_kstrn(&w, b, second.p, second.n);
    cg_jsonw_obj_end(&w);
}

void mcp_answer(struct cg_mcp_call *c, bool failed)
{
    struct cg_mcp *m = c->m;
    struct cg_jsonw w;
    struct cg_buf b;
    if (!m->gone) {
        mcp_result_begin(&w, &b, c->id, c->era);
        cg_jsonw_key(&w, "content");
        cg_jsonw_arr(&w);
        cg_jsonw_obj(&w);
        cg_jsonw_kstr(&w, "type", "text");
        cg_jsonw_kstrn(&w, "text", c->text.p ? c->text.p : "", c->text.n);
        cg_jsonw_obj_end(&w);
        cg_jsonw_arr_end(&w);
        cg_jsonw_kbool(&w, "isError", failed);
        if (c->era.structured && c->tool->output && !failed && !c->entries.full) {
            cg_jsonw_key(&w, "structuredContent");
            cg_jsonw_obj(&w);
            cg_jsonw_key(&w, "entries");
            cg_jsonw_arr(&w);
            cg_jsonw_raw(&w, c->entries.p ? c->entries.p : "", c->entries.n);
            cg_jsonw_arr_end(&w);
            cg_jsonw_obj_end(&w);
        }
        mcp_result_end(m, &w, &b, c->id);
    }
    cg_buf_finish(&c->text);
    cg_buf_finish(&c->entries);
    free(c->id);
    free(c);
    if (--m->calls == 0 && m->gone)
        free(m);
}

void cg_mcp_failed(struct cg_mcp_call *c, const struct cg_err *e)
{
    cg_buf_clear(&c->text);
    cg_buf_adds(&c->text, e->text);
    mcp_answer(c, true);
}

void cg_mcp_entry(struct cg_mcp_call *c, const char *name, bool folder, int64_t size)
{
    struct cg_jsonw w;
    cg_buf_addf(&c->text, "%s%10lld %s\n", folder ? "d " : "  ", (long long)size, name);
    entry_begin(c);
    cg_jsonw_init(&w, &c->entries);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "name", name);
    cg_jsonw_kstr(&w, "type", folder ? "directory" : "file");
    cg_jsonw_kint(&w, "size", size);
    cg_jsonw_obj_end(&w);
}

void cg_mcp_done(struct cg_mcp_call *c, struct cg_slice bytes)
{
    if (c->tool->shape == SHAPE_DONE)
        cg_buf_adds(&c->text, "done");
    else if (c->tool->shape == SHAPE_LIST && !c->has_entry)
        cg_buf_adds(&c->text, "the folder is empty");
    else
        cg_buf_add(&c->text, bytes.p, bytes.n);
    mcp_answer(c, false);
}

/* --- what commands print --- */

/* The next line of *s, without its end; false behind the last. */
static bool next_line(struct cg_slice *s, struct cg_slice *line)
{
    if (s->n == 0)
        return false;
    const char *end = memchr(s->p, '\n', s->n);
    line->p = s->p;
    line->n = end ? (size_t)(end - s->p) : s->n;
    size_t used = CG_MIN(line->n + 1, s->n);
    s->p += used;
    s->n -= used;
    return true;
}

static struct cg_slice skip(struct cg_slice s, size_t n)
{
    n = CG_MIN(n, s.n);
    return (struct cg_slice){s.p + n, s.n - n};
}

static void take_found(struct cg_mcp_call *c, struct cg_slice out)
{
    struct cg_slice line;
    unsigned n = 0;
    while (n < ENTRIES_MAX && next_line(&out, &line)) {
        bool dot = line.n > 2 && line.p[0] == '.' && line.p[1] == '/';
        line = skip(line, dot ? 2 : 0);
        cg_buf_add(&c->text, line.p, line.n);
        cg_buf_addc(&c->text, '\n');
        n++;
    }
    if (n == 0)
        cg_buf_adds(&c->text, "no matches found");
}

static void take_lines(struct cg_mcp_call *c, struct cg_slice out)
{
    struct cg_slice line;
    cg_buf_add(&c->text, out.p, out.n);
    while (next_line(&out, &line)) {
        const char *space = memchr(line.p, ' ', line.n);
        size_t cut = c->tool->shape == SHAPE_STATUS ? 2 : space ? (size_t)(space - line.p) : line.n;
        cut = CG_MIN(cut, line.n);
        struct cg_slice head = {line.p, cut};
        bool status = c->tool->shape == SHAPE_STATUS;
        add_pair(c, status ? "status" : "commit", head, status ? "path" : "subject",
                 skip(line, cut + 1));
    }
}

static void take_outputs(struct cg_mcp_call *c, const struct cg_mcp_ran *r)
{
    cg_buf_add(&c->text, r->out.p, r->out.n);
    if (r->err.n > 0) {
        bool open = c->text.n > 0 && c->text.p[c->text.n - 1] != '\n';
        cg_buf_addf(&c->text, "%sSTDERR:\n", open ? "\n" : "");
        cg_buf_add(&c->text, r->err.p, r->err.n);
    }
    if (r->truncated)
        cg_buf_adds(&c->text, "\n(output was cut)");
    if (r->timed_out)
        cg_buf_adds(&c->text, "\nit was killed: it ran longer than its timeout");
    else if (r->exit_code != 0)
        cg_buf_addf(&c->text, "\nexit code %d", r->exit_code);
}

void cg_mcp_ran(struct cg_mcp_call *c, const struct cg_mcp_ran *r)
{
    bool failed = r->exit_code != 0 || r->timed_out;
    enum mcp_shape shape = c->tool->shape;
    if (failed || shape == SHAPE_EXEC)
        take_outputs(c, r);
    else if (shape == SHAPE_SEARCH)
        take_found(c, r->out);
    else if (shape == SHAPE_STATUS || shape == SHAPE_LOG)
        take_lines(c, r->out);
    else
        cg_buf_add(&c->text, r->out.p, r->out.n);
    mcp_answer(c, failed);
}
