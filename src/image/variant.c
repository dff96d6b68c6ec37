/* Templates with agents. What npm gives is fetched once, trimmed to what the profile keeps,
 * and lies in agents/NAME-<hash>/ of the images directory (of the server's own, where it may not
 * write there). It is written into a copy of the template's base image with resize2fs and debugfs
 * of e2fsprogs, which need no mount and no root; e2fsck has the last word. */
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "image/agents.h"
#include "image/fetch.h"
#include "image/proc.h"
#include "image/template.h"

/* Counts up when equal profiles would give another image. */
static const char builder_version[] = "variant 1";
static const char place[] = "/opt/caged/agents"; /* in the guest */

enum { COMMANDS_MAX = 32 << 20, OUTPUT_MAX = 64 << 20, SLACK = 24 << 20, FILE_SLACK = 512 };
enum { BUILD_MS = 15 * 60 * 1000, TAIL = 200 };

bool cg_variant_is(const char *name)
{
    return strchr(name, '+') != NULL;
}

void cg_variant_split(const char *name, char **base, struct cg_strv *agents)
{
    size_t n = strcspn(name, "+");
    *base = cg_strndup(name, n);
    for (const char *p = name + n; *p;) {
        n = strcspn(++p, "+");
        cg_strv_addn(agents, p, n);
        p += n;
    }
}

/* --- what is wanted --- */

struct want {
    const struct cg_image_config *config;
    const char *name;
    char *base_name;
    struct cg_image base;
    struct cg_agents all;
    const struct cg_agent *agents[CG_AGENTS_MAX];
    size_t n;
    char fingerprint[CG_HASH_TEXT];
};

static void drop_want(struct want *w)
{
    free(w->base_name);
    cg_image_finish(&w->base);
    cg_agents_finish(&w->all);
}

/* "node 22.1" in the template's contents for "node". */
static bool contains(const struct cg_template *t, const char *what)
{
    size_t n = strlen(what);
    for (size_t i = 0; i < t->contents.n; i++)
        if (strncmp(t->contents.v[i], what, n) == 0 && t->contents.v[i][n] == ' ')
            return true;
    return false;
}

static bool find_agents(struct want *w, const struct cg_strv *names, struct cg_err *e)
{
    struct cg_hash h;
    if (names->n == 0 || names->n > CG_AGENTS_MAX)
        return cg_fail(e, CG_INVALID, "%.100s must name from 1 to %d agents", w->name,
                       CG_AGENTS_MAX);
    cg_hash_init(&h);
    cg_hash_field(&h, builder_version);
    cg_hash_field(&h, w->base.template.build_id);
    for (size_t i = 0; i < names->n; i++) {
        const struct cg_agent *a = cg_agents_find(&w->all, names->v[i]);
        if (!a)
            return cg_fail(e, CG_INVALID, "there is no agent %.64s; caged agents list shows them",
                           names->v[i]);
        if (a->needs && !contains(&w->base.template, a->needs))
            return cg_fail(e, CG_INVALID, "agent %s needs %s, which template %s lacks: take %s",
                           a->name, a->needs, w->base_name,
                           a->template_name ? a->template_name : "another");
        w->agents[w->n++] = a;
        cg_hash_field(&h, a->fingerprint);
    }
    cg_hash_text(&h, w->fingerprint);
    return true;
}

static bool read_want(const struct cg_image_config *c, const char *name, struct want *w,
                      struct cg_err *e)
{
    CG_OWN(cg_strv_finish) struct cg_strv names = {.v = NULL};
    *w = (struct want){.config = c, .name = name};
    cg_variant_split(name, &w->base_name, &names);
    return cg_image_resolve(c, w->base_name, &w->base, e) && cg_agents_load(c, &w->all, e) &&
           find_agents(w, &names, e);
}

/* --- where it is --- */

static bool load_from(const struct want *w, const char *dir, struct cg_template *out)
{
    const struct cg_image_config at = {.images_dir = (char *)(uintptr_t)dir};
    CG_OWN(cg_drop_free) char *fingerprint = NULL;
    if (dir && cg_template_load(&at, w->name, out, &fingerprint, NULL) &&
        out->state == CG_TEMPLATE_READY && cg_streq(fingerprint, w->fingerprint))
        return true;
    cg_template_finish(out);
    return false;
}

