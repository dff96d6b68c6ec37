/* Birth, the clocks, and death of the loop. Everything that the warden needs is a descriptor or in
 * config.json; after this it opens nothing but segments of its record and connections outward. */
#include "warden/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "jail/jail.h"
#include "record/reader.h"
#include "warden/inner.h"
#include "warden/ready.h"
#include "warden/secrets.h"
#include "warden/trust.h"

enum { KEEPER_SECONDS = 5 };

/* --- ticks --- */

static void on_tick(uv_timer_t *timer)
{
    struct warden *w = timer->data;
    int64_t now = cg_mono_ns();
    pass_tick(w, now);
    contents_tick(w->contents, now);
    life_tick(w, now);
    if (!pass_wants_tick(w) && !life_wants_tick(w) && !contents_want_tick(w->contents)) {
        uv_timer_stop(&w->tick);
        w->ticking = false;
    }
}

void warden_want_tick(struct warden *w)
{
    if (w->ticking)
        return;
    w->ticking = true;
    uv_timer_start(&w->tick, on_tick, WARDEN_TICK_MS, WARDEN_TICK_MS);
}

static void tell_keeper_counts(struct warden *w)
{
    if (memcmp(&w->counted, &w->counted_told, sizeof w->counted) == 0)
        return;
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_NETWORK, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", "dropped");
    cg_jsonw_kuint(j, "rejected_packets", w->counted.rejected_packets);
    cg_jsonw_kuint(j, "dropped_packets", w->counted.dropped_packets);
    cg_jsonw_kuint(j, "dropped_bytes", w->counted.dropped_bytes);
    cg_record_end(w->record);
    w->counted_told = w->counted;
}

