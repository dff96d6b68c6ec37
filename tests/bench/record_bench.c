/* Appends events as a busy guest makes them to a record in the folder given and says, as JSON, what
 * that took: the wall clock with every batch on disk, and this thread's processor time alone. The
 * lines stay in the folder for the yardstick. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "record/record.h"

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool append(struct cg_record *r, long n, struct cg_err *e)
{
    for (long i = 0; i < n; i++) {
        struct cg_jsonw *w = cg_record_begin(r, CG_REC_FILE_OP, CG_SRC_GUEST, NULL);
        cg_jsonw_kstr(w, "op", "write");
        cg_jsonw_kstr(w, "path", "/workspace/src/main.c");
        cg_jsonw_kstr(w, "origin", "observed");
        cg_jsonw_kint(w, "pid", 300 + i % 1000);
        cg_jsonw_kstr(w, "comm", "cc1");
        cg_jsonw_kint(w, "uid", 1000);
        if (cg_record_end(r) == 0)
            return cg_fail(e, CG_IO, "line %ld of %ld was lost", i, n);
        if (cg_record_busy(r) && !cg_record_sync(r, e))
            return false;
    }
    return cg_record_sync(r, e);
}

static bool run(const char *folder, long n, struct cg_err *e)
{
    struct cg_record_options o = {.sandbox = "cage-bench22222", .quota_bytes = (uint64_t)4 << 30};
    CG_OWN(cg_drop_fd) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return cg_fail_sys(e, "open %s", folder);
    struct cg_record *r = cg_record_open(dir, &o, e);
    if (!r)
        return false;
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
    bool ok = append(r, n, e);
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    struct cg_record_stats s;
    cg_record_get_stats(r, &s);
    cg_record_close(r);
    if (ok)
        printf("{\"events\":%ld,\"bytes\":%llu,\"wall_s\":%.6f,\"cpu_s\":%.6f}\n", n,
               (unsigned long long)s.bytes, wall, cpu);
    return ok;
}

int main(int argc, char **argv)
{
    struct cg_err e = CG_ERR_INIT;
    if (argc == 3 && run(argv[1], strtol(argv[2], NULL, 10), &e))
        return 0;
    fprintf(stderr, "record_bench FOLDER EVENTS: %s\n", e.text);
    return 1;
}
