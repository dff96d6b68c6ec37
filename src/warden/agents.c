#include "warden/agents.h"

#include <string.h>

#include "base/json.h"

static const struct agent {
    const char *name;
    const char *programs[4]; /* base names, without .js and the like */
    const char *package;     /* a part of the path of a script that an interpreter runs; or NULL */
    const char *user_agent;  /* how its requests begin; or NULL */
} agents[] = {
    {"claude-code", {"claude", "claude-code"}, "/claude-code/", "claude-cli/"},
    {"codex", {"codex", "codex-exec"}, "/codex/", "codex"},
    {"cursor", {"cursor-agent"}, "/cursor-agent/", "cursor"},
    {"aider", {"aider"}, "/aider/", "aider"},
    {"gemini-cli", {"gemini"}, "/gemini-cli/", "GeminiCLI"},
    {"opencode", {"opencode"}, "/opencode", "opencode/"},
    {"goose", {"goose"}, NULL, "goose/"},
    {"amp", {"amp"}, "/amp/", "amp/"},
    {"qwen-code", {"qwen"}, "/qwen-code/", "QwenCode"},
    {"copilot-cli", {"copilot"}, "/copilot/", "copilot"},
    {"crush", {"crush"}, NULL, "crush"},
    {"cline", {"cline"}, "/cline/", "cline"},
    {"openhands", {"openhands"}, "/openhands/", "openhands"},
};

static const char *const interpreters[] = {"node",    "nodejs", "bun", "deno",
                                           "python3", "python", "npx", "uvx"};

static struct cg_slice base_name(const char *path)
{
    static const char *const endings[] = {".js", ".mjs", ".cjs", ".py", ".exe"};
    const char *slash = strrchr(path, '/');
    struct cg_slice s = cg_slice_of(slash ? slash + 1 : path);
    for (size_t i = 0; i < CG_COUNT(endings); i++) {
        size_t n = strlen(endings[i]);
        if (s.n > n && memcmp(s.p + s.n - n, endings[i], n) == 0)
            s.n -= n;
    }
    return s;
}

static const char *by_program(const char *path)
{
    struct cg_slice name = base_name(path);
    for (size_t i = 0; i < CG_COUNT(agents); i++)
        for (size_t k = 0; k < CG_COUNT(agents[i].programs) && agents[i].programs[k]; k++)
            if (cg_slice_eq(name, agents[i].programs[k]))
                return agents[i].name;
    return NULL;
}

static const char *by_script(const char *path)
{
    const char *name = by_program(path);
    for (size_t i = 0; i < CG_COUNT(agents) && !name; i++)
        if (agents[i].package && strchr(path, '/') && strstr(path, agents[i].package))
            name = agents[i].name;
    return name;
}

static bool interprets(const char *path)
{
    struct cg_slice name = base_name(path);
    for (size_t i = 0; i < CG_COUNT(interpreters); i++)
        if (cg_slice_eq(name, interpreters[i]))
            return true;
    return name.n > 8 && memcmp(name.p, "python3.", 8) == 0;
}

static const char *text_of(const struct cg_json *v)
{
    return v && v->type == CG_JSON_STR ? v->str.p : NULL;
}

static bool only_asks(const struct cg_json *first)
{
    static const char *const words[] = {"--version", "-v", "-V", "--help", "-h"};
    const char *word = text_of(first);
    for (size_t i = 0; i < CG_COUNT(words); i++)
        if (cg_streq(word, words[i]))
            return true;
    return false;
}

/* What an interpreter runs: `script …`, or `-m module …`; options before it are passed over. */
static const char *interpreted(const struct cg_json *arg)
{
    for (; arg; arg = arg->next) {
        const char *text = text_of(arg);
        if (cg_streq(text, "-m"))
            return text_of(arg->next) ? by_program(text_of(arg->next)) : NULL;
        if (text && text[0] != '-')
            return only_asks(arg->next) ? NULL : by_script(text);
    }
    return NULL;
}

const char *agent_of_program(const char *exe, const struct cg_json *argv)
{
    const struct cg_json *zero = argv && argv->type == CG_JSON_ARR ? argv->child : NULL;
    const char *program = text_of(zero);
    const char *name = NULL;
    if (only_asks(zero ? zero->next : NULL))
        return NULL;
    name = program ? by_program(program) : NULL;
    name = !name && exe ? by_program(exe) : name;
    if (name || !zero)
        return name;
    return interprets(program ? program : "") || (exe && interprets(exe)) ? interpreted(zero->next)
                                                                          : NULL;
}

const char *agent_of_user_agent(const char *user_agent)
{
    for (size_t i = 0; user_agent && i < CG_COUNT(agents); i++)
        if (agents[i].user_agent && cg_has_prefix(user_agent, agents[i].user_agent))
            return agents[i].name;
    return NULL;
}
