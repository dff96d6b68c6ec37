/* metrics and ports: what the guest's kernel says of load, memory, disk and listening sockets. */
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "guest/agent/agent.h"

static uint64_t meminfo(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Busy share of all CPUs since the previous call. */
static double cpu_percent(void)
{
    static uint64_t last_busy, last_all;
    CG_OWN(cg_drop_free) char *text = NULL;
    if (!cg_fs_slurp("/proc/stat", 1 << 20, &text, NULL, NULL))
        return 0;
    uint64_t v[8] = {0};
    sscanf(text,
           "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
           " %" SCNu64,
           &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]);
    uint64_t all = 0;
    for (int i = 0; i < 8; i++)
        all += v[i];
    uint64_t busy = all - v[3] - v[4];
    double percent =
        all > last_all ? 100.0 * (double)(busy - last_busy) / (double)(all - last_all) : 0;
    last_busy = busy;
    last_all = all;
    return percent;
}

static unsigned process_count(void)
{
    CG_OWN(cg_drop_dir) DIR *d = opendir("/proc");
    unsigned n = 0;
    struct dirent *entry;
    while (d && (entry = readdir(d)))
        n += isdigit((unsigned char)entry->d_name[0]) != 0;
    return n;
}

void metrics_write(struct cg_jsonw *w)
{
    CG_OWN(cg_drop_free) char *mem = NULL;
    if (!cg_fs_slurp("/proc/meminfo", 1 << 16, &mem, NULL, NULL))
        mem = cg_strdup("");
    uint64_t total = meminfo(mem, "MemTotal:");
    uint64_t available = meminfo(mem, "MemAvailable:");
    struct statvfs fs = {0};
    if (statvfs(agent.workspace, &fs) != 0)
        fs.f_frsize = 0;
    double load = 0;
    CG_OWN(cg_drop_free) char *loadavg = NULL;
    if (cg_fs_slurp("/proc/loadavg", 256, &loadavg, NULL, NULL))
        load = strtod(loadavg, NULL);
    cg_jsonw_obj(w);
    char cpu[16];
    cg_snprintf(cpu, sizeof cpu, "%.1f", cpu_percent());
    cg_jsonw_key(w, "cpu_percent");
    cg_jsonw_raw(w, cpu, strlen(cpu));
    cg_jsonw_kuint(w, "memory_used_mb", (total - available) / 1024);
    cg_jsonw_kuint(w, "memory_total_mb", total / 1024);
    cg_jsonw_kuint(w, "disk_used_mb", (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize >> 20);
    cg_jsonw_kuint(w, "disk_total_mb", (uint64_t)fs.f_blocks * fs.f_frsize >> 20);
    cg_jsonw_kuint(w, "num_processes", process_count());
    cg_jsonw_knum(w, "load1", load);
    cg_jsonw_kint(w, "timestamp", cg_wall_ns() / 1000000000);
    cg_jsonw_obj_end(w);
}

struct metrics_task {
    struct task task;
    struct timer timer;
    int64_t interval_ms;
    struct outbox out;
};

static void sample(struct metrics_task *t)
{
    if (t->out.text.n - t->out.at < 4096) { /* a slow reader gets fewer samples, not older ones */
        struct cg_jsonw w;
        cg_jsonw_init(&w, &t->out.text);
        metrics_write(&w);
        cg_buf_addc(&t->out.text, '\n');
    }
    outbox_pump(&t->out, t->task.stream, CG_LINK_STDOUT);
}

static void on_tick(struct timer *timer)
{
    struct metrics_task *t = CG_CONTAINER(timer, struct metrics_task, timer);
    sample(t);
    timer_start(&t->timer, t->interval_ms, on_tick);
}

static void open_metrics(struct task *task, const struct cg_json *request)
{
    static const char *const members[] = {"interval_ms", NULL};
    struct metrics_task *t = (struct metrics_task *)task;
    cg_buf_init(&t->out.text, 16384);
    struct cg_err e = CG_ERR_INIT;
    if (!request_check(request, members, &e)) {
        task_fail(task, &e);
        return;
    }
    t->interval_ms = cg_json_int(request, "interval_ms", 0);
    if (t->interval_ms > 0) {
        t->interval_ms = CG_MAX(t->interval_ms, 100);
        task_accept(task, cg_slice_of("{}"));
        on_tick(&t->timer);
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    metrics_write(&w);
    task_close(task, cg_buf_slice(&b));
}

static void metrics_writable(struct task *task)
{
    outbox_pump(&((struct metrics_task *)task)->out, task->stream, CG_LINK_STDOUT);
}

static void metrics_finish(struct task *task)
{
    struct metrics_task *t = (struct metrics_task *)task;
    timer_stop(&t->timer);
    cg_buf_finish(&t->out.text);
}

const struct task_ops task_metrics = {.kind = "metrics",
                                      .open = open_metrics,
                                      .size = sizeof(struct metrics_task),
                                      .writable = metrics_writable,
                                      .finish = metrics_finish,
                                      .before_setup = true};
