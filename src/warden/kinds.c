#include "warden/kinds.h"

enum { PATH = 4096, NAME = 128 };

#define INT(name)                                                                                  \
    {                                                                                              \
        name, FIELD_INT, 0, NULL                                                                   \
    }
#define BOOL(name)                                                                                 \
    {                                                                                              \
        name, FIELD_BOOL, 0, NULL                                                                  \
    }
#define TEXT(name)                                                                                 \
    {                                                                                              \
        name, FIELD_STR, NAME, NULL                                                                \
    }
#define PATHNAME(name)                                                                             \
    {                                                                                              \
        name, FIELD_STR, PATH, NULL                                                                \
    }
#define END                                                                                        \
    {                                                                                              \
        NULL, FIELD_INT, 0, NULL                                                                   \
    }

const struct field kind_own_fields[] = {TEXT("origin"),
                                        TEXT("session"),
                                        TEXT("agent"),
                                        BOOL("quiet"),
                                        {"secret_env", FIELD_ANY, 0, NULL},
                                        END};

static const struct field size_fields[] = {INT("rows"), INT("cols"), END};
const struct field kind_control_fields[] = {
    TEXT("signal"), {"resize", FIELD_OBJ, 0, size_fields}, END};

/* What a server asks for: it is trusted, the agent checks; only the names are fixed. env is merged
 * with secret_env by pass.c. */
static const struct field exec_request[] = {{"kind", FIELD_ANY, 0, NULL},
                                            {"exec_id", FIELD_ANY, 0, NULL},
                                            {"argv", FIELD_ANY, 0, NULL},
                                            {"shell", FIELD_ANY, 0, NULL},
                                            {"login", FIELD_ANY, 0, NULL},
                                            {"cwd", FIELD_ANY, 0, NULL},
                                            {"user", FIELD_ANY, 0, NULL},
                                            {"timeout_ms", FIELD_ANY, 0, NULL},
                                            {"stdin", FIELD_ANY, 0, NULL},
                                            {"pty", FIELD_ANY, 0, NULL},
                                            {"term", FIELD_ANY, 0, NULL},
                                            {"echo", FIELD_ANY, 0, NULL},
                                            {"detach", FIELD_ANY, 0, NULL},
                                            {"env", FIELD_ANY, 0, NULL},
                                            END};
static const struct field exec_accept[] = {INT("pid"), INT("kept"), END};
static const struct field exec_result[] = {
    INT("exit_code"),   TEXT("signal"),   BOOL("timed_out"),  INT("duration_ns"),
    INT("output_lost"), BOOL("detached"), BOOL("taken_over"), END};
static const struct field execs_entry[] = {
    TEXT("exec_id"), INT("pid"),       {"argv", FIELD_STRS, 1024, NULL},
    BOOL("running"), INT("exit_code"), END};
static const struct field execs_request[] = {{"kind", FIELD_ANY, 0, NULL}, END};
static const struct field execs_result[] = {{"execs", FIELD_LIST, 128, execs_entry}, END};
/* pty and detach are for the record alone: the guest knows them since the exec. */
static const struct field attach_request[] = {{"kind", FIELD_ANY, 0, NULL},
                                              {"exec_id", FIELD_ANY, 0, NULL},
                                              {"pty", FIELD_ANY, 0, NULL},
                                              {"detach", FIELD_ANY, 0, NULL},
                                              END};

static const struct field file_request[] = {{"kind", FIELD_ANY, 0, NULL},
                                            {"path", FIELD_ANY, 0, NULL},
                                            {"from", FIELD_ANY, 0, NULL},
                                            {"to", FIELD_ANY, 0, NULL},
                                            {"user", FIELD_ANY, 0, NULL},
                                            {"beneath", FIELD_ANY, 0, NULL},
                                            {"offset", FIELD_ANY, 0, NULL},
                                            {"limit", FIELD_ANY, 0, NULL},
                                            {"mode", FIELD_ANY, 0, NULL},
                                            {"mkdirs", FIELD_ANY, 0, NULL},
                                            {"append", FIELD_ANY, 0, NULL},
                                            {"recursive", FIELD_ANY, 0, NULL},
                                            {"parents", FIELD_ANY, 0, NULL},
                                            {"dirs", FIELD_ANY, 0, NULL},
                                            END};
static const struct field entry_fields[] = {
    PATHNAME("name"), PATHNAME("path"),   TEXT("type"), INT("size"), INT("mode"),
    INT("mtime_ms"),  PATHNAME("target"), INT("uid"),   INT("gid"),  END};
static const struct field file_accept[] = {TEXT("type"), INT("size"), INT("mode"), END};
static const struct field file_result[] = {{"entry", FIELD_OBJ, 0, entry_fields},
                                           INT("count"),
                                           INT("bytes"),
                                           INT("entries"),
                                           BOOL("truncated"),
                                           END};

static const struct field dial_request[] = {
    {"kind", FIELD_ANY, 0, NULL}, {"port", FIELD_ANY, 0, NULL}, END};
static const struct field sample_request[] = {
    {"kind", FIELD_ANY, 0, NULL}, {"interval_ms", FIELD_ANY, 0, NULL}, END};
static const struct field sample_result[] = {{"cpu_percent", FIELD_NUM, 0, NULL},
                                             {"memory_used_mb", FIELD_NUM, 0, NULL},
                                             {"memory_total_mb", FIELD_NUM, 0, NULL},
                                             {"disk_used_mb", FIELD_NUM, 0, NULL},
                                             {"disk_total_mb", FIELD_NUM, 0, NULL},
                                             INT("num_processes"),
                                             {"load1", FIELD_NUM, 0, NULL},
                                             INT("timestamp"),
                                             END};
static const struct field nothing[] = {END};

static const struct kind kinds[] = {
    {"exec", KIND_COMMAND, NULL, exec_request, exec_accept, exec_result},
    {"attach", KIND_COMMAND, NULL, attach_request, exec_accept, exec_result},
    {"execs", KIND_QUIET, NULL, execs_request, nothing, execs_result},
    {"fs.stat", KIND_QUIET, NULL, file_request, file_accept, file_result},
    {"fs.list", KIND_QUIET, NULL, file_request, file_accept, file_result},
    {"fs.read", KIND_FILE, "read", file_request, file_accept, file_result},
    {"fs.write", KIND_FILE, "write", file_request, file_accept, file_result},
    {"fs.delete", KIND_FILE, "delete", file_request, file_accept, file_result},
    {"fs.mkdir", KIND_FILE, "mkdir", file_request, file_accept, file_result},
    {"fs.rename", KIND_FILE, "rename", file_request, file_accept, file_result},
    {"tar.in", KIND_FILE, "unpack", file_request, file_accept, file_result},
    {"tar.out", KIND_FILE, "pack", file_request, file_accept, file_result},
    {"metrics", KIND_QUIET, NULL, sample_request, nothing, sample_result},
    {"ports", KIND_QUIET, NULL, sample_request, nothing, nothing},
    {"dial", KIND_DIAL, NULL, dial_request, nothing, nothing},
};

const struct kind *kind_find(const char *name)
{
    for (size_t i = 0; i < CG_COUNT(kinds); i++)
        if (cg_streq(kinds[i].name, name))
            return &kinds[i];
    return NULL;
}
