/* Finding a number: the last segment whose header begins at or before it, then a bisection of that
 * file by offset (each probe reads on to the next line end), then line by line. A probe that meets
 * damage counts as "too far", so that damage costs time but no line. */
#include "record/reader.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "record/span.h"

enum { BUFFER = 2 * CG_RECORD_LINE_MAX, BISECT_STOP = CG_RECORD_LINE_MAX };

struct cg_record_reader {
    int dir_fd;
    struct cg_span *span; /* NULL: no segment yet */
    uint32_t number;
    uint64_t first_seq; /* of the segment */
    uint64_t offset;    /* in the file, of buf[at] */
    uint64_t after;
    uint64_t damaged;
    uint64_t line_at; /* of the last line given */
    bool skipping;    /* inside a line that is longer than any may be */
    size_t at;
    size_t held;
    char buf[BUFFER];
};

static bool open_segment(struct cg_record_reader *r, uint32_t number, struct cg_err *e)
{
    struct cg_segment_header header;
    size_t length = 0;
    struct cg_span *span = cg_span_open(r->dir_fd, number, &header, &length, e);
    if (!span)
        return false;
    cg_span_close(r->span);
    r->span = span;
    r->number = number;
    r->first_seq = header.first_seq;
    r->offset = length;
    r->at = r->held = 0;
    r->skipping = false;
    return true;
}

static ssize_t fill(struct cg_record_reader *r)
{
    if (r->at > 0) {
        r->held -= r->at;
        memmove(r->buf, r->buf + r->at, r->held);
        r->at = 0;
    }
    ssize_t n = cg_span_pread(r->span, r->buf + r->held, BUFFER - r->held, r->offset + r->held);
    if (n > 0)
        r->held += (size_t)n;
    return n;
}

static void advance(struct cg_record_reader *r, size_t n)
{
    r->at += n;
    r->offset += n;
}

/* A line wholly in the buffer, without its end; false when there is none. */
static bool buffered_line(struct cg_record_reader *r, struct cg_slice *text)
{
    while (r->at < r->held) {
        const char *p = r->buf + r->at;
        const char *end = memchr(p, '\n', r->held - r->at);
        if (!end && r->held - r->at < CG_RECORD_LINE_MAX)
            return false;
        if (!end) { /* longer than a line may be: drop it piece by piece */
            r->damaged += !r->skipping;
            r->skipping = true;
            advance(r, r->held - r->at);
            return false;
        }
        *text = (struct cg_slice){p, (size_t)(end - p)};
        if (!r->skipping)
            return true;
        r->skipping = false;
        advance(r, text->n + 1);
    }
    return false;
}

/* To the next segment if there is one. */
static enum cg_record_got next_segment(struct cg_record_reader *r, struct cg_err *e)
{
    struct cg_err why = CG_ERR_INIT;
    if (r->number == 999999)
        return CG_RECORD_END;
    if (open_segment(r, r->number + 1, &why))
        return CG_RECORD_LINE;
    /* a segment that is just being made has no whole header yet */
    if (why.code == CG_NOT_FOUND || why.code == CG_INVALID)
        return CG_RECORD_END;
    *e = why;
    return CG_RECORD_ERROR;
}

static bool next_exists(const struct cg_record_reader *r)
{
    return r->number < 999999 && cg_span_exists(r->dir_fd, r->number + 1);
}

/* The next whole line of any kind, not yet taken off. */
static enum cg_record_got raw_line(struct cg_record_reader *r, struct cg_slice *text,
                                   struct cg_err *e)
{
    if (!r->span) {
        enum cg_record_got got = next_segment(r, e);
        if (got != CG_RECORD_LINE)
            return got;
    }
    while (!buffered_line(r, text)) {
        /* ask before reading: a segment gets no lines any more once the next is there */
        bool last = !next_exists(r);
        ssize_t n = fill(r);
        if (n < 0) {
            cg_fail_sys(e, "read the record");
            return CG_RECORD_ERROR;
        }
        if (n > 0)
            continue;
        if (last)
            return CG_RECORD_END;
        r->damaged += r->held > r->at; /* a torn line that no writer came back to cut */
        enum cg_record_got got = next_segment(r, e);
        if (got != CG_RECORD_LINE)
            return got;
    }
    return CG_RECORD_LINE;
}

static bool is_seal(struct cg_slice text)
{
    static const char seal[] = "{\"type\":\"seal\",";
    return text.n >= sizeof seal - 1 && memcmp(text.p, seal, sizeof seal - 1) == 0;
}

