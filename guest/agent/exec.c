/* The life of an exec: request, process, attachment, end. It ends when the process has exited and
 * both outputs are drained, or LINGER_MS after the exit when a grandchild keeps them open; what the
 * observation saw of it is told first. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "guest/agent/exec.h"

enum { LINGER_MS = 1000, KILL_AFTER_MS = 2000, EXECS_MAX = 2048, ENDED_MAX = 64 };

static struct exec *all; /* newest first */
static unsigned count;

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"KILL", SIGKILL}, {"TERM", SIGTERM},
    {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"STOP", SIGSTOP}, {"CONT", SIGCONT}, {"WINCH", SIGWINCH},
    {"TSTP", SIGTSTP}, {"ALRM", SIGALRM}, {"PIPE", SIGPIPE}, {"ABRT", SIGABRT}, {"SEGV", SIGSEGV},
    {"ILL", SIGILL},   {"BUS", SIGBUS},   {"FPE", SIGFPE},   {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
    {"SYS", SIGSYS},   {"TRAP", SIGTRAP},
};

static const char *signal_name(int number)
{
    for (size_t i = 0; i < CG_COUNT(signals); i++) {
        if (signals[i].number == number)
            return signals[i].name;
    }
    return "RT";
}

static int signal_number(const char *name)
{
    if (name && cg_has_prefix(name, "SIG"))
        name += 3;
    for (size_t i = 0; name && i < CG_COUNT(signals); i++) {
        if (strcmp(signals[i].name, name) == 0)
            return signals[i].number;
    }
    return 0;
}

static struct exec *find(const char *id)
{
    struct exec *x = all;
    while (x && !cg_streq(x->id, id))
        x = x->next;
    return x;
}

static void forget(struct exec *x)
{
    for (struct exec **at = &all; *at; at = &(*at)->next) {
        if (*at == x) {
            *at = x->next;
            count--;
            break;
        }
    }
    timer_stop(&x->timeout);
    timer_stop(&x->linger);
    exec_pumps_stop(x);
    cg_buf_finish(&x->stdin_queue);
    exec_forget_kept(x);
    cgroup_remove(x->cgroup);
    free(x->label);
    free(x);
}

/* Everything the command started, as far as the kernel lets us name it. */
static void kill_all_of(struct exec *x, int sig)
{
    if (sig == SIGKILL && cgroup_kill(x->cgroup))
        return;
    if (!x->exited || x->out.fd >= 0 || x->err.fd >= 0)
        kill(-x->pid, sig);
}

static void write_result(const struct exec *x, struct cg_buf *b)
{
    struct cg_jsonw w;
    cg_jsonw_init(&w, b);
    int code = WIFSIGNALED(x->status) ? 128 + WTERMSIG(x->status) : WEXITSTATUS(x->status);
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "exit_code", code);
    cg_jsonw_kstr(&w, "signal", WIFSIGNALED(x->status) ? signal_name(WTERMSIG(x->status)) : NULL);
    cg_jsonw_kbool(&w, "timed_out", x->timed_out);
    cg_jsonw_kint(&w, "duration_ns", x->ended_ns - x->started_ns);
    cg_jsonw_kuint(&w, "observed", agent.observed);
    if (x->kept_lost)
        cg_jsonw_kuint(&w, "output_lost", x->kept_lost);
    cg_jsonw_obj_end(&w);
}

/* Keeps the newest ENDED_MAX detached execs that ended without anybody attached. */
static void limit_ended(void)
{
    unsigned ended = 0;
    struct exec *oldest = NULL;
    for (struct exec *x = all; x; x = x->next) {
        if (x->exited && !x->task) {
            ended++;
            oldest = x;
        }
    }
    if (ended > ENDED_MAX)
        forget(oldest);
}

void exec_check_done(struct exec *x)
{
    if (!x->exited || x->out.fd >= 0 || x->err.fd >= 0)
        return;
    timer_stop(&x->linger);
    timer_stop(&x->timeout);
    if (!x->task) {
        if (x->detach)
            limit_ended();
        else
            forget(x);
        return;
    }
    if (!exec_replay_kept(x))
        return;
    observe_drain();
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 1024);
    write_result(x, &b);
    struct exec_task *t = x->task;
    x->task = NULL;
    t->exec = NULL;
    forget(x);
    task_close(&t->task, cg_buf_slice(&b));
}

