/* See format.h. Every length in a record is checked before it is used: only our own programs write
 * records, but in a kernel that the guest's root may have changed. */
#include "format.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/jsonw.h"
#include "names.h"

enum { HEAD = offsetof(struct cg_obs_rec, text), NAMES_MAX = 1024 };

struct view {
    const struct cg_obs_rec *r;
    const char *argv;
    const char *path[2];
    const char *rest; /* text behind argv and paths */
    size_t rest_n;
};

static bool look(struct view *v, const void *record, size_t n)
{
    const struct cg_obs_rec *r = record;

    if (n < HEAD || r->text_n != n - HEAD || r->text_n > CG_OBS_TEXT || r->kind >= CG_OBS_KINDS)
        return false;
    size_t used = (size_t)r->argv_n + r->path[0].n + r->path[1].n;
    if (r->argv_n > r->text_n || used > r->text_n)
        return false;
    v->r = r;
    v->argv = r->text;
    v->path[0] = r->text + r->argv_n;
    v->path[1] = v->path[0] + r->path[0].n;
    v->rest = r->text + used;
    v->rest_n = r->text_n - used;
    return true;
}

unsigned cg_obs_kind_of(const void *record, size_t n)
{
    struct view v;

    return look(&v, record, n) ? v.r->kind : CG_OBS_KINDS;
}

uint64_t cg_obs_time_of(const void *record, size_t n)
{
    struct view v;

    return look(&v, record, n) ? v.r->t_ns : 0;
}

/* As cg_jsonw_kuint; a storm's lines are mostly numbers, and printf is most of their time. */
static void put_uint(struct cg_jsonw *w, const char *key, uint64_t v)
{
    char text[20];
    size_t at = sizeof text;

    do
        text[--at] = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    cg_jsonw_key(w, key);
    cg_jsonw_raw(w, text + at, sizeof text - at);
}

/* Names come leaf first, each with its NUL; the path goes into out from the root down, "" for the
 * root itself. False when it had to leave names out. */
static bool turn_round(const char *text, size_t n, char *out)
{
    size_t start[NAMES_MAX] = {0}, names = 0, used = 0;
    bool whole = n == 0 || text[n - 1] == '\0';

    for (size_t at = 0; at < n && names < NAMES_MAX; names++) {
        start[names] = at;
        at += strnlen(text + at, n - at) + 1;
        whole = whole && (names + 1 < NAMES_MAX || at >= n);
    }
    while (names-- > 0) {
        size_t len = strnlen(text + start[names], n - start[names]);
        out[used++] = '/';
        memcpy(out + used, text + start[names], len);
        used += len;
    }
    out[used] = '\0';
    return whole;
}

/* Writes the member `key`; *dev says that the mount is not known, *cut that names are missing. */
static void put_path(struct cg_jsonw *w, const struct cg_obs_places *places, const char *key,
                     const struct cg_obs_path *p, const char *text, bool *known, bool *cut)
{
    char inner[CG_OBS_TEXT + 2], whole[CG_MOUNTS_PATH + sizeof inner + 4];
    const char *point = "";
    size_t skip = 0;
    bool complete = turn_round(text, p->n, inner) && !(p->flags & CG_OBS_PATH_CUT);

    if (!complete) {
        *cut = true;
        point = "...";
    } else if (p->flags & CG_OBS_PATH_INNER) {
        skip = inner[0] == '/';
    } else if (p->scope > 0 && p->scope <= CG_OBS_SCOPE_MAX && places->scope[p->scope - 1]) {
        point = places->scope[p->scope - 1];
    } else if ((p->flags & CG_OBS_PATH_LOOSE) ||
               !cg_mounts_find(places->mounts, p->dev, inner, &point, &skip)) {
        *known = false;
    }
    size_t point_n = strnlen(point, CG_MOUNTS_PATH), inner_n = strlen(inner + skip);
    memcpy(whole, point, point_n);
    memcpy(whole + point_n, inner + skip, inner_n);
    if (point_n + inner_n == 0)
        cg_jsonw_kstr(w, key, "/");
    else
        cg_jsonw_kstrn(w, key, whole, point_n + inner_n);
}

