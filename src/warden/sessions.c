#include "warden/sessions.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "warden/agents.h"
#include "warden/pids.h"

enum {
    NOBODY = 255,       /* a process that is known to be of no session */
    CALLS_MAX = 256,    /* calls of models under way whose session is remembered */
    TALLY_S = 30,       /* machine time of open sessions is written down so often */
    CALLED_IDLE_S = 600 /* a session that only calls made ends after so long without one */
};

enum how { HOW_COMMAND, HOW_TERMINAL, HOW_PROCESS, HOW_CALL };

static const char *const how_names[] = {"command", "terminal", "process", "llm_call"};

struct session {
    bool open;
    bool agent;    /* else a terminal */
    bool detached; /* nobody holds its command: the exit of its process is its end */
    enum how how;
    char id[SESSION_TEXT];
    char type[24]; /* of the agent; empty: unknown */
    char exec_id[64];
    int64_t pid; /* 0: unknown */
    int64_t opened, last;
    int64_t compute_nusd, told_nusd;
    uint64_t order;
};

struct sessions {
    struct cg_record *record;
    struct session all[SESSIONS_OPEN_MAX];
    struct pids pids;
    struct {
        int64_t call;
        uint8_t session;
    } calls[CALLS_MAX];
    unsigned ncalls;
    uint64_t order;
    unsigned seconds;
    void (*settle)(void *ctx);
    void *settle_ctx;
};

struct sessions *sessions_create(struct cg_record *record)
{
    struct sessions *s = cg_alloc(sizeof *s);
    s->record = record;
    return s;
}

void sessions_destroy(struct sessions *s)
{
    if (!s)
        return;
    pids_finish(&s->pids);
    free(s);
}

void sessions_set_settle(struct sessions *s, void (*settle)(void *ctx), void *ctx)
{
    s->settle = settle;
    s->settle_ctx = ctx;
}

/* --- the table --- */

static struct session *find(struct sessions *s, const char *id)
{
    for (size_t i = 0; i < SESSIONS_OPEN_MAX; i++)
        if (s->all[i].open && strcmp(s->all[i].id, id) == 0)
            return &s->all[i];
    return NULL;
}

static struct session *find_exec(struct sessions *s, const char *exec_id)
{
    for (size_t i = 0; i < SESSIONS_OPEN_MAX; i++)
        if (s->all[i].open && s->all[i].exec_id[0] && strcmp(s->all[i].exec_id, exec_id) == 0)
            return &s->all[i];
    return NULL;
}

static uint8_t number_of(const struct sessions *s, const struct session *x)
{
    return (uint8_t)(x - s->all);
}

/* The newest agent, or the only terminal there is: whose doing it is when nothing tells. */
static struct session *acting(struct sessions *s, const char *type)
{
    struct session *agent = NULL;
    struct session *terminal = NULL;
    unsigned terminals = 0;
    for (size_t i = 0; i < SESSIONS_OPEN_MAX; i++) {
        struct session *x = &s->all[i];
        if (!x->open)
            continue;
        if (x->agent && (!type || strcmp(x->type, type) == 0) &&
            (!agent || x->order > agent->order))
            agent = x;
        terminal = x->agent ? terminal : x;
        terminals += !x->agent;
    }
    return agent ? agent : !type && terminals == 1 ? terminal : NULL;
}

static void choose_default(struct sessions *s)
{
    const struct session *x = acting(s, NULL);
    cg_record_set_session(s->record, x ? x->id : NULL);
}

static struct session *take_slot(struct sessions *s)
{
    for (size_t i = 0; i < SESSIONS_OPEN_MAX; i++) {
        if (s->all[i].open)
            continue;
        s->all[i] = (struct session){.open = true, .opened = cg_record_now(s->record)};
        s->all[i].order = ++s->order;
        return &s->all[i];
    }
    return NULL;
}

/* --- opening and closing --- */

static void settle(struct sessions *s)
{
    if (s->settle)
        s->settle(s->settle_ctx);
}

static struct cg_jsonw *line(struct sessions *s, const struct session *x, const char *event)
{
    struct cg_jsonw *j = cg_record_begin(s->record, CG_REC_SESSION, CG_SRC_HOST, x->id);
    cg_jsonw_kstr(j, "event", event);
    return j;
}

