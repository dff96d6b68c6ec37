/* Processes by pid: who started whom, for as long as a place is not taken by a later pid. A child
 * of a process that was forked and runs no program of its own has an unknown parent: the walk ends
 * there. */
#include <string.h>

#include "trust/inner.h"

enum { BESIDE_PIDS = 8 };

static const int64_t beside_ns = 5 * NS_PER_S;

const struct proc *procs_find(const struct procs *p, int64_t pid)
{
    const struct proc *at = &p->at[(uint64_t)pid % PROCS];
    return pid > 0 && at->pid == pid ? at : NULL;
}

void procs_exec(struct procs *p, const struct look *l, int64_t ppid)
{
    struct proc *at = &p->at[(uint64_t)l->pid % PROCS];
    *at = (struct proc){.pid = l->pid, .ppid = ppid, .t = l->e->t, .seq = l->e->seq};
    (void)cg_strlcpy(at->program, sizeof at->program, cg_sh_basename(l->argv[l->program]));
    if (l->as)
        (void)cg_strlcpy(at->script, sizeof at->script, l->as);
    if (look_reads_stdin(l))
        p->reader[p->nreaders++ % READERS] = *at;
}

bool procs_under(const struct procs *p, int64_t pid, bool itself, const struct cg_texts *names)
{
    const struct proc *at = procs_find(p, pid);
    if (at && !itself)
        at = procs_find(p, at->ppid);
    for (int hops = 0; at && hops < ANCESTORS; hops++) {
        if (texts_match(names, at->program) || (at->script[0] && texts_match(names, at->script)))
            return true;
        at = at->ppid == at->pid ? NULL : procs_find(p, at->ppid);
    }
    return false;
}

const struct proc *procs_beside(const struct procs *p, const struct proc *of,
                                const struct cg_texts *names)
{
    for (int64_t d = 1; d <= BESIDE_PIDS; d++) {
        const int64_t near[] = {of->pid - d, of->pid + d};
        for (size_t i = 0; i < CG_COUNT(near); i++) {
            const struct proc *at = procs_find(p, near[i]);
            int64_t apart = at ? at->t - of->t : 0;
            if (at && at->ppid == of->ppid && of->ppid > 1 && apart <= beside_ns &&
                apart >= -beside_ns && texts_match(names, at->program))
                return at;
        }
    }
    return NULL;
}
