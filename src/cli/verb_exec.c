/* caged exec and caged connect. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/verb.h"
#include "cli/ws.h"

enum { WORDS = 4096, WORD_BYTES = 256 * 1024 };

int verb_exec(int argc, char **argv)
{
    bool interactive = false, tty = false;
    const char *user = NULL, *cwd = NULL, *timeout = NULL;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    int n = 0;
    CG_OWN(cg_drop_buf) struct cg_buf env;
    cg_buf_init(&env, WORD_BYTES);
    if (argc > WORDS)
        return cli_usage("more than %d words", (int)WORDS);
    CG_OWN(cg_drop_free) char **words = cg_alloc_array((size_t)argc + 1, sizeof *words);
    const struct cli_flag flags[] = {
        {"-i", false, NULL, &interactive, NULL}, {"-t", false, NULL, &tty, NULL},
        {"-it", false, NULL, &tty, NULL},        {"--user", true, &user, NULL, NULL},
        {"--cwd", true, &cwd, NULL, NULL},       {"--timeout", true, &timeout, NULL, NULL},
        {"--env", true, NULL, NULL, &env},       {NULL, false, NULL, NULL, NULL}};
    /* flags end at the command: its own belong to it */
    if (!cli_flags(argc, argv, flags, words, &n, true, &e))
        return cli_usage("%s", e.text);
    if (n < 2)
        return cli_usage("exec needs a sandbox id and a command: caged exec <id> -- ls -l");
    char *end = NULL;
    double seconds = timeout ? strtod(timeout, &end) : 0;
    if (timeout && (!timeout[0] || *end || seconds <= 0 || seconds > 1e7))
        return cli_usage("--timeout must be seconds, not %s", timeout);
    struct cli_exec x = {
        .argv = words + 1, .argc = n - 1, .tty = tty, .user = user, .cwd = cwd, .env = &env};
    x.timeout_ms = (int64_t)(seconds * 1000);
    if (tty && !isatty(STDIN_FILENO))
        return cli_usage("-t needs a terminal as standard input");
    x.no_stdin = !tty && !interactive && isatty(STDIN_FILENO);
    if (!cli_find(&c, &e))
        return cli_error(&e);
    int code = cli_exec_run(&c, words[0], &x);
    cli_finish(&c);
    return code;
}

int verb_connect(int argc, char **argv)
{
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    if (argc != 2)
        return cli_usage("connect needs one sandbox id; caged list shows them");
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return cli_usage("connect needs a terminal; caged exec runs commands without one");
    if (!cli_find(&c, &e))
        return cli_error(&e);
    const struct cli_exec x = {.tty = true, .login = true};
    int code = cli_exec_run(&c, argv[1], &x);
    cli_finish(&c);
    return code;
}
