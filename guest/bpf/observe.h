/* What the guest's kernel saw: commands, files, connections and rare acts, as the JSON lines of
 * docs/link-protocol.md ("Observed events"). eBPF programs write into rings; this reads and formats
 * them. Linux 6.1 or newer with BTF, root. One thread uses an object; nothing here blocks.
 *
 * Promise: for every kind, seen == told + lost (+ what still waits in a ring). A line that the sink
 * refused or a record that found its ring full is counted and told in a later `gap` line.
 *
 * Not told, by design: acts of the process `skip_pid` itself; the kernel's own file systems (/proc,
 * /sys, devpts, cgroup, pipes, sockets, memfd ...); writes to files that have no name any more;
 * closing a file that was only read. */
#ifndef CG_BPF_OBSERVE_H
#define CG_BPF_OBSERVE_H

#include <sys/types.h>

#include "base/err.h"

struct cg_observe;

enum { CG_OBSERVE_SCOPES = 4 };

struct cg_observe_config {
    pid_t skip_pid; /* the agent itself; 0: nobody */

    /* Mount points (absolute, mounted already) that show a folder of a file system whose other
     * folders must not be told: with /workspace bound from the file system that also holds the
     * overlay's upper and work folders, name "/workspace" here, and their doubles are dropped in
     * the kernel. NULL entries are skipped. All other mounts are found in /proc/self/mountinfo. */
    const char *scopes[CG_OBSERVE_SCOPES];

    /* A writable folder (tmpfs) for the heartbeat's probe file, for example "/run"; NULL: no probe.
     * The probe finds hooks that are attached but no longer run. */
    const char *probe_dir;
};

/* What is active; `reason` (empty when all is) names each part that is not and why. */
struct cg_observe_status {
    bool exec;     /* exec, exit */
    bool file;     /* create, write, delete, rename, mkdir, rmdir */
    bool more;     /* link, symlink, mknod, truncate, chmod, chown */
    bool security; /* conn, setuid, ptrace, module, mount, bpf */
    char reason[512];
};

/* Takes one line without a newline; true when it was queued. False: the queue is full, the line is
 * counted as lost and told later. Must not call back into the object. Lines are at most
 * CG_OBSERVE_LINE bytes. */
typedef bool cg_observe_sink(void *ctx, const char *line, size_t n);

enum { CG_OBSERVE_LINE = 64 * 1024 };

/* Loads and attaches everything that this kernel takes; the result is the caller's. Needs /proc and
 * /sys mounted. NULL with *e set only when not even one part could be loaded; look at the status
 * for the rest. Under TCG it takes about half a second. */
CG_MUST_USE struct cg_observe *cg_observe_start(const struct cg_observe_config *config,
                                                struct cg_err *e);

const struct cg_observe_status *cg_observe_status(const struct cg_observe *o);

/* One descriptor for epoll, EPOLLIN, level-triggered: when readable call cg_observe_drain. It wakes
 * at once after a quiet time and then every 5 to 50 ms while events come (batched on purpose: a
 * wake-up per event more than doubles the time of a storm). Owned by the object. */
int cg_observe_fd(const struct cg_observe *o);

/* Formats what waits in the rings, oldest first, and gives it to the sink; then `gap` lines that
 * are due. Stops after about max_bytes of lines (the descriptor stays readable then); SIZE_MAX
 * drains all that was there at the call. Returns the number of records taken. */
unsigned cg_observe_drain(struct cg_observe *o, cg_observe_sink *sink, void *ctx, size_t max_bytes);

/* Call every 5 s: drains all, then a `beat` line with the kernel's counters, then a `gap` line with
 * reason `detached` when hooks were taken away, stopped running, or counters do not add up. */
void cg_observe_beat(struct cg_observe *o, cg_observe_sink *sink, void *ctx);

/* Detaches, unloads, frees. NULL is fine. */
void cg_observe_destroy(struct cg_observe *o);

#endif
