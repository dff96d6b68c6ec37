/* caged attack: what a hostile guest tries against the walls of a sandbox, tried for real. A
 * sandbox like the one that is named (template and network policy), thrown away at the end, runs
 * caged-attack as root; this process listens on the host for what comes out, and reads the
 * counters. Nothing is sent to anybody's machine: what is tried must be refused before it leaves.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/jsonw.h"
#include "cli/attack.h"
#include "cli/canary.h"
#include "cli/client.h"
#include "cli/verb.h"

enum {
    BODY_MAX = 1 << 20,
    PROGRAM_MAX = 4 << 20,
    WORDS = 16,
    VALUE = 40,
    COUNTED_S = 30,
    MASK = 0x5a
};

static const char program[] = "/tmp/caged-attack";

struct attack {
    struct cli c;
    const char *like;                  /* the sandbox that is imitated */
    char *like_template, *mode, *name; /* a name that its policy allows, or NULL */
    char id[64];                       /* the throw-away one */
    char secret[40];
    char value[VALUE + 1];
    bool has_secret, near; /* the server is on this machine */
    struct cli_canaries canaries;
    struct cli_attack_report report;
};

/* --- calls --- */

static struct cg_json *call(struct attack *a, const char *method, const char *what,
                            struct cg_buf *b, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s%s", a->id, what);
    return cli_json(&a->c, method, path, b ? cg_buf_slice(b) : (struct cg_slice){0}, e);
}

static struct cg_json *run(struct attack *a, const char *const *argv, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, BODY_MAX);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_key(&w, "argv");
    cg_jsonw_arr(&w);
    for (; *argv; argv++)
        cg_jsonw_str(&w, *argv);
    cg_jsonw_arr_end(&w);
    cg_jsonw_kstr(&w, "user", "root");
    cg_jsonw_kint(&w, "timeout_ms", 400000);
    cg_jsonw_obj_end(&w);
    struct cg_json *r = call(a, "POST", "/exec", &b, e);
    if (!r && e && e->code == CG_CONFLICT) { /* attacks cost trust: paused for it, maybe */
        CG_OWN(cg_drop_json) struct cg_json *resumed = call(a, "POST", "/resume", NULL, NULL);
        (void)resumed;
        *e = (struct cg_err)CG_ERR_INIT;
        r = call(a, "POST", "/exec", &b, e);
    }
    int code = (int)cg_json_int(r, "exit_code", -1);
    if (r && code != 0) {
        const char *err = cg_json_str(r, "error");
        cg_fail(e, CG_INTERNAL, "%s in the guest ended with %d: %.100s", program, code,
                err ? err : cg_json_str(r, "output"));
        cg_drop_json(&r);
        return NULL;
    }
    return r;
}

static int64_t dropped(struct attack *a)
{
    CG_OWN(cg_drop_json) struct cg_json *s = call(a, "GET", "/status", NULL, NULL);
    return cg_json_int(cg_json_get(s, "network"), "dropped_packets", 0);
}

/* --- the sandbox --- */

/* A name without a wildcard that the policy allows by itself. */
static char *pick_name(const struct cg_json *allow)
{
    for (const struct cg_json *v = allow ? allow->child : NULL; v; v = v->next) {
        if (v->type != CG_JSON_STR || strpbrk(v->str.p, "*/") || !strpbrk(v->str.p, ".") ||
            strspn(v->str.p, "0123456789.:") == v->str.n)
            continue;
        return cg_format("%.*s", (int)strcspn(v->str.p, ":"), v->str.p);
    }
    return NULL;
}

