/* The live stream of events, by SSE: lines of the records as they become durable. Of one sandbox
 * (resumed by after_seq or Last-Event-ID, also after its end), or of all of the account from now
 * on. A client that reads slowly holds back its own stream and nothing else. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "record/reader.h"

enum {
    HEARTBEAT_MS = 10000,
    LINE_MAX_BYTES = 128 * 1024,
    PENDING_MAX = 256 * 1024,
    TYPES_MAX = 160
};

/* One sandbox in a stream. */
struct source {
    struct source *next;
    struct api_stream *stream;
    struct cg_sandbox *sb;
    struct cg_wcall call;
    struct cg_buf line; /* an unfinished one */
    uint64_t seq;       /* last told */
    size_t owed;
    struct cg_record_reader *reader; /* of one without a warden; NULL: live, or read to its end */
    bool final;                      /* it has ended: what is left of its record, then nothing */
    bool over;                       /* all told */
};

struct api_stream {
    struct api_stream *next;
    struct op *op;
    struct source *sources;
    struct cg_sandbox *only; /* NULL: all of the account */
    char types[TYPES_MAX];   /* ",command,terminal,": only these; empty: all */
    struct cg_listener listener;
    uv_timer_t heartbeat;
};

static void send_text(struct api_stream *s, const char *text)
{
    cg_http_write(s->op->r, cg_slice_of(text));
}

static uint64_t seq_of(struct cg_slice line)
{
    /* {"seq":17,… : the writer's fixed order */
    return line.n > 8 && memcmp(line.p, "{\"seq\":", 7) == 0 ? strtoull(line.p + 7, NULL, 10) : 0;
}

static void type_of(struct cg_slice line, char out[32])
{
    static const char key[] = "\"type\":\"";
    const char *at = memmem(line.p, CG_MIN(line.n, (size_t)200), key, sizeof key - 1);
    cg_strlcpy(out, 32, "event");
    if (!at)
        return;
    at += sizeof key - 1;
    size_t n = 0;
    while (n < 31 && at + n < line.p + line.n && at[n] != '"')
        n++;
    memcpy(out, at, n);
    out[n] = '\0';
}

static bool wanted(const struct api_stream *s, const char *type)
{
    char word[40];
    if (!s->types[0])
        return true;
    cg_snprintf(word, sizeof word, ",%s,", type);
    return strstr(s->types, word) != NULL;
}

static void send_line(struct source *src, struct cg_slice line)
{
    char type[32];
    uint64_t seq = seq_of(line);
    if (seq == 0)
        return;
    src->seq = seq;
    type_of(line, type);
    if (!wanted(src->stream, type))
        return;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, LINE_MAX_BYTES);
    cg_buf_addf(&b, "id: %s:%llu\nevent: %s\ndata: {\"sandbox_id\":\"%s\",", src->sb->id,
                (unsigned long long)seq, type, src->sb->id);
    cg_buf_add(&b, line.p + 1, line.n - 1);
    cg_buf_adds(&b, "\n\n");
    cg_http_write(src->stream->op->r, cg_buf_slice(&b));
}

static void take_bytes(struct source *src, struct cg_slice bytes)
{
    while (bytes.n > 0) {
        const char *end = memchr(bytes.p, '\n', bytes.n);
        size_t n = end ? (size_t)(end - bytes.p) : bytes.n;
        cg_buf_add(&src->line, bytes.p, n);
        if (end) {
            send_line(src, cg_buf_slice(&src->line));
            cg_buf_clear(&src->line);
            n++;
        }
        bytes.p += n;
        bytes.n -= n;
    }
}

static void send_state(struct api_stream *s, struct cg_sandbox *sb)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 1 << 20);
    struct cg_jsonw w;
    cg_buf_adds(&b, "event: sandbox\ndata: ");
    cg_jsonw_init(&w, &b);
    cg_sandbox_write(sb, &w);
    cg_buf_adds(&b, "\n\n");
    if (!b.full)
        cg_http_write(s->op->r, cg_buf_slice(&b));
}

/* --- what is on disk of one that is paused or has ended --- */

static void open_live(struct source *src);

static void open_stored(struct source *src)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_record_dir(src->sb);
    CG_OWN(cg_drop_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cg_err e = CG_ERR_INIT;
    cg_record_reader_close(src->reader);
    src->reader = fd < 0 ? NULL : cg_record_reader_open(fd, src->seq, &e);
}

static void open_archive(struct source *src)
{
    src->final = true;
    open_stored(src);
}

