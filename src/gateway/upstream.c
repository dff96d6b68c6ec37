/* libcurl says which sockets it waits for and when its next deadline is; uv_poll and one timer do
 * the waiting. A handle may not be removed from inside its own callback: such a cancel is carried
 * out by the error that the callback returns. */
#include "gateway/upstream.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS_KEPT = 64,
    SILENCE_S = 900,
    HEADERS_MAX = 64,
    UPLOAD_AT_ONCE = 128 * 1024, /* most prompts leave in one piece */
    WATCHES_MAX = 16384,
    EASY_SPARE = 32
};

struct watch;

struct cg_upstream {
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t timer;
    unsigned handles; /* uv handles that are not closed yet */
    unsigned fetches;
    struct cg_fetch *doomed;            /* cancelled inside another one's callback */
    struct watch *watches[WATCHES_MAX]; /* by descriptor; NULL: none */
    uint8_t kept[WATCHES_MAX / 8];      /* descriptors that are connections */
    CURL *spare[EASY_SPARE];            /* made once, reset between calls */
    unsigned nspare;
    bool destroyed;
    bool in_curl;
};

/* Of a connection, as long as libcurl keeps it: between calls it is left in the poll set, so that
 * the next call on it costs no system call. */
struct watch {
    uv_poll_t poll;
    struct cg_upstream *u;
    curl_socket_t fd;
    int events; /* that are waited for */
    bool used;  /* by a call */
};

struct cg_fetch {
    struct cg_upstream *u;
    struct cg_fetch *next_doomed;
    CURL *easy;
    struct curl_slist *headers;
    struct cg_fetch_ops ops;
    void *ctx;
    struct cg_slice body[CG_FETCH_PIECES];
    size_t pieces, piece, at; /* what goes next */
    unsigned nheaders;
    bool headed, inside, cancelled, stuck;
    char error[CURL_ERROR_SIZE];
};

static void free_fetch(struct cg_fetch *f)
{
    f->u->fetches--;
    curl_multi_remove_handle(f->u->multi, f->easy);
    if (f->u->nspare < EASY_SPARE) {
        curl_easy_reset(f->easy);
        f->u->spare[f->u->nspare++] = f->easy;
    } else {
        curl_easy_cleanup(f->easy);
    }
    curl_slist_free_all(f->headers);
    free(f);
}

/* --- the loop --- */

static void release(struct cg_upstream *u)
{
    if (u->destroyed && u->handles == 0)
        free(u);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct cg_upstream *u = h->data;
    u->handles--;
    release(u);
}

static void on_watch_closed(uv_handle_t *h)
{
    struct watch *w = h->data;
    struct cg_upstream *u = w->u;
    free(w);
    u->handles--;
    release(u);
}

static enum cg_code code_of(CURLcode rc)
{
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return CG_TIMEOUT;
    if (rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE)
        return CG_FORBIDDEN;
    return CG_UNAVAILABLE;
}

static void tell_head(struct cg_fetch *f)
{
    long status = 0;
    if (f->headed)
        return;
    f->headed = true;
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    f->ops.head(f->ctx, (int)status);
}

static void finish(struct cg_fetch *f, CURLcode rc)
{
    struct cg_err e = CG_ERR_INIT;
    long sent = 0;
    curl_easy_getinfo(f->easy, CURLINFO_REQUEST_SIZE, &sent);
    if (rc == CURLE_OK && !f->cancelled)
        tell_head(f);
    if (rc != CURLE_OK)
        cg_fail(&e, code_of(rc), "%.180s", f->error[0] ? f->error : curl_easy_strerror(rc));
    struct cg_fetch_ops ops = f->ops;
    void *ctx = f->ctx;
    bool cancelled = f->cancelled;
    free_fetch(f);
    if (!cancelled)
        ops.done(ctx, rc == CURLE_OK ? NULL : &e, sent > 0);
}

static void collect(struct cg_upstream *u)
{
    int left;
    while (u->doomed) {
        struct cg_fetch *f = u->doomed;
        u->doomed = f->next_doomed;
        free_fetch(f);
    }
    for (CURLMsg *m; (m = curl_multi_info_read(u->multi, &left));) {
        if (m->msg != CURLMSG_DONE)
            continue;
        struct cg_fetch *f = NULL;
        CURLcode rc = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (void *)&f);
        finish(f, rc);
    }
}

