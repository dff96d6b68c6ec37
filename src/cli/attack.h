/* What caged attack found out: one row a class of attempts, read from what the program in the guest
 * says, printed as a table or as JSON. */
#ifndef CG_CLI_ATTACK_H
#define CG_CLI_ATTACK_H

#include <stdbool.h>

/* A name that is nobody's (RFC 6761): asked for, it must not leave; reached, it cannot be. */
#define CLI_ATTACK_NAME "caged-attack.invalid"

enum cli_attack_class {
    CLI_ATTACK_DNS,
    CLI_ATTACK_NAMES,
    CLI_ATTACK_HELLO,
    CLI_ATTACK_ADDRESSES,
    CLI_ATTACK_DOORS,
    CLI_ATTACK_IPV6,
    CLI_ATTACK_DATAGRAMS,
    CLI_ATTACK_FRAMES,
    CLI_ATTACK_VSOCK,
    CLI_ATTACK_GATEWAY,
    CLI_ATTACK_VALUES,
    CLI_ATTACK_CLASSES
};

enum { CLI_ATTACK_TOLD = 32 };

struct cli_attack_row {
    unsigned held, open, skipped;
    bool unwanted;               /* not asked for */
    unsigned sent;               /* neither yet */
    const char *untried;         /* why the class was not tried, else NULL */
    char *told[CLI_ATTACK_TOLD]; /* what is open and what was skipped, the first of them */
    unsigned ntold;
};

struct cli_attack_report {
    struct cli_attack_row rows[CLI_ATTACK_CLASSES];
};

const char *cli_attack_name(enum cli_attack_class class); /* as the program knows it */

/* All but one class are unwanted. False: there is no such class. */
bool cli_attack_select(struct cli_attack_report *r, const char *only);

/* Adds what the program said: lines "VERDICT<tab>TEXT". Anything else counts as open. */
void cli_attack_read(struct cli_attack_row *row, const char *output);
void cli_attack_open(struct cli_attack_row *row, const char *what);

void cli_attack_head(const char *id, const char *template_name, const char *mode);
void cli_attack_line(const struct cli_attack_report *r, enum cli_attack_class class);
/* The last words, or all of it as JSON. The exit code: 0 when everything held. */
int cli_attack_end(const struct cli_attack_report *r, const char *mode, bool json);
void cli_attack_free(struct cli_attack_report *r);

#endif
