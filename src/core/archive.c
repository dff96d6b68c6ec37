#include "core/archive.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "record/reader.h"
#include "record/record.h"

enum { CONSOLE_FILE_MAX = 8 << 20 };

void cg_archive_init(struct cg_archive *a, const struct cg_sandbox *sb, bool failed,
                     const char *reason)
{
    *a = (struct cg_archive){.helper = sb->helper, .failed = failed, .why = sb->error};
    cg_strlcpy(a->id, sizeof a->id, sb->id);
    cg_strlcpy(a->reason, sizeof a->reason, reason);
    a->dir = cg_sandbox_dir(sb);
    a->run = cg_run_path(sb->core, sb->id, NULL);
    a->archive = cg_format("%s/archive/%s", sb->core->options.state_dir, sb->id);
    a->memory = cg_seals_memory(sb->core, sb->id);
    a->key = &sb->core->seals.key;
    a->keep_disk = sb->keep_disk;
}

void cg_archive_finish(struct cg_archive *a)
{
    free(a->dir);
    free(a->run);
    free(a->archive);
    free(a->memory);
    free(a->console);
    *a = (struct cg_archive){0};
}

enum { LOCK_TRIES = 100, LOCK_STEP_US = 50000 }; /* on the pool: waiting is allowed */

/* How the record ends so far: at an `error` line, at `destroyed`, or somewhere. */
struct record_end {
    bool error, destroyed;
};