/* The image of the template with another base. */
static void take(struct want *w, struct cg_template *t, struct cg_image *out)
{
    struct cg_hash h;
    char text[CG_HASH_TEXT];
    cg_hash_init(&h);
    cg_hash_field(&h, w->base.fingerprint);
    cg_hash_field(&h, t->build_id);
    cg_hash_text(&h, text);
    *out = w->base;
    w->base = (struct cg_image){.kernel_path = NULL};
    cg_template_finish(&out->template);
    out->template = *t;
    *t = (struct cg_template){.name = NULL};
    free(out->fingerprint);
    out->fingerprint = cg_strndup(text, 32);
}

static bool resolve(struct want *w, struct cg_image *out, struct cg_err *e)
{
    struct cg_template t = {.name = NULL};
    if (!load_from(w, w->config->images_dir, &t) && !load_from(w, w->config->own_dir, &t))
        return cg_fail(e, CG_UNAVAILABLE, "the agents of %s are not installed yet", w->name);
    take(w, &t, out);
    return true;
}

bool cg_variant_resolve(const struct cg_image_config *c, const char *name, struct cg_image *out,
                        struct cg_err *e)
{
    CG_OWN(drop_want) struct want w;
    *out = (struct cg_image){.kernel_path = NULL};
    return read_want(c, name, &w, e) && resolve(&w, out, e);
}

/* --- the making --- */

struct making {
    struct want *want;
    struct cg_image_config at; /* where it is made; its dirs are borrowed */
    struct cg_task task;
    struct cg_image_build request;
    struct cg_tmp tmp;
    struct cg_buf commands; /* for debugfs */
    int64_t bytes, files;
    int64_t deadline_ns;
    cg_image_progress_fn progress;
    void *ctx;
    bool late;
    char refusal[TAIL]; /* of debugfs, which fails silently */
};

static void drop_making(struct making *m)
{
    cg_buf_finish(&m->commands);
    cg_tmp_drop(&m->tmp);
}

/* Every step passes here: what takes too long is ended. */
static bool on_progress(void *ctx, const struct cg_image_progress *p)
{
    struct making *m = ctx;
    m->late = cg_mono_ns() > m->deadline_ns;
    return !m->late && (!m->progress || m->progress(m->ctx, p));
}

static bool on_line(void *ctx, const char *line)
{
    (void)line;
    return cg_task_tick(ctx);
}

static bool on_debugfs_line(void *ctx, const char *line)
{
    struct making *m = ctx;
    if (line && !cg_has_prefix(line, "debugfs 1.") && !m->refusal[0])
        cg_strlcpy(m->refusal, sizeof m->refusal, line);
    return cg_task_tick(&m->task);
}

static bool run(struct making *m, const char *const *argv, struct cg_err *e)
{
    CG_OWN(cg_proc_finish) struct cg_proc p = {.line = on_line, .ctx = &m->task};
    for (size_t i = 0; argv[i]; i++)
        cg_strv_add(&p.argv, argv[i]);
    return cg_proc_run(&p, e);
}

/* A path as one word of debugfs. */
static bool word(struct cg_buf *b, const char *path, struct cg_err *e)
{
    if (strpbrk(path, "\"\n\r"))
        return cg_fail(e, CG_INVALID, "a file of the package has a strange name: %.100s", path);
    cg_buf_addf(b, " \"%s\"", path);
    return true;
}

static bool put_entry(struct making *m, const FTSENT *at, const char *to, struct cg_err *e)
{
    struct cg_buf *b = &m->commands;
    char link[4096];
    ssize_t n;
    switch (at->fts_info) {
    case FTS_D:
        cg_buf_adds(b, "mkdir");
        m->files++;
        return word(b, to, e) && (cg_buf_addc(b, '\n') || cg_fail(e, CG_TOO_LARGE, "%s", to));
    case FTS_F:
        cg_buf_adds(b, "write");
        m->files++;
        m->bytes += (at->fts_statp->st_size + 4095) / 4096 * 4096;
        return word(b, at->fts_path, e) && word(b, to, e) &&
               (cg_buf_addc(b, '\n') || cg_fail(e, CG_TOO_LARGE, "%s", to));
    case FTS_SL:
    case FTS_SLNONE:
        n = readlink(at->fts_path, link, sizeof link - 1);
        if (n < 0)
            return cg_fail_sys(e, "read %s", at->fts_path);
        link[n] = '\0';
        cg_buf_adds(b, "symlink");
        m->files++;
        return word(b, to, e) && word(b, link, e) &&
               (cg_buf_addc(b, '\n') || cg_fail(e, CG_TOO_LARGE, "%s", to));
    default: /* FTS_DP, and what no package holds */
        return true;
    }
}

