/* caged-server: the HTTP API over core, api and store. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "base/fs.h"
#include "base/log.h"
#include "core/accounts.h"
#include "core/alerts.h"
#include "core/audit.h"
#include "core/gc.h"
#include "core/host.h"
#include "core/providers.h"
#include "core/reload.h"
#include "core/scores.h"
#include "core/secrets.h"
#include "core/teams.h"
#include "core/usage.h"

enum { FINISH_MS = 5000, FINISH_STEP_MS = 50, HOUSEKEEPING_MS = 5000, END_S = 15 };

struct server {
    uv_loop_t loop;
    struct cg_core core;
    struct cg_api api;
    struct cg_host host;
    uv_signal_t term, interrupt, hangup;
    uv_timer_t finish, housekeeping;
    int64_t deadline_ns;
};

/* Requests under way may finish; sandboxes go on without us. */
static void on_finish(uv_timer_t *t)
{
    struct server *s = t->data;
    if (cg_api_busy(&s->api) > 0 && cg_mono_ns() < s->deadline_ns)
        return;
    uv_stop(&s->loop);
}

/* Whatever waits for a lock or a disk then, in the loop or in the pool that exit() joins, does not
 * keep the server: what was acknowledged is on disk, and every start expects a kill. */
static void *cut_off(void *ctx)
{
    const struct server *s = ctx;
    struct timespec left = {.tv_sec = END_S};
    while (nanosleep(&left, &left) != 0)
        continue;
    cg_log(CG_LOG_WARN, CG_EVENT("server.cut_off"), CG_I("after_s", END_S));
    cg_host_withdraw(&s->core);
    _exit(1);
}

static void on_signal(uv_signal_t *sig, int number)
{
    pthread_t clock;
    struct server *s = sig->data;
    if (s->core.stopping)
        return;
    cg_log(CG_LOG_INFO, CG_EVENT("server.stopping"), CG_I("signal", number));
    s->core.stopping = true;
    if (pthread_create(&clock, NULL, cut_off, s) == 0)
        pthread_detach(clock);
    cg_api_quiesce(&s->api);
    s->deadline_ns = cg_mono_ns() + (int64_t)FINISH_MS * 1000000;
    uv_timer_start(&s->finish, on_finish, 1, FINISH_STEP_MS);
}

/* The configuration is read again. What came of it stands in the log and, for `caged server
 * reload`, in server.json. */
static void on_hangup(uv_signal_t *sig, int number)
{
    struct server *s = sig->data;
    struct cg_err e = CG_ERR_INIT;
    (void)number;
    bool fine = cg_options_reload(&s->core.options, &e);
    s->host.reloads++;
    (void)cg_strlcpy(s->host.reload_error, sizeof s->host.reload_error, fine ? "" : e.text);
    if (!fine)
        cg_log(CG_LOG_ERROR, CG_EVENT("server.reload_refused"), CG_E(&e));
    if (!cg_host_announce(&s->core, &s->host, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("server.not_announced"), CG_E(&e));
}

static bool write_owner_key(struct server *s, struct cg_err *e)
{
    char text[CG_KEY_TEXT] = "";
    if (pread(s->host.owner_key, text, sizeof text - 1, 0) < 0)
        return cg_fail_sys(e, "read owner.key");
    text[strcspn(text, "\r\n")] = '\0';
    if (!cg_core_bootstrap(&s->core, text, e))
        return false;
    if (!text[0])
        return true;
    size_t n = strlen(text);
    text[n] = '\n';
    if (ftruncate(s->host.owner_key, 0) != 0 ||
        pwrite(s->host.owner_key, text, n + 1, 0) != (ssize_t)n + 1 ||
        fsync(s->host.owner_key) != 0)
        return cg_fail_sys(e, "write owner.key");
    return true;
}

static void on_housekeeping(uv_timer_t *t)
{
    struct server *s = t->data;
    cg_host_trim_log(&s->host);
    cg_host_reap();
}

static void watch(struct server *s)
{
    uv_timer_init(&s->loop, &s->housekeeping);
    s->housekeeping.data = s;
    uv_timer_start(&s->housekeeping, on_housekeeping, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
    uv_signal_init(&s->loop, &s->term);
    uv_signal_init(&s->loop, &s->interrupt);
    uv_timer_init(&s->loop, &s->finish);
    uv_signal_init(&s->loop, &s->hangup);
    s->hangup.data = s;
    uv_signal_start(&s->hangup, on_hangup, SIGHUP);
    s->term.data = s->interrupt.data = s->finish.data = s;
    uv_signal_start(&s->term, on_signal, SIGTERM);
    uv_signal_start(&s->interrupt, on_signal, SIGINT);
}

static bool serve(struct server *s, struct cg_err *e)
{
    s->core.loop = &s->loop;
    if (uv_loop_init(&s->loop) != 0)
        return cg_fail(e, CG_INTERNAL, "libuv does not start");
    if (!cg_core_start(&s->core, e) || !write_owner_key(s, e) || !cg_accounts_start(&s->core, e) ||
        !cg_teams_start(&s->core, e) || !cg_core_secrets_start(&s->core, e) ||
        !cg_scores_start(&s->core, e) || !cg_alerts_start(&s->core, e) ||
        !cg_adopt_all(&s->core, e) || !cg_usage_start(&s->core, e) ||
        !cg_audit_start(&s->core, e) || !cg_api_start(&s->api, &s->core, s->host.listen, e))
        return false;
    cg_gc_start(&s->core);
    cg_providers_scripted(&s->core, s->host.port);
    if (s->host.probe >= 0)
        cg_core_await_probe(&s->core, s->host.probe);
    if (!cg_host_announce(&s->core, &s->host, e))
        return false;
    watch(s);
    cg_host_ready(&s->host, NULL);
    cg_log(CG_LOG_INFO, CG_EVENT("server.started"), CG_S("state", s->core.options.state_dir),
           CG_S("host", s->core.options.listen_host), CG_I("port", s->host.port));
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_timer_stop(&s->finish); /* the loop turns again until the audit log is written */
    uv_timer_stop(&s->housekeeping);
    cg_api_finish(&s->api);
    cg_gc_stop(&s->core);
    cg_alerts_finish(&s->core);
    cg_usage_stop(&s->core);
    cg_audit_stop(&s->core);
    cg_core_finish(&s->core);
    cg_scores_finish(&s->core);
    cg_host_withdraw(&s->core);
    cg_log(CG_LOG_INFO, CG_EVENT("server.stopped"));
    return true;
}

int main(int argc, char **argv)
{
    static struct server s;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_options_read(argc, argv, &s.core.options, &e)) {
        fprintf(stderr, "error: %s\n", e.text);
        return 2;
    }
    bool ok = cg_host_prepare(&s.core, &s.host, &e);
    if (!ok) {
        fprintf(stderr, "error: %s\n", e.text);
        return 1;
    }
    ok = s.core.options.foreground || cg_host_daemonize(&s.core, &s.host, &e);
    ok = ok && cg_host_launch(&s.core, &s.host, &e) && serve(&s, &e);
    if (!ok) {
        cg_log(CG_LOG_ERROR, CG_EVENT("server.failed"), CG_E(&e));
        cg_host_ready(&s.host, &e);
    }
    return ok ? 0 : 1;
}
