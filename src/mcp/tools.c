/* The table of tools: arguments, schemas, and what each asks of the backend. */
#include <stdio.h>
#include <string.h>

#include "mcp/inner.h"

enum { EXEC_S = 30, EXEC_MAX_S = 3600, GIT_S = 60, LOG_MAX = 1000 };

static void ask(struct cg_mcp_call *c, const char *shell, const char *const *argv, int timeout_s)
{
    const struct cg_mcp_run run = {shell, argv, timeout_s};
    c->m->o.backend.run(c->m->o.ctx, c, &run);
}

static void read_file(struct cg_mcp_call *c, const struct cg_json *args)
{
    c->m->o.backend.read(c->m->o.ctx, c, cg_json_str(args, "path"));
}

static void write_file(struct cg_mcp_call *c, const struct cg_json *args)
{
    c->m->o.backend.write(c->m->o.ctx, c, cg_json_str(args, "path"),
                          cg_json_get(args, "content")->str);
}

static void list_folder(struct cg_mcp_call *c, const struct cg_json *args)
{
    const char *path = cg_json_str(args, "path");
    c->m->o.backend.list(c->m->o.ctx, c, path && path[0] ? path : ".");
}

static void delete_path(struct cg_mcp_call *c, const struct cg_json *args)
{
    c->m->o.backend.remove(c->m->o.ctx, c, cg_json_str(args, "path"));
}

static void search(struct cg_mcp_call *c, const struct cg_json *args)
{
    const char *const argv[] = {"find",   ".",  "-path", "*/.git",
                                "-prune", "-o", "-name", cg_json_str(args, "pattern"),
                                "-print", NULL};
    ask(c, NULL, argv, GIT_S);
}

/* With a list of commands, only `name arguments…` is run: whatever a shell could make more of it
 * is refused outright. */
static bool may_run(const struct cg_mcp *m, const char *command, struct cg_err *e)
{
    static const char operators[] = ";|&$`<>(){}[]!\\\"'*?~#\n\r";
    if (!m->o.commands)
        return true;
    command += strspn(command, " \t");
    size_t n = strcspn(command, " \t");
    if (strpbrk(command, operators))
        return cg_fail(e, CG_FORBIDDEN,
                       "only plain commands are allowed here: no shell operators, quotes or "
                       "patterns");
    for (const char *p = m->o.commands; *p;) {
        size_t len = strcspn(p, ",");
        if (len == n && n > 0 && strncmp(p, command, n) == 0)
            return true;
        p += len + (p[len] == ',');
    }
    return cg_fail(e, CG_FORBIDDEN, "%.*s is not among the allowed commands: %.120s",
                   (int)CG_MIN(n, (size_t)64), command, m->o.commands);
}

static void exec_command(struct cg_mcp_call *c, const struct cg_json *args)
{
    const char *command = cg_json_str(args, "command");
    int64_t seconds = cg_json_int(args, "timeout", EXEC_S);
    struct cg_err e = CG_ERR_INIT;
    if (!may_run(c->m, command, &e)) {
        cg_mcp_failed(c, &e);
        return;
    }
    ask(c, command, NULL, (int)CG_MAX((int64_t)1, CG_MIN(seconds, (int64_t)EXEC_MAX_S)));
}

/* The workspace's own configuration must not make a command of a look at it. */
#define GIT "git", "-c", "core.fsmonitor=false", "--no-pager"

static void git_status(struct cg_mcp_call *c, const struct cg_json *args)
{
    static const char *const argv[] = {GIT, "status", "--porcelain=v1", NULL};
    (void)args;
    ask(c, NULL, argv, GIT_S);
}

static void git_diff(struct cg_mcp_call *c, const struct cg_json *args)
{
    const char *staged = cg_json_bool(args, "staged", false) ? "--staged" : NULL;
    const char *const argv[] = {GIT,    "diff", "--no-ext-diff", "--no-textconv", "--no-color",
                                staged, NULL};
    ask(c, NULL, argv, GIT_S);
}

static void git_log(struct cg_mcp_call *c, const struct cg_json *args)
{
    char count[24];
    int64_t n = cg_json_int(args, "count", 10);
    cg_snprintf(count, sizeof count, "-%d", (int)CG_MAX((int64_t)1, CG_MIN(n, (int64_t)LOG_MAX)));
    const char *const argv[] = {GIT,          "log", "--oneline", "--no-decorate",
                                "--no-color", count, NULL};
    ask(c, NULL, argv, GIT_S);
}

static void git_commit(struct cg_mcp_call *c, const struct cg_json *args)
{
    const char *const argv[] = {
        "sh", "-c", "git add -A && git commit -m \"$1\"", "sh", cg_json_str(args, "message"), NULL};
    ask(c, NULL, argv, GIT_S);
}

#define STRING "string"
#define NONE                                                                                       \
    {                                                                                              \
        NULL, NULL, NULL, false                                                                    \
    }

static const char entries_schema[] =
    "{\"type\":\"object\",\"required\":[\"entries\"],\"properties\":{\"entries\":{\"type\":"
    "\"array\","
    "\"items\":{\"type\":\"object\",\"required\":[\"name\",\"type\",\"size\"],\"properties\":{"
    "\"name\":{\"type\":\"string\"},\"type\":{\"type\":\"string\"},\"size\":{\"type\":\"integer\"}}"
    "}}}}";
static const char status_schema[] =
    "{\"type\":\"object\",\"required\":[\"entries\"],\"properties\":{\"entries\":{\"type\":"
    "\"array\","
    "\"items\":{\"type\":\"object\",\"required\":[\"status\",\"path\"],\"properties\":{"
    "\"status\":{\"type\":\"string\"},\"path\":{\"type\":\"string\"}}}}}}";
