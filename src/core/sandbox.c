/* A sandbox as an object: its look in the API, its row in the store. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/money.h"
#include "core/core.h"
#include "core/network.h"
#include "core/scores.h"
#include "core/teams.h"
#include "jail/jail.h"

static const char *const init_names[] = {"none", "pending", "running", "ok", "failed"};

void cg_spec_finish(struct cg_spec *s)
{
    char **const texts[] = {&s->name,        &s->env_json,     &s->repo_url,     &s->repo_branch,
                            &s->repo_commit, &s->repo_subdir,  &s->repo_user,    &s->init_script,
                            &s->config_json, &s->secrets_json, &s->network_json, &s->packages_json};
    for (size_t i = 0; i < CG_COUNT(texts); i++) {
        free(*texts[i]);
        *texts[i] = NULL;
    }
}

void cg_sandbox_text(char **to, const char *text)
{
    free(*to);
    *to = text && text[0] ? cg_strdup(text) : NULL;
}

char *cg_sandbox_dir(const struct cg_sandbox *sb)
{
    return cg_format("%s/sandboxes/%s", sb->core->options.state_dir, sb->id);
}

char *cg_sandbox_record_dir(const struct cg_sandbox *sb)
{
    bool ended = sb->slot == 0;
    return cg_format("%s/%s/%s/record", sb->core->options.state_dir,
                     ended ? "archive" : "sandboxes", sb->id);
}

char *cg_run_path(const struct cg_core *c, const char *id, const char *name)
{
    return cg_format("%s/%s%s%s", c->options.run_dir, id, name ? "/" : "", name ? name : "");
}

/* What the machine cost, until its warden says so (at the prices of the section `machine`); only
 * running time counts. */
int64_t cg_sandbox_compute_nusd(const struct cg_sandbox *sb)
{
    if (!sb->started_wall)
        return 0;
    int64_t end = sb->stopped_wall ? sb->stopped_wall : cg_wall_ns();
    int64_t ms = sb->started_mono && !sb->stopped_wall ? (cg_mono_ns() - sb->started_mono) / 1000000
                                                       : (end - sb->started_wall) / 1000000;
    const struct cg_compute_prices *p = sb->core ? &sb->core->options.machine : &cg_compute_default;
    int64_t an_hour = (int64_t)sb->spec.cpus * p->vcpu_hour +
                      (int64_t)sb->spec.memory_mb * p->gib_hour / 1024 +
                      (int64_t)sb->spec.disk_gb * p->disk_gib_hour;
    return ms > 0 ? an_hour * ms / 3600000 : 0;
}

static void write_time(struct cg_jsonw *w, const char *key, int64_t wall)
{
    char text[CG_TIME_TEXT];
    if (!wall)
        return;
    cg_time_format(wall, text);
    cg_jsonw_kstr(w, key, text);
}

static void write_isolation(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    static const struct {
        uint32_t bit;
        const char *text;
    } warnings[] = {{CG_JAIL_NO_CGROUP, "no cgroup v2 limits on this machine"},
                    {CG_JAIL_ONE_UID, "rootless: sandboxes share one host uid"},
                    {CG_JAIL_NO_USERNS, "no user namespace"}};
    cg_jsonw_key(w, "isolation");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "vmm", "qemu");
    cg_jsonw_kstr(w, "accel", sb->accel[0] ? sb->accel : NULL);
    cg_jsonw_kbool(w, "rootless", sb->core->rootless);
    cg_jsonw_kstr(w, "started_from",
                  sb->spec.snapshot[0] ? sb->restored ? "snapshot with memory" : "snapshot"
                  : sb->restored       ? "golden snapshot"
                                       : "boot");
    cg_jsonw_key(w, "warnings");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < CG_COUNT(warnings); i++) {
        if (sb->warnings & warnings[i].bit)
            cg_jsonw_str(w, warnings[i].text);
    }
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
}

