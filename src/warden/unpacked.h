/* The names of the files in an archive that a server sends into the guest, read while it passes:
 * once it is unpacked, what they hold is read back as that of any other file that was written.
 * Bounded: 4,096 names, 512 KiB; what is not an archive is the guest's to refuse. */
#ifndef CG_WARDEN_UNPACKED_H
#define CG_WARDEN_UNPACKED_H

#include "base/buf.h"

struct contents;
struct unpacked;

/* `folder`: where the archive goes. NULL when nothing of that is ever read back. */
struct unpacked *unpacked_create(const char *folder);
void unpacked_destroy(struct unpacked *u); /* NULL is fine */
void unpacked_feed(struct unpacked *u, struct cg_slice bytes);
/* The name behind `after`, which it gave before; NULL: the first, or none. In place until the next
 * unpacked_feed. */
const char *unpacked_next(const struct unpacked *u, const char *after);
/* The guest is done with it: its files are noted. */
void unpacked_tell(const struct unpacked *u, struct contents *c, const char *session);

#endif
