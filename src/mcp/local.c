/* Commands of the local backend. Each is the leader of a session of its own, so that a timeout
 * reaches what it started; an answer waits for both outputs, but not for longer than a moment after
 * the command itself has ended. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mcp/inlocal.h"

enum { OUTPUT_MAX = 2 << 20, ARGS_MAX = 32, DRAIN_MS = 1000, HANDLES = 4 };

struct running {
    struct running *next;
    struct cg_mcp_local *l;
    struct cg_mcp_call *call; /* NULL once answered */
    uv_process_t process;
    uv_pipe_t pipe[2];
    uv_timer_t timer;
    struct cg_buf out[2];
    char chunk[2][16384];
    int exit_code;
    unsigned open; /* pipes that have not ended */
    unsigned closing;
    bool ended, timed_out, truncated;
};

struct cg_mcp_local *cg_mcp_local_create(uv_loop_t *loop, const char *workspace, struct cg_err *e)
{
    struct cg_mcp_local *l = cg_alloc(sizeof *l);
    l->loop = loop;
    CG_OWN(cg_drop_free) char *root = realpath(workspace, NULL);
    l->dir = root ? open(root, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (l->dir >= 0 && cg_strlcpy(l->root, sizeof l->root, root))
        return l;
    cg_fail_sys(e, "workspace %s", workspace);
    free(l);
    return NULL;
}

static void on_closed(uv_handle_t *h)
{
    struct running *r = h->data;
    if (--r->closing > 0)
        return;
    struct running **at = &r->l->first;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    cg_buf_finish(&r->out[0]);
    cg_buf_finish(&r->out[1]);
    free(r);
}

static void answer(struct running *r)
{
    struct cg_mcp_call *c = r->call;
    if (!c)
        return;
    r->call = NULL;
    const struct cg_mcp_ran ran = {cg_buf_slice(&r->out[0]), cg_buf_slice(&r->out[1]), r->exit_code,
                                   r->timed_out, r->truncated};
    cg_mcp_ran(c, &ran);
    r->closing = HANDLES;
    uv_close((uv_handle_t *)&r->process, on_closed);
    uv_close((uv_handle_t *)&r->pipe[0], on_closed);
    uv_close((uv_handle_t *)&r->pipe[1], on_closed);
    uv_close((uv_handle_t *)&r->timer, on_closed);
}

static void on_drained(uv_timer_t *t)
{
    answer(t->data);
}

static void maybe_answer(struct running *r)
{
    if (r->ended && r->open == 0)
        answer(r);
}

static void on_ended(uv_process_t *p, int64_t status, int number)
{
    struct running *r = p->data;
    r->ended = true;
    r->exit_code = number ? 128 + number : (int)status;
    uv_timer_start(&r->timer, on_drained, DRAIN_MS, 0);
    maybe_answer(r);
}

static void on_timeout(uv_timer_t *t)
{
    struct running *r = t->data;
    r->timed_out = true;
    kill(-r->process.pid, SIGKILL);
}

static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *b)
{
    struct running *r = h->data;
    char *chunk = r->chunk[(uv_pipe_t *)h == &r->pipe[1]];
    (void)n;
    *b = uv_buf_init(chunk, sizeof r->chunk[0]);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct running *r = s->data;
    struct cg_buf *out = &r->out[(uv_pipe_t *)s == &r->pipe[1]];
    if (n < 0) {
        uv_read_stop(s);
        r->open--;
        maybe_answer(r);
        return;
    }
    size_t room = out->max - out->n;
    r->truncated |= (size_t)n > room;
    cg_buf_add(out, b->base, CG_MIN((size_t)n, room));
}

/* This process's environment without what is not the commands' business. The array is the
 * caller's, the strings are not. */
static char **environment_for(void)
{
    size_t n = 0;
    while (environ[n])
        n++;
    char **out = cg_alloc((n + 1) * sizeof *out);
    size_t o = 0;
    for (size_t i = 0; i < n; i++)
        if (!cg_has_prefix(environ[i], "CAGED_API_KEY="))
            out[o++] = environ[i];
    return out;
}

static int spawn(struct running *r, const struct cg_mcp_run *run)
{
    char *argv[ARGS_MAX] = {0};
    size_t n = 0;
    const char *const shell[] = {"sh", "-c", run->shell, NULL};
    const char *const *words = run->shell ? shell : run->argv;
    for (; n < ARGS_MAX - 1 && words[n]; n++)
        argv[n] = cg_strdup(words[n]);
    uv_stdio_container_t io[3] = {{.flags = UV_IGNORE},
                                  {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE},
                                  {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE}};
    io[1].data.stream = (uv_stream_t *)&r->pipe[0];
    io[2].data.stream = (uv_stream_t *)&r->pipe[1];
    CG_OWN(cg_drop_free) char **env = environment_for();
    const uv_process_options_t o = {.file = argv[0],
                                    .args = argv,
                                    .env = env,
                                    .cwd = r->l->root,
                                    .stdio = io,
                                    .stdio_count = 3,
                                    .flags = UV_PROCESS_DETACHED,
                                    .exit_cb = on_ended};
    int rc = uv_spawn(r->l->loop, &r->process, &o);
    for (size_t i = 0; i < n; i++)
        free(argv[i]);
    return rc;
}

void cg_mcp_local_run(struct cg_mcp_local *l, struct cg_mcp_call *c, const struct cg_mcp_run *run)
{
    struct running *r = cg_alloc(sizeof *r);
    r->l = l;
    r->call = c;
    r->next = l->first;
    l->first = r;
    cg_buf_init(&r->out[0], OUTPUT_MAX);
    cg_buf_init(&r->out[1], OUTPUT_MAX);
    uv_pipe_init(l->loop, &r->pipe[0], 0);
    uv_pipe_init(l->loop, &r->pipe[1], 0);
    uv_timer_init(l->loop, &r->timer);
    r->process.data = r->pipe[0].data = r->pipe[1].data = r->timer.data = r;
    int rc = spawn(r, run);
    if (rc != 0) {
        cg_buf_addf(&r->out[1], "it could not be started: %s\n", uv_strerror(rc));
        r->exit_code = rc == UV_ENOENT ? 127 : 126;
        answer(r);
        return;
    }
    r->open = 2;
    uv_read_start((uv_stream_t *)&r->pipe[0], on_alloc, on_read);
    uv_read_start((uv_stream_t *)&r->pipe[1], on_alloc, on_read);
    uv_timer_start(&r->timer, on_timeout, (uint64_t)run->timeout_s * 1000, 0);
}

void cg_mcp_local_end(struct cg_mcp_local *l)
{
    for (struct running *r = l->first; r; r = r->next) {
        if (r->call && !r->ended)
            kill(-r->process.pid, SIGKILL);
        r->timed_out = true;
        answer(r);
    }
}