enum cg_record_got cg_record_read(struct cg_record_reader *r, uint64_t limit, struct cg_slice *text,
                                  struct cg_record_line *line, struct cg_err *e)
{
    for (;;) {
        enum cg_record_got got = raw_line(r, text, e);
        if (got != CG_RECORD_LINE)
            return got;
        bool fine = cg_record_line_parse(*text, line);
        if (fine && line->seq > limit)
            return CG_RECORD_END;
        r->line_at = r->offset;
        advance(r, text->n + 1);
        if (fine && line->seq > r->after) {
            r->after = line->seq;
            return CG_RECORD_LINE;
        }
        r->damaged += !fine && !is_seal(*text);
    }
}

/* Number of the first line that begins at or behind `offset`, and where it begins. False: none that
 * can be read nearby. */
static bool probe(struct cg_record_reader *r, uint64_t offset, uint64_t *seq, uint64_t *begins)
{
    ssize_t n = cg_span_pread(r->span, r->buf, BUFFER, offset);
    const char *end = n > 0 ? memchr(r->buf, '\n', (size_t)n) : NULL;
    if (!end)
        return false;
    const char *p = end + 1;
    size_t left = (size_t)n - (size_t)(p - r->buf);
    end = memchr(p, '\n', left);
    struct cg_record_line line;
    if (!end || !cg_record_line_parse((struct cg_slice){p, (size_t)(end - p)}, &line))
        return false;
    *seq = line.seq;
    *begins = offset + (uint64_t)(p - r->buf);
    return true;
}

static bool bisect(struct cg_record_reader *r, uint64_t after, struct cg_err *e)
{
    uint64_t low = r->offset;
    uint64_t high = 0;
    if (!cg_span_size(r->span, &high, e))
        return false;
    while (high > low && high - low > BISECT_STOP) {
        uint64_t middle = low + (high - low) / 2;
        uint64_t seq = 0;
        uint64_t begins = 0;
        if (probe(r, middle, &seq, &begins) && seq <= after)
            low = begins;
        else
            high = middle;
    }
    r->offset = low;
    r->at = r->held = 0;
    return true;
}

/* The last segment that begins at or before `seq`; by bisection of their numbers. */
static bool find_segment(struct cg_record_reader *r, uint32_t last, uint64_t seq, struct cg_err *e)
{
    uint32_t low = 1;
    uint32_t high = last;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        struct cg_segment_header header;
        size_t length = 0;
        struct cg_span *span = cg_span_open(r->dir_fd, middle, &header, &length, NULL);
        bool fine = span != NULL;
        cg_span_close(span);
        if (fine && header.first_seq <= seq)
            low = middle;
        else
            high = middle - 1;
    }
    return open_segment(r, low, e);
}

struct cg_record_reader *cg_record_reader_open(int dir_fd, uint64_t after_seq, struct cg_err *e)
{
    struct cg_record_reader *r = cg_alloc(sizeof *r);
    r->after = after_seq;
    r->dir_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint32_t last = 0;
    bool fine = r->dir_fd >= 0 || cg_fail_sys(e, "open the record's folder");
    fine = fine && cg_segment_last(r->dir_fd, &last, e);
    if (fine && last > 0 && after_seq > 0)
        fine = find_segment(r, last, after_seq + 1, e) && bisect(r, after_seq, e);
    if (!fine) {
        cg_record_reader_close(r);
        return NULL;
    }
    return r;
}

void cg_record_reader_close(struct cg_record_reader *r)
{
    if (!r)
        return;
    cg_span_close(r->span);
    cg_drop_fd(&r->dir_fd);
    free(r);
}

void cg_record_reader_place(const struct cg_record_reader *r, uint32_t *segment, uint64_t *offset)
{
    *segment = r->number;
    *offset = r->line_at;
}

uint64_t cg_record_reader_damaged(const struct cg_record_reader *r)
{
    return r->damaged;
}

bool cg_record_last_seq(int dir_fd, uint64_t *seq, struct cg_err *e)
{
    *seq = 0;
    struct cg_record_reader *r = cg_record_reader_open(dir_fd, UINT64_MAX / 4, e);
    if (!r)
        return false;
    /* a number that no record reaches: the search ends near the last line of the last segment */
    r->after = 0;
    *seq = !r->span ? 0 : r->first_seq - 1;
    enum cg_record_got got;
    struct cg_slice text;
    struct cg_record_line line;
    while ((got = cg_record_read(r, UINT64_MAX, &text, &line, e)) == CG_RECORD_LINE)
        *seq = line.seq;
    cg_record_reader_close(r);
    return got == CG_RECORD_END;
}
