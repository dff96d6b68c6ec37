/* The gateway without a sandbox, for tests and benchmarks: listens on a free port of loopback,
 * keeps its ledger's rows in a real record (one sync a turn of the loop), says where on standard
 * output, and at the end of standard input writes the budget's state and goes.
 * On a folder that has a record it goes on where that ends, as a warden does.
 * gateway PRICES FOLDER BASE_URL BUDGET_NUSD flow|strict [lazy] */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "gateway/gateway.h"
#include "record/record.h"

struct world {
    uv_loop_t loop;
    struct cg_record *record;
    struct cg_ledger *ledger;
    struct cg_gateway *gateway;
    uint64_t rows;
    bool due, told; /* a row, a line waits for the disk */
    bool lazy;      /* rows count as durable without a sync: what is measured then is the rest */
    int listener;
    uv_poll_t accept, input;
    uv_prepare_t prepare;
};

static void on_row(void *ctx, const struct cg_ledger_row *row)
{
    struct world *w = ctx;
    CG_ASSERT(cg_ledger_row_append(w->record, row) > 0);
    w->rows++;
    w->due = true;
}

static void on_verdict(void *ctx, uint64_t call, enum cg_verdict v, int64_t cap)
{
    cg_gateway_verdict(((struct world *)ctx)->gateway, call, v, cap);
}

static void on_tell(void *ctx, struct cg_slice data)
{
    struct world *w = ctx;
    cg_record_append(w->record, CG_REC_LLM_CALL, CG_SRC_HOST, NULL, data);
    w->told = true;
}

static void on_blob_begin(void *ctx, struct cg_slice bytes, struct cg_blob_work *work)
{
    cg_record_blob_begin(((struct world *)ctx)->record, bytes, work);
}

static bool on_blob_end(void *ctx, struct cg_blob_work *work, char name[CG_BLOB_NAME])
{
    struct cg_err e = CG_ERR_INIT;
    return cg_record_blob_end(((struct world *)ctx)->record, work, name, &e);
}

static void nothing(void *ctx)
{
    (void)ctx;
}

static void on_prepare(uv_prepare_t *p)
{
    struct world *w = p->data;
    struct cg_err e = CG_ERR_INIT;
    if (!w->due && (!w->told || w->lazy))
        return;
    w->due = w->told = false;
    if (!w->lazy || cg_record_busy(w->record))
        CG_ASSERT(cg_record_sync(w->record, &e));
    cg_ledger_durable(w->ledger, w->rows);
    cg_gateway_progress(w->gateway);
}

