/* Interception: patterns in streams cut anywhere, the table of secrets, HTTP rewriting. */
#include "check.h"

#include <string.h>

#include "intercept/hello.h"
#include "intercept/rewrite.h"

static char *redact_in(const struct cg_match *m, const char *const *names, const char *text,
                       size_t n, size_t piece)
{
    struct cg_redact r;
    struct cg_buf out;
    cg_buf_init(&out, 1 << 20);
    cg_redact_init(&r, m, names);
    for (size_t at = 0; at < n; at += piece)
        assert_true(cg_redact_feed(&r, (struct cg_slice){text + at, CG_MIN(piece, n - at)}, &out));
    assert_true(cg_redact_end(&r, &out));
    cg_redact_finish(&r);
    (void)cg_buf_cstr(&out);
    return cg_buf_take(&out);
}

static void patterns_are_found_whatever_the_cut(void **state)
{
    static const char *const names[] = {"A", "B", "C"};
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"nothing here", "nothing here"},
        {"xx hunter22 yy", "xx [REDACTED:A] yy"},
        {"hunter2hunter22", "hunter2[REDACTED:A]"},
        {"hunter22hunter22", "[REDACTED:A]"},
        {"hunter22-hunter22", "[REDACTED:A]-[REDACTED:A]"},
        {"hunter22longer!", "[REDACTED:A][REDACTED:B]!"},
        {"ababababc", "ab[REDACTED:C]"},
        {"hunter", "hunter"},
    };
    (void)state;
    struct cg_match *m = cg_match_create();
    assert_true(cg_match_add(m, "hunter22", 8, 0));
    assert_true(cg_match_add(m, "hunter22longer", 14, 1));
    assert_true(cg_match_add(m, "abababc", 7, 2));
    cg_match_ready(m);
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        for (size_t piece = 1; piece < 20; piece++) {
            CG_OWN(cg_drop_free)
            char *got = redact_in(m, names, cases[i].in, strlen(cases[i].in), piece);
            CG_OWN(cg_drop_free)
            char *masked = redact_in(m, NULL, cases[i].in, strlen(cases[i].in), piece);
            if (i != 6)
                assert_string_equal(got, cases[i].out);
            else
                assert_null(strstr(got, "longer"));
            assert_int_equal(strlen(masked), strlen(cases[i].in));
            assert_null(strstr(masked, "hunter22"));
        }
    }
    cg_match_destroy(m);
}

static struct cg_secrets *load(const char *json)
{
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(json), NULL, NULL);
    assert_non_null(j);
    struct cg_secrets *s = cg_secrets_create();
    bool fine = cg_secrets_load(s, j, &e);
    if (!fine)
        print_message("%s\n", e.text);
    assert_true(fine);
    return s;
}

static void values_are_known_in_their_encodings(void **state)
{
    static const char *const texts[] = {
        "s3cr=t/v\\lue\"9",         "czNjcj10L3ZcbHVlIjk", /* base64, by where it stands in a group
                                                              of three */
        "QnM6czNjcj10L3ZcbHVlIjk=", "eHM6czNjcj10L3ZcbHVlIjkK", "eDpzM2NyPXQvdlxsdWUiOQ==",
        "s3cr%3Dt%2Fv%5Clue%229",   "s3cr%3dt%2fv%5clue%229",   "s3cr=t/v\\\\lue\\\"9",
    };
    (void)state;
    struct cg_secrets *s = load("[{\"name\":\"T\",\"value\":\"s3cr=t/v\\\\lue\\\"9\","
                                "\"hosts\":[\"a.example\"]}]");
    for (size_t i = 0; i < CG_COUNT(texts); i++) {
        size_t at = 0;
        size_t n = 0;
        int tag = cg_match_find(cg_secrets_values(s), cg_slice_of(texts[i]), &at, &n);
        if (tag != 0 || n < 12)
            print_message("not found: %s\n", texts[i]);
        assert_int_equal(tag, 0);
    }
    cg_secrets_destroy(s);
}

static void hosts_are_names_or_suffixes(void **state)
{
    static const char *const bad[] = {"",      "*",   "*.",        "*.com",  "a..b",     ".a",
                                      "a.",    "A.b", "a b",       "a:0",    "a:",       "a:65536",
                                      "a:99x", "a/b", "*.*.a.com", "x*.a.b", "a.b:443:1"};
    (void)state;
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        if (cg_secret_host_valid(bad[i]))
            print_message("taken: \"%s\"\n", bad[i]);
        assert_false(cg_secret_host_valid(bad[i]));
    }
    assert_true(cg_secret_host_valid("*.github.com"));
    assert_true(cg_secret_host_valid("127.0.0.1:8443"));
    assert_true(cg_secret_host_matches("*.github.com", "api.github.com", 443));
    assert_false(cg_secret_host_matches("*.github.com", "github.com", 443));
    assert_false(cg_secret_host_matches("*.github.com", "evilgithub.com", 443));
    assert_false(cg_secret_host_matches("github.com", "github.com", 8443));
    assert_true(cg_secret_host_matches("github.com:8443", "github.com", 8443));
    assert_false(cg_secret_host_matches("github.com", "github.com.evil", 443));
}