static void put_dev(struct cg_jsonw *w, uint32_t dev)
{
    char text[32];

    cg_snprintf(text, sizeof text, "%u:%u", dev >> 20, dev & 0xfffff);
    cg_jsonw_kstr(w, "dev", text);
}

static void put_comm(struct cg_jsonw *w, const struct view *v)
{
    cg_jsonw_kstrn(w, "comm", v->r->comm, strnlen(v->r->comm, sizeof v->r->comm));
}

static void put_who(struct cg_jsonw *w, const struct view *v)
{
    put_uint(w, "pid", v->r->pid);
    put_comm(w, v);
    put_uint(w, "uid", v->r->uid);
}

static void put_task(struct cg_jsonw *w, const struct view *v)
{
    put_uint(w, "pid", v->r->pid);
    put_uint(w, "ppid", v->r->ppid);
    put_uint(w, "uid", v->r->uid);
    put_comm(w, v);
}

static void put_exec(struct cg_jsonw *w, const struct cg_obs_places *places, const struct view *v)
{
    bool known = true, cwd_known = true, cut = v->r->flags & CG_OBS_F_ARGV_CUT;

    put_task(w, v);
    put_path(w, places, "exe", &v->r->path[0], v->path[0], &known, &cut);
    cg_jsonw_key(w, "argv");
    cg_jsonw_arr(w);
    for (size_t at = 0; at < v->r->argv_n;) {
        size_t n = strnlen(v->argv + at, v->r->argv_n - at);
        cg_jsonw_strn(w, v->argv + at, n);
        at += n + 1;
    }
    cg_jsonw_arr_end(w);
    put_path(w, places, "cwd", &v->r->path[1], v->path[1], &cwd_known, &cut);
    if (!known)
        put_dev(w, v->r->path[0].dev);
    if (cut)
        cg_jsonw_kbool(w, "cut", true);
}

/* The status is that of wait(2). */
static void put_exit(struct cg_jsonw *w, const struct view *v)
{
    int signal = (int)(v->r->num[0] & 0x7f);
    const char *name = cg_obs_signal_name(signal);
    char number[16];

    put_task(w, v);
    cg_jsonw_kint(w, "code", signal ? 128 + signal : (int)(v->r->num[0] >> 8 & 0xff));
    cg_snprintf(number, sizeof number, "%d", signal);
    cg_jsonw_kstr(w, "signal", signal == 0 ? NULL : name ? name : number);
    put_uint(w, "ns", v->r->num[1]);
}

static void put_file_more(struct cg_jsonw *w, const struct view *v)
{
    const struct cg_obs_rec *r = v->r;

    switch (r->op) {
    case CG_OBS_WRITE:
    case CG_OBS_TRUNCATE:
        put_uint(w, "size", r->num[0]);
        break;
    case CG_OBS_CHMOD:
        put_uint(w, "mode", r->num[1] & 07777);
        break;
    case CG_OBS_CHOWN:
        if (r->num[2] != UINT32_MAX)
            put_uint(w, "owner", r->num[2]);
        if (r->num[3] != UINT32_MAX)
            put_uint(w, "group", r->num[3]);
        break;
    default:
        break;
    }
}

static void put_file(struct cg_jsonw *w, const struct cg_obs_places *places, const struct view *v)
{
    const struct cg_obs_rec *r = v->r;
    bool known = true, cut = false;

    cg_jsonw_kstr(w, "op", cg_obs_op_name(r->op));
    put_path(w, places, "path", &r->path[0], v->path[0], &known, &cut);
    if (r->op == CG_OBS_RENAME || r->op == CG_OBS_LINK)
        put_path(w, places, "to", &r->path[1], v->path[1], &known, &cut);
    else if (r->op == CG_OBS_SYMLINK)
        cg_jsonw_kstrn(w, "to", v->rest, strnlen(v->rest, v->rest_n));
    put_who(w, v);
    put_file_more(w, v);
    if (r->flags & CG_OBS_F_EXCHANGE)
        cg_jsonw_kbool(w, "exchange", true);
    if (!known)
        put_dev(w, r->path[0].dev);
    if (cut)
        cg_jsonw_kbool(w, "cut", true);
}

