/* What a connection says of itself, and is not: TLS hellos and HTTP heads to the address of a name
 * that the policy allows, with another name in them. All are refused before anything is dialled. */
#include <stdio.h>
#include <string.h>

#include "attack.h"

enum { HELLO_MAX = 512, ALL = 9999 };

struct out {
    unsigned char p[HELLO_MAX];
    size_t n;
};

static void put(struct out *o, const void *p, size_t n)
{
    if (o->n + n <= sizeof o->p) {
        memcpy(o->p + o->n, p, n);
        o->n += n;
    }
}

static void put16(struct out *o, size_t v)
{
    const unsigned char b[2] = {(unsigned char)(v >> 8), (unsigned char)v};
    put(o, b, sizeof b);
}

/* A ClientHello, cut into records of `piece` bytes. `name` may be NULL. */
static void put_hello(struct out *o, const char *name, bool hidden, size_t piece)
{
    static const unsigned char random[32] = {7};
    struct out ext = {.n = 0}, body = {.n = 0};
    size_t n = name ? strlen(name) : 0;
    if (name) {
        put16(&ext, 0);
        put16(&ext, n + 5);
        put16(&ext, n + 3);
        put(&ext, "", 1);
        put16(&ext, n);
        put(&ext, name, n);
    }
    if (hidden) {
        put16(&ext, 0xfe0d);
        put16(&ext, 4);
        put(&ext, "\0\0\0\0", 4);
    }
    put(&body, "\1\0", 2); /* handshake: ClientHello; its length has three bytes */
    put16(&body, 2 + 32 + 1 + 4 + 2 + 2 + ext.n);
    put(&body, "\3\3", 2);
    put(&body, random, sizeof random);
    put(&body, "\0\0\2\xc0\x2b\1\0", 7);
    put16(&body, ext.n);
    put(&body, ext.p, ext.n);
    for (size_t at = 0; at < body.n; at += piece) {
        size_t here = body.n - at < piece ? body.n - at : piece;
        put(o, "\x16\3\1", 3);
        put16(o, here);
        put(o, body.p + at, here);
    }
}

static void hello(const char *what, uint32_t address, const char *name, bool hidden, size_t piece,
                  size_t first)
{
    struct out o = {.n = 0};
    put_hello(&o, name, hidden, piece);
    const struct attack_bytes parts[2] = {{o.p, first < o.n ? first : o.n},
                                          {o.p + first, first < o.n ? o.n - first : 0}};
    attack_tcp_refused(what, address, 443, parts, first < o.n ? 2 : 1);
}

/* A head with the name in place of each '@'. */
static void http(const char *what, uint32_t address, const char *head, const char *name)
{
    char text[1024];
    size_t n = 0;
    for (; *head && n + strlen(name) < sizeof text; head++) {
        size_t size = *head == '@' ? strlen(name) : 1;
        memcpy(text + n, *head == '@' ? name : head, size);
        n += size;
    }
    const struct attack_bytes all = {text, n};
    attack_tcp_refused(what, address, 80, &all, 1);
}

/* WORD: a name that the policy allows. */
void attack_hello(int n, char **words)
{
    static const char other[] = "caged-attack.invalid";
    const struct attack_bytes ssh = {"SSH-2.0-caged\r\n", 15};
    const char *name = n > 0 ? words[0] : "";
    uint32_t address = attack_resolve(name);
    if (!address) {
        attack_say(ATTACK_SKIP, "it has no address", "%s", name);
        return;
    }
    hello("TLS for another name", address, other, false, ALL, ALL);
    hello("TLS without a name", address, NULL, false, ALL, ALL);
    hello("TLS with an encrypted hello", address, name, true, ALL, ALL);
    hello("a hello in two segments", address, other, false, ALL, 30);
    hello("a hello in records of 7 bytes", address, other, false, 7, ALL);
    hello("a hello in records, in two segments", address, other, false, 7, 3);
    attack_tcp_refused("no TLS at all", address, 443, &ssh, 1);
    http("HTTP for another host", address, "GET / HTTP/1.1\r\nHost: caged-attack.invalid\r\n\r\n",
         name);
    http("HTTP with two hosts", address,
         "GET / HTTP/1.1\r\nHost: @\r\nHost: caged-attack.invalid\r\n\r\n", name);
    http("HTTP with a host on a folded line", address,
         "GET / HTTP/1.1\r\nHost: @\r\n Host: caged-attack.invalid\r\n\r\n", name);
    http("HTTP without a host", address, "GET / HTTP/1.1\r\n\r\n", name);
    http("HTTP with a blank before the colon", address, "GET / HTTP/1.1\r\nHost : @\r\n\r\n", name);
    http("an absolute target", address,
         "GET http://caged-attack.invalid/ HTTP/1.1\r\nHost: @\r\n\r\n", name);
    http("CONNECT", address, "CONNECT caged-attack.invalid:80 HTTP/1.1\r\nHost: @\r\n\r\n", name);
    http("two lengths", address,
         "POST / HTTP/1.1\r\nHost: @\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n", name);
    http("a length and chunks", address,
         "POST / HTTP/1.1\r\nHost: @\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
         name);
    http("bare line feeds", address, "GET / HTTP/1.1\nHost: @\n\n", name);
    http("no HTTP on port 80", address, "HELO @\r\n", name);
}

/* The gateway's own ways: nothing but model calls, and those with this sandbox's token only. */
void attack_gateway(int n, char **words)
{
    static const char *const lines[] = {"GET / HTTP/1.1",
                                        "GET /health HTTP/1.1",
                                        "GET /v1/sandboxes HTTP/1.1",
                                        "POST /v1/messages HTTP/1.1",
                                        "POST /AAAAAAAAAAAAAAAAAAAAAAAA/v1/messages HTTP/1.1",
                                        "GET /../../etc/passwd HTTP/1.1",
                                        "GET //v1/sandboxes HTTP/1.1",
                                        "GET http://127.0.0.1/ HTTP/1.1",
                                        "CONNECT 127.0.0.1:22 HTTP/1.1",
                                        "TRACE / HTTP/1.1"};
    static const char name[] = "gateway.caged.internal";
    uint32_t address = attack_resolve(name);
    char reply[ATTACK_REPLY];
    (void)n;
    (void)words;
    if (!address) {
        attack_say(ATTACK_HELD, "", "%s is no name here", name);
        return;
    }
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s\r\nHost: %s\r\nContent-Length: 2\r\n\r\n{}", lines[i],
                 name);
        const struct attack_bytes all = {text, strlen(text)};
        enum attack_end end = attack_tcp(address, 80, &all, 1, reply);
        bool refused = end == ATTACK_END_REFUSED || end == ATTACK_END_PAGE ||
                       strncmp(reply, "HTTP/1.1 4", 10) == 0;
        attack_say(refused ? ATTACK_HELD : ATTACK_OPEN, refused ? "" : "it was not refused", "%s",
                   lines[i]);
    }
}
