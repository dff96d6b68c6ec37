/* The plain program of docs/guest-agent.md: newline-delimited JSON {"type","payload"} on a unix
 * socket. It only answers: it dials nowhere and holds no credential. Lines, clients and what waits
 * for a slow client are bounded; a client that does not read for WRITE_DEADLINE_MS is dropped. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "guest/agent/agent.h"
#include "guest/agent/filewatch.h"
#include "guest/agent/options.h"

enum {
    CLIENTS_MAX = 64,
    LINE_MAX_BYTES = 64 * 1024,
    OUT_MAX = 2 << 20,
    OUT_REST = 64 * 1024, /* no further request is read while so much waits */
    FRAMES_MAX = 256,     /* file_op frames that wait for one subscriber */
    WRITE_DEADLINE_MS = 10000,
    SUMMARY_MS = 60000,
};

struct client {
    struct client *next;
    struct watch watch;
    struct timer deadline;
    int fd;
    struct cg_buf in, out;
    unsigned frames; /* file_op frames queued since `out` was empty */
    uint64_t dropped;
    bool subscribed;
    bool gone; /* freed by the sweep: never inside its own callback */
};

static struct options options;
static struct client *clients;
static unsigned client_count;
static struct watch listener = {.fd = -1};
static struct watch signals = {.fd = -1};
static struct timer heartbeat, sampling, summary, sweep_timer;
static uint64_t lost_logged;
static bool ends; /* exit once everything is written */

static void sweep(struct timer *t)
{
    (void)t;
    bool subscribers = false;
    for (struct client **at = &clients; *at;) {
        struct client *c = *at;
        if (!c->gone) {
            subscribers |= c->subscribed;
            at = &c->next;
            continue;
        }
        *at = c->next;
        client_count--;
        watch_stop(&c->watch);
        timer_stop(&c->deadline);
        cg_drop_fd(&c->fd);
        cg_buf_finish(&c->in);
        cg_buf_finish(&c->out);
        free(c);
    }
    if (!subscribers)
        filewatch_stop();
}

static void drop_client(struct client *c)
{
    c->gone = true;
    watch_stop(&c->watch);
    timer_start(&sweep_timer, 0, sweep);
}

static void on_deadline(struct timer *t)
{
    cg_log(CG_LOG_WARN, CG_EVENT("agent.client_too_slow"));
    drop_client(CG_CONTAINER(t, struct client, deadline));
}

static void flush(struct client *c)
{
    while (!c->gone && c->out.n > 0) {
        ssize_t n = send(c->fd, c->out.p, c->out.n, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            drop_client(c);
            return;
        }
        cg_buf_consume(&c->out, (size_t)n);
        timer_stop(&c->deadline);
    }
    if (c->gone)
        return;
    if (c->out.n == 0) {
        c->frames = 0;
        timer_stop(&c->deadline);
    } else if (c->deadline.due_ns == 0) {
        timer_start(&c->deadline, WRITE_DEADLINE_MS, on_deadline);
    }
    watch_set(&c->watch, (c->out.n < OUT_REST ? EPOLLIN : 0U) | (c->out.n > 0 ? EPOLLOUT : 0U));
}

/* --- answers --- */

static void frame_begin(struct client *c, struct cg_jsonw *w, const char *type)
{
    cg_jsonw_init(w, &c->out);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "type", type);
    cg_jsonw_key(w, "payload");
}

static void frame_end(struct client *c, struct cg_jsonw *w)
{
    cg_jsonw_obj_end(w);
    cg_buf_addc(&c->out, '\n');
    if (c->out.full) /* half a frame is in it */
        drop_client(c);
}

static void answer_empty(struct client *c, const char *type)
{
    struct cg_jsonw w;
    frame_begin(c, &w, type);
    cg_jsonw_obj(&w);
    cg_jsonw_obj_end(&w);
    frame_end(c, &w);
}