static void act(struct cg_upstream *u, curl_socket_t fd, int what)
{
    int running;
    u->in_curl = true;
    curl_multi_socket_action(u->multi, fd, what, &running);
    u->in_curl = false;
    collect(u);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *w = poll->data;
    int what = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
               (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0) | (status < 0 ? CURL_CSELECT_ERR : 0);
    if (w->used) {
        act(w->u, w->fd, what);
        return;
    }
    uv_poll_stop(&w->poll); /* an idle connection has ended: libcurl finds out by itself */
    w->events = 0;
}

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static struct watch *watch_of(struct cg_upstream *u, curl_socket_t fd)
{
    if (fd < 0 || fd >= WATCHES_MAX)
        return NULL;
    struct watch *w = u->watches[fd];
    if (w)
        return w;
    w = cg_alloc(sizeof *w);
    w->u = u;
    w->fd = fd;
    if (uv_poll_init_socket(u->loop, &w->poll, fd) != 0) {
        free(w);
        return NULL;
    }
    w->poll.data = w;
    u->handles++;
    u->watches[fd] = w;
    return w;
}

static void drop_watch(struct cg_upstream *u, curl_socket_t fd)
{
    struct watch *w = fd >= 0 && fd < WATCHES_MAX ? u->watches[fd] : NULL;
    if (!w)
        return;
    u->watches[fd] = NULL;
    uv_poll_stop(&w->poll);
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct cg_upstream *u = ctx;
    (void)easy;
    (void)socket_ctx;
    if (what == CURL_POLL_REMOVE) {
        bool kept = fd >= 0 && fd < WATCHES_MAX && u->kept[fd / 8] & 1u << fd % 8;
        if (!kept) /* of the resolver: it is closed without a word to us */
            drop_watch(u, fd);
        else if (u->watches[fd])
            u->watches[fd]->used = false;
        return 0;
    }
    struct watch *w = watch_of(u, fd);
    if (!w)
        return -1;
    int events =
        (what != CURL_POLL_OUT ? UV_READABLE : 0) | (what != CURL_POLL_IN ? UV_WRITABLE : 0);
    w->used = true;
    if (w->events != events)
        uv_poll_start(&w->poll, events, on_poll);
    w->events = events;
    return 0;
}

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct cg_upstream *u = ctx;
    (void)purpose;
    int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    drop_watch(u, fd); /* of an earlier one with this number */
    if (fd >= 0 && fd < WATCHES_MAX)
        u->kept[fd / 8] |= (uint8_t)(1u << fd % 8);
    return fd;
}

/* libcurl is done with a connection. The handle goes before the descriptor may be another's. */
static int close_socket(void *ctx, curl_socket_t fd)
{
    struct cg_upstream *u = ctx;
    drop_watch(u, fd);
    if (fd < 0)
        return 0;
    if (fd < WATCHES_MAX)
        u->kept[fd / 8] &= (uint8_t) ~(1u << fd % 8);
    return close(fd);
}

static int want_time(CURLM *multi, long ms, void *ctx)
{
    struct cg_upstream *u = ctx;
    (void)multi;
    if (ms < 0)
        uv_timer_stop(&u->timer);
    else
        uv_timer_start(&u->timer, on_timer, (uint64_t)ms, 0);
    return 0;
}

void cg_upstream_start_libraries(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* whoever needs it asks again, and hears why */
}

struct cg_upstream *cg_upstream_create(uv_loop_t *loop, struct cg_err *e)
{
    struct cg_upstream *u = cg_alloc(sizeof *u);
    u->loop = loop;
    u->multi = curl_global_init(CURL_GLOBAL_DEFAULT) == 0 ? curl_multi_init() : NULL;
    if (!u->multi) {
        free(u);
        cg_fail(e, CG_INTERNAL, "libcurl does not start");
        return NULL;
    }
    uv_timer_init(loop, &u->timer);
    u->timer.data = u;
    u->handles = 1;
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, want_time);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
    curl_multi_setopt(u->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    return u;
}

void cg_upstream_destroy(struct cg_upstream *u)
{
    if (!u)
        return;
    CG_ASSERT(u->fetches == 0 && !u->in_curl);
    while (u->nspare > 0)
        curl_easy_cleanup(u->spare[--u->nspare]);
    curl_multi_cleanup(u->multi); /* closes what it kept */
    u->destroyed = true;
    uv_timer_stop(&u->timer);
    uv_close((uv_handle_t *)&u->timer, on_timer_closed);
}

/* --- one fetch --- */

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
    struct cg_fetch *f = ctx;
    n *= size;
    char line[2048];
    if (n >= 5 && strncmp(p, "HTTP/", 5) == 0) { /* a new head: an interim one came before */
        f->nheaders = 0;
        return n;
    }
    if (f->cancelled)
        return 0;
    if (n >= sizeof line || ++f->nheaders > HEADERS_MAX)
        return n;
    memcpy(line, p, n);
    line[n] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    char *colon = strchr(line, ':');
    if (!colon)
        return n;
    *colon++ = '\0';
    f->inside = true;
    f->ops.header(f->ctx, line, colon + strspn(colon, " \t"));
    f->inside = false;
    return f->cancelled ? 0 : n;
}