static void write_init(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    if (sb->init == CG_INIT_NONE)
        return;
    cg_jsonw_key(w, "init");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "status", init_names[sb->init]);
    if (sb->init == CG_INIT_OK || sb->init == CG_INIT_FAILED) {
        cg_jsonw_kint(w, "exit_code", sb->init_exit);
        cg_jsonw_kstr(w, "output_tail", sb->init_tail ? sb->init_tail : "");
    }
    cg_jsonw_obj_end(w);
}

static void write_error(const struct cg_sandbox *sb, struct cg_jsonw *w)
{
    if (sb->error.code == CG_OK)
        return;
    cg_jsonw_key(w, "error");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "code", cg_code_name(sb->error.code));
    cg_jsonw_kstr(w, "text", sb->error.text);
    if (sb->console_tail)
        cg_jsonw_kstr(w, "console", sb->console_tail);
    cg_jsonw_obj_end(w);
}

/* What stands behind the template's name, and the packages. */
static void write_agents(const struct cg_spec *s, struct cg_jsonw *w)
{
    const char *p = strchr(s->template_name, '+');
    if (p) {
        cg_jsonw_key(w, "agents");
        cg_jsonw_arr(w);
    }
    for (; p; p = strchr(p, '+')) {
        p++;
        cg_jsonw_strn(w, p, strcspn(p, "+"));
    }
    if (strchr(s->template_name, '+'))
        cg_jsonw_arr_end(w);
    if (s->packages_json) {
        cg_jsonw_key(w, "packages");
        cg_jsonw_raw(w, s->packages_json, strlen(s->packages_json));
    }
}

/* Members of the object; the caller opens and closes it. */
static void write_members(struct cg_sandbox *sb, struct cg_jsonw *w)
{
    const struct cg_spec *s = &sb->spec;
    cg_jsonw_kstr(w, "id", sb->id);
    if (s->name)
        cg_jsonw_kstr(w, "name", s->name);
    if (cg_team_is(sb->account))
        cg_jsonw_kstr(w, "team", sb->account);
    cg_jsonw_kstr(w, "status", cg_status_name(sb->status));
    cg_jsonw_kstrn(w, "template", s->template_name, strcspn(s->template_name, "+"));
    write_agents(s, w);
    if (sb->status == CG_STATUS_RUNNING)
        cg_jsonw_kstr(w, "ip", "172.30.0.2");
    cg_jsonw_kint(w, "cpus", s->cpus);
    cg_jsonw_kint(w, "memory_mb", s->memory_mb);
    cg_jsonw_kint(w, "disk_gb", s->disk_gb);
    cg_network_write_members(sb, w);
    if (s->repo_url)
        cg_jsonw_kstr(w, "repo_url", s->repo_url);
    if (s->repo_branch)
        cg_jsonw_kstr(w, "repo_branch", s->repo_branch);
    if (s->init_script)
        cg_jsonw_kstr(w, "init_script", s->init_script);
    if (s->timeout_s)
        cg_jsonw_kint(w, "timeout", s->timeout_s);
    if (s->secrets_json) {
        cg_jsonw_key(w, "secrets");
        cg_jsonw_raw(w, s->secrets_json, strlen(s->secrets_json));
    }
    if (s->config_json) {
        cg_jsonw_key(w, "config");
        cg_jsonw_raw(w, s->config_json, strlen(s->config_json));
    }
    write_time(w, "created_at", sb->created_wall);
    write_time(w, "started_at", sb->started_wall);
    write_time(w, "stopped_at", sb->stopped_wall);
    int64_t compute = sb->compute_nusd ? sb->compute_nusd : cg_sandbox_compute_nusd(sb);
    cg_jsonw_knum(w, "cost", cg_money_usd(compute));
    cg_jsonw_knum(w, "llm_cost", cg_money_usd(sb->llm_nusd));
    cg_jsonw_knum(w, "total_cost", cg_money_usd(cg_money_add(compute, sb->llm_nusd)));
    if (s->has_budget)
        cg_jsonw_knum(w, "budget", cg_money_usd(s->budget_nusd));
    cg_scores_write_members(sb, w);
    if (s->budget_tokens > 0)
        cg_jsonw_kint(w, "budget_tokens", s->budget_tokens);
    if (s->budget_pause)
        cg_jsonw_kstr(w, "budget_action", "pause");
    cg_jsonw_kint(w, "llm_tokens", sb->llm_tokens);
    if (sb->unpriced_calls > 0) /* llm_cost is not all that it cost */
        cg_jsonw_kuint(w, "unpriced_calls", sb->unpriced_calls);
    if (sb->status == CG_STATUS_PAUSED) {
        write_time(w, "paused_at", sb->paused_wall);
        cg_jsonw_kstr(w, "pause_reason", sb->pause_reason);
    }
    if (sb->creating) {
        cg_jsonw_kstr(w, "phase", sb->phase);
        cg_jsonw_kint(w, "percent", sb->percent);
    }
    write_isolation(sb, w);
    write_init(sb, w);
    write_error(sb, w);
}

