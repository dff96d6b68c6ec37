/* Fuzz body of the HTTP server's glue: bytes of a client in chunks of any size, handlers that
 * answer in every way there is. What must hold: no memory is misused or kept, and every request
 * that a handler got is over once - by its reply or by `abort` - when the client is gone. Input:
 * one byte for the size of the chunks, then the client's bytes. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "http/inner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { TURNS = 6, READS_MAX = 64 };

static int given, ended; /* requests handed to the handler, and those that are over */
static struct cg_http_req *held[64];
static unsigned nheld;

static void unhold(struct cg_http_req *r)
{
    for (unsigned i = 0; i < nheld; i++) {
        if (held[i] == r)
            held[i--] = held[--nheld];
    }
}

static void on_abort(struct cg_http_req *r)
{
    unhold(r);
    ended++;
}

static void answer(struct cg_http_req *r)
{
    unhold(r);
    ended++;
    cg_http_reply(r, 200, "text/plain", cg_buf_slice(&r->body));
}

static void stream_some(struct cg_http_req *r, struct cg_slice bytes)
{
    if (bytes.n % 3 == 0)
        cg_http_pause(r);
}

static void stream_end(struct cg_http_req *r)
{
    unhold(r);
    ended++;
    cg_http_start(r, 201, "text/plain", r->path[1] == 's' ? -1 : 4);
    cg_http_write(r, cg_slice_of("done"));
    cg_http_finish(r);
}

static void on_message(void *ctx, struct cg_ws *ws, bool text, struct cg_slice bytes)
{
    (void)ctx;
    cg_ws_send(ws, text, bytes);
    if (bytes.n == 5)
        cg_ws_close(ws, 1000, "five");
}

static void on_ws_close(void *ctx, struct cg_ws *ws)
{
    (void)ctx;
    (void)ws;
    ended++;
}

static void handle(void *ctx, struct cg_http_req *r)
{
    static const struct cg_ws_ops ops = {.on_message = on_message, .on_close = on_ws_close};
    char value[64];
    (void)ctx;
    given++;
    r->abort = on_abort;
    (void)!cg_http_query(r, "q", value, sizeof value);
    switch (r->path[1]) {
    case 'w':
        r->abort = NULL;
        if (!cg_ws_accept(r, NULL, &ops, NULL))
            ended++;
        return;
    case 'b':
        cg_http_read_body(r, 64, answer);
        return;
    case 's':
    case 't':
        if (nheld < CG_COUNT(held))
            held[nheld++] = r;
        cg_http_stream_body(r, stream_some, stream_end);
        return;
    case 'x':
        ended++;
        cg_http_break(r);
        return;
    default:
        answer(r);
    }
}

static void turn(uv_loop_t *loop, int fd)
{
    char sink[4096];
    for (int i = 0; i < TURNS; i++) {
        uv_run(loop, UV_RUN_NOWAIT);
        for (int k = 0; k < READS_MAX && recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0; k++)
            continue;
        for (unsigned h = 0; h < nheld; h++)
            cg_http_resume(held[h]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uv_loop_t loop;
    int pair[2];
    struct cg_err e = CG_ERR_INIT;
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    given = ended = 0;
    nheld = 0;
    CG_ASSERT(uv_loop_init(&loop) == 0);
    CG_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    struct cg_http_server *s = cg_http_server_create(&loop, listening, handle, NULL, &e);
    CG_ASSERT(s);
    uv_poll_stop(&s->poll); /* connections are given, not accepted */
    conn_accept(s, pair[1]);
    size_t step = n > 0 && data[0] ? data[0] : SIZE_MAX;
    for (size_t at = 1; at < n; at += CG_MIN(step, n - at)) {
        if (send(pair[0], data + at, CG_MIN(step, n - at), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        if (step > 8 || at % 64 == 0)
            turn(&loop, pair[0]);
    }
    turn(&loop, pair[0]);
    close(pair[0]);
    turn(&loop, -1);
    CG_ASSERT(s->nconns == 0);
    CG_ASSERT(given == ended);
    cg_http_server_destroy(s);
    uv_run(&loop, UV_RUN_DEFAULT);
    CG_ASSERT(uv_loop_close(&loop) == 0);
    return 0;
}
