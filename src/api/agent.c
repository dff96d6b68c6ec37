/* run-agent: a prompt for a coding agent in a sandbox. The command is the profile's; when it has
 * ended, what the agent says it cost stands beside what was metered, in the answer and, as a claim,
 * in the record. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "api/report.h"
#include "base/money.h"

enum { OUTPUT_MAX = 8 << 20, PROMPT_MAX = 96 * 1024, SCRIPT_MAX = 64 * 1024, PROVIDER_MAX = 32 };

struct run {
    struct cg_agents all;
    const struct cg_agent *agent;
    struct cg_buf out, err; /* op->a holds both as they came */
    struct report report;
    int64_t nusd_before, nusd_after;
    int64_t calls;
    int64_t exit_code, duration_ns;
    bool timed_out;
    char signal[32];
};

static void keep(struct op *op, struct cg_buf *b, struct cg_slice bytes)
{
    size_t room = b->max - b->n;
    if (bytes.n > room) {
        op->truncated = true;
        bytes.n = room;
    }
    cg_buf_add(b, bytes.p, bytes.n);
}

static void on_data(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    struct run *n = op->own;
    keep(op, &op->a, bytes);
    keep(op, channel == CG_LINK_STDERR ? &n->err : &n->out, bytes);
    cg_wcall_grant(call, bytes.n);
}

static void finish(struct op *op)
{
    struct run *n = op->own;
    if (!n)
        return;
    cg_agents_finish(&n->all);
    report_finish(&n->report);
    cg_buf_finish(&n->out);
    cg_buf_finish(&n->err);
    free(n);
    op->own = NULL;
}

/* --- the end, from the last step to the first --- */

static void write_claim(const struct run *n, struct cg_jsonw *w)
{
    const struct report *r = &n->report;
    int64_t metered = n->nusd_after - n->nusd_before;
    if (r->has_cost)
        cg_jsonw_knum(w, "cost_usd", r->cost_usd);
    if (r->has_tokens) {
        cg_jsonw_kint(w, "tokens_in", r->tokens_in);
        cg_jsonw_kint(w, "tokens_out", r->tokens_out);
    }
    if (r->has_turns)
        cg_jsonw_kint(w, "turns", r->turns);
    cg_jsonw_knum(w, "metered_usd", cg_money_usd(metered));
    if (r->has_cost)
        cg_jsonw_knum(w, "difference_usd", cg_money_usd(cg_money_from_usd(r->cost_usd) - metered));
}

static void answer(struct op *op)
{
    const struct run *n = op->own;
    const struct report *r = &n->report;
    struct cg_jsonw *w = op_json(op);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "agent", n->agent->name);
    if (r->text)
        cg_jsonw_kstr(w, "output", r->text);
    else
        cg_jsonw_kstrn(w, "output", op->a.p, op->a.n);
    cg_jsonw_kint(w, "exit_code", n->exit_code);
    cg_jsonw_kstrn(w, "stdout", n->out.p, n->out.n);
    cg_jsonw_kstrn(w, "stderr", n->err.p, n->err.n);
    cg_jsonw_kbool(w, "truncated", op->truncated);
    cg_jsonw_kbool(w, "timed_out", n->timed_out);
    cg_jsonw_kstr(w, "signal", n->signal[0] ? n->signal : NULL);
    cg_jsonw_knum(w, "duration_ms", (double)n->duration_ns / 1e6);
    cg_jsonw_kint(w, "llm_calls", n->calls);
    cg_jsonw_knum(w, "llm_cost", cg_money_usd(n->nusd_after - n->nusd_before));
    if (r->has_cost || r->has_tokens) {
        cg_jsonw_key(w, "claim");
        cg_jsonw_obj(w);
        write_claim(n, w);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_obj_end(w);
    op_send_json(op, 200);
}

/* A claim that cannot be recorded any more is still answered: the sandbox may just have ended. */
static void on_claimed(struct cg_wcall *call, const struct cg_json *result,
                       const struct cg_err *error)
{
    (void)result;
    (void)error;
    answer(CG_CONTAINER(call, struct op, call));
}

static void record_claim(struct op *op)
{
    const struct run *n = op->own;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "append");
    cg_jsonw_kstr(&w, "type", "claim");
    cg_jsonw_key(&w, "data");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "event", "agent_report");
    cg_jsonw_kstr(&w, "agent", n->agent->name);
    cg_jsonw_kint(&w, "exit_code", n->exit_code);
    write_claim(n, &w);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    op->call = (struct cg_wcall){.on_close = on_claimed};
    if (!n->report.has_cost && !n->report.has_tokens)
        answer(op);
    else if (!op->sb->warden || !cg_wcall_open(op->sb->warden, &op->call, cg_buf_slice(&b), NULL))
        answer(op);
}

