/* The head of a line has fixed members in a fixed order, so that it is read without a JSON parser:
 * recovery and the search by sequence number look at nothing else. */
#include "record/line.h"

#include <string.h>

static const char *const type_names[CG_REC_TYPE_COUNT] = {
    [CG_REC_LIFECYCLE] = "lifecycle",
    [CG_REC_COMMAND] = "command",
    [CG_REC_PROCESS] = "process",
    [CG_REC_FILE_OP] = "file_op",
    [CG_REC_TERMINAL] = "terminal",
    [CG_REC_NETWORK] = "network",
    [CG_REC_DNS] = "dns",
    [CG_REC_PORT] = "port",
    [CG_REC_GAP] = "gap",
    [CG_REC_ERROR] = "error",
    [CG_REC_CLAIM] = "claim",
    [CG_REC_TRUST] = "trust",
    [CG_REC_LLM_CALL] = "llm_call",
    [CG_REC_COST] = "cost",
    [CG_REC_SESSION] = "session",
    [CG_REC_CONTENT] = "content",
};

static const char *const src_names[CG_SRC_COUNT] = {
    [CG_SRC_HOST] = "host",
    [CG_SRC_GUEST] = "guest",
    [CG_SRC_CLAIM] = "claim",
    [CG_SRC_SERVER] = "server",
};

const char *cg_record_type_name(enum cg_record_type t)
{
    CG_ASSERT(t < CG_REC_TYPE_COUNT);
    return type_names[t];
}

bool cg_record_type_parse(struct cg_slice name, enum cg_record_type *out)
{
    for (unsigned i = 0; i < CG_REC_TYPE_COUNT; i++) {
        if (cg_slice_eq(name, type_names[i])) {
            *out = (enum cg_record_type)i;
            return true;
        }
    }
    return false;
}

const char *cg_record_src_name(enum cg_record_src s)
{
    CG_ASSERT(s < CG_SRC_COUNT);
    return src_names[s];
}

bool cg_record_type_bulk(enum cg_record_type t)
{
    return t == CG_REC_PROCESS || t == CG_REC_FILE_OP || t == CG_REC_TERMINAL ||
           t == CG_REC_NETWORK || t == CG_REC_DNS || t == CG_REC_PORT || t == CG_REC_CONTENT;
}

static bool session_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

bool cg_record_session_valid(const char *session)
{
    if (!cg_has_prefix(session, "sess-"))
        return false;
    size_t n = strlen(session);
    for (size_t i = 0; i < n; i++)
        if (!session_char(session[i]))
            return false;
    return n > 5 && n <= 45;
}

static bool take(struct cg_slice *in, const char *literal)
{
    size_t n = strlen(literal);
    if (in->n < n || memcmp(in->p, literal, n) != 0)
        return false;
    in->p += n;
    in->n -= n;
    return true;
}

static bool take_number(struct cg_slice *in, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = 0;
    for (; n < in->n && in->p[n] >= '0' && in->p[n] <= '9'; n++) {
        unsigned digit = (unsigned)(in->p[n] - '0');
        if (v > (max - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    if (n == 0 || (n > 1 && in->p[0] == '0'))
        return false;
    in->p += n;
    in->n -= n;
    *out = v;
    return true;
}

/* Up to the closing quote, which is taken too. Names and times hold no escapes. */
static bool take_word(struct cg_slice *in, size_t max, struct cg_slice *out)
{
    size_t n = 0;
    for (; n < in->n && in->p[n] != '"'; n++)
        if (n == max || in->p[n] <= 0x20 || in->p[n] > 0x7e || in->p[n] == '\\')
            return false;
    if (n == 0 || n == in->n)
        return false;
    *out = (struct cg_slice){in->p, n};
    in->p += n + 1;
    in->n -= n + 1;
    return true;
}

/* Eight bytes at a time: every line that is read passes here. */
static bool has_control(struct cg_slice s)
{
    const uint64_t ones = UINT64_MAX / 255;
    uint64_t found = 0;
    size_t i = 0;
    for (; i + sizeof found <= s.n; i += sizeof found) {
        uint64_t x;
        memcpy(&x, s.p + i, sizeof x);
        found |= (x - ones * 0x20) & ~x & ones * 0x80; /* a byte below 0x20 is in it */
    }
    for (; i < s.n; i++)
        found |= (unsigned char)s.p[i] < 0x20;
    return found != 0;
}

bool cg_record_line_parse(struct cg_slice text, struct cg_record_line *out)
{
    *out = (struct cg_record_line){.seq = 0};
    struct cg_slice in = text;
    uint64_t t = 0;
    if (text.n >= CG_RECORD_LINE_MAX || has_control(text))
        return false;
    if (!take(&in, "{\"seq\":") || !take_number(&in, UINT64_MAX / 2, &out->seq) ||
        !take(&in, ",\"t\":") || !take_number(&in, INT64_MAX, &t) || !take(&in, ",\"ts\":\"") ||
        !take_word(&in, 40, &out->ts) || !take(&in, ",\"type\":\"") ||
        !take_word(&in, 40, &out->type) || !take(&in, ",\"src\":\"") ||
        !take_word(&in, 40, &out->src) || !take(&in, ",\"session\":"))
        return false;
    if (!take(&in, "null") && (!take(&in, "\"") || !take_word(&in, 48, &out->session)))
        return false;
    if (!take(&in, ",\"data\":") || in.n < 3 || in.p[0] != '{' || in.p[in.n - 1] != '}' ||
        in.p[in.n - 2] != '}')
        return false;
    out->t = (int64_t)t;
    out->data = (struct cg_slice){in.p, in.n - 1};
    return out->seq > 0;
}