static const char log_schema[] =
    "{\"type\":\"object\",\"required\":[\"entries\"],\"properties\":{\"entries\":{\"type\":"
    "\"array\","
    "\"items\":{\"type\":\"object\",\"required\":[\"commit\",\"subject\"],\"properties\":{"
    "\"commit\":{\"type\":\"string\"},\"subject\":{\"type\":\"string\"}}}}}}";

static const struct mcp_tool tools[] = {
    {"filesystem_read",
     "Read a file of the workspace",
     {{"path", STRING, "relative to the workspace", true}, NONE},
     false,
     SHAPE_TEXT,
     NULL,
     read_file},
    {"filesystem_write",
     "Write a file of the workspace; folders above it are made",
     {{"path", STRING, "relative to the workspace", true},
      {"content", STRING, "the whole new content", true}},
     true,
     SHAPE_DONE,
     NULL,
     write_file},
    {"filesystem_list",
     "List a folder of the workspace",
     {{"path", STRING, "relative to the workspace; default .", false}, NONE},
     false,
     SHAPE_LIST,
     entries_schema,
     list_folder},
    {"filesystem_delete",
     "Delete a file, or a folder with all that is in it",
     {{"path", STRING, "relative to the workspace", true}, NONE},
     true,
     SHAPE_DONE,
     NULL,
     delete_path},
    {"filesystem_search",
     "Find files and folders whose name matches a pattern",
     {{"pattern", STRING, "of the base name, as in *.c", true}, NONE},
     false,
     SHAPE_SEARCH,
     NULL,
     search},
    {"terminal_exec",
     "Run a shell command in the workspace",
     {{"command", STRING, "a command line for sh", true},
      {"timeout", "integer", "seconds, then it is killed; default 30", false}},
     true,
     SHAPE_EXEC,
     NULL,
     exec_command},
    {"git_status",
     "What git says has changed",
     {NONE, NONE},
     false,
     SHAPE_STATUS,
     status_schema,
     git_status},
    {"git_diff",
     "The changes as a diff",
     {{"staged", "boolean", "of the index instead of the working tree", false}, NONE},
     false,
     SHAPE_TEXT,
     NULL,
     git_diff},
    {"git_log",
     "The last commits, one a line",
     {{"count", "integer", "how many; default 10", false}, NONE},
     false,
     SHAPE_LOG,
     log_schema,
     git_log},
    {"git_commit",
     "Commit everything that has changed",
     {{"message", STRING, "of the commit", true}, NONE},
     true,
     SHAPE_TEXT,
     NULL,
     git_commit},
};

const struct mcp_tool *mcp_tool_find(const struct cg_mcp *m, const char *name)
{
    for (size_t i = 0; i < CG_COUNT(tools); i++)
        if (strcmp(tools[i].name, name) == 0 && !(m->o.read_only && tools[i].writes))
            return &tools[i];
    return NULL;
}

static bool has_type(const struct cg_json *v, const char *type)
{
    if (strcmp(type, STRING) == 0)
        return v->type == CG_JSON_STR;
    return v->type == (type[0] == 'i' ? CG_JSON_INT : CG_JSON_BOOL);
}

bool mcp_args_check(const struct mcp_tool *t, const struct cg_json *args, struct cg_err *e)
{
    for (size_t i = 0; i < MCP_ARGS && t->args[i].name; i++) {
        const struct mcp_arg *a = &t->args[i];
        const struct cg_json *v = cg_json_get(args, a->name);
        bool content = strcmp(a->name, "content") == 0;
        if (!v && a->required)
            return cg_fail(e, CG_INVALID, "%s needs %s", t->name, a->name);
        if (v && !has_type(v, a->type))
            return cg_fail(e, CG_INVALID, "%s: %s must be of type %s", t->name, a->name, a->type);
        if (v && v->type == CG_JSON_STR && !content && strlen(v->str.p) != v->str.n)
            return cg_fail(e, CG_INVALID, "%s: %s must hold no NUL", t->name, a->name);
        if (v && v->type == CG_JSON_STR && !content && a->required && v->str.n == 0)
            return cg_fail(e, CG_INVALID, "%s: %s must not be empty", t->name, a->name);
    }
    return true;
}

static void write_input(const struct mcp_tool *t, struct cg_jsonw *w)
{
    cg_jsonw_key(w, "inputSchema");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "type", "object");
    cg_jsonw_key(w, "properties");
    cg_jsonw_obj(w);
    for (size_t i = 0; i < MCP_ARGS && t->args[i].name; i++) {
        cg_jsonw_key(w, t->args[i].name);
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "type", t->args[i].type);
        cg_jsonw_kstr(w, "description", t->args[i].description);
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_obj_end(w);
    cg_jsonw_key(w, "required");
    cg_jsonw_arr(w);
    for (size_t i = 0; i < MCP_ARGS && t->args[i].name; i++)
        if (t->args[i].required)
            cg_jsonw_str(w, t->args[i].name);
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
}

void mcp_tools_write(const struct cg_mcp *m, struct mcp_era era, struct cg_jsonw *w)
{
    cg_jsonw_arr(w);
    for (const struct mcp_tool *t = tools; t < tools + CG_COUNT(tools); t++) {
        if (m->o.read_only && t->writes)
            continue;
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "name", t->name);
        cg_jsonw_kstr(w, "description", t->description);
        write_input(t, w);
        if (era.structured && t->output) {
            cg_jsonw_key(w, "outputSchema");
            cg_jsonw_raw(w, t->output, strlen(t->output));
        }
        if (era.structured) {
            cg_jsonw_key(w, "annotations");
            cg_jsonw_obj(w);
            cg_jsonw_kbool(w, "readOnlyHint", !t->writes);
            cg_jsonw_obj_end(w);
        }
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
}