/* NULL when there are too many. `id` may be empty. */
static struct session *open_session(struct sessions *s, const struct session *wish, const char *id)
{
    settle(s);
    struct session *x = take_slot(s);
    if (!x)
        return NULL;
    x->agent = wish->agent;
    x->how = wish->how;
    x->pid = wish->pid;
    x->last = x->opened;
    cg_strlcpy(x->type, sizeof x->type, wish->type);
    cg_strlcpy(x->exec_id, sizeof x->exec_id, wish->exec_id);
    if (id[0])
        cg_strlcpy(x->id, sizeof x->id, id);
    else
        cg_id_make("sess", x->id);
    struct cg_jsonw *j = line(s, x, "open");
    cg_jsonw_kstr(j, "kind", x->agent ? "agent" : "terminal");
    cg_jsonw_kstr(j, "agent_type", x->type[0] ? x->type : NULL);
    cg_jsonw_kstr(j, "how", how_names[x->how]);
    if (x->exec_id[0])
        cg_jsonw_kstr(j, "exec_id", x->exec_id);
    if (x->pid)
        cg_jsonw_kint(j, "pid", x->pid);
    cg_record_end(s->record);
    choose_default(s);
    return x;
}

static void close_session(struct sessions *s, struct session *x, bool failed, const char *reason,
                          const struct cg_json *result)
{
    settle(s);
    struct cg_jsonw *j = line(s, x, "close");
    cg_jsonw_kstr(j, "status", failed ? "failed" : "completed");
    cg_jsonw_kstr(j, "reason", reason);
    const struct cg_json *code = cg_json_get(result, "exit_code");
    if (!code)
        code = cg_json_get(result, "code");
    if (code && code->type == CG_JSON_INT)
        cg_jsonw_kint(j, "exit_code", code->integer);
    cg_jsonw_kint(j, "compute_nusd", x->compute_nusd);
    cg_jsonw_kint(j, "duration_ms", (cg_record_now(s->record) - x->opened) / 1000000);
    cg_record_end(s->record);
    x->open = false;
    pids_forget(&s->pids, number_of(s, x));
    for (unsigned i = 0; i < s->ncalls; i++)
        if (s->calls[i].session == number_of(s, x))
            s->calls[i].session = NOBODY;
    choose_default(s);
}

/* An agent fails with its exit code; a terminal's is that of its last command and says nothing. */
static bool went_wrong(const struct session *x, const struct cg_json *result)
{
    int64_t code = cg_json_int(result, "exit_code", cg_json_int(result, "code", 0));
    return x->agent && (code != 0 || cg_json_get(result, "error"));
}

/* --- commands --- */

void sessions_begin(struct sessions *s, const struct sessions_command *c,
                    char session[SESSION_TEXT])
{
    const char *asked = cg_json_str(c->request, "agent");
    const char *type = asked ? asked : agent_of_program(NULL, cg_json_get(c->request, "argv"));
    struct session *x = session[0] ? find(s, session) : NULL;
    struct session wish = {.agent = type || (session[0] && !c->pty),
                           .how = !type && c->pty ? HOW_TERMINAL : HOW_COMMAND};
    if (!x && (type || session[0] || c->pty)) {
        cg_strlcpy(wish.type, sizeof wish.type, type ? type : "");
        cg_strlcpy(wish.exec_id, sizeof wish.exec_id, c->exec_id);
        x = open_session(s, &wish, session);
    }
    cg_strlcpy(session, SESSION_TEXT, x ? x->id : "");
}

void sessions_attach(struct sessions *s, const char *exec_id, char session[SESSION_TEXT])
{
    struct session *x = find_exec(s, exec_id);
    if (x)
        x->detached = false;
    cg_strlcpy(session, SESSION_TEXT, x ? x->id : "");
}

void sessions_pid(struct sessions *s, const char *session, int64_t pid)
{
    struct session *x = session[0] ? find(s, session) : NULL;
    if (x && !x->pid)
        x->pid = pid;
    pids_put(&s->pids, pid, x ? number_of(s, x) : NOBODY);
}

void sessions_end(struct sessions *s, const char *exec_id, const struct cg_json *result)
{
    struct session *x = find_exec(s, exec_id);
    if (x)
        close_session(s, x, went_wrong(x, result), "exit", result);
}

