#include "egress/dnsmsg.h"

#include <string.h>

enum { FLAG_QR = 0x8000, FLAG_RD = 0x0100, FLAG_RA = 0x0080, OPCODE = 0x7800, TTL = 60 };

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
                     const uint32_t *address, unsigned char out[CG_DNS_ANSWER_MAX])
{
    static const unsigned char record[] = {0xc0, CG_DNS_HEADER, 0, 1, 0, 1, 0, 0, 0, TTL, 0, 4};
    size_t n = CG_DNS_HEADER + q->question_n;
    CG_ASSERT(n + sizeof record + 4 <= CG_DNS_ANSWER_MAX);
    memset(out, 0, CG_DNS_HEADER);
    put16(out, q->id);
    put16(out + 2, FLAG_QR | (q->flags & (FLAG_RD | OPCODE)) | FLAG_RA | rcode);
    if (q->question_n == 0)
        return n;
    memcpy(out + CG_DNS_HEADER, (const unsigned char *)query + CG_DNS_HEADER, q->question_n);
    put16(out + 4, 1);
    if (!address)
        return n;
    put16(out + 6, 1);
    memcpy(out + n, record, sizeof record);
    n += sizeof record;
    put16(out + n, *address >> 16);
    put16(out + n + 2, *address & 0xffff);
    return n + 4;
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