static void bad_lists_are_refused_without_a_value(void **state)
{
    static const char *const bad[] = {
        "{}",
        "[{\"name\":\"A\"}]",
        "[{\"name\":\"1A\",\"value\":\"hush-hush\"}]",
        "[{\"name\":\"A\",\"value\":\"hush\"}]",
        "[{\"name\":\"A\",\"value\":\"hush-hush\\r\\nX: y\"}]",
        "[{\"name\":\"A\",\"value\":\"hush-hush\",\"hosts\":[\"*\"]}]",
        "[{\"name\":\"A\",\"value\":\"hush-hush\",\"placeholder\":\"x\"}]",
        "[{\"name\":\"A\",\"value\":\"hush-hush\"},{\"name\":\"A\",\"value\":\"hush-hush\"}]",
    };
    (void)state;
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        struct cg_err e = CG_ERR_INIT;
        CG_OWN(cg_drop_json) struct cg_json *j = cg_json_parse(cg_slice_of(bad[i]), NULL, NULL);
        struct cg_secrets *s = cg_secrets_create();
        assert_false(cg_secrets_load(s, j, &e));
        assert_null(strstr(e.text, "hush"));
        cg_secrets_destroy(s);
    }
}

/* --- rewriting --- */

#define PH "caged_ph_TOKEN_k3v9q2m7xa5ulrwz"
#define OTHER "caged_ph_OTHER_aaaaaaaaaaaaaaaa"
#define VALUE "ghp_real0123456789"
static const char two_secrets[] =
    "[{\"name\":\"TOKEN\",\"value\":\"" VALUE "\",\"placeholder\":\"" PH
    "\",\"hosts\":[\"api.test\"]},"
    "{\"name\":\"OTHER\",\"value\":\"other-value-9\",\"placeholder\":\"" OTHER
    "\",\"hosts\":[\"other.test\"]}]";

struct talk {
    struct cg_buf up, down;
    char events[2048];
};

static void on_event(void *ctx, const struct cg_rewrite_event *e)
{
    struct talk *t = ctx;
    size_t n = strlen(t->events);
    CG_OWN(cg_drop_free) char *method = cg_slice_dup(e->method);
    CG_OWN(cg_drop_free) char *target = cg_slice_dup(e->target);
    cg_snprintf(t->events + n, sizeof t->events - n, "%s %s %s %s %s;", e->verdict,
                e->rule ? e->rule : "-", e->secret ? e->secret : "-", method, target);
}

/* One request and its response, both in pieces of so many bytes. */
static void talk(struct talk *t, struct cg_secrets *s, const char *request, size_t request_n,
                 const char *response, size_t piece)
{
    const struct cg_rewrite_options o = {
        .secrets = s, .host = "api.test", .port = 443, .event = on_event, .ctx = t};
    struct cg_rewrite *r = cg_rewrite_create(&o);
    t->events[0] = '\0';
    cg_buf_init(&t->up, CG_REWRITE_OUT);
    cg_buf_init(&t->down, CG_REWRITE_OUT);
    size_t at = 0;
    while (at < request_n && cg_rewrite_wants(r)) {
        size_t n = CG_MIN(piece, request_n - at);
        at += cg_rewrite_request(r, (struct cg_slice){request + at, n}, &t->up, &t->down);
    }
    size_t n = strlen(response);
    for (at = 0; at < n && !cg_rewrite_over(r); at += piece)
        cg_rewrite_response(r, (struct cg_slice){response + at, CG_MIN(piece, n - at)}, &t->down);
    if (n > 0)
        cg_rewrite_response_end(r, &t->down);
    cg_rewrite_destroy(r);
    (void)cg_buf_cstr(&t->up);
    (void)cg_buf_cstr(&t->down);
}

static void talk_over(struct talk *t)
{
    cg_buf_finish(&t->up);
    cg_buf_finish(&t->down);
}

static const char *text_of(struct cg_buf *b)
{
    return cg_buf_cstr(b);
}

static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

