/* A guest out of a file instead of a boot, and into one.
 *
 * Making: the agent answers and is warmed up (warm.h), the host hangs up, the guest is given a
 * moment to notice (its agent then begins a new session that belongs to nobody), the VMM stops and
 * saves everything but the memory, which lies in a shared file already. Restoring is the same
 * backwards; `setup` then makes the sandbox it is out of it, before anything else runs. */
#include <fcntl.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "warden/inner.h"
#include "warden/warm.h"

enum { NOTICE_MS = 400 };

const char state_name[] = "vm.state";

static void fail(struct warden *w, const struct cg_err *err, const char *what)
{
    struct cg_err e = *err;
    cg_wrap(&e, "%s", what);
    life_fail(w, CG_WARDEN_NO_BOOT, &e);
}

static void on_paused(void *ctx, const struct cg_err *err);

/* --- restore --- */

static void on_resumed(void *ctx, const struct cg_err *err)
{
    if (err)
        fail(ctx, err, "let the restored guest go on");
}

static void on_resized(void *ctx, const struct cg_err *err)
{
    struct warden *w = ctx;
    struct cg_err e = CG_ERR_INIT;
    if (w->state != W_BOOTING || !w->vmm)
        return;
    if (err || !cg_vmm_resume(w->vmm, on_resumed, w, &e))
        fail(w, err ? err : &e, "grow the restored guest's disk");
}

static void on_restored(void *ctx, const struct cg_err *err)
{
    struct warden *w = ctx;
    struct cg_err e = CG_ERR_INIT;
    if (w->state != W_BOOTING || !w->vmm)
        return;
    if (w->config.make_golden) { /* a snapshot whose memory goes into a file that many can map */
        (void)unlinkat(w->fds.dir, state_name, 0);
        on_paused(w, err);
        return;
    }
    if (err || !cg_vmm_block_resize(w->vmm, (uint64_t)w->config.disk_mib << 20, on_resized, w, &e))
        fail(w, err ? err : &e, "restore the guest");
}

bool golden_restore(struct warden *w, struct cg_err *e)
{
    int fd = openat(w->fds.dir, state_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return cg_fail_sys(e, "open %s", state_name);
    return cg_vmm_restore(w->vmm, fd, w->config.without_ram, on_restored, w, e);
}

/* --- make --- */

static void on_saved(void *ctx, const struct cg_err *err)
{
    struct warden *w = ctx;
    if (w->state != W_BOOTING)
        return;
    if (err)
        fail(w, err, "save the guest");
    else
        life_golden(w);
}

static void on_paused(void *ctx, const struct cg_err *err)
{
    struct warden *w = ctx;
    struct cg_err e = CG_ERR_INIT;
    if (w->state != W_BOOTING || !w->vmm)
        return;
    int fd = err ? -1
                 : openat(w->fds.dir, state_name,
                          O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0660);
    bool ok = fd >= 0 || (err ? false : cg_fail_sys(&e, "create %s", state_name));
    if (!ok || !cg_vmm_save(w->vmm, fd, true, on_saved, w, &e))
        fail(w, err ? err : &e, "save the guest");
}

static void on_warm(struct down *d, const struct cg_json *result)
{
    struct guest *g = CG_CONTAINER(d, struct guest, warm);
    struct warden *w = CG_CONTAINER(g, struct warden, guest);
    (void)result; /* what it could not run it will not know */
    if (w->state != W_BOOTING)
        return;
    w->golden_at = cg_mono_ns() + (int64_t)NOTICE_MS * 1000000;
    warden_want_tick(w);
}

static void on_setup(struct down *d, const struct cg_json *result)
{
    static const struct down_ops drained = {.on_data = NULL}, warm = {.on_close = on_warm};
    struct guest *g = CG_CONTAINER(d, struct guest, setup);
    struct warden *w = CG_CONTAINER(g, struct warden, guest);
    struct cg_err e = CG_ERR_INIT;
    (void)result;
    if (w->state == W_BOOTING &&
        (!guest_open(w, &g->observe, &drained, cg_slice_of("{\"kind\":\"observe\"}"), &e) ||
         !guest_open(w, &g->warm, &warm, cg_slice_of(warm_golden), &e)))
        fail(w, &e, "warm the guest up");
}

void golden_hello(struct warden *w)
{
    static const struct down_ops setup = {.on_close = on_setup};
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    warm_setup(&b, 0, NULL);
    if (!guest_open(w, &w->guest.setup, &setup, cg_buf_slice(&b), &e))
        fail(w, &e, "warm the guest up");
}

/* Not from inside the link's own call: closing frees it. */
void golden_tick(struct warden *w, int64_t now)
{
    struct cg_err e = CG_ERR_INIT;
    if (w->guest.link) {
        guest_close(w);
        w->golden_at = now + (int64_t)NOTICE_MS * 1000000;
        return;
    }
    if (now < w->golden_at)
        return;
    w->golden_at = 0;
    if (!w->vmm || !cg_vmm_pause(w->vmm, on_paused, w, &e))
        fail(w, &e, "stop the guest");
}
