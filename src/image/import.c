/* Imports an OCI image as a template: its layers are unpacked into a tree, the user of the sandbox
 * and the folders that the guest mounts on are added, and the tree is packed as for a recipe. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "image/oci.h"
#include "image/proc.h"
#include "image/template.h"

enum { ACCOUNTS_MAX = 1 << 20, AGENT_UID = 1000 };

/* Texts out of the image may reach a terminal: what could act on one is shown as '?'. */
static void defuse(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
            *text = '?';
}

/* Whether a file of accounts (passwd or group) has an entry with that number or that name. */
static bool has_account(const char *text, int id, const char *name)
{
    for (const char *at = text; at && *at; at = strchr(at, '\n')) {
        at += *at == '\n';
        char line_name[64];
        int line_id;
        if (sscanf(at, "%63[^:\n]:%*[^:\n]:%d", line_name, &line_id) == 2 &&
            (line_id == id || cg_streq(line_name, name)))
            return true;
    }
    return false;
}

/* Appends a line unless the file has the number or name; the file is made if it is missing. */
static bool add_account(const struct cg_tree *tree, const char *path, const char *line,
                        struct cg_err *e)
{
    CG_OWN(cg_drop_fd) int fd = cg_tree_open(tree, path, O_RDWR | O_CREAT | O_APPEND, 0644);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "open %s of the image", path);
    if (!S_ISREG(st.st_mode) || st.st_size > ACCOUNTS_MAX)
        return cg_fail(e, CG_PROTOCOL, "%s of the image is not a file of accounts", path);
    CG_OWN(cg_drop_free) char *text = cg_alloc((size_t)st.st_size + 1);
    if (!cg_fd_read_full(fd, text, (size_t)st.st_size, e))
        return false;
    if (has_account(text, AGENT_UID, "agent"))
        return true;
    bool torn = st.st_size > 0 && text[st.st_size - 1] != '\n';
    CG_OWN(cg_drop_free) char *out = cg_format("%s%s\n", torn ? "\n" : "", line);
    return cg_fd_write_full(fd, out, strlen(out), e);
}

static bool own_folder(const struct cg_tree *tree, const char *path, struct cg_err *e)
{
    if (!cg_tree_mkdirs(tree, path, e))
        return false;
    CG_OWN(cg_drop_fd) int fd = cg_tree_open(tree, path, O_RDONLY | O_DIRECTORY, 0);
    return (fd >= 0 && fchown(fd, AGENT_UID, AGENT_UID) == 0) ||
           cg_fail_sys(e, "give %s to its owner", path);
}

/* What the guest agent counts on. An image that has a user 1000 of its own keeps it. */
static bool complete_tree(const struct cg_tree *tree, struct cg_err *e)
{
    static const char *const folders[] = {"proc", "sys", "dev", "run", "tmp", "etc"};
    for (size_t i = 0; i < CG_COUNT(folders); i++)
        if (!cg_tree_mkdirs(tree, folders[i], e))
            return false;
    CG_OWN(cg_drop_fd) int bash = cg_tree_open(tree, "bin/bash", O_PATH, 0);
    CG_OWN(cg_drop_free)
    char *passwd = cg_format("agent:x:%d:%d:Agent:/home/agent:%s", (int)AGENT_UID, (int)AGENT_UID,
                             bash >= 0 ? "/bin/bash" : "/bin/sh");
    CG_OWN(cg_drop_free) char *group = cg_format("agent:x:%d:", (int)AGENT_UID);
    return add_account(tree, "etc/passwd", passwd, e) && add_account(tree, "etc/group", group, e) &&
           own_folder(tree, "home/agent", e) && own_folder(tree, "workspace", e);
}

static bool unpack_layers(struct cg_task *t, const struct cg_oci *o, const struct cg_tree *tree,
                          struct cg_err *e)
{
    struct cg_unpack u = {.tree = *tree, .limits = cg_layer_default_limits, .task = t};
    for (size_t i = 0; i < o->n_layers; i++) {
        CG_OWN(cg_drop_fd) int fd = -1;
        struct cg_blob blob;
        int percent = 5 + (int)(75 * i / o->n_layers);
        if (!cg_task_step(t, percent, "unpacking layers", e) || !cg_oci_layer_open(o, i, &blob, e))
            return false;
        fd = blob.fd;
        if (!cg_layer_apply(&u, &blob, e))
            return false;
    }
    return true;
}

static bool on_line(void *ctx, const char *line)
{
    (void)line;
    return cg_task_tick(ctx);
}

static bool pack(struct cg_task *t, const char *job, const char *tree, struct cg_err *e)
{
    CG_OWN(cg_proc_finish) struct cg_proc p = {.line = on_line, .ctx = t};
    cg_strv_addf(&p.argv, "%s/image/pack", t->config->data_dir);
    cg_strv_add(&p.argv, tree);
    cg_strv_add(&p.argv, job);
    return cg_task_step(t, 85, "making the image", e) && cg_proc_run(&p, e);
}

