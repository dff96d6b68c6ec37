/* The operator's file is YAML: a map of sections. Unknown keys are refused with their line. */
#include "core/options.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "core/hostca.h"
#include "core/network.h"
#include "core/options_inner.h"
#include "core/registries.h"
#include "trust/trust.h"

static const char usage[] =
    "usage: caged-server [--state-dir DIR] [--listen HOST:PORT] [--config FILE] [--foreground]\n"
    "                    [--log-level debug|info|warn|error]\n";

char *cg_default_state_dir(void)
{
    const char *set = getenv("CAGED_STATE_DIR");
    if (set && set[0])
        return cg_strdup(set);
    if (getuid() == 0)
        return cg_strdup("/var/lib/caged");
    const char *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (xdg && xdg[0] == '/')
        return cg_format("%s/caged", xdg);
    return cg_format("%s/.local/state/caged", home ? home : "/tmp");
}

static bool read_listen(const char *text, struct cg_options *o, struct cg_err *e)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || colon == text || !colon[1] || *end || port > 65535)
        return cg_fail(e, CG_INVALID, "--listen %s: HOST:PORT is needed, as in 127.0.0.1:7878",
                       text);
    free(o->listen_host);
    size_t n = (size_t)(colon - text);
    bool bracket = n > 2 && text[0] == '[' && text[n - 1] == ']';
    o->listen_host = bracket ? cg_strndup(text + 1, n - 2) : cg_strndup(text, n);
    o->listen_port = (uint16_t)port;
    return true;
}

/* --- the file --- */

bool cg_options_bad(struct cg_options_file *f, const yaml_node_t *at, const char *what)
{
    return cg_fail(f->e, CG_INVALID, "%s:%zu: %s", f->path, at ? at->start_mark.line + 1 : 0, what);
}

