/* One pass over all segments. A finding names the segment and the sequence number; where a seal's
 * root differs, the leaves beside it (unsigned: they only help to find the place) say which line.
 */
#include "record/verify.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/map.h"
#include "record/blob.h"
#include "record/scan.h"

enum { LEAF_CHECK = 4, LEAVES_MAX = 64 << 20, BLOBS_MAX = 1 << 20 };

struct state {
    const struct cg_verify_options *o;
    struct cg_verify_result *r;
    int dir;
    uint32_t segment, last;
    uint64_t next_seq;
    int64_t last_t;
    struct cg_map blobs; /* name: THINNED or NAMED */

    /* the segment */
    struct cg_seal seal; /* segment 0: none */
    bool sealed_fits, root_checked;
    bool want_hash; /* its own, as no seal says it */
    crypto_generichash_state hash;
    struct cg_tree tree;
    struct cg_buf leaves;
    uint64_t first_odd; /* sequence number of the first line that differs from its leaf; 0: none */
    uint64_t odd_line;
    uint64_t last_line_seq; /* in this segment */
    uint64_t behind;        /* lines behind a seal that allows none */

    /* the one before */
    bool has_prev;
    struct cg_digest prev_seal, prev_hash;
    char epoch[CG_TIME_TEXT];
};

static char thinned_mark, named_mark;

static void tell(struct state *s, const char *fmt, ...) CG_PRINTF(2, 3);
static void tell(struct state *s, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (s->r->findings++ < CG_VERIFY_TOLD_MAX && s->o->told)
        s->o->told(s->o->ctx, text);
}

#define SEQ(n) ((unsigned long long)(n))

/* --- blobs --- */

static void note_blob(struct state *s, const char *name, void *mark)
{
    if (cg_map_get(&s->blobs, name) == &thinned_mark || s->blobs.count >= BLOBS_MAX)
        return;
    cg_map_put(&s->blobs, name, mark);
}

static void note_names(struct state *s, struct cg_slice data)
{
    static const char key[] = "\"blob\":\"";
    const char *end = data.p + data.n;
    const char *p = data.p;
    char name[CG_BLOB_NAME];
    while ((p = memmem(p, (size_t)(end - p), key, sizeof key - 1)) != NULL) {
        p += sizeof key - 1;
        if ((size_t)(end - p) < CG_BLOB_NAME)
            return;
        memcpy(name, p, CG_BLOB_NAME - 1);
        name[CG_BLOB_NAME - 1] = '\0';
        if (cg_blob_name_valid(name) && p[CG_BLOB_NAME - 1] == '"')
            note_blob(s, name, &named_mark);
    }
}

static void note_thinned(struct state *s, struct cg_slice data)
{
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(data, NULL, NULL);
    const struct cg_json *list = cg_json_get(o, "blobs");
    if (!cg_streq(cg_json_str(o, "reason"), "thinned") || !list)
        return;
    for (const struct cg_json *b = list->child; b; b = b->next)
        if (b->type == CG_JSON_STR && cg_blob_name_valid(b->str.p))
            note_blob(s, b->str.p, &thinned_mark);
}

static bool blob_whole(int dir, const char *name, struct cg_err *e)
{
    enum { CHUNK = 64 * 1024 };
    struct cg_blob_reader *r = cg_blob_open(dir, name, e);
    if (!r)
        return false;
    CG_OWN(cg_drop_free) char *buf = cg_alloc(CHUNK);
    size_t n = 0;
    uint64_t total = 0;
    bool fine;
    do {
        fine = cg_blob_read(r, buf, CHUNK, &n, e);
        total += n;
        if (fine && total > CG_BLOB_MAX)
            fine = cg_fail(e, CG_INVALID, "blob %s is longer than any may be", name);
    } while (fine && n > 0);
    cg_blob_close(r);
    return fine;
}

