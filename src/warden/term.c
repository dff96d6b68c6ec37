#include "warden/term.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "intercept/secrets.h"

enum { CHUNK = 16 * 1024, UTF8_TAIL = 3 };

#define DELAY_NS (INT64_C(50) * 1000000)
#define HOLD_NS (INT64_C(1000) * 1000000) /* for a beginning of a secret */

struct side {
    struct cg_buf bytes;
    int64_t since;           /* when the first of them came */
    bool tail;               /* what waits is the start of a character */
    struct cg_redact redact; /* holds back what may be the beginning of a secret */
    int64_t held_since;
};

struct term {
    struct cg_record *record;
    const char *exec_id;
    const char *session;
    struct side side[2];
};

static const char *const dir_names[2] = {"in", "out"};

struct term *term_create(struct cg_record *record, const struct cg_secrets *secrets,
                         const char *exec_id, const char *session)
{
    struct term *t = cg_alloc(sizeof *t);
    t->record = record;
    t->exec_id = exec_id;
    t->session = session;
    cg_buf_init(&t->side[0].bytes, CHUNK);
    cg_buf_init(&t->side[1].bytes, CHUNK);
    for (int dir = TERM_IN; dir <= TERM_OUT; dir++)
        cg_redact_init(&t->side[dir].redact, cg_secrets_values(secrets),
                       secrets ? cg_secrets_names(secrets) : NULL);
    return t;
}

void term_destroy(struct term *t)
{
    if (!t)
        return;
    cg_buf_finish(&t->side[0].bytes);
    cg_buf_finish(&t->side[1].bytes);
    cg_redact_finish(&t->side[0].redact);
    cg_redact_finish(&t->side[1].redact);
    free(t);
}

/* Length of the character that begins with this byte, 0 when none does. */
static size_t length_of(unsigned char c)
{
    return c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
}

