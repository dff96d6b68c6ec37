/* The sandbox's network policy while it runs: told, and changed. A change holds for what is open
 * too. The server keeps it; the next warden finds it in config.json. */
#include "egress/lists.h"
#include "intercept/intercept.h"
#include "warden/up.h"

static void write_policy(const struct warden *w, struct cg_jsonw *j)
{
    const struct cg_egress_policy *p = &w->config.network;
    cg_egress_write_lists(p, j);
    cg_jsonw_key(j, "operator");
    cg_jsonw_arr(j);
    for (unsigned i = 0; i < p->nrules; i++) {
        char text[CG_EGRESS_RULE_TEXT];
        cg_egress_rule_format(&p->rules[i], text);
        cg_jsonw_str(j, text);
    }
    cg_jsonw_arr_end(j);
}

static bool change(struct warden *w, const struct cg_json *rules, struct cg_err *e)
{
    if (!cg_egress_read_lists(rules, &w->config.network, e))
        return false;
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_NETWORK, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", "policy");
    cg_egress_write_lists(&w->config.network, j);
    cg_record_end(w->record);
    if (w->egress)
        cg_egress_policy_changed(w->egress);
    if (w->intercept)
        cg_intercept_policy_changed(w->intercept);
    return true;
}

void network_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                  const struct cg_json *request)
{
    const struct cg_json *rules = cg_json_get(request, "rules");
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    struct up u;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    if (rules && !change(w, rules, &e)) {
        refuse(c, s, e.code, e.text);
        return;
    }
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    write_policy(w, &j);
    cg_jsonw_obj_end(&j);
    up_init(&u, NULL, c, s);
    if (b.full)
        up_close_error(&u, CG_TOO_LARGE, "the policy is too large to be told");
    else
        up_close(&u, cg_buf_slice(&b));
}
