#include "warden/contents.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "warden/inner.h"

enum {
    PENDING_MAX = 4096,
    READS_MAX = 2,     /* at once */
    READS_SECOND = 100 /* so many a second: a storm of writes must not become one of reads */
};

#define SETTLE_NS (INT64_C(200) * 1000000) /* behind the last write of a file */
#define HOLD_NS (INT64_C(2000) * 1000000)  /* behind the first */
#define SECOND_NS (INT64_C(1000) * 1000000)

struct pending {
    struct pending *next; /* in the order of their first write */
    char *path;
    char session[SESSION_TEXT];
    int64_t first, last;
};

struct reading {
    struct down down;
    struct contents *c;
    bool busy;
    struct pending *of;
    struct cg_buf bytes;
};

struct contents {
    struct warden *w;
    struct cg_map by_path; /* struct pending, waiting ones */
    struct pending *head, *tail;
    struct reading reads[READS_MAX];
    int64_t second;
    unsigned this_second;
    uint64_t dropped; /* not yet told */
};

static const char workspace[] = "/workspace/";

/* Folders whose files are made by tools, and files that editors make for a moment. */
static bool left_out(const char *path)
{
    static const char *const folders[] = {
        ".git",        ".cache",        "node_modules", "__pycache__",     ".venv",
        "venv",        "site-packages", "target",       ".mypy_cache",     ".pytest_cache",
        ".ruff_cache", ".next",         ".gradle",      ".pnpm-store",     ".npm",
        ".yarn",       ".tox",          ".terraform",   "bower_components"};
    static const char *const endings[] = {"~", ".swp", ".swx", ".swo", ".tmp"};
    for (size_t i = 0; i < CG_COUNT(endings); i++)
        if (cg_has_suffix(path, endings[i]))
            return true;
    for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/') {
        size_t n = strcspn(p, "/");
        for (size_t i = 0; i < CG_COUNT(folders) && p[n]; i++)
            if (strlen(folders[i]) == n && memcmp(p, folders[i], n) == 0)
                return true;
    }
    return false;
}

struct contents *contents_create(struct warden *w)
{
    struct contents *c = cg_alloc(sizeof *c);
    c->w = w;
    cg_map_init(&c->by_path);
    for (size_t i = 0; i < READS_MAX; i++) {
        c->reads[i].c = c;
        cg_buf_init(&c->reads[i].bytes, CONTENT_MAX + 1);
    }
    return c;
}

static void free_pending(struct pending *p)
{
    free(p->path);
    free(p);
}

void contents_close(struct contents *c)
{
    while (c->head) {
        struct pending *p = c->head;
        c->head = p->next;
        c->dropped++;
        free_pending(p);
    }
    c->tail = NULL;
    cg_map_finish(&c->by_path);
    cg_map_init(&c->by_path);
    if (c->dropped == 0)
        return;
    struct cg_jsonw *j = cg_record_begin(c->w->record, CG_REC_GAP, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "reason", "contents");
    cg_jsonw_kuint(j, "files", c->dropped);
    cg_record_end(c->w->record);
    c->dropped = 0;
}

void contents_destroy(struct contents *c)
{
    if (!c)
        return;
    while (c->head) {
        struct pending *p = c->head;
        c->head = p->next;
        free_pending(p);
    }
    cg_map_finish(&c->by_path);
    for (size_t i = 0; i < READS_MAX; i++) {
        if (c->reads[i].of)
            free_pending(c->reads[i].of);
        cg_buf_finish(&c->reads[i].bytes);
    }
    free(c);
}

/* --- what waits --- */

bool contents_takes(const char *path)
{
    return cg_has_prefix(path, workspace) && !left_out(path + sizeof workspace - 1);
}

void contents_untold(struct contents *c, uint64_t files)
{
    c->dropped += files;
}

void contents_note(struct contents *c, const char *op, const char *path, const char *to,
                   const char *session)
{
    /* what is moved over another is how editors and tools write */
    const char *name = cg_streq(op, "write") ? path : cg_streq(op, "rename") ? to : NULL;
    if (!name || !contents_takes(name))
        return;
    int64_t now = cg_mono_ns();
    struct pending *p = cg_map_get(&c->by_path, name);
    if (!p && c->by_path.count >= PENDING_MAX) {
        c->dropped++;
        return;
    }
    if (!p) {
        p = cg_alloc(sizeof *p);
        p->path = cg_strdup(name);
        p->first = now;
        cg_map_put(&c->by_path, name, p);
        if (c->tail)
            c->tail->next = p;
        else
            c->head = p;
        c->tail = p;
    }
    p->last = now;
    cg_strlcpy(p->session, sizeof p->session, session);
    warden_want_tick(c->w);
}