/* The guard ends the sandbox, and the agent with it: that is worth its own words. */
static void fail_run(struct op *op, const struct cg_err *error)
{
    const struct cg_sandbox *sb = op->sb;
    bool paused = cg_streq(sb->pause_reason, "budget_exceeded");
    if (sb->spec.has_budget && (sb->guarded || sb->keep_disk || paused || !error))
        op_problem(op, 402, "budget_exceeded",
                   "the budget of $%.2f is used up ($%.4f went to models, another call cannot be "
                   "paid): sandbox %s is %s, its work is kept",
                   cg_money_usd(sb->spec.budget_nusd), cg_money_usd(sb->llm_nusd), sb->id,
                   paused ? "paused" : "ended");
    else
        op_fail(op, error);
}

/* Calls that went to a model. */
static int64_t calls_of(const struct cg_json *costs)
{
    return cg_json_int(costs, "calls", 0) - cg_json_int(costs, "refused", 0);
}

static void on_costs(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    struct run *n = op->own;
    const struct cg_json *costs = cg_json_get(result, "costs");
    n->nusd_after = error ? op->sb->llm_nusd : cg_json_int(costs, "llm_nusd", op->sb->llm_nusd);
    n->calls = error ? 0 : calls_of(costs) - n->calls;
    if (n->exit_code != 0 && (op->sb->keep_disk || cg_json_bool(costs, "exceeded", false)))
        fail_run(op, error); /* it gave up when its call was refused; the end is under way */
    else
        record_claim(op);
}

static bool ask_costs(struct op *op, void (*then)(struct cg_wcall *, const struct cg_json *,
                                                  const struct cg_err *))
{
    op->call = (struct cg_wcall){.on_close = then};
    return op->sb->warden &&
           cg_wcall_open(op->sb->warden, &op->call, cg_slice_of("{\"kind\":\"status\"}"), NULL);
}

static void on_ended(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    struct run *n = op->own;
    const char *signal = cg_json_str(result, "signal");
    if (error) {
        fail_run(op, error);
        return;
    }
    n->exit_code = cg_json_int(result, "exit_code", -1);
    n->duration_ns = cg_json_int(result, "duration_ns", 0);
    n->timed_out = cg_json_bool(result, "timed_out", false);
    cg_strlcpy(n->signal, sizeof n->signal, signal ? signal : "");
    report_read(n->agent, cg_buf_slice(&n->out), &n->report);
    n->nusd_after = op->sb->llm_nusd;
    if (!ask_costs(op, on_costs))
        record_claim(op);
}

/* --- the begin --- */

static void on_ready(struct cg_wcall *call, const struct cg_json *result,
                     const struct cg_err *error)
{
    struct op *op = CG_CONTAINER(call, struct op, call);
    struct run *n = op->own;
    const struct cg_json *costs = cg_json_get(result, "costs");
    if (error) {
        op_fail(op, error);
        return;
    }
    n->nusd_before = cg_json_int(costs, "llm_nusd", op->sb->llm_nusd);
    n->calls = calls_of(costs);
    op->call = (struct cg_wcall){.on_data = on_data, .on_close = on_ended};
    if (!op_call(op, &op->b))
        return;
    cg_buf_finish(&op->b);
}

struct wish {
    const char *agent, *prompt, *model, *user, *cwd, *session, *provider;
    const struct cg_json *env;
    int64_t timeout_ms;
};

static bool read_wish(const struct cg_json *b, struct wish *o, struct cg_err *e)
{
    o->cwd = "/workspace";
    if (!body_str(b, "agent", &o->agent, e) || !body_str(b, "prompt", &o->prompt, e) ||
        !body_str(b, "model", &o->model, e) || !body_str(b, "user", &o->user, e) ||
        !body_str(b, "cwd", &o->cwd, e) || !body_str(b, "provider", &o->provider, e) ||
        !body_str(b, "session", &o->session, e) || !body_env(b, "env", &o->env, e) ||
        !body_int(b, "timeout_ms", 0, INT64_C(86400000) * 30, &o->timeout_ms, e))
        return false;
    if (!o->prompt || !o->prompt[0] || strlen(o->prompt) > PROMPT_MAX)
        return cg_fail(e, CG_INVALID, "prompt is needed, of at most %d bytes", PROMPT_MAX);
    if (o->provider && (strlen(o->provider) > PROVIDER_MAX || strpbrk(o->provider, "/?#% ")))
        return cg_fail(e, CG_INVALID, "provider must be the name of one");
    return !o->user || cg_streq(o->user, "agent") || cg_streq(o->user, "root") ||
           cg_fail(e, CG_INVALID, "user must be agent or root, not %.64s", o->user);
}