static void headers_get_the_value_whatever_the_cut(void **state)
{
    static const struct {
        const char *in, *out, *response, *answer;
    } cases[] = {
        {"GET /u HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer " PH "\r\n"
         "Accept-Encoding: gzip\r\nRange: bytes=0-3\r\n\r\n",
         "GET /u HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer " VALUE "\r\n"
         "Accept-Encoding: identity\r\n\r\n",
         ok, ok},
        {"POST /u?x=1 HTTP/1.1\r\nHost: API.test:443\r\nx-api-key: " PH "\r\n"
         "Content-Length: 5\r\n\r\nhello",
         "POST /u?x=1 HTTP/1.1\r\nHost: API.test:443\r\nx-api-key: " VALUE "\r\n"
         "Content-Length: 5\r\nAccept-Encoding: identity\r\n\r\nhello",
         "HTTP/1.1 200 OK\r\nX-Echo: " VALUE "\r\nContent-Length: 22\r\n\r\n<" VALUE ">ab",
         "HTTP/1.1 200 OK\r\nX-Echo: ******************\r\nContent-Length: 22\r\n\r\n"
         "<******************>ab"},
        /* x-access-token:<placeholder>, as git writes it */
        {"GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: Basic "
         "eC1hY2Nlc3MtdG9rZW46Y2FnZWRfcGhfVE9LRU5fazN2OXEybTd4YTV1bHJ3eg==\r\n\r\n",
         "GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: Basic "
         "eC1hY2Nlc3MtdG9rZW46Z2hwX3JlYWwwMTIzNDU2Nzg5\r\nAccept-Encoding: identity\r\n\r\n",
         "HTTP/1.1 401 No\r\nContent-Length: 24\r\n\r\nZ2hwX3JlYWwwMTIzNDU2Nzg5",
         "HTTP/1.1 401 No\r\nContent-Length: 24\r\n\r\n************************"},
    };
    (void)state;
    struct cg_secrets *s = load(two_secrets);
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        for (size_t piece = 1; piece < 64; piece++) {
            struct talk t;
            talk(&t, s, cases[i].in, strlen(cases[i].in), cases[i].response, piece);
            assert_string_equal(text_of(&t.up), cases[i].out);
            assert_string_equal(text_of(&t.down), cases[i].answer);
            assert_true(cg_has_prefix(t.events, "allow - TOKEN "));
            talk_over(&t);
        }
    }
    cg_secrets_destroy(s);
}

static void what_cannot_be_rewritten_is_refused(void **state)
{
#define H "Host: api.test\r\n"
    static const struct {
        const char *in, *rule;
    } cases[] = {
        {"GET /?t=" PH " HTTP/1.1\r\n" H "\r\n", "placeholder_in_url"},
        {"GET /?t=%63aged%5fph_TOKEN_k3v9q2m7xa5ulrwz HTTP/1.1\r\n" H "\r\n", "placeholder_in_url"},
        {"GET / HTTP/1.1\r\n" H "A: " OTHER "\r\n\r\n", "placeholder_elsewhere"},
        {"GET / HTTP/1.1\r\nHost: " PH "\r\n\r\n", "host_mismatch"},
        {"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", "host_mismatch"},
        {"GET / HTTP/1.1\r\n" H H "\r\n", "host_mismatch"},
        {"GET / HTTP/1.1\r\nA: b\r\n\r\n", "host_mismatch"},
        {"GET / HTTP/1.1\r\nHost: api.test:80\r\n\r\n", "host_mismatch"},
        {"GET / HTTP/1.1\r\n" H PH ": x\r\n\r\n", "placeholder_in_header"},
        {"GET / HTTP/1.1\r\n" H "Referer: " PH "\r\n\r\n", "placeholder_in_header"},
        {"GET / HTTP/1.1\r\n" H "Range: " PH "\r\n\r\n", "placeholder_in_header"},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 40\r\n\r\n1234" PH "12345",
         "placeholder_in_body"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
         "5\r\ncaged\r\n1a\r\n_ph_TOKEN_k3v9q2m7xa5ulrwz\r\n0\r\n\r\n",
         "placeholder_in_body"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
         "smuggling"},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", "smuggling"},
        {"POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\n", "smuggling"},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\n", "smuggling"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", "smuggling"},
        {"POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", "smuggling"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\n", "smuggling"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n-5\r\n", "smuggling"},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", "bad_request"},
        {"GET / HTTP/1.1\n" H "\r\n", "bad_request"},
        {"GET / HTTP/1.1\r\n" H " folded: x\r\n\r\n", "bad_request"},
        {"GET / HTTP/1.1\r\n" H "A: b\rc\r\n\r\n", "bad_request"},
        {"GET  / HTTP/1.1\r\n" H "\r\n", "bad_request"},
        {"GET / HTTP/2.0\r\n" H "\r\n", "bad_request"},
        {"\r\nGET / HTTP/1.1\r\n" H "\r\n", "bad_request"},
        {"GET http://other.test/ HTTP/1.1\r\n" H "\r\n", "target"},
        {"CONNECT api.test:443 HTTP/1.1\r\n" H "\r\n", "method"},
        {"TRACE / HTTP/1.1\r\n" H "\r\n", "method"},
        {"GET / HTTP/1.1\r\n" H "Upgrade: h2c\r\n\r\n", "upgrade"},
        {"GET / HTTP/1.1\r\n" H "Authorization: Basic "
         "eDpjYWdlZF9waF9PVEhFUl9hYWFhYWFhYWFhYWFhYWFh\r\n\r\n",
         "placeholder_elsewhere"},
    };
    (void)state;
    struct cg_secrets *s = load(two_secrets);
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        for (size_t piece = 1; piece < 100; piece += 7) {
            struct talk t;
            char header[64];
            talk(&t, s, cases[i].in, strlen(cases[i].in), "", piece);
            cg_snprintf(header, sizeof header, "X-Caged-Refused: %s\r\n", cases[i].rule);
            if (!strstr(text_of(&t.down), header))
                print_message("%s\n-> %s\n", cases[i].in, text_of(&t.down));
            assert_non_null(strstr(text_of(&t.down), header));
            assert_non_null(strstr(t.events, cases[i].rule));
            assert_null(strstr(text_of(&t.up), VALUE));
            assert_null(strstr(text_of(&t.up), "other-value"));
            assert_null(strstr(text_of(&t.up), PH));
            assert_null(strstr(t.events, "k3v9q2m7xa5ulrwz"));
            talk_over(&t);
        }
    }
    cg_secrets_destroy(s);
}

