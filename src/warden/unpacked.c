#include "warden/unpacked.h"

#include <stdlib.h>
#include <string.h>

#include "base/tarhead.h"
#include "warden/contents.h"

enum { NAMES_MAX = 4096, NAMES_BYTES = 512 * 1024 };

struct unpacked {
    char *folder; /* without a slash at its end */
    bool over;    /* the end of the archive, or of what can be read of it */
    unsigned char block[CG_TAR_BLOCK];
    size_t block_n;
    int64_t left;   /* bytes of the entry still to come, with padding */
    int64_t meta_n; /* of these, what belongs to an extension header */
    struct cg_tar_entry entry;
    struct cg_tar_entry next; /* what extensions said of the entry that follows */
    bool has_path, has_link, has_size;
    struct cg_buf meta;
    struct cg_buf names; /* each with its NUL */
    unsigned count;
    uint64_t untold;
};

struct unpacked *unpacked_create(const char *folder)
{
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    CG_OWN(cg_drop_free) char *clean = cg_strndup(folder, n);
    if (strcmp(clean, "/workspace") != 0 && !cg_has_prefix(clean, "/workspace/"))
        return NULL;
    struct unpacked *u = cg_alloc(sizeof *u);
    u->folder = CG_MOVE(clean);
    cg_buf_init(&u->meta, CG_TAR_META_MAX);
    cg_buf_init(&u->names, NAMES_BYTES);
    return u;
}

void unpacked_destroy(struct unpacked *u)
{
    if (!u)
        return;
    free(u->folder);
    cg_buf_finish(&u->meta);
    cg_buf_finish(&u->names);
    free(u);
}

/* As the guest's agent reads it: below the folder, whatever it begins with. NULL: it leads out. */
static const char *inside(const char *path)
{
    while (*path == '/' || (path[0] == '.' && path[1] == '/'))
        path += *path == '/' ? 1 : 2;
    for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/')
        if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == '\0'))
            return NULL;
    return *path ? path : NULL;
}

static void take_name(struct unpacked *u)
{
    const char *path = inside(u->entry.path);
    bool file = u->entry.type == '0' || u->entry.type == '7';
    if (!path || !file)
        return;
    CG_OWN(cg_drop_free) char *whole = cg_format("%s/%s", u->folder, path);
    if (!contents_takes(whole))
        return;
    if (u->count == NAMES_MAX || u->names.n + strlen(whole) + 1 > NAMES_BYTES) {
        u->untold++;
        return;
    }
    u->count++;
    cg_buf_add(&u->names, whole, strlen(whole) + 1);
}

static bool is_extension(char type)
{
    return type == 'x' || type == 'g' || type == 'L' || type == 'K';
}

static void begin_entry(struct unpacked *u)
{
    bool zero = false;
    if (!cg_tar_parse(u->block, &u->entry, &zero, NULL) || zero) {
        u->over = true;
        return;
    }
    bool extension = is_extension(u->entry.type);
    if (extension) {
        cg_buf_clear(&u->meta);
        u->over = u->entry.size > CG_TAR_META_MAX;
    } else {
        if (u->has_path)
            (void)cg_strlcpy(u->entry.path, sizeof u->entry.path, u->next.path);
        if (u->has_size)
            u->entry.size = u->next.size;
        u->has_path = u->has_link = u->has_size = false;
        take_name(u);
        if (u->entry.type != '0' && u->entry.type != '7')
            u->entry.size = 0;
    }
    if (u->entry.size > INT64_MAX - CG_TAR_BLOCK)
        u->over = true;
    if (u->over)
        return;
    u->meta_n = extension ? u->entry.size : 0;
    u->left = (u->entry.size + CG_TAR_BLOCK - 1) / CG_TAR_BLOCK * CG_TAR_BLOCK;
}

static void end_extension(struct unpacked *u)
{
    if (u->entry.type == 'x')
        u->over = !cg_tar_apply_pax(cg_buf_slice(&u->meta), &u->next, &u->has_path, &u->has_link,
                                    &u->has_size, NULL);
    if (u->entry.type == 'L')
        u->has_path = cg_strlcpy(u->next.path, sizeof u->next.path, cg_buf_cstr(&u->meta));
}

static size_t take_content(struct unpacked *u, struct cg_slice b)
{
    size_t n = (size_t)CG_MIN((int64_t)b.n, u->left);
    size_t meta = (size_t)CG_MIN((int64_t)n, u->meta_n);
    cg_buf_add(&u->meta, b.p, meta);
    u->meta_n -= (int64_t)meta;
    u->left -= (int64_t)n;
    if (u->left == 0 && is_extension(u->entry.type))
        end_extension(u);
    return n;
}

void unpacked_feed(struct unpacked *u, struct cg_slice b)
{
    while (b.n > 0 && !u->over) {
        size_t n = 0;
        if (u->left > 0) {
            n = take_content(u, b);
        } else {
            n = CG_MIN(b.n, CG_TAR_BLOCK - u->block_n);
            memcpy(u->block + u->block_n, b.p, n);
            u->block_n += n;
            if (u->block_n == CG_TAR_BLOCK) {
                u->block_n = 0;
                begin_entry(u);
            }
        }
        b.p += n;
        b.n -= n;
    }
}

const char *unpacked_next(const struct unpacked *u, const char *after)
{
    const char *next = after ? after + strlen(after) + 1 : u->names.p;
    return u->names.n > 0 && next < u->names.p + u->names.n ? next : NULL;
}

void unpacked_tell(const struct unpacked *u, struct contents *c, const char *session)
{
    for (const char *name = NULL; (name = unpacked_next(u, name)) != NULL;)
        contents_note(c, "write", name, NULL, session);
    contents_untold(c, u->untold);
}
