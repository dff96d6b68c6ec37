/* The writer: formats lines straight into the batch that gathers, counts what does not fit, and
 * hands batches to whoever runs the flush. Two buffers: one gathers, one is under way. */
#include "record/record.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record/inner.h"

enum {
    /* Lines that are not bulk are taken beyond the backlog's maximum up to this many times it. */
    HARD_FACTOR = 4,
    KEEP_BUFFER = 256 * 1024, /* a buffer that grew beyond this is given back after its flush */
};

#define DEFAULT_QUOTA (UINT64_C(1) << 30)
#define DEFAULT_SEGMENT (UINT64_C(64) << 20)
#define DEFAULT_BACKLOG ((size_t)2 << 20)
#define QUOTA_GAP_NS (INT64_C(10) * 1000000000)
#define DISK_RETRY_NS (INT64_C(1) * 1000000000)

enum reason { LOST_QUOTA, LOST_BACKLOG, LOST_DISK, LOST_LONG, LOST_REASONS };

static const char *const reason_names[LOST_REASONS] = {"quota", "backlog", "disk", "too_long"};

struct batch {
    struct cg_buf text;
    uint64_t first_seq;
    uint64_t last_seq;
    uint64_t lines[CG_REC_TYPE_COUNT];
};

struct cg_record {
    struct cg_tail tail;
    struct cg_blobs *blobs; /* NULL until the first is put */
    struct cg_blobs_options blobs_options;
    struct batch fill;
    struct batch flight;
    bool in_flight;
    struct cg_err flight_err;
    bool flight_ok;
    uint64_t flight_bytes;

    uint64_t next_seq;
    uint64_t durable;
    int64_t t_base; /* CLOCK_MONOTONIC minus the record's clock */
    int64_t last_t;
    int64_t ts_second; /* `ts_text` is the text of this second */
    char ts_text[CG_TIME_TEXT];

    uint64_t quota;
    size_t backlog;
    uint64_t bytes; /* on disk and waiting */
    uint64_t type_bytes[CG_REC_TYPE_COUNT];

    bool degraded;
    char disk_text[160];
    int64_t disk_tried;
    int64_t gap_at[LOST_REASONS];
    uint64_t untold[LOST_REASONS][CG_REC_TYPE_COUNT];
    uint64_t telling[CG_REC_TYPE_COUNT]; /* in the `disk` gap under way */
    uint64_t lost[CG_REC_TYPE_COUNT];

    struct cg_record_filter filter;
    void *filter_ctx;

    /* the line between begin and end */
    struct cg_jsonw writer;
    char session[48];      /* of lines that name none; empty: none */
    struct cg_buf scratch; /* where lines go that will be lost */
    enum cg_record_type type;
    bool open;
    bool forced; /* `gap` lines of our own pass the degraded state */
    int refused; /* enum reason, -1: none */
    size_t start;
};

static void put(struct cg_buf *b, const char *s)
{
    cg_buf_adds(b, s);
}

static void put_number(struct cg_buf *b, uint64_t v)
{
    char text[24];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    cg_buf_add(b, text + at, sizeof text - at);
}

static void put_ts(struct cg_record *r)
{
    int64_t wall = cg_wall_ns();
    int64_t second = wall / 1000000000;
    if (second != r->ts_second) {
        cg_time_format(wall, r->ts_text);
        r->ts_second = second;
    }
    /* the microseconds stand at 20..25 of "2026-01-02T03:04:05.678901Z" */
    uint64_t us = (uint64_t)(wall % 1000000000) / 1000;
    for (int i = 25; i >= 20; i--, us /= 10)
        r->ts_text[i] = (char)('0' + us % 10);
    put(r->writer.buf, r->ts_text);
}

