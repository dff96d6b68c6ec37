/* See observe.h.
 *
 * Wake-ups: the kernel wakes a reader that has read everything. In a storm that would be once a
 * record, so the reader turns deaf at the first wake-up (EPOLLONESHOT) and polls with a timer,
 * every 5 ms at first, then up to 50 ms apart, until a poll finds nothing; then it listens again.
 *
 * Counting: a program counts a record as seen before it enters the ring and as lost when it does
 * not fit. Records taken from the ring become lines; a line the sink refuses is counted as lost
 * here. A record that was seen, not lost, and not taken by the second beat after, is lost too
 * (somebody moved the reader's position). Each loss waits in `due` until a `gap` line was taken by
 * the sink. */
#include "observe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/jsonw.h"
#include "format.h"
#include "load.h"
#include "names.h"
#include "probe.h"

enum { PACE_MIN_MS = 5, PACE_MAX_MS = 50, TIMER = CG_PARTS };

enum reason { RING_FULL, LINK_FULL, DETACHED, REASONS };

static const char *const reason_names[REASONS] = {"ring_full", "link_full", "detached"};

struct cg_observe {
    struct cg_observe_status status;
    struct cg_part part[CG_PARTS];
    struct cg_mounts mounts;
    struct cg_obs_places places;
    char *scope[CG_OBSERVE_SCOPES];
    char *probe_dir; /* NULL: no probe */
    struct cg_buf line;
    int epoll_fd, timer_fd;
    unsigned pace_ms;    /* 0: listening */
    bool deaf[CG_PARTS]; /* the ring's wake-up was used up */
    uint64_t told[CG_OBS_KINDS];
    uint64_t due[REASONS][CG_OBS_KINDS];       /* lost, not told yet */
    uint64_t gone[CG_OBS_KINDS];               /* lost, told or not */
    uint64_t ring_lost[CG_OBS_KINDS];          /* as the kernel counted at the last look */
    uint64_t expected[CG_PARTS][CG_OBS_KINDS]; /* must have been taken by the next beat */
    bool stopped[CG_HOOKS];                    /* found not running */
    bool stopped_due;                          /* and not told yet */
};

static void set_reason(struct cg_observe_status *s, const struct cg_err *e)
{
    size_t n = strlen(s->reason);

    snprintf(s->reason + n, sizeof s->reason - n, "%s%s", n ? "; " : "", e->text);
}

static void find_scopes(struct cg_observe *o, const struct cg_observe_config *config,
                        struct cg_part_config *out)
{
    for (unsigned i = 0; i < CG_OBSERVE_SCOPES; i++) {
        const char *point = config->scopes[i];
        struct stat st;
        uint32_t dev;

        if (!point)
            continue;
        if (stat(point, &st) != 0 || !cg_mounts_dev(&o->mounts, point, &dev)) {
            struct cg_err e = CG_ERR_INIT;
            cg_fail(&e, CG_NOT_FOUND, "scope %s is no mount point", point);
            set_reason(&o->status, &e);
            continue;
        }
        o->scope[i] = cg_strdup(point);
        o->places.scope[i] = o->scope[i];
        out->scope[i] = (struct cg_obs_scope){.ino = st.st_ino, .dev = dev, .used = 1};
    }
}

