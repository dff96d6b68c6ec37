/* What fills a fresh guest: the repository, cloned by git inside the guest as the user agent, and
 * the init script. Both are ordinary commands of the record, with their own origins. A token goes
 * into the environment of git alone, through secret_env, and never into argv, disk or record. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/creation.h"

enum { PACKAGES_MS = 15 * 60 * 1000 };

static const char clone_script[] =
    "set -e\n"
    "url=$1 branch=$2 commit=$3 subdir=$4\n"
    "cd /workspace\n"
    "export GIT_TERMINAL_PROMPT=0\n"
    "git init -q\n"
    "git remote add origin \"$url\"\n"
    "if [ -n \"$CAGED_REPO_TOKEN\" ]; then\n"
    "  set -- -c 'credential.helper=!f() { echo \"username=$CAGED_REPO_USER\"; "
    "echo \"password=$CAGED_REPO_TOKEN\"; }; f'\n"
    "else set --; fi\n"
    "if [ -n \"$commit\" ]; then\n"
    "  git \"$@\" fetch -q origin\n"
    "  git checkout -q \"$commit\"\n"
    "elif [ -n \"$branch\" ]; then\n"
    "  git \"$@\" fetch -q origin \"$branch\"\n"
    "  git checkout -q -B \"$branch\" FETCH_HEAD\n"
    "  git branch -q --set-upstream-to=\"origin/$branch\" 2>/dev/null || :\n"
    "else\n"
    "  git \"$@\" fetch -q origin\n"
    "  git \"$@\" remote set-head origin -a >/dev/null 2>&1 || :\n"
    "  head=$(git symbolic-ref -q --short refs/remotes/origin/HEAD) || head=origin/main\n"
    "  git checkout -q -B \"${head#origin/}\" --track \"$head\"\n"
    "fi\n"
    "if [ -n \"$subdir\" ]; then\n"
    "  [ -d \"$subdir\" ] || { echo \"the repository has no folder $subdir\" >&2; exit 1; }\n"
    "  tmp=$(mktemp -d /workspace/.subdir.XXXXXX)\n"
    "  cp -a \"$subdir/.\" \"$tmp/\"\n"
    "  find . -mindepth 1 -maxdepth 1 ! -path \"./${tmp##*/}\" -exec rm -rf {} +\n"
    "  find \"$tmp\" -mindepth 1 -maxdepth 1 -exec mv {} . \\;\n"
    "  rmdir \"$tmp\"\n"
    "fi\n";

void cg_creation_write_hosts(const struct cg_egress_policy *p, struct cg_jsonw *w)
{
    cg_jsonw_key(w, "hosts");
    cg_jsonw_arr(w);
    for (unsigned i = 0; i < p->nhosts; i++) {
        const struct cg_egress_host *h = &p->hosts[i];
        char text[16];
        cg_jsonw_obj(w);
        cg_jsonw_kstr(w, "name", h->name);
        for (int to = 0; to < 2; to++) {
            uint32_t a = to ? h->to : h->address;
            cg_snprintf(text, sizeof text, "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255,
                        a & 255);
            if (!to || h->to)
                cg_jsonw_kstr(w, to ? "to" : "address", text);
        }
        cg_jsonw_obj_end(w);
    }
    cg_jsonw_arr_end(w);
}

/* Keeps the last bytes of what a command says. */
static void on_output(struct cg_wcall *call, unsigned channel, struct cg_slice bytes)
{
    struct cg_creation *n = CG_CONTAINER(call, struct cg_creation, call);
    (void)channel;
    struct cg_slice keep = bytes;
    if (keep.n > n->tail.max) {
        keep.p += keep.n - n->tail.max;
        keep.n = n->tail.max;
    }
    if (n->tail.n + keep.n > n->tail.max)
        cg_buf_consume(&n->tail, n->tail.n + keep.n - n->tail.max);
    cg_buf_add(&n->tail, keep.p, keep.n);
    cg_wcall_grant(call, bytes.n);
}

static bool run(struct cg_creation *n, struct cg_buf *request,
                void (*done)(struct cg_wcall *, const struct cg_json *, const struct cg_err *),
                struct cg_err *e)
{
    cg_buf_finish(&n->tail);
    cg_buf_init(&n->tail, CG_INIT_TAIL - 1);
    n->call = (struct cg_wcall){.on_data = on_output, .on_close = done};
    if (request->full)
        return cg_fail(e, CG_TOO_LARGE, "the command is too large");
    return cg_wcall_open(n->sb->warden, &n->call, cg_buf_slice(request), e);
}