static bool put_tree(struct making *m, const char *from, const char *to, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *copy = cg_strdup(from);
    char *roots[] = {copy, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!walk)
        return cg_fail_sys(e, "walk %s", from);
    bool ok = true;
    for (FTSENT *at = fts_read(walk); ok && at; at = fts_read(walk)) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s%s", to, at->fts_path + strlen(from));
        ok = put_entry(m, at, path, e);
    }
    fts_close(walk);
    return ok;
}

/* What stands in PATH: the agent with its quiet settings, whoever starts it. */
static bool put_launchers(struct making *m, const struct cg_agent *a, struct cg_err *e)
{
    for (size_t i = 0; i < a->programs.n; i++) {
        CG_OWN(cg_drop_free) char *file = cg_format("%s/%s", m->tmp.path, a->programs.v[i]);
        CG_OWN(cg_drop_buf) struct cg_buf b;
        cg_buf_init(&b, 1 << 20);
        cg_buf_addf(&b, "#!/bin/sh\n# %s, as Caged sets it up\n", a->name);
        cg_agent_prelude(a, &b);
        cg_buf_addf(&b, "exec %s/%s/%s \"$@\"\n", place, a->name, a->program_paths.v[i]);
        if (!cg_fs_replace(file, b.p, b.n, 0755, e))
            return false;
        cg_buf_adds(&m->commands, "write");
        if (!word(&m->commands, file, e))
            return false;
        cg_buf_addf(&m->commands, " /usr/local/bin/%s\n", a->programs.v[i]);
        m->files++;
        m->bytes += 4096;
    }
    return true;
}

static bool gather(struct making *m, struct cg_err *e)
{
    struct want *w = m->want;
    cg_buf_init(&m->commands, COMMANDS_MAX);
    cg_buf_addf(&m->commands, "mkdir /opt/caged\nmkdir %s\n", place);
    for (size_t i = 0; i < w->n; i++) {
        const struct cg_agent *a = w->agents[i];
        CG_OWN(cg_drop_free) char *to = cg_format("%s/%s", place, a->name);
        CG_OWN(cg_drop_free) char *from = NULL;
        if (a->npm.n == 0) /* its packages are installed inside the guest */
            continue;
        if (!cg_task_step(&m->task, 5 + (int)(60 * i / w->n), "fetching the agent", e) ||
            !cg_fetch_agent(&m->task, a, &from, e) || !put_tree(m, from, to, e) ||
            !put_launchers(m, a, e))
            return cg_wrap(e, "agent %s", a->name);
    }
    return true;
}

/* debugfs ends with 0 whatever happens, but says what went wrong. */
static bool run_debugfs(struct making *m, const char *image, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *file = cg_format("%s/commands", m->tmp.path);
    CG_OWN(cg_drop_buf) struct cg_buf out;
    CG_OWN(cg_proc_finish)
    struct cg_proc p = {.line = on_debugfs_line, .ctx = m, .out = &out};
    cg_buf_init(&out, OUTPUT_MAX);
    if (!cg_fs_replace(file, m->commands.p, m->commands.n, 0600, e))
        return false;
    const char *const argv[] = {"debugfs", "-w", "-f", file, image};
    for (size_t i = 0; i < CG_COUNT(argv); i++)
        cg_strv_add(&p.argv, argv[i]);
    return cg_proc_run(&p, e) && (!m->refusal[0] || cg_fail(e, CG_IO, "debugfs: %s", m->refusal));
}

