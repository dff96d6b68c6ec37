#include "warden/warm.h"

#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "link/link.h"
#include "loop/stream.h"
#include "warden/takeover.h"

enum { ENTROPY = 32, LIMIT_MS = 60000, SETTLE_MS = 60 };

/* Programs that agents and people use first: clones read them from the memory that they share.
 * Synced: the kernel's clock will have jumped when the guest goes on, and whatever it had put off
 * by a few seconds would come in the way of the first command. */
const char warm_golden[] =
    "{\"kind\":\"exec\",\"shell\":\"cd /workspace && ls -lR /etc >/dev/null; "
    "cat /etc/hostname /etc/passwd | grep agent >/dev/null; id >/dev/null; env >/dev/null; "
    "head -c 1000 /dev/urandom | sha256sum >/dev/null; git --version >/dev/null 2>&1; "
    "/bin/true; sync\",\"env\":{}}";

/* In a spare every run also fills the VMM's store of translated code, of which there is little
 * (code_cache_mib in vmm/qemu/args.c): once it overflows it is thrown away whole, and the first
 * command pays for all of it again. So this is the least that every command needs. */
static const char *const runs[] = {
    "{\"kind\":\"exec\",\"argv\":[\"/bin/true\"],\"env\":{}}",
    "{\"kind\":\"exec\",\"argv\":[\"/bin/true\"],\"env\":{}}",
};

void warm_setup(struct cg_buf *out, int64_t disk_bytes, const char *ca_pem)
{
    unsigned char entropy[ENTROPY];
    char hex[2 * ENTROPY + 1];
    struct cg_jsonw j;
    cg_rand_bytes(entropy, sizeof entropy);
    sodium_bin2hex(hex, sizeof hex, entropy, sizeof entropy);
    cg_jsonw_init(&j, out);
    cg_jsonw_obj(&j);
    cg_jsonw_kstr(&j, "kind", "setup");
    cg_jsonw_kstr(&j, "sandbox_id", "spare");
    cg_jsonw_kstr(&j, "hostname", "spare");
    cg_jsonw_kstr(&j, "entropy", hex);
    cg_jsonw_kint(&j, "wall_ns", cg_wall_ns());
    cg_jsonw_kbool(&j, "warm", true);
    cg_jsonw_kbool(&j, "resize_disk", disk_bytes > 0);
    if (disk_bytes > 0)
        cg_jsonw_kint(&j, "disk_bytes", disk_bytes);
    if (ca_pem)
        cg_jsonw_kstr(&j, "ca_pem", ca_pem);
    cg_jsonw_obj_end(&j);
}

struct warm {
    uv_loop_t *loop;
    struct cg_vmm *vmm;
    struct cg_stream *stream;
    struct cg_link *link;
    struct takeover takeover;
    uv_timer_t timer;
    int64_t disk_bytes;
    const char *ca_pem;
    unsigned runs;
    bool over;
    struct cg_err err;
};

static void over(struct warm *w, const struct cg_err *err, const char *what)
{
    if (w->over)
        return;
    w->over = true;
    if (err) {
        w->err = *err;
        cg_wrap(&w->err, "%s", what);
    }
    uv_stop(w->loop);
}

/* --- the VMM --- */

static void on_paused(void *ctx, const struct cg_err *err)
{
    over(ctx, err, "stop the spare guest");
}

static void on_resumed(void *ctx, const struct cg_err *err)
{
    if (err)
        over(ctx, err, "let the spare guest go on");
}

static void on_resized(void *ctx, const struct cg_err *err)
{
    struct warm *w = ctx;
    struct cg_err e = CG_ERR_INIT;
    if (err || !cg_vmm_resume(w->vmm, on_resumed, w, &e))
        over(w, err ? err : &e, "grow the spare guest's disk");
}

static void on_restored(void *ctx, const struct cg_err *err)
{
    struct warm *w = ctx;
    struct cg_err e = CG_ERR_INIT;
    if (err || !cg_vmm_block_resize(w->vmm, (uint64_t)w->disk_bytes, on_resized, w, &e))
        over(w, err ? err : &e, "restore the spare guest");
}

static void on_vmm_gone(void *ctx, const struct cg_err *why)
{
    over(ctx, why, "the VMM of the spare");
}

