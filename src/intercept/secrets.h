/* The secrets of one sandbox in the warden's memory: real values beside the placeholders that the
 * guest has in their place, the hosts that may be sent the value, and the patterns by which both
 * are recognised. Values are in locked memory that is wiped at the end. There is no way to print
 * or log one: the type has no text but its name. One thread, the loop's. */
#ifndef CG_INTERCEPT_SECRETS_H
#define CG_INTERCEPT_SECRETS_H

#include "base/json.h"
#include "intercept/match.h"

enum {
    CG_SECRETS = 64,
    CG_SECRET_NAME = 65,  /* A-Z a-z 0-9 _, as an environment variable */
    CG_SECRET_MIN = 8,    /* a shorter value could not be kept out of a record */
    CG_SECRET_MAX = 8192, /* bytes of a value */
    CG_SECRET_HOSTS = 16,
    CG_SECRET_HOST = 254,
    CG_PLACEHOLDER = 9 + CG_SECRET_NAME + 1 + 32,
};

struct cg_secret {
    char name[CG_SECRET_NAME];
    char placeholder[CG_PLACEHOLDER]; /* empty: the guest has none of it */
    char hosts[CG_SECRET_HOSTS][CG_SECRET_HOST];
    unsigned nhosts;
    struct cg_slice value; /* never written anywhere but to a host of it */
    bool used;             /* sent since the last look */
};

struct cg_secrets;

CG_MUST_USE struct cg_secrets *cg_secrets_create(void);
void cg_secrets_destroy(struct cg_secrets *s); /* NULL is fine */

/* Takes what a `start` request carries: [{"name","value","hosts":[…],"placeholder"?}, …]. NULL is
 * an empty list. Errors name the member, never a value. Once. */
CG_MUST_USE bool cg_secrets_load(struct cg_secrets *s, const struct cg_json *list,
                                 struct cg_err *e);

unsigned cg_secrets_count(const struct cg_secrets *s);
struct cg_secret *cg_secrets_at(struct cg_secrets *s, unsigned i);
/* NULL: there is none of that name. */
const struct cg_secret *cg_secrets_find(const struct cg_secrets *s, const char *name);

/* "api.github.com" or "*.github.com" (which is not github.com itself), lower case, perhaps with a
 * port behind ":". */
CG_MUST_USE bool cg_secret_host_valid(const char *pattern);
bool cg_secret_host_matches(const char *pattern, const char *host, uint16_t port);
bool cg_secret_bound_to(const struct cg_secret *s, const char *host, uint16_t port);
/* Some secret with a placeholder is bound to it: connections to it have to be read. */
bool cg_secrets_want(const struct cg_secrets *s, const char *host, uint16_t port);
CG_MUST_USE bool cg_secret_name_valid(const char *name);
/* CG_SECRET_MIN to CG_SECRET_MAX bytes, none of them a control character: a header must be able to
 * carry it. */
CG_MUST_USE bool cg_secret_value_valid(struct cg_slice v);

/* Patterns; the tag is the secret's number. */
const struct cg_match *cg_secrets_placeholders(const struct cg_secrets *s);
const struct cg_match *cg_secrets_values(const struct cg_secrets *s); /* raw, base64, %xx, JSON */
const char *const *cg_secrets_names(const struct cg_secrets *s);

#endif
