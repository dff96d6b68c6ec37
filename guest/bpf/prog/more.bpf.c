/* The rarer changes of files: links, nodes, truncation, mode and owner. An object of its own, so
 * that a kernel without one of these functions still has the common ones. */
#define CG_RING_BYTES (1 << 20)
#include "common.bpf.h"

enum {
    CG_ATTR_MODE = 1,
    CG_ATTR_UID = 2,
    CG_ATTR_GID = 4,
    CG_ATTR_OPEN = 1 << 15,
};

static __always_inline struct cg_slot *start(enum cg_obs_hook hook, enum cg_obs_op op,
                                             struct dentry *d)
{
    struct cg_slot *s;

    if (!d || cg_noise(BPF_CORE_READ(d, d_sb)) || !cg_enter(hook))
        return NULL;
    s = cg_open(CG_OBS_FILE);
    if (!s)
        return NULL;
    s->rec.op = op;
    s->rec.num[0] = BPF_CORE_READ(d, d_inode, i_size);
    if (cg_put_path(s, d, 0, CG_OBS_PATH_LONG))
        return s;
    cg_free(s);
    return NULL;
}

static __always_inline void tell(enum cg_obs_hook hook, enum cg_obs_op op, struct dentry *d)
{
    struct cg_slot *s = start(hook, op, d);

    if (s)
        cg_send(s);
}

/* A file without a name (O_TMPFILE) that gets its first one is created, not linked. */
SEC("fexit/vfs_link")
int BPF_PROG(on_link, struct dentry *old, void *idmap, struct inode *dir, struct dentry *d,
             void *delegated, int ret)
{
    struct cg_slot *s;

    if (ret)
        return 0;
    if (!BPF_CORE_READ(old, d_hash.pprev)) {
        tell(CG_HOOK_LINK, CG_OBS_CREATE, d);
        return 0;
    }
    s = start(CG_HOOK_LINK, CG_OBS_LINK, old);
    if (!s)
        return 0;
    cg_put_path(s, d, 1, CG_OBS_PATH_LONG);
    cg_send(s);
    return 0;
}

SEC("fexit/vfs_symlink")
int BPF_PROG(on_symlink, void *idmap, struct inode *dir, struct dentry *d, const char *target,
             int ret)
{
    struct cg_slot *s;
    long n;

    if (ret)
        return 0;
    s = start(CG_HOOK_SYMLINK, CG_OBS_SYMLINK, d);
    if (!s)
        return 0;
    /* the target stands last in the text and is no path[]: it is told as it was written */
    if (s->rec.text_n <= CG_OBS_PATH_LONG) {
        n = bpf_probe_read_kernel_str(s->rec.text + s->rec.text_n, CG_OBS_PATH_LONG, target);
        if (n > 0)
            s->rec.text_n += n;
    }
    cg_send(s);
    return 0;
}

SEC("fexit/vfs_mknod")
int BPF_PROG(on_mknod, void *idmap, struct inode *dir, struct dentry *d, int mode, int dev, int ret)
{
    if (!ret)
        tell(CG_HOOK_MKNOD, CG_OBS_MKNOD, d);
    return 0;
}

SEC("fexit/vfs_create")
int BPF_PROG(on_create, void *idmap, struct inode *dir, struct dentry *d, int mode, int excl,
             int ret)
{
    if (!ret)
        tell(CG_HOOK_CREATE, CG_OBS_CREATE, d);
    return 0;
}

/* Truncation by open is left out: the close after it tells. */
SEC("fexit/do_truncate")
int BPF_PROG(on_truncate, void *idmap, struct dentry *d, long long length, unsigned int attrs,
             void *file, int ret)
{
    if (!ret && !(attrs & CG_ATTR_OPEN))
        tell(CG_HOOK_TRUNCATE, CG_OBS_TRUNCATE, d);
    return 0;
}

SEC("fexit/notify_change")
int BPF_PROG(on_setattr, void *idmap, struct dentry *d, struct iattr *attr, void *delegated,
             int ret)
{
    unsigned int valid = attr->ia_valid;
    bool owner = valid & (CG_ATTR_UID | CG_ATTR_GID);
    struct cg_slot *s;

    if (ret || !(owner || (valid & CG_ATTR_MODE)))
        return 0;
    s = start(CG_HOOK_SETATTR, owner ? CG_OBS_CHOWN : CG_OBS_CHMOD, d);
    if (!s)
        return 0;
    s->rec.num[1] = BPF_CORE_READ(d, d_inode, i_mode);
    s->rec.num[2] = valid & CG_ATTR_UID ? attr->ia_uid.val : ~0U;
    s->rec.num[3] = valid & CG_ATTR_GID ? attr->ia_gid.val : ~0U;
    cg_send(s);
    return 0;
}
