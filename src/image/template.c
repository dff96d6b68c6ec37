/* Builds a template from its recipe: mmdebstrap installs the packages into a tree of its own, the
 * script data/image/customize runs the recipe's steps there and packs the tree with `mke2fs -d`.
 *
 * As root it gets mount and pid namespaces of its own, so that nothing of it is left when a build
 * is killed; otherwise it makes a user namespace with the subordinate uids of the user. Signatures
 * are checked with the machine's own archive keys, and, for suites newer than the machine, with
 * those of its current keyring package (which the machine's own keys vouch for): no check is ever
 * switched off. */
#include "image/template.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "image/hash.h"
#include "image/host.h"
#include "image/proc.h"

enum { CONTENTS_MAX = 65536, SCRIPT_MAX = 65536 };

struct build {
    struct cg_task *task;
    const struct cg_recipe *recipe;
    struct cg_tmp tmp;
    char *out; /* where customize puts its results */
    int log;
};

static void drop_build(struct build *b)
{
    free(b->out);
    cg_drop_fd(&b->log);
    cg_tmp_drop(&b->tmp);
}

/* 'text' for a POSIX shell. */
static void add_quoted(struct cg_buf *b, const char *text)
{
    cg_buf_addc(b, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            cg_buf_adds(b, "'\\''");
        else
            cg_buf_addc(b, *text);
    }
    cg_buf_addc(b, '\'');
}

static void add_install(struct cg_buf *b, const char *phase, const char *command,
                        const struct cg_strv *what)
{
    if (what->n == 0)
        return;
    cg_buf_addf(b, "echo 'caged: %s' >&2\n%s", phase, command);
    for (size_t i = 0; i < what->n; i++) {
        cg_buf_addc(b, ' ');
        add_quoted(b, what->v[i]);
    }
    cg_buf_addc(b, '\n');
}

/* The script that customize runs inside the tree. */
static bool write_steps(const struct build *b, struct cg_err *e)
{
    const struct cg_recipe *r = b->recipe;
    CG_OWN(cg_drop_free) char *path = cg_format("%s/steps", b->tmp.shared);
    CG_OWN(cg_drop_buf) struct cg_buf s;
    cg_buf_init(&s, 1 << 20);
    cg_buf_adds(&s, "cd /\n");
    add_install(&s, "66 installing npm packages",
                "npm install --global --prefix /usr/local --no-fund --no-audit --loglevel=error",
                &r->npm);
    add_install(&s, "72 installing Python packages",
                "pip3 install --no-cache-dir --break-system-packages --root-user-action=ignore",
                &r->pip);
    for (size_t i = 0; i < r->run.n; i++)
        cg_buf_addf(&s, "%s\n", r->run.v[i]);
    add_install(&s, "80 removing what only the build needed",
                "apt-get -qq -o APT::AutoRemove::RecommendsImportant=0 purge -y --auto-remove",
                &r->build_packages);
    cg_buf_adds(&s, "echo 'caged: 84 checking' >&2\nhash -r\n");
    for (size_t i = 0; i < r->check_names.n; i++) {
        cg_buf_adds(&s, "v=$( ");
        cg_buf_adds(&s, r->check_lines.v[i]);
        cg_buf_adds(&s, " )\nprintf '%s\\t%s\\n' ");
        add_quoted(&s, r->check_names.v[i]);
        cg_buf_adds(&s, " \"$(printf '%s\\n' \"$v\" | head -n 1)\" >>/caged-build/contents\n");
    }
    if (s.full)
        return cg_fail(e, CG_TOO_LARGE, "the steps of %s are too long", r->name);
    return cg_fs_replace(path, s.p, s.n, 0644, e);
}

static bool write_text(const char *dir, const char *name, const char *text, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", dir, name);
    return cg_fs_replace(path, text, strlen(text), 0644, e);
}

/* A copy, since without root the helpers cannot see where Caged is installed. */
static bool copy_script(const struct build *b, const char *name, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *from = cg_format("%s/image/%s", b->task->config->data_dir, name);
    CG_OWN(cg_drop_free) char *to = cg_format("%s/%s", b->tmp.shared, name);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    return cg_fs_slurp(from, SCRIPT_MAX, &text, &n, e) && cg_fs_replace(to, text, n, 0755, e);
}

