/* sync: what programs have written is on the disk, before the host copies it. The agent waits for
 * that itself: nothing else is to happen on the link meanwhile. */
#include <unistd.h>

#include "guest/agent/agent.h"

static void open_sync(struct task *t, const struct cg_json *request)
{
    static const char *const members[] = {NULL};
    struct cg_err e = CG_ERR_INIT;
    if (!request_check(request, members, &e)) {
        task_fail(t, &e);
        return;
    }
    if (agent.in_vm)
        sync();
    task_close_empty(t);
}

const struct task_ops task_sync = {.kind = "sync", .open = open_sync, .size = sizeof(struct task)};
