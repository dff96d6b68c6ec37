/* The price book of a server: the one that is installed (or the operator's), and over it
 * <state>/prices.json with what was set or imported here. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "core/models.h"
#include "core/wclient.h"

enum { BOOK_MAX = 8 << 20 };

static char *book_path(const struct cg_core *c)
{
    return c->options.prices_file
               ? cg_strdup(c->options.prices_file)
               : cg_format("%s/../../share/caged/data/prices.json", c->libexec_dir);
}

static bool read_both(const struct cg_core *c, char **book, char **own, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *from = book_path(c);
    CG_OWN(cg_drop_free) char *mine = cg_format("%s/prices.json", c->options.state_dir);
    *own = NULL;
    if (!cg_fs_slurp(from, BOOK_MAX, book, NULL, e))
        return cg_wrap(e, "the price book");
    return !cg_fs_exists(mine) || cg_fs_slurp(mine, BOOK_MAX, own, NULL, e);
}

bool cg_prices_place(const struct cg_sandbox *sb, const char *dir, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *to = cg_format("%s/prices.json", dir);
    CG_OWN(cg_drop_free) char *to_own = cg_format("%s/prices.own.json", dir);
    CG_OWN(cg_drop_free) char *book = NULL;
    CG_OWN(cg_drop_free) char *own = NULL;
    if (!read_both(sb->core, &book, &own, e) || !cg_fs_place(to, book, strlen(book), 0644, e))
        return false;
    if (own)
        return cg_fs_place(to_own, own, strlen(own), 0644, e);
    unlink(to_own); /* of a time when there were some */
    return true;
}

static void write_member(const struct cg_json *book, const char *key, struct cg_jsonw *w)
{
    const struct cg_json *v = cg_json_get(book, key);
    if (!v)
        return;
    cg_jsonw_key(w, key);
    cg_jsonw_value(w, v);
}

bool cg_prices_show(const struct cg_core *c, const char *provider, const char *model, bool all,
                    struct cg_jsonw *w, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *book = NULL;
    CG_OWN(cg_drop_free) char *own = NULL;
    const struct cg_json_limits limits = {BOOK_MAX, 32, 1 << 20};
    if (!read_both(c, &book, &own, e))
        return false;
    struct cg_slice none = {"", 0};
    CG_OWN(cg_drop_prices)
    struct cg_prices *prices =
        cg_prices_create(cg_slice_of(book), own ? cg_slice_of(own) : none, e);
    CG_OWN(cg_drop_json) struct cg_json *root = cg_json_parse(cg_slice_of(book), &limits, e);
    if (!prices || !root)
        return false;
    int64_t now = cg_wall_ns();
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "version", cg_prices_version(prices));
    write_member(root, "unit", w);
    write_member(root, "generated", w);
    write_member(root, "attribution", w);
    cg_jsonw_key(w, "models");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < cg_prices_count(prices); i++) {
        const struct cg_price *p = cg_prices_at(prices, i);
        bool wanted = (!provider || cg_streq(p->provider, provider)) &&
                      (!model || cg_streq(p->model, model)) && (all || p->to_ns > now);
        if (wanted)
            cg_price_write(p, w);
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
    return true;
}

/* --- changes --- */

static void on_told(struct cg_wcall *call, const struct cg_json *result, const struct cg_err *error)
{
    (void)result;
    if (error)
        cg_log(CG_LOG_WARN, CG_EVENT("prices.not_taken"), CG_E(error));
    free(call);
}

static void tell(struct cg_sandbox *sb)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_dir(sb);
    struct cg_err e = CG_ERR_INIT;
    struct cg_wcall *call = cg_alloc(sizeof *call);
    call->on_close = on_told;
    if (cg_prices_place(sb, dir, &e) &&
        cg_wcall_open(sb->warden, call, cg_slice_of("{\"kind\":\"prices\"}"), &e))
        return;
    cg_log(CG_LOG_WARN, CG_EVENT("prices.not_told"), CG_S("id", sb->id), CG_E(&e));
    free(call);
}

/* Checked as a book before it is kept: a server must never start on prices that it cannot read. */
static bool keep(struct cg_core *c, const char *book, struct cg_slice text, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/prices.json", c->options.state_dir);
    CG_OWN(cg_drop_prices) struct cg_prices *b = cg_prices_create(cg_slice_of(book), text, e);
    if (!b || !cg_fs_replace(path, text.p, text.n, 0644, e))
        return false;
    cg_log(CG_LOG_INFO, CG_EVENT("prices.changed"), CG_S("version", cg_prices_version(b)));
    for (struct cg_sandbox *sb = c->first; sb; sb = sb->next)
        if (sb->warden && !sb->destroying && sb->status == CG_STATUS_RUNNING)
            tell(sb);
    return true;
}

bool cg_prices_change(struct cg_core *c, const struct cg_price_set *set, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *book = NULL;
    CG_OWN(cg_drop_free) char *own = NULL;
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, BOOK_MAX);
    return read_both(c, &book, &own, e) &&
           cg_prices_set(set, cg_slice_of(own ? own : ""), &out, e) &&
           keep(c, book, cg_buf_slice(&out), e);
}

bool cg_prices_take(struct cg_core *c, struct cg_slice text, const char *name, size_t *count,
                    struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *book = NULL;
    CG_OWN(cg_drop_free) char *own = NULL;
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, BOOK_MAX);
    return read_both(c, &book, &own, e) &&
           cg_prices_import(text, name, cg_slice_of(own ? own : ""), &out, count, e) &&
           keep(c, book, cg_buf_slice(&out), e);
}