const char *cg_options_text(const yaml_node_t *n)
{
    return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static bool read_allow(struct cg_options_file *f, yaml_node_t *list, struct cg_egress_policy *p)
{
    if (!list || list->type != YAML_SEQUENCE_NODE)
        return cg_options_bad(f, list, "network.allow must be a list of CIDR or CIDR:PORT");
    for (yaml_node_item_t *i = list->data.sequence.items.start; i < list->data.sequence.items.top;
         i++) {
        yaml_node_t *n = yaml_document_get_node(&f->doc, *i);
        if (p->nrules == CG_EGRESS_RULES)
            return cg_options_bad(f, n, "network.allow has too many entries");
        struct cg_err why = CG_ERR_INIT;
        if (!cg_options_text(n) ||
            !cg_egress_rule_parse(cg_options_text(n), &p->rules[p->nrules], &why))
            return cg_options_bad(
                f, n, why.text[0] ? why.text : "network.allow must hold CIDR or CIDR:PORT");
        p->nrules++;
    }
    return true;
}

static bool read_resolvers(struct cg_options_file *f, yaml_node_t *list, struct cg_egress_policy *p)
{
    if (list->type != YAML_SEQUENCE_NODE)
        return cg_options_bad(f, list, "network.resolvers must be a list of IPv4 addresses");
    for (yaml_node_item_t *i = list->data.sequence.items.start; i < list->data.sequence.items.top;
         i++) {
        yaml_node_t *n = yaml_document_get_node(&f->doc, *i);
        struct cg_egress_rule *r = &p->resolvers[p->nresolvers];
        if (p->nresolvers == CG_EGRESS_RESOLVERS || !cg_options_text(n) ||
            !cg_egress_rule_parse(cg_options_text(n), r, NULL) || r->prefix != 32)
            return cg_options_bad(
                f, n, "network.resolvers must hold up to four of ADDRESS or ADDRESS:PORT");
        p->nresolvers++;
    }
    return true;
}

static bool read_hosts(struct cg_options_file *f, yaml_node_t *map, struct cg_egress_policy *p)
{
    if (map->type != YAML_MAPPING_NODE)
        return cg_options_bad(f, map, "network.hosts must map names to IPv4 addresses");
    for (yaml_node_pair_t *i = map->data.mapping.pairs.start; i < map->data.mapping.pairs.top;
         i++) {
        yaml_node_t *key = yaml_document_get_node(&f->doc, i->key);
        yaml_node_t *value = yaml_document_get_node(&f->doc, i->value);
        struct cg_egress_host *h = &p->hosts[p->nhosts];
        if (p->nhosts == CG_EGRESS_HOSTS)
            return cg_options_bad(f, key, "network.hosts has too many entries");
        if (!cg_options_text(key) || !cg_options_text(value) ||
            !cg_egress_name_parse(cg_options_text(key), h->name) ||
            !cg_egress_address_parse(cg_options_text(value), &h->address))
            return cg_options_bad(f, key, "network.hosts must map names to IPv4 addresses");
        h->to = 0;
        p->nhosts++;
    }
    return true;
}

/* Certificates of the operator's own hosts; a warden is given their text. */
static bool read_ca(struct cg_options_file *f, yaml_node_t *n, struct cg_options *o)
{
    struct cg_err why = CG_ERR_INIT;
    free(o->ca_pem);
    o->ca_pem = NULL;
    if (!cg_options_text(n) || !cg_fs_slurp(cg_options_text(n), 64 * 1024, &o->ca_pem, NULL, &why))
        return cg_options_bad(
            f, n, why.text[0] ? why.text : "network.ca_file must be a file of at most 64 KiB");
    return strstr(o->ca_pem, "-----BEGIN CERTIFICATE-----") ||
           cg_options_bad(f, n, "network.ca_file holds no certificate in PEM");
}

/* Read while we still may; checked when the rules under it are known. */
static bool read_rules(struct cg_options_file *f, yaml_node_t *n, struct cg_options *o)
{
    struct cg_err why = CG_ERR_INIT;
    free(o->trust_rules);
    free(o->trust_text);
    o->trust_rules = o->trust_text = NULL;
    if (!cg_options_text(n) ||
        !cg_fs_slurp(cg_options_text(n), CG_PACK_MAX, &o->trust_text, NULL, &why))
        return cg_options_bad(f, n, why.text[0] ? why.text : "trust.rules must be a file");
    o->trust_rules = cg_strdup(cg_options_text(n));
    return true;
}

static bool read_number(struct cg_options_file *f, yaml_node_t *n, uint32_t max, uint32_t *out)
{
    char *end = NULL;
    const char *text = cg_options_text(n);
    unsigned long v = text ? strtoul(text, &end, 10) : 0;
    if (!text || !text[0] || *end || text[0] == '-' || v > max)
        return cg_options_bad(f, n, "a whole number within its range is needed");
    *out = (uint32_t)v;
    return true;
}

static bool read_password(struct cg_options_file *f, yaml_node_t *n, struct cg_options *o)
{
    struct cg_err why = CG_ERR_INIT;
    free(o->smtp_password);
    o->smtp_password = NULL;
    if (!cg_options_text(n) ||
        !cg_fs_slurp(cg_options_text(n), 1024, &o->smtp_password, NULL, &why))
        return cg_options_bad(f, n,
                              why.text[0] ? why.text : "notify.smtp_password_file must be a file");
    o->smtp_password[strcspn(o->smtp_password, "\r\n")] = '\0';
    return true;
}

/* notify.KEY: where messages may go, and the mail server. */
static bool read_notify(struct cg_options_file *f, const char *key, yaml_node_t *at, yaml_node_t *n,
                        struct cg_options *o)
{
    const struct {
        const char *name;
        char **out;
    } texts[] = {{"smtp_url", &o->smtp_url}, {"smtp_user", &o->smtp_user}, {"from", &o->mail_from}};
    if (strcmp(key, "allow") == 0) {
        struct cg_egress_policy p = {.nrules = 0};
        bool fine = read_allow(f, n, &p);
        memcpy(o->notify_allow, p.rules, sizeof o->notify_allow);
        o->nnotify_allow = p.nrules;
        return fine;
    }
    if (strcmp(key, "smtp_password_file") == 0)
        return read_password(f, n, o);
    if (strcmp(key, "retry_seconds") == 0)
        return read_number(f, n, 3600, &o->retry_s);
    if (strcmp(key, "interval_seconds") == 0)
        return read_number(f, n, 3600, &o->alert_interval_s);
    for (size_t i = 0; i < CG_COUNT(texts); i++) {
        if (strcmp(key, texts[i].name) != 0)
            continue;
        bool url = strcmp(key, "smtp_url") == 0;
        if (!cg_options_text(n) || strpbrk(cg_options_text(n), "\r\n ") ||
            (url && !cg_has_prefix(cg_options_text(n), "smtp://") &&
             !cg_has_prefix(cg_options_text(n), "smtps://")))
            return cg_options_bad(f, n,
                                  url ? "notify.smtp_url must be smtp:// or smtps:// and a host"
                                      : "one word is needed");
        free(*texts[i].out);
        *texts[i].out = cg_strdup(cg_options_text(n));
        return true;
    }
    return cg_options_bad(f, at,
                          "notify knows allow, smtp_url, smtp_user, smtp_password_file, from, "
                          "retry_seconds and interval_seconds");
}

/* One of two words. */
static bool read_word(struct cg_options_file *f, yaml_node_t *n, const char *off, const char *on,
                      bool *out)
{
    char text[96];
    const char *word = cg_options_text(n);
    *out = cg_streq(word, on);
    cg_snprintf(text, sizeof text, "%s or %s is needed", off, on);
    return *out || cg_streq(word, off) || cg_options_bad(f, n, text);
}

/* A key that is one of two words, the first by default; *known: it is one. */
static bool read_switch(struct cg_options_file *f, const char *full, yaml_node_t *value,
                        struct cg_options *o, bool *known)
{
    const struct {
        const char *name, *off, *on;
        bool *out;
    } words[] = {{"llm.mode", "flow", "strict", &o->llm_strict},
                 {"llm.bodies", "kept", "dropped", &o->llm_no_bodies},
                 {"llm.intercept", "on", "off", &o->llm_no_intercept},
                 {"llm.unrouted", "refused", "allowed", &o->llm_unrouted},
                 {"golden.snapshots", "on", "off", &o->golden_off},
                 {"pause.wake", "on", "off", &o->stay_asleep},
                 {"pause.snapshot", "on", "off", &o->pause_unsaved}};
    for (size_t i = 0; i < CG_COUNT(words); i++) {
        if (strcmp(full, words[i].name) != 0)
            continue;
        *known = true;
        return read_word(f, value, words[i].off, words[i].on, words[i].out);
    }
    return false;
}

/* Those of the same section: a message has its limits. */
static bool unknown_key(struct cg_options_file *f, yaml_node_t *at, const char *section)
{
    static const char *const known[] = {"accounts.plan",
                                        "accounts.plans",
                                        "accounts.signup",
                                        "golden.snapshots",
                                        "golden.spares",
                                        "limits.sandboxes",
                                        "limits.memory_mb",
                                        "limits.requests_per_minute",
                                        "limits.cpus",
                                        "limits.disk_gb",
                                        "limits.snapshots",
                                        "limits.snapshot_mb",
                                        "limits.snapshots_mb",
                                        "llm.mode",
                                        "llm.bodies",
                                        "llm.prices",
                                        "llm.intercept",
                                        "llm.unrouted",
                                        "machine.vcpu_hour",
                                        "machine.gib_hour",
                                        "machine.disk_gib_hour",
                                        "machine.egress_gb",
                                        "pause.wake",
                                        "pause.snapshot",
                                        "defaults.cpus",
                                        "defaults.memory_mb",
                                        "defaults.disk_gb",
                                        "defaults.timeout",
                                        "network.allow",
                                        "network.hosts",
                                        "network.resolvers",
                                        "network.ca_file",
                                        "network.guest_ca",
                                        "trust.rules",
                                        "previews.listen",
                                        "previews.requests_per_minute",
                                        "previews.url"};
    char text[240];
    size_t n = strlen(section);
    struct cg_buf b;
    cg_buf_init(&b, sizeof text - 1);
    cg_buf_adds(&b, "unknown key; known are ");
    size_t begin = b.n;
    for (size_t i = 0; i < CG_COUNT(known); i++) {
        if (strncmp(known[i], section, n) == 0 && known[i][n] == '.')
            cg_buf_addf(&b, "%s%s", b.n > begin ? ", " : "", known[i]);
    }
    if (b.n == begin)
        cg_buf_adds(
            &b, "the sections accounts, defaults, golden, limits, llm, machine, network, notify, "
                "pause, plans, previews, providers and trust");
    (void)cg_strlcpy(text, sizeof text, cg_buf_cstr(&b));
    cg_buf_finish(&b);
    return cg_options_bad(f, at, text);
}

/* Dollars an hour, or for a GB that leaves. */
static bool read_machine(struct cg_options_file *f, const char *key, yaml_node_t *at,
                         yaml_node_t *value, struct cg_compute_prices *p)
{
    const struct {
        const char *name;
        int64_t *out;
    } all[] = {{"vcpu_hour", &p->vcpu_hour},
               {"gib_hour", &p->gib_hour},
               {"disk_gib_hour", &p->disk_gib_hour},
               {"egress_gb", &p->egress_gb}};
    struct cg_err why = CG_ERR_INIT;
    for (size_t i = 0; i < CG_COUNT(all); i++) {
        if (!cg_streq(key, all[i].name))
            continue;
        return (cg_options_text(value) &&
                cg_money_parse(cg_slice_of(cg_options_text(value)), all[i].out, &why) &&
                *all[i].out <= 1000 * CG_USD) ||
               cg_options_bad(f, value, "a price of the machine is 0 to 1000 dollars");
    }
    return unknown_key(f, at, "machine");
}

/* The number that a key sets, and how large it may be; NULL: it sets none. */
static uint32_t *number_of(const char *full, struct cg_options *o, uint32_t *max)
{
    const struct {
        const char *name;
        uint32_t max;
        uint32_t *out;
    } numbers[] = {{"limits.sandboxes", 4096, &o->max_sandboxes},
                   {"limits.memory_mb", 16777216, &o->max_memory_mb},
                   {"limits.cpus", 65536, &o->max_cpus},
                   {"limits.disk_gb", 16777216, &o->max_disk_gb},
                   {"limits.snapshots", 1000, &o->max_snapshots},
                   {"limits.snapshot_mb", 1048576, &o->max_snapshot_mb},
                   {"limits.snapshots_mb", 16777216, &o->max_snapshots_mb},
                   {"golden.spares", 16, &o->spares},
                   {"previews.requests_per_minute", 1000000, &o->preview_rate_per_minute},
                   {"limits.requests_per_minute", 1000000, &o->rate_per_minute},
                   {"record.quota_mb", 1 << 20, &o->record_quota_mb},
                   {"record.keep_days", 36500, &o->record_keep_days},
                   {"record.keep_mb", 1 << 30, &o->record_keep_mb},
                   {"defaults.cpus", 8, &o->default_cpus},
                   {"defaults.memory_mb", 8192, &o->default_memory_mb},
                   {"defaults.disk_gb", 50, &o->default_disk_gb},
                   {"defaults.timeout", 2592000, &o->default_timeout_s}};
    for (size_t i = 0; i < CG_COUNT(numbers); i++) {
        if (strcmp(full, numbers[i].name) == 0) {
            *max = numbers[i].max;
            return numbers[i].out;
        }
    }
    return NULL;
}

static bool read_key(struct cg_options_file *f, const char *section, const char *key,
                     yaml_node_t *at, yaml_node_t *value, struct cg_options *o)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", section, key);
    if (strcmp(full, "network.allow") == 0)
        return read_allow(f, value, &o->network);
    if (strcmp(full, "network.hosts") == 0)
        return read_hosts(f, value, &o->network);
    if (strcmp(full, "network.resolvers") == 0)
        return read_resolvers(f, value, &o->network);
    if (strcmp(section, "providers") == 0)
        return cg_options_provider(f, key, at, value, o);
    if (strcmp(section, "plans") == 0)
        return cg_options_plan(f, key, at, value, o);
    if (strcmp(full, "accounts.plans") == 0)
        return cg_options_people(f, value, o);
    if (strcmp(full, "accounts.plan") == 0)
        return (cg_options_text(value) &&
                cg_strlcpy(o->plans.usual, sizeof o->plans.usual, cg_options_text(value))) ||
               cg_options_bad(f, value, "the name of a plan is needed");
    if (strcmp(section, "machine") == 0)
        return read_machine(f, key, at, value, &o->machine);
    if (strcmp(full, "llm.prices") == 0 && cg_options_text(value)) {
        free(o->prices_file);
        o->prices_file = cg_strdup(cg_options_text(value));
        return true;
    }
    if (strcmp(section, "notify") == 0)
        return read_notify(f, key, at, value, o);
    if (strcmp(full, "trust.rules") == 0)
        return read_rules(f, value, o);
    char **text = strcmp(full, "previews.url") == 0       ? &o->preview_url
                  : strcmp(full, "previews.listen") == 0  ? &o->preview_listen
                  : strcmp(full, "network.guest_ca") == 0 ? &o->guest_ca
                                                          : NULL;
    if (text && cg_options_text(value)) {
        free(*text);
        *text = cg_strdup(cg_options_text(value));
        return true;
    }
    if (strcmp(full, "network.ca_file") == 0)
        return read_ca(f, value, o);
    uint32_t max = 0;
    uint32_t *number = number_of(full, o, &max);
    if (number)
        return read_number(f, value, max, number);
    bool known = false;
    bool fine = read_switch(f, full, value, o, &known);
    if (known)
        return fine;
    if (strcmp(full, "accounts.signup") == 0)
        return cg_options_signup(f, value, &o->signup);
    return unknown_key(f, at, section);
}