static struct record_end look_at_end(struct cg_archive *a, int dir)
{
    struct record_end end = {0};
    struct cg_err e = CG_ERR_INIT;
    uint64_t last = 0;
    if (!cg_record_last_seq(dir, &last, &e) || last == 0)
        return end;
    struct cg_record_reader *r = cg_record_reader_open(dir, last - 1, &e);
    struct cg_slice text;
    struct cg_record_line line;
    if (r && cg_record_read(r, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
        CG_OWN(cg_drop_json) struct cg_json *data = cg_json_parse(line.data, NULL, NULL);
        const char *code = cg_json_str(data, "code");
        const char *said = cg_json_str(data, "text");
        end.error = cg_slice_eq(line.type, "error");
        end.destroyed = cg_slice_eq(line.type, "lifecycle") &&
                        cg_streq(cg_json_str(data, "event"), "destroyed");
        if (end.error && code && said)
            cg_fail(&a->found, cg_code_from_name(code), "%s", said);
    }
    cg_record_reader_close(r);
    return end;
}

/* A finished record ends with `destroyed`, and that of a failure has its `error` before: what the
 * warden did not get to write is written here. */
static void close_record(struct cg_archive *a, const char *path)
{
    CG_OWN(cg_drop_fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cg_err e = CG_ERR_INIT;
    const struct cg_record_options options = {.sandbox = a->id};
    if (dir < 0)
        return;
    struct record_end end = look_at_end(a, dir);
    if (end.destroyed)
        return;
    struct cg_record *r = cg_record_open(dir, &options, &e);
    /* a warden that was killed a moment ago may still hold the record */
    for (int i = 0; !r && e.code == CG_CONFLICT && i < LOCK_TRIES; i++) {
        usleep(LOCK_STEP_US);
        r = cg_record_open(dir, &options, &e);
    }
    if (!r) {
        cg_log(CG_LOG_WARN, CG_EVENT("record.open_failed"), CG_S("id", a->id), CG_E(&e));
        return;
    }
    if (a->failed && !end.error) {
        struct cg_jsonw *w = cg_record_begin(r, CG_REC_ERROR, CG_SRC_SERVER, NULL);
        cg_jsonw_kstr(w, "code", cg_code_name(a->why.code));
        cg_jsonw_kstr(w, "text", a->why.text);
        cg_record_end(r);
    }
    struct cg_jsonw *w = cg_record_begin(r, CG_REC_LIFECYCLE, CG_SRC_SERVER, NULL);
    cg_jsonw_kstr(w, "event", "destroyed");
    cg_jsonw_kstr(w, "reason", a->reason);
    cg_record_end(r);
    if (!cg_record_sync(r, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("record.close_failed"), CG_S("id", a->id), CG_E(&e));
    cg_record_close(r);
}

/* As complete. A record that is not what was sealed before stays as it is, for caged verify. */
static void seal_record(struct cg_archive *a, const char *path)
{
    struct cg_err e = CG_ERR_INIT;
    const struct cg_sealer_options o = {path, a->memory, a->key, UINT64_MAX};
    if (!cg_seal_run(&o, &e))
        cg_log(CG_LOG_ERROR, CG_EVENT("record.seal_failed"), CG_S("id", a->id), CG_E(&e));
}

/* The last lines of the guest's console, for people. */
static void read_console(struct cg_archive *a)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/console.log", a->dir);
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    if (!cg_fs_slurp(path, CONSOLE_FILE_MAX, &text, &n, NULL) || n == 0)
        return;
    size_t keep = CG_MIN(n, (size_t)CG_CONSOLE_TAIL - 1);
    char *from = text + n - keep;
    const char *line = keep < n ? memchr(from, '\n', keep) : NULL;
    if (line) { /* whole lines */
        keep -= (size_t)(line + 1 - from);
        from = text + n - keep;
    }
    for (size_t i = 0; i < keep; i++)
        from[i] = from[i] ? from[i] : ' ';
    a->console = cg_strndup(from, keep);
}

/* The last word on what it cost: the server's own figures may be a second old, or the warden was
 * killed. */
static void count_costs(struct cg_archive *a, const char *path)
{
    static const struct cg_ledger_options options = {.mode = CG_LEDGER_FLOW};
    static const struct cg_ledger_events events = {.row = NULL};
    CG_OWN(cg_drop_fd) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct cg_ledger *l = cg_ledger_create(&options, &events, NULL);
    struct cg_err e = CG_ERR_INIT;
    struct cg_budget b;
    uint64_t last = 0;
    a->counted = dir >= 0 && cg_ledger_replay_record(l, dir, &last, &e) &&
                 cg_ledger_get(l, cg_ledger_nodes(l) - 1, &b);
    if (a->counted) {
        a->llm_nusd = b.llm_nusd + b.held_nusd;
        a->compute_nusd = b.compute_nusd;
        a->committed_nusd = b.settled_nusd + b.held_nusd;
        a->tokens = b.settled_tokens + b.held_tokens;
    }
    cg_ledger_destroy(l);
}

void cg_archive_run(struct cg_archive *a)
{
    CG_OWN(cg_drop_free) char *record = cg_format("%s/record", a->dir);
    CG_OWN(cg_drop_free) char *kept = cg_format("%s/record", a->archive);
    struct cg_err e = CG_ERR_INIT;
    if (a->failed)
        read_console(a);
    if (!a->helper && cg_fs_exists(record)) {
        close_record(a, record);
        count_costs(a, record);
        seal_record(a, record);
        bool moved = cg_fs_mkdirs(a->archive, 0750, &e) &&
                     (rename(record, kept) == 0 || cg_fail_sys(&e, "move the record"));
        if (!moved)
            cg_log(CG_LOG_ERROR, CG_EVENT("record.archive_failed"), CG_S("id", a->id), CG_E(&e));
    }
    if (a->keep_disk) {
        CG_OWN(cg_drop_free) char *disk = cg_format("%s/disk.img", a->dir);
        CG_OWN(cg_drop_free) char *to = cg_format("%s/disk.img", a->archive);
        if (rename(disk, to) != 0)
            cg_log(CG_LOG_ERROR, CG_EVENT("disk.keep_failed"), CG_S("id", a->id));
    }
    if (!cg_fs_remove_tree(a->dir, &e) || !cg_fs_remove_tree(a->run, &e))
        cg_log(CG_LOG_WARN, CG_EVENT("sandbox.clean_failed"), CG_S("id", a->id), CG_E(&e));
}
