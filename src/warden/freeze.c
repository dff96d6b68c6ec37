/* The guest held still, with its state in vm.state when that is wanted:
 *
 *   SYNC -> hold the link's streams -> PING, PONG -> stop the VMM -> save -> frozen
 *
 * so that the host's side of the link is at the end of a frame, and whoever restores the state can
 * take the guest over by RESET. A snapshot is then let go on, after the server has copied what it
 * needs; a pause ends the VMM and the warden, and the next warden of the sandbox goes on. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "warden/inner.h"
#include "warden/llm.h"
#include "warden/secrets.h"
#include "warden/up.h"

enum { SYNC_MS = 30000, GUARD_SYNC_MS = 150, QUIET_MS = 5000 };

static const char facts_name[] = "pause.json";

struct freeze {
    struct up up;
    struct warden *w;
    int64_t deadline; /* of the guest's answer; 0: it is there */
    int64_t stopped;  /* when the guest stood still */
    int fd;           /* vm.state, for fsync */
    bool pause, ram;
    bool syncing; /* the guest writes to its disk what it has */
    bool still;   /* the VMM is stopped */
    bool working; /* the VMM is at it: nothing may be freed */
    bool left;    /* nobody waits any more: thaw as soon as the VMM is done */
};

static void on_thawed(void *ctx, const struct cg_err *err)
{
    struct warden *w = ctx;
    if (!err)
        return;
    struct cg_err e = *err;
    cg_wrap(&e, "let the guest go on");
    life_fail(w, CG_WARDEN_VMM_DIED, &e);
}

/* The guest goes on, and the freeze is over. */
static void thaw(struct freeze *f)
{
    struct warden *w = f->w;
    struct cg_err e = CG_ERR_INIT;
    w->freeze = NULL;
    guest_hold(w, false);
    if (f->still && w->vmm && w->state == W_RUNNING && !cg_vmm_resume(w->vmm, on_thawed, w, &e))
        life_fail(w, CG_WARDEN_VMM_DIED, &e);
    cg_drop_fd(&f->fd);
    free(f);
}

static void fail(struct freeze *f, const struct cg_err *why)
{
    if (f->pause)
        life_pause_failed(f->w, why);
    up_close_error(&f->up, why->code, why->text);
    thaw(f);
}

/* What the next warden has to know and the guest cannot tell. */
static bool write_facts(const struct freeze *f, struct cg_err *e)
{
    char text[64];
    cg_snprintf(text, sizeof text, "{\"observed\":%llu}", (unsigned long long)f->w->guest.observed);
    CG_OWN(cg_drop_fd)
    int fd = openat(f->w->fds.dir, facts_name,
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0660);
    if (fd < 0)
        return cg_fail_sys(e, "create %s", facts_name);
    return cg_fd_write_full(fd, text, strlen(text), e) &&
           (fsync(fd) == 0 || cg_fail_sys(e, "write %s", facts_name));
}

int64_t freeze_taken(struct warden *w)
{
    char text[64] = "";
    if (!w->config.same)
        return -1;
    CG_OWN(cg_drop_fd) int fd = openat(w->fds.dir, facts_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        return -1;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(text), NULL, NULL);
    return cg_json_int(j, "observed", -1);
}

void freeze_over(struct warden *w)
{
    if (unlinkat(w->fds.dir, facts_name, 0) == 0)
        (void)fsync(w->fds.dir);
    (void)unlinkat(w->fds.dir, state_name, 0);
}

static void frozen(struct freeze *f)
{
    char text[64];
    if (f->pause) {
        struct warden *w = f->w;
        w->freeze = NULL;
        cg_drop_fd(&f->fd);
        free(f);
        life_paused(w);
        return;
    }
    cg_snprintf(text, sizeof text, "{\"stall_ns\":%lld}", (long long)(cg_mono_ns() - f->stopped));
    up_accept(&f->up, cg_slice_of(text));
}