static bool start_vmm(struct warm *w, int dir, int control, struct cg_err *e)
{
    static const struct cg_vmm_handlers handlers = {NULL, on_vmm_gone};
    struct stat st;
    w->vmm = cg_vmm_attach(w->loop, cg_vmm_driver(NULL), control, &handlers, w, e);
    if (!w->vmm)
        return false;
    if (fstatat(dir, "disk.img", &st, AT_SYMLINK_NOFOLLOW) != 0)
        return cg_fail_sys(e, "look at disk.img");
    w->disk_bytes = st.st_size;
    int fd = openat(dir, "vm.state", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return cg_fail_sys(e, "open vm.state");
    return cg_vmm_restore(w->vmm, fd, true, on_restored, w, e);
}

/* --- the link --- */

/* Which stream it is: the user of each. */
static char is_setup, is_observe, is_exec;

static void open_stream(struct warm *w, struct cg_slice request, char *which)
{
    struct cg_err e = CG_ERR_INIT;
    if (!cg_link_open(w->link, request, which, &e))
        over(w, &e, "ask the spare guest");
    cg_stream_kick(w->stream);
}

static void on_hello(void *ctx, const struct cg_json *hello)
{
    struct warm *w = ctx;
    (void)hello;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    warm_setup(&b, w->disk_bytes, w->ca_pem);
    open_stream(w, cg_buf_slice(&b), &is_setup);
}

static void on_data(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice data)
{
    (void)ctx;
    (void)channel;
    cg_link_grant(s, data.n);
}

/* What it saw of the command is on its way still, and nobody's. */
static void on_settled(uv_timer_t *timer)
{
    struct warm *w = timer->data;
    struct cg_err e = CG_ERR_INIT;
    if (!cg_vmm_pause(w->vmm, on_paused, w, &e))
        over(w, &e, "stop the spare guest");
}

static void on_close(void *ctx, struct cg_link_stream *s, const struct cg_json *result)
{
    struct warm *w = ctx;
    const void *which = cg_link_user(s);
    const struct cg_json *error = cg_json_get(result, "error");
    if (w->over || which == &is_observe) /* without observation it works as well */
        return;
    if (error) {
        struct cg_err e = CG_ERR_INIT;
        const char *text = cg_json_str(error, "text");
        cg_fail(&e, CG_UNAVAILABLE, "%.150s", text ? text : "?");
        over(w, &e, "the spare guest refused");
    } else if (which == &is_setup) {
        open_stream(w, cg_slice_of("{\"kind\":\"observe\"}"), &is_observe);
        open_stream(w, cg_slice_of(runs[0]), &is_exec);
    } else if (++w->runs < CG_COUNT(runs)) {
        open_stream(w, cg_slice_of(runs[w->runs]), &is_exec);
    } else {
        uv_timer_start(&w->timer, on_settled, SETTLE_MS, 0);
    }
}

static bool on_read(void *ctx, struct cg_slice bytes, struct cg_err *e)
{
    struct warm *w = ctx;
    bool fine = (!w->takeover.on || takeover_skip(&w->takeover, &bytes, e)) &&
                cg_link_feed(w->link, bytes.p, bytes.n, e);
    cg_stream_kick(w->stream);
    return fine;
}

static struct cg_slice output(void *ctx)
{
    struct warm *w = ctx;
    struct cg_slice first = takeover_output(&w->takeover);
    return first.n > 0 || w->takeover.on ? first : cg_link_output(w->link);
}

static void wrote(void *ctx, size_t n)
{
    struct warm *w = ctx;
    if (w->takeover.left > 0)
        w->takeover.left -= n;
    else
        cg_link_wrote(w->link, n);
}

static void on_end(void *ctx, const struct cg_err *why)
{
    over(ctx, why, "the link of the spare");
}

static bool start_link(struct warm *w, int link, struct cg_err *e)
{
    static const struct cg_stream_ops ops = {on_read, output, wrote, on_end};
    static const struct cg_link_handlers handlers = {
        .on_hello = on_hello, .on_data = on_data, .on_close = on_close};
    int fd = fcntl(link, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return cg_fail_sys(e, "keep the guest link");
    takeover_begin(&w->takeover);
    w->link = cg_link_create(true, NULL, &handlers, w);
    w->stream = cg_stream_create(w->loop, fd, &ops, w, e);
    if (w->stream)
        cg_stream_kick(w->stream);
    return w->stream != NULL;
}

/* --- all of it --- */

static void on_limit(uv_timer_t *timer)
{
    struct warm *w = timer->data;
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_TIMEOUT, "not ready after %d s", LIMIT_MS / 1000);
    over(w, &e, "the spare guest");
}

struct cg_vmm *warm_restore(uv_loop_t *loop, int dir, int control, int link, const char *ca_pem,
                            struct cg_err *e)
{
    struct warm w = {.loop = loop, .ca_pem = ca_pem, .err = CG_ERR_INIT};
    uv_timer_init(loop, &w.timer);
    w.timer.data = &w;
    uv_timer_start(&w.timer, on_limit, LIMIT_MS, 0);
    if (start_vmm(&w, dir, control, &w.err) && start_link(&w, link, &w.err))
        uv_run(loop, UV_RUN_DEFAULT);
    w.over = true;
    cg_stream_destroy(w.stream);
    cg_link_destroy(w.link);
    uv_close((uv_handle_t *)&w.timer, NULL);
    if (w.err.code != CG_OK) {
        cg_vmm_destroy(w.vmm);
        w.vmm = NULL;
        *e = w.err;
    }
    uv_run(loop, UV_RUN_NOWAIT); /* handles on the stack close here */
    return w.vmm;
}
