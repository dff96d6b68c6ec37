/* DNS messages (RFC 1035), as little of them as the resolver needs: the guest's question and its
 * answer, our question to a server and its answer. Strict: anything else is an error, nothing is
 * followed. */
#ifndef CG_EGRESS_DNSMSG_H
#define CG_EGRESS_DNSMSG_H

#include "base/defs.h"

enum {
    CG_DNS_HEADER = 12,
    CG_DNS_QUERY_MAX = 512,
    CG_DNS_ANSWER_MAX = 512,
    CG_DNS_TEXT = 1024,      /* a name's text: four bytes for one at worst */
    CG_DNS_ADDRESSES = 8,    /* taken of an answer */
    CG_DNS_REPLY_MAX = 1232, /* of a server, as we tell it */
    CG_DNS_STATIC_TTL = 60
};

enum cg_dns_type { CG_DNS_A = 1, CG_DNS_AAAA = 28 };
enum cg_dns_rcode {
    CG_DNS_OK = 0,
    CG_DNS_FORMERR = 1,
    CG_DNS_SERVFAIL = 2,
    CG_DNS_NXDOMAIN = 3,
    CG_DNS_NOTIMP = 4
};

struct cg_dns_addresses {
    uint32_t of[CG_DNS_ADDRESSES]; /* host order */
    unsigned n;
    uint32_t ttl; /* seconds */
};

struct cg_dns_query {
    uint16_t id;
    uint16_t flags;
    uint16_t type;
    uint16_t class_;
    char name[CG_DNS_TEXT]; /* lower case, without the dot at the end; bytes that are no letter,
                               digit, "-" or "_" as \ddd, "." for the root */
    bool plain;             /* no \ddd in it */
    size_t question_n;      /* bytes of the question behind the header */
};

enum cg_dns_got {
    CG_DNS_QUERY,
    CG_DNS_BAD, /* answer FORMERR or NOTIMP: `rcode` */
    CG_DNS_DROP /* no query at all: say nothing */
};

enum cg_dns_got cg_dns_parse(const void *p, size_t n, struct cg_dns_query *out,
                             enum cg_dns_rcode *rcode);

/* The answer to the query in p: its question, and A records of the addresses; NULL: none. With a
 * query that did not parse (question_n 0) the header alone. Returns its length. */
size_t cg_dns_answer(const void *p, const struct cg_dns_query *q, enum cg_dns_rcode rcode,
                     const struct cg_dns_addresses *addresses,
                     unsigned char out[CG_DNS_ANSWER_MAX]);

/* A query for the name's A records. Returns its length. The name is a plain one. */
size_t cg_dns_ask(uint16_t id, const char *name, unsigned char out[CG_DNS_QUERY_MAX]);
/* A server's answer to it. Addresses beyond CG_DNS_ADDRESSES are left out; the ttl is the smallest
 * in the answer. False: it is not an answer to that question. */
CG_MUST_USE bool cg_dns_take(const void *p, size_t n, uint16_t id, const char *name,
                             enum cg_dns_rcode *rcode, struct cg_dns_addresses *out);

/* "A", "AAAA", "TXT", … or "TYPE<n>" in out. */
void cg_dns_type_name(uint16_t type, char out[16]);

#endif
