/* The recorded half of a pass-through stream. Secret environment is merged into what the guest gets
 * and stands in the record by name only. */
#include <stdlib.h>
#include <string.h>

#include "warden/pass.h"

enum { RECORD_ARGS = 16 * 1024, RECORD_SMALL = 2 * 1024, RECORD_ENV = 8 * 1024, FITS = 60000 };

static const char *const origins[] = {"api", "terminal", "init",  "clone",
                                      "cli", "packages", "agent", "preview"};

/* --- the request --- */

static bool own_members(struct pass *p, const struct cg_json *o, struct cg_err *e)
{
    const char *origin = cg_json_str(o, "origin");
    const char *session = cg_json_str(o, "session");
    const char *user = cg_json_str(o, "user");
    bool known = !origin;
    for (size_t i = 0; i < CG_COUNT(origins) && !known; i++)
        known = cg_streq(origin, origins[i]);
    if (!known)
        return cg_fail(
            e, CG_INVALID,
            "origin must be api, terminal, init, clone, cli, packages, agent or preview");
    if (cg_json_str(o, "agent") && !cg_streq(p->kind->name, "exec"))
        return cg_fail(e, CG_INVALID, "agent is a member of exec");
    if (session && !cg_record_session_valid(session))
        return cg_fail(e, CG_INVALID, "session is not a session id");
    if (user && !cg_strlcpy(p->user, sizeof p->user, user))
        return cg_fail(e, CG_INVALID, "user is too long");
    (void)cg_strlcpy(p->origin, sizeof p->origin, origin ? origin : "api");
    (void)cg_strlcpy(p->session, sizeof p->session, session ? session : "");
    p->quiet = cg_json_bool(o, "quiet", false);
    return true;
}

static bool exec_id(struct pass *p, const struct cg_json *o, struct cg_err *e)
{
    const char *id = cg_json_str(o, "exec_id");
    if (id && (!id[0] || !cg_strlcpy(p->exec_id, sizeof p->exec_id, id)))
        return cg_fail(e, CG_INVALID, "exec_id must have 1 to %d bytes", PASS_EXEC_ID - 1);
    if (!id && cg_streq(p->kind->name, "attach"))
        return cg_fail(e, CG_INVALID, "attach needs an exec_id");
    if (id)
        return true;
    /* The prefix keeps clear of names that servers choose, a random beginning of those that an
     * earlier warden gave to what still runs in a guest that was resumed or copied. */
    if (p->w->exec_seq == 0) {
        uint32_t start = 0;
        cg_rand_bytes(&start, sizeof start);
        p->w->exec_seq = (uint64_t)start << 20;
    }
    cg_snprintf(p->exec_id, sizeof p->exec_id, "w%llx", (unsigned long long)++p->w->exec_seq);
    return true;
}

static bool strings_only(const struct cg_json *o, const char *key, struct cg_err *e)
{
    const struct cg_json *v = cg_json_get(o, key);
    if (!v)
        return true;
    if (v->type != CG_JSON_OBJ)
        return cg_fail(e, CG_INVALID, "%s must be an object of strings", key);
    for (const struct cg_json *m = v->child; m; m = m->next)
        if (m->type != CG_JSON_STR || m->key.n > 200 || strlen(m->key.p) != m->key.n)
            return cg_fail(e, CG_INVALID, "%s must be an object of strings", key);
    return true;
}

static void put_env(const struct cg_json *o, struct cg_jsonw *j)
{
    const struct cg_json *env = cg_json_get(o, "env");
    const struct cg_json *secret = cg_json_get(o, "secret_env");
    cg_jsonw_key(j, "env");
    cg_jsonw_obj(j);
    for (const struct cg_json *m = env ? env->child : NULL; m; m = m->next)
        if (!cg_json_get(secret, m->key.p))
            cg_jsonw_kstrn(j, m->key.p, m->str.p, m->str.n);
    for (const struct cg_json *m = secret ? secret->child : NULL; m; m = m->next)
        cg_jsonw_kstrn(j, m->key.p, m->str.p, m->str.n);
    cg_jsonw_obj_end(j);
}