void sessions_detach(struct sessions *s, const char *exec_id)
{
    struct session *x = find_exec(s, exec_id);
    if (x)
        x->detached = true;
}

/* --- what the guest tells --- */

/* NULL: nobody's, or unknown (*known). A child of a known process is known from then on. */
static struct session *session_of_pid(struct sessions *s, int64_t pid, int64_t ppid, bool *known)
{
    uint8_t value = NOBODY;
    *known = pids_get(&s->pids, pid, &value);
    if (!*known && pids_get(&s->pids, ppid, &value)) {
        *known = true;
        pids_put(&s->pids, pid, value);
    }
    return *known && value != NOBODY && s->all[value].open ? &s->all[value] : NULL;
}

const char *sessions_observed(struct sessions *s, bool exec, const struct cg_json *o)
{
    int64_t pid = cg_json_int(o, "pid", 0);
    bool known = false;
    struct session *x = session_of_pid(s, pid, cg_json_int(o, "ppid", 0), &known);
    const char *type = NULL;
    if (exec && !(x && x->agent))
        type = agent_of_program(cg_json_str(o, "exe"), cg_json_get(o, "argv"));
    if (type) {
        struct session wish = {.agent = true, .how = HOW_PROCESS, .pid = pid};
        cg_strlcpy(wish.type, sizeof wish.type, type);
        struct session *opened = open_session(s, &wish, "");
        if (opened) {
            pids_put(&s->pids, pid, number_of(s, opened));
            return opened->id;
        }
    }
    if (!known)
        x = acting(s, NULL);
    return x ? x->id : "";
}

void sessions_exited(struct sessions *s, const struct cg_json *o)
{
    int64_t pid = cg_json_int(o, "pid", 0);
    uint8_t value = NOBODY;
    if (!pids_get(&s->pids, pid, &value))
        return;
    pids_remove(&s->pids, pid);
    struct session *x = value != NOBODY && s->all[value].open ? &s->all[value] : NULL;
    if (x && x->pid == pid && (x->detached || !x->exec_id[0]))
        close_session(s, x, went_wrong(x, o), "exit", o);
}

/* --- calls of models --- */

static void remember_call(struct sessions *s, int64_t call, uint8_t session)
{
    if (s->ncalls == CALLS_MAX) { /* the oldest is most likely lost */
        memmove(s->calls, s->calls + 1, (CALLS_MAX - 1) * sizeof s->calls[0]);
        s->ncalls--;
    }
    s->calls[s->ncalls].call = call;
    s->calls[s->ncalls++].session = session;
}

static struct session *recall(struct sessions *s, int64_t call)
{
    for (unsigned i = 0; i < s->ncalls; i++) {
        if (s->calls[i].call != call)
            continue;
        uint8_t value = s->calls[i].session;
        memmove(s->calls + i, s->calls + i + 1, (s->ncalls - i - 1) * sizeof s->calls[0]);
        s->ncalls--;
        return value != NOBODY ? &s->all[value] : NULL;
    }
    return NULL;
}

/* The session of the agent that the caller says it is, else the newest agent's, else its own. */
static struct session *caller(struct sessions *s, const struct cg_json *o)
{
    const char *type = agent_of_user_agent(cg_json_str(o, "user_agent"));
    struct session *x = type ? acting(s, type) : NULL;
    if (!x)
        x = acting(s, NULL);
    if (x && x->agent)
        return x;
    struct session wish = {.agent = true, .how = HOW_CALL};
    cg_strlcpy(wish.type, sizeof wish.type, type ? type : "");
    return open_session(s, &wish, "");
}

const char *sessions_call(struct sessions *s, struct cg_slice data)
{
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(data, NULL, NULL);
    int64_t call = cg_json_int(o, "call", 0);
    bool opens = cg_streq(cg_json_str(o, "event"), "open");
    struct session *x = opens ? caller(s, o) : recall(s, call);
    if (opens && x)
        remember_call(s, call, number_of(s, x));
    if (x)
        x->last = cg_record_now(s->record);
    return x ? x->id : "";
}

/* --- time --- */

