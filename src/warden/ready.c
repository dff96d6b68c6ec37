#include "warden/ready.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "gateway/gateway.h"
#include "intercept/ca.h"
#include "trust/trust.h"

enum { TEXT_MAX = 1 << 20 };

struct text {
    char *p;
    size_t n;
};

struct ready {
    struct cg_ca *ca;
    struct cg_pack *pack;
    struct cg_prices *prices;
    struct text rules, rules_own, book, book_own; /* what those were made of */
};

static struct cg_slice slice(const struct text *t)
{
    return (struct cg_slice){t->p ? t->p : "", t->n};
}

static bool says(const struct text *t, struct cg_slice other)
{
    return t->n == other.n && (other.n == 0 || memcmp(slice(t).p, other.p, other.n) == 0);
}

/* A file that is not there has no text. */
static bool slurp(int dir, const char *name, struct text *out)
{
    CG_OWN(cg_drop_fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size > TEXT_MAX)
        return false;
    out->n = (size_t)st.st_size;
    out->p = cg_alloc(out->n + 1);
    return cg_fd_read_full(fd, out->p, out->n, NULL);
}

struct ready *ready_create(int dir, const char *id)
{
    struct ready *r = cg_alloc(sizeof *r);
    struct cg_err e = CG_ERR_INIT;
    r->ca = cg_ca_create(id, &e);
    if (!r->ca)
        cg_log(CG_LOG_WARN, CG_EVENT("spare.no_ca"), CG_E(&e));
    (void)slurp(dir, "trust.own.yaml", &r->rules_own);
    (void)slurp(dir, "prices.own.json", &r->book_own);
    if (slurp(dir, "trust.yaml", &r->rules))
        r->pack = cg_pack_read("trust.yaml", slice(&r->rules), "trust.own.yaml",
                               slice(&r->rules_own), &e);
    if (slurp(dir, "prices.json", &r->book))
        r->prices = cg_prices_create(slice(&r->book), slice(&r->book_own), &e);
    cg_gateway_start_libraries();
    return r;
}

void ready_destroy(struct ready *r)
{
    if (!r)
        return;
    cg_ca_destroy(r->ca);
    cg_pack_destroy(r->pack);
    cg_prices_destroy(r->prices);
    free(r->rules.p);
    free(r->rules_own.p);
    free(r->book.p);
    free(r->book_own.p);
    free(r);
}

const char *ready_ca_pem(const struct ready *r)
{
    return r && r->ca ? cg_ca_pem(r->ca) : NULL;
}

struct cg_ca *ready_take_ca(struct ready *r)
{
    return r ? CG_MOVE(r->ca) : NULL;
}

struct cg_pack *ready_take_pack(struct ready *r, struct cg_slice text, struct cg_slice over)
{
    return r && says(&r->rules, text) && says(&r->rules_own, over) ? CG_MOVE(r->pack) : NULL;
}

struct cg_prices *ready_take_prices(struct ready *r, struct cg_slice book, struct cg_slice own)
{
    return r && says(&r->book, book) && says(&r->book_own, own) ? CG_MOVE(r->prices) : NULL;
}