static void put_head(struct cg_record *r, enum cg_record_type type, enum cg_record_src src,
                     const char *session)
{
    struct cg_buf *b = r->writer.buf;
    r->last_t = CG_MAX(r->last_t, cg_mono_ns() - r->t_base);
    put(b, "{\"seq\":");
    put_number(b, r->next_seq);
    put(b, ",\"t\":");
    put_number(b, (uint64_t)r->last_t);
    put(b, ",\"ts\":\"");
    put_ts(r);
    put(b, "\",\"type\":\"");
    put(b, cg_record_type_name(type));
    put(b, "\",\"src\":\"");
    put(b, cg_record_src_name(src));
    put(b, "\",\"session\":");
    if (session) {
        cg_buf_addc(b, '"');
        put(b, session);
        cg_buf_addc(b, '"');
    } else {
        put(b, "null");
    }
    put(b, ",\"data\":");
}

static bool always_fits(enum cg_record_type type)
{
    return type == CG_REC_LIFECYCLE || type == CG_REC_ERROR || type == CG_REC_GAP;
}

/* Why a line of this type is not taken now: enum reason, or -1. */
static int refusal(const struct cg_record *r, enum cg_record_type type)
{
    if (r->degraded && !r->forced)
        return LOST_DISK;
    bool bulk = cg_record_type_bulk(type);
    size_t waiting = r->fill.text.n + (r->in_flight ? r->flight.text.n : 0);
    if (bulk ? waiting > r->backlog : waiting > r->backlog * (HARD_FACTOR - 1))
        return LOST_BACKLOG;
    uint64_t reserve = CG_MAX(r->quota / 16, UINT64_C(1) << 20);
    if (bulk && (r->bytes >= r->quota || r->type_bytes[type] >= r->quota / 2))
        return LOST_QUOTA;
    if (!bulk && !always_fits(type) && r->bytes >= r->quota + reserve)
        return LOST_QUOTA;
    return -1;
}

/* What nobody in the sandbox is named for by the line itself. */
static bool takes_default(enum cg_record_type type)
{
    return type == CG_REC_NETWORK || type == CG_REC_DNS || type == CG_REC_PORT ||
           type == CG_REC_GAP;
}

void cg_record_set_session(struct cg_record *r, const char *session)
{
    if (!session || !cg_strlcpy(r->session, sizeof r->session, session))
        r->session[0] = '\0';
}

struct cg_jsonw *cg_record_begin(struct cg_record *r, enum cg_record_type type,
                                 enum cg_record_src src, const char *session)
{
    if (!session && r->session[0] && takes_default(type))
        session = r->session;
    if (session && !session[0])
        session = NULL;
    CG_ASSERT(!r->open && (!session || cg_record_session_valid(session)));
    r->open = true;
    r->type = type;
    r->refused = refusal(r, type);
    cg_buf_clear(&r->scratch);
    struct cg_buf *b = r->refused < 0 ? &r->fill.text : &r->scratch;
    r->start = b->n;
    cg_jsonw_init(&r->writer, b);
    if (r->refused < 0)
        put_head(r, type, src, session);
    cg_jsonw_obj(&r->writer);
    return &r->writer;
}

static void count_lost(struct cg_record *r, enum reason why, enum cg_record_type type, uint64_t n)
{
    r->untold[why][type] += n;
    r->lost[type] += n;
}

void cg_record_set_filter(struct cg_record *r, const struct cg_record_filter *f, void *ctx)
{
    r->filter = *f;
    r->filter_ctx = ctx;
}

uint64_t cg_record_end(struct cg_record *r)
{
    CG_ASSERT(r->open);
    r->open = false;
    if (r->refused >= 0) {
        count_lost(r, (enum reason)r->refused, r->type, 1);
        return 0;
    }
    struct cg_buf *b = &r->fill.text;
    cg_jsonw_obj_end(&r->writer);
    cg_buf_add(b, "}\n", 2);
    if (r->filter.line && !b->full)
        r->filter.line(r->filter_ctx, b, r->start);
    size_t n = b->n - r->start;
    if (b->full || n > CG_RECORD_LINE_MAX) {
        count_lost(r, b->full ? LOST_BACKLOG : LOST_LONG, r->type, 1);
        b->n = r->start;
        b->full = false;
        return 0;
    }
    if (r->fill.first_seq == 0)
        r->fill.first_seq = r->next_seq;
    r->fill.last_seq = r->next_seq++;
    r->fill.lines[r->type]++;
    r->bytes += n;
    r->type_bytes[r->type] += n;
    return r->fill.last_seq;
}

