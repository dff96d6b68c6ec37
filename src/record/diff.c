/* Common lines at both ends are set aside; what is left in the middle is compared by a table of the
 * lengths of common subsequences, of at most CELLS entries. */
#include "record/diff.h"

#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 3, CELLS = 4 << 20 };

struct lines {
    struct cg_slice *at;
    size_t n;
};

static struct lines split(struct cg_slice s)
{
    struct lines l = {.n = 0};
    size_t cap = 0;
    while (s.n > 0) {
        const char *end = memchr(s.p, '\n', s.n);
        size_t n = end ? (size_t)(end - s.p) + 1 : s.n;
        if (l.n == cap) {
            cap = cap ? 2 * cap : 64;
            l.at = cg_realloc(l.at, cap * sizeof *l.at);
        }
        l.at[l.n++] = (struct cg_slice){s.p, n};
        s.p += n;
        s.n -= n;
    }
    return l;
}

static bool same(struct cg_slice a, struct cg_slice b)
{
    return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

static const struct cg_slice *line_of(const struct lines *l, size_t i)
{
    static const struct cg_slice none = {"", 0};
    return l->at && i < l->n ? &l->at[i] : &none;
}

/* What happens to the lines in order: ' ' both, '-' old, '+' new. */
struct script {
    char *steps;
    size_t n;
};

static void middle(struct script *s, const struct lines *a, const struct lines *b, size_t start,
                   size_t a_end, size_t b_end)
{
    size_t rows = a_end - start;
    size_t columns = b_end - start;
    size_t i = 0;
    size_t k = 0;
    if (rows > 0 && columns > 0 && rows < CELLS / (columns + 1)) {
        size_t width = columns + 1;
        CG_OWN(cg_drop_free)
        uint32_t *common = cg_alloc_array((rows + 1) * width, sizeof *common);
        for (size_t r = rows; r-- > 0;)
            for (size_t c = columns; c-- > 0;)
                common[r * width + c] =
                    same(a->at[start + r], b->at[start + c])
                        ? common[(r + 1) * width + c + 1] + 1
                        : CG_MAX(common[(r + 1) * width + c], common[r * width + c + 1]);
        while (i < rows && k < columns) {
            if (same(a->at[start + i], b->at[start + k])) {
                s->steps[s->n++] = ' ';
                i++;
                k++;
            } else if (common[(i + 1) * width + k] >= common[i * width + k + 1]) {
                s->steps[s->n++] = '-';
                i++;
            } else {
                s->steps[s->n++] = '+';
                k++;
            }
        }
    }
    for (; i < rows; i++)
        s->steps[s->n++] = '-';
    for (; k < columns; k++)
        s->steps[s->n++] = '+';
}

static struct script compare(const struct lines *a, const struct lines *b)
{
    struct script s = {.steps = cg_alloc(a->n + b->n + 1)};
    size_t start = 0;
    size_t a_end = a->n;
    size_t b_end = b->n;
    while (start < a_end && start < b_end && same(*line_of(a, start), *line_of(b, start)))
        start++;
    while (a_end > start && b_end > start && same(*line_of(a, a_end - 1), *line_of(b, b_end - 1))) {
        a_end--;
        b_end--;
    }
    memset(s.steps, ' ', start);
    s.n = start;
    middle(&s, a, b, start, a_end, b_end);
    memset(s.steps + s.n, ' ', a->n - a_end);
    s.n += a->n - a_end;
    return s;
}

static void put_line(struct cg_buf *out, char sign, struct cg_slice line)
{
    cg_buf_addc(out, sign);
    cg_buf_add(out, line.p, line.n);
    if (line.n > 0 && line.p[line.n - 1] != '\n')
        cg_buf_adds(out, "\n\\ No newline at end of file\n");
}

/* The steps from `at` up to where more than twice the context has passed without a change. */
static size_t hunk_end(const struct script *s, size_t at)
{
    size_t last = at;
    for (size_t i = at; i < s->n && i - last <= 2 * CONTEXT; i++)
        last = s->steps[i] != ' ' ? i : last;
    return CG_MIN(last + 1 + CONTEXT, s->n);
}

/* "-3,2": the first line, counted from 1 (the one before when there is none), and how many. */
static void put_range(struct cg_buf *out, char sign, size_t first, size_t n)
{
    cg_buf_addf(out, "%c%zu", sign, n > 0 ? first + 1 : first);
    if (n != 1)
        cg_buf_addf(out, ",%zu", n);
}

bool cg_diff(struct cg_slice from, struct cg_slice to, struct cg_buf *out)
{
    struct lines a = split(from);
    struct lines b = split(to);
    struct script s = compare(&a, &b);
    size_t i = 0; /* lines of a and b before step `done` */
    size_t k = 0;
    size_t done = 0;
    for (size_t at = 0; at < s.n; at++) {
        if (s.steps[at] == ' ')
            continue;
        size_t first = at - CG_MIN(at - done, (size_t)CONTEXT);
        i += first - done; /* all of them in both */
        k += first - done;
        size_t end = hunk_end(&s, at);
        size_t olds = 0;
        size_t news = 0;
        for (size_t x = first; x < end; x++) {
            olds += s.steps[x] != '+';
            news += s.steps[x] != '-';
        }
        cg_buf_adds(out, "@@ ");
        put_range(out, '-', i, olds);
        cg_buf_addc(out, ' ');
        put_range(out, '+', k, news);
        cg_buf_adds(out, " @@\n");
        for (size_t x = first; x < end; x++) {
            put_line(out, s.steps[x], s.steps[x] == '+' ? *line_of(&b, k) : *line_of(&a, i));
            i += s.steps[x] != '+';
            k += s.steps[x] != '-';
        }
        done = end;
        at = end - 1;
    }
    free(s.steps);
    free(a.at);
    free(b.at);
    return !out->full;
}
