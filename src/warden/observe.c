/* What the guest says on its own: observed events, listening ports, samples. Lines are JSON, parsed
 * under limits and written again by table, so that a guest can say something false, but nothing of
 * another form. While the record is behind, credit is held back: the agent then queues, and counts
 * what does not fit into its queue. */
#include <string.h>

#include "warden/inner.h"

/* The agent gives a sign of life every 5 s; an emulated guest may be held up for long. */
enum { SILENT_S = 15, CLOCK_OFF_S = 30 };

enum { PATH_MAX_BYTES = 4096, ARGV_MAX_BYTES = 8192, LINE_VALUES = 1024 };

#define F_INT(name)                                                                                \
    {                                                                                              \
        name, FIELD_INT, 0, NULL                                                                   \
    }
#define F_BOOL(name)                                                                               \
    {                                                                                              \
        name, FIELD_BOOL, 0, NULL                                                                  \
    }
#define F_TEXT(name)                                                                               \
    {                                                                                              \
        name, FIELD_STR, 64, NULL                                                                  \
    }
#define F_PATH(name)                                                                               \
    {                                                                                              \
        name, FIELD_STR, PATH_MAX_BYTES, NULL                                                      \
    }
#define F_END                                                                                      \
    {                                                                                              \
        NULL, FIELD_INT, 0, NULL                                                                   \
    }

static const struct field exec_fields[] = {
    F_INT("pid"),   F_INT("ppid"), F_INT("uid"),
    F_TEXT("comm"), F_PATH("exe"), {"argv", FIELD_STRS, ARGV_MAX_BYTES, NULL},
    F_PATH("cwd"),  F_TEXT("dev"), F_BOOL("cut"),
    F_END};
static const struct field exit_fields[] = {F_INT("pid"),   F_INT("ppid"), F_INT("uid"),
                                           F_TEXT("comm"), F_INT("code"), F_TEXT("signal"),
                                           F_INT("ns"),    F_END};
static const struct field file_fields[] = {
    F_PATH("path"), F_PATH("to"),  F_INT("size"),  F_INT("pid"),   F_TEXT("comm"),
    F_INT("uid"),   F_INT("mode"), F_INT("owner"), F_INT("group"), F_BOOL("exchange"),
    F_TEXT("dev"),  F_BOOL("cut"), F_END};
static const struct field conn_fields[] = {
    F_INT("pid"),  F_TEXT("comm"),     F_INT("uid"),   F_TEXT("family"),  F_TEXT("address"),
    F_INT("port"), F_TEXT("protocol"), F_INT("errno"), F_BOOL("pending"), F_END};
static const struct field rare_fields[] = {F_INT("pid"),
                                           F_TEXT("comm"),
                                           F_INT("uid"),
                                           F_INT("from"),
                                           F_INT("to"),
                                           F_INT("tracer"),
                                           F_TEXT("tracer_comm"),
                                           F_INT("target"),
                                           F_TEXT("target_comm"),
                                           F_TEXT("name"),
                                           F_INT("command"),
                                           F_PATH("path"),
                                           F_TEXT("type"),
                                           F_PATH("source"),
                                           F_INT("flags"),
                                           F_TEXT("dev"),
                                           F_END};
static const struct field gap_fields[] = {
    {"lost", FIELD_COUNTS, 0, NULL}, {"hooks", FIELD_STRS, 1024, NULL}, F_TEXT("text"), F_END};

const struct field guest_metrics_fields[] = {{"cpu_percent", FIELD_NUM, 0, NULL},
                                             {"memory_used_mb", FIELD_NUM, 0, NULL},
                                             {"memory_total_mb", FIELD_NUM, 0, NULL},
                                             {"disk_used_mb", FIELD_NUM, 0, NULL},
                                             {"disk_total_mb", FIELD_NUM, 0, NULL},
                                             F_INT("num_processes"),
                                             {"load1", FIELD_NUM, 0, NULL},
                                             F_INT("timestamp"),
                                             F_END};
const struct field guest_port_fields[] = {F_INT("port"), F_TEXT("address"), F_INT("family"),
                                          F_INT("pid"),  F_TEXT("process"), F_END};

static const char *const file_ops[] = {"create", "write",   "delete", "rename",   "mkdir", "rmdir",
                                       "link",   "symlink", "mknod",  "truncate", "chmod", "chown"};
static const char *const gap_reasons[] = {"ring_full", "link_full", "detached", "resume"};

