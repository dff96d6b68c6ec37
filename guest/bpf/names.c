/* See names.h. These words are on the wire: docs/link-protocol.md. */
#include "names.h"

#include <signal.h>

#include "base/defs.h"

static const char *const kinds[] = {
    [CG_OBS_EXEC] = "exec",     [CG_OBS_EXIT] = "exit",     [CG_OBS_FILE] = "file",
    [CG_OBS_CONN] = "conn",     [CG_OBS_SETUID] = "setuid", [CG_OBS_PTRACE] = "ptrace",
    [CG_OBS_MODULE] = "module", [CG_OBS_MOUNT] = "mount",   [CG_OBS_BPF] = "bpf",
};
_Static_assert(CG_COUNT(kinds) == CG_OBS_KINDS, "every kind has a name");

static const char *const ops[] = {
    [CG_OBS_CREATE] = "create", [CG_OBS_WRITE] = "write", [CG_OBS_DELETE] = "delete",
    [CG_OBS_RENAME] = "rename", [CG_OBS_MKDIR] = "mkdir", [CG_OBS_RMDIR] = "rmdir",
    [CG_OBS_LINK] = "link",     [CG_OBS_CHMOD] = "chmod", [CG_OBS_SYMLINK] = "symlink",
    [CG_OBS_MKNOD] = "mknod",   [CG_OBS_CHOWN] = "chown", [CG_OBS_TRUNCATE] = "truncate",
};
_Static_assert(CG_COUNT(ops) == CG_OBS_OPS, "every operation has a name");

static const struct {
    const char *name;
    enum cg_obs_kind kind;
} hooks[] = {
    [CG_HOOK_EXEC] = {"exec", CG_OBS_EXEC},
    [CG_HOOK_EXIT] = {"exit", CG_OBS_EXIT},
    [CG_HOOK_OPEN] = {"open", CG_OBS_FILE},
    [CG_HOOK_CLOSE] = {"close", CG_OBS_FILE},
    [CG_HOOK_UNLINK] = {"unlink", CG_OBS_FILE},
    [CG_HOOK_RMDIR] = {"rmdir", CG_OBS_FILE},
    [CG_HOOK_MKDIR] = {"mkdir", CG_OBS_FILE},
    [CG_HOOK_RENAME_IN] = {"rename_in", CG_OBS_FILE},
    [CG_HOOK_RENAME_OUT] = {"rename_out", CG_OBS_FILE},
    [CG_HOOK_LINK] = {"link", CG_OBS_FILE},
    [CG_HOOK_SYMLINK] = {"symlink", CG_OBS_FILE},
    [CG_HOOK_MKNOD] = {"mknod", CG_OBS_FILE},
    [CG_HOOK_CREATE] = {"create", CG_OBS_FILE},
    [CG_HOOK_TRUNCATE] = {"truncate", CG_OBS_FILE},
    [CG_HOOK_SETATTR] = {"setattr", CG_OBS_FILE},
    [CG_HOOK_CONNECT_STREAM] = {"connect_stream", CG_OBS_CONN},
    [CG_HOOK_CONNECT_DGRAM] = {"connect_dgram", CG_OBS_CONN},
    [CG_HOOK_SETUID] = {"setuid", CG_OBS_SETUID},
    [CG_HOOK_PTRACE] = {"ptrace", CG_OBS_PTRACE},
    [CG_HOOK_TRACEME] = {"traceme", CG_OBS_PTRACE},
    [CG_HOOK_MODULE] = {"module", CG_OBS_MODULE},
    [CG_HOOK_MOUNT] = {"mount", CG_OBS_MOUNT},
    [CG_HOOK_MOVE_MOUNT] = {"move_mount", CG_OBS_MOUNT},
    [CG_HOOK_BPF] = {"bpf", CG_OBS_BPF},
};
_Static_assert(CG_COUNT(hooks) == CG_HOOKS, "every hook has a name");

const char *cg_obs_kind_name(unsigned kind)
{
    return kind < CG_COUNT(kinds) ? kinds[kind] : NULL;
}

const char *cg_obs_op_name(unsigned op)
{
    return op < CG_COUNT(ops) ? ops[op] : NULL;
}

const char *cg_obs_hook_name(unsigned hook)
{
    return hook < CG_COUNT(hooks) ? hooks[hook].name : NULL;
}

enum cg_obs_kind cg_obs_hook_kind(enum cg_obs_hook hook)
{
    return hooks[hook].kind;
}

const char *cg_obs_signal_name(int number)
{
    static const char *const names[] = {
        [SIGHUP] = "HUP",   [SIGINT] = "INT",       [SIGQUIT] = "QUIT", [SIGILL] = "ILL",
        [SIGTRAP] = "TRAP", [SIGABRT] = "ABRT",     [SIGBUS] = "BUS",   [SIGFPE] = "FPE",
        [SIGKILL] = "KILL", [SIGUSR1] = "USR1",     [SIGSEGV] = "SEGV", [SIGUSR2] = "USR2",
        [SIGPIPE] = "PIPE", [SIGALRM] = "ALRM",     [SIGTERM] = "TERM", [SIGXCPU] = "XCPU",
        [SIGXFSZ] = "XFSZ", [SIGVTALRM] = "VTALRM", [SIGPROF] = "PROF", [SIGIO] = "IO",
        [SIGPWR] = "PWR",   [SIGSYS] = "SYS",
    };

    return number > 0 && number < (int)CG_COUNT(names) ? names[number] : NULL;
}