void cg_sandbox_write(struct cg_sandbox *sb, struct cg_jsonw *w)
{
    cg_jsonw_obj(w);
    write_members(sb, w);
    cg_jsonw_obj_end(w);
}

bool cg_sandbox_usable(const struct cg_sandbox *sb, struct cg_err *e)
{
    if (sb->status == CG_STATUS_PAUSED)
        return cg_fail(e, CG_CONFLICT, "sandbox %s is paused: let it go on with `caged resume %s`",
                       sb->id, sb->id);
    if (sb->status != CG_STATUS_RUNNING)
        return cg_fail(e, CG_CONFLICT, "sandbox %s is in state %s, not running", sb->id,
                       cg_status_name(sb->status));
    if (sb->destroying)
        return cg_fail(e, CG_CONFLICT, "sandbox %s is being ended", sb->id);
    if (!sb->warden)
        return cg_fail(e, CG_UNAVAILABLE, "sandbox %s is not connected right now", sb->id);
    return true;
}

/* --- the store --- */

static int64_t budget_or_none(const struct cg_sandbox *sb)
{
    return sb->spec.has_budget ? sb->spec.budget_nusd : -1;
}

void cg_sandbox_save(struct cg_sandbox *sb, cg_store_done *done, void *ctx)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 4 << 20);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    write_members(sb, &w);
    cg_jsonw_key(&w, "internal");
    cg_jsonw_obj(&w);
    cg_jsonw_kint(&w, "created", sb->created_wall);
    cg_jsonw_kint(&w, "started", sb->started_wall);
    cg_jsonw_kint(&w, "stopped", sb->stopped_wall);
    cg_jsonw_kuint(&w, "warnings", sb->warnings);
    cg_jsonw_kint(&w, "init", sb->init);
    cg_jsonw_kbool(&w, "defer_init", sb->spec.defer_init);
    cg_jsonw_kstr(&w, "accel", sb->accel);
    cg_jsonw_kint(&w, "llm_nusd", sb->llm_nusd);
    cg_jsonw_kint(&w, "compute_nusd", sb->compute_nusd);
    cg_jsonw_kint(&w, "budget_nusd", budget_or_none(sb));
    cg_jsonw_kint(&w, "budget_tokens", sb->spec.budget_tokens);
    cg_jsonw_kbool(&w, "budget_pause", sb->spec.budget_pause);
    cg_jsonw_kint(&w, "llm_tokens", sb->llm_tokens);
    cg_jsonw_kuint(&w, "unpriced_calls", sb->unpriced_calls);
    cg_jsonw_kstr(&w, "run_token", sb->run_token);
    cg_jsonw_kbool(&w, "restored", sb->restored);
    cg_jsonw_kstr(&w, "pause_reason", sb->pause_reason);
    cg_jsonw_kstr(&w, "snapshot", sb->spec.snapshot);
    cg_jsonw_kstr(&w, "env", sb->spec.env_json);
    cg_jsonw_kint(&w, "paused", sb->paused_wall);
    cg_jsonw_kstr(&w, "base", sb->base_path);
    cg_scores_save(sb, &w);
    cg_jsonw_obj_end(&w);
    cg_jsonw_obj_end(&w);
    struct cg_store_sandbox row = {.slot = sb->slot, .doc = cg_buf_cstr(&b)};
    cg_strlcpy(row.id, sizeof row.id, sb->id);
    cg_strlcpy(row.account, sizeof row.account, sb->account);
    cg_strlcpy(row.status, sizeof row.status, cg_status_name(sb->status));
    cg_store_put_sandbox(sb->core->store, &row, done, ctx);
}

