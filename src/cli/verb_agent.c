/* caged run-agent: one prompt for a coding agent inside a sandbox, with the settings that keep it
 * quiet, offline but for the gateway, and without questions. The table is docs/agents.md. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/verb.h"
#include "cli/ws.h"

struct agent {
    const char *name, *alias, *package;
    const char *script; /* $1: the prompt; $2: the model, or empty */
};

static const struct agent agents[] = {
    {"claude-code", "claude", "npm: @anthropic-ai/claude-code",
     "export IS_SANDBOX=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CODE_MAX_RETRIES=2 "
     "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK=1\n"
     "exec claude -p \"$1\" ${2:+--model \"$2\"} --dangerously-skip-permissions </dev/null\n"},
    {"codex", NULL, "npm: @openai/codex",
     "mkdir -p ~/.codex\n"
     "printf '%s\\n' 'check_for_update_on_startup = false' 'model_provider = \"gw\"' "
     "'[model_providers.gw]' 'name = \"gw\"' \"base_url = \\\"$OPENAI_BASE_URL\\\"\" "
     "'env_key = \"OPENAI_API_KEY\"' 'wire_api = \"responses\"' 'supports_websockets = false' "
     "'[analytics]' 'enabled = false' '[features]' 'plugins = false' 'apps = false' "
     ">~/.codex/config.toml\n"
     "exec codex exec --dangerously-bypass-approvals-and-sandbox --skip-git-repo-check "
     "${2:+-m \"$2\"} \"$1\" </dev/null\n"},
    {"gemini", NULL, "npm: @google/gemini-cli",
     "mkdir -p ~/.gemini\n"
     "printf '%s' '{\"security\":{\"auth\":{\"selectedType\":\"gemini-api-key\"}},"
     "\"privacy\":{\"usageStatisticsEnabled\":false},"
     "\"general\":{\"disableAutoUpdate\":true,\"enableAutoUpdate\":false}}' "
     ">~/.gemini/settings.json\n"
     "export GEMINI_CLI_TRUST_WORKSPACE=true\n"
     "exec gemini --yolo -m \"${2:-gemini-2.5-pro}\" -p \"$1\" </dev/null\n"},
};

static const struct agent *find(const char *name)
{
    for (size_t i = 0; i < CG_COUNT(agents); i++)
        if (strcmp(agents[i].name, name) == 0 || cg_streq(agents[i].alias, name))
            return &agents[i];
    return NULL;
}

int verb_agents(int argc, char **argv)
{
    if (argc > 2 || (argc == 2 && strcmp(argv[1], "list") != 0))
        return cli_usage("caged agents list");
    printf("%-14s %-10s %s\n", "NAME", "ALIAS", "PROGRAM, to be in the sandbox's PATH");
    for (size_t i = 0; i < CG_COUNT(agents); i++)
        printf("%-14s %-10s %s\n", agents[i].name, agents[i].alias ? agents[i].alias : "-",
               agents[i].package);
    return 0;
}

int verb_run_agent(int argc, char **argv)
{
    const char *name = "claude-code";
    const char *model = NULL;
    char *words[8];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    struct cli c = {0};
    const struct cli_flag flags[] = {{"--agent", true, &name, NULL, NULL},
                                     {"--model", true, &model, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > 8 || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.code != CG_OK ? e.text : "too many words: quote the prompt");
    if (n != 2)
        return cli_usage("caged run-agent <id> --agent claude-code \"PROMPT\"");
    const struct agent *a = find(name);
    if (!a)
        return cli_usage("there is no agent %s; caged agents list shows them", name);
    char sh[] = "/bin/sh";
    char dash_c[] = "-c";
    char empty[] = "";
    CG_OWN(cg_drop_free) char *script = cg_strdup(a->script);
    CG_OWN(cg_drop_free) char *zero = cg_strdup(a->name);
    CG_OWN(cg_drop_free) char *model_copy = model ? cg_strdup(model) : NULL;
    char *command[] = {sh, dash_c, script, zero, words[1], model_copy ? model_copy : empty, NULL};
    struct cli_exec x = {.argv = command, .argc = 6, .cwd = "/workspace", .no_stdin = true};
    if (!cli_find(&c, &e))
        return cli_error(&e);
    int code = cli_exec_run(&c, words[0], &x);
    cli_finish(&c);
    return code;
}
