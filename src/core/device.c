/* The device flow: a program without a browser shows a short code, a person who is signed in
 * approves it, the program gets a key. In memory only: a code lives ten minutes. RFC 8628. */
#include <ctype.h>
#include <sodium.h>
#include <string.h>

#include "core/accounts.h"

enum { DEVICES_MAX = 256, CODE_LETTERS = 8 };

struct device {
    struct cg_device code;
    enum cg_device_state state;
    int64_t until_ns;
    char account[CG_ID_TEXT];
    char user_agent[128];
    char address[64];
};

static struct device devices[DEVICES_MAX];

/* Consonants only: no word that somebody would not want to read out, nothing that looks alike. */
static const char letters[] = "BCDFGHJKLMNPQRSTVWXZ";

static bool is_live(const struct device *d)
{
    return d->until_ns > cg_mono_ns();
}

static void make_user_code(char out[CG_USER_CODE_TEXT])
{
    for (unsigned i = 0, n = 0; n < CODE_LETTERS; i++) {
        if (i == CODE_LETTERS / 2)
            out[i] = '-';
        else
            out[i] = letters[(n++, randombytes_uniform(sizeof letters - 1))];
    }
    out[CODE_LETTERS + 1] = '\0';
}

/* As people type it: any case, with or without the dash, blanks around. */
static struct device *find_user_code(const char *typed)
{
    char plain[CODE_LETTERS + 1] = "";
    unsigned n = 0;
    for (const char *p = typed; *p; p++) {
        if (*p == '-' || *p == ' ')
            continue;
        if (n == CODE_LETTERS)
            return NULL;
        plain[n++] = (char)toupper((unsigned char)*p);
    }
    for (unsigned i = 0; n == CODE_LETTERS && i < DEVICES_MAX; i++) {
        const char *code = devices[i].code.user_code;
        if (is_live(&devices[i]) && memcmp(code, plain, CODE_LETTERS / 2) == 0 &&
            memcmp(code + CODE_LETTERS / 2 + 1, plain + CODE_LETTERS / 2, CODE_LETTERS / 2) == 0)
            return &devices[i];
    }
    return NULL;
}

bool cg_device_begin(const struct cg_peer *peer, struct cg_device *out, struct cg_err *e)
{
    struct device *d = NULL;
    for (unsigned i = 0; i < DEVICES_MAX && !d; i++) {
        if (!is_live(&devices[i]))
            d = &devices[i];
    }
    if (!d)
        return cg_fail(e, CG_LIMIT, "%d logins wait for approval: try again in some minutes",
                       (int)DEVICES_MAX);
    *d = (struct device){.until_ns = cg_mono_ns() + (int64_t)CG_DEVICE_LIFE_S * 1000000000};
    unsigned char random[24];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(d->code.device_code, sizeof d->code.device_code, random, sizeof random);
    make_user_code(d->code.user_code);
    cg_strlcpy(d->user_agent, sizeof d->user_agent, peer->user_agent ? peer->user_agent : "");
    cg_strlcpy(d->address, sizeof d->address, peer->address ? peer->address : "");
    *out = d->code;
    return true;
}

static bool no_such_code(const char *typed, struct cg_err *e)
{
    return cg_fail(e, CG_NOT_FOUND, "no login waits with the code %.16s; codes live %d minutes",
                   typed, CG_DEVICE_LIFE_S / 60);
}

bool cg_device_look(const char *user_code, struct cg_peer *out, struct cg_err *e)
{
    const struct device *d = find_user_code(user_code);
    if (!d || d->state != CG_DEVICE_PENDING)
        return no_such_code(user_code, e);
    *out = (struct cg_peer){d->address, d->user_agent};
    return true;
}

bool cg_device_decide(const char *user_code, const char *account, bool approve, struct cg_err *e)
{
    struct device *d = find_user_code(user_code);
    if (!d || d->state != CG_DEVICE_PENDING)
        return no_such_code(user_code, e);
    d->state = approve ? CG_DEVICE_APPROVED : CG_DEVICE_DENIED;
    cg_strlcpy(d->account, sizeof d->account, account);
    return true;
}

enum cg_device_state cg_device_poll(const char *device_code, char account[CG_ID_TEXT],
                                    char agent[128])
{
    size_t n = strlen(device_code);
    for (unsigned i = 0; i < DEVICES_MAX; i++) {
        struct device *d = &devices[i];
        if (!is_live(d) || strlen(d->code.device_code) != n ||
            sodium_memcmp(d->code.device_code, device_code, n) != 0)
            continue;
        enum cg_device_state state = d->state;
        cg_strlcpy(account, CG_ID_TEXT, d->account);
        cg_strlcpy(agent, 128, d->user_agent);
        if (state != CG_DEVICE_PENDING)
            d->until_ns = 0;
        return state;
    }
    return CG_DEVICE_EXPIRED;
}
