/* The plain program's options: flags, else the environment, else the default. A wrong value of the
 * environment counts as absent; a wrong flag is an error. */
#ifndef CG_AGENT_OPTIONS_H
#define CG_AGENT_OPTIONS_H

#include "base/err.h"
#include "base/log.h"

struct options {
    const char *workspace;
    const char *socket;
    const char *link_socket; /* speak the link protocol there instead; NULL */
    int64_t heartbeat_ms;
    int64_t metrics_ms;
    enum cg_log_level log_level;
    bool version;
    bool subscribe;
    bool watch_files;
    int64_t watch_debounce_ms;
    int64_t watch_rate; /* file_op frames a second */
};

/* Texts in *out are those of argv and the environment. CG_INVALID names the flag. */
CG_MUST_USE bool options_read(int argc, char **argv, struct options *out, struct cg_err *e);

/* "300ms", "1m30s", "1.5h": whole milliseconds, at least one, at most a day. */
CG_MUST_USE bool options_duration(const char *text, int64_t *ms);

#endif
