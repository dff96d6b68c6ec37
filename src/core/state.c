/* The states of a sandbox and the only ways between them. Every change is told to the listeners;
 * what needs a state to be durable saves the row and goes on from there. */
#include "core/core.h"

static const char *const names[] = {"pending", "running", "paused", "error", "destroyed"};

/* pending -> running <-> paused -> destroyed; error from any living state, and destroyed from
 * error. */
static const bool may[5][5] = {
    [CG_STATUS_PENDING] =
        {[CG_STATUS_RUNNING] = true, [CG_STATUS_ERROR] = true, [CG_STATUS_DESTROYED] = true},
    [CG_STATUS_RUNNING] =
        {[CG_STATUS_PAUSED] = true, [CG_STATUS_ERROR] = true, [CG_STATUS_DESTROYED] = true},
    [CG_STATUS_PAUSED] =
        {[CG_STATUS_RUNNING] = true, [CG_STATUS_ERROR] = true, [CG_STATUS_DESTROYED] = true},
    [CG_STATUS_ERROR] = {[CG_STATUS_DESTROYED] = true},
    [CG_STATUS_DESTROYED] = {false},
};

const char *cg_status_name(enum cg_status s)
{
    return names[s];
}

bool cg_status_parse(const char *name, enum cg_status *out)
{
    for (size_t i = 0; i < CG_COUNT(names); i++) {
        if (cg_streq(name, names[i])) {
            *out = (enum cg_status)i;
            return true;
        }
    }
    return false;
}

bool cg_status_may(enum cg_status from, enum cg_status to)
{
    return may[from][to];
}

void cg_sandbox_changed(struct cg_sandbox *sb)
{
    if (sb->helper)
        return;
    for (struct cg_listener *l = sb->core->listeners, *next; l; l = next) {
        next = l->next;
        l->on_change(l->ctx, sb);
    }
}

void cg_sandbox_set_status(struct cg_sandbox *sb, enum cg_status to)
{
    if (sb->status == to)
        return;
    CG_ASSERT(cg_status_may(sb->status, to));
    sb->status = to;
    if (to == CG_STATUS_RUNNING) {
        sb->started_wall = sb->started_wall ? sb->started_wall : cg_wall_ns();
        sb->started_mono = cg_mono_ns();
    } else if (to != CG_STATUS_PAUSED) {
        sb->stopped_wall = sb->stopped_wall ? sb->stopped_wall : cg_wall_ns();
    }
    cg_sandbox_changed(sb);
}

void cg_sandbox_phase(struct cg_sandbox *sb, const char *phase, int percent)
{
    cg_strlcpy(sb->phase, sizeof sb->phase, phase);
    if (percent > sb->percent || sb->percent == 100) /* a second try does not go back */
        sb->percent = percent;
    cg_sandbox_changed(sb);
}