void sessions_compute(struct sessions *s, int64_t nusd)
{
    int64_t open = 0;
    for (size_t i = 0; i < SESSIONS_OPEN_MAX; i++)
        open += s->all[i].open;
    for (size_t i = 0; i < SESSIONS_OPEN_MAX && open > 0; i++) {
        if (!s->all[i].open)
            continue;
        int64_t share = nusd / open--; /* the rest of the division goes to the later ones */
        s->all[i].compute_nusd += share;
        nusd -= share;
    }
}

static bool calls_now(const struct sessions *s, const struct session *x)
{
    for (unsigned i = 0; i < s->ncalls; i++)
        if (s->calls[i].session == number_of(s, x))
            return true;
    return false;
}

void sessions_second(struct sessions *s)
{
    bool tally = ++s->seconds % TALLY_S == 0;
    int64_t now = cg_record_now(s->record);
    for (size_t i = 0; i < SESSIONS_OPEN_MAX; i++) {
        struct session *x = &s->all[i];
        if (!x->open)
            continue;
        if (x->how == HOW_CALL && !calls_now(s, x) &&
            now - x->last > (int64_t)CALLED_IDLE_S * 1000000000) {
            close_session(s, x, false, "idle", NULL);
        } else if (tally && x->compute_nusd != x->told_nusd) {
            x->told_nusd = x->compute_nusd;
            struct cg_jsonw *j = line(s, x, "tally");
            cg_jsonw_kint(j, "compute_nusd", x->compute_nusd);
            cg_record_end(s->record);
        }
    }
}

void sessions_close(struct sessions *s, bool failed, const char *reason)
{
    for (size_t i = 0; i < SESSIONS_OPEN_MAX; i++)
        if (s->all[i].open)
            close_session(s, &s->all[i], failed, reason, NULL);
}

/* --- an earlier warden's lines --- */

static void replay_open(struct sessions *s, const struct cg_record_line *l, const struct cg_json *o,
                        const char *id)
{
    struct session *x = find(s, id) ? NULL : take_slot(s);
    const char *how = cg_json_str(o, "how");
    if (!x)
        return;
    cg_strlcpy(x->id, sizeof x->id, id);
    x->agent = cg_streq(cg_json_str(o, "kind"), "agent");
    for (size_t i = 0; i < CG_COUNT(how_names); i++)
        if (cg_streq(how, how_names[i]))
            x->how = (enum how)i;
    const char *type = cg_json_str(o, "agent_type");
    const char *exec_id = cg_json_str(o, "exec_id");
    cg_strlcpy(x->type, sizeof x->type, type ? type : "");
    cg_strlcpy(x->exec_id, sizeof x->exec_id, exec_id ? exec_id : "");
    x->pid = cg_json_int(o, "pid", 0);
    x->opened = x->last = l->t;
    x->detached = true; /* its stream did not outlive the warden */
}

static void replay_process(struct sessions *s, struct session *x, const struct cg_json *o)
{
    int64_t pid = cg_json_int(o, "pid", 0);
    if (cg_streq(cg_json_str(o, "event"), "exit"))
        pids_remove(&s->pids, pid);
    else if (x)
        pids_put(&s->pids, pid, number_of(s, x));
    if (x && !x->pid && x->exec_id[0])
        x->pid = pid; /* the first program of its command */
}

void sessions_replay(struct sessions *s, const struct cg_record_line *l)
{
    char id[SESSION_TEXT];
    bool told = cg_slice_eq(l->type, "session");
    bool process = cg_slice_eq(l->type, "process");
    if (!told && !process)
        return;
    CG_OWN(cg_drop_free) char *text = cg_slice_dup(l->session);
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(l->data, NULL, NULL);
    if (!o || !cg_strlcpy(id, sizeof id, text))
        return;
    struct session *x = id[0] ? find(s, id) : NULL;
    const char *event = cg_json_str(o, "event");
    if (process) {
        replay_process(s, x, o);
    } else if (cg_streq(event, "open")) {
        replay_open(s, l, o, id);
    } else if (x && cg_streq(event, "close")) {
        x->open = false;
        pids_forget(&s->pids, number_of(s, x));
    } else if (x) {
        x->compute_nusd = x->told_nusd = cg_json_int(o, "compute_nusd", x->compute_nusd);
    }
}

void sessions_replayed(struct sessions *s, bool same)
{
    if (!same)
        sessions_close(s, true, "restarted");
    choose_default(s);
}
