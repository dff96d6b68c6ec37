/* Which modules a guest needs, in which order. The kernel's package has no modules.dep (that is
 * made by depmod at installation), so the modules' own `depends=` in .modinfo is read
 * (Documentation/kbuild/modules, elf(5)). Names compare with '-' and '_' equal. */
#include "image/modinfo.h"

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/map.h"

enum { MODULE_MAX = 64 << 20 };

static void drop_reader(struct archive **a)
{
    if (*a)
        archive_read_free(*a);
}

static bool read_all(struct archive *a, const char *path, struct cg_buf *out, struct cg_err *e)
{
    for (;;) {
        char *to = cg_buf_room(out, 65536);
        if (!to)
            return cg_fail(e, CG_TOO_LARGE, "module %s is larger than %zu bytes", path, out->max);
        la_ssize_t n = archive_read_data(a, to, 65536);
        if (n < 0)
            return cg_fail(e, CG_IO, "read %s: %s", path, archive_error_string(a));
        if (n == 0)
            return true;
        cg_buf_grew(out, (size_t)n);
    }
}

bool cg_module_read(const char *path, struct cg_buf *out, struct cg_err *e)
{
    CG_OWN(drop_reader) struct archive *a = archive_read_new();
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_gzip(a);
    archive_read_support_format_raw(a);
    struct archive_entry *entry;
    cg_buf_init(out, MODULE_MAX);
    if (!cg_fs_exists(path))
        return cg_fail(e, CG_NOT_FOUND, "no module %s", path);
    if (archive_read_open_filename(a, path, 65536) != ARCHIVE_OK ||
        archive_read_next_header(a, &entry) != ARCHIVE_OK)
        return cg_fail(e, CG_IO, "read %s: %s", path, archive_error_string(a));
    return read_all(a, path, out, e);
}

/* The bytes of a section, bounded by the file; an empty slice for anything out of bounds. */
static struct cg_slice section(struct cg_slice elf, const Elf64_Shdr *sh)
{
    if (sh->sh_type == SHT_NOBITS || sh->sh_offset > elf.n || sh->sh_size > elf.n - sh->sh_offset)
        return (struct cg_slice){.p = NULL};
    return (struct cg_slice){.p = elf.p + sh->sh_offset, .n = (size_t)sh->sh_size};
}

static bool section_named(struct cg_slice names, const Elf64_Shdr *sh, const char *want)
{
    size_t n = strlen(want) + 1;
    return sh->sh_name < names.n && names.n - sh->sh_name >= n &&
           memcmp(names.p + sh->sh_name, want, n) == 0;
}

static bool find_modinfo(struct cg_slice elf, struct cg_slice *out, struct cg_err *e)
{
    Elf64_Ehdr h;
    *out = (struct cg_slice){.p = NULL};
    if (elf.n < sizeof(h))
        return cg_fail(e, CG_INVALID, "not a kernel module: too short");
    memcpy(&h, elf.p, sizeof(h));
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
        h.e_ident[EI_DATA] != ELFDATA2LSB || h.e_shentsize != sizeof(Elf64_Shdr))
        return cg_fail(e, CG_INVALID, "not a kernel module: no 64-bit little-endian ELF file");
    if (h.e_shoff > elf.n || (elf.n - h.e_shoff) / sizeof(Elf64_Shdr) < h.e_shnum ||
        h.e_shstrndx >= h.e_shnum)
        return cg_fail(e, CG_INVALID, "not a kernel module: section table out of bounds");
    Elf64_Shdr sh;
    memcpy(&sh, elf.p + h.e_shoff + h.e_shstrndx * sizeof(sh), sizeof(sh));
    struct cg_slice names = section(elf, &sh);
    for (size_t i = 0; i < h.e_shnum; i++) {
        memcpy(&sh, elf.p + h.e_shoff + i * sizeof(sh), sizeof(sh));
        if (section_named(names, &sh, ".modinfo"))
            *out = section(elf, &sh);
    }
    return true;
}