static bool read_section(struct cg_options_file *f, yaml_node_t *key, yaml_node_t *map,
                         struct cg_options *o)
{
    if (!cg_options_text(key) || map->type != YAML_MAPPING_NODE)
        return cg_options_bad(f, key, "a section (network, limits, defaults) with keys is needed");
    for (yaml_node_pair_t *i = map->data.mapping.pairs.start; i < map->data.mapping.pairs.top;
         i++) {
        yaml_node_t *k = yaml_document_get_node(&f->doc, i->key);
        yaml_node_t *v = yaml_document_get_node(&f->doc, i->value);
        if (!cg_options_text(k))
            return cg_options_bad(f, k, "a key is needed");
        if (!read_key(f, cg_options_text(key), cg_options_text(k), k, v, o))
            return false;
    }
    return true;
}

static bool read_root(struct cg_options_file *f, struct cg_options *o)
{
    yaml_node_t *root = yaml_document_get_root_node(&f->doc);
    if (!root)
        return true; /* an empty file */
    if (root->type != YAML_MAPPING_NODE)
        return cg_options_bad(f, root, "a map of sections is needed");
    for (yaml_node_pair_t *i = root->data.mapping.pairs.start; i < root->data.mapping.pairs.top;
         i++) {
        if (!read_section(f, yaml_document_get_node(&f->doc, i->key),
                          yaml_document_get_node(&f->doc, i->value), o))
            return false;
    }
    return true;
}