static const struct kind {
    const char *e;
    enum cg_record_type type;
    const char *event; /* NULL: there is none in this type */
    const struct field *fields;
} kinds[] = {
    {"exec", CG_REC_PROCESS, "exec", exec_fields},
    {"exit", CG_REC_PROCESS, "exit", exit_fields},
    {"file", CG_REC_FILE_OP, NULL, file_fields},
    {"conn", CG_REC_NETWORK, "connect", conn_fields},
    {"setuid", CG_REC_PROCESS, "setuid", rare_fields},
    {"ptrace", CG_REC_PROCESS, "ptrace", rare_fields},
    {"module", CG_REC_PROCESS, "module", rare_fields},
    {"mount", CG_REC_PROCESS, "mount", rare_fields},
    {"bpf", CG_REC_PROCESS, "bpf", rare_fields},
    {"gap", CG_REC_GAP, NULL, gap_fields},
};

static const struct cg_json_limits line_limits = {CG_RECORD_LINE_MAX, 4, LINE_VALUES};

/* One of the words, or NULL. */
static const char *word(const char *const *words, size_t n, const char *s)
{
    for (size_t i = 0; i < n; i++)
        if (cg_streq(words[i], s))
            return words[i];
    return NULL;
}

static void put_time(struct warden *w, struct cg_jsonw *j, const struct cg_json *o)
{
    const struct cg_json *t = cg_json_get(o, "t");
    if (t && t->type == CG_JSON_INT && w->guest.clock_rtt)
        cg_jsonw_kint(j, "at", guest_clock(w, t->integer));
}

static void count_lost(struct warden *w, const struct cg_json *o)
{
    const struct cg_json *lost = cg_json_get(o, "lost");
    for (const struct cg_json *m = lost ? lost->child : NULL; m; m = m->next)
        if (fields_plain_name(m->key) && m->type == CG_JSON_INT && m->integer > 0 &&
            m->integer < INT64_MAX / 1024)
            w->guest.lost += (uint64_t)m->integer;
}

/* Joins the guest's word to what the egress saw: the number that it has there. */
static void put_flow(struct warden *w, const struct cg_json *o, struct cg_jsonw *j)
{
    const char *comm = cg_json_str(o, "comm");
    const char *protocol = cg_json_str(o, "protocol");
    struct cg_egress_process p = {.udp = cg_streq(protocol, "udp"), .comm = comm ? comm : ""};
    p.made = !cg_json_get(o, "errno") && !cg_json_get(o, "pending");
    int64_t sport = cg_json_int(o, "sport", 0);
    int64_t port = cg_json_int(o, "port", 0);
    const char *address = cg_json_str(o, "address");
    address = address ? address : "";
    /* IPv4 over a socket of IPv6 (RFC 4291 2.5.5.2) */
    size_t mapped = strncmp(address, "::ffff:", 7) == 0 ? 7 : 0;
    if (!w->egress || sport < 1 || sport > UINT16_MAX || port < 1 || port > UINT16_MAX ||
        (p.udp ? port != 53 : !cg_streq(protocol, "tcp")) ||
        !cg_egress_address_parse(address + mapped, &p.address))
        return;
    p.sport = (uint16_t)sport;
    p.port = (uint16_t)port;
    p.pid = cg_json_int(o, "pid", 0);
    uint64_t number = cg_egress_process(w->egress, &p);
    if (number)
        cg_jsonw_kuint(j, p.udp ? "lookup" : "conn", number);
}

static bool record_event(struct warden *w, const struct kind *kind, const struct cg_json *o)
{
    const char *op = word(file_ops, CG_COUNT(file_ops), cg_json_str(o, "op"));
    const char *reason = word(gap_reasons, CG_COUNT(gap_reasons), cg_json_str(o, "reason"));
    if ((kind->type == CG_REC_FILE_OP && !op) || (kind->type == CG_REC_GAP && !reason))
        return false;
    const char *session = NULL;
    if (kind->type != CG_REC_GAP)
        session = sessions_observed(w->sessions, kind->fields == exec_fields, o);
    struct cg_jsonw *j = cg_record_begin(w->record, kind->type, CG_SRC_GUEST, session);
    if (kind->event)
        cg_jsonw_kstr(j, "event", kind->event);
    if (kind->type == CG_REC_FILE_OP)
        cg_jsonw_kstr(j, "op", op);
    if (kind->type == CG_REC_GAP)
        cg_jsonw_kstr(j, "reason", reason);
    fields_copy(kind->fields, o, j);
    if (kind->fields == conn_fields)
        put_flow(w, o, j);
    if (kind->type == CG_REC_FILE_OP)
        cg_jsonw_kstr(j, "origin", "observed");
    put_time(w, j, o);
    cg_record_end(w->record);
    if (kind->type == CG_REC_FILE_OP)
        contents_note(w->contents, op, cg_json_str(o, "path"), cg_json_str(o, "to"), session);
    if (kind->fields == exec_fields)
        cross_exec(w, o);
    if (kind->fields == exit_fields) {
        cross_exited(w, o);
        sessions_exited(w->sessions, o);
    }
    if (kind->type == CG_REC_GAP) {
        count_lost(w, o);
        cross_lost(w, o);
    }
    return true;
}