static void take_file(struct pass *p, const struct cg_json *o)
{
    const char *path = cg_json_str(o, "path");
    const char *from = cg_json_str(o, "from");
    const char *to = cg_json_str(o, "to");
    path = path ? path : from ? from : "";
    p->path = cg_strndup(path, CG_MIN(strlen(path), (size_t)4096));
    p->to = to ? cg_strndup(to, CG_MIN(strlen(to), (size_t)4096)) : NULL;
}

bool pass_request(struct pass *p, const struct cg_json *o, struct cg_buf *out, struct cg_err *e)
{
    const struct cg_json *unknown = fields_unknown(p->kind->request, kind_own_fields, o);
    bool exec = cg_streq(p->kind->name, "exec");
    if (unknown)
        return cg_fail(e, CG_INVALID, "%s does not know the member %.*s", p->kind->name,
                       (int)CG_MIN(unknown->key.n, 40), unknown->key.p);
    if (!own_members(p, o, e) || !strings_only(o, "env", e) || !strings_only(o, "secret_env", e))
        return false;
    if (p->kind->record == KIND_COMMAND && !exec_id(p, o, e))
        return false;
    if (p->kind->record == KIND_FILE)
        take_file(p, o);
    p->port = cg_json_int(o, "port", 0);
    struct cg_jsonw j;
    cg_jsonw_init(&j, out);
    cg_jsonw_obj(&j);
    for (const struct field *f = p->kind->request; f->name; f++) {
        const struct cg_json *v = cg_json_get(o, f->name);
        if (!v || cg_streq(f->name, "exec_id") || cg_streq(f->name, "env"))
            continue;
        if (!exec && (cg_streq(f->name, "pty") || cg_streq(f->name, "detach")))
            continue; /* of an attach: for the record */
        cg_jsonw_key(&j, f->name);
        cg_jsonw_value(&j, v);
    }
    if (p->kind->record == KIND_COMMAND)
        cg_jsonw_kstr(&j, "exec_id", p->exec_id);
    if (exec)
        put_env(o, &j);
    cg_jsonw_obj_end(&j);
    return !out->full ||
           cg_fail(e, CG_TOO_LARGE, "the request has more than %d bytes", CG_LINK_MAX_PAYLOAD);
}

/* --- the start --- */

static const char *session_of(const struct pass *p)
{
    return p->session[0] ? p->session : NULL;
}

static void put_command(struct pass *p, const struct cg_json *o, size_t max, struct cg_jsonw *j)
{
    const struct field fields[] = {
        {"argv", FIELD_STRS, max, NULL}, {"shell", FIELD_STR, max, NULL},
        {"login", FIELD_BOOL, 0, NULL},  {"cwd", FIELD_STR, 4096, NULL},
        {"user", FIELD_STR, 32, NULL},   {"timeout_ms", FIELD_INT, 0, NULL},
        {"detach", FIELD_BOOL, 0, NULL}, {NULL, FIELD_INT, 0, NULL}};
    cg_jsonw_kstr(j, "phase", "start");
    cg_jsonw_kstr(j, "exec_id", p->exec_id);
    bool cut = fields_copy(fields, o, j);
    const struct cg_json *env = cg_json_get(o, "env");
    const struct cg_json *secret = cg_json_get(o, "secret_env");
    size_t room = CG_MIN(max, (size_t)RECORD_ENV);
    cg_jsonw_key(j, "env");
    cg_jsonw_obj(j);
    for (const struct cg_json *m = env ? env->child : NULL; m; m = m->next) {
        if (cg_json_get(secret, m->key.p))
            continue;
        size_t n = m->key.n + m->str.n + 4;
        if (n > room) {
            cut = true;
            break;
        }
        room -= n;
        cg_jsonw_kstrn(j, m->key.p, m->str.p, m->str.n);
    }
    cg_jsonw_obj_end(j);
    if (secret) {
        cg_jsonw_key(j, "secret_env");
        cg_jsonw_arr(j);
        for (const struct cg_json *m = secret->child; m && room > 0; m = m->next) {
            cg_jsonw_strn(j, m->key.p, m->key.n);
            room -= CG_MIN(room, m->key.n + 4);
        }
        cg_jsonw_arr_end(j);
    }
    cg_jsonw_kstr(j, "origin", p->origin);
    if (cg_json_str(o, "agent"))
        cg_jsonw_kstr(j, "agent", cg_json_str(o, "agent"));
    cg_jsonw_kbool(j, "pty", p->term != NULL);
    if (cut)
        cg_jsonw_kbool(j, "cut", true);
}