static bool make_folders(struct build *b, struct cg_err *e)
{
    static const char *const names[] = {"out", "mm", "guards"};
    for (size_t i = 0; i < CG_COUNT(names); i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", b->tmp.shared, names[i]);
        if (mkdir(path, 0755) != 0 || (geteuid() != 0 && chmod(path, 0777) != 0))
            return cg_fail_sys(e, "create folder %s", path);
    }
    b->out = cg_format("%s/out", b->tmp.shared);
    return true;
}

/* The file system's uuid comes from the recipe, its times are fixed: a rebuild of the same packages
 * gives an image that differs only where the packages do. */
static bool prepare(struct build *b, struct cg_err *e)
{
    const struct cg_image_config *c = b->task->config;
    const char *f = b->recipe->fingerprint;
    CG_OWN(cg_drop_free) char *log = cg_format("%s/logs/%s.log", c->images_dir, b->recipe->name);
    CG_OWN(cg_drop_free)
    char *uuid = cg_format("%.8s-%.4s-4%.3s-8%.3s-%.12s", f, f + 8, f + 12, f + 15, f + 18);
    if (!cg_tmp_create(c, &b->tmp, e) || !cg_tmp_share(&b->tmp, e) || !make_folders(b, e))
        return false;
    b->log = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (b->log < 0)
        return cg_fail_sys(e, "open %s", log);
    return write_text(b->tmp.shared, "uuid", uuid, e) && copy_script(b, "customize", e) &&
           copy_script(b, "pack", e) && write_steps(b, e);
}

static const struct {
    const char *line;
    int percent;
    const char *phase;
} milestones[] = {
    {"running apt-get update", 3, "reading package lists"},
    {"downloading packages", 8, "downloading packages"},
    {"extracting archives", 20, "unpacking the base system"},
    {"installing essential", 28, "configuring the base system"},
    {"installing remaining", 40, "installing packages"},
};

static bool on_line(void *ctx, const char *line)
{
    struct cg_task *t = ctx;
    static const char ours[] = "caged: ";
    if (!line)
        return cg_task_tick(t);
    if (cg_has_prefix(line, ours)) {
        char *phase = NULL;
        long percent = strtol(line + sizeof(ours) - 1, &phase, 10);
        if (percent < 1 || percent > 99)
            return true;
        /* The task keeps a pointer; phases are few and live as long as the program. */
        static const char *const known[] = {"making the user",
                                            "running the steps",
                                            "installing npm packages",
                                            "installing Python packages",
                                            "removing what only the build needed",
                                            "checking",
                                            "cleaning",
                                            "making the image"};
        for (size_t i = 0; i < CG_COUNT(known); i++)
            if (cg_streq(phase + (*phase == ' '), known[i]))
                return cg_task_at(t, (int)percent, known[i]);
        return cg_task_at(t, (int)percent, t->phase);
    }
    for (size_t i = 0; i < CG_COUNT(milestones); i++)
        if (cg_has_prefix(line, "I: ") && strstr(line, milestones[i].line))
            return cg_task_at(t, milestones[i].percent, milestones[i].phase);
    return true;
}

/* The keyring package that the machine's mirrors have now, unpacked into the build's folder; it may
 * know the keys of a newer suite. Absent on any failure: mmdebstrap then decides with the
 * machine's own keys, and refuses what they do not verify. */
static char *newer_keyring(const struct build *b, const struct cg_host *h)
{
    struct cg_err ignored = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/keyring", b->tmp.shared);
    CG_OWN(cg_proc_finish) struct cg_proc get = {.cwd = dir, .log_fd = b->log};
    if (!cg_fs_mkdirs(dir, 0755, &ignored))
        return NULL;
    cg_strv_add(&get.argv, "apt-get");
    cg_strv_add(&get.argv, "-qq");
    cg_strv_add(&get.argv, "-o");
    cg_strv_add(&get.argv, "APT::Sandbox::User=root");
    cg_strv_add(&get.argv, "download");
    cg_strv_addf(&get.argv, "%s-archive-keyring", h->distribution);
    if (!cg_proc_run(&get, &ignored))
        return NULL;
    CG_OWN(cg_drop_dir) DIR *d = opendir(dir);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        if (!cg_has_suffix(entry->d_name, ".deb"))
            continue;
        CG_OWN(cg_proc_finish) struct cg_proc unpack = {.cwd = dir, .log_fd = b->log};
        cg_strv_add(&unpack.argv, "dpkg-deb");
        cg_strv_add(&unpack.argv, "-x");
        cg_strv_add(&unpack.argv, entry->d_name);
        cg_strv_add(&unpack.argv, ".");
        if (!cg_proc_run(&unpack, &ignored))
            return NULL;
    }
    char *path = cg_format("%s/usr/share/keyrings/%s-archive-keyring.gpg", dir, h->distribution);
    if (cg_fs_exists(path))
        return path;
    free(path);
    return NULL;
}

