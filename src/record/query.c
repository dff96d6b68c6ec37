#include "record/query.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/jsonw.h"
#include "record/span.h"

enum {
    ENTRIES = 8192,
    NEAR = 8 * 1024, /* first read at a place; grows while the next line is the next one */
    WINDOW = 256 * 1024,
    BUDGET = 4 << 20,     /* bytes of lines read for one page */
    SCANNED_MAX = 4 << 20 /* entries looked at for one page */
};

struct fetch {
    int record_dir;
    const struct cg_index *ix;
    struct cg_span *span;
    uint32_t segment;
    uint64_t at; /* offset of buf[0] */
    size_t n, want;
    uint64_t spent;
    char buf[WINDOW];
};

static bool open_span(struct fetch *f, uint32_t segment, struct cg_err *e)
{
    struct cg_segment_header h;
    size_t length;
    if (f->span && f->segment == segment)
        return true;
    cg_span_close(f->span);
    f->n = 0;
    f->segment = segment;
    f->span = cg_span_open(f->record_dir, segment, &h, &length, e);
    return f->span != NULL;
}

/* The whole line at the offset if it is in the window. */
static bool held(const struct fetch *f, uint64_t offset, struct cg_slice *text)
{
    if (offset < f->at || offset >= f->at + f->n)
        return false;
    const char *p = f->buf + (offset - f->at);
    const char *end = memchr(p, '\n', f->n - (size_t)(p - f->buf));
    if (!end)
        return false;
    *text = (struct cg_slice){p, (size_t)(end - p)};
    return true;
}

/* The bytes of the line. False with e untouched when there is no such line any more: the record is
 * not what was indexed. */
static bool fetch_line(struct fetch *f, uint64_t seq, uint64_t offset, struct cg_slice *text,
                       struct cg_err *e)
{
    const struct cg_index_segment *s = cg_index_segment(f->ix, seq);
    if (!s || !open_span(f, s->number, e))
        return false;
    if (!held(f, offset, text)) {
        bool next = f->n > 0 && offset >= f->at && offset <= f->at + f->n;
        f->want = next ? CG_MIN(2 * f->want, (size_t)WINDOW) : (size_t)NEAR;
        do {
            ssize_t n = cg_span_pread(f->span, f->buf, f->want, offset);
            f->at = offset;
            f->n = n > 0 ? (size_t)n : 0;
            /* a place in a packed segment costs its whole frame */
            f->spent += cg_span_packed(f->span) && !next ? (uint64_t)CG_SPAN_FRAME : f->n;
        } while (!held(f, offset, text) && f->n == f->want && f->want < WINDOW &&
                 (f->want = CG_MIN(8 * f->want, (size_t)WINDOW)) > 0);
        if (!held(f, offset, text))
            return false;
    }
    return true;
}

/* --- text --- */

