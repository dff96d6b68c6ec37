/* A pass-through stream; pass.c moves it, passrec.c writes down what it does. */
#ifndef CG_WARDEN_PASS_H
#define CG_WARDEN_PASS_H

#include "warden/kinds.h"
#include "warden/term.h"
#include "warden/unpacked.h"
#include "warden/up.h"

enum { PASS_EXEC_ID = 64, PASS_SESSION = 48, PASS_ORIGIN = 16, PASS_USER = 32 };

struct pass {
    struct pass *next;
    struct pass *prev;
    struct warden *w;
    const struct kind *kind;
    struct up up;
    struct down down;
    char exec_id[PASS_EXEC_ID];
    char session[PASS_SESSION]; /* empty: none */
    char origin[PASS_ORIGIN];
    char user[PASS_USER];
    char *path; /* file_op: owned */
    char *to;   /* owned, or NULL */
    int64_t port;
    bool quiet;
    bool detach;
    bool recorded; /* something was written: the answer waits for it */
    bool cancelled;
    bool closed;               /* the guest has answered; `result` is what the server gets */
    bool failed;               /* with an error */
    struct term *term;         /* of a PTY */
    struct unpacked *unpacked; /* of an archive into /workspace; NULL: none */
    uint64_t bytes[3];         /* by channel */
    size_t owed_guest;         /* taken from the guest, credit not given back yet */
    size_t owed_server;        /* the same towards the server */
    int64_t pid;               /* of the command in the guest; 0: not known */
    bool seen_start;           /* the observer told of it */
    bool seen_exit;            /* and of its end: */
    int64_t seen_code;
    uint64_t need_observed;
    int64_t late_at; /* waiting for observed lines until then; 0: not waiting */
    struct cg_buf result;
    struct commit_wait wait;
};

/* Checks a server's request, takes what is ours out of it, writes the guest's into out. */
CG_MUST_USE bool pass_request(struct pass *p, const struct cg_json *request, struct cg_buf *out,
                              struct cg_err *e);
void pass_record_start(struct pass *p, const struct cg_json *request);
void pass_record_control(struct pass *p, const struct cg_json *message);
/* The last lines of it; their number, 0: none or lost. `late`: not all observed lines came. */
uint64_t pass_record_end(struct pass *p, bool late);

#endif
