/* What a template's own files say about registries: read out of its finished image, once, when it
 * is built or imported. The image may be anybody's: debugfs resolves names inside it, so a link
 * leads nowhere else; files, names and their number are bounded, and what is kept is rules, checked
 * one by one, never a text of the image. */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "egress/registries.h"
#include "image/proc.h"
#include "image/template.h"

enum { NAME_MAX_BYTES = 64, MATCHES = 16, WORK = 32 * 1024 };

/* What debugfs prints when it is asked one thing; absent when it has nothing to say. */
static bool ask(const char *image, const char *question, struct cg_buf *out)
{
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = out};
    cg_strv_add(&p.argv, "debugfs");
    cg_strv_add(&p.argv, "-R");
    cg_strv_add(&p.argv, question);
    cg_strv_add(&p.argv, image);
    return cg_proc_run(&p, NULL) && out->n > 0;
}

static void read_file(const char *image, const char *path, const char *word, struct cg_buf *hosts)
{
    CG_OWN(cg_drop_free) char *question = cg_format("cat %s", path);
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, CG_REGISTRIES_FILE);
    if (ask(image, question, &text))
        cg_registries_scan(cg_buf_cstr(&text), word, hosts);
}

/* Nothing that debugfs would take for more than one word. */
static bool is_plain(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n > 0 && n <= NAME_MAX_BYTES && !name[n] && name[0] != '.';
}

/* The names in a folder that fit the pattern; a line is "/inode/mode/uid/gid/name/size/". */
static void list(const char *image, const char *folder, const char *pattern, struct cg_strv *out)
{
    CG_OWN(cg_drop_free) char *question = cg_format("ls -p %s", folder);
    CG_OWN(cg_drop_buf) struct cg_buf text;
    char *save = NULL;
    cg_buf_init(&text, CG_REGISTRIES_FILE);
    if (!ask(image, question, &text))
        return;
    CG_OWN(cg_drop_free) char *copy = cg_strdup(cg_buf_cstr(&text));
    for (char *l = strtok_r(copy, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        for (int i = 0; l && i < 5; i++)
            l = strchr(l + (i > 0), '/');
        if (!l)
            continue;
        l++;
        l[strcspn(l, "/")] = '\0';
        if (out->n < MATCHES && is_plain(l) && fnmatch(pattern, l, 0) == 0)
            cg_strv_add(out, l);
    }
}

/* A path with "*" in at most one of its names. */
static void read_pattern(const char *image, const char *path, const char *word,
                         struct cg_buf *hosts)
{
    const char *star = strchr(path, '*');
    if (!star) {
        read_file(image, path, word, hosts);
        return;
    }
    size_t begin = (size_t)(star - path);
    while (path[begin] != '/')
        begin--;
    const char *rest = star + strcspn(star, "/");
    CG_OWN(cg_drop_free) char *folder = cg_strndup(path, begin);
    CG_OWN(cg_drop_free)
    char *pattern = cg_strndup(path + begin + 1, (size_t)(rest - path) - begin - 1);
    CG_OWN(cg_strv_finish) struct cg_strv names = {.v = NULL};
    list(image, folder, pattern, &names);
    for (size_t i = 0; i < names.n; i++) {
        CG_OWN(cg_drop_free) char *file = cg_format("%s/%s%s", folder, names.v[i], rest);
        read_file(image, file, word, hosts);
    }
}

static void read_source(const char *image, const struct cg_registries_source *s,
                        struct cg_buf *hosts)
{
    static const char *const homes[] = {"/root", "/home/agent"};
    if (s->path[0] != '~') {
        read_pattern(image, s->path, s->word, hosts);
        return;
    }
    for (size_t i = 0; i < CG_COUNT(homes); i++) {
        CG_OWN(cg_drop_free) char *path = cg_format("%s%s", homes[i], s->path + 1);
        read_pattern(image, path, s->word, hosts);
    }
}

static void read_variables(const struct cg_strv *env, const char *manager, struct cg_buf *hosts)
{
    for (size_t i = 0; env && i < env->n; i++) {
        size_t n = strcspn(env->v[i], "=");
        for (size_t k = 0; k < CG_REGISTRIES_VARIABLES; k++) {
            const struct cg_registries_variable *v = &cg_registries_variables[k];
            if (cg_streq(v->manager, manager) && strlen(v->name) == n &&
                strncmp(v->name, env->v[i], n) == 0 && env->v[i][n])
                cg_registries_scan(env->v[i] + n + 1, "", hosts);
        }
    }
}

void cg_template_registries(const char *image, const struct cg_strv *env, struct cg_strv *out)
{
    CG_OWN(cg_drop_buf) struct cg_buf hosts;
    cg_buf_init(&hosts, WORK);
    for (size_t m = 0; m < CG_REGISTRIES_MANAGERS; m++) {
        size_t before = hosts.n;
        const char *manager = cg_registries_managers[m];
        read_variables(env, manager, &hosts);
        for (int fallback = 0; fallback < 2 && hosts.n == before; fallback++)
            for (size_t i = 0; i < CG_REGISTRIES_SOURCES; i++)
                if (cg_streq(cg_registries_sources[i].manager, manager) &&
                    cg_registries_sources[i].fallback == (fallback == 1))
                    read_source(image, &cg_registries_sources[i], &hosts);
    }
    for (size_t at = 0; at < hosts.n; at += strlen(hosts.p + at) + 1)
        cg_strv_add(out, hosts.p + at);
}