static bool make_image(struct making *m, const char *image, struct cg_err *e)
{
    const char *from = m->want->base.template.base_path;
    const char *const copy[] = {"cp", "--sparse=always", "--", from, image, NULL};
    const char *const grow[] = {"resize2fs", "-f", image, NULL};
    const char *const check[] = {"e2fsck", "-fn", image, NULL};
    struct stat st;
    if (!cg_task_step(&m->task, 70, "making the image", e) || !run(m, copy, e))
        return false;
    int64_t more = m->bytes + m->bytes / 16 + m->files * FILE_SLACK + SLACK;
    if (chmod(image, 0644) != 0 || stat(image, &st) != 0 ||
        truncate(image, (st.st_size + more) / 4096 * 4096) != 0)
        return cg_fail_sys(e, "grow %s", image);
    if (!run(m, grow, e) || !run_debugfs(m, image, e) || !run(m, check, e))
        return false;
    return chmod(image, 0444) == 0 || cg_fail_sys(e, "set the mode of %s", image);
}

static bool commit(struct making *m, const char *image, struct cg_err *e)
{
    const struct want *w = m->want;
    const struct cg_template *t = &w->base.template;
    CG_OWN(cg_strv_finish) struct cg_strv contents = {.v = NULL};
    struct cg_strv none = {.v = NULL};
    cg_strv_add_all(&contents, &t->contents);
    for (size_t i = 0; i < w->n; i++)
        cg_strv_addf(&contents, "%s %s", w->agents[i]->name,
                     w->agents[i]->version ? w->agents[i]->version : "");
    const struct cg_template_meta meta = {.name = w->name,
                                          .description = t->description,
                                          .source = "agents",
                                          .fingerprint = w->fingerprint,
                                          .user = t->user,
                                          .workdir = t->workdir,
                                          .aliases = &none,
                                          .contents = &contents,
                                          .env = &t->env};
    return cg_template_commit(&m->at, image, &meta, e);
}

static bool make(struct want *w, cg_image_progress_fn progress, void *ctx, struct cg_err *e)
{
    CG_OWN(drop_making)
    struct making m = {.want = w, .tmp = {.lock = -1}, .progress = progress, .ctx = ctx};
    CG_OWN(cg_drop_free) char *templates = cg_format("%s/templates", w->config->images_dir);
    struct cg_image ready = {.kernel_path = NULL};
    bool ours = access(templates, W_OK) == 0 || !w->config->own_dir;
    m.at = (struct cg_image_config){.images_dir = ours ? w->config->images_dir : w->config->own_dir,
                                    .own_dir = ours ? NULL : w->config->images_dir};
    m.deadline_ns = cg_mono_ns() + (int64_t)BUILD_MS * 1000000;
    m.request = (struct cg_image_build){.progress = on_progress, .ctx = &m};
    cg_task_init(&m.task, &m.at, &m.request, w->name);
    if (!cg_imagedir_open(&m.at, e))
        return false;
    CG_OWN(cg_drop_free) char *lock_name = cg_format("template-%s", w->name);
    CG_OWN(cg_drop_fd) int lock = cg_imagedir_lock(&m.task, lock_name, e);
    if (lock >= 0 && resolve(w, &ready, NULL)) { /* somebody else was quicker */
        cg_image_finish(&ready);
        return true;
    }
    bool ok = lock >= 0 && cg_tmp_create(&m.at, &m.tmp, e);
    CG_OWN(cg_drop_free) char *image = cg_format("%s/base.ext4", ok ? m.tmp.path : "");
    ok = ok && gather(&m, e) && make_image(&m, image, e) && commit(&m, image, e) &&
         cg_task_step(&m.task, 100, "done", e);
    if (!ok && m.late)
        cg_fail(e, CG_TIMEOUT, "not done after %d minutes", BUILD_MS / 60000);
    return ok || cg_wrap(e, "install agents into %s", w->base_name);
}

bool cg_variant_build(const struct cg_image_config *c, const char *name,
                      cg_image_progress_fn progress, void *ctx, struct cg_err *e)
{
    CG_OWN(drop_want) struct want w;
    struct cg_image ready = {.kernel_path = NULL};
    if (!read_want(c, name, &w, e))
        return false;
    if (resolve(&w, &ready, NULL)) {
        cg_image_finish(&ready);
        return true;
    }
    return make(&w, progress, ctx, e);
}
