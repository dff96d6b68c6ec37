/* Fuzz body of the policy: the first line is a rule, the second a name, the third numbers. What
 * parses has one written form; a special address is never let through by anything a user says; and
 * a denied name is denied at whatever port and sight. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "egress/judge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct cg_egress_policy policy;

static void check_form(const struct cg_egress_pattern *r)
{
    struct cg_egress_pattern again;
    char text[CG_EGRESS_PATTERN_TEXT];
    char twice[CG_EGRESS_PATTERN_TEXT];
    cg_egress_pattern_format(r, text);
    CG_ASSERT(cg_egress_pattern_parse(text, &again, NULL));
    cg_egress_pattern_format(&again, twice);
    CG_ASSERT(strcmp(text, twice) == 0);
}

static void check_verdicts(const char *name, uint32_t address, uint16_t port)
{
    const char *const names[] = {name};
    const struct cg_egress_ask a = {.address = address, .port = port, .names = names, .nnames = 1};
    for (int mode = CG_EGRESS_NONE; mode <= CG_EGRESS_FULL; mode++) {
        policy.mode = (enum cg_egress_mode)mode;
        struct cg_egress_verdict first = cg_egress_judge(&policy, &a);
        CG_ASSERT(first.rule[0]);
        CG_ASSERT(!first.allow || (!cg_egress_special(address) && port > 0 && mode));
        for (int sight = CG_SIGHT_TLS; sight <= CG_SIGHT_SILENT; sight++) {
            bool named = sight == CG_SIGHT_TLS || sight == CG_SIGHT_HTTP;
            struct cg_egress_verdict v = cg_egress_judge_sight(
                &policy, &a, (enum cg_egress_sight)sight, named ? name : NULL);
            CG_ASSERT(!v.allow || first.allow);
            CG_ASSERT(!v.look || !v.allow);
            bool denied = policy.ndeny > 0 && !policy.deny[0].port &&
                          cg_egress_pattern_fits_name(&policy.deny[0], name);
            CG_ASSERT(!named || !denied || !v.allow);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char text[600];
    char name[CG_EGRESS_NAME];
    struct cg_egress_pattern r;
    if (n >= sizeof text)
        return 0;
    memcpy(text, data, n);
    text[n] = '\0';
    char *second = strchr(text, '\n');
    if (second)
        *second++ = '\0';
    char *third = second ? strchr(second, '\n') : NULL;
    if (third)
        *third++ = '\0';
    memset(&policy, 0, sizeof policy);
    if (!cg_egress_pattern_parse(text, &r, NULL))
        return 0;
    check_form(&r);
    if (!second || !cg_egress_name_parse(second, name))
        return 0;
    unsigned long long numbers = third ? strtoull(third, NULL, 16) : 0;
    policy.allow[policy.nallow++] = r;
    check_verdicts(name, (uint32_t)numbers, (uint16_t)(numbers >> 32));
    policy.deny[policy.ndeny++] = r;
    check_verdicts(name, (uint32_t)numbers, (uint16_t)(numbers >> 32));
    return 0;
}