bool cg_options_file_read(const char *path, struct cg_options *o, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(path, 1 << 20, &text, &n, e))
        return false;
    struct cg_options_file f = {.path = path, .e = e};
    yaml_parser_t parser;
    CG_ASSERT(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    bool ok = yaml_parser_load(&parser, &f.doc) != 0;
    if (!ok)
        cg_fail(e, CG_INVALID, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                parser.problem ? parser.problem : "not YAML");
    if (ok) {
        struct cg_err why = CG_ERR_INIT;
        ok = read_root(&f, o);
        if (ok && !cg_plans_check(&o->plans, &why))
            ok = cg_fail(e, CG_INVALID, "%s: %s", path, why.text);
        yaml_document_delete(&f.doc);
    }
    yaml_parser_delete(&parser);
    return ok;
}

/* --- everything --- */

static void add_alias(struct cg_egress_policy *p, const char *name, uint32_t address, uint32_t to)
{
    if (p->nhosts == CG_EGRESS_HOSTS || cg_egress_find_host(p, name))
        return;
    struct cg_egress_host *h = &p->hosts[p->nhosts++];
    cg_strlcpy(h->name, sizeof h->name, name);
    h->address = address;
    h->to = to;
}

/* 172.30.0.1 is the only neighbour a guest has, and stands for this machine's loopback. */
static void add_aliases(struct cg_egress_policy *p)
{
    add_alias(p, CG_GATEWAY_HOST, CG_GATEWAY_ADDRESS, 0);
    add_alias(p, "host.caged.internal", 0xac1e0001, 0x7f000001);
}

