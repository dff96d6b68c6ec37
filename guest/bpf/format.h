/* Turns records of the rings into the JSON lines of docs/link-protocol.md. */
#ifndef CG_BPF_FORMAT_H
#define CG_BPF_FORMAT_H

#include "base/buf.h"
#include "mounts.h"
#include "record.h"

struct cg_obs_places {
    const struct cg_mounts *mounts;
    const char *scope[CG_OBS_SCOPE_MAX]; /* mount point of each scope; NULL: unused */
};

/* Appends the line of the record of n bytes (8-byte aligned) without a newline. False, with nothing
 * appended, when the record makes no sense or the line does not fit. Reads no byte beyond n. */
bool cg_obs_format(struct cg_buf *out, const struct cg_obs_places *places, const void *record,
                   size_t n);

/* The kind of the record, CG_OBS_KINDS when it makes no sense. */
unsigned cg_obs_kind_of(const void *record, size_t n);
uint64_t cg_obs_time_of(const void *record, size_t n);

#endif