static void on_linger(struct timer *t)
{
    struct exec *x = CG_CONTAINER(t, struct exec, linger);
    /* somebody in the background holds the output open: the command itself is over */
    watch_stop(&x->out.watch);
    watch_stop(&x->err.watch);
    cg_drop_fd(&x->out.fd);
    cg_drop_fd(&x->err.fd);
    exec_check_done(x);
}

static void on_kill(struct timer *t)
{
    kill_all_of(CG_CONTAINER(t, struct exec, timeout), SIGKILL);
}

static void on_timeout(struct timer *t)
{
    struct exec *x = CG_CONTAINER(t, struct exec, timeout);
    x->timed_out = true;
    kill_all_of(x, SIGTERM);
    timer_start(&x->timeout, KILL_AFTER_MS, on_kill);
}

void exec_reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct exec *x = all;
        while (x && (x->pid != pid || x->exited))
            x = x->next;
        if (!x)
            continue;
        x->exited = true;
        x->status = status;
        x->ended_ns = cg_mono_ns();
        if (x->timed_out)
            kill_all_of(x, SIGKILL);
        timer_stop(&x->timeout);
        timer_start(&x->linger, LINGER_MS, on_linger);
        exec_check_done(x);
    }
}

void exec_kill_all(int sig)
{
    for (struct exec *x = all; x; x = x->next)
        kill_all_of(x, sig);
}

static char *label_of(const struct exec_plan *p)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 2048);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_arr(&w);
    for (char **a = p->argv; *a && b.n < 1024; a++)
        cg_jsonw_strn(&w, *a, strnlen(*a, 256));
    cg_jsonw_arr_end(&w);
    return b.full ? cg_strdup("[]") : cg_buf_take(&b);
}

static bool choose_id(const struct cg_json *request, char out[EXEC_ID_MAX], struct cg_err *e)
{
    static uint64_t next;
    const char *id = cg_json_str(request, "exec_id");
    if (!id)
        cg_snprintf(out, EXEC_ID_MAX, "x%llu", (unsigned long long)++next);
    else if (!cg_strlcpy(out, EXEC_ID_MAX, id) || id[0] == '\0' || strchr(id, '/') || id[0] == '.')
        return cg_fail(e, CG_INVALID, "exec_id must have 1 to %d characters and no '/'",
                       EXEC_ID_MAX - 1);
    return !find(out) || cg_fail(e, CG_CONFLICT, "exec_id %s is in use", out);
}

static bool start(struct exec *x, const struct cg_json *request, struct cg_err *e)
{
    static const char *const members[] = {"exec_id", "argv",       "shell",  "cwd", "env",
                                          "user",    "timeout_ms", "stdin",  "pty", "term",
                                          "echo",    "login",      "detach", NULL};
    struct exec_plan plan = {0};
    struct exec_fds fds;
    bool ok = request_check(request, members, e) && choose_id(request, x->id, e) &&
              exec_plan_read(request, &plan, e);
    if (ok && count >= EXECS_MAX)
        ok = cg_fail(e, CG_LIMIT, "%d commands run already", (int)EXECS_MAX);
    if (ok) {
        cgroup_make(x->id, plan.user.uid == 0, x->cgroup, sizeof x->cgroup);
        x->started_ns = cg_mono_ns();
        ok = exec_spawn(&plan, x->cgroup, &x->pid, &fds, e);
    }
    if (ok) {
        x->pty = plan.pty;
        x->label = label_of(&plan);
        exec_pumps_start(x, &fds);
    } else {
        cgroup_remove(x->cgroup);
    }
    exec_plan_finish(&plan);
    return ok;
}

static void attach_to(struct exec *x, struct exec_task *t)
{
    x->task = t;
    t->exec = x;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 256);
    cg_buf_addf(&b, "{\"pid\":%d}", (int)x->pid);
    task_accept(&t->task, cg_buf_slice(&b));
}

static void open_exec(struct task *task, const struct cg_json *request)
{
    struct exec_task *t = (struct exec_task *)task;
    struct exec *x = cg_alloc(sizeof *x);
    cg_buf_init(&x->stdin_queue, CG_LINK_WINDOW);
    cg_buf_init(&x->kept, EXEC_KEEP + 4096);
    x->out.fd = x->err.fd = x->in_fd = -1;
    x->out.watch.fd = x->err.watch.fd = x->in.fd = -1;
    struct cg_err e = CG_ERR_INIT;
    if (!start(x, request, &e)) {
        free(x);
        task_fail(task, &e);
        return;
    }
    x->next = all;
    all = x;
    count++;
    x->detach = cg_json_bool(request, "detach", false);
    attach_to(x, t);
    if (!cg_json_bool(request, "stdin", false) && !x->pty)
        exec_stdin_eof(x);
    int64_t timeout_ms = cg_json_int(request, "timeout_ms", 0);
    if (timeout_ms > 0)
        timer_start(&x->timeout, timeout_ms, on_timeout);
}

