#include "egress/dnsmsg.h"

#include <string.h>

enum { FLAG_QR = 0x8000, FLAG_RD = 0x0100, FLAG_RA = 0x0080, OPCODE = 0x7800, RCODE = 15 };
enum { RECORD = 16, CLASS_IN = 1, TYPE_OPT = 41, POINTER = 0xc0 };

static uint16_t get16(const unsigned char *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(unsigned char *p, unsigned v)
{
    p[0] = (unsigned char)(v >> 8);
    p[1] = (unsigned char)v;
}

static size_t put_char(char *out, unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        c = (unsigned char)(c - 'A' + 'a');
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
        *out = (char)c;
        return 1;
    }
    out[0] = '\\';
    out[1] = (char)('0' + c / 100);
    out[2] = (char)('0' + c / 10 % 10);
    out[3] = (char)('0' + c % 10);
    return 4;
}

/* Labels up to the root; no pointers (a question has nothing to point at). Length of the name on
 * the wire, 0 when it is none. */
static size_t take_name(const unsigned char *p, size_t n, struct cg_dns_query *out)
{
    size_t at = 0;
    size_t text = 0;
    out->plain = true;
    while (at < n && p[at] != 0) {
        size_t label = p[at];
        if (label > 63 || label >= n - at || at + label + 1 > 254)
            return 0;
        if (text > 0)
            out->name[text++] = '.';
        for (size_t i = 1; i <= label; i++) {
            size_t wrote = put_char(out->name + text, p[at + i]);
            out->plain &= wrote == 1;
            text += wrote;
        }
        at += label + 1;
    }
    if (at >= n)
        return 0;
    if (text == 0)
        out->name[text++] = '.';
    out->name[text] = '\0';
    return at + 1;
}

enum cg_dns_got cg_dns_parse(const void *bytes, size_t n, struct cg_dns_query *out,
                             enum cg_dns_rcode *rcode)
{
    const unsigned char *p = bytes;
    *out = (struct cg_dns_query){.id = 0};
    *rcode = CG_DNS_FORMERR;
    if (n < CG_DNS_HEADER)
        return CG_DNS_DROP;
    out->id = get16(p);
    out->flags = get16(p + 2);
    if (out->flags & FLAG_QR)
        return CG_DNS_DROP;
    if (out->flags & OPCODE) {
        *rcode = CG_DNS_NOTIMP;
        return CG_DNS_BAD;
    }
    /* one question, no answers; additional records (EDNS) are not looked at */
    if (get16(p + 4) != 1 || get16(p + 6) != 0 || get16(p + 8) != 0 || get16(p + 10) > 2)
        return CG_DNS_BAD;
    size_t left = n - CG_DNS_HEADER;
    size_t name = take_name(p + CG_DNS_HEADER, left, out);
    if (name == 0 || left - name < 4)
        return CG_DNS_BAD;
    out->type = get16(p + CG_DNS_HEADER + name);
    out->class_ = get16(p + CG_DNS_HEADER + name + 2);
    out->question_n = name + 4;
    return CG_DNS_QUERY;
}

size_t cg_dns_answer(const void *query, const struct cg_dns_query *q, enum cg_dns_rcode rcode,
                     const struct cg_dns_addresses *addresses, unsigned char out[CG_DNS_ANSWER_MAX])
{
    size_t n = CG_DNS_HEADER + q->question_n;
    _Static_assert(CG_DNS_HEADER + 258 + CG_DNS_ADDRESSES * RECORD <= CG_DNS_ANSWER_MAX, "fits");
    CG_ASSERT(q->question_n <= 258 && (!addresses || addresses->n <= CG_DNS_ADDRESSES));
    memset(out, 0, CG_DNS_HEADER);
    put16(out, q->id);
    put16(out + 2, FLAG_QR | (q->flags & (FLAG_RD | OPCODE)) | FLAG_RA | rcode);
    if (q->question_n == 0)
        return n;
    memcpy(out + CG_DNS_HEADER, (const unsigned char *)query + CG_DNS_HEADER, q->question_n);
    put16(out + 4, 1);
    put16(out + 6, addresses ? addresses->n : 0);
    for (unsigned i = 0; addresses && i < addresses->n; i++) {
        put16(out + n, POINTER << 8 | CG_DNS_HEADER);
        put16(out + n + 2, CG_DNS_A);
        put16(out + n + 4, CLASS_IN);
        put16(out + n + 6, addresses->ttl >> 16);
        put16(out + n + 8, addresses->ttl & 0xffff);
        put16(out + n + 10, 4);
        put16(out + n + 12, addresses->of[i] >> 16);
        put16(out + n + 14, addresses->of[i] & 0xffff);
        n += RECORD;
    }
    return n;
}