static bool write_uuid(const char *job, const char *digest, struct cg_err *e)
{
    CG_OWN(cg_drop_free)
    char *uuid = cg_format("%.8s-%.4s-4%.3s-8%.3s-%.12s", digest, digest + 8, digest + 12,
                           digest + 15, digest + 18);
    CG_OWN(cg_drop_free) char *path = cg_format("%s/uuid", job);
    return cg_fs_replace(path, uuid, strlen(uuid), 0644, e);
}

static bool import(struct cg_task *t, const struct cg_oci *o, const char *name, struct cg_err *e)
{
    CG_OWN(cg_tmp_drop) struct cg_tmp tmp = {.path = NULL, .lock = -1};
    if (!cg_tmp_create(t->config, &tmp, e))
        return false;
    CG_OWN(cg_drop_free) char *job = realpath(tmp.path, NULL);
    CG_OWN(cg_drop_free) char *folder = cg_format("%s/root", job);
    CG_OWN(cg_drop_free) char *out = cg_format("%s/out", job);
    CG_OWN(cg_drop_free) char *base = cg_format("%s/base.ext4", out);
    if (mkdir(folder, 0755) != 0 || mkdir(out, 0755) != 0)
        return cg_fail_sys(e, "create folder %s", folder);
    CG_OWN(cg_drop_fd) int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct cg_tree tree = {.fd = fd, .path = folder};
    if (!unpack_layers(t, o, &tree, e) || !complete_tree(&tree, e) ||
        !write_uuid(job, o->digest, e) || !pack(t, job, folder, e) ||
        !cg_task_step(t, 96, "writing to disk", e))
        return false;
    CG_OWN(cg_drop_free)
    char *text =
        cg_format("Imported from an OCI image%s%s", o->tag ? " called " : "", o->tag ? o->tag : "");
    struct cg_template_meta m = {.name = name,
                                 .description = text,
                                 .source = "oci",
                                 .fingerprint = o->digest,
                                 .user = o->user,
                                 .workdir = o->workdir,
                                 .contents = &o->titles,
                                 .env = &o->env};
    return cg_template_commit(t->config, base, &m, e);
}

/* An import may take a recipe's name only where that recipe cannot be built: then it is the
 * operator's own answer to it, and the list shows its source. */
static bool name_is_free(const struct cg_image_config *c, const char *name, struct cg_err *e)
{
    struct cg_recipes recipes;
    if (!cg_template_name_valid(name))
        return cg_fail(e, CG_INVALID, "--name %.64s: use a-z 0-9 . _ -, at most 64", name);
    if (!cg_recipes_load(c, &recipes, e))
        return false;
    const struct cg_recipe *r = cg_recipes_find(&recipes, name);
    CG_OWN(cg_drop_free) char *obstacle = r ? cg_recipe_obstacle(r) : NULL;
    bool ok = !r || (obstacle && cg_streq(r->name, name));
    if (!ok)
        cg_fail(e, CG_CONFLICT, "--name %s is the name of a template that has a recipe", name);
    cg_recipes_finish(&recipes);
    return ok;
}

static bool have_already(const struct cg_image_config *c, const char *name, const char *digest)
{
    struct cg_template t;
    struct cg_err absent = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *fingerprint = NULL;
    bool have = cg_template_load(c, name, &t, &fingerprint, &absent) &&
                t.state == CG_TEMPLATE_READY && cg_streq(fingerprint, digest);
    cg_template_finish(&t);
    return have;
}

bool cg_image_import(const struct cg_image_config *c, const char *from, const char *name,
                     const struct cg_image_build *b, struct cg_err *e)
{
    struct cg_image_build boot = *b;
    boot.templates = NULL;
    if (geteuid() != 0)
        return cg_fail(e, CG_UNSUPPORTED,
                       "importing keeps the image's owners and so needs root; run it with sudo");
    if (!name_is_free(c, name, e) || !cg_image_build(c, &boot, e))
        return false;
    struct cg_oci oci;
    struct cg_task t;
    cg_task_init(&t, c, b, name);
    if (!cg_oci_open(from, &oci, e)) {
        defuse(e->text);
        return false;
    }
    for (size_t i = 0; i < oci.titles.n; i++)
        defuse(oci.titles.v[i]);
    CG_OWN(cg_drop_free) char *lock_name = cg_format("template-%s", name);
    CG_OWN(cg_drop_fd) int lock = cg_imagedir_lock(&t, lock_name, e);
    bool ok = lock >= 0;
    t.cached = ok && !b->force && have_already(c, name, oci.digest);
    if (ok && !t.cached)
        ok = import(&t, &oci, name, e) || cg_wrap(e, "import %s", name);
    if (t.cached)
        cg_template_complete(c, name);
    if (!ok)
        defuse(e->text);
    cg_oci_finish(&oci);
    return ok && cg_task_step(&t, 100, "done", e);
}
