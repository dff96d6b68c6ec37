/* What every observation object has: its ring, its counters, scratch memory, and the walk from a
 * dentry to the root of its file system.
 *
 * Records are built in scratch memory and copied into the ring, since a reservation of the largest
 * record would waste the ring. Scratch slots are taken with an atomic exchange: a program that is
 * preempted on a fully preemptible kernel keeps its slot; who finds none counts its record as lost.
 * The ring is asked for no wake-up policy of its own: the kernel wakes a reader that has caught up,
 * and the reader makes itself deaf while it polls (observe.c). */
#ifndef CG_BPF_COMMON_H
#define CG_BPF_COMMON_H

#include <stdbool.h>

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "../record.h"
#include "kernel.bpf.h"

enum {
    CG_SLOTS = 2,
    CG_DEPTH = 512, /* names walked at most */
    CG_S_IFMT = 0170000,
    CG_S_IFREG = 0100000,
    CG_SB_KERNMOUNT = 1 << 22,
    CG_PF_KTHREAD = 0x00200000,
};

struct cg_slot {
    __u32 busy;
    __u32 spare;
    struct cg_obs_rec rec;
};

const volatile __u32 skip_tgid = 0;
const volatile struct cg_obs_scope scopes[CG_OBS_SCOPE_MAX] = {};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, CG_RING_BYTES);
} ring SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct cg_obs_counters);
} counters SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, CG_SLOTS);
    __type(key, __u32);
    __type(value, struct cg_slot);
} scratch SEC(".maps");

/* Atomic, so that a preempted program loses no count. */
static __always_inline void cg_count(__u64 *counter)
{
    __sync_fetch_and_add(counter, 1);
}

static __always_inline struct cg_obs_counters *cg_counters(void)
{
    __u32 zero = 0;

    return bpf_map_lookup_elem(&counters, &zero);
}

/* Counts a run; false when the acting process is the one that is skipped. */
static __always_inline bool cg_enter(enum cg_obs_hook hook)
{
    struct cg_obs_counters *c = cg_counters();
    __u32 tgid = bpf_get_current_pid_tgid() >> 32;

    if (!c)
        return false;
    if (tgid == skip_tgid) {
        cg_count(&c->own[hook]);
        return false;
    }
    cg_count(&c->hits[hook]);
    return true;
}

static __always_inline void cg_lose(enum cg_obs_kind kind)
{
    struct cg_obs_counters *c = cg_counters();

    if (!c)
        return;
    cg_count(&c->seen[kind]);
    cg_count(&c->lost[kind]);
}

/* A scratch slot with the head of a record filled in; NULL when none is free: counted as lost. */
static __always_inline struct cg_slot *cg_open(enum cg_obs_kind kind)
{
    struct cg_slot *s = NULL;
    __u32 key = 0;

    s = bpf_map_lookup_elem(&scratch, &key);
    if (!s || __sync_lock_test_and_set(&s->busy, 1)) {
        key = 1;
        s = bpf_map_lookup_elem(&scratch, &key);
        if (!s || __sync_lock_test_and_set(&s->busy, 1)) {
            cg_lose(kind);
            return NULL;
        }
    }
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    struct cg_obs_rec *r = &s->rec;

    __builtin_memset(r, 0, __builtin_offsetof(struct cg_obs_rec, text));
    r->kind = kind;
    r->t_ns = bpf_ktime_get_ns();
    r->pid = task->tgid;
    r->ppid = task->real_parent->tgid;
    r->uid = (__u32)bpf_get_current_uid_gid();
    bpf_get_current_comm(r->comm, sizeof(r->comm));
    return s;
}

static __always_inline void cg_free(struct cg_slot *s)
{
    __sync_lock_test_and_set(&s->busy, 0);
}

/* Counts the record as seen, hands it to the ring and frees the slot. */
static __always_inline void cg_send(struct cg_slot *s)
{
    struct cg_obs_counters *c = cg_counters();
    __u32 kind = s->rec.kind;
    __u32 n = s->rec.text_n;

    if (c && kind < CG_OBS_KINDS) {
        cg_count(&c->seen[kind]);
        if (n > CG_OBS_TEXT)
            n = CG_OBS_TEXT;
        if (bpf_ringbuf_output(&ring, &s->rec, __builtin_offsetof(struct cg_obs_rec, text) + n, 0))
            cg_count(&c->lost[kind]);
    }
    cg_free(s);
}