/* A paused one tells what it has; its warden, once it is resumed, goes on behind that. */
static void open_paused(struct source *src)
{
    if (src->sb->status == CG_STATUS_PAUSED && !src->sb->warden && !src->call.s && !src->final)
        open_stored(src);
}

/* As much of the stored ones as the client takes now; an ended one closes with its final state. */
static void pump_stored(struct api_stream *s)
{
    for (struct source *src = s->sources; src; src = src->next) {
        struct cg_slice text;
        struct cg_record_line line;
        struct cg_err e = CG_ERR_INIT;
        while (src->reader && cg_http_pending(s->op->r) < PENDING_MAX) {
            if (cg_record_read(src->reader, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
                send_line(src, text);
                continue;
            }
            cg_record_reader_close(src->reader);
            src->reader = NULL;
            if (!src->final)
                open_live(src);
        }
        if (src->final && !src->reader && !src->over) {
            src->over = true;
            send_state(s, src->sb);
        }
    }
}

/* A stream of one sandbox ends with it. */
static bool all_told(const struct api_stream *s)
{
    return s->only && s->sources && s->sources->over;
}

/* --- live --- */

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct source *src = CG_CONTAINER(call, struct source, call);
    (void)channel;
    take_bytes(src, bytes);
    src->owed += bytes.n;
    if (cg_http_pending(src->stream->op->r) == 0) {
        size_t owed = src->owed;
        src->owed = 0;
        cg_wcall_grant(call, owed);
    }
}

static void on_close(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct source *src = CG_CONTAINER(call, struct source, call);
    (void)result;
    (void)error;
    src->owed = 0;
    cg_buf_clear(&src->line);
}

static void open_live(struct source *src)
{
    struct cg_err e = CG_ERR_INIT;
    char request[96];
    if (src->call.s || src->final || src->reader || !src->sb->warden)
        return;
    cg_snprintf(request, sizeof request, "{\"kind\":\"events\",\"after_seq\":%llu}",
                (unsigned long long)src->seq);
    src->call = (struct cg_wcall){.on_data = on_data, .on_close = on_close};
    if (!cg_wcall_open(src->sb->warden, &src->call, cg_slice_of(request), &e))
        return; /* tried again with the next heartbeat */
}

static void add_source(struct api_stream *s, struct cg_sandbox *sb, uint64_t after)
{
    struct source *src = cg_alloc(sizeof *src);
    *src = (struct source){.next = s->sources, .stream = s, .sb = sb, .seq = after};
    cg_buf_init(&src->line, LINE_MAX_BYTES);
    s->sources = src;
    open_live(src);
}

static struct source *find_source(struct api_stream *s, const struct cg_sandbox *sb)
{
    struct source *src = s->sources;
    while (src && src->sb != sb)
        src = src->next;
    return src;
}

static void end_stream(struct api_stream *s);

static void on_change(void *ctx, struct cg_sandbox *sb)
{
    struct api_stream *s = ctx;
    if (s->only ? s->only != sb : !op_sees(s->op, sb))
        return;
    struct source *src = find_source(s, sb);
    if (!src) {
        add_source(s, sb, 0);
        src = s->sources;
    }
    bool final = sb->status == CG_STATUS_DESTROYED || sb->status == CG_STATUS_ERROR;
    if (!final || src->over)
        send_state(s, sb);
    else if (!src->final)
        open_archive(src);
    if (!final)
        open_live(src);
    if (s->only)
        open_paused(src);
    pump_stored(s);
    if (all_told(s))
        end_stream(s);
}

static void on_heartbeat(uv_timer_t *t)
{
    struct api_stream *s = t->data;
    send_text(s, ": still here\n\n");
    for (struct source *src = s->sources; src; src = src->next)
        open_live(src);
}

static void on_drain(struct cg_http_req *r)
{
    struct op *op = r->user;
    struct api_stream *s = op->own;
    for (struct source *src = s->sources; src; src = src->next) {
        size_t owed = src->owed;
        src->owed = 0;
        cg_wcall_grant(&src->call, owed);
    }
    pump_stored(s);
    if (all_told(s))
        end_stream(s);
}

/* --- beginning and end --- */

static void free_stream(uv_handle_t *h)
{
    free(h->data);
}

/* The op's own finish: whatever ended it. */
static void finish(struct op *op)
{
    struct api_stream *s = op->own;
    struct cg_listener **l = &op->api->core->listeners;
    while (*l != &s->listener)
        l = &(*l)->next;
    *l = s->listener.next;
    struct api_stream **at = &op->api->streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    while (s->sources) {
        struct source *src = s->sources;
        s->sources = src->next;
        cg_wcall_forget(&src->call);
        cg_record_reader_close(src->reader);
        cg_buf_finish(&src->line);
        free(src);
    }
    uv_close((uv_handle_t *)&s->heartbeat, free_stream);
}