static bool add_options(const struct build *b, const struct cg_host *h, const char *suite,
                        struct cg_strv *argv, struct cg_err *e)
{
    static const char *const dpkg[] = {
        "path-exclude=/usr/share/man/*",
        "path-exclude=/usr/share/info/*",
        "path-exclude=/usr/share/doc/*",
        "path-include=/usr/share/doc/*/copyright",
        "path-exclude=/usr/share/locale/*",
        "path-include=/usr/share/locale/locale.alias",
        "path-exclude=/usr/share/lintian/*",
        "path-exclude=/usr/share/gnome/help/*",
        "path-exclude=/usr/share/vim/vim*/lang/*",
        "path-exclude=/usr/share/vim/vim*/doc/*",
        "path-exclude=/usr/share/vim/vim*/tutor/*",
        "path-exclude=/usr/share/git-core/contrib/*",
    };
    CG_OWN(cg_strv_finish) struct cg_strv apt = {.v = NULL};
    if (!cg_host_apt_options(&apt, e))
        return false;
    cg_strv_add(argv, geteuid() == 0 ? "--mode=root" : "--mode=unshare");
    cg_strv_add(argv, "--variant=minbase");
    cg_strv_add(argv, "--format=null");
    for (size_t i = 0; i < CG_COUNT(dpkg); i++)
        cg_strv_addf(argv, "--dpkgopt=%s", dpkg[i]);
    for (size_t i = 0; i < apt.n; i++)
        cg_strv_addf(argv, "--aptopt=%s", apt.v[i]);
    if (!cg_streq(suite, h->codename)) {
        CG_OWN(cg_drop_free) char *keyring = newer_keyring(b, h);
        if (keyring)
            cg_strv_addf(argv, "--keyring=%s", keyring);
    }
    CG_OWN(cg_strv_finish) struct cg_strv packages = {.v = NULL};
    cg_strv_add_all(&packages, &b->recipe->packages);
    cg_strv_add_all(&packages, &b->recipe->build_packages);
    CG_OWN(cg_drop_free) char *include = cg_strv_join(&packages, ",");
    cg_strv_addf(argv, "--include=%s", include);
    cg_strv_addf(argv, "--customize-hook=%s/customize", b->tmp.shared);
    return true;
}

static bool run_mmdebstrap(struct build *b, struct cg_err *e)
{
    struct cg_host host;
    CG_OWN(cg_host_drop) struct cg_host *h = &host;
    CG_OWN(cg_strv_finish) struct cg_strv sources = {.v = NULL};
    CG_OWN(cg_proc_finish)
    struct cg_proc p = {
        .line = on_line, .ctx = b->task, .log_fd = b->log, .namespaces = geteuid() == 0};
    if (!cg_host_read(h, e))
        return false;
    const char *suite = cg_streq(b->recipe->suite, "host") ? h->codename : b->recipe->suite;
    cg_strv_add(&p.argv, "mmdebstrap");
    if (!cg_host_sources(h, suite, &b->recipe->extra_suites, &sources, e) ||
        !add_options(b, h, suite, &p.argv, e))
        return false;
    cg_strv_add(&p.argv, suite);
    cg_strv_add(&p.argv, "/dev/null");
    cg_strv_add_all(&p.argv, &sources);
    cg_strv_addf(&p.env, "CAGED_JOB=%s", b->tmp.shared);
    cg_strv_addf(&p.env, "TMPDIR=%s/mm", b->tmp.shared);
    return cg_proc_run(&p, e);
}