/* Escapes can make six bytes of one, so a command that is all control characters is cut shorter. */
static void record_command(struct pass *p, const struct cg_json *o)
{
    static const size_t sizes[] = {RECORD_ARGS, RECORD_SMALL};
    for (size_t i = 0; i < CG_COUNT(sizes); i++) {
        CG_OWN(cg_drop_buf) struct cg_buf b;
        struct cg_jsonw j;
        cg_buf_init(&b, FITS);
        cg_jsonw_init(&j, &b);
        cg_jsonw_obj(&j);
        put_command(p, o, sizes[i], &j);
        cg_jsonw_obj_end(&j);
        if (b.full)
            continue;
        cg_record_append(p->w->record, CG_REC_COMMAND, CG_SRC_HOST, session_of(p),
                         cg_buf_slice(&b));
        return;
    }
}

static void record_attach(struct pass *p)
{
    struct cg_jsonw *j = cg_record_begin(p->w->record, CG_REC_COMMAND, CG_SRC_HOST, session_of(p));
    cg_jsonw_kstr(j, "phase", "attach");
    cg_jsonw_kstr(j, "exec_id", p->exec_id);
    cg_jsonw_kstr(j, "origin", p->origin);
    cg_record_end(p->w->record);
}

static void begin_session(struct pass *p, const struct cg_json *o, bool pty)
{
    const struct sessions_command c = {p->exec_id, o, pty};
    sessions_begin(p->w->sessions, &c, p->session);
}

void pass_record_start(struct pass *p, const struct cg_json *o)
{
    struct warden *w = p->w;
    if (p->kind->record == KIND_COMMAND) {
        w->execs++;
        w->exec_count += cg_streq(p->kind->name, "exec");
    }
    if (p->quiet)
        return;
    p->recorded = p->kind->record != KIND_QUIET;
    p->detach = cg_json_bool(o, "detach", false);
    const struct cg_json *pty = cg_json_get(o, "pty");
    bool attach = cg_streq(p->kind->name, "attach");
    if (attach)
        sessions_attach(w->sessions, p->exec_id, p->session);
    else if (p->kind->record == KIND_COMMAND)
        begin_session(p, o, pty && pty->type == CG_JSON_OBJ);
    if (p->kind->record == KIND_COMMAND && pty && pty->type == CG_JSON_OBJ)
        p->term = term_create(w->record, w->secrets, p->exec_id, session_of(p));
    if (p->kind->record == KIND_COMMAND && attach)
        record_attach(p);
    else if (p->kind->record == KIND_COMMAND)
        record_command(p, o);
    if (p->kind->record == KIND_DIAL) {
        struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_NETWORK, CG_SRC_HOST, session_of(p));
        cg_jsonw_kstr(j, "event", "dial");
        cg_jsonw_kint(j, "port", p->port);
        cg_jsonw_kstr(j, "origin", p->origin);
        cg_record_end(w->record);
    }
}

void pass_record_control(struct pass *p, const struct cg_json *message)
{
    if (p->quiet)
        return;
    const char *signal = cg_json_str(message, "signal");
    const struct cg_json *resize = cg_json_get(message, "resize");
    if (signal) {
        struct cg_jsonw *j =
            cg_record_begin(p->w->record, CG_REC_COMMAND, CG_SRC_HOST, session_of(p));
        cg_jsonw_kstr(j, "phase", "signal");
        cg_jsonw_kstr(j, "exec_id", p->exec_id);
        cg_jsonw_kstrn(j, "signal", signal, CG_MIN(strlen(signal), (size_t)16));
        cg_record_end(p->w->record);
    }
    if (resize && p->term) {
        term_flush(p->term);
        term_resize(p->term, cg_json_int(resize, "rows", 0), cg_json_int(resize, "cols", 0));
    }
}

/* --- the end --- */