static struct pending *take_due(struct contents *c, int64_t now)
{
    struct pending *before = NULL;
    for (struct pending *p = c->head; p; before = p, p = p->next) {
        if (now - p->last < SETTLE_NS && now - p->first < HOLD_NS)
            continue;
        if (before)
            before->next = p->next;
        else
            c->head = p->next;
        c->tail = c->tail == p ? before : c->tail;
        cg_map_remove(&c->by_path, p->path);
        p->next = NULL;
        return p;
    }
    return NULL;
}

/* --- reading --- */

/* Valid UTF-8 without NUL. */
static bool is_text(struct cg_slice s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    for (size_t i = 0; i < s.n;) {
        size_t n = p[i] == 0     ? 0
                   : p[i] < 0x80 ? 1
                   : p[i] < 0xc2 ? 0
                   : p[i] < 0xe0 ? 2
                   : p[i] < 0xf0 ? 3
                   : p[i] < 0xf5 ? 4
                                 : 0;
        if (n == 0 || n > s.n - i)
            return false;
        for (size_t k = 1; k < n; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        i += n;
    }
    return true;
}

static void tell(struct reading *r)
{
    struct cg_slice bytes = cg_buf_slice(&r->bytes);
    char name[CG_BLOB_NAME];
    struct cg_err e = CG_ERR_INIT;
    const char *skipped = bytes.n > CONTENT_MAX ? "large" : !is_text(bytes) ? "binary" : NULL;
    if (!skipped && !cg_record_put_blob(r->c->w->record, bytes, name, &e))
        skipped = "quota";
    struct cg_jsonw *j =
        cg_record_begin(r->c->w->record, CG_REC_CONTENT, CG_SRC_GUEST, r->of->session);
    cg_jsonw_kstr(j, "path", r->of->path);
    if (skipped)
        cg_jsonw_kstr(j, "skipped", skipped);
    else
        cg_jsonw_kstr(j, "blob", name);
    if (bytes.n <= CONTENT_MAX)
        cg_jsonw_kuint(j, "size", bytes.n);
    cg_record_end(r->c->w->record);
}

static void on_data(struct down *d, unsigned channel, struct cg_slice data)
{
    struct reading *r = CG_CONTAINER(d, struct reading, down);
    (void)channel;
    size_t room = CONTENT_MAX + 1 - r->bytes.n;
    cg_buf_add(&r->bytes, data.p, CG_MIN(data.n, room));
    cg_link_grant(d->s, data.n);
    guest_kick(r->c->w);
}

static void on_close(struct down *d, const struct cg_json *result)
{
    struct reading *r = CG_CONTAINER(d, struct reading, down);
    /* one that is gone again has no content; its end is a line of its own */
    if (result && !cg_json_get(result, "error"))
        tell(r);
    free_pending(CG_MOVE(r->of));
    cg_buf_finish(&r->bytes);
    cg_buf_init(&r->bytes, CONTENT_MAX + 1);
    r->busy = false;
}

static const struct down_ops ops = {.on_data = on_data, .on_close = on_close};

static void start(struct reading *r, struct pending *p)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 32 * 1024);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "kind", "fs.read");
    cg_jsonw_kstr(&j, "path", p->path);
    cg_jsonw_kstr(&j, "beneath", "/workspace");
    cg_jsonw_kint(&j, "limit", CONTENT_MAX + 1);
    cg_jsonw_obj_end(&j);
    if (b.full || !guest_open(r->c->w, &r->down, &ops, cg_buf_slice(&b), &e)) {
        r->c->dropped++;
        free_pending(p);
        return;
    }
    r->of = p;
    r->busy = true;
}

void contents_tick(struct contents *c, int64_t now)
{
    struct warden *w = c->w;
    if (now - c->second >= SECOND_NS) {
        c->second = now;
        c->this_second = 0;
    }
    if (w->state != W_RUNNING || !w->guest.ready || w->freeze || cg_record_busy(w->record))
        return;
    for (size_t i = 0; i < READS_MAX; i++) {
        while (!c->reads[i].busy && c->this_second < READS_SECOND) {
            struct pending *p = take_due(c, now);
            if (!p)
                return;
            c->this_second++;
            start(&c->reads[i], p);
        }
    }
}

bool contents_want_tick(const struct contents *c)
{
    return c->head && c->w->state == W_RUNNING;
}
