/* Sessions: who acts in the sandbox, from when to when. An agent's session opens with a command or
 * an observed program that is a known agent, or with a call of a model that nobody else made; a
 * terminal's with its shell. Every line of the record that belongs to one carries its id, and lines
 * of type `session` open, count and close it, so that the record alone tells all of them. Known by
 * the warden's word: pids and programs are what the guest says. One thread, the loop's. */
#ifndef CG_WARDEN_SESSIONS_H
#define CG_WARDEN_SESSIONS_H

#include "record/record.h"

struct cg_json;
struct sessions;

enum { SESSION_TEXT = 48, SESSIONS_OPEN_MAX = 64 };

struct sessions *sessions_create(struct cg_record *record);
void sessions_destroy(struct sessions *s);

/* Called before a session opens or closes, so that machine time up to then is shared by those that
 * were there. */
void sessions_set_settle(struct sessions *s, void (*settle)(void *ctx), void *ctx);

/* What an earlier warden of this record wrote: call for every line, before anything else. Then
 * `replayed`: with `same` guest the open ones go on, else they are closed. */
void sessions_replay(struct sessions *s, const struct cg_record_line *line);
void sessions_replayed(struct sessions *s, bool same);

/* --- commands that a server asks for --- */

struct sessions_command {
    const char *exec_id;
    const struct cg_json *request; /* argv, agent */
    bool pty;
};
/* A command begins: its session's id, "" for none. `session` holds what the server asked for. */
void sessions_begin(struct sessions *s, const struct sessions_command *c,
                    char session[SESSION_TEXT]);
void sessions_attach(struct sessions *s, const char *exec_id, char session[SESSION_TEXT]);
void sessions_pid(struct sessions *s, const char *session, int64_t pid); /* of the command */
/* The last line about it is written; `result` has exit_code, signal, error. */
void sessions_end(struct sessions *s, const char *exec_id, const struct cg_json *result);
void sessions_detach(struct sessions *s, const char *exec_id); /* it goes on by itself */

/* --- what the guest tells --- */

/* The session that an observed line belongs to: an id, or "" for none. An `exec` of an agent opens
 * one. `exited` is called behind the line of an exit. */
const char *sessions_observed(struct sessions *s, bool exec, const struct cg_json *o);
void sessions_exited(struct sessions *s, const struct cg_json *o);

/* --- calls of models: the data of an `llm_call` line; the id for it --- */

const char *sessions_call(struct sessions *s, struct cg_slice data);

void sessions_compute(struct sessions *s, int64_t nusd); /* machine time, shared by the open ones */
void sessions_second(struct sessions *s);
/* The sandbox ends: all are closed. */
void sessions_close(struct sessions *s, bool failed, const char *reason);

#endif