/* The members of the result that the server gets, for the record. */
static void put_result(struct pass *p, struct cg_jsonw *j)
{
    CG_OWN(cg_drop_json)
    struct cg_json *o = p->result.full ? NULL : cg_json_parse(cg_buf_slice(&p->result), NULL, NULL);
    if (p->failed && o)
        fields_copy_error(o, j);
    else if (o && p->kind->record == KIND_COMMAND)
        fields_copy(p->kind->result, o, j);
}

static uint64_t record_exit(struct pass *p)
{
    struct cg_jsonw *j = cg_record_begin(p->w->record, CG_REC_COMMAND, CG_SRC_HOST, session_of(p));
    CG_OWN(cg_drop_json)
    struct cg_json *o = p->result.full ? NULL : cg_json_parse(cg_buf_slice(&p->result), NULL, NULL);
    /* without an exit code the stream ended before the command: it goes on (or was taken over by
     * another stream), or is being killed because its caller went away */
    bool ended = p->failed || cg_json_get(o, "exit_code");
    bool killed = !ended && p->cancelled && !p->detach;
    p->w->exec_failed += p->failed || (ended && cg_json_int(o, "exit_code", 0) != 0);
    p->w->output_bytes += p->bytes[CG_LINK_STDOUT] + p->bytes[CG_LINK_STDERR];
    cg_jsonw_kstr(j, "phase", ended || killed ? "exit" : "detached");
    cg_jsonw_kstr(j, "exec_id", p->exec_id);
    put_result(p, j);
    if (killed)
        cg_jsonw_kbool(j, "cancelled", true);
    cg_jsonw_kuint(j, "bytes_in", p->bytes[CG_LINK_STDIN]);
    cg_jsonw_kuint(j, "bytes_out", p->bytes[CG_LINK_STDOUT]);
    cg_jsonw_kuint(j, "bytes_err", p->bytes[CG_LINK_STDERR]);
    uint64_t seq = cg_record_end(p->w->record);
    if (ended && !p->failed)
        cross_ended(p, cg_json_int(o, "exit_code", 0));
    /* of one that is paused with its guest the command goes on */
    if ((ended || killed) && p->w->state != W_PAUSED)
        sessions_end(p->w->sessions, p->exec_id, o);
    else
        sessions_detach(p->w->sessions, p->exec_id);
    return seq;
}

static uint64_t record_file(struct pass *p)
{
    struct cg_jsonw *j = cg_record_begin(p->w->record, CG_REC_FILE_OP, CG_SRC_HOST, session_of(p));
    cg_jsonw_kstr(j, "op", p->kind->op);
    cg_jsonw_kstr(j, "path", p->path);
    if (p->to)
        cg_jsonw_kstr(j, "to", p->to);
    cg_jsonw_kstr(j, "origin", p->origin);
    cg_jsonw_kstr(j, "user", p->user[0] ? p->user : "agent");
    uint64_t bytes = p->bytes[CG_LINK_STDIN] + p->bytes[CG_LINK_STDOUT];
    if (bytes > 0)
        cg_jsonw_kuint(j, "bytes", bytes);
    if (p->failed)
        put_result(p, j);
    else
        contents_note(p->w->contents, p->kind->op, p->path, p->to, p->session);
    if (p->unpacked) /* also of one that failed in the middle */
        unpacked_tell(p->unpacked, p->w->contents, p->session);
    return cg_record_end(p->w->record);
}

static void record_late(struct pass *p)
{
    struct cg_jsonw *j = cg_record_begin(p->w->record, CG_REC_GAP, CG_SRC_HOST, session_of(p));
    cg_jsonw_kstr(j, "reason", "late");
    cg_jsonw_kstr(j, "exec_id", p->exec_id);
    cg_jsonw_kuint(j, "lines", p->need_observed - p->w->guest.observed);
    cg_record_end(p->w->record);
}

uint64_t pass_record_end(struct pass *p, bool late)
{
    if (p->kind->record == KIND_COMMAND)
        p->w->execs--;
    if (!p->recorded)
        return 0;
    if (p->term)
        term_flush(p->term);
    if (late)
        record_late(p);
    if (p->kind->record == KIND_COMMAND)
        return record_exit(p);
    if (p->kind->record == KIND_FILE)
        return record_file(p);
    struct cg_record_stats stats; /* a dial: its one line has long been written */
    cg_record_get_stats(p->w->record, &stats);
    return stats.durable_seq;
}
