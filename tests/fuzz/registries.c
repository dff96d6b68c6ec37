/* Fuzz body of what is read out of a template's configuration of package managers, which is
 * anybody's: the first line is the word that counts, the rest the file. Whatever stands there, what
 * comes out is rules for one name and one port each, in one form, without doubles, bounded. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "egress/policy.h"
#include "egress/registries.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_rule(const char *rule)
{
    struct cg_egress_pattern p;
    char text[CG_EGRESS_PATTERN_TEXT];
    CG_ASSERT(cg_egress_pattern_parse(rule, &p, NULL));
    CG_ASSERT(!p.below && !p.every_port && (p.port || p.net.port));
    CG_ASSERT(p.name[0] || p.net.prefix == 32);
    cg_egress_pattern_format(&p, text);
    CG_ASSERT(strcmp(text, rule) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    CG_OWN(cg_drop_free) char *text = cg_alloc(n + 1);
    CG_OWN(cg_drop_buf) struct cg_buf out;
    cg_buf_init(&out, 32 * 1024);
    memcpy(text, data, n);
    char *rest = strchr(text, '\n');
    if (!rest)
        return 0;
    *rest++ = '\0';
    cg_registries_scan(rest, text, &out);
    cg_registries_scan(rest, "", &out);
    unsigned count = 0;
    for (size_t at = 0; at < out.n; at += strlen(out.p + at) + 1, count++) {
        check_rule(out.p + at);
        for (size_t to = 0; to < at; to += strlen(out.p + to) + 1)
            CG_ASSERT(strcmp(out.p + to, out.p + at) != 0);
    }
    CG_ASSERT(count <= CG_REGISTRIES_HOSTS);
    return 0;
}
