/* The inside of notifications: notifyconfig.c knows the channels of accounts, inbox.c keeps what
 * the dashboard shows, notify.c sends the rest. One thread, the loop's. */
#ifndef CG_CORE_NOTIFYING_H
#define CG_CORE_NOTIFYING_H

#include "core/channels.h"
#include "core/notify.h"

enum { CG_NOTIFY_URL_MAX = 1024 };

/* Channels' secrets; where each stands in a config and in requests. */
enum cg_notify_secret {
    CG_SEC_SLACK,
    CG_SEC_DISCORD,
    CG_SEC_WEBHOOK,
    CG_SEC_SIGNING,
    CG_NOTIFY_SECRETS
};

struct cg_notify_config {
    struct cg_notify_config *next;
    char account[CG_ID_TEXT];
    bool on[CG_CH_COUNT];
    char *sealed[CG_NOTIFY_SECRETS]; /* NULL: not set */
    char hint[CG_NOTIFY_SECRETS][8];
    char email[256];
    char slack_channel[64];
};

/* notifyconfig.c */
CG_MUST_USE bool cg_notify_config_start(struct cg_core *c, struct cg_err *e);
void cg_notify_config_finish(void);
/* The account's; made when it has none yet. */
struct cg_notify_config *cg_notify_config_of(const char *account);
/* The value, wiped by the caller; false: it is not set. */
bool cg_notify_config_secret(const struct cg_notify_config *c, enum cg_notify_secret which,
                             char out[CG_NOTIFY_URL_MAX + 1]);

/* inbox.c */
CG_MUST_USE bool cg_inbox_start(struct cg_core *c, struct cg_err *e);
void cg_inbox_finish(void);
void cg_inbox_add(const char *account, const char *alert, const char *title, const char *message);

#endif
