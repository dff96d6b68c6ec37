/* Small common parts of requests: members, paths, users. */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <unistd.h>

#include "guest/agent/agent.h"
#include "guest/agent/resolve.h"

bool request_check(const struct cg_json *request, const char *const *members, struct cg_err *e)
{
    for (const struct cg_json *m = request->child; m; m = m->next) {
        bool known = cg_slice_eq(m->key, "kind");
        for (const char *const *name = members; *name && !known; name++)
            known = cg_slice_eq(m->key, *name);
        if (!known)
            return cg_fail(e, CG_INVALID, "unknown member %.64s", m->key.p);
    }
    return true;
}

bool request_path(const struct cg_json *request, const char *member, char *out, size_t size,
                  struct cg_err *e)
{
    const char *path = cg_json_str(request, member);
    if (!path || !path[0])
        return cg_fail(e, CG_INVALID, "%s (a path without NUL) is needed", member);
    int n = path[0] == '/' ? snprintf(out, size, "%s", path)
                           : snprintf(out, size, "%s/%s", agent.workspace, path);
    if (n < 0 || (size_t)n >= size)
        return cg_fail(e, CG_INVALID, "%s has more than %zu bytes", member, size - 1);
    while (n > 1 && out[n - 1] == '/')
        out[--n] = '\0';
    return true;
}

bool request_enter(const struct cg_json *request, const char *const *members, const char *member,
                   struct user *user, struct place *out, struct cg_err *e)
{
    char path[sizeof out->full];
    char beneath[sizeof out->full];
    bool below = cg_json_get(request, "beneath") != NULL;
    if (!request_check(request, members, e) ||
        !request_path(request, member, path, sizeof path, e) ||
        (below && !request_path(request, "beneath", beneath, sizeof beneath, e)) ||
        !user_find(cg_json_str(request, "user"), user, e))
        return false;
    user_enter(user);
    if (place_set(out, path, below ? beneath : NULL, e))
        return true;
    user_leave();
    return false;
}

static bool user_is_me(struct user *out)
{
    const struct passwd *pw = getpwuid(getuid());
    out->uid = getuid();
    out->gid = getgid();
    cg_strlcpy(out->name, sizeof out->name, pw ? pw->pw_name : "agent");
    cg_strlcpy(out->home, sizeof out->home, pw ? pw->pw_dir : "/");
    cg_strlcpy(out->shell, sizeof out->shell, pw && pw->pw_shell[0] ? pw->pw_shell : "/bin/sh");
    return true;
}

bool user_find(const char *name, struct user *out, struct cg_err *e)
{
    *out = (struct user){0};
    if (!name)
        name = "agent";
    if (strcmp(name, "agent") != 0 && strcmp(name, "root") != 0)
        return cg_fail(e, CG_INVALID, "user must be agent or root, not %.64s", name);
    if (getuid() != 0)
        return user_is_me(out);
    const struct passwd *pw = getpwnam(name);
    bool is_root = strcmp(name, "root") == 0;
    out->uid = pw ? pw->pw_uid : is_root ? 0 : AGENT_UID;
    out->gid = pw ? pw->pw_gid : is_root ? 0 : AGENT_GID;
    cg_strlcpy(out->name, sizeof out->name, name);
    cg_strlcpy(out->home, sizeof out->home, pw ? pw->pw_dir : is_root ? "/root" : agent.workspace);
    const char *shell =
        pw && pw->pw_shell[0] && access(pw->pw_shell, X_OK) == 0 ? pw->pw_shell : "/bin/sh";
    cg_strlcpy(out->shell, sizeof out->shell, shell);
    return true;
}

void user_enter(const struct user *u)
{
    if (getuid() != 0 || u->uid == 0)
        return;
    setfsgid(u->gid);
    setfsuid(u->uid);
}

void user_leave(void)
{
    setfsuid(geteuid());
    setfsgid(getegid());
}
