#include "api/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { LINES_MAX = 20000 };
static const double cost_max = 1e6;

/* The member that a dotted path names. */
static const struct cg_json *at(const struct cg_json *j, const char *path)
{
    char name[64];
    while (path && *path && j) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof name)
            return NULL;
        memcpy(name, path, n);
        name[n] = '\0';
        j = cg_json_get(j, name);
        path += n + (path[n] == '.');
    }
    return j;
}

static const struct cg_json *find(const struct cg_agent *a, const char *key,
                                  const struct cg_json *j)
{
    const char *path = cg_agent_report(a, key);
    return path ? at(j, path) : NULL;
}

static bool count(const struct cg_json *v, int64_t *sum)
{
    if (!v || v->type != CG_JSON_INT || v->integer < 0 || v->integer > INT32_MAX)
        return false;
    *sum = CG_MIN(*sum + v->integer, (int64_t)1 << 50);
    return true;
}

static void take(const struct cg_agent *a, const struct cg_json *j, struct report *r)
{
    const struct cg_json *text = find(a, "text", j);
    const struct cg_json *cost = find(a, "cost_usd", j);
    const struct cg_json *turns = find(a, "turns", j);
    if (text && text->type == CG_JSON_STR) {
        free(r->text);
        r->text = cg_slice_dup(text->str);
    }
    if (cost && (cost->type == CG_JSON_INT || cost->type == CG_JSON_NUM) && cost->number >= 0 &&
        cost->number <= cost_max) {
        r->has_cost = true;
        r->cost_usd = cost->number;
    }
    if (turns && turns->type == CG_JSON_INT) {
        r->has_turns = true;
        r->turns = turns->integer;
    }
    r->has_tokens |= count(find(a, "tokens_in", j), &r->tokens_in);
    r->has_tokens |= count(find(a, "tokens_out", j), &r->tokens_out);
}

void report_read(const struct cg_agent *a, struct cg_slice output, struct report *r)
{
    const struct cg_json_limits limits = {4 << 20, 64, 65536};
    const char *p = output.p;
    const char *end = output.p + output.n;
    *r = (struct report){.any = false};
    for (unsigned lines = 0; a->report.n && p < end && lines < LINES_MAX; lines++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        stop = stop ? stop : end;
        CG_OWN(cg_drop_json)
        struct cg_json *j =
            *p == '{' ? cg_json_parse((struct cg_slice){p, (size_t)(stop - p)}, &limits, NULL)
                      : NULL;
        if (j && j->type == CG_JSON_OBJ) {
            r->any = true;
            take(a, j, r);
        }
        p = stop + 1;
    }
}

void report_finish(struct report *r)
{
    free(r->text);
    *r = (struct report){.any = false};
}