static bool make_secret(struct attack *a, struct cg_err *e)
{
    static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    unsigned char random[VALUE + 8];
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_rand_bytes(random, sizeof random);
    for (size_t i = 0; i < VALUE; i++)
        a->value[i] = letters[random[i] % 32];
    cg_snprintf(a->secret, sizeof a->secret, "CAGED_ATTACK_");
    for (size_t i = 0; i < 8; i++)
        a->secret[13 + i] = letters[random[VALUE + i] % 32];
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/secrets/%s", a->secret);
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "value", a->value);
    cg_jsonw_key(&w, "hosts");
    cg_jsonw_arr(&w);
    cg_jsonw_str(&w, CLI_ATTACK_NAME);
    cg_jsonw_arr_end(&w);
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_json)
    struct cg_json *made = cli_json(&a->c, "PUT", path, cg_buf_slice(&b), e);
    a->has_secret = made != NULL;
    return made != NULL;
}

static bool make_sandbox(struct attack *a, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "template", a->like_template);
    cg_jsonw_kstr(&w, "name", "attack");
    cg_jsonw_kint(&w, "cpus", 1);
    cg_jsonw_kint(&w, "memory_mb", 256);
    cg_jsonw_kint(&w, "disk_gb", 1);
    cg_jsonw_kstr(&w, "network_mode", "none");
    if (a->has_secret) {
        cg_jsonw_key(&w, "secrets");
        cg_jsonw_arr(&w);
        cg_jsonw_str(&w, a->secret);
        cg_jsonw_arr_end(&w);
    }
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_json)
    struct cg_json *s = cli_json(&a->c, "POST", "/v1/sandboxes", cg_buf_slice(&b), e);
    const char *id = cg_json_str(s, "id");
    return id && (cg_strlcpy(a->id, sizeof a->id, id) ||
                  cg_fail(e, CG_INTERNAL, "an id that is too long"));
}

static bool take_policy(struct attack *a, const struct cg_json *policy, struct cg_err *e)
{
    static const char *const lists[] = {"allow", "deny"};
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, BODY_MAX);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "mode", a->mode);
    for (size_t i = 0; i < CG_COUNT(lists); i++) {
        cg_jsonw_key(&w, lists[i]);
        cg_jsonw_value(&w, cg_json_get(policy, lists[i]));
    }
    cg_jsonw_obj_end(&w);
    CG_OWN(cg_drop_json) struct cg_json *now = call(a, "PATCH", "/network", &b, e);
    return now != NULL;
}

static bool send_program(struct attack *a, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *libexec = cli_libexec();
    CG_OWN(cg_drop_free) char *from = cg_format("%s/caged-attack", libexec);
    CG_OWN(cg_drop_free) char *bytes = NULL;
    CG_OWN(cg_drop_free)
    char *path = cg_format("/v1/sandboxes/%s/files/raw?path=%s", a->id, program);
    const char *const mode[] = {"chmod", "0755", program, NULL};
    size_t n = 0;
    if (!cg_fs_slurp(from, PROGRAM_MAX, &bytes, &n, e) ||
        !cli_call(&a->c, "PUT", path, (struct cg_slice){bytes, n}, NULL, e))
        return cg_wrap(e, "send the program into the sandbox");
    CG_OWN(cg_drop_json) struct cg_json *r = run(a, mode, e);
    return r != NULL;
}

static bool prepare(struct attack *a, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *like = cli_escape(a->like);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s", like);
    CG_OWN(cg_drop_free) char *network = cg_format("%s/network", path);
    CG_OWN(cg_drop_json) struct cg_json *s = cli_json(&a->c, "GET", path, (struct cg_slice){0}, e);
    CG_OWN(cg_drop_json)
    struct cg_json *policy = s ? cli_json(&a->c, "GET", network, (struct cg_slice){0}, e) : NULL;
    const char *template_name = cg_json_str(s, "template");
    const char *mode = cg_json_str(policy, "mode");
    if (!policy)
        return false;
    if (!template_name || !mode)
        return cg_fail(e, CG_INTERNAL, "sandbox %s has no template or no policy", a->like);
    a->like_template = cg_strdup(template_name);
    a->mode = cg_strdup(mode);
    a->name = pick_name(cg_json_get(policy, "allow"));
    if (cg_json_get(policy, "operator")->count > 0)
        fprintf(stderr,
                "note: the operator's network.allow opens addresses in every sandbox; "
                "caged network %s shows them\n",
                a->like);
    return make_secret(a, e) && make_sandbox(a, e) && take_policy(a, policy, e) &&
           send_program(a, e);
}