static bool watch(struct cg_observe *o, int fd, unsigned id, uint32_t events, struct cg_err *e)
{
    struct epoll_event ev = {.events = events, .data.u32 = id};

    return epoll_ctl(o->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 || cg_fail_sys(e, "watch ring");
}

static bool open_wakeups(struct cg_observe *o, struct cg_err *e)
{
    o->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    o->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (o->epoll_fd < 0 || o->timer_fd < 0)
        return cg_fail_sys(e, "observation's timer");
    if (!watch(o, o->timer_fd, TIMER, EPOLLIN, e))
        return false;
    for (unsigned i = 0; i < CG_PARTS; i++)
        if (o->part[i].skeleton && !watch(o, o->part[i].ring_fd, i, EPOLLIN | EPOLLONESHOT, e))
            return false;
    return true;
}

static bool load_parts(struct cg_observe *o, const struct cg_part_config *config, struct cg_err *e)
{
    bool any = false, active[CG_PARTS];

    for (unsigned i = 0; i < CG_PARTS; i++) {
        struct cg_err why = CG_ERR_INIT;
        active[i] = cg_part_load(&o->part[i], i, config, &why);
        if (!active[i])
            set_reason(&o->status, &why);
        any = any || active[i];
    }
    o->status.exec = active[0];
    o->status.file = active[1];
    o->status.more = active[2];
    o->status.security = active[3];
    return any || cg_fail(e, CG_UNSUPPORTED, "no observation: %.180s", o->status.reason);
}

struct cg_observe *cg_observe_start(const struct cg_observe_config *config, struct cg_err *e)
{
    struct cg_observe *o = cg_alloc(sizeof *o);
    struct cg_part_config parts = {.skip_pid = config->skip_pid};

    o->epoll_fd = o->timer_fd = -1;
    cg_buf_init(&o->line, CG_OBSERVE_LINE);
    cg_mounts_init(&o->mounts);
    cg_mounts_refresh(&o->mounts);
    o->places.mounts = &o->mounts;
    if (config->probe_dir && config->skip_pid == getpid())
        o->probe_dir = cg_strdup(config->probe_dir);
    find_scopes(o, config, &parts);
    if (load_parts(o, &parts, e) && open_wakeups(o, e))
        return o;
    cg_observe_destroy(o);
    return NULL;
}

void cg_observe_destroy(struct cg_observe *o)
{
    if (!o)
        return;
    cg_drop_fd(&o->epoll_fd);
    cg_drop_fd(&o->timer_fd);
    for (unsigned i = 0; i < CG_PARTS; i++)
        cg_part_unload(&o->part[i]);
    cg_mounts_finish(&o->mounts);
    cg_buf_finish(&o->line);
    for (unsigned i = 0; i < CG_OBSERVE_SCOPES; i++)
        free(o->scope[i]);
    free(o->probe_dir);
    free(o);
}

const struct cg_observe_status *cg_observe_status(const struct cg_observe *o)
{
    return &o->status;
}

int cg_observe_fd(const struct cg_observe *o)
{
    return o->epoll_fd;
}

static void lose(struct cg_observe *o, enum reason why, unsigned kind, uint64_t n)
{
    o->due[why][kind] += n;
    o->gone[kind] += n;
}

/* Formats one record and hands it on. Records that make no sense have no kind to count by: they
 * show up as seen and not taken. */
static size_t tell(struct cg_observe *o, struct cg_part *p, const void *record, size_t n,
                   cg_observe_sink *sink, void *ctx)
{
    unsigned kind = cg_obs_kind_of(record, n);

    if (kind >= CG_OBS_KINDS)
        return 0;
    p->taken[kind]++;
    cg_buf_clear(&o->line);
    if (cg_obs_format(&o->line, &o->places, record, n) && sink(ctx, o->line.p, o->line.n)) {
        o->told[kind]++;
        return o->line.n;
    }
    lose(o, LINK_FULL, kind, 1);
    return 0;
}

/* The ring whose next record is the oldest; CG_PARTS when all are read. */
static unsigned oldest(struct cg_observe *o, const uint64_t end[CG_PARTS], const void **record,
                       size_t *n)
{
    unsigned best = CG_PARTS;
    uint64_t best_t = UINT64_MAX;

    for (unsigned i = 0; i < CG_PARTS; i++) {
        size_t size = 0;
        const void *at = cg_ring_peek(&o->part[i].ring, end[i], &size);
        uint64_t t = at ? cg_obs_time_of(at, size) : 0;

        if (at && (best == CG_PARTS || t < best_t)) {
            best = i;
            best_t = t;
            *record = at;
            *n = size;
        }
    }
    return best;
}

static void start_timer(struct cg_observe *o, unsigned ms)
{
    struct itimerspec at = {.it_value = {.tv_nsec = ms * 1000000L}};

    timerfd_settime(o->timer_fd, 0, &at, NULL);
}

static void hear_wakeups(struct cg_observe *o)
{
    struct epoll_event ev[CG_PARTS + 1];
    uint64_t ticks;
    int n = epoll_wait(o->epoll_fd, ev, CG_PARTS + 1, 0);

    for (int i = 0; i < n; i++) {
        if (ev[i].data.u32 < CG_PARTS)
            o->deaf[ev[i].data.u32] = true;
        else
            (void)!read(o->timer_fd, &ticks, sizeof ticks);
    }
}

static void listen_again(struct cg_observe *o)
{
    if (o->pace_ms)
        start_timer(o, 0);
    o->pace_ms = 0;
    for (unsigned i = 0; i < CG_PARTS; i++) {
        struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = i};

        if (o->deaf[i] && epoll_ctl(o->epoll_fd, EPOLL_CTL_MOD, o->part[i].ring_fd, &ev) == 0)
            o->deaf[i] = false;
    }
}

/* `fill` is the fullest ring's share in 1/256 when the drain began. */
static void pace(struct cg_observe *o, bool more, unsigned taken, unsigned fill)
{
    if (more) {
        o->pace_ms = PACE_MIN_MS;
        start_timer(o, 1);
    } else if (taken == 0) {
        listen_again(o);
    } else {
        unsigned ms = fill > 32 ? o->pace_ms / 4 : o->pace_ms * 2;
        o->pace_ms = CG_MIN(CG_MAX(ms, (unsigned)PACE_MIN_MS), (unsigned)PACE_MAX_MS);
        start_timer(o, o->pace_ms);
    }
}