static size_t on_data(char *p, size_t size, size_t n, void *ctx)
{
    struct cg_fetch *f = ctx;
    n *= size;
    if (f->cancelled)
        return CURL_WRITEFUNC_ERROR;
    f->inside = true;
    tell_head(f);
    bool taken = !f->cancelled && f->ops.data(f->ctx, (struct cg_slice){p, n});
    f->inside = false;
    if (f->cancelled)
        return CURL_WRITEFUNC_ERROR;
    f->stuck = !taken;
    return taken ? n : CURL_WRITEFUNC_PAUSE;
}

/* From the pieces where they are: a prompt of many kilobytes is not put together once more. */
static size_t on_upload(char *to, size_t size, size_t n, void *ctx)
{
    struct cg_fetch *f = ctx;
    size_t room = size * n, done = 0;
    while (done < room && f->piece < f->pieces) {
        struct cg_slice from = f->body[f->piece];
        size_t take = CG_MIN(room - done, from.n - f->at);
        memcpy(to + done, from.p + f->at, take);
        done += take;
        f->at += take;
        if (f->at == from.n) {
            f->piece++;
            f->at = 0;
        }
    }
    return done;
}

/* A kept connection turned out to be closed: the request goes again on another. */
static int on_rewind(void *ctx, curl_off_t offset, int origin)
{
    struct cg_fetch *f = ctx;
    if (offset != 0 || origin != SEEK_SET)
        return CURL_SEEKFUNC_CANTSEEK;
    f->piece = f->at = 0;
    return CURL_SEEKFUNC_OK;
}

static void set_body(struct cg_fetch *f, const struct cg_fetch_request *r)
{
    size_t n = 0;
    CG_ASSERT(r->pieces <= CG_COUNT(f->body));
    for (size_t i = 0; i < r->pieces; i++) {
        if (r->body[i].n > 0)
            f->body[f->pieces++] = r->body[i];
        n += r->body[i].n;
    }
    curl_easy_setopt(f->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(f->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
    curl_easy_setopt(f->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_AT_ONCE);
    curl_easy_setopt(f->easy, CURLOPT_READFUNCTION, on_upload);
    curl_easy_setopt(f->easy, CURLOPT_READDATA, f);
    curl_easy_setopt(f->easy, CURLOPT_SEEKFUNCTION, on_rewind);
    curl_easy_setopt(f->easy, CURLOPT_SEEKDATA, f);
}

static bool add_headers(struct cg_fetch *f, const char *const *headers)
{
    for (; *headers; headers++) {
        struct curl_slist *more = curl_slist_append(f->headers, *headers);
        if (!more)
            return false;
        f->headers = more;
    }
    return true;
}

static void set_options(struct cg_fetch *f, const struct cg_fetch_request *r)
{
    CURL *h = f->easy;
    curl_easy_setopt(h, CURLOPT_PRIVATE, f);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, f->error);
    curl_easy_setopt(h, CURLOPT_URL, r->url);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_PROXY, "");
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, f->headers);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)(r->connect_ms ? r->connect_ms : 10000));
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)SILENCE_S);
    curl_easy_setopt(h, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(h, CURLOPT_OPENSOCKETDATA, f->u);
    curl_easy_setopt(h, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(h, CURLOPT_CLOSESOCKETDATA, f->u);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, f);
    if (cg_streq(r->method, "POST"))
        set_body(f, r);
}

struct cg_fetch *cg_fetch_start(struct cg_upstream *u, const struct cg_fetch_request *r,
                                const struct cg_fetch_ops *ops, void *ctx, struct cg_err *e)
{
    struct cg_fetch *f = cg_alloc(sizeof *f);
    f->u = u;
    f->ops = *ops;
    f->ctx = ctx;
    f->easy = u->nspare > 0 ? u->spare[--u->nspare] : curl_easy_init();
    CG_ASSERT(f->easy);
    u->fetches++;
    bool ok = add_headers(f, r->headers);
    set_options(f, r);
    if (!ok || curl_multi_add_handle(u->multi, f->easy) != CURLM_OK) {
        free_fetch(f);
        cg_fail(e, CG_INVALID, "libcurl refuses the call to %.100s", r->url);
        return NULL;
    }
    return f;
}

/* Bytes that wait may come from inside curl_easy_pause. */
void cg_fetch_resume(struct cg_fetch *f)
{
    if (!f->stuck || f->inside)
        return;
    f->stuck = false;
    curl_easy_pause(f->easy, CURLPAUSE_CONT);
    if (f->cancelled)
        cg_fetch_cancel(f);
}

void cg_fetch_cancel(struct cg_fetch *f)
{
    f->cancelled = true;
    if (f->inside)
        return;
    if (f->u->in_curl) {
        f->next_doomed = f->u->doomed;
        f->u->doomed = f;
    } else {
        free_fetch(f);
    }
}
