/* Bytes of a terminal into the record: gathered per direction for at most 50 ms or 16 KiB, written
 * as text where they are UTF-8 (a character cut by a chunk's end waits for its rest), else base64.
 */
#ifndef CG_WARDEN_TERM_H
#define CG_WARDEN_TERM_H

#include "record/record.h"

struct cg_secrets;
struct term;

enum term_dir { TERM_IN, TERM_OUT };

/* Values of the secrets are replaced, also across pieces (NULL: there are none). All is borrowed
 * and outlive the terminal. */
CG_MUST_USE struct term *term_create(struct cg_record *record, const struct cg_secrets *secrets,
                                     const char *exec_id, const char *session);
void term_destroy(struct term *t); /* without flush; NULL is fine */

void term_add(struct term *t, enum term_dir dir, struct cg_slice data, int64_t now_ns);
void term_resize(struct term *t, int64_t rows, int64_t cols);
void term_flush(struct term *t);                /* all of it */
bool term_waits(const struct term *t);          /* bytes wait */
void term_tick(struct term *t, int64_t now_ns); /* what has waited long enough */

#endif