static void end_tail(struct cg_creation *n)
{
    cg_buf_finish(&n->tail);
}

static const char packages_script[] =
    "set -f\n"
    "npm= pip=\n"
    "for p; do case $p in\n"
    "npm:*) npm=\"$npm ${p#npm:}\" ;;\n"
    "pip:*) pip=\"$pip ${p#pip:}\" ;;\n"
    "@*) npm=\"$npm $p\" ;;\n"
    "*) if command -v npm >/dev/null; then npm=\"$npm $p\"; else pip=\"$pip $p\"; fi ;;\n"
    "esac; done\n"
    "if [ -n \"$npm\" ]; then\n"
    "  command -v npm >/dev/null || { echo 'the template has no npm' >&2; exit 1; }\n"
    "  npm install --global --no-audit --no-fund --loglevel=error -- $npm || exit\n"
    "fi\n"
    "if [ -n \"$pip\" ]; then\n"
    "  command -v pip3 >/dev/null || { echo 'the template has no npm and no pip' >&2; exit 1; }\n"
    "  pip3 install --quiet --no-input -- $pip || exit\n"
    "fi\n";

static void on_packages(struct cg_wcall *call, const struct cg_json *result,
                        const struct cg_err *error)
{
    struct cg_creation *n = CG_CONTAINER(call, struct cg_creation, call);
    struct cg_err e = error ? *error : (struct cg_err){.code = CG_OK};
    if (!error && cg_json_bool(result, "timed_out", false)) {
        cg_fail(&e, CG_TIMEOUT, "not done after %d minutes", PACKAGES_MS / 60000);
    } else if (!error && cg_json_int(result, "exit_code", 1) != 0) {
        const char *text = cg_buf_cstr(&n->tail);
        size_t len = strlen(text);
        cg_fail(&e, CG_UNAVAILABLE, "%s", len > 180 ? text + len - 180 : text);
    }
    end_tail(n);
    if (e.code == CG_OK) {
        cg_creation_running(n);
        return;
    }
    cg_wrap(&e, "packages");
    cg_creation_failed(n->sb, &e);
}

/* By the template's own npm and pip, from the registries of this machine, through the sandbox's
 * egress: what the policy denies cannot be installed. */
static void install_packages(struct cg_creation *n)
{
    const struct cg_spec *s = &n->sb->spec;
    CG_OWN(cg_drop_json)
    struct cg_json *names =
        s->packages_json ? cg_json_parse(cg_slice_of(s->packages_json), NULL, NULL) : NULL;
    if (!names || names->count == 0) {
        cg_creation_running(n);
        return;
    }
    cg_sandbox_phase(n->sb, "packages", 80);
    const char *const argv[] = {"/bin/sh", "-c", packages_script, "packages"};
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "exec");
    cg_jsonw_kstr(&w, "origin", "packages");
    cg_jsonw_kint(&w, "timeout_ms", PACKAGES_MS);
    cg_jsonw_key(&w, "argv");
    cg_jsonw_arr(&w);
    for (size_t i = 0; i < CG_COUNT(argv); i++)
        cg_jsonw_str(&w, argv[i]);
    for (const struct cg_json *p = names->child; p; p = p->next)
        cg_jsonw_strn(&w, p->str.p, p->str.n);
    cg_jsonw_arr_end(&w);
    cg_jsonw_obj_end(&w);
    struct cg_err e = CG_ERR_INIT;
    if (!run(n, &b, on_packages, &e))
        cg_creation_failed(n->sb, &e);
}

static void on_cloned(struct cg_wcall *call, const struct cg_json *result,
                      const struct cg_err *error)
{
    struct cg_creation *n = CG_CONTAINER(call, struct cg_creation, call);
    struct cg_err e = error ? *error : (struct cg_err){.code = CG_OK};
    int64_t code = cg_json_int(result, "exit_code", 0);
    if (!error && code != 0) {
        const char *text = cg_buf_cstr(&n->tail);
        size_t len = strlen(text);
        cg_fail(&e, CG_INVALID, "git: %s", len > 160 ? text + len - 160 : text);
    }
    end_tail(n);
    if (e.code != CG_OK) {
        cg_wrap(&e, "clone %.80s", n->sb->spec.repo_url);
        cg_creation_failed(n->sb, &e);
        return;
    }
    install_packages(n);
}