static void requests_are_judged_one_by_one(void **state)
{
    static const char first[] = "GET /1 HTTP/1.1\r\n" H "A: " PH "\r\n\r\n";
    static const char second[] = "GET /2 HTTP/1.1\r\nHost: other.test\r\nA: " PH "\r\n\r\n";
    (void)state;
    struct cg_secrets *s = load(two_secrets);
    struct talk t = {.events = ""};
    const struct cg_rewrite_options o = {
        .secrets = s, .host = "api.test", .port = 443, .event = on_event, .ctx = &t};
    struct cg_rewrite *r = cg_rewrite_create(&o);
    cg_buf_init(&t.up, CG_REWRITE_OUT);
    cg_buf_init(&t.down, CG_REWRITE_OUT);
    char both[512];
    cg_snprintf(both, sizeof both, "%s%s", first, second);
    size_t used = cg_rewrite_request(r, cg_slice_of(both), &t.up, &t.down);
    assert_int_equal(used, strlen(first)); /* the second waits for the first's answer */
    assert_false(cg_rewrite_wants(r));
    cg_rewrite_response(r, cg_slice_of("HTTP/1.1 100 Continue\r\n\r\n"), &t.down);
    assert_false(cg_rewrite_wants(r));
    cg_rewrite_response(r, cg_slice_of(ok), &t.down);
    assert_true(cg_rewrite_wants(r) && cg_rewrite_idle(r));
    cg_buf_clear(&t.down);
    cg_rewrite_request(r, cg_slice_of(second), &t.up, &t.down);
    assert_true(cg_rewrite_over(r));
    assert_non_null(strstr(text_of(&t.down), "HTTP/1.1 421 "));
    assert_null(strstr(text_of(&t.up), "/2"));
    cg_rewrite_destroy(r);
    talk_over(&t);
    cg_secrets_destroy(s);
}

static void answers_that_cannot_be_checked_are_refused(void **state)
{
    static const char request[] = "GET / HTTP/1.1\r\n" H "A: " PH "\r\n\r\n";
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
         "encoded_response"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
         "bad_response"},
        {"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "bad_response"},
        {"HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n", "bad_response"},
        {"garbage\r\n\r\n", "bad_response"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nghp_\r\n"
         "e\r\nreal0123456789\r\n0\r\nX: y\r\n\r\n",
         "\r\n12\r\n******************\r\n0\r\n\r\n"},
        {"HTTP/1.1 200 OK\r\n\r\nuntil the end " VALUE, "until the end ******************"},
    };
    (void)state;
    struct cg_secrets *s = load(two_secrets);
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        struct talk t;
        talk(&t, s, request, strlen(request), cases[i].in, 4096);
        if (!strstr(text_of(&t.down), cases[i].out))
            print_message("%s\n-> %s\n", cases[i].in, text_of(&t.down));
        assert_non_null(strstr(text_of(&t.down), cases[i].out));
        assert_null(strstr(text_of(&t.down), VALUE));
        talk_over(&t);
    }
    cg_secrets_destroy(s);
}