static bool read_flags(int argc, char **argv, struct cg_options *o, struct cg_err *e)
{
    static const struct option known[] = {
        {"state-dir", required_argument, NULL, 's'}, {"listen", required_argument, NULL, 'l'},
        {"config", required_argument, NULL, 'c'},    {"foreground", no_argument, NULL, 'f'},
        {"log-level", required_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        enum cg_log_level level;
        switch (c) {
        case 's':
            free(o->state_dir);
            o->state_dir = cg_strdup(optarg);
            break;
        case 'l':
            if (!read_listen(optarg, o, e))
                return false;
            break;
        case 'c':
            free(o->config_file);
            o->config_file = cg_strdup(optarg);
            break;
        case 'f':
            o->foreground = true;
            break;
        case 'v':
            if (!cg_log_level_parse(optarg, &level))
                return cg_fail(e, CG_INVALID, "--log-level %s: debug, info, warn or error", optarg);
            cg_log_set_level(level);
            break;
        default:
            return cg_fail(e, CG_INVALID, "%s", usage);
        }
    }
    return optind == argc || cg_fail(e, CG_INVALID, "%s", usage);
}

void cg_options_defaults(struct cg_options *o)
{
    *o = (struct cg_options){.listen_host = cg_strdup("127.0.0.1"),
                             .listen_port = 7878,
                             .state_dir = cg_default_state_dir(),
                             .max_sandboxes = 256,
                             .preview_rate_per_minute = 100,
                             .max_snapshots = 20,
                             .max_snapshot_mb = 2048,
                             .max_snapshots_mb = 10240,
                             .spares = 2,
                             .machine = cg_compute_default,
                             .default_cpus = 2,
                             .default_memory_mb = 512,
                             .default_disk_gb = 5,
                             .default_timeout_s = 900};
}

void cg_options_complete(struct cg_options *o)
{
    add_aliases(&o->network);
    cg_network_resolvers(&o->network);
}

bool cg_options_read(int argc, char **argv, struct cg_options *o, struct cg_err *e)
{
    cg_options_defaults(o);
    if (!read_flags(argc, argv, o, e))
        return false;
    char real[PATH_MAX];
    if (o->config_file && !realpath(o->config_file, real)) /* it is read again from elsewhere */
        return cg_fail_sys(e, "%s", o->config_file);
    if (o->config_file) {
        free(o->config_file);
        o->config_file = cg_strdup(real);
    }
    if (o->config_file && !cg_options_file_read(o->config_file, o, e))
        return false;
    if (!cg_hostca_read(o->guest_ca, o->ca_pem, &o->guest_ca_pem, e))
        return false;
    cg_options_complete(o);
    o->registries = cg_registries_read();
    cg_registries_export();
    if (!cg_fs_mkdirs(o->state_dir, 0711, e))
        return false;
    if (!realpath(o->state_dir, real))
        return cg_fail_sys(e, "%s", o->state_dir);
    free(o->state_dir);
    o->state_dir = cg_strdup(real);
    return true;
}

void cg_options_finish(struct cg_options *o)
{
    free(o->state_dir);
    free(o->run_dir);
    free(o->listen_host);
    free(o->config_file);
    free(o->prices_file);
    free(o->trust_rules);
    free(o->trust_text);
    free(o->smtp_url);
    free(o->smtp_user);
    free(o->smtp_password);
    free(o->mail_from);
    free(o->ca_pem);
    free(o->guest_ca);
    free(o->guest_ca_pem);
    free(o->preview_url);
    free(o->preview_listen);
    free(o->registries);
    cg_plans_finish(&o->plans);
    *o = (struct cg_options){0};
}
