/* What verbs share: finding the server, calls over HTTP, output, flags. */
#ifndef CG_CLI_CLIENT_H
#define CG_CLI_CLIENT_H

#include <stdio.h>

#include "base/buf.h"
#include "base/json.h"

enum cli_format { CLI_TABLE, CLI_JSON, CLI_YAML };

struct cli {
    char *state_dir;
    char *url; /* "http://127.0.0.1:7878" */
    char *key;
};

/* Prints "error: …" and returns 1; for wrong usage 2. */
int cli_error(const struct cg_err *e);
int cli_usage(const char *fmt, ...) CG_PRINTF(1, 2);

/* Flags of a verb. `value` flags take the next word or --flag=value. Unknown ones are named with
 * the nearest. Positional words end up in words[], which ends flags at "--". */
struct cli_flag {
    const char *name; /* "--tail" or "-f" */
    bool value;
    const char **text; /* last value */
    bool *set;
    struct cg_buf *list; /* every value, each ended by NUL */
};
CG_MUST_USE bool cli_flags(int argc, char **argv, const struct cli_flag *flags, char **words,
                           int *nwords, bool first_word_ends, struct cg_err *e);
CG_MUST_USE bool cli_format_of(const char *format, bool json, enum cli_format *out,
                               struct cg_err *e);

/* Where the server is: CAGED_API_URL and CAGED_API_KEY, else the configuration file, else
 * server.json and owner.key of the state directory. Offers to start it on a terminal. */
CG_MUST_USE bool cli_find(struct cli *c, struct cg_err *e);
/* The same for somebody who has no key yet: c->key stays NULL. `url` (may be NULL) wins. */
CG_MUST_USE bool cli_locate(struct cli *c, const char *url, struct cg_err *e);
/* After a lost connection: the server may be back on another port. */
void cli_find_again(struct cli *c);
void cli_finish(struct cli *c);
char *cli_state_dir(void);
char *cli_libexec(void);
char *cli_share(void);

/* A libcurl handle (CURL *) for a path of the server, with what all calls have in common; the
 * caller's. */
void *cli_curl(const struct cli *c, const char *path);

/* A call; out (may be NULL) gets the body. False with the server's own words on anything but 2xx.
 */
CG_MUST_USE bool cli_call(struct cli *c, const char *method, const char *path, struct cg_slice body,
                          struct cg_buf *out, struct cg_err *e);
/* The same with the body parsed. */
CG_MUST_USE struct cg_json *cli_json(struct cli *c, const char *method, const char *path,
                                     struct cg_slice body, struct cg_err *e);

/* Streams: up reads from a function (0: the end, SIZE_MAX: abort), down writes to one. */
struct cli_pipe {
    size_t (*read)(void *ctx, char *p, size_t n);
    bool (*write)(void *ctx, struct cg_slice bytes);
    void *ctx;
};
CG_MUST_USE bool cli_stream(struct cli *c, const char *method, const char *path,
                            const struct cli_pipe *pipe, struct cg_err *e);

/* Server-sent events; each is called with id, event and data; false ends the stream. */
typedef bool (*cli_event_fn)(void *ctx, const char *id, const char *event, struct cg_slice data);
CG_MUST_USE bool cli_events(struct cli *c, const char *path, cli_event_fn each, void *ctx,
                            bool *ended, struct cg_err *e);

/* Output. Strings of guests are escaped before a terminal sees them. */
void cli_print_text(FILE *f, const char *s, size_t n);
void cli_print_json(FILE *f, const struct cg_json *j, int indent);
void cli_print_yaml(FILE *f, const struct cg_json *j, int indent);
bool cli_color(FILE *f);

/* Percent-encodes into a query or path; the caller's. */
char *cli_escape(const char *s);

#endif