static void websockets_pass_without_placeholders(void **state)
{
    static const char request[] = "GET /ws HTTP/1.1\r\n" H "Authorization: " PH "\r\n"
                                  "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                                  "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    (void)state;
    struct cg_secrets *s = load(two_secrets);
    for (int bad = 0; bad < 2; bad++) {
        struct talk t = {.events = ""};
        const struct cg_rewrite_options o = {
            .secrets = s, .host = "api.test", .port = 443, .event = on_event, .ctx = &t};
        struct cg_rewrite *r = cg_rewrite_create(&o);
        cg_buf_init(&t.up, CG_REWRITE_OUT);
        cg_buf_init(&t.down, CG_REWRITE_OUT);
        cg_rewrite_request(r, cg_slice_of(request), &t.up, &t.down);
        cg_rewrite_response(r, cg_slice_of(answer), &t.down);
        assert_non_null(strstr(text_of(&t.up), "Authorization: " VALUE));
        assert_null(strstr(text_of(&t.up), "deflate"));
        unsigned char frame[64] = {0x81, 0x80 | (sizeof PH - 1), 1, 2, 3, 4};
        for (size_t i = 0; i < sizeof PH - 1; i++)
            frame[6 + i] = (unsigned char)((bad ? PH[i] : 'x') ^ frame[2 + i % 4]);
        for (size_t i = 0; i < 6 + sizeof PH - 1; i++)
            cg_rewrite_request(r, (struct cg_slice){(const char *)frame + i, 1}, &t.up, &t.down);
        assert_true(cg_rewrite_over(r) == (bad == 1));
        assert_true((strstr(t.events, "refuse placeholder_in_body TOKEN") != NULL) == (bad == 1));
        cg_buf_clear(&t.down);
        cg_rewrite_response(r, cg_slice_of("\x81\x14<" VALUE ">"), &t.down);
        assert_null(strstr(text_of(&t.down), VALUE));
        cg_rewrite_destroy(r);
        talk_over(&t);
    }
    cg_secrets_destroy(s);
}

static void server_names_are_read_strictly(void **state)
{
    /* a hello with the name Api.Test and no other extension */
    static const unsigned char start[] = {22, 3, 1, 0, 64, 1, 0, 0, 60, 3, 3};
    static const unsigned char end[] = {0,   0,   2,   0xc0, 0x2f, 1,   0,   0,  17,
                                        0,   0,   0,   13,   0,    11,  0,   0,  8,
                                        'A', 'p', 'i', '.',  'T',  'e', 's', 't'};
    unsigned char hello[sizeof start + 32 + sizeof end] = {0};
    memcpy(hello, start, sizeof start);
    memcpy(hello + sizeof start + 32, end, sizeof end);
    char name[CG_HELLO_NAME];
    (void)state;
    const size_t n = sizeof hello;
    assert_int_equal(cg_hello_name((struct cg_slice){(char *)hello, n}, name, NULL),
                     CG_HELLO_NAMED);
    assert_string_equal(name, "api.test");
    for (size_t i = 1; i < n; i++)
        assert_int_equal(cg_hello_name((struct cg_slice){(char *)hello, i}, name, NULL),
                         CG_HELLO_MORE);
    assert_int_equal(cg_hello_name(cg_slice_of("GET / HTTP/1.1\r\n\r\n"), name, NULL),
                     CG_HELLO_NOT_TLS);
    hello[62] = '\r';
    assert_int_equal(cg_hello_name((struct cg_slice){(char *)hello, n}, name, NULL), CG_HELLO_NONE);
    hello[60] = 99; /* longer than its list */
    assert_int_equal(cg_hello_name((struct cg_slice){(char *)hello, n}, name, NULL),
                     CG_HELLO_NOT_TLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_found_whatever_the_cut),
        cmocka_unit_test(values_are_known_in_their_encodings),
        cmocka_unit_test(hosts_are_names_or_suffixes),
        cmocka_unit_test(bad_lists_are_refused_without_a_value),
        cmocka_unit_test(headers_get_the_value_whatever_the_cut),
        cmocka_unit_test(what_cannot_be_rewritten_is_refused),
        cmocka_unit_test(requests_are_judged_one_by_one),
        cmocka_unit_test(answers_that_cannot_be_checked_are_refused),
        cmocka_unit_test(websockets_pass_without_placeholders),
        cmocka_unit_test(server_names_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
