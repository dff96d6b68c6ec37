#include "guest/agent/options.h"

#include <stdlib.h>
#include <string.h>

enum { DAY_MS = 86400000, RATE_MAX = 100000 };

enum kind { TEXT, DURATION, LEVEL, RATE, SWITCH, FLAG };

struct option {
    const char *flag; /* NULL: environment only */
    const char *env;  /* NULL: flag only */
    enum kind kind;
    size_t at; /* offset in struct options */
};

static const struct option table[] = {
    {"workspace", "CAGED_WORKSPACE", TEXT, offsetof(struct options, workspace)},
    {"socket", "CAGED_SOCKET", TEXT, offsetof(struct options, socket)},
    {"link-socket", NULL, TEXT, offsetof(struct options, link_socket)},
    {"heartbeat-interval", "CAGED_HEARTBEAT_INTERVAL", DURATION,
     offsetof(struct options, heartbeat_ms)},
    {"metrics-interval", "CAGED_METRICS_INTERVAL", DURATION, offsetof(struct options, metrics_ms)},
    {"log-level", "CAGED_LOG_LEVEL", LEVEL, offsetof(struct options, log_level)},
    {"version", NULL, FLAG, offsetof(struct options, version)},
    {"subscribe", NULL, FLAG, offsetof(struct options, subscribe)},
    {NULL, "CAGED_WATCH_FILES", SWITCH, offsetof(struct options, watch_files)},
    {NULL, "CAGED_WATCH_DEBOUNCE", DURATION, offsetof(struct options, watch_debounce_ms)},
    {NULL, "CAGED_WATCH_RATE_LIMIT", RATE, offsetof(struct options, watch_rate)},
};

static double unit_ms(const char **at)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    for (size_t i = 0; i < CG_COUNT(units); i++) {
        if (cg_has_prefix(*at, units[i].name)) {
            *at += strlen(units[i].name);
            return units[i].ms;
        }
    }
    return 0;
}

bool options_duration(const char *text, int64_t *ms)
{
    double sum = 0;
    do {
        size_t digits = strspn(text, "0123456789.");
        char *end;
        double n = strtod(text, &end);
        if (digits == 0 || end != text + digits)
            return false;
        text += digits;
        double unit = unit_ms(&text);
        if (unit == 0)
            return false;
        sum += n * unit;
    } while (*text);
    if (!(sum >= 1 && sum <= DAY_MS))
        return false;
    *ms = (int64_t)sum;
    return true;
}

static bool is_off(const char *text)
{
    static const char *const words[] = {"0", "false", "no", "off"};
    for (size_t i = 0; i < CG_COUNT(words); i++) {
        if (strcmp(text, words[i]) == 0)
            return true;
    }
    return false;
}

/* "200" or "200/s" */
static bool rate(const char *text, int64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 6 || (text[digits] != '\0' && strcmp(text + digits, "/s") != 0))
        return false;
    *out = strtol(text, NULL, 10);
    return *out >= 1 && *out <= RATE_MAX;
}

static bool set(const struct option *o, struct options *out, const char *text)
{
    void *at = (char *)out + o->at;
    switch (o->kind) {
    case TEXT:
        *(const char **)at = text;
        return text[0] != '\0';
    case DURATION:
        return options_duration(text, at);
    case LEVEL:
        return cg_log_level_parse(text, at);
    case RATE:
        return rate(text, at);
    case SWITCH:
        *(bool *)at = !is_off(text);
        return true;
    case FLAG:
        *(bool *)at = !is_off(text);
        return true;
    }
    return false;
}

static const struct option *find_flag(const char *name, size_t n)
{
    for (size_t i = 0; i < CG_COUNT(table); i++) {
        const char *flag = table[i].flag;
        if (flag && strlen(flag) == n && memcmp(flag, name, n) == 0)
            return &table[i];
    }
    return NULL;
}

static void read_environment(struct options *out)
{
    for (size_t i = 0; i < CG_COUNT(table); i++) {
        const char *text = table[i].env ? getenv(table[i].env) : NULL;
        struct options changed = *out;
        if (text && set(&table[i], &changed, text))
            *out = changed;
    }
}

bool options_read(int argc, char **argv, struct options *out, struct cg_err *e)
{
    *out = (struct options){.workspace = "/workspace",
                            .socket = "/run/caged/agent.sock",
                            .heartbeat_ms = 5000,
                            .metrics_ms = 10000,
                            .log_level = CG_LOG_INFO,
                            .watch_files = true,
                            .watch_debounce_ms = 300,
                            .watch_rate = 200};
    read_environment(out);
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (name[0] != '-')
            return cg_fail(e, CG_INVALID, "%.100s: only flags are taken", name);
        name += name[1] == '-' ? 2 : 1;
        size_t n = strcspn(name, "=");
        const struct option *o = find_flag(name, n);
        if (!o)
            return cg_fail(e, CG_INVALID, "unknown flag %.100s", argv[i]);
        const char *value = name[n] == '=' ? name + n + 1 : o->kind == FLAG ? "true" : argv[++i];
        if (!value)
            return cg_fail(e, CG_INVALID, "--%s needs a value", o->flag);
        if (!set(o, out, value))
            return cg_fail(e, CG_INVALID, "--%s: \"%.80s\" is no good value", o->flag, value);
    }
    return true;
}
