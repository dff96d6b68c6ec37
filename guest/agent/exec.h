/* A process that the host asked for, shared by exec.c (its life), spawn.c (its start) and
 * execpump.c (its bytes). */
#ifndef CG_AGENT_EXEC_H
#define CG_AGENT_EXEC_H

#include "guest/agent/agent.h"

enum { EXEC_ID_MAX = 40, EXEC_ARGS_MAX = 4096, EXEC_KEEP = 256 * 1024 };

/* What to start, out of a request. Strings are owned. */
struct exec_plan {
    char **argv; /* NULL-terminated */
    char **envp;
    char cwd[1024];
    struct user user;
    bool pty;
    bool echo;
    bool login;
    uint16_t rows, cols;
};

CG_MUST_USE bool exec_plan_read(const struct cg_json *request, struct exec_plan *out,
                                struct cg_err *e);
void exec_plan_finish(struct exec_plan *p);

/* Our ends of the process's descriptors; -1 where there is none (a PTY: `in` and `out`, two of one
 * terminal). */
struct exec_fds {
    int in, out, err;
};

/* Starts it in a session and, where the kernel has them, a cgroup of its own. CG_NOT_FOUND,
 * CG_FORBIDDEN … when it cannot run. */
CG_MUST_USE bool exec_spawn(const struct exec_plan *plan, const char *cgroup, pid_t *pid,
                            struct exec_fds *fds, struct cg_err *e);

struct exec;

struct exec_task {
    struct task task;
    struct exec *exec;
};

struct exec_output {
    struct watch watch; /* rests (fd -1) while there is no credit */
    int fd;             /* -1 once it has ended */
    struct exec *exec;
    unsigned channel;
};

struct exec {
    struct exec *next;
    char id[EXEC_ID_MAX];
    char *label; /* argv as a JSON array */
    pid_t pid;
    struct exec_task *task; /* NULL while nobody is attached */
    struct exec_output out, err;
    struct watch in; /* only while stdin_queue waits for room */
    int in_fd;
    struct cg_buf stdin_queue;
    bool stdin_ends; /* close it once the queue is written */
    bool pty;
    bool detach;
    bool exited;
    bool timed_out;
    int status; /* of wait */
    int64_t started_ns, ended_ns;
    struct timer timeout, linger;
    struct cg_buf kept; /* output while nobody is attached: channel, u32 length, bytes */
    uint64_t kept_lost;
    char cgroup[64]; /* "" without */
};

/* execpump.c */
void exec_pumps_start(struct exec *x, const struct exec_fds *fds);
void exec_pumps_stop(struct exec *x);
void exec_resume_output(struct exec *x); /* there is credit, or nobody is attached */
bool exec_replay_kept(struct exec *x);   /* true when all kept output is sent */
void exec_forget_kept(struct exec *x);
void exec_stdin(struct exec *x, struct cg_slice bytes);
void exec_stdin_eof(struct exec *x);

/* exec.c: called when an output ended or the process did. */
void exec_check_done(struct exec *x);

/* cgroups.c */
void cgroup_make(const char *id, bool root, char *out, size_t size); /* "" where there are none */
bool cgroup_enter(const char *path);                                 /* the calling process */
bool cgroup_kill(const char *path);
void cgroup_remove(const char *path); /* now or, when processes are left, at a later call */

#endif
