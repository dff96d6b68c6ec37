/* The machine's distribution and mirrors. Nothing here names a host: mirrors, proxies and
 * certificates are what apt on this machine is configured with (os-release(5), apt-get(8)
 * indextargets, apt.conf(5)). */
#include "image/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "image/proc.h"

static const struct {
    const char *distribution;
    const char *codename; /* NULL: any */
    const char *package;
    const char *series;
} kernels[] = {
    {"debian", "bookworm", "linux-image-cloud-amd64", "6.1."},
    {"debian", NULL, "linux-image-cloud-amd64", ""},
    {"ubuntu", NULL, "linux-image-virtual", ""},
};

static const struct {
    const char *suite;
    const char *distribution;
} suites[] = {
    {"bookworm", "debian"}, {"trixie", "debian"}, {"forky", "debian"},  {"sid", "debian"},
    {"jammy", "ubuntu"},    {"noble", "ubuntu"},  {"plucky", "ubuntu"}, {"questing", "ubuntu"},
};

/* KEY=value or KEY="value" of os-release; the caller's, NULL when it is not there. */
static char *os_release(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *at = text; at && *at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, key, n) != 0 || at[n] != '=')
            continue;
        const char *v = at + n + 1;
        v += *v == '"';
        return cg_strndup(v, strcspn(v, "\"\n"));
    }
    return NULL;
}

bool cg_host_read(struct cg_host *h, struct cg_err *e)
{
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t size = 0;
    *h = (struct cg_host){.kernel_series = ""};
    if (!cg_fs_slurp("/etc/os-release", 65536, &text, &size, e))
        return false;
    h->distribution = os_release(text, "ID");
    h->codename = os_release(text, "VERSION_CODENAME");
    for (size_t i = 0; h->distribution && h->codename && i < CG_COUNT(kernels); i++) {
        if (!cg_streq(h->distribution, kernels[i].distribution) ||
            (kernels[i].codename && !cg_streq(h->codename, kernels[i].codename)))
            continue;
        h->kernel_package = kernels[i].package;
        h->kernel_series = kernels[i].series;
        return true;
    }
    return cg_fail(e, CG_UNSUPPORTED, "images can be built on Debian and Ubuntu, this is %s %s",
                   h->distribution ? h->distribution : "an unknown system",
                   h->codename ? h->codename : "");
}

void cg_host_finish(struct cg_host *h)
{
    free(h->distribution);
    free(h->codename);
    *h = (struct cg_host){.kernel_series = ""};
}

void cg_host_drop(struct cg_host **h)
{
    cg_host_finish(*h);
}

const char *cg_suite_distribution(const char *suite)
{
    size_t n = strcspn(suite, "-");
    for (size_t i = 0; i < CG_COUNT(suites); i++)
        if (strlen(suites[i].suite) == n && strncmp(suites[i].suite, suite, n) == 0)
            return suites[i].distribution;
    return NULL;
}

struct mirrors {
    char *main;
    char *security;
};

/* Lines "URI|suite|component" of apt's index targets. */
static void pick_mirrors(char *text, const char *codename, struct mirrors *m)
{
    CG_OWN(cg_drop_free) char *security = cg_format("%s-security", codename);
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *at = line;
        const char *uri = strsep(&at, "|");
        const char *suite = strsep(&at, "|");
        const char *component = strsep(&at, "|");
        if (!cg_streq(component, "main"))
            continue;
        if (!m->main && cg_streq(suite, codename))
            m->main = cg_strdup(uri);
        if (!m->security && cg_streq(suite, security))
            m->security = cg_strdup(uri);
    }
}

/* With `listed` only sources whose lists are on disk, by the names that the archives give
 * themselves; without, all sources, by the names in the configuration. */
static bool ask_mirrors(const struct cg_host *h, bool listed, struct mirrors *m, struct cg_err *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, 1 << 20);
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = &text};
    cg_strv_add(&p.argv, "apt-get");
    cg_strv_add(&p.argv, "indextargets");
    if (!listed)
        cg_strv_add(&p.argv, "--no-release-info");
    cg_strv_add(&p.argv, "--format");
    cg_strv_add(&p.argv, "$(REPO_URI)|$(RELEASE)|$(COMPONENT)");
    cg_strv_add(&p.argv, "Created-By: Packages");
    if (!cg_proc_run(&p, e))
        return cg_wrap(e, "read apt's configuration");
    cg_buf_addc(&text, '\0');
    pick_mirrors(text.p, h->codename, m);
    return true;
}

static bool find_mirrors(const struct cg_host *h, struct mirrors *m, struct cg_err *e)
{
    if (!ask_mirrors(h, true, m, e) || (!m->main && !ask_mirrors(h, false, m, e)))
        return false;
    return m->main ||
           cg_fail(e, CG_UNAVAILABLE, "apt on this machine has no source for %s main", h->codename);
}

bool cg_host_sources(const struct cg_host *h, const char *suite, const struct cg_strv *extra,
                     struct cg_strv *out, struct cg_err *e)
{
    const char *distribution = cg_suite_distribution(suite);
    if (!cg_streq(distribution, h->distribution) && !cg_streq(suite, h->codename))
        return cg_fail(e, CG_UNAVAILABLE, "needs %s %s, and this machine's mirrors carry %s",
                       distribution ? distribution : "suite", suite, h->distribution);
    struct mirrors m = {.main = NULL};
    bool ok = find_mirrors(h, &m, e);
    if (ok) {
        const char *components = cg_streq(h->distribution, "ubuntu") ? "main universe" : "main";
        cg_strv_addf(out, "deb %s %s %s", m.main, suite, components);
        cg_strv_addf(out, "deb %s %s-updates %s", m.main, suite, components);
        if (m.security)
            cg_strv_addf(out, "deb %s %s-security %s", m.security, suite, components);
        for (size_t i = 0; i < extra->n; i++)
            cg_strv_addf(out, "deb %s %s %s", m.main, extra->v[i], components);
    }
    free(m.main);
    free(m.security);
    return ok;
}

bool cg_host_apt_options(struct cg_strv *out, struct cg_err *e)
{
    static const char *const wanted[] = {
        "Acquire::http::",      "Acquire::https::",  "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ", "Acquire::Retries ", "Acquire::ForceIPv4 ",
    };
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, 1 << 20);
    CG_OWN(cg_proc_finish) struct cg_proc p = {.out = &text};
    cg_strv_add(&p.argv, "apt-config");
    cg_strv_add(&p.argv, "dump");
    if (!cg_proc_run(&p, e))
        return cg_wrap(e, "read apt's configuration");
    cg_buf_addc(&text, '\0');
    char *save = NULL;
    for (char *line = strtok_r(text.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        for (size_t i = 0; i < CG_COUNT(wanted); i++)
            if (cg_has_prefix(line, wanted[i]) && !strstr(line, " \"\";"))
                cg_strv_add(out, line);
    return true;
}
