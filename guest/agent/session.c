/* The link's session: bytes between the transport and the link, requests to tasks. The host is
 * trusted to mean well but not to be bug-free: unknown kinds and members are refused. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/agent/agent.h"

static const struct task_ops *const kinds[] = {
    &task_exec,    &task_attach,   &task_execs,     &task_fs_stat,  &task_fs_list,
    &task_fs_read, &task_fs_write, &task_fs_delete, &task_fs_mkdir, &task_fs_rename,
    &task_tar_in,  &task_tar_out,  &task_metrics,   &task_ports,    &task_dial,
    &task_setup,   &task_observe,  &task_poweroff,  &task_sync,
};

static struct cg_link *link_now;
static struct watch transport = {.fd = -1};
static int transport_fd = -1;
static bool kicked;
static bool heard; /* the peer has said something in this session */
static bool reset; /* another host has taken over: the session begins anew */
static unsigned char nonce[CG_LINK_NONCE]; /* told to it first: the last `nonce_left` bytes */
static size_t nonce_left;
static bool silent; /* nobody holds the host side of the virtio port */

static const struct task_ops *find_kind(const char *name)
{
    for (size_t i = 0; name && i < CG_COUNT(kinds); i++) {
        if (strcmp(kinds[i]->kind, name) == 0)
            return kinds[i];
    }
    return NULL;
}

static void refuse(struct cg_link_stream *s, const struct cg_err *why)
{
    struct task t = {.stream = s, .ops = NULL};
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_key(&w, "error");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "code", cg_code_name(why->code));
    cg_jsonw_kstr(&w, "text", why->text);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    cg_link_close(t.stream, cg_buf_slice(&b));
    session_kick();
}

static void on_open(void *ctx, struct cg_link_stream *s, const struct cg_json *request)
{
    (void)ctx;
    struct cg_err e = CG_ERR_INIT;
    const char *name = cg_json_str(request, "kind");
    const struct task_ops *ops = find_kind(name);
    if (!ops) {
        cg_fail(&e, CG_INVALID, "unknown kind %s", name ? name : "(none)");
        refuse(s, &e);
        return;
    }
    if (!agent.ready && !ops->before_setup) {
        cg_fail(&e, CG_UNAVAILABLE, "%s before setup", name);
        refuse(s, &e);
        return;
    }
    struct task *t = cg_alloc(ops->size);
    t->ops = ops;
    t->stream = s;
    cg_link_set_user(s, t);
    ops->open(t, request);
}

static void on_data(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice bytes)
{
    (void)ctx;
    struct task *t = cg_link_user(s);
    if (t->ops->data)
        t->ops->data(t, channel, bytes);
    else
        cg_link_grant(s, bytes.n);
}

static void on_eof(void *ctx, struct cg_link_stream *s, unsigned channel)
{
    (void)ctx;
    struct task *t = cg_link_user(s);
    if (t->ops->eof)
        t->ops->eof(t, channel);
}

static void on_control(void *ctx, struct cg_link_stream *s, const struct cg_json *message)
{
    (void)ctx;
    struct task *t = cg_link_user(s);
    if (t->ops->control)
        t->ops->control(t, message);
}

static void on_writable(void *ctx, struct cg_link_stream *s)
{
    (void)ctx;
    struct task *t = cg_link_user(s);
    if (t->ops->writable)
        t->ops->writable(t);
}

static void on_cancel(void *ctx, struct cg_link_stream *s, const struct cg_json *result)
{
    (void)ctx;
    (void)result;
    struct task *t = cg_link_user(s);
    if (t->ops->cancel)
        t->ops->cancel(t);
    else
        task_close_empty(t);
}

static void on_reset(void *ctx, const unsigned char said[CG_LINK_NONCE])
{
    (void)ctx;
    memcpy(nonce, said, sizeof nonce);
    reset = true;
    agent.keep = true;
}

static const struct cg_link_handlers handlers = {
    .on_reset = on_reset,
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_control = on_control,
    .on_writable = on_writable,
    .on_close = on_cancel,
};

void task_close(struct task *t, struct cg_slice result)
{
    struct cg_link_stream *s = t->stream;
    if (t->ops->finish)
        t->ops->finish(t);
    free(t);
    cg_link_close(s, result);
    session_kick();
}

void task_close_empty(struct task *t)
{
    task_close(t, cg_slice_of("{}"));
}