static void check_blobs(struct state *s)
{
    size_t at = 0;
    const char *name;
    void *mark;
    while (cg_map_next(&s->blobs, &at, &name, &mark)) {
        struct cg_err e = CG_ERR_INIT;
        bool whole = blob_whole(s->dir, name, &e);
        if (whole)
            s->r->blobs++;
        else if (mark == &thinned_mark && e.code == CG_NOT_FOUND)
            s->r->thinned++;
        else if (e.code == CG_NOT_FOUND)
            tell(s, "blob %s is missing, and no gap says that it was thinned", name);
        else
            tell(s, "%s", e.text);
    }
}

/* --- lines --- */

static void check_order(struct state *s, const struct cg_record_line *l)
{
    if (l->seq > s->next_seq)
        tell(s, "segment %u: seq %llu to %llu are missing", (unsigned)s->segment, SEQ(s->next_seq),
             SEQ(l->seq - 1));
    else if (l->seq < s->next_seq)
        tell(s, "segment %u: seq %llu stands behind seq %llu: repeated or out of order",
             (unsigned)s->segment, SEQ(l->seq), SEQ(s->next_seq - 1));
    else if (l->t < s->last_t)
        tell(s, "segment %u: the time of seq %llu goes back", (unsigned)s->segment, SEQ(l->seq));
    s->next_seq = CG_MAX(s->next_seq, l->seq + 1);
    s->last_t = CG_MAX(s->last_t, l->t);
    s->last_line_seq = l->seq;
}

static void look_inside(struct state *s, const struct cg_record_line *l)
{
    struct cg_digest gone;
    s->r->events++;
    if (cg_digest_redacted(l->data, &gone))
        s->r->redacted++;
    note_names(s, l->data);
    if (cg_slice_eq(l->type, "gap"))
        note_thinned(s, l->data);
}

/* Is the line the one whose leaf was kept? */
static void compare_leaf(struct state *s, const struct cg_digest *leaf, uint64_t seq)
{
    size_t at = (size_t)(s->tree.count * LEAF_CHECK);
    if (s->odd_line || at + LEAF_CHECK > s->leaves.n ||
        memcmp(s->leaves.p + at, leaf->b, LEAF_CHECK) == 0)
        return;
    s->odd_line = s->tree.count + 1;
    s->first_odd = seq;
}

static void compare_root(struct state *s)
{
    struct cg_digest root = cg_tree_root(&s->tree);
    s->root_checked = true;
    s->sealed_fits = cg_digest_eq(&root, &s->seal.root);
    if (s->sealed_fits)
        s->r->sealed_seq = s->seal.last_seq;
    else if (s->first_odd)
        tell(s, "segment %u, line %llu (seq %llu): it is not what was sealed", (unsigned)s->segment,
             SEQ(s->odd_line), SEQ(s->first_odd));
    else if (s->odd_line)
        tell(s, "segment %u, line %llu: it is not what was sealed", (unsigned)s->segment,
             SEQ(s->odd_line));
    else
        tell(s, "segment %u: lines up to seq %llu are not what was sealed", (unsigned)s->segment,
             SEQ(s->seal.last_seq));
}

static bool take_line(void *ctx, struct cg_slice text, bool whole)
{
    struct state *s = ctx;
    struct cg_record_line line;
    bool header = s->tree.count == 0;
    bool fine = whole && cg_record_line_parse(text, &line);
    bool closed = s->seal.segment && s->seal.state != CG_SEAL_OPEN;
    if (!whole && !closed) /* a living record may be caught in a write */
        return false;
    struct cg_digest leaf = cg_digest_leaf(text, fine ? &line : NULL);
    if (s->want_hash)
        crypto_generichash_update(&s->hash, (const unsigned char *)text.p, text.n + whole);
    compare_leaf(s, &leaf, fine ? line.seq : 0);
    cg_tree_add(&s->tree, &leaf);
    s->r->bytes += text.n + whole;
    if (fine) {
        check_order(s, &line);
        look_inside(s, &line);
    } else if (!header && !s->seal.segment) {
        tell(s, "segment %u, line %llu: it is no event", (unsigned)s->segment, SEQ(s->tree.count));
    }
    if (s->seal.segment && s->tree.count == s->seal.lines)
        compare_root(s);
    else if (closed && s->tree.count > s->seal.lines && s->behind++ == 0)
        tell(s, "segment %u: seq %llu stands behind the end that was sealed", (unsigned)s->segment,
             SEQ(fine ? line.seq : 0));
    return true;
}

