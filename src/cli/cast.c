#include "cli/cast.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonw.h"

enum { ROWS = 24, COLS = 80, EVENTS_MAX = 4000000, LINE_MAX_BYTES = 512 * 1024 };

void cast_finish(struct cast *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->events[i].text);
    free(c->events);
    *c = (struct cast){.n = 0};
}

static struct cast_event *add(struct cast *c, double t, enum cast_kind kind)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 256;
        c->events = cg_realloc(c->events, c->cap * sizeof *c->events);
    }
    c->events[c->n] = (struct cast_event){.at = t, .kind = kind};
    return &c->events[c->n++];
}

static void set_bytes(struct cast_event *e, const struct cg_json *data)
{
    const struct cg_json *text = cg_json_get(data, "text");
    const struct cg_json *coded = cg_json_get(data, "base64");
    if (text && text->type == CG_JSON_STR) {
        e->text = cg_strndup(text->str.p, text->str.n);
        e->n = text->str.n;
    } else if (coded && coded->type == CG_JSON_STR) {
        e->text = cg_alloc(coded->str.n + 1);
        if (sodium_base642bin((unsigned char *)e->text, coded->str.n, coded->str.p, coded->str.n,
                              NULL, &e->n, NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
            e->n = 0;
    }
}

static void take_terminal(struct cast *c, double t, const struct cg_json *data)
{
    const char *dir = cg_json_str(data, "dir");
    if (cg_streq(dir, "resize")) {
        struct cast_event *e = add(c, t, CAST_RESIZE);
        e->rows = (int)CG_MAX(1, CG_MIN(cg_json_int(data, "rows", ROWS), 1000));
        e->cols = (int)CG_MAX(1, CG_MIN(cg_json_int(data, "cols", COLS), 1000));
    } else {
        set_bytes(add(c, t, cg_streq(dir, "in") ? CAST_IN : CAST_OUT), data);
    }
}

/* Programs that the shell started, with how they ended: where one can jump to. */
static void take_process(struct cast *c, double t, const struct cg_json *data)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 200);
    if (cg_streq(cg_json_str(data, "event"), "exec")) {
        const struct cg_json *argv = cg_json_get(data, "argv");
        for (const struct cg_json *a = argv ? argv->child : NULL; a && !b.full; a = a->next)
            cg_buf_addf(&b, "%s%s", b.n ? " " : "", a->type == CG_JSON_STR ? a->str.p : "");
    } else if (cg_streq(cg_json_str(data, "event"), "exit") && cg_json_int(data, "code", 0) != 0) {
        const char *comm = cg_json_str(data, "comm");
        cg_buf_addf(&b, "%s: exit %d", comm ? comm : "?", (int)cg_json_int(data, "code", 0));
    }
    if (b.n == 0)
        return;
    struct cast_event *e = add(c, t, CAST_MARK);
    e->text = cg_strndup(b.p, b.n);
    e->n = b.n;
}

static bool take_page(struct cast *c, const struct cg_json *page, double *first)
{
    const struct cg_json *events = cg_json_get(page, "events");
    for (const struct cg_json *o = events ? events->child : NULL; o; o = o->next) {
        const char *type = cg_json_str(o, "type");
        double t = cg_json_num(o, "t_ms", 0) / 1000;
        int64_t wall = 0;
        const char *stamp = cg_json_str(o, "timestamp");
        if (*first < 0) {
            *first = t;
            c->began = stamp && cg_time_parse(stamp, &wall) ? (double)wall / 1e9 : 0;
        }
        if (c->n >= EVENTS_MAX)
            return false;
        if (cg_streq(type, "terminal"))
            take_terminal(c, t - *first, cg_json_get(o, "data"));
        else if (cg_streq(type, "process"))
            take_process(c, t - *first, cg_json_get(o, "data"));
    }
    return true;
}

bool cast_load(struct cli *c, const char *session, struct cast *out, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *id = cli_escape(session);
    double first = -1;
    int64_t after = 0;
    bool more = true;
    *out = (struct cast){.rows = ROWS, .cols = COLS};
    cg_snprintf(out->title, sizeof out->title, "caged %.100s", session);
    while (more) {
        CG_OWN(cg_drop_free)
        char *path = cg_format(
            "/v1/sessions/%s/replay?limit=1000&type=terminal,process,session&after_seq=%lld", id,
            (long long)after);
        CG_OWN(cg_drop_json)
        struct cg_json *page = cli_json(c, "GET", path, (struct cg_slice){0}, e);
        if (!page)
            return false;
        if (!take_page(out, page, &first))
            return cg_fail(e, CG_TOO_LARGE, "the session has more than %d events", EVENTS_MAX);
        after = cg_json_int(page, "next_seq", 0);
        more = cg_json_bool(page, "has_more", false);
    }
    for (size_t i = 0; i < out->n; i++) {
        if (out->events[i].kind != CAST_RESIZE)
            continue;
        out->rows = out->events[i].rows;
        out->cols = out->events[i].cols;
        break;
    }
    return true;
}

void cast_squeeze(struct cast *c, double idle_max)
{
    double taken = 0;
    double before = 0;
    for (size_t i = 0; i < c->n && idle_max > 0; i++) {
        double at = c->events[i].at;
        if (at - before > idle_max)
            taken += at - before - idle_max;
        before = at;
        c->events[i].at = at - taken;
    }
}

static bool write_event(const struct cast_event *e, FILE *f)
{
    static const char *const codes[] = {"o", "i", "r", "m"};
    char size[24];
    char time[32];
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, LINE_MAX_BYTES);
    cg_jsonw_init(&w, &b);
    cg_jsonw_arr(&w);
    cg_snprintf(time, sizeof time, "%.6f", e->at);
    cg_jsonw_raw(&w, time, strlen(time));
    cg_jsonw_str(&w, codes[e->kind]);
    cg_snprintf(size, sizeof size, "%dx%d", e->cols, e->rows);
    if (e->kind == CAST_RESIZE)
        cg_jsonw_str(&w, size);
    else
        cg_jsonw_strn(&w, e->text ? e->text : "", e->n);
    cg_jsonw_arr_end(&w);
    return fwrite(b.p, 1, b.n, f) == b.n && putc('\n', f) != EOF;
}

bool cast_write(const struct cast *c, FILE *f)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "version", 2);
    cg_jsonw_kint(&w, "width", c->cols);
    cg_jsonw_kint(&w, "height", c->rows);
    cg_jsonw_kint(&w, "timestamp", (int64_t)c->began);
    cg_jsonw_kstr(&w, "title", c->title);
    cg_jsonw_key(&w, "env");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "TERM", "xterm-256color");
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    bool fine = fwrite(b.p, 1, b.n, f) == b.n && putc('\n', f) != EOF;
    for (size_t i = 0; i < c->n && fine; i++)
        fine = write_event(&c->events[i], f);
    return fine && fflush(f) == 0;
}
