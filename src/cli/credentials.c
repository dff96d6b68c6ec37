/* Credentials of this user, as the first clients keep them. */
#include "cli/credentials.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/jsonw.h"

enum { FILE_MAX = 65536 };

char *cli_credentials_path(void)
{
    const char *home = getenv("HOME");
    return home && home[0] == '/' ? cg_format("%s/.config/caged/config.json", home) : NULL;
}

static struct cg_json *load(const char *path)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    if (!cg_fs_slurp(path, FILE_MAX, &text, NULL, NULL))
        return NULL;
    return cg_json_parse(cg_slice_of(text), NULL, NULL);
}

bool cli_credentials_have(void)
{
    CG_OWN(cg_drop_free) char *path = cli_credentials_path();
    CG_OWN(cg_drop_json) struct cg_json *j = path ? load(path) : NULL;
    return cg_json_str(j, "api_key") != NULL;
}

static void write_kept(struct cg_jsonw *w, const struct cg_json *old)
{
    bool object = old && old->type == CG_JSON_OBJ;
    for (const struct cg_json *m = object ? old->child : NULL; m; m = m->next) {
        if (strcmp(m->key.p, "api_url") == 0 || strcmp(m->key.p, "api_key") == 0)
            continue;
        cg_jsonw_keyn(w, m->key.p, m->key.n);
        cg_jsonw_value(w, m);
    }
}

bool cli_credentials_save(const char *url, const char *key, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cli_credentials_path();
    if (!path)
        return cg_fail(e, CG_INVALID, "HOME is not set: there is no place for the key");
    CG_OWN(cg_drop_json) struct cg_json *old = load(path);
    CG_OWN(cg_drop_free) char *dir = cg_strndup(path, (size_t)(strrchr(path, '/') - path));
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 2 * FILE_MAX);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    if (url && key) {
        cg_jsonw_kstr(&w, "api_url", url);
        cg_jsonw_kstr(&w, "api_key", key);
    }
    write_kept(&w, old);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(&b, '\n');
    if (b.full)
        return cg_fail(e, CG_TOO_LARGE, "%s is too large to be a configuration", path);
    if (!cg_fs_mkdirs(dir, 0700, e))
        return false;
    if (chmod(dir, 0700) != 0)
        return cg_fail_sys(e, "%s", dir);
    return cg_fs_replace(path, b.p, b.n, 0600, e);
}
