/* SIGHUP: the operator's file is read again as at the start; what is wrong in it leaves everything
 * as it was. What was taken from the machine once (sockets, files that are parsed at the start)
 * stays until a restart, and the log names it. Texts of older files live until the end: work under
 * way may still read them. */
#include "core/reload.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/options_inner.h"

enum { KEPT_MAX = 1024 };

/* The loop alone writes; workers read while they write a sandbox's configuration. */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

void cg_options_hold(void)
{
    CG_ASSERT(pthread_rwlock_rdlock(&lock) == 0);
}

void cg_options_let_go(void)
{
    CG_ASSERT(pthread_rwlock_unlock(&lock) == 0);
}

/* What the start consumed: copied from the old options into the new. */
static void keep_texts(const struct cg_options *old, struct cg_options *fresh,
                       struct cg_buf *differ)
{
    const struct {
        const char *key; /* in the file; NULL: of the command line */
        char *const *was;
        char **is;
    } texts[] = {{NULL, &old->state_dir, &fresh->state_dir},
                 {NULL, &old->run_dir, &fresh->run_dir},
                 {NULL, &old->listen_host, &fresh->listen_host},
                 {NULL, &old->config_file, &fresh->config_file},
                 {NULL, &old->registries, &fresh->registries},
                 {"previews.url", &old->preview_url, &fresh->preview_url},
                 {"previews.listen", &old->preview_listen, &fresh->preview_listen},
                 {"trust.rules", &old->trust_text, &fresh->trust_text},
                 {NULL, &old->trust_rules, &fresh->trust_rules},
                 {"llm.prices", &old->prices_file, &fresh->prices_file},
                 {"network.ca_file", &old->ca_pem, &fresh->ca_pem},
                 {"network.guest_ca", &old->guest_ca, &fresh->guest_ca},
                 {NULL, &old->guest_ca_pem, &fresh->guest_ca_pem}};
    for (size_t i = 0; i < CG_COUNT(texts); i++) {
        if (texts[i].key && !cg_streq(*texts[i].was, *texts[i].is))
            cg_buf_addf(differ, "%s%s", differ->n ? ", " : "", texts[i].key);
        free(*texts[i].is);
        *texts[i].is = *texts[i].was;
    }
}

static void keep_numbers(const struct cg_options *old, struct cg_options *fresh,
                         struct cg_buf *differ)
{
    bool golden = old->golden_off != fresh->golden_off;
    bool allow = old->nnotify_allow != fresh->nnotify_allow;
    for (unsigned i = 0; i < old->nnotify_allow && !allow; i++) {
        const struct cg_egress_rule *a = &old->notify_allow[i];
        const struct cg_egress_rule *b = &fresh->notify_allow[i];
        allow = a->address != b->address || a->prefix != b->prefix || a->port != b->port;
    }
    if (golden)
        cg_buf_addf(differ, "%sgolden.snapshots", differ->n ? ", " : "");
    if (allow)
        cg_buf_addf(differ, "%snotify.allow", differ->n ? ", " : "");
    if (old->alert_interval_s != fresh->alert_interval_s)
        cg_buf_addf(differ, "%snotify.interval", differ->n ? ", " : "");
    fresh->golden_off = old->golden_off;
    fresh->nnotify_allow = old->nnotify_allow;
    memcpy(fresh->notify_allow, old->notify_allow, sizeof old->notify_allow);
    fresh->alert_interval_s = old->alert_interval_s;
    fresh->listen_port = old->listen_port;
    fresh->foreground = old->foreground;
}

bool cg_options_reload(struct cg_options *o, struct cg_err *e)
{
    static unsigned times;
    struct cg_options fresh;
    CG_OWN(cg_drop_buf) struct cg_buf differ = {0};
    if (!o->config_file)
        return cg_fail(e, CG_INVALID, "the server was started without --config");
    if (++times > KEPT_MAX)
        return cg_fail(e, CG_LIMIT, "read again %d times already: restart the server", KEPT_MAX);
    cg_options_defaults(&fresh);
    if (!cg_options_file_read(o->config_file, &fresh, e)) {
        cg_options_finish(&fresh);
        return false;
    }
    cg_options_complete(&fresh);
    cg_buf_init(&differ, 1024);
    keep_texts(o, &fresh, &differ);
    keep_numbers(o, &fresh, &differ);
    CG_ASSERT(pthread_rwlock_wrlock(&lock) == 0);
    *o = fresh;
    cg_options_let_go();
    cg_log(CG_LOG_INFO, CG_EVENT("server.reloaded"), CG_S("config", o->config_file));
    if (differ.n)
        cg_log(CG_LOG_WARN, CG_EVENT("server.restart_needed"), CG_S("keys", cg_buf_cstr(&differ)));
    return true;
}
