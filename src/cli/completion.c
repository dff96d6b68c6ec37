/* Completion for three shells, made of the table of verbs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/verb.h"

static void completion_bash(void)
{
    printf("_caged() {\n  local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]}\n"
           "  if [ \"$COMP_CWORD\" -eq 1 ]; then COMPREPLY=($(compgen -W \"");
    for (const struct cg_verb *v = cg_verbs; v->name; v++)
        printf("%s ", v->name);
    printf("\" -- \"$cur\")); return; fi\n  case $verb in\n");
    for (const struct cg_verb *v = cg_verbs; v->name; v++)
        printf("    %s) COMPREPLY=($(compgen -W \"%s $([[ $cur == -* ]] || caged list --ids "
               "2>/dev/null)\" "
               "-- \"$cur\")) ;;\n",
               v->name, v->flags);
    printf("  esac\n}\ncomplete -o default -F _caged caged\n");
}

static void completion_zsh(void)
{
    printf("#compdef caged\n_caged() {\n  local -a verbs\n  verbs=(\n");
    for (const struct cg_verb *v = cg_verbs; v->name; v++)
        printf("    '%s:%s'\n", v->name, strchr(v->summary, '\'') ? "" : v->summary);
    printf("  )\n  if (( CURRENT == 2 )); then _describe verb verbs; return; fi\n  case $words[2] "
           "in\n");
    for (const struct cg_verb *v = cg_verbs; v->name; v++)
        printf("    %s) compadd -- %s $(caged list --ids 2>/dev/null) ;;\n", v->name, v->flags);
    printf("  esac\n  _files\n}\ncompdef _caged caged\n");
}

static void completion_fish(void)
{
    for (const struct cg_verb *v = cg_verbs; v->name; v++) {
        printf("complete -c caged -n __fish_use_subcommand -a %s -d \"%s\"\n", v->name, v->summary);
        CG_OWN(cg_drop_free) char *flags = cg_strdup(v->flags);
        char *save = NULL;
        for (char *f = strtok_r(flags, " ", &save); f; f = strtok_r(NULL, " ", &save)) {
            if (cg_has_prefix(f, "--"))
                printf("complete -c caged -n '__fish_seen_subcommand_from %s' -l %s\n", v->name,
                       f + 2);
        }
    }
    printf(
        "complete -c caged -n 'not __fish_use_subcommand' -a '(caged list --ids 2>/dev/null)'\n");
}

int verb_completion(int argc, char **argv)
{
    const char *shell = argc > 1 ? argv[1] : "";
    if (strcmp(shell, "bash") == 0)
        completion_bash();
    else if (strcmp(shell, "zsh") == 0)
        completion_zsh();
    else if (strcmp(shell, "fish") == 0)
        completion_fish();
    else
        return cli_usage("completion needs the shell: bash, zsh or fish");
    return 0;
}