static void answer_metrics(struct client *c)
{
    struct cg_jsonw w;
    frame_begin(c, &w, "metrics");
    metrics_write(&w);
    frame_end(c, &w);
}

static void send_event(struct client *c, const struct filewatch_event *event)
{
    c->dropped += event->dropped;
    if (c->frames >= FRAMES_MAX || c->out.n > OUT_MAX / 2) {
        c->dropped++;
        return;
    }
    struct cg_jsonw w;
    frame_begin(c, &w, "file_op");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "operation", filewatch_op_name(event->op));
    cg_jsonw_kstr(&w, "path", event->path);
    if (event->size >= 0)
        cg_jsonw_kint(&w, "size", event->size);
    cg_jsonw_kint(&w, "ts_unix_ms", event->wall_ms);
    cg_jsonw_kuint(&w, "dropped_since_last", c->dropped);
    cg_jsonw_obj_end(&w);
    frame_end(c, &w);
    c->dropped = 0;
    c->frames++;
    flush(c);
}

static void on_event(const struct filewatch_event *event)
{
    for (struct client *c = clients; c; c = c->next) {
        if (c->subscribed && !c->gone)
            send_event(c, event);
    }
}

static void answer_watch(struct client *c)
{
    struct cg_err e = CG_ERR_INIT;
    bool on = options.watch_files;
    if (!on)
        cg_fail(&e, CG_UNSUPPORTED, "switched off by CAGED_WATCH_FILES");
    else if (!filewatch_start(options.workspace, options.watch_debounce_ms, options.watch_rate,
                              on_event, &e))
        on = e.code == CG_CONFLICT; /* it runs for another subscriber */
    c->subscribed = on;
    struct cg_jsonw w;
    frame_begin(c, &w, "watch_started");
    cg_jsonw_obj(&w);
    cg_jsonw_kbool(&w, "enabled", on);
    cg_jsonw_kstr(&w, "root", options.workspace);
    cg_jsonw_kstr(&w, "reason", on ? "" : e.text);
    cg_jsonw_obj_end(&w);
    frame_end(c, &w);
}

static void on_request(struct client *c, struct cg_slice line)
{
    CG_OWN(cg_drop_json) struct cg_json *request = cg_json_parse(line, NULL, NULL);
    const char *type = cg_json_str(request, "type");
    if (cg_streq(type, "ping")) {
        answer_empty(c, "pong");
    } else if (cg_streq(type, "metrics")) {
        answer_metrics(c);
    } else if (cg_streq(type, "watch_files")) {
        answer_watch(c);
    } else if (cg_streq(type, "shutdown")) {
        cg_log(CG_LOG_INFO, CG_EVENT("agent.shutdown"));
        answer_empty(c, "ack");
        ends = true;
    } else {
        cg_log(CG_LOG_WARN, CG_EVENT("agent.unknown_request"),
               CG_S("type", type ? type : "(none)"));
    }
}

static void take_lines(struct client *c)
{
    size_t at = 0;
    while (!c->gone && at < c->in.n) {
        const char *end = memchr(c->in.p + at, '\n', c->in.n - at);
        if (!end)
            break;
        size_t n = (size_t)(end - (c->in.p + at));
        if (n > 0)
            on_request(c, (struct cg_slice){c->in.p + at, n});
        at += n + 1;
    }
    cg_buf_consume(&c->in, at);
    if (c->in.n == LINE_MAX_BYTES) {
        cg_log(CG_LOG_WARN, CG_EVENT("agent.line_too_long"));
        drop_client(c);
    }
}

static void on_client(struct watch *w, uint32_t events)
{
    struct client *c = CG_CONTAINER(w, struct client, watch);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        char *room = cg_buf_room(&c->in, LINE_MAX_BYTES - c->in.n);
        ssize_t n = recv(c->fd, room, LINE_MAX_BYTES - c->in.n, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            drop_client(c);
            return;
        }
        if (n > 0) {
            cg_buf_grew(&c->in, (size_t)n);
            take_lines(c);
        }
    }
    flush(c);
}