/* --- segments --- */

static void check_header(struct state *s, const struct cg_segment_header *h)
{
    unsigned n = s->segment;
    char prev[CG_DIGEST_TEXT] = "";
    if (!s->r->sandbox[0])
        (void)cg_strlcpy(s->r->sandbox, sizeof s->r->sandbox, h->sandbox);
    if (!cg_streq(h->sandbox, s->o->sandbox ? s->o->sandbox : s->r->sandbox))
        tell(s, "segment %u is of the record of %s: it was exchanged", n, h->sandbox);
    if (s->epoch[0] && !cg_streq(s->epoch, h->epoch))
        tell(s, "segment %u begins at another epoch: it was exchanged", n);
    (void)cg_strlcpy(s->epoch, sizeof s->epoch, h->epoch);
    if (h->first_seq != s->next_seq)
        tell(s, "segment %u says it begins with seq %llu, but seq %llu is due", n,
             SEQ(h->first_seq), SEQ(s->next_seq));
    if (s->has_prev)
        cg_digest_text(&s->prev_hash, prev);
    if (s->has_prev && !cg_streq(prev, h->prev))
        tell(s, "segment %u does not follow segment %u as it is: one of them was exchanged", n,
             n - 1);
}

static void check_seal(struct state *s)
{
    const struct cg_seal *seal = &s->seal;
    unsigned n = s->segment;
    const char *key = s->o->key ? s->o->key : s->r->key;
    if (key[0] && !cg_streq(seal->key, key))
        tell(s, "the seal of segment %u was made with another key (%s)", n, seal->key);
    if (!s->r->key[0])
        (void)cg_strlcpy(s->r->key, sizeof s->r->key, seal->key);
    if (seal->segment != n || (s->r->sandbox[0] && !cg_streq(seal->sandbox, s->r->sandbox)))
        tell(s, "the seal of segment %u is one of segment %u of %s", n, (unsigned)seal->segment,
             seal->sandbox);
    bool follows = seal->has_prev == (n > 1) &&
                   (!s->has_prev || n == 1 || cg_digest_eq(&seal->prev, &s->prev_seal));
    if (!follows)
        tell(s, "the seal of segment %u does not follow that of segment %u: one was exchanged", n,
             n - 1);
    if (n < s->last && seal->state == CG_SEAL_OPEN)
        tell(s, "the seal of segment %u is an old one: more was written and sealed later", n);
    if (n < s->last && seal->state == CG_SEAL_END)
        tell(s, "segment %u was sealed as the record's end, but segment %u follows", n, n + 1);
    s->r->ended = seal->state == CG_SEAL_END;
}