static void end_stream(struct api_stream *s)
{
    struct op *op = s->op;
    struct cg_http_req *r = op->r;
    r->abort = NULL;
    r->drain = NULL;
    op->r = NULL;
    op_end(op);
    cg_http_finish(r);
}

void api_streams_end(struct cg_api *a, const struct api_seat *who)
{
    for (struct api_stream *s = a->streams, *next; s; s = next) {
        struct api_seat seat;
        next = s->next;
        op_seat(s->op, &seat);
        if (seat_of(&seat, who) || (who && !s->op->chosen && cg_streq(seat.person, who->person)))
            end_stream(s); /* one of all sandboxes is opened again, for those that are left */
    }
}

/* "cage-…:17", or a bare number. */
static bool resume_point(const char *text, const struct cg_sandbox *sb, uint64_t *seq)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (colon && (strlen(sb->id) != n || strncmp(text, sb->id, n) != 0))
        return false;
    const char *digits = colon ? colon + 1 : text;
    size_t len = strlen(digits);
    if (len == 0 || len > 18 || strspn(digits, "0123456789") != len)
        return false;
    *seq = strtoull(digits, NULL, 10);
    return true;
}

static uint64_t last_seq(const struct cg_sandbox *sb)
{
    CG_OWN(cg_drop_free) char *dir = cg_sandbox_record_dir(sb);
    CG_OWN(cg_drop_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t seq = 0;
    return fd >= 0 && cg_record_last_seq(fd, &seq, NULL) ? seq : 0;
}

static void begin(struct op *op, struct cg_sandbox *only, const char *types)
{
    struct api_stream *s = cg_alloc(sizeof *s);
    if (types[0])
        cg_snprintf(s->types, sizeof s->types, ",%s,", types);
    s->op = op;
    s->only = only;
    op->own = s;
    op->finish = finish;
    s->next = op->api->streams;
    op->api->streams = s;
    s->listener = (struct cg_listener){op->api->core->listeners, on_change, s};
    op->api->core->listeners = &s->listener;
    uv_timer_init(op->api->core->loop, &s->heartbeat);
    s->heartbeat.data = s;
    uv_timer_start(&s->heartbeat, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    op->r->drain = on_drain;
    cg_http_start(op->r, 200, "text/event-stream", -1);
    send_text(s, ": caged events\n\n");
}

void api_events(struct op *op)
{
    char text[96] = "";
    char types[TYPES_MAX - 2] = "";
    char id[CG_ID_TEXT];
    struct cg_err e = CG_ERR_INIT;
    struct cg_sandbox *only = NULL;
    uint64_t after = 0;
    if (!op_query_str(op, "sandbox_id", id, sizeof id, &e)) {
        op_fail(op, &e);
        return;
    }
    if (cg_http_query_has(op->r, "sandbox_id")) {
        only = cg_core_find(op->api->core, id);
        if (!only || !op_sees(op, only)) {
            op_problem(op, 404, "not_found", "there is no sandbox %.64s", id);
            return;
        }
    }
    if (only && !op_record_kept(op, only))
        return;
    const char *last = cg_http_header(op->r, "last-event-id");
    if (!op_query_str(op, "types", types, sizeof types, &e) ||
        !op_query_str(op, "after_seq", text, sizeof text, &e)) {
        op_fail(op, &e);
        return;
    }
    if (only && cg_http_query_has(op->r, "after_seq") && !resume_point(text, only, &after)) {
        op_problem(op, 400, "invalid", "after_seq must be a sequence number, not \"%.40s\"", text);
        return;
    }
    if (only && last)
        (void)!resume_point(last, only, &after);
    begin(op, only, types);
    struct api_stream *s = op->own;
    if (!only) {
        for (struct cg_sandbox *sb = op->api->core->first; sb; sb = sb->next) {
            if (op_sees(op, sb) && sb->slot > 0)
                add_source(s, sb, last && resume_point(last, sb, &after) ? after : last_seq(sb));
        }
        return;
    }
    add_source(s, only, after);
    if (only->slot > 0) {
        send_state(s, only);
        open_paused(s->sources);
        pump_stored(s);
        return;
    }
    open_archive(s->sources);
    pump_stored(s);
    if (all_told(s))
        end_stream(s);
}