static void put_conn(struct cg_jsonw *w, const struct view *v)
{
    const struct cg_obs_rec *r = v->r;
    bool six = r->num[3] == AF_INET6;
    char text[INET6_ADDRSTRLEN] = "";

    put_who(w, v);
    cg_jsonw_kstr(w, "family", six ? "ipv6" : "ipv4");
    inet_ntop(six ? AF_INET6 : AF_INET, r->addr, text, sizeof text);
    cg_jsonw_kstr(w, "address", text);
    put_uint(w, "port", r->num[0] & 0xffff);
    if (r->num[0] >> 16)
        put_uint(w, "sport", r->num[0] >> 16);
    if (r->num[2] == IPPROTO_TCP || r->num[2] == IPPROTO_UDP) {
        cg_jsonw_kstr(w, "protocol", r->num[2] == IPPROTO_TCP ? "tcp" : "udp");
    } else {
        cg_snprintf(text, sizeof text, "%u", (unsigned)r->num[2]);
        cg_jsonw_kstr(w, "protocol", text);
    }
    if (r->num[1])
        put_uint(w, "errno", r->num[1]);
    if (r->flags & CG_OBS_F_PENDING)
        cg_jsonw_kbool(w, "pending", true);
}

static void put_mount(struct cg_jsonw *w, const struct cg_obs_places *places, const struct view *v)
{
    bool known = true, cut = false;
    size_t type_n = strnlen(v->argv, v->r->argv_n);

    put_who(w, v);
    put_path(w, places, "path", &v->r->path[0], v->path[0], &known, &cut);
    if (v->r->argv_n > 0) {
        size_t at = CG_MIN(type_n + 1, v->r->argv_n);
        cg_jsonw_kstrn(w, "type", v->argv, type_n);
        cg_jsonw_kstrn(w, "source", v->argv + at, strnlen(v->argv + at, v->r->argv_n - at));
    }
    put_uint(w, "flags", v->r->num[0]);
    if (!known)
        put_dev(w, v->r->path[0].dev);
}

static void put_rare(struct cg_jsonw *w, const struct view *v)
{
    const struct cg_obs_rec *r = v->r;
    const char *comm = (const char *)r->addr;
    bool asked = r->flags & CG_OBS_F_TRACEME;

    put_who(w, v);
    switch (r->kind) {
    case CG_OBS_SETUID:
        put_uint(w, "from", r->num[0]);
        put_uint(w, "to", r->num[1]);
        break;
    case CG_OBS_PTRACE:
        /* who asks to be traced names the tracer */
        put_uint(w, asked ? "tracer" : "target", r->num[0]);
        cg_jsonw_kstrn(w, asked ? "tracer_comm" : "target_comm", comm,
                       strnlen(comm, sizeof r->addr));
        break;
    case CG_OBS_MODULE:
        cg_jsonw_kstrn(w, "name", v->rest, strnlen(v->rest, v->rest_n));
        break;
    default:
        put_uint(w, "command", r->num[0]);
    }
}

static void put_event(struct cg_jsonw *w, const struct cg_obs_places *places, const struct view *v)
{
    switch (v->r->kind) {
    case CG_OBS_EXEC:
        put_exec(w, places, v);
        break;
    case CG_OBS_EXIT:
        put_exit(w, v);
        break;
    case CG_OBS_FILE:
        put_file(w, places, v);
        break;
    case CG_OBS_CONN:
        put_conn(w, v);
        break;
    case CG_OBS_MOUNT:
        put_mount(w, places, v);
        break;
    default:
        put_rare(w, v);
    }
}

bool cg_obs_format(struct cg_buf *out, const struct cg_obs_places *places, const void *record,
                   size_t n)
{
    struct cg_jsonw w;
    struct view v;
    size_t before = out->n;

    if (!look(&v, record, n) || (v.r->kind == CG_OBS_FILE && !cg_obs_op_name(v.r->op)))
        return false;
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "e", cg_obs_kind_name(v.r->kind));
    put_uint(&w, "t", v.r->t_ns);
    put_event(&w, places, &v);
    cg_jsonw_obj_end(&w);
    if (!out->full)
        return true;
    out->n = before;
    out->full = false;
    return false;
}