/* Whether a seal stands at or behind this segment, so that this one must have one. */
static bool sealed_later(struct state *s)
{
    char name[CG_SEAL_NAME];
    for (uint32_t n = s->segment + 1; n <= s->last; n++) {
        cg_seal_name(n, name);
        if (faccessat(s->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    }
    return s->o->memory && s->o->memory->segment >= s->segment;
}

static void read_seal(struct state *s, struct cg_digest *line)
{
    char name[CG_SEAL_NAME];
    struct cg_err e = CG_ERR_INIT;
    cg_seal_name(s->segment, name);
    s->seal.segment = 0;
    struct cg_seal seal;
    if (cg_seal_read(s->dir, name, &seal, line, &e)) {
        s->seal = seal;
        if (seal.segment == 0) /* cannot be: the parser refuses it */
            s->seal.segment = s->segment;
    } else if (e.code == CG_NOT_FOUND && sealed_later(s)) {
        tell(s, "the seal of segment %u is missing", (unsigned)s->segment);
    } else if (e.code != CG_NOT_FOUND) {
        tell(s, "%s", e.text);
    }
    cg_buf_clear(&s->leaves);
    cg_leaves_name(s->segment, name);
    if (s->seal.segment)
        (void)!cg_seal_slurp(s->dir, name, LEAVES_MAX, &s->leaves, NULL);
}

static void end_segment(struct state *s, struct cg_span *span, const struct cg_digest *line)
{
    unsigned n = s->segment;
    bool sealed = s->seal.segment != 0;
    if (sealed && !s->root_checked) {
        bool cut = s->last_line_seq < s->seal.last_seq;
        uint64_t ends = s->last_line_seq ? s->last_line_seq : s->seal.first_seq - 1;
        tell(s, "segment %u ends with seq %llu, but was sealed up to seq %llu: %s", n, SEQ(ends),
             SEQ(s->seal.last_seq), cut ? "its end was cut off" : "lines are missing");
        if (s->odd_line)
            tell(s, "segment %u, line %llu: the first that is not what was sealed", n,
                 SEQ(s->odd_line));
    }
    if (cg_span_damaged(span))
        tell(s, "segment %u: a part of the packed file cannot be unpacked", n);
    s->has_prev = true;
    if (sealed && s->seal.state != CG_SEAL_OPEN) {
        s->prev_hash = s->seal.hash;
        s->prev_seal = *line;
        return;
    }
    crypto_generichash_final(&s->hash, s->prev_hash.b, sizeof s->prev_hash.b);
    s->prev_seal = *line;
}

static bool check_segment(struct state *s, struct cg_err *e)
{
    struct cg_segment_header header;
    size_t length = 0;
    struct cg_err why = CG_ERR_INIT;
    struct cg_digest line = {{0}};
    struct cg_span *span = cg_span_open(s->dir, s->segment, &header, &length, &why);
    if (!span) {
        if (why.code == CG_NOT_FOUND)
            tell(s, "segment %u is missing", (unsigned)s->segment);
        else
            tell(s, "%s", why.text);
        s->has_prev = false;
        return true;
    }
    s->r->segments++;
    check_header(s, &header);
    read_seal(s, &line);
    if (s->seal.segment)
        check_seal(s);
    s->tree = (struct cg_tree){.count = 0};
    s->odd_line = s->first_odd = s->last_line_seq = s->behind = 0;
    s->root_checked = s->sealed_fits = false;
    s->want_hash = !s->seal.segment || s->seal.state == CG_SEAL_OPEN;
    crypto_generichash_init(&s->hash, NULL, 0, CG_DIGEST);
    bool fine = cg_scan(span, take_line, s, e);
    if (fine)
        end_segment(s, span, &line);
    cg_span_close(span);
    return fine;
}

static void check_memory(struct state *s)
{
    const struct cg_seal *m = s->o->memory;
    if (!m || m->last_seq <= s->r->sealed_seq)
        return;
    if (s->next_seq <= m->last_seq)
        tell(s,
             "the record ends with seq %llu, but the server sealed it up to seq %llu: it was "
             "rolled back",
             SEQ(s->next_seq - 1), SEQ(m->last_seq));
    else
        tell(s, "the server sealed this record up to seq %llu, its seals say less (seq %llu)",
             SEQ(m->last_seq), SEQ(s->r->sealed_seq));
}

bool cg_verify(int dir_fd, const struct cg_verify_options *o, struct cg_verify_result *out,
               struct cg_err *e)
{
    struct state *s = cg_alloc(sizeof *s);
    *out = (struct cg_verify_result){.segments = 0};
    s->o = o;
    s->r = out;
    s->dir = dir_fd;
    s->next_seq = 1;
    cg_map_init(&s->blobs);
    cg_buf_init(&s->leaves, LEAVES_MAX);
    bool fine = cg_segment_last(dir_fd, &s->last, e);
    if (fine && o->memory)
        s->last = CG_MAX(s->last, o->memory->segment);
    if (fine && s->last == 0)
        fine = cg_fail(e, CG_NOT_FOUND, "there is no record here");
    for (s->segment = 1; fine && s->segment <= s->last; s->segment++)
        fine = check_segment(s, e);
    out->last_seq = s->next_seq - 1;
    if (fine) {
        check_memory(s);
        check_blobs(s);
    }
    cg_map_finish(&s->blobs);
    cg_buf_finish(&s->leaves);
    free(s);
    return fine;
}
