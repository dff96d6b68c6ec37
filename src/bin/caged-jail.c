/* caged-jail: the broker that caged-server starts, the acceleration probe, and the check of what
 * this machine gives, for doctor. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/jsonw.h"
#include "base/log.h"
#include "jail/broker.h"
#include "jail/check.h"
#include "vmm/probe.h"

static const char usage[] =
    "usage: caged-jail --broker FD --uid-base N --run-dir DIR [--rootless] [--warden PATH]\n"
    "       caged-jail --probe KERNEL INITRAMFS [--cache FILE]   which acceleration works, as "
    "JSON\n"
    "       caged-jail --probe KERNEL INITRAMFS --accel tcg|kvm   whether this one works, as JSON\n"
    "       caged-jail --check                                   what works here, a JSON line a "
    "layer\n"
    "       caged-jail --tsc                                     rate of the time stamp counter, "
    "kHz\n";

struct options {
    enum { NONE, BROKER, PROBE, CHECK, TSC } mode;
    struct cg_broker_options broker;
    const char *cache;
    bool one; /* only `accel` is tried */
    enum cg_accel accel;
};

static bool number(const char *text, unsigned long max, unsigned long *out)
{
    char *end = NULL;
    *out = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *out <= max;
}

static bool option(int c, const char *value, struct options *o)
{
    unsigned long n = 0;
    switch (c) {
    case 'b':
        o->mode = BROKER;
        o->broker.sock = number(value, 1024, &n) ? (int)n : -1;
        return o->broker.sock >= 3;
    case 'u':
        o->broker.uid_base = number(value, 0xfff00000ul, &n) ? (uint32_t)n : 0;
        return o->broker.uid_base > 0;
    case 'r':
        o->broker.run_dir = value;
        return true;
    case 'w':
        o->broker.warden = value;
        return true;
    case 'l':
        o->broker.rootless = true;
        return true;
    case 'k':
        o->cache = value;
        return true;
    case 'a':
        o->one = true;
        return cg_accel_parse(value, &o->accel);
    case 'p':
    case 'c':
    case 't':
        o->mode = c == 'p' ? PROBE : c == 'c' ? CHECK : TSC;
        return true;
    default:
        return false;
    }
}

static int fail(const char *event, const struct cg_err *e)
{
    cg_log(CG_LOG_ERROR, CG_EVENT(event), CG_E(e));
    return cg_code_exit(e->code);
}

static int serve(const struct cg_broker_options *o)
{
    struct cg_err e = CG_ERR_INIT;
    return cg_broker_serve(o, &e) ? 0 : fail("broker.failed", &e);
}

static int probe(const char *kernel, const char *initramfs, const char *cache)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_vmm_probe result;
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, 4096);
    if (!cg_vmm_probe(cg_vmm_driver(NULL), kernel, initramfs, cache, &result, &e))
        return fail("probe.failed", &e);
    if (!cg_vmm_probe_json(&result, &text) || fwrite(text.p, 1, text.n, stdout) != text.n)
        return 1;
    return 0;
}

/* For doctor: does a guest boot at all? A slow machine gets more time than the choice of KVM
 * allows. */
static int probe_one(const char *kernel, const char *initramfs, enum cg_accel accel)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_vmm_program program;
    struct cg_jsonw w;
    CG_OWN(cg_drop_buf) struct cg_buf text;
    const struct cg_vmm_driver *d = cg_vmm_driver(NULL);
    bool ok = cg_vmm_find(d, &program, &e) &&
              cg_vmm_probe_guest(d, &program, accel, kernel, initramfs, 120, &e);
    cg_buf_init(&text, 4096);
    cg_jsonw_init(&w, &text);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "accel", cg_accel_name(accel));
    cg_jsonw_kbool(&w, "ok", ok);
    cg_jsonw_kstr(&w, "detail", ok ? "a guest booted and did its work" : e.text);
    cg_jsonw_obj_end(&w);
    puts(cg_buf_cstr(&text));
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"broker", required_argument, NULL, 'b'},
                                          {"uid-base", required_argument, NULL, 'u'},
                                          {"run-dir", required_argument, NULL, 'r'},
                                          {"rootless", no_argument, NULL, 'l'},
                                          {"warden", required_argument, NULL, 'w'},
                                          {"probe", no_argument, NULL, 'p'},
                                          {"cache", required_argument, NULL, 'k'},
                                          {"accel", required_argument, NULL, 'a'},
                                          {"check", no_argument, NULL, 'c'},
                                          {"tsc", no_argument, NULL, 't'},
                                          {NULL, 0, NULL, 0}};
    struct options o = {.broker = {.sock = -1}};
    signal(SIGCHLD, SIG_DFL); /* ignored by some parents, and then nothing could be waited for */
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        good = option(c, optarg, &o) && good;
    int left = argc - optind;
    if (good && o.mode == BROKER && left == 0 && o.broker.run_dir &&
        (o.broker.rootless || o.broker.uid_base > 0))
        return serve(&o.broker);
    if (good && o.mode == PROBE && left == 2 && o.one)
        return probe_one(argv[optind], argv[optind + 1], o.accel);
    if (good && o.mode == PROBE && left == 2)
        return probe(argv[optind], argv[optind + 1], o.cache);
    if (good && o.mode == CHECK && left == 0)
        return cg_jail_check() ? 0 : 1;
    if (good && o.mode == TSC && left == 0)
        return printf("%llu\n", (unsigned long long)cg_vmm_tsc_khz()) > 0 ? 0 : 1;
    fputs(usage, stderr);
    return 2;
}