/* Asked one second, read the next: never waits. */
static void ask_keeper(struct warden *w)
{
    struct cg_keeper_counters c;
    if (w->fds.keeper < 0)
        return;
    while (recv(w->fds.keeper, &c, sizeof c, MSG_DONTWAIT) == (ssize_t)sizeof c) {
        w->counted = (struct keeper_counts){c.rejected_packets, c.dropped_packets, c.dropped_bytes};
        rejected_take(w, &c);
        tell_keeper_counts(w);
        rejected_tell(w);
    }
    if (w->seconds % KEEPER_SECONDS != 0)
        return;
    const char ask = CG_KEEPER_COUNTERS;
    ssize_t n = send(w->fds.keeper, &ask, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        cg_drop_fd(&w->fds.keeper);
}

static void on_second(uv_timer_t *timer)
{
    struct warden *w = timer->data;
    w->seconds++;
    if (w->final || w->settle_at)
        return;
    observe_second(w);
    guest_second(w);
    life_second(w);
    llm_second(w);
    sessions_second(w->sessions);
    ask_keeper(w);
    if (w->egress)
        cg_egress_second(w->egress);
    secrets_second(w);
    cg_record_tick(w->record, false);
}

static void on_progress(void *ctx)
{
    struct warden *w = ctx;
    llm_progress(w);
    observe_progress(w);
    pass_progress(w);
    tailing_progress(w);
    trust_progress(w);
}

static void on_sigterm(uv_signal_t *signal, int number)
{
    (void)number;
    struct warden *w = signal->data;
    w->stop_grace_ms = w->config.grace_ms;
    life_stop_now(w, "signal");
}

static void on_egress(void *ctx, enum cg_egress_topic topic, struct cg_slice data)
{
    struct warden *w = ctx;
    cg_record_append(w->record, topic == CG_EGRESS_DNS ? CG_REC_DNS : CG_REC_NETWORK, CG_SRC_HOST,
                     NULL, data);
}

/* --- birth --- */

static bool read_config(struct warden *w, const char *id, struct cg_err *e)
{
    CG_OWN(cg_drop_fd)
    int fd = openat(w->fds.dir, "config.json", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return cg_fail_sys(e, "open config.json");
    if (st.st_size > CG_WARDEN_CONFIG_MAX)
        return cg_fail(e, CG_TOO_LARGE, "config.json has %lld bytes", (long long)st.st_size);
    size_t n = (size_t)st.st_size;
    CG_OWN(cg_drop_free) char *text = cg_alloc(n + 1);
    if (!cg_fd_read_full(fd, text, n, e) ||
        !cg_warden_config_parse((struct cg_slice){text, n}, &w->config, e))
        return false;
    if (!cg_streq(w->config.id, id))
        return cg_fail(e, CG_INVALID, "config.json is of %s, not of %s", w->config.id, id);
    return true;
}

/* Those of the warden before this one: the guest may have gone on in between. */
static bool replay_sessions(struct warden *w, struct cg_err *e)
{
    struct cg_record_line line;
    struct cg_slice text;
    if (cg_record_durable(w->record) == 0)
        return true;
    struct cg_record_reader *r = cg_record_reader_open(w->record_dir, 0, e);
    enum cg_record_got got = r ? CG_RECORD_LINE : CG_RECORD_ERROR;
    while (got == CG_RECORD_LINE) {
        got = cg_record_read(r, UINT64_MAX, &text, &line, e);
        if (got == CG_RECORD_LINE)
            sessions_replay(w->sessions, &line);
    }
    cg_record_reader_close(r);
    return got == CG_RECORD_END || cg_wrap(e, "read the sessions of the record");
}

static bool open_record(struct warden *w, struct cg_err *e)
{
    if (mkdirat(w->fds.dir, "record", 02770) != 0 && errno != EEXIST)
        return cg_fail_sys(e, "make the record's folder");
    w->record_dir = openat(w->fds.dir, "record", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (w->record_dir < 0)
        return cg_fail_sys(e, "open the record's folder");
    const struct cg_record_options o = {.sandbox = w->config.id,
                                        .quota_bytes = w->config.quota_bytes,
                                        .segment_bytes = w->config.segment_bytes};
    w->record = cg_record_open(w->record_dir, &o, e);
    if (w->record)
        w->sessions = sessions_create(w->record);
    w->contents = contents_create(w);
    return w->record && replay_sessions(w, e);
}

static void tell_opened(struct warden *w)
{
    const struct cg_warden_config *c = &w->config;
    bool first = cg_record_durable(w->record) == 0;
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_LIFECYCLE, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", first ? "opened" : "reopened");
    cg_jsonw_kstr(j, "id", c->id);
    cg_jsonw_kstr(j, "account", c->account);
    cg_jsonw_kstr(j, "template", c->template_name);
    if (c->agent[0])
        cg_jsonw_kstr(j, "agent", c->agent);
    cg_jsonw_key(j, "shape");
    cg_jsonw_obj(j);
    cg_jsonw_kint(j, "vcpus", c->vcpus);
    cg_jsonw_kint(j, "mem_mib", c->mem_mib);
    cg_jsonw_kint(j, "disk_mib", c->disk_mib);
    cg_jsonw_obj_end(j);
    if (c->isolation) {
        cg_jsonw_key(j, "isolation");
        cg_jsonw_value(j, c->isolation);
    }
    cg_record_end(w->record);
}

static bool start_egress(struct warden *w, struct cg_err *e)
{
    const struct cg_egress_options o = {
        .policy = &w->config.network,
        .tcp = CG_MOVE_FD(w->fds.tcp),
        .dns = CG_MOVE_FD(w->fds.dns),
        .dns_tcp = CG_MOVE_FD(w->fds.dns_tcp),
        .connect_ms = w->config.connect_ms,
        .sandbox = w->config.id,
        .event = on_egress,
        .ctx = w,
    };
    w->egress = cg_egress_create(w->loop, &o, e);
    return w->egress != NULL;
}

struct warden *cg_warden_create(uv_loop_t *loop, const char *id, const struct cg_warden_fds *fds,
                                struct cg_err *e)
{
    struct warden *w = cg_alloc(sizeof *w);
    w->loop = loop;
    w->fds = *fds;
    w->record_dir = -1;
    if (!read_config(w, id, e) || !open_record(w, e) || !start_egress(w, e) || !llm_start(w, e) ||
        !trust_start(w, e) || !cg_fd_set_nonblock(w->fds.control, true, e)) {
        cg_warden_destroy(w);
        return NULL;
    }
    commit_init(&w->commit, loop, w->record, on_progress, w);
    uv_timer_init(loop, &w->tick);
    uv_timer_init(loop, &w->second);
    uv_signal_init(loop, &w->sigterm);
    w->tick.data = w->second.data = w->sigterm.data = w;
    w->running = true;
    uv_timer_start(&w->second, on_second, WARDEN_SECOND_MS, WARDEN_SECOND_MS);
    uv_signal_start(&w->sigterm, on_sigterm, SIGTERM);
    warden_active(w);
    bool first = cg_record_durable(w->record) == 0;
    tell_opened(w);
    trust_opened(w, first);
    sessions_replayed(w->sessions, w->config.same);
    conns_listen(w);
    return w;
}

int cg_warden_run(struct warden *w)
{
    uv_run(w->loop, UV_RUN_DEFAULT);
    return w->exit_code;
}

/* --- death --- */

static void close_handles(struct warden *w)
{
    guest_close(w);
    conns_close(w);
    llm_close(w);
    cg_vmm_destroy(w->vmm);
    secrets_close(w);
    cg_egress_destroy(w->egress);
    while (w->commit.busy || trust_busy(w)) /* their ends come by the loop */
        uv_run(w->loop, UV_RUN_ONCE);
    commit_close(&w->commit);
    uv_close((uv_handle_t *)&w->tick, NULL);
    uv_close((uv_handle_t *)&w->second, NULL);
    uv_close((uv_handle_t *)&w->sigterm, NULL);
    uv_run(w->loop, UV_RUN_DEFAULT);
    warden_drop_waiters(w);
}

void cg_warden_destroy(struct warden *w)
{
    if (!w)
        return;
    if (w->running)
        close_handles(w);
    else
        cg_egress_destroy(w->egress);
    ready_destroy(w->fds.ready);
    llm_free(w);
    trust_free(w);
    contents_destroy(w->contents);
    sessions_destroy(w->sessions);
    cg_record_close(w->record);
    secrets_finish(w);
    int *const fds[] = {&w->fds.control, &w->fds.link, &w->fds.vmm,    &w->fds.tcp,   &w->fds.dns,
                        &w->fds.dns_tcp, &w->fds.dir,  &w->fds.keeper, &w->record_dir};
    for (size_t i = 0; i < CG_COUNT(fds); i++)
        cg_drop_fd(fds[i]);
    cg_warden_config_finish(&w->config);
    free(w);
}
