/* What a hostile guest tries against the walls around it: caged attack sends this program into a
 * throw-away sandbox and runs it as root there. Static, so that it needs nothing of the template.
 *
 *     caged-attack CLASS [WORD...]
 *
 * Each attempt is a line "VERDICT<tab>WHAT[: WHY]" on standard output. Nothing here waits longer
 * than a few seconds, and nothing is tried in a loop without a bound. */
#ifndef CG_ATTACK_H
#define CG_ATTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum attack_verdict {
    ATTACK_HELD, /* refused, as it must be */
    ATTACK_OPEN, /* it got through, or nobody refused it */
    ATTACK_SENT, /* on its way: whether it arrived is known outside only */
    ATTACK_SKIP, /* could not be tried here */
};

void attack_say(enum attack_verdict v, const char *why, const char *what, ...)
    __attribute__((format(printf, 3, 4)));

struct attack_bytes {
    const void *p;
    size_t n;
};

/* How a connection went. */
enum attack_end {
    ATTACK_END_REFUSED, /* no connection, or it was reset or closed without a byte */
    ATTACK_END_PAGE,    /* an HTTP answer that says it is a refusal of caged's */
    ATTACK_END_ANSWER,  /* something else came back */
    ATTACK_END_SILENT,  /* neither an answer nor a refusal within the time */
};

enum { ATTACK_REPLY = 4096, ATTACK_WAIT_MS = 15000 };

/* Connects, sends the parts (with a short pause between them), reads what comes back: `reply` (may
 * be NULL) has room for ATTACK_REPLY bytes and is ended by NUL. Address in host order. */
enum attack_end attack_tcp(uint32_t address, uint16_t port, const struct attack_bytes *parts,
                           unsigned n, char *reply);
/* The same, judged: anything but a refusal is an open door. */
void attack_tcp_refused(const char *what, uint32_t address, uint16_t port,
                        const struct attack_bytes *parts, unsigned n);

/* "1.2.3.4:80"; the port may be missing when `port` is set before. */
bool attack_address(const char *text, uint32_t *address, uint16_t *port);
void attack_address_text(uint32_t address, char out[16]);

/* One question to a resolver. False: no answer came. */
struct attack_answer {
    unsigned rcode, answers;
    uint32_t address; /* the last A record, 0: none */
};
bool attack_ask(uint32_t server, bool tcp, const unsigned char *name, size_t n, uint16_t type,
                struct attack_answer *out);
/* A name as labels; returns its length, 0 when it does not fit. */
size_t attack_labels(const char *name, unsigned char out[256]);
uint32_t attack_resolver(void); /* the first of /etc/resolv.conf */
/* The address of a name, 0: it has none. */
uint32_t attack_resolve(const char *name);

void attack_dns(int n, char **words);
void attack_names(int n, char **words);
void attack_addresses(int n, char **words);
void attack_doors(int n, char **words);
void attack_ipv6(int n, char **words);
void attack_frames(int n, char **words);
void attack_datagrams(int n, char **words);
void attack_vsock(int n, char **words);
void attack_hello(int n, char **words);
void attack_gateway(int n, char **words);
void attack_values(int n, char **words);

#endif