void task_fail(struct task *t, const struct cg_err *why)
{
    struct cg_link_stream *s = t->stream;
    if (t->ops->finish)
        t->ops->finish(t);
    free(t);
    refuse(s, why);
}

void task_accept(struct task *t, struct cg_slice info)
{
    cg_link_accept(t->stream, info);
    session_kick();
}

static void on_transport(struct watch *w, uint32_t events);

static void end_session(const struct cg_err *why)
{
    if (!link_now)
        return;
    agent_log("link: %s", why->text);
    cg_link_fail(link_now, why);
    cg_link_destroy(link_now);
    link_now = NULL;
    watch_stop(&transport);
    close(transport_fd);
    transport_fd = -1;
    if (agent.in_vm)
        boot_power_off("the link to the host has ended");
}

static void wrote(size_t n)
{
    if (nonce_left > 0)
        nonce_left -= n;
    else
        cg_link_wrote(link_now, n);
}

static void write_out(void)
{
    while (link_now && !silent) {
        struct cg_slice out =
            nonce_left > 0
                ? (struct cg_slice){(const char *)nonce + sizeof nonce - nonce_left, nonce_left}
                : cg_link_output(link_now);
        if (out.n == 0) {
            watch_set(&transport, EPOLLIN);
            return;
        }
        ssize_t n = write(transport_fd, out.p, out.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            watch_set(&transport, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0) {
            struct cg_err e = CG_ERR_INIT;
            cg_fail_sys(&e, "write");
            end_session(&e);
            return;
        }
        wrote((size_t)n);
    }
}

/* A session begins with HELLO from both sides, and its first stream is `setup`: after a restore or
 * a fork of the guest this is another sandbox. */
static void new_session(void)
{
    nonce_left = 0;
    link_now = cg_link_create(false, "{\"v\":1,\"agent\":\"" CG_VERSION "\"}", &handlers, NULL);
    agent.ready = false;
    heard = false;
}

/* A virtio port reads as ended, and polls as hung up, while nobody holds its host side. Edges are
 * all that is wanted then: the hang-up is no news, the host's coming back is. A socket has ended
 * for good. */
static void on_silence(void)
{
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_CLOSED, "the other side has closed it");
    if (!agent.in_vm) {
        end_session(&e);
        return;
    }
    silent = true;
    watch_set(&transport, EPOLLIN | EPOLLOUT | EPOLLET);
    if (!heard)
        return;
    agent_log("link: the host is away");
    cg_link_fail(link_now, &e);
    cg_link_destroy(link_now);
    new_session();
}

static void begin_anew(void)
{
    agent.keep = false;
    reset = false;
    cg_link_destroy(link_now);
    new_session();
    heard = true; /* it is there, and says HELLO next */
    nonce_left = sizeof nonce;
    session_kick();
}

static void read_in(void)
{
    static char bytes[65536];
    for (int i = 0; i < 4 && link_now; i++) {
        ssize_t n = read(transport_fd, bytes, sizeof bytes);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            on_silence();
            return;
        }
        struct cg_err e = CG_ERR_INIT;
        heard = true;
        bool fine = cg_link_feed(link_now, bytes, (size_t)n, &e);
        if (reset) {
            begin_anew();
            return;
        }
        if (!fine) {
            end_session(&e);
            return;
        }
        if ((size_t)n < sizeof bytes)
            return;
    }
}

static void on_transport(struct watch *w, uint32_t events)
{
    (void)w;
    silent = silent && (events & EPOLLHUP);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_in();
    kicked = false;
    write_out();
}

static struct timer kick_timer;

static void on_kick(struct timer *t)
{
    (void)t;
    kicked = false;
    write_out();
}

void session_kick(void)
{
    if (kicked || !link_now)
        return;
    kicked = true;
    timer_start(&kick_timer, 0, on_kick);
}

void session_start(int fd)
{
    new_session();
    if (!cg_fd_set_nonblock(fd, true, NULL))
        agent_log("link: cannot make descriptor %d non-blocking", fd);
    transport_fd = fd;
    watch_start(&transport, fd, EPOLLIN, on_transport);
    session_kick();
}

bool session_alive(void)
{
    return link_now != NULL;
}

bool outbox_pump(struct outbox *o, struct cg_link_stream *s, unsigned channel)
{
    size_t left = o->text.n - o->at;
    if (left > 0) {
        o->at += cg_link_send(s, channel, o->text.p + o->at, left);
        session_kick();
    }
    if (o->at < o->text.n)
        return false;
    cg_buf_clear(&o->text);
    o->at = 0;
    return true;
}