void cg_creation_clone(struct cg_creation *n)
{
    const struct cg_spec *s = &n->sb->spec;
    if (!s->repo_url) {
        install_packages(n);
        return;
    }
    cg_sandbox_phase(n->sb, "clone", 70);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    const char *const argv[] = {"/bin/sh",
                                "-c",
                                clone_script,
                                "clone",
                                s->repo_url,
                                s->repo_branch ? s->repo_branch : "",
                                s->repo_commit ? s->repo_commit : "",
                                s->repo_subdir ? s->repo_subdir : ""};
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "exec");
    cg_jsonw_kstr(&w, "origin", "clone");
    cg_jsonw_key(&w, "argv");
    cg_jsonw_arr(&w);
    for (size_t i = 0; i < CG_COUNT(argv); i++)
        cg_jsonw_str(&w, argv[i]);
    cg_jsonw_arr_end(&w);
    if (n->token) {
        cg_jsonw_key(&w, "secret_env");
        cg_jsonw_obj(&w);
        cg_jsonw_kstr(&w, "CAGED_REPO_TOKEN", n->token);
        cg_jsonw_kstr(&w, "CAGED_REPO_USER", s->repo_user ? s->repo_user : "x-access-token");
        cg_jsonw_obj_end(&w);
    }
    cg_jsonw_obj_end(&w);
    struct cg_err e = CG_ERR_INIT;
    if (!run(n, &b, on_cloned, &e))
        cg_creation_failed(n->sb, &e);
}

static void on_init(struct cg_wcall *call, const struct cg_json *result, const struct cg_err *error)
{
    struct cg_creation *n = CG_CONTAINER(call, struct cg_creation, call);
    struct cg_sandbox *sb = n->sb;
    if (error) {
        struct cg_err e = *error;
        cg_wrap(&e, "init script");
        end_tail(n);
        bool lost = e.code == CG_CLOSED || e.code == CG_PROTOCOL || e.code == CG_UNAVAILABLE;
        if (n->init_only || !lost) {
            sb->init = CG_INIT_FAILED;
            cg_sandbox_text(&sb->init_tail, e.text);
            sb->init_exit = 1;
            cg_creation_done(n);
        } else {
            cg_creation_failed(sb, &e);
        }
        return;
    }
    sb->init_exit = (int)cg_json_int(result, "exit_code", 1);
    sb->init = sb->init_exit == 0 ? CG_INIT_OK : CG_INIT_FAILED;
    cg_sandbox_text(&sb->init_tail, cg_buf_cstr(&n->tail));
    end_tail(n);
    cg_creation_done(n);
}

bool cg_creation_inits(const struct cg_creation *n)
{
    const struct cg_spec *s = &n->sb->spec;
    return s->init_script && (!s->defer_init || n->init_only);
}

void cg_creation_init(struct cg_creation *n)
{
    struct cg_sandbox *sb = n->sb;
    sb->init = CG_INIT_RUNNING;
    cg_sandbox_phase(sb, "init", 85);
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, CG_LINK_MAX_PAYLOAD);
    struct cg_jsonw w;
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "kind", "exec");
    cg_jsonw_kstr(&w, "origin", "init");
    cg_jsonw_kstr(&w, "shell", sb->spec.init_script);
    cg_jsonw_obj_end(&w);
    struct cg_err e = CG_ERR_INIT;
    if (!run(n, &b, on_init, &e))
        cg_creation_failed(sb, &e);
}

bool cg_core_init(struct cg_sandbox *sb, cg_sandbox_done *done, void *ctx, struct cg_err *e)
{
    if (!cg_sandbox_usable(sb, e))
        return false;
    if (sb->creating || !sb->spec.init_script || sb->init != CG_INIT_PENDING)
        return cg_fail(e, CG_CONFLICT, "sandbox %s has no init script waiting", sb->id);
    struct cg_creation *n = cg_alloc(sizeof *n);
    n->sb = sb;
    n->init_only = true;
    for (unsigned i = 0; i < CG_JAIL_FD_MAX; i++)
        n->fds[i] = -1;
    n->ram = -1;
    sb->work = n;
    sb->creating = true;
    cg_sandbox_wait(&sb->create_waiters, done, ctx);
    cg_creation_init(n);
    return true;
}