static void on_listener(struct watch *w, uint32_t events)
{
    (void)events;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (client_count == CLIENTS_MAX) {
        cg_log(CG_LOG_WARN, CG_EVENT("agent.too_many_clients"));
        close(fd);
        return;
    }
    struct client *c = cg_alloc(sizeof *c);
    c->fd = fd;
    cg_buf_init(&c->in, LINE_MAX_BYTES);
    cg_buf_init(&c->out, OUT_MAX);
    c->next = clients;
    clients = c;
    client_count++;
    watch_start(&c->watch, fd, EPOLLIN, on_client);
}

/* --- timers, start and end --- */

static void on_heartbeat(struct timer *t)
{
    cg_log(CG_LOG_DEBUG, CG_EVENT("agent.heartbeat"), CG_I("clients", client_count));
    timer_start(t, options.heartbeat_ms, on_heartbeat);
}

/* cpu_percent is the share since the previous look, so somebody has to look regularly. */
static void on_sampling(struct timer *t)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4096);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    metrics_write(&w);
    cg_log(CG_LOG_DEBUG, CG_EVENT("agent.metrics"), CG_S("sample", cg_buf_cstr(&b)));
    timer_start(t, options.metrics_ms, on_sampling);
}

static void on_summary(struct timer *t)
{
    uint64_t lost = filewatch_lost();
    if (lost != lost_logged)
        cg_log(CG_LOG_WARN, CG_EVENT("watch.dropped"), CG_I("events", lost));
    lost_logged = lost;
    timer_start(t, SUMMARY_MS, on_summary);
}

static void on_signal(struct watch *w, uint32_t events)
{
    (void)w;
    (void)events;
    ends = true;
}

static bool all_written(void)
{
    for (struct client *c = clients; c; c = c->next) {
        if (!c->gone && c->out.n > 0)
            return false;
    }
    return true;
}

static void watch_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    CG_ASSERT(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    CG_ASSERT(fd >= 0);
    watch_start(&signals, fd, EPOLLIN, on_signal);
}

static bool make_folder_of(const char *path, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *folder = cg_strdup(path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return true;
    *slash = '\0';
    return cg_fs_mkdirs(folder, 0755, e);
}

int legacy_serve(const struct options *o)
{
    struct cg_err e = CG_ERR_INIT;
    options = *o;
    agent.workspace = options.workspace;
    cg_log_set_level(options.log_level);
    int fd = make_folder_of(options.socket, &e) ? cg_unix_listen(options.socket, 0600, &e) : -1;
    if (fd < 0 || !cg_fd_set_nonblock(fd, true, &e)) {
        cg_log(CG_LOG_ERROR, CG_EVENT("agent.listen"), CG_E(&e));
        return 1;
    }
    loop_init();
    watch_signals();
    watch_start(&listener, fd, EPOLLIN, on_listener);
    on_heartbeat(&heartbeat);
    on_sampling(&sampling);
    on_summary(&summary);
    cg_log(CG_LOG_INFO, CG_EVENT("agent.ready"), CG_S("socket", options.socket),
           CG_S("workspace", options.workspace));
    while (!ends || !all_written())
        loop_once();
    unlink(options.socket);
    return 0;
}

/* -subscribe: what the agent at the socket says of files, to standard output. */
int legacy_subscribe(const char *path)
{
    static const char request[] = "{\"type\":\"watch_files\",\"payload\":{}}\n";
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_fd) int fd = cg_unix_connect(path, &e);
    if (fd < 0 || !cg_fd_write_full(fd, request, sizeof request - 1, &e)) {
        fprintf(stderr, "caged-agent: %s\n", e.text);
        return 1;
    }
    static char bytes[65536];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) > 0) {
        if (!cg_fd_write_full(STDOUT_FILENO, bytes, (size_t)n, NULL))
            return 1;
    }
    return n == 0 ? 0 : 1;
}
