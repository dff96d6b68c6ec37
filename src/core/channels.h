/* What each channel is sent: bodies and heads. Inside of core. */
#ifndef CG_CORE_CHANNELS_H
#define CG_CORE_CHANNELS_H

#include "core/courier.h"

enum cg_channel {
    CG_CH_SLACK,
    CG_CH_DISCORD,
    CG_CH_EMAIL,
    CG_CH_WEBHOOK,
    CG_CH_IN_APP,
    CG_CH_COUNT
};

extern const char *const cg_channel_names[CG_CH_COUNT];

struct cg_message {
    const char *id; /* of the delivery */
    const char *title, *message;
    const char *alert; /* JSON */
    int64_t created_wall;
};

/* All texts of a parcel are the caller's (the courier's, once sent). */
char *cg_channel_body(enum cg_channel ch, const struct cg_message *m, const char *from,
                      const char *to);
char *cg_channel_headers(enum cg_channel ch, const struct cg_message *m, const char *body,
                         const char *secret);

/* An address that can stand in a mail's head and on SMTP's lines. */
bool cg_mail_address(const char *s);

#endif