static void clean_up(struct attack *a)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) char *sandbox = cg_format("/v1/sandboxes/%s", a->id);
    CG_OWN(cg_drop_free) char *secret = cg_format("/v1/secrets/%s", a->secret);
    if (a->id[0] && !cli_call(&a->c, "DELETE", sandbox, (struct cg_slice){0}, NULL, &e))
        fprintf(stderr, "warning: sandbox %s stays: %s\n", a->id, e.text);
    if (a->has_secret && !cli_call(&a->c, "DELETE", secret, (struct cg_slice){0}, NULL, &e))
        fprintf(stderr, "warning: secret %s stays: %s\n", a->secret, e.text);
    cli_canaries_close(&a->canaries);
    free(a->like_template);
    free(a->mode);
    free(a->name);
}

/* --- classes --- */

static void put_hex(struct cg_buf *b, const char *text)
{
    for (; *text; text++)
        cg_buf_addf(b, "%02x", (unsigned char)*text ^ MASK);
    cg_buf_add(b, "", 1);
}

/* Ports of the host, by every address and name that could lead there, each ended by NUL. */
static void put_doors(const struct attack *a, struct cg_buf *b)
{
    const char *colon = strrchr(a->c.url, ':');
    unsigned server = colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
    for (unsigned i = 0; a->near && i < a->canaries.n; i++) {
        const struct cli_canary *k = &a->canaries.all[i];
        bool loopback = strncmp(k->address, "127.", 4) == 0; /* in the guest, its own */
        const char *const by[] = {loopback ? "host.caged.internal" : k->address,
                                  loopback ? "172.30.0.1" : NULL};
        for (size_t n = 0; n < CG_COUNT(by) && by[n]; n++) {
            cg_buf_addf(b, "%s:%u", by[n], k->port);
            cg_buf_add(b, "", 1);
            if (server) {
                cg_buf_addf(b, "%s:%u", by[n], server);
                cg_buf_add(b, "", 1);
            }
        }
    }
}

static void put_datagram_doors(const struct attack *a, struct cg_buf *b)
{
    for (unsigned i = 1; a->near && i < a->canaries.n; i++) { /* the first is loopback */
        cg_buf_addf(b, "%s:%u", a->canaries.all[i].address, a->canaries.all[i].datagram_port);
        cg_buf_add(b, "", 1);
    }
}

/* The words of a class; NULL, or why it is not tried. */
static const char *words_of(const struct attack *a, enum cli_attack_class class, struct cg_buf *b)
{
    bool listed = cg_streq(a->mode, "allowlist");
    switch (class) {
    case CLI_ATTACK_DNS:
        cg_buf_adds(b, CLI_ATTACK_NAME);
        cg_buf_add(b, "", 1);
        return cg_streq(a->mode, "full") ? "mode full looks up every name" : NULL;
    case CLI_ATTACK_HELLO:
        if (!listed || !a->name)
            return listed ? "the allowlist has no plain name" : "no allowlist: names do not decide";
        cg_buf_adds(b, a->name);
        cg_buf_add(b, "", 1);
        return NULL;
    case CLI_ATTACK_DOORS:
        put_doors(a, b);
        return a->near ? NULL : "the server is on another machine";
    case CLI_ATTACK_DATAGRAMS:
        put_datagram_doors(a, b);
        return NULL;
    case CLI_ATTACK_VALUES:
        put_hex(b, a->value);
        put_hex(b, "caged_ph_CAGED_ATTACK_");
        return NULL;
    case CLI_ATTACK_NAMES:
    case CLI_ATTACK_ADDRESSES:
    case CLI_ATTACK_IPV6:
    case CLI_ATTACK_FRAMES:
    case CLI_ATTACK_VSOCK:
    case CLI_ATTACK_GATEWAY:
    case CLI_ATTACK_CLASSES:
        return NULL;
    }
    return NULL;
}

