/* The inside of alerts: alertrules.c holds the rules of accounts, alerts.c what they raised,
 * alertwatch.c looks at sandboxes and raises. One thread, the loop's. */
#ifndef CG_CORE_ALERTING_H
#define CG_CORE_ALERTING_H

#include "core/alerts.h"

enum { CG_ALERT_TEXT = 256 };

enum cg_alert_number {
    CG_ALERT_PERCENT,
    CG_ALERT_MULTIPLIER,
    CG_ALERT_IDLE,
    CG_ALERT_ERRORS,
    CG_ALERT_WINDOW,
    CG_ALERT_SCORE,
    CG_ALERT_NUMBERS
};

enum cg_alert_type {
    CG_ALERT_BUDGET,
    CG_ALERT_ANOMALY,
    CG_ALERT_STUCK,
    CG_ALERT_SPIKE,
    CG_ALERT_LOW,
    CG_ALERT_BROKEN,
    CG_ALERT_IDLED,
    CG_ALERT_TYPES
};

struct cg_alert_rule {
    struct cg_alert_rule *next;
    char id[CG_ID_TEXT];
    char account[CG_ID_TEXT];
    enum cg_alert_type type;
    bool enabled;
    double number[CG_ALERT_NUMBERS]; /* as the account set them; 0: the default */
    int64_t created_wall;
};

/* alertrules.c */
CG_MUST_USE bool cg_alert_rules_start(struct cg_core *c, struct cg_err *e);
void cg_alert_rules_finish(void);
/* The account's; made when it has none yet. */
struct cg_alert_rule *cg_alert_rule_of(const char *account, enum cg_alert_type type);
double cg_alert_rule_number(const struct cg_alert_rule *r, enum cg_alert_number n);
const char *cg_alert_type_name(enum cg_alert_type type);
CG_MUST_USE bool cg_alert_type_parse(const char *name, enum cg_alert_type *out);
void cg_alert_put_time(struct cg_jsonw *w, const char *key, int64_t wall);

/* alerts.c */
struct cg_alert_news {
    enum cg_alert_type type;
    const char *step, *severity, *title, *meta_key;
    char meta[48];
    char message[CG_ALERT_TEXT * 2];
};
void cg_alert_raise(struct cg_sandbox *sb, const struct cg_alert_news *n);

/* alertwatch.c */
void cg_alert_watch_start(struct cg_core *c);
void cg_alert_watch_finish(void);

#endif