/* What the next warden reads, and the server wrote without waiting for the disk. */
static bool sync_files(const struct warden *w, struct cg_err *e)
{
    static const char *const names[] = {"config.json", "prices.json", "prices.own.json",
                                        "trust.yaml", "trust.own.yaml"};
    for (size_t i = 0; i < CG_COUNT(names); i++) {
        CG_OWN(cg_drop_fd)
        int fd = openat(w->fds.dir, names[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 ? errno != ENOENT : fsync(fd) != 0)
            return cg_fail_sys(e, "make %s durable", names[i]);
    }
    return true;
}

/* Whoever is told that a sandbox is paused may pull this machine's plug. The disk is the server's:
 * it does the same with that. */
static bool make_durable(const struct freeze *f, struct cg_err *e)
{
    if (fsync(f->fd) != 0)
        return cg_fail_sys(e, "make the saved guest durable");
    return secrets_keep_ca(f->w, e) && sync_files(f->w, e) && write_facts(f, e) &&
           (fsync(f->w->fds.dir) == 0 || cg_fail_sys(e, "make the saved guest durable"));
}

static void on_saved(void *ctx, const struct cg_err *err)
{
    struct freeze *f = ctx;
    struct cg_err e = CG_ERR_INIT;
    f->working = false;
    if (f->w->state != W_RUNNING) {
        thaw(f);
        return;
    }
    if (err || (f->pause && !make_durable(f, &e)))
        fail(f, err ? err : &e);
    else if (f->left)
        thaw(f);
    else
        frozen(f);
}

static bool save(struct freeze *f, struct cg_err *e)
{
    struct warden *w = f->w;
    (void)unlinkat(w->fds.dir, state_name, 0);
    int fd =
        openat(w->fds.dir, state_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0660);
    if (fd < 0)
        return cg_fail_sys(e, "create %s", state_name);
    f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    f->working = cg_vmm_save(w->vmm, fd, false, on_saved, f, e);
    return f->working;
}

static void on_stopped(void *ctx, const struct cg_err *err)
{
    struct freeze *f = ctx;
    struct cg_err e = CG_ERR_INIT;
    f->working = false;
    f->still = !err;
    if (!err)
        llm_still(f->w);
    if (f->w->state != W_RUNNING || (!err && f->left))
        thaw(f);
    else if (!err && !f->ram)
        frozen(f);
    else if (err || !f->w->vmm || !save(f, &e))
        fail(f, err ? err : &e);
}

void freeze_quiet(struct warden *w)
{
    struct freeze *f = w->freeze;
    struct cg_err e = CG_ERR_INIT;
    f->deadline = 0;
    f->stopped = cg_mono_ns();
    if (w->vmm && cg_vmm_pause(w->vmm, on_stopped, f, &e)) {
        f->working = true;
        return;
    }
    if (!w->vmm)
        cg_fail(&e, CG_UNAVAILABLE, "there is no VMM");
    fail(f, &e);
}

static void hold(struct freeze *f)
{
    f->syncing = false;
    f->deadline = cg_mono_ns() + (int64_t)QUIET_MS * 1000000;
    guest_hold(f->w, true);
}

/* A guest of an older agent does not know it. */
static void on_synced(struct down *d, const struct cg_json *result)
{
    struct guest *g = CG_CONTAINER(d, struct guest, sync);
    const struct warden *w = CG_CONTAINER(g, struct warden, guest);
    (void)result;
    if (w->freeze && w->freeze->syncing)
        hold(w->freeze);
}

void freeze_tick(struct warden *w, int64_t now)
{
    struct freeze *f = w->freeze;
    if (!f || f->deadline == 0 || now < f->deadline)
        return;
    if (f->syncing) { /* it is none the less of one moment */
        hold(f);
        return;
    }
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_TIMEOUT, "the guest did not answer within %d ms", (int)QUIET_MS);
    fail(f, &e);
}

/* The server has what it wanted, or does not want it any more, or is gone. */
static void on_cancel(struct up *u, bool lost)
{
    struct freeze *f = CG_CONTAINER(u, struct freeze, up);
    if (!lost)
        up_close(u, cg_slice_of("{}"));
    f->left = true;
    if (!f->working && !f->pause)
        thaw(f);
}

static const struct up_ops ops = {.on_cancel = on_cancel};

static struct freeze *begin(struct warden *w)
{
    static const struct down_ops sync_ops = {.on_close = on_synced};
    struct cg_err e = CG_ERR_INIT;
    struct freeze *f = cg_alloc(sizeof *f);
    f->w = w;
    f->fd = -1;
    f->syncing = true;
    /* how long the guard takes is not the guest's to say */
    f->deadline = cg_mono_ns() + (int64_t)(llm_guarded(w) ? GUARD_SYNC_MS : SYNC_MS) * 1000000;
    w->freeze = f;
    if (w->guest.sync.s ||
        !guest_open(w, &w->guest.sync, &sync_ops, cg_slice_of("{\"kind\":\"sync\"}"), &e))
        hold(f);
    warden_want_tick(w);
    return f;
}

static const char *obstacle(const struct warden *w)
{
    if (w->state != W_RUNNING || !w->guest.ready)
        return "the guest is not running";
    if (w->freeze)
        return "a snapshot or a pause is under way";
    return w->vmm ? NULL : "there is no VMM";
}

void freeze_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                 const struct cg_json *request)
{
    const char *why = obstacle(w);
    if (why) {
        refuse(c, s, CG_CONFLICT, why);
        return;
    }
    struct freeze *f = begin(w);
    f->ram = cg_json_bool(request, "ram", true);
    up_init(&f->up, &ops, c, s);
}

bool freeze_pause(struct warden *w, struct cg_err *e)
{
    const char *why = obstacle(w);
    if (why)
        return cg_fail(e, CG_CONFLICT, "%s", why);
    struct freeze *f = begin(w);
    f->pause = f->ram = true;
    f->up.w = w;
    return true;
}

void freeze_end(struct warden *w)
{
    struct freeze *f = w->freeze;
    if (!f)
        return;
    f->left = true;
    up_close_error(&f->up, CG_CLOSED, "the sandbox has ended");
    if (!f->working) /* else when the VMM is done, or gone */
        thaw(f);
}
