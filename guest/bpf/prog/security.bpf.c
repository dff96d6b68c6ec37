/* Rare acts with weight: connections, change of user, tracing, modules, mounts, bpf(2).
 * A ring of their own: neither a storm of files nor of commands can displace them, and a flood of
 * connections displaces nothing else. */
#define CG_RING_BYTES (512 << 10)
#include "common.bpf.h"

enum {
    CG_AF_INET = 2,
    CG_AF_INET6 = 10,
    CG_EINPROGRESS = 115,
    CG_PTRACE_ATTACH = 2,
};

static __always_inline void connected(enum cg_obs_hook hook, struct socket *sock,
                                      struct sockaddr *to, int ret)
{
    __u16 family = 0;
    struct cg_slot *s;

    bpf_probe_read_kernel(&family, sizeof(family), to);
    if ((family != CG_AF_INET && family != CG_AF_INET6) || !cg_enter(hook))
        return;
    s = cg_open(CG_OBS_CONN);
    if (!s)
        return;
    if (family == CG_AF_INET) {
        struct cg_in4 in = {};

        bpf_probe_read_kernel(&in, sizeof(in), to);
        __builtin_memcpy(s->rec.addr, in.addr, sizeof(in.addr));
        s->rec.num[0] = __builtin_bswap16(in.port);
    } else {
        struct cg_in6 in = {};

        bpf_probe_read_kernel(&in, sizeof(in), to);
        __builtin_memcpy(s->rec.addr, in.addr, sizeof(in.addr));
        s->rec.num[0] = __builtin_bswap16(in.port);
    }
    s->rec.num[0] |= (__u64)BPF_CORE_READ(sock, sk, __sk_common.skc_num) << 16;
    if (ret == -CG_EINPROGRESS)
        s->rec.flags |= CG_OBS_F_PENDING;
    else if (ret < 0)
        s->rec.num[1] = -ret;
    s->rec.num[2] = BPF_CORE_READ(sock, sk, sk_protocol);
    s->rec.num[3] = family;
    cg_send(s);
}

/* Below inet_stream_connect, where TCP fast open comes by too. */
SEC("fexit/__inet_stream_connect")
int BPF_PROG(on_connect_stream, struct socket *sock, struct sockaddr *to, int n, int flags,
             int is_sendmsg, int ret)
{
    connected(CG_HOOK_CONNECT_STREAM, sock, to, ret);
    return 0;
}

SEC("fexit/inet_dgram_connect")
int BPF_PROG(on_connect_dgram, struct socket *sock, struct sockaddr *to, int n, int flags, int ret)
{
    connected(CG_HOOK_CONNECT_DGRAM, sock, to, ret);
    return 0;
}

SEC("fentry/commit_creds")
int BPF_PROG(on_setuid, struct cred *new)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    const struct cred *old = task->cred;
    __u32 from = old->euid.val, to = new->euid.val;
    struct cg_slot *s;

    if (!cg_enter(CG_HOOK_SETUID) || (from == to && old->uid.val == new->uid.val))
        return 0;
    s = cg_open(CG_OBS_SETUID);
    if (!s)
        return 0;
    s->rec.num[0] = from == to ? old->uid.val : from;
    s->rec.num[1] = from == to ? new->uid.val : to;
    cg_send(s);
    return 0;
}

static __always_inline void traced(enum cg_obs_hook hook, struct task_struct *other, __u16 flags)
{
    struct cg_slot *s;

    if (!cg_enter(hook))
        return;
    s = cg_open(CG_OBS_PTRACE);
    if (!s)
        return;
    s->rec.flags = flags;
    s->rec.num[0] = other->tgid;
    bpf_probe_read_kernel_str(s->rec.addr, sizeof(s->rec.addr), other->comm);
    cg_send(s);
}

SEC("fexit/security_ptrace_access_check")
int BPF_PROG(on_ptrace, struct task_struct *child, unsigned int mode, int ret)
{
    if (!ret && (mode & CG_PTRACE_ATTACH))
        traced(CG_HOOK_PTRACE, child, 0);
    return 0;
}

SEC("fexit/security_ptrace_traceme")
int BPF_PROG(on_traceme, struct task_struct *parent, int ret)
{
    if (!ret)
        traced(CG_HOOK_TRACEME, parent, CG_OBS_F_TRACEME);
    return 0;
}

SEC("tp_btf/module_load")
int BPF_PROG(on_module, struct module *mod)
{
    struct cg_slot *s;
    long n;

    if (!cg_enter(CG_HOOK_MODULE))
        return 0;
    s = cg_open(CG_OBS_MODULE);
    if (!s)
        return 0;
    n = bpf_probe_read_kernel_str(s->rec.text, CG_OBS_NAME, mod->name);
    s->rec.text_n = n > 0 ? n : 0;
    cg_send(s);
    return 0;
}

/* Text: file system type and source, each with its NUL, as argv; then the mount point. */
static __always_inline void put_name(struct cg_obs_rec *r, const char *name)
{
    __u32 at = r->argv_n;
    long n;

    if (at > CG_OBS_ARGV - CG_OBS_NAME)
        return;
    n = bpf_probe_read_kernel_str(r->text + at, CG_OBS_NAME, name);
    if (n <= 0) {
        r->text[at] = 0;
        n = 1;
    }
    r->argv_n = at + n;
    r->text_n = r->argv_n;
}

SEC("fexit/path_mount")
int BPF_PROG(on_mount, const char *source, struct path *at, const char *type, unsigned long flags,
             void *data, int ret)
{
    struct cg_slot *s;

    if (ret || !cg_enter(CG_HOOK_MOUNT))
        return 0;
    s = cg_open(CG_OBS_MOUNT);
    if (!s)
        return 0;
    put_name(&s->rec, type);
    put_name(&s->rec, source);
    s->rec.num[0] = flags;
    cg_put_path(s, at->dentry, 0, CG_OBS_PATH_SHORT);
    cg_send(s);
    return 0;
}

/* The newer mount calls end in this one. */
SEC("fexit/security_move_mount")
int BPF_PROG(on_move_mount, struct path *from, struct path *to, int ret)
{
    struct cg_slot *s;

    if (ret || !cg_enter(CG_HOOK_MOVE_MOUNT))
        return 0;
    s = cg_open(CG_OBS_MOUNT);
    if (!s)
        return 0;
    cg_put_path(s, to->dentry, 0, CG_OBS_PATH_SHORT);
    cg_send(s);
    return 0;
}

SEC("fentry/security_bpf")
int BPF_PROG(on_bpf, int cmd)
{
    struct cg_slot *s;

    if (!cg_enter(CG_HOOK_BPF))
        return 0;
    s = cg_open(CG_OBS_BPF);
    if (!s)
        return 0;
    s->rec.num[0] = cmd;
    cg_send(s);
    return 0;
}
