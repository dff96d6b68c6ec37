/* caged-jail: the broker that caged-server starts, the acceleration probe, and the check of what
 * this machine gives for doctor. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "jail/broker.h"

static const char usage[] =
    "usage: caged-jail --broker FD --uid-base N --run-dir DIR [--rootless] [--warden PATH]\n";

static bool number(const char *text, unsigned long max, unsigned long *out)
{
    char *end = NULL;
    *out = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *out <= max;
}

static int serve(const struct cg_broker_options *o)
{
    struct cg_err e = CG_ERR_INIT;
    if (cg_broker_serve(o, &e))
        return 0;
    cg_log(CG_LOG_ERROR, CG_EVENT("broker.failed"), CG_E(&e));
    return cg_code_exit(e.code);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"broker", required_argument, NULL, 'b'},  {"uid-base", required_argument, NULL, 'u'},
        {"run-dir", required_argument, NULL, 'r'}, {"rootless", no_argument, NULL, 'l'},
        {"warden", required_argument, NULL, 'w'},  {NULL, 0, NULL, 0}};
    struct cg_broker_options o = {.sock = -1};
    unsigned long n = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool ok = true;
        if (c == 'b' && (ok = number(optarg, 1024, &n)))
            o.sock = (int)n;
        else if (c == 'u' && (ok = number(optarg, 0xfff00000ul, &n)))
            o.uid_base = (uint32_t)n;
        else if (c == 'r')
            o.run_dir = optarg;
        else if (c == 'l')
            o.rootless = true;
        else if (c == 'w')
            o.warden = optarg;
        else
            ok = false;
        if (!ok) {
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind != argc || o.sock < 3 || !o.run_dir || (!o.rootless && o.uid_base == 0)) {
        fputs(usage, stderr);
        return 2;
    }
    return serve(&o);
}
