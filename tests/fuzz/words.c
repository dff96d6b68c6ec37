/* Fuzz body of the shell's words and of the trust engine over them: whatever a guest's command line
 * says, the tables stay within their bounds and point into themselves, and the same text gives the
 * same score twice. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"
#include "trust/trust.h"
#include "trust/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char rules[] =
    "rules:\n"
    "- {id: a, points: 5, cap: 50, explain: x, when: [{command: {program: [sh], input: [curl], "
    "stdin: 1}}, {command: {program: [sh, eval], feeds: [curl]}}]}\n"
    "- {id: b, points: 1, cap: 50, explain: x, when: [{command: {program: [rm], flags: ['-r'], "
    "args: ['/*']}}, {command: {redirect: ['/dev/*']}}, {command: {vars: ['*TOKEN*']}}]}\n";

static struct cg_sh sh;
static struct cg_pack *pack;

static bool in_text(const char *s)
{
    return s >= sh.text && s < sh.text + CG_SH_TEXT &&
           memchr(s, 0, (size_t)(sh.text + CG_SH_TEXT - s));
}

static void check_tables(void)
{
    int words = 0;
    CG_ASSERT(sh.ncommands <= CG_SH_COMMANDS && sh.nwords <= CG_SH_WORDS);
    CG_ASSERT(sh.nredirects <= CG_SH_REDIRECTS && sh.nvars <= CG_SH_VARS && sh.used <= CG_SH_TEXT);
    for (int i = 0; i < sh.ncommands; i++) {
        const struct cg_sh_command *c = &sh.command[i];
        CG_ASSERT(c->host < sh.ncommands && c->host >= -1);
        CG_ASSERT(c->input_from >= 0 && c->input_from <= c->input_to &&
                  c->input_to <= sh.ncommands);
        for (int w = c->first; w >= 0; w = sh.word[w].next) {
            CG_ASSERT(w < sh.nwords && in_text(sh.word[w].text) && ++words <= CG_SH_WORDS);
        }
    }
    for (int i = 0; i < sh.nredirects; i++)
        CG_ASSERT(sh.redirect[i].command < sh.ncommands && in_text(sh.redirect[i].text));
    for (int i = 0; i < sh.nvars; i++)
        CG_ASSERT(sh.var[i].command < sh.ncommands && in_text(sh.var[i].name));
}

static void ignore(void *ctx, const struct cg_trust_deduction *d)
{
    (void)ctx;
    CG_ASSERT(d->nevidence > 0 && d->nevidence <= CG_TRUST_EVIDENCE && d->points <= d->rule->cap);
}

static uint32_t score(const uint8_t *data, size_t n)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    struct cg_record_line line;
    struct cg_trust *t = cg_trust_create(pack, NULL, ignore, NULL);
    cg_buf_init(&b, CG_RECORD_LINE_MAX - 1);
    cg_buf_adds(&b,
                "{\"seq\":1,\"t\":5,\"ts\":\"2026-01-02T03:04:05.678901Z\",\"type\":\"command\","
                "\"src\":\"host\",\"session\":null,\"data\":");
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "phase", "start");
    cg_jsonw_kstrn(&w, "shell", (const char *)data, n);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(&b, '}');
    if (!b.full && cg_record_line_parse(cg_buf_slice(&b), &line))
        cg_trust_line(t, &line);
    uint32_t left = cg_trust_score(t);
    cg_trust_destroy(t);
    return left;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!pack)
        pack = cg_pack_read("rules", cg_slice_of(rules), NULL, (struct cg_slice){"", 0}, NULL);
    CG_ASSERT(pack);
    cg_sh_parse(&sh, (struct cg_slice){(const char *)data, n});
    check_tables();
    CG_ASSERT(score(data, n) == score(data, n));
    return 0;
}
