/* observe: the stream of what the guest's kernel saw. Lines wait in a queue of QUEUE bytes when the
 * link is slow; what does not fit is refused to the observation, which counts and tells it. */
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/bpf/observe.h"

enum { QUEUE = 4 << 20, BEAT_MS = 5000, DRAIN_STEP = 512 * 1024 };

struct observe_task {
    struct task task;
    struct outbox out;
};

static struct cg_observe *observer;
static struct cg_err why_not;
static struct observe_task *open_task;
static struct watch ring = {.fd = -1};
static struct timer beat;

static void pump(void)
{
    if (open_task)
        outbox_pump(&open_task->out, open_task->task.stream, CG_LINK_STDOUT);
}

static bool take_line(void *ctx, const char *line, size_t n)
{
    (void)ctx;
    if (!open_task)
        return false;
    struct cg_buf *b = &open_task->out.text;
    if (b->n + n + 1 > b->max && open_task->out.at > 0) {
        cg_buf_consume(b, open_task->out.at);
        open_task->out.at = 0;
    }
    if (b->n + n + 1 > b->max)
        return false;
    cg_buf_add(b, line, n);
    cg_buf_addc(b, '\n');
    agent.observed++;
    return true;
}

void observe_drain(void)
{
    if (!observer || !open_task)
        return;
    cg_observe_drain(observer, take_line, NULL, SIZE_MAX);
    pump();
}

static void on_ring(struct watch *w, uint32_t events)
{
    (void)w;
    (void)events;
    cg_observe_drain(observer, take_line, NULL, DRAIN_STEP);
    pump();
}

static void on_beat(struct timer *t)
{
    cg_observe_beat(observer, take_line, NULL);
    pump();
    timer_start(t, BEAT_MS, on_beat);
}

bool observe_start(struct cg_err *e)
{
    const struct cg_observe_config config = {
        .skip_pid = getpid(), .scopes = {agent.workspace}, .probe_dir = "/run"};
    observer = cg_observe_start(&config, e);
    if (!observer)
        why_not = *e;
    return observer != NULL;
}

void observe_describe(struct cg_jsonw *w)
{
    const struct cg_observe_status *s = observer ? cg_observe_status(observer) : NULL;
    cg_jsonw_obj(w);
    cg_jsonw_kbool(w, "exec", s && s->exec);
    cg_jsonw_kbool(w, "file", s && s->file);
    cg_jsonw_kbool(w, "more", s && s->more);
    cg_jsonw_kbool(w, "security", s && s->security);
    const char *reason = s ? s->reason : why_not.text;
    cg_jsonw_kstr(w, "reason", reason[0] ? reason : NULL);
    cg_jsonw_obj_end(w);
}

/* What was on its way to a host that this guest was taken from, as that host tells how far it
 * came: gone, and counted. */
static void tell_lost(uint64_t handed, int64_t taken)
{
    if (taken < 0 || (uint64_t)taken >= handed)
        return;
    char line[96];
    int n = snprintf(line, sizeof line,
                     "{\"e\":\"gap\",\"reason\":\"resume\",\"lost\":{\"lines\":%llu}}",
                     (unsigned long long)(handed - (uint64_t)taken));
    take_line(NULL, line, (size_t)n);
}

static void open_observe(struct task *task, const struct cg_json *request)
{
    struct observe_task *t = (struct observe_task *)task;
    cg_buf_init(&t->out.text, QUEUE);
    struct cg_err e = CG_ERR_INIT;
    if (!observer || open_task) {
        cg_fail(&e, observer ? CG_CONFLICT : CG_UNSUPPORTED, "%s",
                observer ? "the observation is read already" : why_not.text);
        task_fail(task, &e);
        return;
    }
    open_task = t;
    uint64_t handed = agent.observed;
    agent.observed = 0;
    task_accept(task, cg_slice_of("{}"));
    tell_lost(handed, cg_json_int(request, "taken", -1));
    watch_start(&ring, cg_observe_fd(observer), EPOLLIN, on_ring);
    timer_start(&beat, BEAT_MS, on_beat);
}

static void observe_writable(struct task *task)
{
    (void)task;
    pump();
}

static void observe_finish(struct task *task)
{
    struct observe_task *t = (struct observe_task *)task;
    cg_buf_finish(&t->out.text);
    if (open_task != t)
        return;
    open_task = NULL;
    watch_stop(&ring);
    timer_stop(&beat);
}

const struct task_ops task_observe = {.kind = "observe",
                                      .open = open_observe,
                                      .size = sizeof(struct observe_task),
                                      .writable = observe_writable,
                                      .finish = observe_finish};
