/* Kernel, initramfs and templates: what a sandbox boots from. docs/images.md has the layout of the
 * images directory. Used by the CLI (builds) and by the server (lists, resolves, makes disks).
 *
 * Functions block and may be called from any thread; builds take seconds to minutes and belong on a
 * worker. Any number of processes may use one images directory at once: what is built is immutable,
 * pointers to it are replaced atomically, builds of the same thing wait for each other. */
#ifndef CG_IMAGE_IMAGE_H
#define CG_IMAGE_IMAGE_H

#include "base/err.h"
#include "image/strv.h"

struct cg_image_config {
    char *images_dir; /* created when a build needs it */
    char *own_dir;    /* the same for templates with agents, where images_dir is not ours to write;
                         or NULL */
    char *data_dir;   /* holds templates/, image/ and guest-modules.txt */
    char *agent_path; /* caged-agent, the static binary that becomes /init */
};

/* The places of this installation: images_dir from CAGED_IMAGE_DIR, else <state_dir>/images, else
 * that of the default state directory; the others relative to the running program (CAGED_DATA_DIR
 * and CAGED_LIBEXEC_DIR override). state_dir may be NULL. */
void cg_image_config_init(struct cg_image_config *c, const char *state_dir);
void cg_image_config_finish(struct cg_image_config *c);

enum cg_template_state {
    CG_TEMPLATE_ABSENT,      /* not built yet */
    CG_TEMPLATE_READY,       /* may be used */
    CG_TEMPLATE_BUILDING,    /* a build runs, and no earlier result is there */
    CG_TEMPLATE_UNAVAILABLE, /* this machine's mirrors do not have what it needs: see reason */
    CG_TEMPLATE_FAILED,      /* the last build failed: see reason */
};

const char *cg_template_state_name(enum cg_template_state s); /* "ready" */

struct cg_template {
    char *name;
    char *description;
    char *source;    /* "recipe" or "oci" */
    char *reason;    /* why it is unavailable or failed; else NULL */
    char *base_path; /* raw ext4, read-only; NULL unless ready */
    char *build_id;  /* changes with every build of other content; NULL unless ready */
    char *built_at;  /* RFC 3339; NULL unless ready */
    char *user;      /* of an OCI image's configuration; NULL: agent */
    char *workdir;   /* of an OCI image's configuration; NULL: /workspace */
    struct cg_strv aliases;
    struct cg_strv contents;   /* "git 2.39.5", once built; before that only names */
    struct cg_strv env;        /* KEY=VALUE */
    struct cg_strv registries; /* that its package managers are configured with: "host:port" */
    int64_t size_bytes;        /* size of the image; 0 unless ready */
    int64_t disk_bytes;        /* what it takes on the host's disk */
    enum cg_template_state state;
    bool outdated; /* ready, but its recipe has changed since */
};

struct cg_template_list {
    struct cg_template *v; /* recipes first, in the order of their names */
    size_t n;
};

/* All templates that there are recipes or imported images for. Reads a few small files. */
CG_MUST_USE bool cg_image_list(const struct cg_image_config *c, struct cg_template_list *out,
                               struct cg_err *e);
void cg_template_list_finish(struct cg_template_list *l);
void cg_template_finish(struct cg_template *t);

/* The template as a JSON object, as REST and `caged templates --json` show it. */
struct cg_jsonw;
void cg_template_json(struct cg_jsonw *w, const struct cg_template *t);

/* What to boot a template with. */
struct cg_image {
    struct cg_template template;
    char *kernel_path;
    char *kernel_version; /* "6.1.0-56-cloud-amd64" */
    char *initramfs_path;
    char *fingerprint; /* of kernel, initramfs and base image together, hex: a snapshot of a booted
                          guest may be reused for as long as this stays the same */
};

/* Finds a template by name or alias and what it boots with. Rebuilds the initramfs (milliseconds)
 * when the agent has changed and the images directory can be written.
 * Errors: CG_INVALID for an unknown name (the text lists the valid ones), CG_UNAVAILABLE when it
 * is not ready (the text says what to do), CG_IO. */
CG_MUST_USE bool cg_image_resolve(const struct cg_image_config *c, const char *name,
                                  struct cg_image *out, struct cg_err *e);
void cg_image_finish(struct cg_image *i);

struct cg_image_progress {
    const char *item;  /* "kernel", "initramfs" or a template's name */
    const char *phase; /* "installing packages" */
    int percent;       /* of the item, never falling; 100 exactly once, at its end */
    int64_t elapsed_ms;
    bool cached; /* with 100: it was there already */
};

/* Called on every change and some ten times a second; false interrupts the build. */
typedef bool (*cg_image_progress_fn)(void *ctx, const struct cg_image_progress *p);

struct cg_image_build {
    const char *const *templates;  /* names or aliases; NULL entry ends */
    bool force;                    /* build again what is there already, the kernel too */
    cg_image_progress_fn progress; /* may be NULL */
    void *ctx;
};

/* Builds kernel, initramfs, the empty writable image and the given templates, each only if it is
 * not there in its current version. Leftovers of builds that died are removed first.
 * Errors: CG_INVALID (unknown template, bad recipe), CG_UNAVAILABLE (cannot be had here),
 * CG_CLOSED (interrupted), CG_NOT_FOUND (a needed program or the agent is missing), CG_IO. */
CG_MUST_USE bool cg_image_build(const struct cg_image_config *c, const struct cg_image_build *b,
                                struct cg_err *e);

/* Imports an OCI image layout, "oci:DIR" or "oci:DIR:TAG", as template `name`.
 * Errors as for a build, and CG_PROTOCOL when the layout is malformed or hostile. */
CG_MUST_USE bool cg_image_import(const struct cg_image_config *c, const char *from,
                                 const char *name, const struct cg_image_build *b,
                                 struct cg_err *e);

/* Makes the writable disk of a sandbox: a sparse raw ext4 image of `bytes` that holds /upper, /work
 * and /workspace (uid 1000). The file system in it is small; the guest grows it when it mounts it.
 * Takes milliseconds. The file (mode 0600) must not exist; a failure leaves none behind.
 * Errors: CG_UNAVAILABLE when nothing was built yet, CG_INVALID when bytes is under 64 MiB. */
CG_MUST_USE bool cg_image_make_writable(const struct cg_image_config *c, const char *path,
                                        int64_t bytes, struct cg_err *e);

#endif