/* A blank stands for what words are joined with in names of events, too. */
static char lower(char c)
{
    if (c == '_')
        return ' ';
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* The other character that is the same to a search; itself: there is none. */
static char other_form(char c)
{
    if (lower(c) == ' ')
        return c == ' ' ? '_' : ' ';
    bool letter = lower(c) >= 'a' && lower(c) <= 'z';
    return !letter ? c : c == lower(c) ? (char)(c - 32) : lower(c);
}

static bool same(const char *a, const char *b, size_t n)
{
    size_t k = 0;
    while (k < n && lower(a[k]) == lower(b[k]))
        k++;
    return k == n;
}

/* The first place of c at or behind `from` and before `end`; `end`: none. */
static const char *next_of(const char *from, const char *end, char c)
{
    const char *p = from < end ? memchr(from, c, (size_t)(end - from)) : NULL;
    return p ? p : end;
}

/* Without regard to case. Looks from one character of the text to the next, by preference one that
 * is no letter, since it is rarer and has one form. */
static bool contains(struct cg_slice in, struct cg_slice text)
{
    size_t pivot = 0;
    while (pivot < text.n && other_form(text.p[pivot]) != text.p[pivot])
        pivot++;
    pivot = pivot < text.n ? pivot : 0;
    if (in.n < text.n)
        return false;
    const char c = lower(text.p[pivot]);
    const char other = other_form(c);
    const char *end = in.p + (in.n - text.n) + pivot + 1;
    const char *a = next_of(in.p + pivot, end, c);
    const char *b = other == c ? end : next_of(in.p + pivot, end, other);
    while (a < end || b < end) {
        const char *at = CG_MIN(a, b);
        if (same(at - pivot, text.p, text.n))
            return true;
        if (at == a)
            a = next_of(a + 1, end, c);
        else
            b = next_of(b + 1, end, other);
    }
    return false;
}

static bool in_value(const struct cg_json *v, struct cg_slice text)
{
    if (v->type == CG_JSON_STR)
        return contains(v->str, text);
    if (v->type != CG_JSON_ARR)
        return false;
    CG_OWN(cg_drop_buf) struct cg_buf line;
    cg_buf_init(&line, CG_RECORD_LINE_MAX);
    for (const struct cg_json *m = v->child; m; m = m->next) {
        cg_buf_adds(&line, line.n ? " " : "");
        cg_buf_add(&line, m->str.p, m->type == CG_JSON_STR ? m->str.n : 0);
    }
    return contains(cg_buf_slice(&line), text);
}

/* Most lines are passed over without parsing them. A blank may be what joins two arguments, and
 * what is escaped looks otherwise: the longest run of plain characters must be there as it is. */
static struct cg_slice longest_run(struct cg_slice text)
{
    struct cg_slice longest = {text.p, 0};
    for (size_t at = 0; at < text.n;) {
        size_t n = 0;
        while (at + n < text.n && text.p[at + n] > 0x20 && text.p[at + n] < 0x7f &&
               text.p[at + n] != '"' && text.p[at + n] != '\\')
            n++;
        if (n > longest.n)
            longest = (struct cg_slice){text.p + at, n};
        at += n + 1;
    }
    return longest;
}

/* What people look for: commands, programs, paths, names. Arguments are one text, with blanks. */
static bool has_text(const struct cg_record_line *line, struct cg_slice text)
{
    static const char *const members[] = {
        "argv",   "shell",   "exe",     "cwd",    "path", "to",        "name", "comm",
        "model",  "tool",    "event",   "text",   "code", "rule",      "what", "reason",
        "status", "verdict", "address", "secret", "op",   "agent_type"};
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(line->data, NULL, NULL);
    for (size_t i = 0; i < CG_COUNT(members); i++) {
        const struct cg_json *v = cg_json_get(o, members[i]);
        if (v && in_value(v, text))
            return true;
    }
    return false;
}

/* Who names the types says where to look. */
static bool searched(const struct cg_query *q, uint8_t type)
{
    return q->types != 0 || type == CG_REC_COMMAND || type == CG_REC_PROCESS ||
           type == CG_REC_FILE_OP || type == CG_REC_NETWORK || type == CG_REC_DNS ||
           type == CG_REC_CLAIM || type == CG_REC_LLM_CALL;
}

/* --- pages --- */

static bool entry_fits(const struct cg_query *q, const struct cg_index_entry *entry)
{
    return entry->type != CG_INDEX_HOLE &&
           (q->session == CG_TALLY_NONE || entry->session == q->session) &&
           (q->types == 0 || (entry->type < 32 && q->types & UINT32_C(1) << entry->type)) &&
           (q->cost == 0 || entry->type != CG_REC_COST ||
            q->cost & (entry->ledger ? CG_QUERY_LEDGER : CG_QUERY_BUDGET)) &&
           (q->text.n == 0 || searched(q, entry->type));
}

struct page {
    const struct cg_query *q;
    struct fetch *f;
    cg_query_line *each;
    void *ctx;
    struct cg_slice run; /* of the text: what every line that has it must hold as it is */
    unsigned given;
    uint64_t first;  /* the first one given */
    bool full, over; /* enough; nothing later fits */
};

static bool take_line(struct page *p, uint64_t seq, const struct cg_index_entry *entry,
                      struct cg_err *e)
{
    struct cg_record_line line;
    struct cg_slice text;
    const struct cg_query *q = p->q;
    if (!fetch_line(p->f, seq, entry->offset, &text, e))
        return e->code == CG_OK; /* a line that is gone is no reason to tell nothing */
    bool dull = p->run.n > 0 && !contains(text, p->run);
    if ((dull && q->to == 0) || !cg_record_line_parse(text, &line) || line.seq != seq)
        return true;
    int64_t moment = q->wall && (q->from || q->to) ? cg_tally_wall(&line) : line.t;
    p->over = q->to > 0 && moment > q->to;
    if (dull || p->over || moment < q->from || (q->text.n > 0 && !has_text(&line, q->text)))
        return true;
    if (p->given++ == 0)
        p->first = seq;
    p->full = !p->each(p->ctx, &line) || p->given == q->limit;
    return true;
}

/* How many of the lines first to last fit by type and session. */
static uint64_t count_fitting(const struct cg_index *ix, const struct cg_query *q,
                              struct cg_index_entry *entries, uint64_t first, uint64_t last)
{
    uint64_t fitting = 0;
    size_t n = 0;
    for (; first <= last && (n = cg_index_read(ix, first, entries, ENTRIES)) > 0; first += n)
        for (size_t i = 0; i < CG_MIN((uint64_t)n, last - first + 1); i++)
            fitting += entry_fits(q, &entries[i]);
    return fitting;
}

/* The number behind which `q->skip` lines that fit have been passed over. */
static uint64_t pass_over(const struct cg_index *ix, const struct cg_query *q,
                          struct cg_index_entry *entries, uint64_t after)
{
    uint64_t left = q->skip;
    size_t n = 0;
    for (; left > 0 && (n = cg_index_read(ix, after + 1, entries, ENTRIES)) > 0; after += n)
        for (size_t i = 0; i < n; i++)
            if (entry_fits(q, &entries[i]) && --left == 0)
                return after + i + 1;
    return after;
}

/* The number behind which the last `q->limit` lines that fit begin. */
static uint64_t step_back(const struct cg_index *ix, const struct cg_query *q,
                          struct cg_index_entry *entries, uint64_t after, uint64_t end)
{
    unsigned left = q->limit;
    while (end > after + 1) {
        uint64_t first = end - after > ENTRIES ? end - ENTRIES : after + 1;
        size_t n = cg_index_read(ix, first, entries, (size_t)(end - first));
        for (size_t i = n; i-- > 0;)
            if (entry_fits(q, &entries[i]) && --left == 0)
                return first + i - 1;
        end = first;
    }
    return after;
}

bool cg_query_run(const struct cg_index *ix, int record_dir, const struct cg_query *q,
                  cg_query_line *each, void *ctx, struct cg_query_end *end, struct cg_err *e)
{
    CG_OWN(cg_drop_free) struct cg_index_entry *entries = cg_alloc_array(ENTRIES, sizeof *entries);
    CG_OWN(cg_drop_free) struct fetch *f = cg_alloc(sizeof *f);
    struct page p = {.q = q, .f = f, .each = each, .ctx = ctx, .run = longest_run(q->text)};
    const uint64_t end_seq = q->before > 0 ? CG_MIN(q->before, ix->count + 1) : ix->count + 1;
    uint64_t first = q->from > 0 ? cg_index_at(ix, q->from, q->wall) : 1;
    uint64_t scanned = 0;
    bool fine = true;
    f->record_dir = record_dir;
    f->ix = ix;
    end->next = CG_MAX(first, q->after + 1) - 1;
    if (q->skip > 0)
        end->next = pass_over(ix, q, entries, end->next);
    if (q->last)
        end->next = step_back(ix, q, entries, end->next, end_seq);
    size_t n = 0;
    while (fine && !p.full && !p.over && f->spent < BUDGET && scanned < SCANNED_MAX &&
           end->next + 1 < end_seq &&
           (n = cg_index_read(ix, end->next + 1, entries,
                              CG_MIN((uint64_t)ENTRIES, end_seq - end->next - 1))) > 0) {
        scanned += n;
        for (size_t i = 0; fine && i < n && !p.full && !p.over && f->spent < BUDGET; i++) {
            uint64_t seq = end->next + 1;
            if (entry_fits(q, &entries[i]))
                fine = take_line(&p, seq, &entries[i], e);
            end->next = p.over ? end->next : seq;
        }
    }
    cg_span_close(f->span);
    bool all = q->last && p.given == q->limit; /* what follows does not fit */
    end->more = fine && !p.over && !all && end->next + 1 < end_seq;
    end->rank = q->rank ? count_fitting(ix, q, entries, 1, p.given ? p.first - 1 : end->next) : 0;
    return fine;
}
