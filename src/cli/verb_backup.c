/* caged backup and caged restore: the state directory of this machine in one file, and back. The
 * server may run meanwhile: it hands out a copy of its database. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "cli/backup.h"
#include "cli/client.h"
#include "cli/verb.h"
#include "record/verify.h"

enum { WORDS = 8 };
#define COPY "backup.db" /* what the server leaves in its state directory */

/* The lock that a running server has; -1: one runs. */
static int lock_state(const char *state_dir)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/server.lock", state_dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    cg_drop_fd(&fd);
    return -1;
}

static bool write_backup(const char *state_dir, const char *database, const char *to,
                         struct cg_err *e)
{
    struct cg_backup_count count;
    CG_OWN(cg_drop_free) char *part = cg_format("%s.part", to);
    unlink(part); /* of a backup that was broken off, or somebody's who wants to read this one */
    CG_OWN(cg_drop_fd)
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return cg_fail_sys(e, "create %s", part);
    bool ok = cg_backup_pack(state_dir, database, fd, &count, e) &&
              ((fsync(fd) == 0 && rename(part, to) == 0) || cg_fail_sys(e, "write %s", to));
    if (!ok) {
        unlink(part);
        return false;
    }
    printf("%llu files, %llu bytes are in %s\nIt holds the server's keys: keep it as you keep "
           "them.\n",
           (unsigned long long)count.files, (unsigned long long)count.bytes, to);
    return true;
}

/* Asks the server of this state directory for a copy of its database; packs; removes the copy. */
static bool backup_running(const char *state_dir, const char *to, struct cg_err *e)
{
    struct cli c = {0};
    CG_OWN(cg_drop_fd) int one = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (one < 0)
        return cg_fail_sys(e, "open %s", state_dir);
    if (flock(one, LOCK_EX | LOCK_NB) != 0)
        return cg_fail(e, CG_CONFLICT, "another backup of %s is under way", state_dir);
    setenv("CAGED_STATE_DIR", state_dir, 1);
    if (!cli_find(&c, e))
        return false;
    CG_OWN(cg_drop_json)
    struct cg_json *j = cli_json(&c, "POST", "/v1/backup", (struct cg_slice){0}, e);
    cli_finish(&c);
    const char *database = cg_json_str(j, "database");
    if (!j)
        return false;
    CG_OWN(cg_drop_free) char *real = realpath(state_dir, NULL);
    CG_OWN(cg_drop_free) char *copy = cg_format("%s/" COPY, real ? real : "");
    if (!cg_streq(database, copy))
        return cg_fail(e, CG_INVALID, "the server that answers is not that of %s", state_dir);
    bool ok = write_backup(state_dir, COPY, to, e);
    unlink(copy);
    return ok;
}

int verb_backup(int argc, char **argv)
{
    const char *to = NULL, *state = NULL;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"-o", true, &to, NULL, NULL},
                                     {"--output", true, &to, NULL, NULL},
                                     {"--state-dir", true, &state, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n != 0 || !to)
        return cli_usage("backup needs -o FILE");
    CG_OWN(cg_drop_free) char *dir = state ? cg_strdup(state) : cli_state_dir();
    CG_OWN(cg_drop_fd) int lock = lock_state(dir);
    bool ok = lock >= 0 ? write_backup(dir, NULL, to, &e) : backup_running(dir, to, &e);
    return ok ? 0 : cli_error(&e);
}

/* --- restore --- */

struct check {
    const char *dir;
    char key[CG_SEAL_KEY_TEXT];
    unsigned records, wrong;
};

static void on_finding(void *ctx, const char *finding)
{
    fprintf(stderr, "WRONG  %s: ", (const char *)ctx);
    cli_print_text(stderr, finding, strlen(finding));
    fputc('\n', stderr);
}

static void check_record(struct check *k, const char *path, char *id)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_verify_result result;
    struct cg_seal memory;
    struct cg_digest line;
    CG_OWN(cg_drop_free) char *seal = cg_format("%s/seals/%s.seal", k->dir, id);
    CG_OWN(cg_drop_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cg_verify_options o = {
        .key = k->key[0] ? k->key : NULL, .sandbox = id, .told = on_finding, .ctx = id};
    if (fd < 0 && errno == ENOENT)
        return; /* a sandbox that had none yet */
    if (cg_seal_read(AT_FDCWD, seal, &memory, &line, NULL))
        o.memory = &memory;
    k->records++;
    if (fd < 0 || !cg_verify(fd, &o, &result, &e)) {
        on_finding(id, fd < 0 ? "it cannot be opened" : e.text);
        k->wrong++;
    } else {
        k->wrong += result.findings > 0;
    }
}

