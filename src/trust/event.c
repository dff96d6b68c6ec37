#include "trust/event.h"

#include <string.h>

struct scan {
    const char *p, *end;
};

/* Behind a string; p is at its opening quote. False when it does not end. */
static bool skip_text(struct scan *s)
{
    for (s->p++; s->p < s->end; s->p++) {
        if (*s->p == '\\')
            s->p++;
        else if (*s->p == '"')
            break;
    }
    if (s->p >= s->end)
        return false;
    s->p++;
    return true;
}

/* Behind a value: up to the comma or bracket of the same level. */
static bool skip_value(struct scan *s)
{
    int level = 0;
    while (s->p < s->end) {
        char c = *s->p;
        if (c == '"') {
            if (!skip_text(s))
                return false;
            continue;
        }
        if (level == 0 && (c == ',' || c == '}' || c == ']'))
            return true;
        level += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
        s->p++;
    }
    return false;
}

static bool read_members(struct cg_event *e, struct cg_slice data)
{
    struct scan s = {data.p + 1, data.p + data.n};
    if (s.p < s.end && *s.p == '}')
        return true;
    while (s.p < s.end && *s.p == '"') {
        const char *key = s.p + 1;
        if (!skip_text(&s) || s.p >= s.end || *s.p != ':')
            return false;
        struct cg_slice name = {key, (size_t)(s.p - 1 - key)};
        const char *value = ++s.p;
        if (!skip_value(&s))
            return false;
        if (e->nmembers < CG_EVENT_MEMBERS)
            e->member[e->nmembers++] =
                (struct cg_event_member){name, {value, (size_t)(s.p - value)}, NULL};
        if (*s.p == '}')
            return true;
        s.p++;
    }
    return false;
}

bool cg_event_read(struct cg_event *e, const struct cg_record_line *line)
{
    e->nmembers = 0;
    e->used = 0;
    e->seq = line->seq;
    e->t = line->t;
    e->claim = cg_slice_eq(line->src, "claim");
    if (!cg_record_type_parse(line->type, &e->type))
        return false;
    size_t n = CG_MIN(line->session.n, sizeof e->session - 1);
    if (n > 0)
        memcpy(e->session, line->session.p, n);
    e->session[n] = '\0';
    return read_members(e, line->data);
}

static int find(const struct cg_event *e, const char *key)
{
    for (unsigned i = 0; i < e->nmembers; i++)
        if (cg_slice_eq(e->member[i].key, key))
            return (int)i;
    return -1;
}

bool cg_event_has(const struct cg_event *e, const char *key)
{
    return find(e, key) >= 0;
}

static unsigned hex4(const char *p)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        v = v * 16 + (unsigned)(c >= '0' && c <= '9'   ? c - '0'
                                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                       : 0);
    }
    return v;
}

static char *put_utf8(char *out, unsigned v)
{
    if (v < 0x80) {
        *out++ = (char)v;
    } else if (v < 0x800) {
        *out++ = (char)(0xc0 | (v >> 6));
        *out++ = (char)(0x80 | (v & 0x3f));
    } else {
        *out++ = (char)(0xe0 | (v >> 12));
        *out++ = (char)(0x80 | ((v >> 6) & 0x3f));
        *out++ = (char)(0x80 | (v & 0x3f));
    }
    return out;
}

/* A raw JSON string, decoded into the scratch. A pair of surrogates gives six bytes that are no
 * UTF-8: no rule looks for such characters, and an escape never gives more bytes than it has. */
static const char *decode(struct cg_event *e, struct cg_slice raw)
{
    static const char from[] = "bfnrt";
    static const char to[] = "\b\f\n\r\t";
    if (raw.n < 2 || raw.p[0] != '"' || e->used + raw.n > CG_EVENT_SCRATCH)
        return NULL;
    char *start = e->scratch + e->used;
    char *out = start;
    const char *end = raw.p + raw.n - 1;
    for (const char *p = raw.p + 1; p < end; p++) {
        if (*p != '\\' || p + 1 >= end) {
            *out++ = *p;
            continue;
        }
        const char *at = strchr(from, *++p);
        if (*p == 'u' && end - p > 4) {
            unsigned v = hex4(p + 1);
            out = v ? put_utf8(out, v) : out;
            p += 4;
        } else {
            *out++ = at ? to[at - from] : *p;
        }
    }
    *out++ = '\0';
    e->used += (size_t)(out - start);
    return start;
}

const char *cg_event_text(struct cg_event *e, const char *key)
{
    int at = find(e, key);
    if (at >= 0 && !e->member[at].text)
        e->member[at].text = decode(e, e->member[at].value);
    return at >= 0 ? e->member[at].text : NULL;
}

int64_t cg_event_int(struct cg_event *e, const char *key, int64_t fallback)
{
    int at = find(e, key);
    const struct cg_slice *raw = at >= 0 ? &e->member[at].value : NULL;
    int64_t v = 0;
    size_t i = 0;
    if (!raw || raw->n == 0 || raw->n > 20)
        return fallback;
    bool minus = raw->p[0] == '-';
    for (i = minus; i < raw->n && raw->p[i] >= '0' && raw->p[i] <= '9'; i++) {
        if (v > (INT64_MAX - 9) / 10)
            return fallback;
        v = v * 10 + (raw->p[i] - '0');
    }
    return i == raw->n && i > (size_t)minus ? (minus ? -v : v) : fallback;
}

int cg_event_texts(struct cg_event *e, const char *key, const char **out, int max)
{
    int at = find(e, key);
    const struct cg_slice *raw = at >= 0 ? &e->member[at].value : NULL;
    int n = 0;
    if (!raw || raw->n < 2 || raw->p[0] != '[')
        return 0;
    struct scan s = {raw->p + 1, raw->p + raw->n};
    while (s.p < s.end && *s.p == '"' && n < max) {
        const char *from = s.p;
        if (!skip_text(&s))
            break;
        const char *text = decode(e, (struct cg_slice){from, (size_t)(s.p - from)});
        if (!text)
            break;
        out[n++] = text;
        if (s.p < s.end && *s.p == ',')
            s.p++;
    }
    return n;
}
