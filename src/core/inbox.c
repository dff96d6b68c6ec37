/* What the dashboard shows of notifications: the latest of each account. */
#include <stdlib.h>
#include <string.h>

#include "core/notifying.h"

enum { NOTE_TEXT = 600 };

static const char kind_note[] = "notification";

struct note {
    struct note *next; /* newest first */
    char id[CG_ID_TEXT], account[CG_ID_TEXT], alert[CG_ID_TEXT];
    char title[128], message[NOTE_TEXT];
    bool read;
    int64_t created_wall;
};

static struct {
    struct cg_core *core;
    struct note *notes;
} state;

static void save_note(const struct note *n, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 8192);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "alert", n->alert);
    cg_jsonw_kstr(&w, "title", n->title);
    cg_jsonw_kstr(&w, "message", n->message);
    cg_jsonw_kbool(&w, "read", n->read);
    cg_jsonw_kint(&w, "created", n->created_wall);
    cg_jsonw_obj_end(&w);
    const struct cg_store_item item = {kind_note, n->id, n->account, cg_buf_cstr(&b)};
    cg_store_put_item(state.core->store, &item, done, ctx);
}

static void load_note(void *ctx, const struct cg_store_item *i)
{
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(i->doc), NULL, NULL);
    struct note *n = cg_alloc(sizeof *n);
    const char *alert = cg_json_str(j, "alert");
    const char *title = cg_json_str(j, "title");
    const char *message = cg_json_str(j, "message");
    (void)ctx;
    (void)cg_strlcpy(n->id, sizeof n->id, i->id);
    (void)cg_strlcpy(n->account, sizeof n->account, i->account);
    (void)cg_strlcpy(n->alert, sizeof n->alert, alert ? alert : "");
    (void)cg_strlcpy(n->title, sizeof n->title, title ? title : "");
    (void)cg_strlcpy(n->message, sizeof n->message, message ? message : "");
    n->read = cg_json_bool(j, "read", false);
    n->created_wall = cg_json_int(j, "created", 0);
    n->next = state.notes;
    state.notes = n;
}

static void note_room(const char *account)
{
    unsigned n = 0;
    struct note **last = NULL;
    for (struct note **at = &state.notes; *at; at = &(*at)->next) {
        if (!cg_streq((*at)->account, account))
            continue;
        n++;
        last = at;
    }
    if (n < CG_NOTIFICATIONS_MAX || !last)
        return;
    struct note *gone = *last;
    *last = gone->next;
    cg_store_delete_item(state.core->store, kind_note, gone->id, NULL, NULL);
    free(gone);
}

void cg_inbox_add(const char *account, const char *alert, const char *title, const char *message)
{
    note_room(account);
    struct note *n = cg_alloc(sizeof *n);
    cg_id_make("ntf", n->id);
    (void)cg_strlcpy(n->account, sizeof n->account, account);
    (void)cg_strlcpy(n->alert, sizeof n->alert, alert);
    (void)cg_strlcpy(n->title, sizeof n->title, title);
    (void)cg_strlcpy(n->message, sizeof n->message, message);
    n->created_wall = cg_wall_ns();
    n->next = state.notes;
    state.notes = n;
    save_note(n, NULL, NULL);
}

unsigned cg_notifications_unread(struct cg_core *c, const char *account)
{
    unsigned n = 0;
    (void)c;
    for (const struct note *at = state.notes; at; at = at->next)
        n += !at->read && cg_streq(at->account, account);
    return n;
}

static void write_note(const struct note *n, struct cg_jsonw *w)
{
    char time[CG_TIME_TEXT];
    cg_time_format(n->created_wall, time);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", n->id);
    cg_jsonw_kstr(w, "account_id", n->account);
    cg_jsonw_kstr(w, "alert_id", n->alert[0] ? n->alert : NULL);
    cg_jsonw_kstr(w, "channel", "in_app");
    cg_jsonw_kstr(w, "title", n->title);
    cg_jsonw_kstr(w, "message", n->message);
    cg_jsonw_kbool(w, "read", n->read);
    cg_jsonw_kstr(w, "created_at", time);
    cg_jsonw_obj_end(w);
}

void cg_notifications_write(struct cg_core *c, const char *account, bool unread, int64_t limit,
                            struct cg_jsonw *w)
{
    int64_t written = 0;
    cg_jsonw_obj(w);
    cg_jsonw_key(w, "notifications");
    cg_jsonw_arr(w);
    for (const struct note *n = state.notes; n && written < limit; n = n->next) {
        if (!cg_streq(n->account, account) || (unread && n->read))
            continue;
        write_note(n, w);
        written++;
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_kuint(w, "unread_count", cg_notifications_unread(c, account));
    cg_jsonw_obj_end(w);
}

bool cg_notification_read(struct cg_core *c, const char *account, const char *id,
                          cg_store_done *done, void *ctx, struct cg_err *e)
{
    struct note *n = state.notes;
    (void)c;
    while (n && (!cg_streq(n->id, id) || !cg_streq(n->account, account)))
        n = n->next;
    if (!n)
        return cg_fail(e, CG_NOT_FOUND, "there is no notification %.64s", id);
    n->read = true;
    save_note(n, done, ctx);
    return true;
}

/* The store works in order: once the last one is durable, all are. */
void cg_notifications_read_all(struct cg_core *c, const char *account, cg_store_done *done,
                               void *ctx)
{
    for (struct note *n = state.notes; n; n = n->next) {
        if (n->read || !cg_streq(n->account, account))
            continue;
        n->read = true;
        save_note(n, NULL, NULL);
    }
    cg_store_delete_item(c->store, kind_note, "none", done, ctx);
}

/* --- life --- */

bool cg_inbox_start(struct cg_core *c, struct cg_err *e)
{
    state.core = c;
    return cg_store_each_item(c->store, kind_note, load_note, c, e);
}

void cg_inbox_finish(void)
{
    for (struct note *n = state.notes, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    state.core = NULL;
    state.notes = NULL;
}