static bool character(const unsigned char *s, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return false;
    /* overlong forms, surrogates, above U+10FFFF */
    return n < 3 || !((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
                      (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f));
}

/* How many bytes in front are whole characters, and whether the text is worth its escapes. */
static size_t text_length(struct cg_slice in, bool *worth)
{
    const unsigned char *s = (const unsigned char *)in.p;
    size_t at = 0;
    size_t escapes = 0;
    while (at < in.n) {
        size_t len = length_of(s[at]);
        if (len == 0 || len > in.n - at || !character(s + at, len))
            break;
        escapes += len == 1 && (s[at] < 0x20 || s[at] == 0x7f) && s[at] != '\n' && s[at] != '\r';
        at += len;
    }
    *worth = escapes * 8 <= in.n;
    return at;
}

static void write_line(struct term *t, enum term_dir dir, struct cg_slice bytes, bool text)
{
    struct cg_jsonw *w = cg_record_begin(t->record, CG_REC_TERMINAL, CG_SRC_HOST, t->session);
    cg_jsonw_kstr(w, "exec_id", t->exec_id);
    cg_jsonw_kstr(w, "dir", dir_names[dir]);
    if (text) {
        cg_jsonw_kstrn(w, "text", bytes.p, bytes.n);
    } else {
        char out[sodium_base64_ENCODED_LEN(CHUNK, sodium_base64_VARIANT_ORIGINAL)];
        sodium_bin2base64(out, sizeof out, (const unsigned char *)bytes.p, bytes.n,
                          sodium_base64_VARIANT_ORIGINAL);
        cg_jsonw_kstr(w, "base64", out);
    }
    cg_record_end(t->record);
}

static void write_side(struct term *t, enum term_dir dir, bool all)
{
    struct side *s = &t->side[dir];
    struct cg_slice bytes = cg_buf_slice(&s->bytes);
    bool worth = false;
    size_t n = text_length(bytes, &worth);
    size_t rest = bytes.n - n;
    /* only the start of one character is left, and its end may come */
    bool cut = rest > 0 && rest <= UTF8_TAIL && length_of((unsigned char)bytes.p[n]) > rest;
    if (!all && cut && n == 0 && !s->tail) {
        s->tail = true; /* one more turn */
        return;
    }
    if (all || !cut || n == 0) {
        if (bytes.n > 0)
            write_line(t, dir, bytes, rest == 0 && worth);
        n = bytes.n;
    } else {
        write_line(t, dir, (struct cg_slice){bytes.p, n}, worth);
    }
    cg_buf_consume(&s->bytes, n);
    s->tail = s->bytes.n > 0;
    if (s->bytes.n == 0)
        cg_buf_finish(&s->bytes); /* an idle terminal keeps no memory */
}

static void add(struct term *t, enum term_dir dir, struct cg_slice data, int64_t now_ns)
{
    struct side *s = &t->side[dir];
    while (data.n > 0) {
        if (s->bytes.n == 0 || s->tail)
            s->since = now_ns;
        s->tail = false;
        size_t n = CG_MIN(data.n, CHUNK - s->bytes.n);
        CG_ASSERT(cg_buf_add(&s->bytes, data.p, n));
        data.p += n;
        data.n -= n;
        if (s->bytes.n == CHUNK)
            write_side(t, dir, false);
    }
}

void term_add(struct term *t, enum term_dir dir, struct cg_slice data, int64_t now_ns)
{
    struct side *s = &t->side[dir];
    CG_OWN(cg_drop_buf) struct cg_buf clean = {.n = 0};
    if (!s->redact.m) {
        add(t, dir, data, now_ns);
        return;
    }
    cg_buf_init(&clean, 16 * (data.n + cg_redact_held(&s->redact)) + CHUNK);
    CG_ASSERT(cg_redact_feed(&s->redact, data, &clean));
    s->held_since = now_ns;
    add(t, dir, cg_buf_slice(&clean), now_ns);
}

/* Nothing more came: it was no secret. */
static void let_go(struct term *t, enum term_dir dir, int64_t now_ns)
{
    struct side *s = &t->side[dir];
    CG_OWN(cg_drop_buf) struct cg_buf clean = {.n = 0};
    if (cg_redact_held(&s->redact) == 0)
        return;
    cg_buf_init(&clean, 16 * cg_redact_held(&s->redact) + CHUNK);
    CG_ASSERT(cg_redact_end(&s->redact, &clean));
    add(t, dir, cg_buf_slice(&clean), now_ns);
}

void term_resize(struct term *t, int64_t rows, int64_t cols)
{
    struct cg_jsonw *w = cg_record_begin(t->record, CG_REC_TERMINAL, CG_SRC_HOST, t->session);
    cg_jsonw_kstr(w, "exec_id", t->exec_id);
    cg_jsonw_kstr(w, "dir", "resize");
    cg_jsonw_kint(w, "rows", rows);
    cg_jsonw_kint(w, "cols", cols);
    cg_record_end(t->record);
}

void term_flush(struct term *t)
{
    for (int dir = TERM_IN; dir <= TERM_OUT; dir++) {
        let_go(t, (enum term_dir)dir, t->side[dir].since);
        write_side(t, (enum term_dir)dir, true);
    }
}

bool term_waits(const struct term *t)
{
    return t->side[0].bytes.n + t->side[1].bytes.n + cg_redact_held(&t->side[0].redact) +
               cg_redact_held(&t->side[1].redact) >
           0;
}

void term_tick(struct term *t, int64_t now_ns)
{
    for (int dir = TERM_IN; dir <= TERM_OUT; dir++) {
        if (now_ns - t->side[dir].held_since >= HOLD_NS)
            let_go(t, (enum term_dir)dir, now_ns);
        if (t->side[dir].bytes.n > 0 && now_ns - t->side[dir].since >= DELAY_NS) {
            t->side[dir].since = now_ns;
            write_side(t, (enum term_dir)dir, false);
        }
    }
}