static bool any_of(const uint64_t counts[CG_OBS_KINDS])
{
    for (unsigned k = 0; k < CG_OBS_KINDS; k++)
        if (counts[k])
            return true;
    return false;
}

static void put_counts(struct cg_jsonw *w, const char *key, const uint64_t counts[CG_OBS_KINDS],
                       bool zeros)
{
    cg_jsonw_key(w, key);
    cg_jsonw_obj(w);
    for (unsigned k = 0; k < CG_OBS_KINDS; k++)
        if (zeros || counts[k])
            cg_jsonw_kuint(w, cg_obs_kind_name(k), counts[k]);
    cg_jsonw_obj_end(w);
}

static void begin_line(struct cg_observe *o, struct cg_jsonw *w, const char *e)
{
    cg_buf_clear(&o->line);
    cg_jsonw_init(w, &o->line);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "e", e);
    cg_jsonw_kint(w, "t", cg_mono_ns());
}

static void tell_gap(struct cg_observe *o, enum reason why, cg_observe_sink *sink, void *ctx)
{
    bool hooks = why == DETACHED && o->stopped_due;
    struct cg_jsonw w;

    if (!hooks && !any_of(o->due[why]))
        return;
    begin_line(o, &w, "gap");
    put_counts(&w, "lost", o->due[why], false);
    cg_jsonw_kstr(&w, "reason", reason_names[why]);
    if (hooks) {
        cg_jsonw_key(&w, "hooks");
        cg_jsonw_arr(&w);
        for (unsigned h = 0; h < CG_HOOKS; h++)
            if (o->stopped[h])
                cg_jsonw_str(&w, cg_obs_hook_name(h));
        cg_jsonw_arr_end(&w);
    }
    cg_jsonw_obj_end(&w);
    if (!sink(ctx, o->line.p, o->line.n))
        return;
    memset(o->due[why], 0, sizeof o->due[why]);
    if (hooks)
        o->stopped_due = false;
}

/* Sums the counters of all parts; a part that cannot be read any more counts as it last did. */
static void look_at_counters(struct cg_observe *o, struct cg_obs_counters by_part[CG_PARTS])
{
    uint64_t lost[CG_OBS_KINDS] = {0};

    for (unsigned i = 0; i < CG_PARTS; i++) {
        memset(&by_part[i], 0, sizeof by_part[i]);
        if (o->part[i].skeleton)
            (void)!cg_part_counters(&o->part[i], &by_part[i]);
        for (unsigned k = 0; k < CG_OBS_KINDS; k++)
            lost[k] += by_part[i].lost[k];
    }
    for (unsigned k = 0; k < CG_OBS_KINDS; k++) {
        if (lost[k] > o->ring_lost[k]) {
            lose(o, RING_FULL, k, lost[k] - o->ring_lost[k]);
            o->ring_lost[k] = lost[k];
        }
    }
}

static void tell_gaps(struct cg_observe *o, cg_observe_sink *sink, void *ctx)
{
    for (unsigned why = 0; why < REASONS; why++)
        tell_gap(o, why, sink, ctx);
}

unsigned cg_observe_drain(struct cg_observe *o, cg_observe_sink *sink, void *ctx, size_t max_bytes)
{
    uint64_t end[CG_PARTS];
    unsigned taken = 0, which, fill = 0;
    const void *record = NULL;
    size_t bytes = 0, n = 0;

    hear_wakeups(o);
    cg_mounts_refresh(&o->mounts);
    for (unsigned i = 0; i < CG_PARTS; i++) {
        const struct cg_ring *r = &o->part[i].ring;
        end[i] = cg_ring_end(r);
        if (r->size)
            fill = CG_MAX(fill, (unsigned)((end[i] - r->at) * 256 / r->size));
    }
    while (bytes < max_bytes && (which = oldest(o, end, &record, &n)) < CG_PARTS) {
        bytes += tell(o, &o->part[which], record, n, sink, ctx);
        cg_ring_next(&o->part[which].ring);
        taken++;
    }
    if (taken > 0) {
        struct cg_obs_counters counters[CG_PARTS];
        look_at_counters(o, counters);
    }
    tell_gaps(o, sink, ctx);
    pace(o, bytes >= max_bytes, taken, fill);
    return taken;
}