static void open_attach(struct task *task, const struct cg_json *request)
{
    static const char *const members[] = {"exec_id", NULL};
    struct exec_task *t = (struct exec_task *)task;
    struct cg_err e = CG_ERR_INIT;
    if (!request_check(request, members, &e)) {
        task_fail(task, &e);
        return;
    }
    const char *id = cg_json_str(request, "exec_id");
    struct exec *x = find(id);
    if (!x) {
        cg_fail(&e, CG_NOT_FOUND, "no exec %.40s", id ? id : "(exec_id is missing)");
        task_fail(task, &e);
        return;
    }
    if (x->task) { /* the newer attachment takes over */
        struct exec_task *old = x->task;
        x->task = NULL;
        old->exec = NULL;
        cg_fail(&e, CG_CONFLICT, "attached from elsewhere");
        task_fail(&old->task, &e);
    }
    attach_to(x, t);
    exec_resume_output(x);
}

static void exec_data(struct task *task, unsigned channel, struct cg_slice bytes)
{
    struct exec_task *t = (struct exec_task *)task;
    (void)channel;
    if (t->exec)
        exec_stdin(t->exec, bytes);
}

static void exec_eof(struct task *task, unsigned channel)
{
    struct exec_task *t = (struct exec_task *)task;
    if (t->exec && channel == CG_LINK_STDIN)
        exec_stdin_eof(t->exec);
}

static void exec_control(struct task *task, const struct cg_json *m)
{
    struct exec *x = ((struct exec_task *)task)->exec;
    int sig = signal_number(cg_json_str(m, "signal"));
    if (x && sig)
        kill_all_of(x, sig);
    const struct cg_json *size = cg_json_get(m, "resize");
    if (x && size && x->pty && x->out.fd >= 0) {
        struct winsize ws = {.ws_row = (unsigned short)cg_json_int(size, "rows", 24),
                             .ws_col = (unsigned short)cg_json_int(size, "cols", 80)};
        ioctl(x->out.fd, TIOCSWINSZ, &ws);
    }
}

static void exec_writable(struct task *task)
{
    struct exec_task *t = (struct exec_task *)task;
    if (t->exec)
        exec_resume_output(t->exec);
}

static void exec_cancel(struct task *task)
{
    struct exec *x = ((struct exec_task *)task)->exec;
    if (x) {
        x->task = NULL;
        ((struct exec_task *)task)->exec = NULL;
        bool stays = x->detach || agent.keep;
        if (!stays)
            kill_all_of(x, x->pty ? SIGHUP : SIGKILL);
        if (!stays && x->pty)
            timer_start(&x->timeout, KILL_AFTER_MS, on_kill);
    }
    task_close_empty(task);
    if (x)
        exec_resume_output(x);
}

static void open_execs(struct task *task, const struct cg_json *request)
{
    (void)request;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD - 4096);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_key(&w, "execs");
    cg_jsonw_arr(&w);
    for (struct exec *x = all; x && b.n < b.max - 8192; x = x->next) {
        cg_jsonw_obj(&w);
        cg_jsonw_kstr(&w, "exec_id", x->id);
        cg_jsonw_kint(&w, "pid", x->pid);
        cg_jsonw_key(&w, "argv");
        cg_jsonw_raw(&w, x->label, strlen(x->label));
        cg_jsonw_kbool(&w, "running", !x->exited);
        if (x->exited)
            cg_jsonw_kint(&w, "exit_code",
                          WIFSIGNALED(x->status) ? 128 + WTERMSIG(x->status)
                                                 : WEXITSTATUS(x->status));
        cg_jsonw_obj_end(&w);
    }
    cg_jsonw_arr_end(&w);
    cg_jsonw_obj_end(&w);
    task_close(task, cg_buf_slice(&b));
}

#define EXEC_OPS                                                                                   \
    .size = sizeof(struct exec_task), .data = exec_data, .eof = exec_eof, .control = exec_control, \
    .writable = exec_writable, .cancel = exec_cancel

const struct task_ops task_exec = {.kind = "exec", .open = open_exec, EXEC_OPS};
const struct task_ops task_attach = {.kind = "attach", .open = open_attach, EXEC_OPS};
const struct task_ops task_execs = {
    .kind = "execs", .open = open_execs, .size = sizeof(struct task)};
