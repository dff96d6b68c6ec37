/* A line of a record as the rules see it. Lines are flat objects with lists of texts; reading one
 * takes no memory but the scratch of the reader. Nothing in a line is trusted: what is not of the
 * expected form counts as absent. */
#ifndef CG_TRUST_EVENT_H
#define CG_TRUST_EVENT_H

#include "record/line.h"

enum { CG_EVENT_MEMBERS = 48, CG_EVENT_SCRATCH = 2 * CG_RECORD_LINE_MAX };

struct cg_event {
    uint64_t seq;
    int64_t t;
    enum cg_record_type type;
    bool claim; /* src is claim */
    char session[48];
    unsigned nmembers;
    struct cg_event_member {
        struct cg_slice key;
        struct cg_slice value; /* raw JSON */
        const char *text;      /* decoded, once asked for */
    } member[CG_EVENT_MEMBERS];
    size_t used;
    char scratch[CG_EVENT_SCRATCH];
};

/* False for what is no event (a header, a seal, a type of a newer version, damage). */
bool cg_event_read(struct cg_event *e, const struct cg_record_line *line);

/* Members of `data`. Texts are NUL-terminated and live as long as the event; NULL, the fallback or
 * 0 when absent or of another type. */
const char *cg_event_text(struct cg_event *e, const char *key);
int64_t cg_event_int(struct cg_event *e, const char *key, int64_t fallback);
int cg_event_texts(struct cg_event *e, const char *key, const char **out, int max);
bool cg_event_has(const struct cg_event *e, const char *key);

#endif
