/* Bytes between a process and the stream attached to it. Output is read only as far as the stream's
 * credit goes, so a flooding process blocks in its own write; without a stream (detached) the last
 * EXEC_KEEP bytes are kept. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fs.h"
#include "guest/agent/exec.h"

enum { CHUNK = 32 * 1024, CHUNK_HEAD = 5, KEEP_ALL = 16 << 20 };

static size_t kept_all; /* bytes kept of all execs */

static void drop_kept(struct exec *x, size_t n)
{
    cg_buf_consume(&x->kept, n);
    kept_all -= n;
}

/* Keeps the newest; of what is dropped the number of bytes is known. */
static void keep(struct exec *x, unsigned channel, const char *p, size_t n)
{
    uint32_t len;
    while (x->kept.n > 0 &&
           (x->kept.n + CHUNK_HEAD + n > EXEC_KEEP || kept_all + CHUNK_HEAD + n > KEEP_ALL)) {
        memcpy(&len, x->kept.p + 1, sizeof len);
        drop_kept(x, CHUNK_HEAD + len);
        x->kept_lost += len;
    }
    if (kept_all + CHUNK_HEAD + n > KEEP_ALL) {
        x->kept_lost += n;
        return;
    }
    len = (uint32_t)n;
    char head[CHUNK_HEAD] = {(char)channel};
    memcpy(head + 1, &len, sizeof len);
    CG_ASSERT(cg_buf_add(&x->kept, head, sizeof head) && cg_buf_add(&x->kept, p, n));
    kept_all += CHUNK_HEAD + n;
}

void exec_forget_kept(struct exec *x)
{
    kept_all -= x->kept.n;
    cg_buf_finish(&x->kept);
}

bool exec_replay_kept(struct exec *x)
{
    while (x->kept.n > 0) {
        uint32_t len;
        memcpy(&len, x->kept.p + 1, sizeof len);
        struct cg_link_stream *s = x->task->task.stream;
        if (cg_link_room(s) < len) {
            cg_link_want_room(s);
            return false;
        }
        size_t sent = cg_link_send(s, (unsigned char)x->kept.p[0], x->kept.p + CHUNK_HEAD, len);
        CG_ASSERT(sent == len);
        drop_kept(x, CHUNK_HEAD + len);
        session_kick();
    }
    return true;
}

static void on_output(struct watch *w, uint32_t events);

static void start_output(struct exec_output *o)
{
    if (o->fd >= 0 && o->watch.fd < 0)
        watch_start(&o->watch, o->fd, EPOLLIN, on_output);
}

static void end_output(struct exec_output *o)
{
    watch_stop(&o->watch);
    cg_drop_fd(&o->fd);
}

/* How much may be read for the stream that is attached; 0 with the watch at rest when nothing. A
 * hang-up is reported even to a watch that asks for nothing, so resting means not watching. */
static size_t readable(struct exec_output *o, size_t most)
{
    struct exec *x = o->exec;
    if (!x->task)
        return most;
    struct cg_link_stream *s = x->task->task.stream;
    size_t room = x->kept.n > 0 ? 0 : cg_link_room(s);
    if (room == 0) {
        cg_link_want_room(s);
        watch_stop(&o->watch);
    }
    return CG_MIN(most, room);
}

static void on_output(struct watch *w, uint32_t events)
{
    (void)events;
    struct exec_output *o = CG_CONTAINER(w, struct exec_output, watch);
    struct exec *x = o->exec;
    char bytes[CHUNK];
    size_t want = readable(o, sizeof bytes);
    if (want == 0)
        return;
    ssize_t n = read(o->fd, bytes, want);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* EIO: the last process has closed the terminal */
        end_output(o);
        exec_check_done(x);
        return;
    }
    if (!x->task) {
        keep(x, o->channel, bytes, (size_t)n);
        return;
    }
    size_t sent = cg_link_send(x->task->task.stream, o->channel, bytes, (size_t)n);
    CG_ASSERT(sent == (size_t)n);
    session_kick();
}

void exec_pumps_start(struct exec *x, const struct exec_fds *fds)
{
    const int all[] = {fds->in, fds->out, fds->err};
    for (size_t i = 0; i < CG_COUNT(all); i++) {
        if (all[i] >= 0 && !cg_fd_set_nonblock(all[i], true, NULL))
            agent_log("exec %s: a descriptor stays blocking", x->id);
    }
    x->out = (struct exec_output){{.fd = -1}, fds->out, x, CG_LINK_STDOUT};
    x->err = (struct exec_output){{.fd = -1}, fds->err, x, CG_LINK_STDERR};
    x->in.fd = -1;
    x->in_fd = fds->in;
    start_output(&x->out);
    start_output(&x->err);
}

void exec_pumps_stop(struct exec *x)
{
    end_output(&x->out);
    end_output(&x->err);
    watch_stop(&x->in);
    cg_drop_fd(&x->in_fd);
}

void exec_resume_output(struct exec *x)
{
    if (x->task && !exec_replay_kept(x))
        return;
    start_output(&x->out);
    start_output(&x->err);
    exec_check_done(x);
}

/* Writes what is queued; what the process took is credit for the host again. */
static void write_stdin(struct exec *x)
{
    while (x->stdin_queue.n > 0 && x->in_fd >= 0) {
        ssize_t n = write(x->in_fd, x->stdin_queue.p, x->stdin_queue.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) { /* nobody reads it any more: the rest is dropped, as by a shell's pipe */
            cg_drop_fd(&x->in_fd);
            break;
        }
        cg_buf_consume(&x->stdin_queue, (size_t)n);
        if (x->task)
            cg_link_grant(x->task->task.stream, (size_t)n);
        session_kick();
    }
    if (x->in_fd < 0 && x->stdin_queue.n > 0) {
        if (x->task)
            cg_link_grant(x->task->task.stream, x->stdin_queue.n);
        cg_buf_clear(&x->stdin_queue);
    }
}

static void settle_stdin(struct exec *x);

static void on_stdin_room(struct watch *w, uint32_t events)
{
    (void)events;
    struct exec *x = CG_CONTAINER(w, struct exec, in);
    settle_stdin(x);
}

static void settle_stdin(struct exec *x)
{
    write_stdin(x);
    bool waits = x->stdin_queue.n > 0 && x->in_fd >= 0;
    if (waits && x->in.fd < 0)
        watch_start(&x->in, x->in_fd, EPOLLOUT, on_stdin_room);
    if (waits)
        return;
    watch_stop(&x->in);
    if (x->stdin_ends && !x->pty)
        cg_drop_fd(&x->in_fd);
}

void exec_stdin(struct exec *x, struct cg_slice bytes)
{
    if (x->in_fd < 0 || x->stdin_ends || !cg_buf_add(&x->stdin_queue, bytes.p, bytes.n)) {
        cg_link_grant(x->task->task.stream, bytes.n);
        return;
    }
    settle_stdin(x);
}

void exec_stdin_eof(struct exec *x)
{
    x->stdin_ends = true;
    settle_stdin(x);
}
