/* The table of verbs: one row a verb, one file a verb. Help, completion and suggestions come from
 * it. */
#ifndef CG_CLI_VERB_H
#define CG_CLI_VERB_H

#include "base/err.h"

struct cg_verb {
    const char *name;
    const char *alias; /* or NULL */
    const char *args;  /* "<id> [--] COMMAND..." */
    const char *summary;
    const char *flags;    /* "--json --format" for completion */
    const char *examples; /* lines, each "caged …  # what it does" */
    /* argv[0] is the verb. The result is the exit code. */
    int (*run)(int argc, char **argv);
};

extern const struct cg_verb cg_verbs[]; /* ended by a NULL name */

const struct cg_verb *cg_verb_find(const char *name);
/* The known name nearest to a wrong one, NULL when none is near. */
const char *cg_verb_nearest(const char *name);
void cg_verb_help(const struct cg_verb *v);

/* main() of caged. */
int cg_cli_main(int argc, char **argv);

int verb_server(int argc, char **argv);
int verb_up(int argc, char **argv);
int verb_run(int argc, char **argv);
int verb_list(int argc, char **argv);
int verb_status(int argc, char **argv);
int verb_exec(int argc, char **argv);
int verb_connect(int argc, char **argv);
int verb_logs(int argc, char **argv);
int verb_events(int argc, char **argv);
int verb_replay(int argc, char **argv);
int verb_files(int argc, char **argv);
int verb_verify(int argc, char **argv);
int verb_export(int argc, char **argv);
int verb_network(int argc, char **argv);
int verb_attack(int argc, char **argv);
int verb_secrets(int argc, char **argv);
int verb_login(int argc, char **argv);
int verb_logout(int argc, char **argv);
int verb_whoami(int argc, char **argv);
int verb_keys(int argc, char **argv);
int verb_team(int argc, char **argv);
int verb_billing(int argc, char **argv);
int verb_backup(int argc, char **argv);
int verb_restore(int argc, char **argv);
int verb_audit(int argc, char **argv);
int verb_cp(int argc, char **argv);
int verb_destroy(int argc, char **argv);
int verb_gc(int argc, char **argv);
int verb_snapshot(int argc, char **argv);
int verb_fork(int argc, char **argv);
int verb_pause(int argc, char **argv);
int verb_resume(int argc, char **argv);
int verb_doctor(int argc, char **argv);
int verb_demo(int argc, char **argv);
int verb_man(int argc, char **argv);
int verb_completion(int argc, char **argv);
int verb_version(int argc, char **argv);
int verb_budget(int argc, char **argv);
int verb_cost(int argc, char **argv);
int verb_top(int argc, char **argv);
int verb_alerts(int argc, char **argv);
int verb_trust(int argc, char **argv);
int verb_prices(int argc, char **argv);
int verb_agents(int argc, char **argv);
int verb_run_agent(int argc, char **argv);
int verb_mcp(int argc, char **argv);
int verb_ports(int argc, char **argv);
int verb_forward(int argc, char **argv);
int verb_help(int argc, char **argv);
int verb_sandboxes(int argc, char **argv);

#endif
