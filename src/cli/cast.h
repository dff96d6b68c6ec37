/* A terminal session out of the record, as what happened when; and asciicast v2 of it
 * (docs.asciinema.org/manual/asciicast/v2). */
#ifndef CG_CLI_CAST_H
#define CG_CLI_CAST_H

#include <stdio.h>

#include "cli/client.h"

enum cast_kind { CAST_OUT, CAST_IN, CAST_RESIZE, CAST_MARK };

struct cast_event {
    double at; /* seconds from the first */
    enum cast_kind kind;
    int rows, cols;
    char *text; /* bytes of the terminal, or of a mark */
    size_t n;
};

struct cast {
    struct cast_event *events;
    size_t n, cap;
    int rows, cols;
    double began; /* unix time */
    char title[200];
};

/* All of a session, by pages of replay. */
CG_MUST_USE bool cast_load(struct cli *c, const char *session, struct cast *out, struct cg_err *e);
void cast_finish(struct cast *c);

/* Pauses longer than idle_max seconds become that long; 0: as they were. */
void cast_squeeze(struct cast *c, double idle_max);
CG_MUST_USE bool cast_write(const struct cast *c, FILE *f);

#endif
