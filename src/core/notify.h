/* Notifications: an alert told to people - in the dashboard, by Slack, Discord, e-mail or a signed
 * webhook, as the account wants. What is to go out is kept until it has arrived or was given up,
 * also over a kill -9: a receiver may get one twice, and knows it by its delivery id.
 * docs/alerts.md. */
#ifndef CG_CORE_NOTIFY_H
#define CG_CORE_NOTIFY_H

#include "core/core.h"

enum { CG_NOTIFICATIONS_MAX = 500 }; /* of an account */

CG_MUST_USE bool cg_notify_start(struct cg_core *c, struct cg_err *e);
void cg_notify_finish(struct cg_core *c);

/* Tells an alert (alert_id may be empty: a test) on every channel that is on. `alert` is its JSON.
 */
void cg_notify(struct cg_core *c, const char *account, const char *alert_id, const char *title,
               const char *message, const char *alert);

/* {notifications, unread_count}, newest first. */
void cg_notifications_write(struct cg_core *c, const char *account, bool unread, int64_t limit,
                            struct cg_jsonw *w);
unsigned cg_notifications_unread(struct cg_core *c, const char *account);
CG_MUST_USE bool cg_notification_read(struct cg_core *c, const char *account, const char *id,
                                      cg_store_done *done, void *ctx, struct cg_err *e);
void cg_notifications_read_all(struct cg_core *c, const char *account, cg_store_done *done,
                               void *ctx);

/* The account's channels, without their secrets. */
void cg_notify_config_write(struct cg_core *c, const char *account, struct cg_jsonw *w);
CG_MUST_USE bool cg_notify_config_set(struct cg_core *c, const char *account,
                                      const struct cg_json *body, cg_store_done *done, void *ctx,
                                      struct cg_err *e);

/* "t=…,v1=…": HMAC-SHA256 over the time, a dot and the body. */
enum { CG_SIGNATURE_TEXT = 128 };
void cg_notify_sign(const char *secret, int64_t time_s, const char *body,
                    char out[CG_SIGNATURE_TEXT]);

#endif