static char *dup_member(const struct cg_json *doc, const char *key)
{
    const char *text = cg_json_str(doc, key);
    return text ? cg_strdup(text) : NULL;
}

static void load_error(struct cg_sandbox *sb, const struct cg_json *error)
{
    const char *code = cg_json_str(error, "code");
    const char *text = cg_json_str(error, "text");
    const char *console = cg_json_str(error, "console");
    if (!code)
        return;
    cg_fail(&sb->error, cg_code_from_name(code), "%s", text ? text : "");
    cg_sandbox_text(&sb->console_tail, console);
}

/* An array of names as a text, the caller's; NULL for none. */
static char *load_names(const struct cg_json *names)
{
    struct cg_buf b;
    struct cg_jsonw w;
    if (!names || names->count == 0)
        return NULL;
    cg_buf_init(&b, 8192);
    cg_jsonw_init(&w, &b);
    cg_jsonw_arr(&w);
    for (const struct cg_json *n = names->child; n; n = n->next)
        cg_jsonw_strn(&w, n->str.p, n->str.n);
    cg_jsonw_arr_end(&w);
    return cg_buf_take(&b);
}

/* The template with its agents, as write_members took them apart. */
static void load_template(struct cg_spec *s, const struct cg_json *doc)
{
    const char *name = cg_json_str(doc, "template");
    const struct cg_json *agents = cg_json_get(doc, "agents");
    struct cg_buf b;
    cg_buf_init(&b, sizeof s->template_name - 1);
    cg_buf_adds(&b, name ? name : "");
    for (const struct cg_json *a = agents ? agents->child : NULL; a; a = a->next)
        cg_buf_addf(&b, "+%s", a->str.p);
    (void)cg_strlcpy(s->template_name, sizeof s->template_name, cg_buf_cstr(&b));
    cg_buf_finish(&b);
}

static void load_costs(struct cg_sandbox *sb, const struct cg_json *inner)
{
    int64_t budget = cg_json_int(inner, "budget_nusd", -1);
    sb->llm_nusd = cg_json_int(inner, "llm_nusd", 0);
    sb->compute_nusd = cg_json_int(inner, "compute_nusd", 0);
    sb->llm_tokens = cg_json_int(inner, "llm_tokens", 0);
    sb->unpriced_calls = (uint64_t)cg_json_int(inner, "unpriced_calls", 0);
    sb->spec.budget_tokens = cg_json_int(inner, "budget_tokens", 0);
    sb->spec.budget_pause = cg_json_bool(inner, "budget_pause", false);
    sb->spec.has_budget = budget >= 0;
    sb->spec.budget_nusd = CG_MAX(budget, 0);
}