uint64_t cg_record_append(struct cg_record *r, enum cg_record_type type, enum cg_record_src src,
                          const char *session, struct cg_slice data)
{
    CG_ASSERT(data.n >= 2 && data.p[0] == '{' && data.p[data.n - 1] == '}');
    struct cg_jsonw *w = cg_record_begin(r, type, src, session);
    if (data.n > 2)
        cg_jsonw_raw(w, data.p + 1, data.n - 2);
    return cg_record_end(r);
}

/* --- gaps --- */

static bool any(const uint64_t counts[CG_REC_TYPE_COUNT])
{
    for (unsigned i = 0; i < CG_REC_TYPE_COUNT; i++)
        if (counts[i])
            return true;
    return false;
}

static void tell_gap(struct cg_record *r, enum reason why)
{
    struct cg_jsonw *w = cg_record_begin(r, CG_REC_GAP, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(w, "reason", reason_names[why]);
    if (why == LOST_DISK)
        cg_jsonw_kstr(w, "text", r->disk_text);
    cg_jsonw_key(w, "lost");
    cg_jsonw_obj(w);
    for (unsigned i = 0; i < CG_REC_TYPE_COUNT; i++)
        if (r->untold[why][i])
            cg_jsonw_kuint(w, cg_record_type_name((enum cg_record_type)i), r->untold[why][i]);
    cg_jsonw_obj_end(w);
    if (cg_record_end(r) == 0)
        return;
    if (why == LOST_DISK) /* told only when this line has reached the disk */
        memcpy(r->telling, r->untold[why], sizeof r->telling);
    memset(r->untold[why], 0, sizeof r->untold[why]);
}

void cg_record_tick(struct cg_record *r, bool final)
{
    int64_t now = cg_mono_ns();
    for (unsigned why = 0; why < LOST_REASONS; why++) {
        if (why == LOST_DISK || !any(r->untold[why]) || r->degraded ||
            (!final && r->gap_at[why] && now - r->gap_at[why] < QUOTA_GAP_NS))
            continue;
        r->gap_at[why] = now;
        tell_gap(r, (enum reason)why);
    }
    bool idle = !r->in_flight && r->fill.text.n == 0;
    if (any(r->untold[LOST_DISK]) && idle && (final || now - r->disk_tried >= DISK_RETRY_NS)) {
        r->disk_tried = now;
        r->forced = true;
        tell_gap(r, LOST_DISK);
        r->forced = false;
    }
}

/* --- batches --- */

static void batch_clear(struct batch *b)
{
    size_t max = b->text.max;
    if (b->text.cap > KEEP_BUFFER)
        cg_buf_finish(&b->text);
    cg_buf_clear(&b->text);
    *b = (struct batch){.text = b->text};
    b->text.max = max;
}

bool cg_record_flush_begin(struct cg_record *r)
{
    CG_ASSERT(!r->open);
    if (r->in_flight || r->fill.text.n == 0)
        return false;
    struct batch empty = r->flight;
    r->flight = r->fill;
    r->fill = empty;
    r->in_flight = true;
    if (r->blobs)
        cg_blobs_take(r->blobs);
    return true;
}

void cg_record_flush_run(struct cg_record *r)
{
    r->flight_err = (struct cg_err)CG_ERR_INIT;
    r->flight_ok = (!r->blobs || cg_blobs_run(r->blobs, &r->flight_err)) &&
                   cg_tail_write(&r->tail, cg_buf_slice(&r->flight.text), r->flight.first_seq,
                                 &r->flight_bytes, &r->flight_err);
    if (r->blobs && r->flight_ok)
        cg_blobs_reap(r->blobs);
}

static void drop_batch(struct cg_record *r, struct batch *b)
{
    for (unsigned i = 0; i < CG_REC_TYPE_COUNT; i++)
        if (b->lines[i] && i != CG_REC_GAP)
            count_lost(r, LOST_DISK, (enum cg_record_type)i, b->lines[i]);
    r->bytes -= b->text.n;
    batch_clear(b);
}

bool cg_record_flush_end(struct cg_record *r, struct cg_err *e)
{
    CG_ASSERT(r->in_flight && !r->open);
    r->in_flight = false;
    if (r->blobs)
        cg_blobs_done(r->blobs, r->flight_ok);
    if (r->flight_ok) {
        r->durable = r->flight.last_seq;
        r->bytes += r->flight_bytes - r->flight.text.n; /* a new segment's header */
        r->degraded = false;
        memset(r->telling, 0, sizeof r->telling);
        batch_clear(&r->flight);
        return true;
    }
    r->degraded = true;
    r->disk_tried = cg_mono_ns();
    (void)cg_strlcpy(r->disk_text, sizeof r->disk_text, r->flight_err.text);
    for (unsigned i = 0; i < CG_REC_TYPE_COUNT; i++)
        r->untold[LOST_DISK][i] += r->telling[i];
    memset(r->telling, 0, sizeof r->telling);
    drop_batch(r, &r->flight);
    drop_batch(r, &r->fill);
    /* so that the retry has something to say even if only gaps were lost */
    r->untold[LOST_DISK][CG_REC_GAP]++;
    r->next_seq = r->durable + 1;
    *e = r->flight_err;
    return false;
}

bool cg_record_sync(struct cg_record *r, struct cg_err *e)
{
    while (cg_record_flush_begin(r)) {
        cg_record_flush_run(r);
        if (!cg_record_flush_end(r, e))
            return false;
    }
    return true;
}

/* --- blobs --- */

enum { THIN_AT_ONCE = 256 }; /* names in a line; each has 67 bytes there */

struct thinning {
    struct cg_record *r;
    struct cg_jsonw *w;
    unsigned count;
};

static void tell_thinned(void *ctx, const char *name)
{
    struct thinning *t = ctx;
    if (t->count++ == 0) {
        t->w = cg_record_begin(t->r, CG_REC_GAP, CG_SRC_HOST, NULL);
        cg_jsonw_kstr(t->w, "reason", "thinned");
        cg_jsonw_key(t->w, "blobs");
        cg_jsonw_arr(t->w);
    }
    cg_jsonw_str(t->w, name);
}

static bool make_room(struct cg_record *r, size_t length)
{
    struct thinning t = {.r = r};
    bool fits = cg_blobs_thin(r->blobs, cg_blobs_bound(length), THIN_AT_ONCE, tell_thinned, &t);
    if (t.count > 0) {
        cg_jsonw_arr_end(t.w);
        if (cg_record_end(r) == 0) {
            cg_blobs_spare(r->blobs);
            return false;
        }
    }
    return fits;
}

void cg_record_blob_begin(struct cg_record *r, struct cg_slice bytes, struct cg_blob_work *w)
{
    struct cg_buf clean;
    cg_buf_init(&clean, 16 * bytes.n);
    bool changed = r->filter.blob && r->filter.blob(r->filter_ctx, bytes, &clean);
    cg_blobs_begin(r->blobs, changed ? cg_buf_slice(&clean) : bytes, w);
    w->clean = clean;
}

static bool put_packed(struct cg_record *r, struct cg_blob_work *w, struct cg_err *e)
{
    if (r->degraded)
        return cg_fail(e, CG_IO, "the record cannot be written: %s", r->disk_text);
    if (!r->blobs && (r->blobs = cg_blobs_open(r->tail.dir_fd, &r->blobs_options, e)) == NULL)
        return false;
    if (cg_blobs_end(r->blobs, w, e))
        return true;
    if (!e || e->code != CG_LIMIT || !make_room(r, w->bytes.n))
        return false;
    *e = (struct cg_err)CG_ERR_INIT;
    return cg_blobs_end(r->blobs, w, e);
}

bool cg_record_blob_end(struct cg_record *r, struct cg_blob_work *w, char name[CG_BLOB_NAME],
                        struct cg_err *e)
{
    CG_ASSERT(!r->open);
    bool ok = put_packed(r, w, e);
    memcpy(name, w->name, CG_BLOB_NAME);
    cg_blob_work_finish(w);
    return ok;
}

bool cg_record_put_blob(struct cg_record *r, struct cg_slice bytes, char name[CG_BLOB_NAME],
                        struct cg_err *e)
{
    struct cg_blob_work w;
    cg_record_blob_begin(r, bytes, &w);
    return cg_record_blob_end(r, &w, name, e);
}

/* --- life --- */

static void tell_found(struct cg_record *r, const struct cg_found *found)
{
    if (found->torn_bytes > 0) {
        struct cg_jsonw *w = cg_record_begin(r, CG_REC_GAP, CG_SRC_HOST, NULL);
        cg_jsonw_kstr(w, "reason", "torn_tail");
        cg_jsonw_kuint(w, "bytes", found->torn_bytes);
        cg_record_end(r);
    }
    if (found->damaged_at > 0) {
        struct cg_jsonw *w = cg_record_begin(r, CG_REC_GAP, CG_SRC_HOST, NULL);
        cg_jsonw_kstr(w, "reason", "damaged");
        cg_jsonw_kint(w, "segment", r->tail.header.number - 1);
        cg_jsonw_kuint(w, "offset", found->damaged_at);
        cg_record_end(r);
    }
}

struct cg_record *cg_record_open(int dir_fd, const struct cg_record_options *o, struct cg_err *e)
{
    if (sodium_init() < 0) {
        cg_fail(e, CG_INTERNAL, "libsodium does not start");
        return NULL;
    }
    struct cg_record *r = cg_alloc(sizeof *r);
    struct cg_found found;
    if (!cg_tail_open(&r->tail, dir_fd, o->sandbox, &found, e)) {
        cg_record_close(r);
        return NULL;
    }
    r->blobs_options = o->blobs;
    r->quota = o->quota_bytes ? o->quota_bytes : DEFAULT_QUOTA;
    r->backlog = o->backlog_bytes ? o->backlog_bytes : DEFAULT_BACKLOG;
    r->tail.allowance = o->segment_bytes ? o->segment_bytes : DEFAULT_SEGMENT;
    cg_buf_init(&r->fill.text, r->backlog * HARD_FACTOR);
    cg_buf_init(&r->flight.text, r->backlog * HARD_FACTOR);
    cg_buf_init(&r->scratch, (size_t)4 * CG_RECORD_LINE_MAX);
    r->ts_second = -1;
    r->bytes = found.bytes;
    r->durable = found.last_seq;
    r->next_seq = found.last_seq + 1;
    r->last_t = found.last_t;
    r->t_base = cg_tail_clock(&r->tail, found.last_t);
    tell_found(r, &found);
    return r;
}

void cg_record_close(struct cg_record *r)
{
    if (!r)
        return;
    CG_ASSERT(!r->in_flight);
    cg_blobs_close(r->blobs);
    cg_tail_close(&r->tail);
    cg_buf_finish(&r->fill.text);
    cg_buf_finish(&r->flight.text);
    cg_buf_finish(&r->scratch);
    free(r);
}

int64_t cg_record_now(const struct cg_record *r)
{
    return CG_MAX(r->last_t, cg_mono_ns() - r->t_base);
}

int64_t cg_record_epoch_mono(const struct cg_record *r)
{
    return r->t_base;
}

bool cg_record_busy(const struct cg_record *r)
{
    return r->fill.text.n + (r->in_flight ? r->flight.text.n : 0) > r->backlog / 4;
}

bool cg_record_pending(const struct cg_record *r)
{
    return r->in_flight || r->fill.text.n > 0;
}

uint64_t cg_record_durable(const struct cg_record *r)
{
    return r->durable;
}

void cg_record_get_stats(const struct cg_record *r, struct cg_record_stats *out)
{
    *out = (struct cg_record_stats){
        .seq = r->next_seq - 1,
        .durable_seq = r->durable,
        .bytes = r->bytes,
        .quota_bytes = r->quota,
        .degraded = r->degraded,
    };
    memcpy(out->lost, r->lost, sizeof out->lost);
}