static void tell_beat(struct cg_observe *o, const struct cg_obs_counters by_part[CG_PARTS],
                      cg_observe_sink *sink, void *ctx)
{
    uint64_t seen[CG_OBS_KINDS] = {0};
    struct cg_jsonw w;

    begin_line(o, &w, "beat");
    cg_jsonw_key(&w, "hooks");
    cg_jsonw_obj(&w);
    for (unsigned i = 0; i < CG_PARTS; i++) {
        for (unsigned h = 0; h < o->part[i].hooks; h++) {
            enum cg_obs_hook hook = o->part[i].hook[h].hook;
            cg_jsonw_kuint(&w, cg_obs_hook_name(hook), by_part[i].hits[hook]);
        }
        for (unsigned k = 0; k < CG_OBS_KINDS; k++)
            seen[k] += by_part[i].seen[k];
    }
    cg_jsonw_obj_end(&w);
    put_counts(&w, "seen", seen, true);
    put_counts(&w, "told", o->told, true);
    put_counts(&w, "lost", o->gone, true);
    cg_jsonw_obj_end(&w);
    (void)!sink(ctx, o->line.p, o->line.n);
}

/* What had been seen at the last beat has been taken by now, or never will be. */
static void check_sums(struct cg_observe *o, const struct cg_obs_counters by_part[CG_PARTS])
{
    for (unsigned i = 0; i < CG_PARTS; i++) {
        struct cg_part *p = &o->part[i];
        for (unsigned k = 0; k < CG_OBS_KINDS; k++) {
            if (o->expected[i][k] > p->taken[k]) {
                lose(o, DETACHED, k, o->expected[i][k] - p->taken[k]);
                p->taken[k] = o->expected[i][k];
            }
            o->expected[i][k] = by_part[i].seen[k] - by_part[i].lost[k];
        }
    }
}

static void stop(struct cg_observe *o, enum cg_obs_hook hook)
{
    if (o->stopped[hook])
        return;
    o->stopped[hook] = true;
    o->stopped_due = true;
}

static void check_links(struct cg_observe *o)
{
    for (unsigned i = 0; i < CG_PARTS; i++) {
        for (unsigned h = 0; h < o->part[i].hooks; h++) {
            struct cg_part_hook *hook = &o->part[i].hook[h];
            uint64_t missed = cg_part_missed(hook);

            if (missed)
                lose(o, DETACHED, cg_obs_hook_kind(hook->hook), missed);
            if (!cg_part_attached(hook))
                stop(o, hook->hook);
        }
    }
}

/* Hooks that no act of the probe reaches, but that hang on the same mechanism (ftrace) as those it
 * does: when none of the probed ones runs any more, these do not either. */
static void stop_unprobed(struct cg_observe *o)
{
    static const enum cg_obs_hook unprobed[] = {CG_HOOK_EXIT,   CG_HOOK_CONNECT_STREAM,
                                                CG_HOOK_PTRACE, CG_HOOK_TRACEME,
                                                CG_HOOK_MOUNT,  CG_HOOK_MOVE_MOUNT};

    for (size_t i = 0; i < CG_COUNT(unprobed); i++)
        for (unsigned part = 0; part < CG_PARTS; part++)
            for (unsigned h = 0; h < o->part[part].hooks; h++)
                if (o->part[part].hook[h].hook == unprobed[i])
                    stop(o, unprobed[i]);
}

/* The probe's acts must have raised the counters for our own process. */
static void check_running(struct cg_observe *o, const struct cg_obs_counters before[CG_PARTS])
{
    struct cg_obs_counters after[CG_PARTS];
    bool expect[CG_HOOKS];
    unsigned ran = 0, failed = 0;

    if (!o->probe_dir)
        return;
    cg_probe_run(o->probe_dir, expect);
    expect[CG_HOOK_BPF] = true; /* reading counters is an act of ours too */
    look_at_counters(o, after);
    for (unsigned i = 0; i < CG_PARTS; i++) {
        for (unsigned h = 0; h < o->part[i].hooks; h++) {
            enum cg_obs_hook hook = o->part[i].hook[h].hook;
            if (!expect[hook])
                continue;
            if (after[i].own[hook] > before[i].own[hook]) {
                o->stopped[hook] = false;
                ran++;
            } else {
                stop(o, hook);
                failed++;
            }
        }
    }
    if (failed > 0 && ran == 0)
        stop_unprobed(o);
}

void cg_observe_beat(struct cg_observe *o, cg_observe_sink *sink, void *ctx)
{
    struct cg_obs_counters counters[CG_PARTS];

    cg_observe_drain(o, sink, ctx, SIZE_MAX);
    look_at_counters(o, counters);
    tell_beat(o, counters, sink, ctx);
    check_links(o);
    check_running(o, counters);
    check_sums(o, counters);
    tell_gaps(o, sink, ctx);
}
