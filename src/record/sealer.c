/* Sealing: one pass over what has no final seal yet. State is in files only: the seals beside the
 * segments, and the server's memory of the last one, which the warden cannot reach. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fs.h"
#include "record/scan.h"
#include "record/seal.h"

enum { LEAF_CHECK = 4, LEAVES_MAX = 64 << 20 };

struct pass {
    const struct cg_sealer_options *o;
    int dir;
    uint32_t segment, last;
    struct cg_seal seal; /* being made */
    struct cg_seal old;  /* segment 0: none */
    bool old_fits;
    bool old_on_disk;      /* not only in the memory */
    struct cg_digest prev; /* of the seal before */
    struct cg_digest mine; /* of this segment's seal */
    bool closed;
    struct cg_tree tree;
    crypto_generichash_state hash;
    struct cg_buf leaves;
};

static struct cg_digest hash_now(const struct pass *p)
{
    struct cg_digest d;
    crypto_generichash_state copy = p->hash;
    crypto_generichash_final(&copy, d.b, sizeof d.b);
    return d;
}

/* Where the old seal ended, what is there now must be what it says. */
static void compare(struct pass *p)
{
    if (p->old.segment == 0 || p->seal.lines != p->old.lines)
        return;
    struct cg_digest root = cg_tree_root(&p->tree);
    struct cg_digest hash = hash_now(p);
    p->old_fits = cg_digest_eq(&root, &p->old.root) && cg_digest_eq(&hash, &p->old.hash);
}

static bool take_line(void *ctx, struct cg_slice text, bool whole)
{
    struct pass *p = ctx;
    struct cg_record_line line;
    bool fine = whole && cg_record_line_parse(text, &line);
    if (!whole && !p->closed)
        return false;
    if (fine && line.seq > p->o->limit)
        return false;
    struct cg_digest leaf = cg_digest_leaf(text, fine ? &line : NULL);
    cg_tree_add(&p->tree, &leaf);
    crypto_generichash_update(&p->hash, (const unsigned char *)text.p, text.n + whole);
    (void)cg_buf_add(&p->leaves, leaf.b, LEAF_CHECK);
    p->seal.lines++;
    p->seal.bytes += text.n + whole;
    if (fine)
        p->seal.last_seq = line.seq;
    compare(p);
    return true;
}

/* A file that is there whole or not at all. */
static bool put_file(int dir, const char *name, const struct cg_buf *text, struct cg_err *e)
{
    char temporary[CG_SEAL_NAME + 8];
    cg_snprintf(temporary, sizeof temporary, "%s.new", name);
    (void)unlinkat(dir, temporary, 0);
    CG_OWN(cg_drop_fd)
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return cg_fail_sys(e, "make %s", temporary);
    if (!cg_fd_write_full(fd, text->p, text->n, e))
        return cg_wrap(e, "write %s", temporary);
    if (fsync(fd) != 0 || renameat(dir, temporary, dir, name) != 0 || fsync(dir) != 0)
        return cg_fail_sys(e, "sync %s", name);
    return true;
}

static bool changed(const struct pass *p, struct cg_err *e)
{
    return cg_fail(e, CG_CONFLICT,
                   "segment %u of the record is not what was sealed up to seq %llu; caged verify "
                   "shows where",
                   (unsigned)p->segment, (unsigned long long)p->old.last_seq);
}

/* The memory last: it never says more than the folder did, so a folder that says less was changed.
 */
static bool put_seal(struct pass *p, struct cg_err *e)
{
    char name[CG_SEAL_NAME];
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, CG_SEAL_MAX);
    p->seal.root = cg_tree_root(&p->tree);
    p->seal.hash = hash_now(p);
    cg_time_format(cg_wall_ns(), p->seal.sealed_at);
    cg_seal_write(&p->seal, p->o->key, &text);
    p->mine = cg_digest_of((struct cg_slice){text.p, text.n - 1});
    cg_leaves_name(p->segment, name);
    if (!put_file(p->dir, name, &p->leaves, e))
        return false;
    cg_seal_name(p->segment, name);
    return put_file(p->dir, name, &text, e) && cg_fs_replace(p->o->memory, text.p, text.n, 0640, e);
}

