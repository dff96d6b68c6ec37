/* Commands: every successful execve with its whole argv, every end of a process.
 * argv is read from the new memory image with one copy: its pages were written a moment ago by the
 * same execve, so none is missing. A process ends when its last thread does: acct_collect is told
 * so. */
#define CG_RING_BYTES (2 << 20)
#include "common.bpf.h"

enum { CG_SIGNAL_GROUP_EXIT = 4 };

static __always_inline void put_argv(struct cg_obs_rec *r, struct mm_struct *mm)
{
    unsigned long start = mm->arg_start;
    unsigned long n = mm->arg_end - start;

    if (n > CG_OBS_ARGV) {
        n = CG_OBS_ARGV;
        r->flags |= CG_OBS_F_ARGV_CUT;
    }
    if (bpf_probe_read_user(r->text, n, (void *)start)) {
        r->flags |= CG_OBS_F_ARGV_CUT;
        n = 0;
    }
    r->argv_n = n;
    r->text_n = n;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
    struct mm_struct *mm = task->mm;
    struct cg_slot *s;

    if (!cg_enter(CG_HOOK_EXEC) || !mm)
        return 0;
    s = cg_open(CG_OBS_EXEC);
    if (!s)
        return 0;
    put_argv(&s->rec, mm);
    cg_put_path(s, BPF_CORE_READ(mm, exe_file, f_path.dentry), 0, CG_OBS_PATH_SHORT);
    cg_put_path(s, BPF_CORE_READ(task, fs, pwd.dentry), 1, CG_OBS_PATH_SHORT);
    cg_send(s);
    return 0;
}

SEC("fentry/acct_collect")
int BPF_PROG(on_exit, long code, int group_dead)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    struct signal_struct *sig = task->signal;
    struct task_struct *leader = task->group_leader;
    struct cg_slot *s;

    if (!group_dead || (task->flags & CG_PF_KTHREAD) || !cg_enter(CG_HOOK_EXIT))
        return 0;
    s = cg_open(CG_OBS_EXIT);
    if (!s)
        return 0;
    if (sig->flags & CG_SIGNAL_GROUP_EXIT)
        code = sig->group_exit_code;
    else if (leader->pid != task->pid)
        code = leader->exit_code;
    s->rec.num[0] = (__u32)code;
    s->rec.num[1] = s->rec.t_ns - leader->start_time;
    cg_send(s);
    return 0;
}