struct cg_walk {
    struct dentry *at;
    struct dentry *root; /* of the file system */
    struct cg_obs_rec *rec;
    __u32 off, end;
    __u32 dev;
    __u8 scoped; /* the file system has a scope: look for its inode on the way */
    __u8 scope;
    __u8 flags;
    __u8 done;
};

/* Here and below: what BPF_CORE_READ gets is a variable of its own, since a member of one of our
 * own structures would be looked for in the kernel's types too. */
static __always_inline bool cg_in_scope(struct cg_walk *w)
{
    struct dentry *at = w->at;
    unsigned long ino = BPF_CORE_READ(at, d_inode, i_ino);

#pragma unroll
    for (int i = 0; i < CG_OBS_SCOPE_MAX; i++) {
        if (scopes[i].used && scopes[i].dev == w->dev && scopes[i].ino == ino) {
            w->scope = i + 1;
            w->done = 1;
            return true;
        }
    }
    return false;
}

/* One name. Goes on counting steps without keeping names when the text is full: the scope matters
 * for what is told at all. */
static long cg_walk_step(__u32 index, void *ctx)
{
    struct cg_walk *w = ctx;
    struct dentry *at = w->at;
    struct dentry *parent = BPF_CORE_READ(at, d_parent);
    __u32 off = w->off;

    w->done = at == w->root || !parent;
    if (w->done || (w->scoped && cg_in_scope(w)))
        return 1;
    if (off > w->end || off > CG_OBS_TEXT - CG_OBS_NAME) {
        w->flags |= CG_OBS_PATH_CUT;
    } else {
        long n = bpf_probe_read_kernel_str(w->rec->text + off, CG_OBS_NAME,
                                           BPF_CORE_READ(at, d_name.name));
        if (n > 0)
            w->off = off + n;
        else
            w->flags |= CG_OBS_PATH_CUT;
    }
    if (parent == at) {
        w->flags |= CG_OBS_PATH_LOOSE;
        w->done = 1;
        return 1;
    }
    w->at = parent;
    return 0;
}

/* Appends the path of d to the text. False when it lies in a file system with scopes, but outside
 * of them: not to be told. */
static __always_inline bool cg_put_path(struct cg_slot *s, struct dentry *d, __u32 which, __u32 max)
{
    struct cg_obs_path *p = &s->rec.path[which & 1];
    __u32 start = s->rec.text_n;
    struct super_block *sb = BPF_CORE_READ(d, d_sb);
    struct cg_walk w = {.at = d, .rec = &s->rec, .off = start, .end = start + max - CG_OBS_NAME};

    w.dev = BPF_CORE_READ(sb, s_dev);
    w.root = BPF_CORE_READ(sb, s_root);
#pragma unroll
    for (int i = 0; i < CG_OBS_SCOPE_MAX; i++)
        if (scopes[i].used && scopes[i].dev == w.dev)
            w.scoped = 1;
    bpf_loop(CG_DEPTH, cg_walk_step, &w, 0);

    if (!w.done)
        w.flags |= CG_OBS_PATH_CUT;
    if (BPF_CORE_READ(sb, s_flags) & CG_SB_KERNMOUNT)
        w.flags |= CG_OBS_PATH_INNER;
    p->dev = w.dev;
    p->scope = w.scope;
    p->flags = w.flags;
    p->n = w.off - start;
    s->rec.text_n = w.off;
    return !w.scoped || w.scope || !w.done;
}

/* True for file systems that hold no files of anybody: the kernel's own. */
static __always_inline bool cg_noise(struct super_block *sb)
{
    unsigned long magic = BPF_CORE_READ(sb, s_magic);

    if (BPF_CORE_READ(sb, s_flags) & CG_SB_KERNMOUNT)
        return true;
    switch (magic) {
    case 0x9fa0:     /* proc */
    case 0x62656572: /* sysfs */
    case 0x1cd1:     /* devpts */
    case 0x27e0eb:   /* cgroup */
    case 0x63677270: /* cgroup2 */
    case 0x64626720: /* debugfs */
    case 0x74726163: /* tracefs */
    case 0x73636673: /* securityfs */
    case 0x62656570: /* configfs */
    case 0xcafe4a11: /* bpf */
    case 0x19800202: /* mqueue */
        return true;
    default:
        return false;
    }
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#endif