struct cg_sandbox *cg_sandbox_load(struct cg_core *c, const struct cg_store_sandbox *row)
{
    enum cg_status status;
    const struct cg_json_limits limits = {8 << 20, 32, 65536};
    CG_OWN(cg_drop_json) struct cg_json *doc = cg_json_parse(cg_slice_of(row->doc), &limits, NULL);
    if (!doc || !cg_status_parse(row->status, &status))
        return NULL;
    struct cg_sandbox *sb = cg_alloc(sizeof *sb);
    const struct cg_json *inner = cg_json_get(doc, "internal");
    const struct cg_json *init = cg_json_get(doc, "init");
    sb->core = c;
    sb->keeper_sock = -1;
    sb->status = status;
    sb->slot = row->slot;
    cg_strlcpy(sb->id, sizeof sb->id, row->id);
    cg_strlcpy(sb->account, sizeof sb->account, row->account);
    load_template(&sb->spec, doc);
    sb->spec.cpus = (uint32_t)cg_json_int(doc, "cpus", 1);
    sb->spec.memory_mb = (uint32_t)cg_json_int(doc, "memory_mb", 512);
    sb->spec.disk_gb = (uint32_t)cg_json_int(doc, "disk_gb", 1);
    sb->spec.timeout_s = cg_json_int(doc, "timeout", 0);
    sb->spec.name = dup_member(doc, "name");
    sb->spec.repo_url = dup_member(doc, "repo_url");
    sb->spec.repo_branch = dup_member(doc, "repo_branch");
    sb->spec.init_script = dup_member(doc, "init_script");
    sb->spec.secrets_json = load_names(cg_json_get(doc, "secrets"));
    sb->spec.packages_json = load_names(cg_json_get(doc, "packages"));
    sb->spec.network_json = cg_network_of_row(doc);
    sb->created_wall = cg_json_int(inner, "created", 0);
    sb->started_wall = cg_json_int(inner, "started", 0);
    sb->stopped_wall = cg_json_int(inner, "stopped", 0);
    sb->warnings = (uint32_t)cg_json_int(inner, "warnings", 0);
    int64_t init_state = cg_json_int(inner, "init", 0);
    sb->init = init_state >= 0 && init_state <= CG_INIT_FAILED ? (enum cg_init_state)init_state
                                                               : CG_INIT_NONE;
    sb->spec.defer_init = cg_json_bool(inner, "defer_init", false);
    sb->init_exit = (int)cg_json_int(init, "exit_code", 0);
    cg_sandbox_text(&sb->init_tail, cg_json_str(init, "output_tail"));
    sb->restored = cg_json_bool(inner, "restored", false);
    const char *reason = cg_json_str(inner, "pause_reason");
    cg_strlcpy(sb->pause_reason, sizeof sb->pause_reason, reason ? reason : "");
    sb->paused_wall = cg_json_int(inner, "paused", 0);
    sb->base_path = dup_member(inner, "base");
    sb->spec.env_json = dup_member(inner, "env");
    const char *snapshot = cg_json_str(inner, "snapshot");
    cg_strlcpy(sb->spec.snapshot, sizeof sb->spec.snapshot, snapshot ? snapshot : "");
    const char *accel = cg_json_str(inner, "accel");
    cg_strlcpy(sb->accel, sizeof sb->accel, accel ? accel : "");
    const char *token = cg_json_str(inner, "run_token");
    cg_strlcpy(sb->run_token, sizeof sb->run_token, token ? token : "");
    load_costs(sb, inner);
    cg_scores_load(sb, inner);
    load_error(sb, cg_json_get(doc, "error"));
    return sb;
}

void cg_sandbox_add(struct cg_core *c, struct cg_sandbox *sb)
{
    cg_map_put(&c->by_id, sb->id, sb);
    if (c->last)
        c->last->next = sb;
    else
        c->first = sb;
    c->last = sb;
    if (sb->slot > 0 && sb->slot <= CG_SLOTS)
        c->slots[sb->slot] = 1;
}

struct cg_sandbox *cg_core_find(struct cg_core *c, const char *id)
{
    return cg_map_get(&c->by_id, id);
}

void cg_sandbox_wait(struct cg_waiter **list, cg_sandbox_done *done, void *ctx)
{
    if (!done)
        return;
    struct cg_waiter *w = cg_alloc(sizeof *w);
    *w = (struct cg_waiter){*list, done, ctx};
    *list = w;
}

void cg_sandbox_tell(struct cg_sandbox *sb, struct cg_waiter **list, const struct cg_err *err)
{
    struct cg_waiter *w = CG_MOVE(*list);
    while (w) {
        struct cg_waiter *next = w->next;
        w->done(w->ctx, sb, err);
        free(w);
        w = next;
    }
}