/* Lines "name<tab>version text" of customize to "name version". */
static bool read_contents(const struct build *b, struct cg_strv *out, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/contents", b->out);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    if (!cg_fs_exists(path))
        return true;
    if (!cg_fs_slurp(path, CONTENTS_MAX, &text, &n, e))
        return false;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *version = strchr(line, '\t');
        if (!version)
            continue;
        *version++ = '\0';
        cg_strv_addf(out, "%s %.60s", line, version);
    }
    return true;
}

/* Brings the image out of the folder that helpers share: a rename as root, a copy otherwise. */
static bool fetch_base(const struct build *b, const char *to, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *from = cg_format("%s/base.ext4", b->out);
    if (geteuid() == 0)
        return rename(from, to) == 0 || cg_fail_sys(e, "rename %s", from);
    CG_OWN(cg_proc_finish) struct cg_proc p = {.line = on_line, .ctx = b->task};
    cg_strv_add(&p.argv, "cp");
    cg_strv_add(&p.argv, "--sparse=always");
    cg_strv_add(&p.argv, "--preserve=mode");
    cg_strv_add(&p.argv, "--");
    cg_strv_add(&p.argv, from);
    cg_strv_add(&p.argv, to);
    return cg_proc_run(&p, e);
}

static bool build_base(struct cg_task *t, const struct cg_recipe *r, struct cg_err *e)
{
    CG_OWN(drop_build) struct build b = {.task = t, .recipe = r, .tmp = {.lock = -1}, .log = -1};
    CG_OWN(cg_strv_finish) struct cg_strv contents = {.v = NULL};
    if (!prepare(&b, e) || !run_mmdebstrap(&b, e) || !read_contents(&b, &contents, e) ||
        !cg_task_step(t, 96, "writing to disk", e))
        return false;
    CG_OWN(cg_drop_free) char *base = cg_format("%s/base.ext4", b.tmp.path);
    if (!fetch_base(&b, base, e))
        return false;
    struct cg_template_meta m = {.name = r->name,
                                 .description = r->description,
                                 .source = "recipe",
                                 .fingerprint = r->fingerprint,
                                 .aliases = &r->aliases,
                                 .contents = &contents,
                                 .env = &r->env};
    return cg_template_commit(t->config, base, &m, e);
}

char *cg_recipe_obstacle(const struct cg_recipe *r)
{
    struct cg_host host;
    CG_OWN(cg_host_drop) struct cg_host *h = &host;
    struct cg_err why = CG_ERR_INIT;
    if (!cg_host_read(h, &why))
        return cg_strdup(why.text);
    if (cg_streq(r->suite, "host") || cg_streq(r->suite, h->codename))
        return NULL;
    const char *distribution = cg_suite_distribution(r->suite);
    if (cg_streq(distribution, h->distribution))
        return NULL;
    return r->reason
               ? cg_strdup(r->reason)
               : cg_format("needs %s %s, and this machine's mirrors carry %s",
                           distribution ? distribution : "the suite", r->suite, h->distribution);
}

static bool is_current(const struct cg_image_config *c, const struct cg_recipe *r)
{
    struct cg_template have;
    struct cg_err absent = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *fingerprint = NULL;
    if (!cg_template_load(c, r->name, &have, &fingerprint, &absent))
        return false;
    bool current = have.state == CG_TEMPLATE_READY && cg_streq(fingerprint, r->fingerprint);
    cg_template_finish(&have);
    return current;
}

bool cg_template_build(struct cg_task *t, const struct cg_recipe *r, bool force, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *obstacle = cg_recipe_obstacle(r);
    if (obstacle)
        return cg_fail(e, CG_UNAVAILABLE, "template %s cannot be built here: %s", r->name,
                       obstacle);
    CG_OWN(cg_drop_free) char *name = cg_format("template-%s", r->name);
    CG_OWN(cg_drop_fd) int lock = cg_imagedir_lock(t, name, e);
    if (lock < 0)
        return false;
    t->cached = !force && is_current(t->config, r);
    if (!t->cached && !build_base(t, r, e)) {
        if (e->code != CG_CLOSED)
            cg_template_note_failure(t->config, r->name, e);
        return cg_wrap(e, "build template %s", r->name);
    }
    if (t->cached)
        cg_template_complete(t->config, r->name);
    return cg_task_step(t, 100, "done", e);
}