/* What was asked for, else the first of the sandbox, else Claude Code. */
static const struct cg_agent *choose(const struct op *op, const struct cg_agents *all,
                                     const char *asked)
{
    const char *first = strchr(op->sb->spec.template_name, '+');
    if (asked && asked[0])
        return cg_agents_find(all, asked);
    if (!first)
        return cg_agents_find(all, "claude-code");
    CG_OWN(cg_drop_free) char *name = cg_strndup(first + 1, strcspn(first + 1, "+"));
    return cg_agents_find(all, name);
}

/* The gateway's address with the provider's name in it. The run token is in there, too, so it
 * stands in the record by name only. */
static void write_provider(const struct cg_sandbox *sb, const char *provider, struct cg_jsonw *w)
{
    static const struct {
        const char *name, *tail;
    } bases[] = {
        {"ANTHROPIC_BASE_URL", ""}, {"OPENAI_BASE_URL", "/v1"}, {"GOOGLE_GEMINI_BASE_URL", ""}};
    cg_jsonw_key(w, "secret_env");
    cg_jsonw_obj(w);
    for (size_t i = 0; i < CG_COUNT(bases); i++) {
        CG_OWN(cg_drop_free)
        char *url =
            cg_format("http://" CG_GATEWAY_HOST "/%s/%s%s", sb->run_token, provider, bases[i].tail);
        cg_jsonw_kstr(w, bases[i].name, url);
    }
    cg_jsonw_obj_end(w);
}

static void write_exec(const struct cg_sandbox *sb, const struct cg_agent *a, const struct wish *o,
                       struct cg_buf *out)
{
    CG_OWN(cg_drop_buf) struct cg_buf script;
    struct cg_jsonw w;
    cg_buf_init(&script, SCRIPT_MAX);
    cg_agent_prelude(a, &script);
    cg_buf_adds(&script, a->run);
    const char *const argv[] = {"/bin/sh", "-c",      cg_buf_cstr(&script),
                                a->name,   o->prompt, o->model ? o->model : ""};
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "exec");
    cg_jsonw_kstr(&w, "origin", "agent");
    cg_jsonw_kstr(&w, "agent", a->name);
    if (o->session && o->session[0])
        cg_jsonw_kstr(&w, "session", o->session);
    cg_jsonw_key(&w, "argv");
    cg_jsonw_arr(&w);
    for (size_t i = 0; i < CG_COUNT(argv); i++)
        cg_jsonw_str(&w, argv[i]);
    cg_jsonw_arr_end(&w);
    cg_jsonw_kstr(&w, "cwd", o->cwd);
    if (o->user)
        cg_jsonw_kstr(&w, "user", o->user);
    if (o->timeout_ms)
        cg_jsonw_kint(&w, "timeout_ms", o->timeout_ms);
    write_env(&w, "env", o->env);
    if (o->provider && o->provider[0])
        write_provider(sb, o->provider, &w);
    cg_jsonw_obj_end(&w);
    out->full |= script.full;
}

static void start(struct op *op, const struct cg_json *body)
{
    struct cg_err e = CG_ERR_INIT;
    struct wish o = {.agent = NULL};
    struct run *n = cg_alloc(sizeof *n);
    cg_buf_init(&n->out, OUTPUT_MAX);
    cg_buf_init(&n->err, OUTPUT_MAX);
    cg_buf_init(&op->a, OUTPUT_MAX);
    cg_buf_init(&op->b, CG_LINK_MAX_PAYLOAD);
    op->own = n;
    op->finish = finish;
    if (read_wish(body, &o, &e) && cg_agents_load(&op->api->core->images, &n->all, &e))
        n->agent = choose(op, &n->all, o.agent);
    if (!n->agent && e.code == CG_OK)
        cg_fail(&e, CG_INVALID, "agent: there is no %.64s; GET /v1/agents lists what there is",
                o.agent ? o.agent : "such agent");
    if (!n->agent || !cg_sandbox_usable(op->sb, &e)) {
        op_fail(op, &e);
        return;
    }
    write_exec(op->sb, n->agent, &o, &op->b);
    if (!ask_costs(op, on_ready))
        op_problem(op, 503, "unavailable", "sandbox %s is not connected right now", op->sb->id);
}

static void start_awake(struct op *op, const struct cg_json *body)
{
    op_awake(op, body, start);
}

void api_run_agent(struct op *op)
{
    op_read_json(op, start_awake);
}