static void check_folder(struct check *k, const char *place)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", k->dir, place);
    DIR *d = opendir(path);
    for (struct dirent *i; d && (i = readdir(d)) != NULL;) {
        if (!cg_id_valid(i->d_name, "cage"))
            continue;
        CG_OWN(cg_drop_free) char *record = cg_format("%s/%s/record", path, i->d_name);
        check_record(k, record, i->d_name);
    }
    if (d)
        closedir(d);
}

static void check_records(struct check *k)
{
    CG_OWN(cg_drop_free) char *pub = cg_format("%s/signing.pub", k->dir);
    CG_OWN(cg_drop_free) char *audit = cg_format("%s/audit", k->dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    if (cg_fs_slurp(pub, 256, &text, NULL, NULL)) {
        text[strcspn(text, "\n")] = '\0';
        (void)cg_strlcpy(k->key, sizeof k->key, text);
    }
    check_folder(k, "sandboxes");
    check_folder(k, "archive");
    check_record(k, audit, (char[]){"cage-auditlog"});
}

/* A sandbox that ended while it was packed is there twice: its later place is the true one. */
static void drop_doubles(const char *dir)
{
    CG_OWN(cg_drop_free) char *boxes = cg_format("%s/sandboxes", dir);
    DIR *d = opendir(boxes);
    for (struct dirent *i; d && (i = readdir(d)) != NULL;) {
        CG_OWN(cg_drop_free) char *later = cg_format("%s/archive/%s/record", dir, i->d_name);
        CG_OWN(cg_drop_free) char *here = cg_format("%s/%s", boxes, i->d_name);
        if (cg_id_valid(i->d_name, "cage") && cg_fs_exists(later))
            (void)!cg_fs_remove_tree(here, NULL);
    }
    if (d)
        closedir(d);
}

static bool put_back(int fd, const char *dir, bool anyway, struct cg_err *e)
{
    struct cg_backup_count count;
    struct check k = {.records = 0};
    CG_OWN(cg_drop_free) char *part = cg_format("%s.restoring", dir);
    if (mkdir(part, 0711) != 0)
        return cg_fail_sys(e, "make %s", part);
    bool ok = cg_backup_unpack(fd, part, &count, e);
    if (ok) {
        k.dir = part;
        drop_doubles(part);
        check_records(&k);
        printf("%llu files, %llu bytes; %u records, %u of them wrong\n",
               (unsigned long long)count.files, (unsigned long long)count.bytes, k.records,
               k.wrong);
        ok =
            k.wrong == 0 || anyway ||
            cg_fail(e, CG_INVALID, "records are not what they were: --force restores all the same");
    }
    ok = ok && (rmdir(dir) == 0 || errno == ENOENT || cg_fail_sys(e, "replace %s", dir)) &&
         (rename(part, dir) == 0 || cg_fail_sys(e, "rename %s to %s", part, dir));
    if (!ok)
        (void)!cg_fs_remove_tree(part, NULL);
    return ok;
}

/* An empty folder, or none. */
static bool is_free(const char *dir, struct cg_err *e)
{
    unsigned entries = 0;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT || cg_fail_sys(e, "open %s", dir);
    while (readdir(d))
        entries++;
    closedir(d);
    return entries <= 2 ||
           cg_fail(e, CG_CONFLICT, "%s is not empty: move it away, or name another --state-dir",
                   dir);
}

int verb_restore(int argc, char **argv)
{
    const char *state = NULL;
    bool anyway = false;
    char *words[WORDS];
    int n = 0;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--state-dir", true, &state, NULL, NULL},
                                     {"--force", false, NULL, &anyway, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (argc > WORDS || !cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n != 1)
        return cli_usage("restore needs the file that caged backup made");
    CG_OWN(cg_drop_free) char *dir = state ? cg_strdup(state) : cli_state_dir();
    CG_OWN(cg_drop_fd) int fd = open(words[0], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        cg_fail_sys(&e, "open %s", words[0]);
    if (fd < 0 || !is_free(dir, &e) || !put_back(fd, dir, anyway, &e))
        return cli_error(&e);
    printf("%s is as it was; start it with `caged server start`\n", dir);
    return 0;
}
