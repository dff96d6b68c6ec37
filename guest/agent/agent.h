/* What the parts of the guest agent share: its state, the streams of the link as tasks, users.
 *
 * A task is what answers one stream of the link. Its ops are called from the link's handlers; it
 * ends by task_close, which sends the result and forgets the stream. */
#ifndef CG_AGENT_AGENT_H
#define CG_AGENT_AGENT_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/jsonw.h"
#include "guest/agent/loop.h"
#include "link/link.h"

enum { AGENT_UID = 1000, AGENT_GID = 1000 };

struct agent {
    const char *workspace; /* "/workspace" */
    bool in_vm;            /* PID 1 of a guest; else a plain program */
    bool ready;            /* `setup` has been answered */
    bool keep;             /* sessions end, but no command with them: another host takes over */
    uint64_t observed;     /* observation lines handed to the observe stream that is open */
    struct cg_buf env;     /* KEY=value\0 for every process, from `setup` */
};

extern struct agent agent;

struct task;

struct task_ops {
    const char *kind;
    /* Starts: the stream's task is made; answers by task_accept and goes on, or by task_close or
     * task_fail. */
    void (*open)(struct task *t, const struct cg_json *request);
    size_t size; /* of the struct that begins with struct task */
    void (*data)(struct task *t, unsigned channel, struct cg_slice bytes);
    void (*eof)(struct task *t, unsigned channel);
    void (*control)(struct task *t, const struct cg_json *message);
    void (*writable)(struct task *t);
    /* The opener does not want it any more, or the link is gone: ends with task_close all the same.
     */
    void (*cancel)(struct task *t);
    /* Frees what the task holds besides itself; called by task_close. */
    void (*finish)(struct task *t);
    bool before_setup; /* allowed before `setup` */
};

struct task {
    const struct task_ops *ops;
    struct cg_link_stream *stream;
};

/* Ends the task with a result; the task is freed. */
void task_close(struct task *t, struct cg_slice result);
void task_close_empty(struct task *t); /* {} */
void task_fail(struct task *t, const struct cg_err *why);
void task_accept(struct task *t, struct cg_slice info);

/* Something was queued on the link from outside of its handlers: get it written. */
void session_kick(void);

/* Serves the link on a descriptor, which is the session's from here on. Sockets end with the other
 * side; a virtio port stays, and each host that comes begins anew with HELLO and `setup`. */
void session_start(int fd);
bool session_alive(void);

/* A user by the name in a request ("agent", "root"; NULL: agent). As a plain program that is not
 * root, everybody is whoever runs it. */
struct user {
    uid_t uid;
    gid_t gid;
    char name[64];
    char home[256];
    char shell[256];
};

CG_MUST_USE bool user_find(const char *name, struct user *out, struct cg_err *e);

/* File access with a user's rights from here to user_leave, by setfsuid. */
void user_enter(const struct user *u);
void user_leave(void);

/* Text to send on a stream, bounded by the stream's credit: `pump` sends what fits, true when all
 * of it is gone. */
struct outbox {
    struct cg_buf text;
    size_t at;
};

bool outbox_pump(struct outbox *o, struct cg_link_stream *s, unsigned channel);

/* Members a request may have, NULL-terminated; CG_INVALID names the first other one. "kind" is
 * always allowed. */
CG_MUST_USE bool request_check(const struct cg_json *request, const char *const *members,
                               struct cg_err *e);

/* The request's "path" made absolute against the workspace, without slashes at its end;
 * CG_INVALID without or with NUL. */
CG_MUST_USE bool request_path(const struct cg_json *request, const char *member, char *out,
                              size_t size, struct cg_err *e);

/* What every fs and tar kind begins with: checks the members, finds the user, enters its rights
 * (true: the caller leaves them with user_leave) and the place of "path", below "beneath" if that
 * is given. `out` was initialised and is the caller's to finish either way. */
struct place;
struct user;
CG_MUST_USE bool request_enter(const struct cg_json *request, const char *const *members,
                               const char *member, struct user *user, struct place *out,
                               struct cg_err *e);

/* --- parts, each in a file of its own --- */

extern const struct task_ops task_exec, task_attach, task_execs;
extern const struct task_ops task_fs_stat, task_fs_list, task_fs_read, task_fs_write,
    task_fs_delete, task_fs_mkdir, task_fs_rename;
extern const struct task_ops task_tar_in, task_tar_out;
extern const struct task_ops task_metrics, task_ports, task_dial;
extern const struct task_ops task_setup, task_observe, task_poweroff, task_sync;

void exec_reap(void);        /* after SIGCHLD */
void exec_kill_all(int sig); /* everything but the agent */
void observe_drain(void);    /* told before a command's end */
bool observe_start(struct cg_err *e);
void observe_describe(struct cg_jsonw *w); /* the "observe" member of setup's answer */

/* Boot as PID 1: modules, mounts, root, network. Powers off with a message when it cannot. */
void boot_guest(void);
CG_NORETURN void boot_power_off(const char *why);
bool boot_option(const char *name, char *out, size_t size); /* caged.<name>=value of the cmdline */
int boot_open_link(void);                                   /* the virtio port, or -1 */
/* To the size that its disk has; waits up to 2 s for that to be `due` bytes at least. */
bool boot_grow_disk(uint64_t due, struct cg_err *e);
void boot_probe(void); /* caged.probe=1: real work, a line on the console, power off */

/* A new identity has SSH host keys of its own, where there were any. */
bool hostkeys_renew(struct cg_err *e);

void net_start(void);
void cgroup_init(void);

/* The plain program of docs/guest-agent.md: newline-delimited JSON on a unix socket. Both return
 * the exit code. */
struct options;
int legacy_serve(const struct options *o);
int legacy_subscribe(const char *socket_path);

void agent_log(const char *fmt, ...) CG_PRINTF(1, 2);

/* A sample as in contract of `metrics`; cpu_percent since the previous call. */
void metrics_write(struct cg_jsonw *w);

#endif
