/* What files held: a text file of /workspace that was written is read back from the guest soon
 * after, and kept as a blob beside a `content` line. Bounded in size, rate and number: what was not
 * kept is said, in the line or in a `gap`. The guest answers, so this is evidence, not proof. */
#ifndef CG_WARDEN_CONTENTS_H
#define CG_WARDEN_CONTENTS_H

#include "base/defs.h"

struct warden;
struct contents;

enum { CONTENT_MAX = 256 * 1024 };

struct contents *contents_create(struct warden *w);
void contents_destroy(struct contents *c); /* after the guest's streams have ended */

/* A file operation is recorded: `op` as in the record, `session` the line's or "". */
void contents_note(struct contents *c, const char *op, const char *path, const char *to,
                   const char *session);
/* Whether a file of that name is ever read back. */
bool contents_takes(const char *path);
/* So many files were written, and will not be read back. */
void contents_untold(struct contents *c, uint64_t files);
void contents_tick(struct contents *c, int64_t now);
bool contents_want_tick(const struct contents *c);
void contents_close(struct contents *c); /* what waits is not read any more */

#endif
