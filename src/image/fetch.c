/* npm runs with a short environment: what says how to reach its registry, and nothing of
 * ours (a server's may hold keys). Install scripts are off: what an agent's package wants to do is
 * for the guest to find out. */
#include "image/fetch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/proc.h"

extern char **environ;

static const char fetcher_version[] = "fetch 1";

static bool passes(const char *entry)
{
    static const char *const names[] = {
        "http_proxy=", "https_proxy=",         "no_proxy=",      "HTTP_PROXY=", "HTTPS_PROXY=",
        "NO_PROXY=",   "NODE_EXTRA_CA_CERTS=", "SSL_CERT_FILE=", "npm_config_", "NPM_CONFIG_"};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* "env -i …, umask 022": what is written is for everybody in the guest to read. */
static void clean_words(const struct cg_tmp *tmp, struct cg_strv *argv)
{
    const char *home = getenv("HOME");
    cg_strv_add(argv, "env");
    cg_strv_add(argv, "-i");
    for (char **at = environ; *at; at++)
        if (passes(*at))
            cg_strv_add(argv, *at);
    cg_strv_add(argv, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    cg_strv_add(argv, "LC_ALL=C.UTF-8");
    /* the user's own configuration and cache, where it may be used */
    cg_strv_addf(argv, "HOME=%s", home && access(home, W_OK) == 0 ? home : tmp->path);
    cg_strv_add(argv, "sh");
    cg_strv_add(argv, "-c");
    cg_strv_add(argv, "umask 022; exec \"$@\"");
    cg_strv_add(argv, "sh");
}

static bool on_line(void *ctx, const char *line)
{
    (void)line;
    return cg_task_tick(ctx);
}

static bool run(struct cg_task *t, const struct cg_tmp *tmp, const char *dir,
                const struct cg_strv *words, struct cg_err *e)
{
    CG_OWN(cg_proc_finish) struct cg_proc p = {.line = on_line, .ctx = t, .cwd = dir};
    clean_words(tmp, &p.argv);
    cg_strv_add_all(&p.argv, words);
    if (cg_proc_run(&p, e))
        return true;
    if (e->code == CG_CLOSED)
        return false;
    e->code = CG_UNAVAILABLE;
    return cg_wrap(e, "%s cannot fetch it", words->v[0]);
}

static bool fetch_npm(struct cg_task *t, const struct cg_tmp *tmp, const struct cg_agent *a,
                      const char *dir, struct cg_err *e)
{
    /* a registry that is not there is found out in seconds */
    static const char *const words[] = {"npm",
                                        "install",
                                        "--no-audit",
                                        "--no-fund",
                                        "--no-save",
                                        "--ignore-scripts",
                                        "--fetch-retries=1",
                                        "--fetch-retry-mintimeout=1000",
                                        "--loglevel=error",
                                        "--"};
    static const char mark[] = "{\"private\": true}\n"; /* npm looks for one upwards otherwise */
    CG_OWN(cg_strv_finish) struct cg_strv argv = {.v = NULL};
    CG_OWN(cg_drop_free) char *file = cg_format("%s/package.json", dir);
    for (size_t i = 0; i < CG_COUNT(words); i++)
        cg_strv_add(&argv, words[i]);
    cg_strv_add_all(&argv, &a->npm);
    return cg_fs_replace(file, mark, sizeof mark - 1, 0644, e) && run(t, tmp, dir, &argv, e);
}

/* Moves what is kept; everything when the profile does not choose. */
static bool keep(const struct cg_agent *a, const char *from, const char *to, struct cg_err *e)
{
    if (a->keep.n == 0)
        return rename(from, to) == 0 || cg_fail_sys(e, "rename %s", from);
    if (!cg_fs_mkdirs(to, 0755, e))
        return false;
    for (size_t i = 0; i < a->keep.n; i++) {
        CG_OWN(cg_drop_free) char *old = cg_format("%s/%s", from, a->keep.v[i]);
        CG_OWN(cg_drop_free) char *new = cg_format("%s/%s", to, a->keep.v[i]);
        CG_OWN(cg_drop_free) char *folder = cg_strndup(new, (size_t)(strrchr(new, '/') - new));
        if (!cg_fs_mkdirs(folder, 0755, e))
            return false;
        if (rename(old, new) != 0)
            return cg_fail_sys(e, "the package has no %s", a->keep.v[i]);
    }
    return true;
}

static char *folder_of(const char *images_dir, const struct cg_agent *a)
{
    struct cg_hash h;
    char text[CG_HASH_TEXT];
    const struct cg_strv *const lists[] = {&a->npm, &a->keep};
    cg_hash_init(&h);
    cg_hash_field(&h, fetcher_version);
    for (size_t l = 0; l < CG_COUNT(lists); l++) {
        for (size_t i = 0; i < lists[l]->n; i++)
            cg_hash_field(&h, lists[l]->v[i]);
        cg_hash_field(&h, "");
    }
    cg_hash_text(&h, text);
    return cg_format("%s/agents/%s-%.16s", images_dir, a->name, text);
}

bool cg_fetch_agent(struct cg_task *t, const struct cg_agent *a, char **dir, struct cg_err *e)
{
    CG_OWN(cg_tmp_drop) struct cg_tmp tmp = {.lock = -1};
    const struct cg_image_config *c = t->config;
    CG_OWN(cg_drop_free) char *to = folder_of(c->images_dir, a);
    CG_OWN(cg_drop_free) char *other = c->own_dir ? folder_of(c->own_dir, a) : NULL;
    if (other && cg_fs_exists(other)) {
        *dir = CG_MOVE(other);
        return true;
    }
    if (!cg_fs_exists(to)) {
        if (!cg_tmp_create(t->config, &tmp, e))
            return false;
        CG_OWN(cg_drop_free) char *all = cg_format("%s/all", tmp.path);
        CG_OWN(cg_drop_free) char *kept = cg_format("%s/kept", tmp.path);
        if (!cg_fs_mkdirs(all, 0755, e) || !fetch_npm(t, &tmp, a, all, e) ||
            !keep(a, all, kept, e) || !cg_imagedir_commit(kept, to, e))
            return false;
    }
    *dir = CG_MOVE(to);
    return true;
}
