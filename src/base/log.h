/* Operator logs: one line of typed fields on stderr with a constant event name. Not the record:
 * records (src/record) are for users. Values are escaped; secrets have no type here.
 *
 *   cg_log(CG_LOG_INFO, CG_EVENT("sandbox.started"), CG_S("id", id), CG_I("boot_ms", ms));
 *   2026-01-02T03:04:05.678901Z info sandbox.started id=cage-… boot_ms=2310
 */
#ifndef CG_BASE_LOG_H
#define CG_BASE_LOG_H

#include "base/defs.h"
#include "base/err.h"

enum cg_log_level { CG_LOG_DEBUG, CG_LOG_INFO, CG_LOG_WARN, CG_LOG_ERROR };

struct cg_log_field {
    const char *key; /* NULL ends the list */
    enum { CG_LOG_STR, CG_LOG_INT, CG_LOG_ERR } type;
    const char *str;
    int64_t integer;
    const struct cg_err *err;
};

#define CG_EVENT(name) CG_S("event", name)
#define CG_S(k, v) ((struct cg_log_field){.key = (k), .type = CG_LOG_STR, .str = (v)})
#define CG_I(k, v) ((struct cg_log_field){.key = (k), .type = CG_LOG_INT, .integer = (int64_t)(v)})
#define CG_E(e) ((struct cg_log_field){.key = "error", .type = CG_LOG_ERR, .err = (e)})

#define cg_log(level, ...)                                                                         \
    cg_log_fields((level), (const struct cg_log_field[]){__VA_ARGS__, {.key = NULL}})

/* The first field is CG_EVENT. */
void cg_log_fields(enum cg_log_level level, const struct cg_log_field *fields);
void cg_log_set_level(enum cg_log_level least);
bool cg_log_level_parse(const char *name, enum cg_log_level *out); /* debug info warn error */

/* A field that stands on every line of the process, as in "sandbox"=id; copied. */
void cg_log_set_context(const char *key, const char *value);

#endif
