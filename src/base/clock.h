/* Clocks, time texts and random identifiers. */
#ifndef CG_BASE_CLOCK_H
#define CG_BASE_CLOCK_H

#include "base/err.h"

int64_t cg_mono_ns(void); /* CLOCK_MONOTONIC: the clock of the record */
int64_t cg_wall_ns(void); /* CLOCK_REALTIME, nanoseconds since 1970 */

enum { CG_TIME_TEXT = 32 };

/* RFC 3339 UTC with microseconds, "2026-01-02T03:04:05.678901Z"; at least CG_TIME_TEXT bytes. */
void cg_time_format(int64_t wall_ns, char out[CG_TIME_TEXT]);
/* Reads RFC 3339, with "Z" or an offset, with or without fractions; years 1970 to 2200. */
CG_MUST_USE bool cg_time_parse(const char *text, int64_t *wall_ns);

/* Fills with bytes of the kernel's generator; ends the process if there are none. */
void cg_rand_bytes(void *out, size_t n);

enum { CG_ID_TEXT = 40 };

/* "<prefix>-" and 10 characters of lower-case base32 (50 random bits), as in cage-k3v9q2m7xa. */
void cg_id_make(const char *prefix, char out[CG_ID_TEXT]);

/* True for "<prefix>-" and 8 to 26 characters of a-z2-7. */
bool cg_id_valid(const char *id, const char *prefix);

#endif