static bool take_observed(struct warden *w, const struct cg_json *o)
{
    const char *e = cg_json_str(o, "e");
    for (size_t i = 0; i < CG_COUNT(kinds); i++)
        if (cg_streq(kinds[i].e, e))
            return record_event(w, &kinds[i], o);
    if (!cg_streq(e, "beat"))
        return false;
    w->guest.beats++;
    cross_beat(w);
    return true;
}

/* --- ports and samples --- */

static struct guest_port *find_port(struct guest *g, uint16_t port)
{
    for (unsigned i = 0; i < g->nports; i++)
        if (g->port[i].port == port)
            return &g->port[i];
    return NULL;
}

static bool write_object(const struct field *fields, const struct cg_json *o, char *out,
                         size_t size)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, size - 1);
    cg_jsonw_init(&j, &b);
    cg_jsonw_obj(&j);
    fields_copy(fields, o, &j);
    cg_jsonw_obj_end(&j);
    return !b.full && cg_strlcpy(out, size, cg_buf_cstr(&b));
}

static bool take_port(struct warden *w, const struct cg_json *o)
{
    struct guest *g = &w->guest;
    const char *op = cg_json_str(o, "op");
    int64_t number = cg_json_int(o, "port", 0);
    bool opens = cg_streq(op, "open");
    if ((!opens && !cg_streq(op, "close")) || number < 1 || number > 65535)
        return false;
    struct guest_port *at = find_port(g, (uint16_t)number);
    if (opens && !at && g->nports < WARDEN_PORTS)
        at = &g->port[g->nports++];
    if (opens && at) {
        at->port = (uint16_t)number;
        if (!write_object(guest_port_fields, o, at->text, sizeof at->text))
            cg_snprintf(at->text, sizeof at->text, "{\"port\":%d}", (int)number);
    } else if (!opens && at) {
        *at = g->port[--g->nports];
    }
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_PORT, CG_SRC_GUEST, NULL);
    cg_jsonw_kstr(j, "event", opens ? "open" : "close");
    fields_copy(guest_port_fields, o, j);
    cg_record_end(w->record);
    return true;
}

/* Whether this machine's own wall clock was moved since the last time. */
static bool own_clock_set(struct guest *g)
{
    int64_t ahead = (cg_wall_ns() - cg_mono_ns()) / 1000000000;
    int64_t moved = g->own_ahead ? ahead - g->own_ahead : 0;
    g->own_ahead = ahead;
    return moved > CLOCK_OFF_S || moved < -CLOCK_OFF_S;
}

/* Nothing here goes by the guest's wall clock; that somebody changed it is worth knowing. */
static void check_clock(struct warden *w, int64_t timestamp)
{
    struct guest *g = &w->guest;
    int64_t off = timestamp - cg_wall_ns() / 1000000000;
    if (own_clock_set(g))
        g->wall_off = off;
    if (timestamp <= 0 || (off - g->wall_off <= CLOCK_OFF_S && g->wall_off - off <= CLOCK_OFF_S))
        return;
    g->wall_off = off;
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_GAP, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "reason", "guest_clock");
    cg_jsonw_kint(j, "ahead_s", off);
    cg_record_end(w->record);
}

static bool take_metrics(struct warden *w, const struct cg_json *o)
{
    struct guest *g = &w->guest;
    int64_t timestamp = cg_json_int(o, "timestamp", 0);
    if (timestamp < INT64_MAX / 2)
        check_clock(w, timestamp);
    if (!write_object(guest_metrics_fields, o, g->metrics_text, sizeof g->metrics_text))
        g->metrics_text[0] = '\0';
    return true;
}

/* --- lines --- */

typedef bool take_fn(struct warden *w, const struct cg_json *o);

static void take_line(struct warden *w, struct cg_slice line, take_fn *take)
{
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(line, &line_limits, NULL);
    if (!o || o->type != CG_JSON_OBJ || !take(w, o))
        w->guest.malformed++;
}

/* The streams that the guest tells lines on. What came stays in `lines` until it is taken, and only
 * then its credit is given back, so `lines` never holds more than a window: a short line can make a
 * long one of the record, and what the record cannot take now must wait in the guest. */
static const struct telling {
    const char *name;
    take_fn *take;
} tellings[GUEST_TELLINGS] = {
    [TELL_OBSERVE] = {"observe", take_observed},
    [TELL_PORTS] = {"ports", take_port},
    [TELL_METRICS] = {"metrics", take_metrics},
};

static struct down *stream_of(struct guest *g, int which)
{
    return which == TELL_OBSERVE ? &g->observe : which == TELL_PORTS ? &g->ports : &g->metrics;
}

