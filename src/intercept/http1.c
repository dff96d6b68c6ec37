#include "intercept/http1.h"

#include <string.h>
#include <strings.h>

enum cg_http1_got cg_http1_take(struct cg_buf *head, struct cg_slice in, size_t *used)
{
    *used = 0;
    while (*used < in.n) {
        char c = in.p[(*used)++];
        bool after_cr = head->n > 0 && head->p[head->n - 1] == '\r';
        if (c == '\0' || (c == '\n') != after_cr || !cg_buf_addc(head, c))
            return CG_HTTP1_BAD;
        if (c == '\n' && head->n >= 4 && memcmp(head->p + head->n - 4, "\r\n\r\n", 4) == 0)
            return CG_HTTP1_END;
    }
    return CG_HTTP1_MORE;
}

static bool token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct cg_slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!token_char(s.p[i]))
            return false;
    return s.n > 0;
}

static struct cg_slice trim(struct cg_slice s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* The next line without its end; text moves on. */
static bool take_line(struct cg_slice *text, struct cg_slice *line)
{
    const char *end = memchr(text->p, '\n', text->n);
    if (!end || end == text->p || end[-1] != '\r')
        return false;
    *line = (struct cg_slice){text->p, (size_t)(end - text->p) - 1};
    text->n -= (size_t)(end + 1 - text->p);
    text->p = end + 1;
    return true;
}

static bool take_field(struct cg_slice line, struct cg_http1_field *out)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (!colon)
        return false;
    out->name = (struct cg_slice){line.p, (size_t)(colon - line.p)};
    out->value = trim((struct cg_slice){colon + 1, line.n - out->name.n - 1});
    for (size_t i = 0; i < out->value.n; i++) {
        unsigned char c = (unsigned char)out->value.p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return is_token(out->name); /* a folded line begins with a blank, which is in no token */
}

static bool take_fields(struct cg_slice text, struct cg_http1_head *out)
{
    struct cg_slice line;
    while (take_line(&text, &line)) {
        if (line.n == 0)
            return text.n == 0;
        if (out->n == CG_HTTP1_FIELDS || !take_field(line, &out->fields[out->n++]))
            return false;
    }
    return false;
}

static bool version_known(struct cg_slice v)
{
    return cg_slice_eq(v, "HTTP/1.1") || cg_slice_eq(v, "HTTP/1.0");
}

bool cg_http1_request(struct cg_slice text, struct cg_http1_head *out)
{
    struct cg_slice line;
    out->n = 0;
    if (!take_line(&text, &line))
        return false;
    for (int i = 0; i < 3; i++) {
        const char *blank = i < 2 ? memchr(line.p, ' ', line.n) : line.p + line.n;
        if (!blank)
            return false;
        out->first[i] = (struct cg_slice){line.p, (size_t)(blank - line.p)};
        size_t step = out->first[i].n + (i < 2);
        line.p += step;
        line.n -= step;
    }
    for (size_t i = 0; i < out->first[1].n; i++)
        if (out->first[1].p[i] <= 0x20 || out->first[1].p[i] == 0x7f) /* signed: above too */
            return false;
    return is_token(out->first[0]) && out->first[1].n > 0 && version_known(out->first[2]) &&
           take_fields(text, out);
}

bool cg_http1_response(struct cg_slice text, struct cg_http1_head *out)
{
    struct cg_slice line;
    out->n = 0;
    if (!take_line(&text, &line) || line.n < 12 || line.p[8] != ' ')
        return false;
    out->first[0] = (struct cg_slice){line.p, 8};
    out->first[1] = (struct cg_slice){line.p + 9, 3};
    out->first[2] = (struct cg_slice){line.p + 12, line.n - 12};
    for (int i = 0; i < 3; i++)
        if (out->first[1].p[i] < '0' || out->first[1].p[i] > '9')
            return false;
    for (size_t i = 0; i < out->first[2].n; i++)
        if ((unsigned char)out->first[2].p[i] < 0x20)
            return false;
    return version_known(out->first[0]) && out->first[1].p[0] != '0' &&
           (out->first[2].n == 0 || out->first[2].p[0] == ' ') && take_fields(text, out);
}

bool cg_http1_is(struct cg_slice s, const char *word)
{
    return s.n == strlen(word) && strncasecmp(s.p, word, s.n) == 0;
}

unsigned cg_http1_get(const struct cg_http1_head *h, const char *name, struct cg_slice *value)
{
    unsigned found = 0;
    for (unsigned i = 0; i < h->n; i++) {
        if (cg_http1_is(h->fields[i].name, name)) {
            *value = h->fields[i].value;
            found++;
        }
    }
    return found;
}

static bool list_has(struct cg_slice list, const char *word)
{
    while (list.n > 0) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma ? (size_t)(comma - list.p) : list.n;
        if (cg_http1_is(trim((struct cg_slice){list.p, n}), word))
            return true;
        n += comma != NULL;
        list.p += n;
        list.n -= n;
    }
    return false;
}

