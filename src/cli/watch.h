/* What happens in a sandbox, told line by line while something else is waited for. */
#ifndef CG_CLI_WATCH_H
#define CG_CLI_WATCH_H

#include "cli/client.h"

struct cli_watch;

enum cli_watch_what {
    CLI_WATCH_PROJECT, /* its life, programs that start, files of the project, calls to models */
    CLI_WATCH_AGENT, /* of an agent at work: calls to models, its commands, files of the project */
};

/* Follows a sandbox's events in a thread of its own, from its beginning or from now, and prints
 * those worth a line to f. NULL when there is no thread. */
CG_MUST_USE struct cli_watch *cli_watch_start(const struct cli *c, const char *id,
                                              enum cli_watch_what what, bool from_start, FILE *f);
/* How many there were, and how many of them were printed. */
void cli_watch_counts(const struct cli_watch *w, unsigned long long *seen,
                      unsigned long long *shown);
/* Waits for the end of the events of a sandbox that has ended. */
void cli_watch_finish(struct cli_watch *w);
/* Prints nothing more. The thread ends with the process. */
void cli_watch_leave(struct cli_watch *w);

#endif
