/* Files: what changed names and contents. Results, not attempts: hooks run behind the operation, or
 * where its success is known.
 *
 * create: an open that made the file (FMODE_CREATED). write: the last close of a regular file that
 * was open for writing, also through a mapping. rename: the old place is noted before, in an LRU
 * map so that a lost return cannot fill it; overlayfs renames inside of a rename, hence the key. */
#define CG_RING_BYTES (4 << 20)
#include "common.bpf.h"

enum {
    CG_FMODE_WRITE = 2,
    CG_FMODE_CREATED = 0x100000,
    CG_RENAME_EXCHANGE = 2,
};

struct old_key {
    __u64 rd; /* the kernel's argument block: tells nested renames apart */
    __u64 task;
};

struct old_place {
    struct dentry *parent; /* pinned by the renaming task until it returns */
    char name[CG_OBS_NAME];
};

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1024);
    __type(key, struct old_key);
    __type(value, struct old_place);
} renames SEC(".maps");

static __always_inline void tell(enum cg_obs_hook hook, enum cg_obs_op op, struct dentry *d)
{
    struct cg_slot *s;

    if (!d || cg_noise(BPF_CORE_READ(d, d_sb)) || !cg_enter(hook))
        return;
    s = cg_open(CG_OBS_FILE);
    if (!s)
        return;
    s->rec.op = op;
    if (!cg_put_path(s, d, 0, CG_OBS_PATH_LONG)) {
        cg_free(s);
        return;
    }
    s->rec.num[0] = BPF_CORE_READ(d, d_inode, i_size);
    cg_send(s);
}

SEC("fentry/security_file_open")
int BPF_PROG(on_open, struct file *file)
{
    if (file->f_mode & CG_FMODE_CREATED)
        tell(CG_HOOK_OPEN, CG_OBS_CREATE, file->f_path.dentry);
    return 0;
}

static __always_inline bool hashed(struct dentry *d)
{
    return BPF_CORE_READ(d, d_hash.pprev) != NULL;
}

/* A file made with O_TMPFILE and linked later has its name in another dentry than the open file. */
static __always_inline struct dentry *named(struct inode *inode, struct dentry *d)
{
    struct hlist_node *node;

    if (hashed(d))
        return d;
    node = BPF_CORE_READ(inode, i_dentry.first);
    for (int i = 0; i < 4; i++) {
        if (!node)
            break;
        struct dentry *alias =
            (void *)((char *)node - bpf_core_field_offset(struct dentry, d_u.d_alias));
        if (hashed(alias))
            return alias;
        node = BPF_CORE_READ(node, next);
    }
    return d;
}

SEC("fentry/__fput")
int BPF_PROG(on_close, struct file *file)
{
    struct dentry *d = file->f_path.dentry;
    struct inode *inode = file->f_inode;

    if (!(file->f_mode & CG_FMODE_WRITE) || (inode->i_mode & CG_S_IFMT) != CG_S_IFREG)
        return 0;
    /* overlayfs opens files of its upper layer under its own path: the outer close is told */
    if (inode->i_sb != d->d_sb || inode->i_nlink == 0)
        return 0;
    tell(CG_HOOK_CLOSE, CG_OBS_WRITE, named(inode, d));
    return 0;
}

SEC("fexit/vfs_unlink")
int BPF_PROG(on_unlink, void *idmap, struct inode *dir, struct dentry *d, void *delegated, int ret)
{
    if (!ret)
        tell(CG_HOOK_UNLINK, CG_OBS_DELETE, d);
    return 0;
}

SEC("fexit/vfs_rmdir")
int BPF_PROG(on_rmdir, void *idmap, struct inode *dir, struct dentry *d, int ret)
{
    if (!ret)
        tell(CG_HOOK_RMDIR, CG_OBS_RMDIR, d);
    return 0;
}

SEC("fexit/vfs_mkdir")
int BPF_PROG(on_mkdir, void *idmap, struct inode *dir, struct dentry *d, int mode, int ret)
{
    if (!ret)
        tell(CG_HOOK_MKDIR, CG_OBS_MKDIR, d);
    return 0;
}

SEC("fentry/vfs_rename")
int BPF_PROG(on_rename_in, struct renamedata *rd)
{
    struct old_key key = {.rd = (__u64)rd, .task = bpf_get_current_pid_tgid()};
    struct dentry *d = rd->old_dentry;
    struct old_place old = {};

    if (!d || cg_noise(d->d_sb) || !cg_enter(CG_HOOK_RENAME_IN))
        return 0;
    old.parent = BPF_CORE_READ(d, d_parent);
    bpf_probe_read_kernel_str(old.name, sizeof(old.name), BPF_CORE_READ(d, d_name.name));
    bpf_map_update_elem(&renames, &key, &old, BPF_ANY);
    return 0;
}

/* The old place as path 0: the name as it was, then the folder it was in, which has not moved. */
static __always_inline bool put_old(struct cg_slot *s, struct old_place *old)
{
    long n = bpf_probe_read_kernel_str(s->rec.text, CG_OBS_NAME, old->name);
    bool told;

    if (n <= 0 || n > CG_OBS_NAME)
        return true;
    s->rec.text_n = n;
    told = cg_put_path(s, old->parent, 0, CG_OBS_PATH_LONG - CG_OBS_NAME);
    s->rec.path[0].n += n;
    return told;
}

static __always_inline void tell_rename(struct renamedata *rd, struct old_place *old)
{
    struct cg_slot *s = cg_open(CG_OBS_FILE);
    bool from, to;

    if (!s)
        return;
    s->rec.op = CG_OBS_RENAME;
    if (rd->flags & CG_RENAME_EXCHANGE)
        s->rec.flags |= CG_OBS_F_EXCHANGE;
    from = put_old(s, old);
    to = cg_put_path(s, rd->old_dentry, 1, CG_OBS_PATH_LONG);
    if (from || to)
        cg_send(s);
    else
        cg_free(s);
}

SEC("fexit/vfs_rename")
int BPF_PROG(on_rename_out, struct renamedata *rd, int ret)
{
    struct old_key key = {.rd = (__u64)rd, .task = bpf_get_current_pid_tgid()};
    struct dentry *d = rd->old_dentry;
    struct old_place *old;

    if (!d || cg_noise(d->d_sb) || !cg_enter(CG_HOOK_RENAME_OUT))
        return 0;
    old = bpf_map_lookup_elem(&renames, &key);
    if (!ret && old)
        tell_rename(rd, old);
    else if (!ret)
        cg_lose(CG_OBS_FILE);
    bpf_map_delete_elem(&renames, &key);
    return 0;
}
