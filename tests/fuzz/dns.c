/* Fuzz body of the resolver's messages: an answer is to the question asked, small, and holds no
 * address that nobody gave it. */
#include <stdint.h>
#include <string.h>

#include "egress/dnsmsg.h"
#include "egress/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct cg_dns_query q;
    enum cg_dns_rcode rcode;
    unsigned char out[CG_DNS_ANSWER_MAX];
    const struct cg_dns_addresses some = {{0x01020304, 0x05060708}, 2, 300};
    struct cg_dns_addresses taken;
    char type[16];
    char name[CG_EGRESS_NAME];

    if (n >= 2 &&
        cg_dns_take(data, n, (uint16_t)(data[0] << 8 | data[1]), "example.com", &rcode, &taken))
        CG_ASSERT(taken.n <= CG_DNS_ADDRESSES && rcode <= 15);
    enum cg_dns_got got = cg_dns_parse(data, n, &q, &rcode);
    if (got == CG_DNS_DROP)
        return 0;
    CG_ASSERT(n >= CG_DNS_HEADER);
    size_t length = cg_dns_answer(data, &q, got == CG_DNS_BAD ? rcode : CG_DNS_NXDOMAIN,
                                  got == CG_DNS_QUERY ? &some : NULL, out);
    CG_ASSERT(length >= CG_DNS_HEADER && length <= sizeof out);
    CG_ASSERT(memcmp(out, data, 2) == 0 && (out[2] & 0x80));
    if (got == CG_DNS_BAD)
        return 0;
    CG_ASSERT(memcmp(out + CG_DNS_HEADER, data + CG_DNS_HEADER, q.question_n) == 0);
    CG_ASSERT(length == CG_DNS_HEADER + q.question_n + 32);
    CG_ASSERT(strlen(q.name) > 0 && strlen(q.name) < CG_DNS_TEXT);
    for (const char *c = q.name; *c; c++)
        CG_ASSERT(*c > 0x20 && *c < 0x7f);
    /* a plain name is one that the policy could hold, and the other way round */
    if (strcmp(q.name, ".") != 0)
        CG_ASSERT(cg_egress_name_parse(q.name, name) == q.plain &&
                  (!q.plain || strcmp(name, q.name) == 0));
    cg_dns_type_name(q.type, type);
    return 0;
}