/* --- as a client --- */

size_t cg_dns_ask(uint16_t id, const char *name, unsigned char out[CG_DNS_QUERY_MAX])
{
    static const unsigned char options[] = {
        0, 0, TYPE_OPT, CG_DNS_REPLY_MAX >> 8, CG_DNS_REPLY_MAX & 255, 0, 0, 0, 0, 0, 0};
    size_t n = CG_DNS_HEADER;
    memset(out, 0, CG_DNS_HEADER);
    put16(out, id);
    put16(out + 2, FLAG_RD);
    put16(out + 4, 1);
    put16(out + 10, 1);
    while (*name) {
        size_t label = strcspn(name, ".");
        CG_ASSERT(label > 0 && label < 64 && n + label + 2 < CG_DNS_QUERY_MAX - 32);
        out[n++] = (unsigned char)label;
        memcpy(out + n, name, label);
        n += label;
        name += label + (name[label] == '.');
    }
    out[n++] = 0;
    put16(out + n, CG_DNS_A);
    put16(out + n + 2, CLASS_IN);
    memcpy(out + n + 4, options, sizeof options);
    return n + 4 + sizeof options;
}

/* The length of a name in an answer, which may end in a pointer; 0: it is none. */
static size_t skip_name(const unsigned char *p, size_t n)
{
    size_t at = 0;
    while (at < n && p[at] != 0) {
        if ((p[at] & POINTER) == POINTER)
            return at + 2 <= n ? at + 2 : 0;
        if (p[at] & POINTER)
            return 0;
        at += (size_t)p[at] + 1;
    }
    return at < n ? at + 1 : 0;
}

/* One record of the answer section. Returns its length, 0: it is none. */
static size_t take_record(const unsigned char *p, size_t n, struct cg_dns_addresses *out)
{
    size_t name = skip_name(p, n);
    if (name == 0 || n - name < 10)
        return 0;
    p += name;
    size_t data = get16(p + 8);
    if (n - name - 10 < data)
        return 0;
    uint32_t ttl = (uint32_t)get16(p + 4) << 16 | get16(p + 6);
    out->ttl = CG_MIN(out->ttl, ttl);
    if (get16(p) == CG_DNS_A && get16(p + 2) == CLASS_IN && data == 4 && out->n < CG_DNS_ADDRESSES)
        out->of[out->n++] = (uint32_t)get16(p + 10) << 16 | get16(p + 12);
    return name + 10 + data;
}

bool cg_dns_take(const void *bytes, size_t n, uint16_t id, const char *name,
                 enum cg_dns_rcode *rcode, struct cg_dns_addresses *out)
{
    const unsigned char *p = bytes;
    struct cg_dns_query q = {.id = 0};
    *out = (struct cg_dns_addresses){.ttl = INT32_MAX};
    if (n < CG_DNS_HEADER || get16(p) != id || !(get16(p + 2) & FLAG_QR) ||
        (get16(p + 2) & OPCODE) || get16(p + 4) != 1)
        return false;
    size_t length = take_name(p + CG_DNS_HEADER, n - CG_DNS_HEADER, &q);
    size_t at = CG_DNS_HEADER + length + 4;
    if (length == 0 || at > n || strcmp(q.name, name) != 0 || get16(p + at - 4) != CG_DNS_A ||
        get16(p + at - 2) != CLASS_IN)
        return false;
    *rcode = (enum cg_dns_rcode)(get16(p + 2) & RCODE);
    for (unsigned i = 0; i < get16(p + 6); i++) {
        size_t used = take_record(p + at, n - at, out);
        if (used == 0) /* cut short: what came is good */
            break;
        at += used;
    }
    return true;
}

void cg_dns_type_name(uint16_t type, char out[16])
{
    static const struct {
        uint16_t type;
        const char *name;
    } names[] = {{1, "A"},    {2, "NS"},    {5, "CNAME"},  {6, "SOA"},
                 {12, "PTR"}, {15, "MX"},   {16, "TXT"},   {28, "AAAA"},
                 {33, "SRV"}, {64, "SVCB"}, {65, "HTTPS"}, {255, "ANY"}};
    for (size_t i = 0; i < CG_COUNT(names); i++)
        if (names[i].type == type) {
            cg_snprintf(out, 16, "%s", names[i].name);
            return;
        }
    cg_snprintf(out, 16, "TYPE%u", type);
}
