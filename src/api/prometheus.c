/* GET /metrics for Prometheus (text format 0.0.4): the server and its sandboxes in numbers. Only
 * the server's owner may ask: counts of others' sandboxes are others' business. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"

static void head(struct cg_buf *b, const char *name, const char *type, const char *help)
{
    cg_buf_addf(b, "# HELP caged_%s %s\n# TYPE caged_%s %s\n", name, help, name, type);
}

static void one(struct cg_buf *b, const char *name, const char *type, const char *help, double v)
{
    head(b, name, type, help);
    cg_buf_addf(b, "caged_%s %.9g\n", name, v);
}

/* VmRSS, without a parser of /proc/self/status: the second number of statm, in pages. */
static double resident_bytes(void)
{
    unsigned long size = 0;
    unsigned long resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void write_sandboxes(struct cg_buf *b, const struct cg_core *c)
{
    unsigned by_status[CG_STATUS_DESTROYED + 1] = {0};
    int64_t compute = 0;
    int64_t llm = 0;
    for (const struct cg_sandbox *sb = c->first; sb; sb = sb->next) {
        if (sb->helper)
            continue;
        by_status[sb->status]++;
        compute = cg_money_add(compute,
                               sb->compute_nusd ? sb->compute_nusd : cg_sandbox_compute_nusd(sb));
        llm = cg_money_add(llm, sb->llm_nusd);
    }
    head(b, "sandboxes", "gauge", "Sandboxes by state.");
    for (unsigned s = 0; s <= CG_STATUS_DESTROYED; s++)
        cg_buf_addf(b, "caged_sandboxes{status=\"%s\"} %u\n", cg_status_name((enum cg_status)s),
                    by_status[s]);
    one(b, "compute_usd_total", "counter", "Machine time of all sandboxes in US dollars.",
        cg_money_usd(compute));
    one(b, "llm_usd_total", "counter", "Model calls of all sandboxes in US dollars.",
        cg_money_usd(llm));
}

void api_prometheus(struct op *op)
{
    const struct cg_api *a = op->api;
    const struct cg_store_account *account = cg_map_get(&a->core->accounts, op->key->account);
    if (!account || !cg_streq(account->tier, "owner")) {
        op_problem(op, 403, "policy_denied", "the metrics are for the server's owner");
        return;
    }
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 65536);
    head(&b, "build_info", "gauge", "The version that runs.");
    cg_buf_addf(&b, "caged_build_info{version=\"%s\",accel=\"%s\"} 1\n", CG_VERSION,
                a->core->accel == CG_ACCEL_KVM ? "kvm" : "tcg");
    one(&b, "http_connections", "gauge", "Open connections.", cg_http_server_conns(a->http));
    one(&b, "http_requests_total", "counter", "Requests since the start.", (double)a->requests);
    one(&b, "resident_memory_bytes", "gauge", "Resident memory of the server.", resident_bytes());
    write_sandboxes(&b, a->core);
    struct cg_http_req *r = op->r;
    r->abort = NULL;
    op->r = NULL;
    op_end(op);
    cg_http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", cg_buf_slice(&b));
}