bool cg_http1_has(const struct cg_http1_head *h, const char *name, const char *word)
{
    for (unsigned i = 0; i < h->n; i++)
        if (cg_http1_is(h->fields[i].name, name) && list_has(h->fields[i].value, word))
            return true;
    return false;
}

/* --- bodies --- */

static bool take_length(struct cg_slice s, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(s.p[i] - '0');
    }
    return s.n > 0 && s.n <= 18;
}

bool cg_http1_framing(const struct cg_http1_head *h, struct cg_http1_body *out)
{
    struct cg_slice length;
    struct cg_slice encoding;
    unsigned lengths = cg_http1_get(h, "content-length", &length);
    unsigned encodings = cg_http1_get(h, "transfer-encoding", &encoding);
    *out = (struct cg_http1_body){.framing = CG_HTTP1_NONE};
    if (lengths > 1 || encodings > 1 || (lengths && encodings))
        return false;
    if (encodings) {
        out->framing = CG_HTTP1_CHUNKED;
        return cg_http1_is(encoding, "chunked");
    }
    if (!lengths)
        return true;
    if (!take_length(length, &out->left))
        return false;
    out->framing = out->left > 0 ? CG_HTTP1_LENGTH : CG_HTTP1_NONE;
    return true;
}

enum step { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LF };

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char low = (char)(c | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

static bool size_char(struct cg_http1_body *b, char c)
{
    int digit = hex(c);
    if (digit >= 0 && b->line < 15) {
        b->left = b->left * 16 + (uint64_t)digit;
        b->line++;
        return true;
    }
    if (b->line == 0 || digit >= 0)
        return false;
    b->step = c == '\r' ? SIZE_LF : EXTENSION;
    return c == '\r' || c == ';' || c == ' ' || c == '\t';
}

static bool extension_char(struct cg_http1_body *b, char c)
{
    if (c == '\r')
        b->step = SIZE_LF;
    return c != '\n' && c != '\0' && b->line++ < 256;
}

static bool trailer_char(struct cg_http1_body *b, char c)
{
    if (c == '\r')
        b->step = TRAILER_LF;
    else
        b->line++;
    return c != '\n' && c != '\0' && b->trailers++ < CG_HTTP1_TRAILERS;
}

static void next_size(struct cg_http1_body *b)
{
    b->step = SIZE;
    b->left = 0;
    b->line = 0;
}

/* One byte of the frame around chunks. */
static enum cg_http1_got chunk_char(struct cg_http1_body *b, char c)
{
    bool fine = false;
    switch ((enum step)b->step) {
    case SIZE:
        fine = size_char(b, c);
        break;
    case EXTENSION:
        fine = extension_char(b, c);
        break;
    case SIZE_LF:
        fine = c == '\n';
        b->step = b->left > 0 ? DATA : TRAILER;
        b->line = 0;
        break;
    case DATA_CR:
        fine = c == '\r';
        b->step = DATA_LF;
        break;
    case DATA_LF:
        fine = c == '\n';
        next_size(b);
        break;
    case TRAILER:
        fine = trailer_char(b, c);
        break;
    case TRAILER_LF:
        if (c == '\n' && b->line == 0)
            return CG_HTTP1_END;
        fine = c == '\n';
        b->step = TRAILER;
        b->line = 0;
        break;
    case DATA:
        break;
    }
    return fine ? CG_HTTP1_MORE : CG_HTTP1_BAD;
}

static void take_data(struct cg_http1_body *b, struct cg_slice in, size_t *used,
                      struct cg_slice *data)
{
    size_t n = in.n - *used;
    if (b->framing != CG_HTTP1_CLOSE && n > b->left)
        n = (size_t)b->left;
    *data = (struct cg_slice){in.p + *used, n};
    *used += n;
    b->left -= b->framing != CG_HTTP1_CLOSE ? n : 0;
}

enum cg_http1_got cg_http1_body(struct cg_http1_body *b, struct cg_slice in, size_t *used,
                                struct cg_slice *data)
{
    *used = 0;
    if (b->framing == CG_HTTP1_NONE || (b->framing == CG_HTTP1_LENGTH && b->left == 0))
        return CG_HTTP1_END;
    if (b->framing != CG_HTTP1_CHUNKED) {
        take_data(b, in, used, data);
        return data->n > 0 ? CG_HTTP1_DATA : CG_HTTP1_MORE;
    }
    while (*used < in.n) {
        if (b->step == DATA) {
            take_data(b, in, used, data);
            if (b->left == 0)
                b->step = DATA_CR;
            return CG_HTTP1_DATA;
        }
        enum cg_http1_got got = chunk_char(b, in.p[(*used)++]);
        if (got != CG_HTTP1_MORE)
            return got;
    }
    return CG_HTTP1_MORE;
}
