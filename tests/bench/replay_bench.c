/* A record of n events of four sessions in the folder given, then what reading it back takes: the
 * index, pages of every kind (each opens the index anew, as a request does), sealing and verifying.
 * JSON. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "record/query.h"
#include "record/record.h"
#include "record/verify.h"

enum { PAGES = 50, PAGE = 1000 };

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

static bool fill(int dir, long n, uint64_t *bytes, struct cg_err *e)
{
    static const char *const ids[] = {"sess-aaaaaaaa", "sess-bbbbbbbb", "sess-cccccccc", ""};
    struct cg_record_options o = {.sandbox = "cage-bench22222", .quota_bytes = (uint64_t)4 << 30};
    struct cg_record *r = cg_record_open(dir, &o, e);
    for (long i = 0; r && i < n; i++) {
        bool rare = i % 1000 == 0;
        struct cg_jsonw *w =
            cg_record_begin(r, rare ? CG_REC_COMMAND : CG_REC_FILE_OP, CG_SRC_GUEST, ids[i % 4]);
        char path[64];
        cg_snprintf(path, sizeof path, "/workspace/src/dir%ld/file%ld.c", i % 97, i % 1013);
        cg_jsonw_kstr(w, "op", "write");
        cg_jsonw_kstr(w, "path", path);
        cg_jsonw_kint(w, "pid", 300 + i % 1000);
        if (cg_record_end(r) == 0 || (cg_record_busy(r) && !cg_record_sync(r, e)))
            return cg_fail(e, CG_IO, "line %ld was lost", i);
    }
    if (!r || !cg_record_sync(r, e))
        return false;
    struct cg_record_stats s;
    cg_record_get_stats(r, &s);
    *bytes = s.bytes;
    cg_record_close(r);
    return true;
}

static bool count(void *ctx, const struct cg_record_line *line)
{
    *(unsigned long *)ctx += line->data.n;
    return true;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The slowest and the median of PAGES pages spread over the record, in ms; and the most that one
 * took of the processor, which says what the page costs when others use the machine too. */
static bool pages(const char *index, int dir, const char *name, struct cg_query q, long n,
                  struct cg_err *e)
{
    double took[PAGES], cpu = 0;
    unsigned long bytes = 0;
    for (unsigned i = 0; i < PAGES; i++) {
        struct cg_query_end end;
        double began = seconds(), began_cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID);
        struct cg_index *ix = cg_index_open(index, e);
        q.after = (uint64_t)(n / PAGES * i);
        if (!ix || !cg_query_run(ix, dir, &q, count, &bytes, &end, e))
            return false;
        cg_index_close(ix);
        took[i] = (seconds() - began) * 1000;
        double mine = (seconds_of(CLOCK_THREAD_CPUTIME_ID) - began_cpu) * 1000;
        cpu = mine > cpu ? mine : cpu;
    }
    qsort(took, PAGES, sizeof took[0], by_size);
    printf(",\"%s_p50_ms\":%.3f,\"%s_max_ms\":%.3f,\"%s_max_cpu_ms\":%.3f", name, took[PAGES / 2],
           name, took[PAGES - 1], name, cpu);
    return true;
}

static bool run(const char *folder, long n, struct cg_err *e)
{
    uint64_t bytes = 0;
    CG_OWN(cg_drop_free) char *index = cg_format("%s/../index", folder);
    CG_OWN(cg_drop_free) char *memory = cg_format("%s/../memory", folder);
    CG_OWN(cg_drop_free) char *keys = cg_format("%s/..", folder);
    CG_OWN(cg_drop_fd) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || !fill(dir, n, &bytes, e))
        return false;
    double began = seconds();
    struct cg_index *ix = cg_index_open(index, e);
    if (!ix || !cg_index_update(ix, dir, UINT64_MAX, e))
        return false;
    printf("{\"events\":%ld,\"bytes\":%llu,\"index_s\":%.4f", n, (unsigned long long)bytes,
           seconds() - began);
    cg_index_close(ix);
    const struct cg_query all = {.limit = PAGE, .session = CG_TALLY_NONE};
    struct cg_query one = all, rare = all, text = all;
    one.session = 1;
    rare.types = UINT32_C(1) << CG_REC_COMMAND;
    text.text = cg_slice_of("dir42/file7");
    bool fine = pages(index, dir, "plain", all, n, e) && pages(index, dir, "session", one, n, e) &&
                pages(index, dir, "rare", rare, n, e) && pages(index, dir, "text", text, n, e);
    struct cg_seal_key key;
    fine = fine && cg_seal_key_load(keys, &key, e);
    const struct cg_sealer_options o = {folder, memory, &key, UINT64_MAX};
    began = seconds();
    fine = fine && cg_seal_run(&o, e);
    printf(",\"seal_s\":%.4f", seconds() - began);
    fine = fine && pages(index, dir, "packed", one, n, e) &&
           pages(index, dir, "packed_rare", rare, n, e) &&
           pages(index, dir, "packed_text", text, n, e);
    struct cg_verify_result result;
    const struct cg_verify_options v = {.key = NULL};
    began = seconds();
    fine = fine && cg_verify(dir, &v, &result, e);
    printf(",\"verify_s\":%.4f,\"findings\":%llu}\n", seconds() - began,
           (unsigned long long)result.findings);
    return fine;
}

int main(int argc, char **argv)
{
    struct cg_err e = CG_ERR_INIT;
    if (argc == 3 && run(argv[1], strtol(argv[2], NULL, 10), &e))
        return 0;
    fprintf(stderr, "replay_bench FOLDER EVENTS: %s\n", e.text);
    return 1;
}
