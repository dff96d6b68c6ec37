/* The server's configuration: flags, then the operator's file, then defaults. */
#ifndef CG_CORE_OPTIONS_H
#define CG_CORE_OPTIONS_H

#include "base/err.h"
#include "core/plans.h"
#include "egress/policy.h"
#include "gateway/gateway.h"

/* Who may make an account: nobody, who has an invitation into a team, anybody. */
enum cg_signup { CG_SIGNUP_CLOSED, CG_SIGNUP_INVITED, CG_SIGNUP_OPEN };

enum { CG_PROVIDERS_OWN = 16 /* of the operator's */ };

struct cg_options {
    char *state_dir; /* absolute */
    char *run_dir;
    char *listen_host;
    uint16_t listen_port;
    char *config_file; /* or NULL */
    bool foreground;
    struct cg_egress_policy
        network;            /* what sandboxes may reach; host.caged.internal is always there */
    uint32_t max_memory_mb; /* of all that run; 0: of this machine's, and half of it again */
    uint32_t max_cpus;      /* of all that run; 0: 32 a processor of this machine */
    uint32_t max_disk_gb;   /* of all there are; 0: four times the file system of the state */
    uint32_t max_snapshots; /* of a sandbox, the automatic one not counted */
    uint32_t max_snapshot_mb, max_snapshots_mb; /* bytes on the host of one, of all of an account */
    uint32_t spares;                            /* sandboxes kept ready to be taken */
    uint32_t max_sandboxes;                     /* running at once */
    uint32_t rate_per_minute;                   /* requests a key; 0: no limit */
    uint32_t preview_rate_per_minute;           /* requests a port; 0: no limit */
    char *preview_url;    /* "https://preview.example.org": previews are below; NULL: none, or
                             .localhost */
    char *preview_listen; /* HOST:PORT of previews by path, or NULL */
    uint32_t default_cpus, default_memory_mb, default_disk_gb;
    uint32_t default_timeout_s; /* idle for so long, then paused; 0: never */
    bool golden_off;            /* every sandbox boots */
    bool stay_asleep;           /* an idle one is not woken by use */
    bool pause_unsaved;         /* no snapshot at a pause */
    enum cg_signup signup;
    struct cg_plans plans;
    struct cg_gateway_provider providers[CG_PROVIDERS_OWN]; /* of models */
    size_t nproviders;
    bool llm_strict;       /* budgets hold a whole reply at once, not a quantum at a time */
    bool llm_no_bodies;    /* requests and replies are not kept */
    bool llm_no_intercept; /* only base URLs lead to the gateway */
    bool llm_unrouted;     /* hosts of models that it does not serve are as any others */
    struct cg_compute_prices machine;
    struct cg_egress_rule notify_allow[CG_EGRESS_RULES]; /* where messages may go beside https to
                                                            public addresses */
    unsigned nnotify_allow;
    char *smtp_url, *smtp_user, *smtp_password, *mail_from; /* NULL: no mail; no user */
    uint32_t retry_s, alert_interval_s;                     /* 0: 5 and 60 */
    char *trust_rules;         /* the operator's, laid over those that are installed, or NULL */
    char *trust_text;          /* what stands in it */
    char *prices_file;         /* NULL: the one that is installed */
    char *registries;          /* of this machine, a JSON array of rules, or NULL */
    char *ca_pem;              /* certificates trusted beside this machine's, or NULL */
    char *guest_ca;            /* network.guest_ca, or NULL */
    char *guest_ca_pem;        /* what guests trust beside their distribution's, or NULL */
    uint32_t record_quota_mb;  /* of one sandbox; 0: the default */
    uint32_t record_keep_days; /* of one that has ended; 0: for ever */
    uint32_t record_keep_mb;   /* all that have ended together; 0: no limit */
};

/* argv of caged-server. CG_INVALID names the flag or the line of the file. */
CG_MUST_USE bool cg_options_read(int argc, char **argv, struct cg_options *out, struct cg_err *e);
void cg_options_finish(struct cg_options *o);

/* One key of a provider's map. */
CG_MUST_USE bool cg_provider_set(struct cg_gateway_provider *p, const char *key, const char *value,
                                 struct cg_err *e);

/* The default state directory of this user; the caller's. */
CG_MUST_USE char *cg_default_state_dir(void);

#endif