static void begin_segment(struct pass *p, const struct cg_segment_header *h)
{
    p->seal = (struct cg_seal){.segment = p->segment, .first_seq = h->first_seq};
    p->seal.last_seq = h->first_seq - 1;
    (void)cg_strlcpy(p->seal.sandbox, sizeof p->seal.sandbox, h->sandbox);
    p->seal.has_prev = p->segment > 1;
    if (p->seal.has_prev)
        p->seal.prev = p->prev;
    bool ended = p->o->limit == UINT64_MAX && p->segment == p->last;
    p->closed = p->segment < p->last || ended;
    p->seal.state = ended ? CG_SEAL_END : p->closed ? CG_SEAL_CLOSED : CG_SEAL_OPEN;
    p->tree = (struct cg_tree){.count = 0};
    crypto_generichash_init(&p->hash, NULL, 0, CG_DIGEST);
    cg_buf_clear(&p->leaves);
}

static bool seal_segment(struct pass *p, struct cg_err *e)
{
    struct cg_segment_header header;
    size_t length = 0;
    struct cg_span *s = cg_span_open(p->dir, p->segment, &header, &length, e);
    if (!s)
        return false;
    begin_segment(p, &header);
    p->old_fits = p->old.segment == 0;
    bool fine = cg_scan(s, take_line, p, e);
    cg_span_close(s);
    if (!fine)
        return false;
    if (!p->old_fits)
        return changed(p, e);
    if (p->old_on_disk && p->seal.lines == p->old.lines && p->seal.state == p->old.state)
        return true; /* nothing new */
    return put_seal(p, e);
}

/* The seal that a segment has: in the folder, or newer in the memory. */
static bool read_old(struct pass *p, const struct cg_seal *memory, struct cg_err *e)
{
    char name[CG_SEAL_NAME];
    struct cg_err why = CG_ERR_INIT;
    struct cg_seal old = {.segment = 0};
    cg_seal_name(p->segment, name);
    p->old = (struct cg_seal){.segment = 0};
    if (cg_seal_read(p->dir, name, &old, &p->mine, &why)) {
        if (!cg_streq(old.key, p->o->key->text) || old.segment != p->segment)
            return cg_fail(e, CG_CONFLICT, "%s was not made by this server", name);
        p->old = old;
    } else if (why.code != CG_NOT_FOUND) {
        *e = why;
        return false;
    }
    if (memory->segment > p->segment && p->old.state == CG_SEAL_OPEN) /* also when there is none */
        return cg_fail(e, CG_CONFLICT, "%s has been taken away or replaced by an older one", name);
    p->old_on_disk = p->old.segment > 0;
    if (memory->segment == p->segment && memory->lines > p->old.lines) {
        p->old = *memory;
        p->old_on_disk = false;
    }
    return true;
}

static bool run(struct pass *p, const struct cg_seal *memory, struct cg_err *e)
{
    if (!cg_segment_last(p->dir, &p->last, e))
        return false;
    if (p->last == 0)
        return cg_fail(e, CG_NOT_FOUND, "there is no record in %s", p->o->record);
    if (p->last < memory->segment) {
        p->segment = memory->segment;
        p->old = *memory;
        return changed(p, e);
    }
    for (p->segment = 1; p->segment <= p->last; p->segment++) {
        if (!read_old(p, memory, e))
            return false;
        bool sealed = p->old.segment > 0 && p->old.state != CG_SEAL_OPEN;
        if (!sealed && !seal_segment(p, e))
            return false;
        p->prev = p->mine;
        if ((sealed || p->closed) && !cg_span_pack(p->dir, p->segment, e))
            return false;
    }
    return true;
}

/* Memory that is damaged is none: what the folder says is believed then. */
static bool remember(const char *path, int *lock, struct cg_seal *out, struct cg_err *e)
{
    struct cg_digest line;
    CG_OWN(cg_drop_free) char *lock_path = cg_format("%s.lock", path);
    *out = (struct cg_seal){.segment = 0};
    *lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*lock < 0)
        return cg_fail_sys(e, "open %s", lock_path);
    while (flock(*lock, LOCK_EX) != 0)
        if (errno != EINTR)
            return cg_fail_sys(e, "lock %s", lock_path);
    struct cg_seal seal;
    if (cg_seal_read(AT_FDCWD, path, &seal, &line, NULL))
        *out = seal;
    return true;
}

bool cg_seal_run(const struct cg_sealer_options *o, struct cg_err *e)
{
    struct pass *p = cg_alloc(sizeof *p);
    struct cg_seal memory;
    CG_OWN(cg_drop_fd) int lock = -1;
    p->o = o;
    cg_buf_init(&p->leaves, LEAVES_MAX);
    p->dir = open(o->record, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    bool fine = p->dir >= 0 || cg_fail_sys(e, "open %s", o->record);
    fine = fine && remember(o->memory, &lock, &memory, e) && run(p, &memory, e);
    cg_drop_fd(&p->dir);
    cg_buf_finish(&p->leaves);
    free(p);
    return fine;
}