/* What was only sent is held when the packet filter has counted it. */
static void settle_sent(struct attack *a, struct cli_attack_row *row, int64_t before)
{
    int64_t until = cg_mono_ns() + COUNTED_S * INT64_C(1000000000);
    int64_t now = 0;
    while (row->sent > 0 && (now = dropped(a) - before) < row->sent && cg_mono_ns() < until)
        usleep(500000);
    if (now >= row->sent) {
        row->held += row->sent;
    } else {
        char text[128];
        cg_snprintf(text, sizeof text, "of %u packets only %lld are counted as dropped", row->sent,
                    (long long)now);
        cli_attack_open(row, text);
    }
    row->sent = 0;
}

static bool try_class(struct attack *a, enum cli_attack_class class, struct cg_err *e)
{
    struct cli_attack_row *row = &a->report.rows[class];
    const char *argv[3 + 2 * 2 * CLI_CANARIES + 1] = {program, cli_attack_name(class)};
    CG_OWN(cg_drop_buf) struct cg_buf words;
    CG_OWN(cg_drop_buf) struct cg_buf arrived;
    cg_buf_init(&words, BODY_MAX);
    cg_buf_init(&arrived, 65536);
    row->untried = words_of(a, class, &words);
    if (row->untried)
        return true;
    size_t n = 2;
    for (size_t at = 0; at < words.n && n < CG_COUNT(argv) - 1; at += strlen(words.p + at) + 1)
        argv[n++] = words.p + at;
    int64_t before = dropped(a);
    CG_OWN(cg_drop_json) struct cg_json *r = run(a, argv, e);
    const struct cg_json *out = cg_json_get(r, "stdout");
    if (!out || out->type != CG_JSON_STR)
        return r ? cg_fail(e, CG_INTERNAL, "%s: no output", program) : false;
    cli_attack_read(row, out->str.p);
    settle_sent(a, row, before);
    cli_canaries_take(&a->canaries, &arrived);
    for (size_t at = 0; at < arrived.n; at += strlen(arrived.p + at) + 1)
        cli_attack_open(row, arrived.p + at);
    return true;
}

static bool is_near(const char *url)
{
    return strstr(url, "//127.") || strstr(url, "//localhost") || strstr(url, "//[::1]");
}

int verb_attack(int argc, char **argv)
{
    struct attack a = {.like = NULL};
    struct cg_err e = CG_ERR_INIT;
    bool json = false;
    const char *only = NULL;
    char *words[WORDS];
    int n = 0;
    const struct cli_flag flags[] = {{"--json", false, NULL, &json, NULL},
                                     {"--only", true, &only, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e) || n != 1)
        return cli_usage("attack needs one sandbox: a throw-away copy of its walls is attacked");
    if (only && !cli_attack_select(&a.report, only))
        return cli_usage("there is no class %s of attacks", only);
    a.like = words[0];
    if (!cli_find(&a.c, &e))
        return cli_error(&e);
    a.near = is_near(a.c.url);
    cli_canaries_open(&a.canaries);
    bool ok = prepare(&a, &e);
    if (ok && !json)
        cli_attack_head(a.id, a.like_template, a.mode);
    for (int i = 0; ok && i < CLI_ATTACK_CLASSES; i++) {
        if (a.report.rows[i].unwanted)
            continue;
        ok = try_class(&a, (enum cli_attack_class)i, &e);
        if (ok && !json)
            cli_attack_line(&a.report, (enum cli_attack_class)i);
    }
    int code = ok ? cli_attack_end(&a.report, a.mode, json) : 0;
    clean_up(&a);
    cli_attack_free(&a.report);
    cli_finish(&a.c);
    return ok ? code : cli_error(&e);
}