bool cg_module_depends(struct cg_slice elf, struct cg_strv *out, struct cg_err *e)
{
    struct cg_slice info;
    if (!find_modinfo(elf, &info, e))
        return false;
    static const char key[] = "depends=";
    for (size_t at = 0; at < info.n;) {
        size_t n = strnlen(info.p + at, info.n - at);
        if (n > sizeof(key) - 1 && memcmp(info.p + at, key, sizeof(key) - 1) == 0) {
            const char *p = info.p + at + sizeof(key) - 1;
            size_t left = n - (sizeof(key) - 1);
            while (left > 0) {
                const char *comma = memchr(p, ',', left);
                size_t len = comma ? (size_t)(comma - p) : left;
                if (len > 0)
                    cg_strv_addn(out, p, len);
                p += len + (comma ? 1 : 0);
                left -= len + (comma ? 1 : 0);
            }
        }
        at += n + 1;
    }
    return true;
}

char *cg_module_name(const char *file)
{
    const char *slash = strrchr(file, '/');
    const char *base = slash ? slash + 1 : file;
    static const char *const endings[] = {".ko", ".ko.xz", ".ko.zst", ".ko.gz"};
    for (size_t i = 0; i < CG_COUNT(endings); i++) {
        if (!cg_has_suffix(base, endings[i]))
            continue;
        char *name = cg_strndup(base, strlen(base) - strlen(endings[i]));
        for (char *c = name; *c; c++)
            if (*c == '-')
                *c = '_';
        return name;
    }
    return NULL;
}

struct resolver {
    struct cg_map files;   /* name to path; the resolver's */
    struct cg_map builtin; /* name to any pointer */
    struct cg_map done;
    struct cg_map open; /* those whose dependencies are being visited */
    struct cg_strv *paths;
};

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool index_files(struct resolver *r, const char *dir, struct cg_err *e)
{
    char *path = cg_format("%s/kernel", dir);
    char *roots[] = {path, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    if (!walk) {
        free(path);
        return cg_fail_sys(e, "walk %s", dir);
    }
    for (FTSENT *at = fts_read(walk); at; at = fts_read(walk)) {
        if (at->fts_info != FTS_F)
            continue;
        CG_OWN(cg_drop_free) char *name = cg_module_name(at->fts_name);
        if (name)
            free(cg_map_put(&r->files, name, cg_strdup(at->fts_path)));
    }
    fts_close(walk);
    free(path);
    return true;
}

static bool index_builtin(struct resolver *r, const char *dir, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/modules.builtin", dir);
    char *text = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(path, 4 << 20, &text, &n, e))
        return false;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        CG_OWN(cg_drop_free) char *name = cg_module_name(line);
        if (name)
            cg_map_put(&r->builtin, name, r);
    }
    free(text);
    return true;
}

static bool visit(struct resolver *r, const char *wanted, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *with_ending = cg_format("%s.ko", wanted);
    CG_OWN(cg_drop_free) char *name = cg_module_name(with_ending);
    if (cg_map_get(&r->done, name) || cg_map_get(&r->builtin, name))
        return true;
    const char *path = cg_map_get(&r->files, name);
    if (!path)
        return cg_fail(e, CG_NOT_FOUND, "the kernel has no module %s", name);
    if (cg_map_put(&r->open, name, r))
        return cg_fail(e, CG_INVALID, "module %s: dependencies go in a circle", name);
    CG_OWN(cg_drop_buf) struct cg_buf elf;
    struct cg_strv depends = {.v = NULL};
    bool ok = cg_module_read(path, &elf, e) && cg_module_depends(cg_buf_slice(&elf), &depends, e);
    for (size_t i = 0; ok && i < depends.n; i++)
        ok = visit(r, depends.v[i], e);
    cg_strv_finish(&depends);
    if (!ok)
        return false;
    cg_map_put(&r->done, name, r);
    cg_strv_add(r->paths, path);
    return true;
}

bool cg_module_resolve(const char *kernel_dir, const struct cg_strv *wanted, struct cg_strv *paths,
                       struct cg_err *e)
{
    struct resolver r = {.paths = paths};
    cg_map_init(&r.files);
    cg_map_init(&r.builtin);
    cg_map_init(&r.done);
    cg_map_init(&r.open);
    bool ok = index_builtin(&r, kernel_dir, e) && index_files(&r, kernel_dir, e);
    for (size_t i = 0; ok && i < wanted->n; i++)
        ok = visit(&r, wanted->v[i], e) || cg_wrap(e, "module %s", wanted->v[i]);
    size_t at = 0;
    const char *key;
    void *value;
    while (cg_map_next(&r.files, &at, &key, &value))
        free(value);
    cg_map_finish(&r.files);
    cg_map_finish(&r.builtin);
    cg_map_finish(&r.done);
    cg_map_finish(&r.open);
    return ok;
}