static void on_accept(uv_poll_t *p, int status, int events)
{
    struct world *w = p->data;
    (void)status;
    (void)events;
    for (int fd; (fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;)
        cg_gateway_serve(w->gateway, fd, NULL);
}

static void on_input(uv_poll_t *p, int status, int events)
{
    struct world *w = p->data;
    struct cg_gateway_stats s;
    struct cg_budget b;
    char c;
    (void)status;
    (void)events;
    ssize_t n = read(0, &c, 1);
    cg_gateway_get_stats(w->gateway, &s);
    cg_ledger_get(w->ledger, 0, &b);
    printf("{\"settled\":%lld,\"held\":%lld,\"uncertain\":%lld,\"open\":%u,\"calls\":%llu,"
           "\"refused\":%llu,\"cut\":%llu}\n",
           (long long)b.settled_nusd, (long long)b.held_nusd, (long long)b.uncertain_nusd, s.open,
           (unsigned long long)s.calls, (unsigned long long)s.refused, (unsigned long long)s.cut);
    fflush(stdout);
    if (n <= 0)
        uv_stop(&w->loop);
}

static int listen_on_loopback(unsigned *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CG_ASSERT(fd >= 0 && bind(fd, (const struct sockaddr *)&a, sizeof a) == 0 &&
              listen(fd, 4096) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0);
    *port = ntohs(a.sin_port);
    return fd;
}

/* The ledger of the folder; the number of its last call. */
static uint64_t open_ledger(struct world *w, const char *folder, bool strict, int64_t budget)
{
    static const struct cg_ledger_events events = {.row = on_row, .verdict = on_verdict};
    const struct cg_ledger_options lo = {.mode = strict ? CG_LEDGER_STRICT : CG_LEDGER_FLOW};
    struct cg_err e = CG_ERR_INIT;
    uint64_t last = 0;
    CG_OWN(cg_drop_fd) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    w->ledger = cg_ledger_create(&lo, &events, w);
    CG_ASSERT(cg_ledger_replay_record(w->ledger, dir, &last, &e));
    if (cg_ledger_nodes(w->ledger) == 0)
        (void)cg_ledger_budget(w->ledger, CG_LEDGER_NONE, budget < 0 ? CG_LEDGER_UNLIMITED : budget,
                               CG_LEDGER_UNLIMITED, 0);
    else
        cg_ledger_recover(w->ledger, 1);
    CG_ASSERT(cg_record_sync(w->record, &e));
    cg_ledger_durable(w->ledger, w->rows);
    return last;
}

static void open_files(struct world *w, char **argv, struct cg_prices **book)
{
    struct cg_err e = CG_ERR_INIT;
    const struct cg_record_options ro = {.sandbox = "cage-gatewaytest"};
    CG_OWN(cg_drop_free) char *text = NULL;
    size_t n = 0;
    int dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    w->record = dir >= 0 ? cg_record_open(dir, &ro, &e) : NULL;
    CG_ASSERT(w->record);
    CG_ASSERT(cg_fs_slurp(argv[1], 8 << 20, &text, &n, &e));
    *book = cg_prices_create((struct cg_slice){text, n}, (struct cg_slice){"", 0}, &e);
    CG_ASSERT(*book);
}

int main(int argc, char **argv)
{
    static struct world w;
    static struct cg_gateway_provider providers[3] = {
        {.name = "anthropic"}, {.name = "openai"}, {.name = "google"}};
    static const struct cg_gateway_ops ops = {on_tell, on_blob_begin, on_blob_end, nothing,
                                              nothing};
    struct cg_err e = CG_ERR_INIT;
    struct cg_prices *book = NULL;
    unsigned port = 0;
    if (argc != 6 && argc != 7)
        return 2;
    w.lazy = argc == 7 && cg_streq(argv[6], "lazy");
    bool strict = cg_streq(argv[5], "strict");
    open_files(&w, argv, &book);
    uv_loop_init(&w.loop);
    for (size_t i = 0; i < CG_COUNT(providers); i++) {
        (void)cg_strlcpy(providers[i].base_url, sizeof providers[i].base_url, argv[3]);
        (void)cg_strlcpy(providers[i].key, sizeof providers[i].key, "sk-real");
    }
    uint64_t last = open_ledger(&w, argv[2], strict, strtoll(argv[4], NULL, 10));
    const struct cg_gateway_options o = {.token = "run-test",
                                         .prices = book,
                                         .ledger = w.ledger,
                                         .providers = providers,
                                         .nproviders = CG_COUNT(providers),
                                         .node = 0,
                                         .last_call = last,
                                         .strict = strict,
                                         .bodies = true,
                                         .ops = &ops,
                                         .ctx = &w};
    w.gateway = cg_gateway_create(&w.loop, &o, &e);
    CG_ASSERT(w.gateway);
    w.listener = listen_on_loopback(&port);
    uv_poll_init(&w.loop, &w.accept, w.listener);
    uv_poll_init(&w.loop, &w.input, 0);
    uv_prepare_init(&w.loop, &w.prepare);
    w.accept.data = w.input.data = w.prepare.data = &w;
    uv_poll_start(&w.accept, UV_READABLE, on_accept);
    uv_poll_start(&w.input, UV_READABLE, on_input);
    uv_prepare_start(&w.prepare, on_prepare);
    printf("http://127.0.0.1:%u/run-test\n", port);
    fflush(stdout);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    return 0;
}