static void take_lines(struct warden *w, int which)
{
    struct guest *g = &w->guest;
    struct cg_buf *b = &g->lines[which];
    size_t at = 0;
    const char *end;
    while (at < b->n && !cg_record_busy(w->record) &&
           (end = memchr(b->p + at, '\n', b->n - at)) != NULL) {
        size_t n = (size_t)(end - (b->p + at));
        take_line(w, (struct cg_slice){b->p + at, n}, tellings[which].take);
        g->observed += which == TELL_OBSERVE;
        if (which == TELL_OBSERVE) {
            g->heard = cg_mono_ns();
            g->silent = false;
        }
        at += n + 1;
    }
    if (at == 0)
        return;
    cg_buf_consume(b, at);
    if (b->n == 0)
        cg_buf_finish(b);
    if (stream_of(g, which)->s) {
        cg_link_grant(stream_of(g, which)->s, at);
        guest_kick(w);
    }
    if (which == TELL_OBSERVE)
        pass_observed(w);
}

static void garbled(struct warden *w, const char *stream)
{
    struct cg_err e = CG_ERR_INIT;
    cg_fail(&e, CG_PROTOCOL, "the guest sent a line over %d bytes on its %s stream",
            CG_RECORD_LINE_MAX, stream);
    life_fail(w, CG_WARDEN_BAD_GUEST, &e);
}

static void on_lines(struct warden *w, int which, struct cg_slice data)
{
    struct cg_buf *b = &w->guest.lines[which];
    CG_ASSERT(cg_buf_add(b, data.p, data.n));
    take_lines(w, which);
    if (b->n > CG_RECORD_LINE_MAX && !memchr(b->p, '\n', b->n))
        garbled(w, tellings[which].name);
}

static void on_observe(struct down *d, unsigned channel, struct cg_slice data)
{
    struct guest *g = CG_CONTAINER(d, struct guest, observe);
    (void)channel;
    on_lines(CG_CONTAINER(g, struct warden, guest), TELL_OBSERVE, data);
}

static void on_ports(struct down *d, unsigned channel, struct cg_slice data)
{
    struct guest *g = CG_CONTAINER(d, struct guest, ports);
    (void)channel;
    on_lines(CG_CONTAINER(g, struct warden, guest), TELL_PORTS, data);
}

static void on_metrics(struct down *d, unsigned channel, struct cg_slice data)
{
    struct guest *g = CG_CONTAINER(d, struct guest, metrics);
    (void)channel;
    on_lines(CG_CONTAINER(g, struct warden, guest), TELL_METRICS, data);
}

void observe_progress(struct warden *w)
{
    for (int which = 0; which < GUEST_TELLINGS; which++)
        if (w->guest.lines[which].n > 0)
            take_lines(w, which);
}

/* The stream is meant to last as long as the guest. */
static void on_observe_end(struct down *d, const struct cg_json *result)
{
    struct guest *g = CG_CONTAINER(d, struct guest, observe);
    struct warden *w = CG_CONTAINER(g, struct warden, guest);
    if (w->state != W_RUNNING || !g->link)
        return;
    const char *text = cg_json_str(cg_json_get(result, "error"), "text");
    text = text && text[0] ? text : "the guest ended the stream";
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_GAP, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "reason", "observe_off");
    cg_jsonw_kstrn(j, "text", text, CG_MIN(strlen(text), (size_t)500));
    cg_record_end(w->record);
    pass_observed(w);
}

/* The observer neither tells nor beats, while its stream is open: somebody holds it. */
static void check_silence(struct warden *w)
{
    struct guest *g = &w->guest;
    int64_t now = cg_mono_ns();
    if (w->state != W_RUNNING || w->freeze || !g->observe.s || g->lines[TELL_OBSERVE].n > 0)
        g->heard = now;
    if (g->silent || g->heard == 0 || now - g->heard < (int64_t)SILENT_S * 1000000000)
        return;
    g->silent = true;
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_GAP, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "reason", "silent");
    cg_jsonw_kint(j, "seconds", SILENT_S);
    cg_record_end(w->record);
}

void observe_second(struct warden *w)
{
    struct guest *g = &w->guest;
    check_silence(w);
    if (g->malformed == g->malformed_told)
        return;
    struct cg_jsonw *j = cg_record_begin(w->record, CG_REC_GAP, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "reason", "malformed");
    cg_jsonw_kuint(j, "lines", g->malformed - g->malformed_told);
    cg_record_end(w->record);
    g->malformed_told = g->malformed;
}

const struct down_ops observe_ops = {.on_data = on_observe, .on_close = on_observe_end};
const struct down_ops ports_ops = {.on_data = on_ports};
const struct down_ops metrics_ops = {.on_data = on_metrics};
