/* Facts that both the host and the guest's observer tell, held against each other: connections,
 * calls of the gateway, exits of commands. A difference becomes a line of type `gap`, reason
 * `mismatch`. Nothing is concluded from what is merely late: the observer gives a sign of life
 * every few seconds, in order with what it tells, and only what is older than three of them counts;
 * and nothing from what the observer says was lost. Bounded: the egress remembers 1,024
 * connections, here 32 exits wait. */
#ifndef CG_WARDEN_CROSS_H
#define CG_WARDEN_CROSS_H

#include <stdint.h>

#include "base/json.h"

struct warden;
struct pass;

enum { CROSS_BEATS = 3, CROSS_EXITS = 32, CROSS_ID = 64, CROSS_SESSION = 48 };

/* A command that ended by the agent's word, and whose exit the observer has still to tell. */
struct cross_exit {
    char exec_id[CROSS_ID];
    char session[CROSS_SESSION];
    int64_t pid; /* 0: free */
    int64_t code;
    unsigned beats; /* that came since */
};

struct cross {
    bool connections, exits; /* the guest's hooks for them are there */
    int64_t beat[CROSS_BEATS];
    struct cross_exit exit[CROSS_EXITS];
};

/* The guest is up; `observe`: what its observer says that it sees. */
void cross_start(struct warden *w, const struct cg_json *observe);
/* A sign of life of the observer: what must have been told by now is held against what was seen. */
void cross_beat(struct warden *w);
/* The observer says that it lost something. */
void cross_lost(struct warden *w, const struct cg_json *gap);

/* The observer tells of a program that starts, or of a process that ends. */
void cross_exec(struct warden *w, const struct cg_json *o);
void cross_exited(struct warden *w, const struct cg_json *o);
/* The agent says that the command is over: with this code. */
void cross_ended(struct pass *p, int64_t code);

#endif
