/* A record of n events as a sandbox with an agent in it writes them, over hours of its clock as far
 * as the events' own times go: commands, programs, files, terminal output, connections, calls of
 * models, costs and deductions. For measuring what reads records; the lines are the record's own
 * writer's. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "record/record.h"

static const char agent[] = "sess-largeaaaa";
static const char terminal[] = "sess-largebbbb";

static struct cg_jsonw *begin(struct cg_record *r, enum cg_record_type type, const char *session)
{
    bool guest = type == CG_REC_FILE_OP || type == CG_REC_PROCESS;
    return cg_record_begin(r, type, guest ? CG_SRC_GUEST : CG_SRC_HOST, session);
}

static void put_command(struct cg_record *r, long i)
{
    char id[32];
    bool start = i % 2 == 0;
    struct cg_jsonw *w = begin(r, CG_REC_COMMAND, agent);
    cg_snprintf(id, sizeof id, "exec-%ld", i / 2);
    cg_jsonw_kstr(w, "phase", start ? "start" : "exit");
    cg_jsonw_kstr(w, "exec_id", id);
    if (start)
        cg_jsonw_kstr(w, "shell", i % 20 == 0 ? "make test" : "git status --short");
    else
        cg_jsonw_kint(w, "exit_code", i % 14 == 1);
}

static void put_terminal(struct cg_record *r, long i)
{
    char text[160];
    struct cg_jsonw *w = begin(r, CG_REC_TERMINAL, terminal);
    cg_jsonw_kstr(w, "exec_id", "exec-term");
    cg_jsonw_kstr(w, "dir", "out");
    cg_snprintf(text, sizeof text, "line %ld: \033[32mok\033[0m compiled src/dir%ld/file%ld.c\r\n",
                i, i % 97, i % 1013);
    cg_jsonw_kstr(w, "text", text);
}

static void put_file(struct cg_record *r, long i)
{
    char path[80];
    struct cg_jsonw *w = begin(r, CG_REC_FILE_OP, agent);
    cg_snprintf(path, sizeof path, "/workspace/src/dir%ld/file%ld.c", i % 97, i % 1013);
    cg_jsonw_kstr(w, "op", i % 9 == 0 ? "create" : "write");
    cg_jsonw_kstr(w, "path", path);
    cg_jsonw_kstr(w, "origin", "observed");
    cg_jsonw_kint(w, "pid", 300 + i % 1000);
    cg_jsonw_kstr(w, "comm", "cc1");
}

static void put_process(struct cg_record *r, long i)
{
    struct cg_jsonw *w = begin(r, CG_REC_PROCESS, agent);
    cg_jsonw_kstr(w, "event", "exec");
    cg_jsonw_kint(w, "pid", 300 + i % 30000);
    cg_jsonw_kint(w, "ppid", 1);
    cg_jsonw_kint(w, "uid", 1000);
    cg_jsonw_kstr(w, "comm", "cc1");
    cg_jsonw_kstr(w, "exe", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1");
}

static void put_network(struct cg_record *r, long i)
{
    char name[64];
    struct cg_jsonw *w = begin(r, CG_REC_NETWORK, agent);
    cg_snprintf(name, sizeof name, "host%ld.example", i % 40);
    cg_jsonw_kstr(w, "event", i % 2 ? "close" : "open");
    cg_jsonw_kint(w, "conn", i / 2);
    cg_jsonw_kstr(w, "name", name);
    cg_jsonw_kstr(w, "address", "192.0.2.7");
    cg_jsonw_kint(w, "port", 443);
    cg_jsonw_kstr(w, "protocol", "tls");
    cg_jsonw_kstr(w, "verdict", "allow");
    cg_jsonw_kint(w, "bytes_in", 12345);
}

static void put_call(struct cg_record *r, long i)
{
    struct cg_jsonw *w = begin(r, CG_REC_LLM_CALL, agent);
    cg_jsonw_kstr(w, "event", i % 2 ? "close" : "open");
    cg_jsonw_kint(w, "call", 1 + i / 2);
    cg_jsonw_kstr(w, "model", "model-large");
    if (i % 2 == 0)
        return;
    cg_jsonw_kstr(w, "status", "ok");
    cg_jsonw_kint(w, "tokens_in", 4000);
    cg_jsonw_kint(w, "tokens_out", 300);
    cg_jsonw_kint(w, "cost_nusd", 1000000);
}

static void put_cost(struct cg_record *r)
{
    struct cg_jsonw *w = begin(r, CG_REC_COST, NULL);
    cg_jsonw_kstr(w, "event", "ledger");
    cg_jsonw_key(w, "row");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "row", "compute");
    cg_jsonw_kint(w, "nusd", 8000);
    cg_jsonw_obj_end(w);
}

static void put_deduction(struct cg_record *r, long i)
{
    struct cg_jsonw *w = begin(r, CG_REC_TRUST, agent);
    cg_jsonw_kstr(w, "event", "deduction");
    cg_jsonw_kstr(w, "rule", "network.unknown-host");
    cg_jsonw_kstr(w, "severity", "minor");
    cg_jsonw_kint(w, "points", 1);
    cg_jsonw_kint(w, "score", CG_MAX(0, 100 - i));
    cg_jsonw_kstr(w, "what", "host7.example");
}

static void put_line(struct cg_record *r, long i, long n)
{
    long part = i % 1000;
    if (i % (n / 20 + 1) == 17)
        put_deduction(r, i / (n / 20 + 1) + 1);
    else if (part < 4)
        put_command(r, i / 1000 * 4 + part);
    else if (part < 6)
        put_call(r, i / 1000 * 2 + part - 4);
    else if (part < 16)
        put_cost(r);
    else if (part < 60)
        put_network(r, i);
    else if (part < 300)
        put_terminal(r, i);
    else if (part < 500)
        put_process(r, i);
    else
        put_file(r, i);
}

static bool fill(int dir, const char *sandbox, long n, struct cg_err *e)
{
    struct cg_record_options o = {.sandbox = sandbox, .quota_bytes = (uint64_t)8 << 30};
    struct cg_record *r = cg_record_open(dir, &o, e);
    for (long i = 0; r && i + 1 < n; i++) {
        put_line(r, i, n);
        if (cg_record_end(r) == 0 || (cg_record_busy(r) && !cg_record_sync(r, e)))
            return cg_fail(e, CG_IO, "line %ld was lost", i);
    }
    if (r) {
        struct cg_jsonw *w = begin(r, CG_REC_LIFECYCLE, NULL);
        cg_jsonw_kstr(w, "event", "destroyed");
        cg_jsonw_kstr(w, "reason", "user");
        (void)cg_record_end(r);
    }
    bool fine = r && cg_record_sync(r, e);
    cg_record_close(r);
    return fine;
}

int main(int argc, char **argv)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_fd) int dir = argc == 4 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir >= 0 && fill(dir, argv[2], strtol(argv[3], NULL, 10), &e))
        return 0;
    fprintf(stderr, "record_maker FOLDER SANDBOX EVENTS: %s\n", e.text);
    return 1;
}
