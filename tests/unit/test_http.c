/* The HTTP server's glue over a socket pair: what a handler sees does not depend on how the bytes
 * come, a paused body holds the client, a reply goes out whole or not at all, a WebSocket says what
 * RFC 6455 says. What is refused over the wire is in tests/integration/test_server_http.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fs.h"
#include "check.h"
#include "http/inner.h"

struct fixture {
    uv_loop_t loop;
    struct cg_http_server *server;
    int fd;            /* the client's end; -1: closed */
    struct cg_buf log; /* what handlers saw */
    struct cg_buf got; /* what the client got */
    struct cg_http_req *kept;
    size_t body_bytes;
    unsigned aborts, drains;
    struct cg_ws *ws;
};

static struct fixture *now; /* one test runs at a time */

static void turn(struct fixture *f)
{
    for (int i = 0; i < 8; i++) {
        uv_run(&f->loop, UV_RUN_NOWAIT);
        char *p = cg_buf_room(&f->got, 65536);
        ssize_t n = f->fd >= 0 && p ? recv(f->fd, p, 65536, MSG_DONTWAIT) : -1;
        if (n > 0) {
            cg_buf_grew(&f->got, (size_t)n);
            i = 0;
        }
    }
}

static void send_bytes(struct fixture *f, const void *p, size_t n)
{
    assert_int_equal(send(f->fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
    turn(f);
}

static void send_text(struct fixture *f, const char *text)
{
    send_bytes(f, text, strlen(text));
}

static void hang_up(struct fixture *f)
{
    close(f->fd);
    f->fd = -1;
    turn(f);
}

static const char *got(struct fixture *f)
{
    return cg_buf_cstr(&f->got);
}

static bool at_end(struct fixture *f)
{
    char c;
    return recv(f->fd, &c, 1, MSG_DONTWAIT) == 0;
}

/* --- the handler: what it does is the first letter of the path --- */

static void on_abort(struct cg_http_req *r)
{
    now->aborts++;
    if (now->kept == r)
        now->kept = NULL;
}

static void body_read(struct cg_http_req *r)
{
    cg_buf_addf(&now->log, "body[%.*s]", (int)r->body.n, r->body.p ? r->body.p : "");
    cg_http_reply(r, 200, "text/plain", cg_buf_slice(&r->body));
}

static void body_piece(struct cg_http_req *r, struct cg_slice bytes)
{
    now->body_bytes += bytes.n;
    if (r->path[1] == 'p')
        cg_http_pause(r);
}

static void body_over(struct cg_http_req *r)
{
    now->kept = NULL;
    cg_http_reply(r, 200, "text/plain", cg_slice_of("all of it"));
}

static void on_drain(struct cg_http_req *r)
{
    now->drains++;
    if (cg_http_pending(r) == 0 && now->drains < 4)
        cg_http_write(r, cg_slice_of("more"));
    else
        cg_http_finish(r);
}

static void on_ws_message(void *ctx, struct cg_ws *ws, bool text, struct cg_slice bytes)
{
    (void)ctx;
    cg_buf_addf(&now->log, "%s[%.*s]", text ? "text" : "binary", (int)bytes.n, bytes.p);
    cg_ws_send(ws, text, bytes);
}

static void on_ws_close(void *ctx, struct cg_ws *ws)
{
    (void)ctx;
    (void)ws;
    now->ws = NULL;
    cg_buf_adds(&now->log, "closed");
}

static void handle(void *ctx, struct cg_http_req *r)
{
    static const struct cg_ws_ops ops = {.on_message = on_ws_message, .on_close = on_ws_close};
    char value[32] = "";
    (void)ctx;
    cg_http_query(r, "q", value, sizeof value);
    cg_buf_addf(&now->log, "%s %s(%s)", r->method, r->path, value);
    for (unsigned i = 0; i < r->segments; i++)
        cg_buf_addf(&now->log, "/%s", r->segment[i]);
    r->abort = on_abort;
    switch (r->path[1]) {
    case 'b':
        cg_http_read_body(r, 1000, body_read);
        break;
    case 'p':
    case 's':
        now->kept = r;
        cg_http_stream_body(r, body_piece, body_over);
        break;
    case 'k':
        now->kept = r;
        break;
    case 'd':
        r->drain = on_drain;
        cg_http_start(r, 200, "text/plain", -1);
        cg_http_write(r, cg_slice_of("first"));
        break;
    case 'w':
        r->abort = NULL;
        now->ws = cg_ws_accept(r, "terminal", &ops, NULL);
        break;
    default:
        cg_http_reply(r, 200, "text/plain", cg_slice_of(r->path));
    }
}

static int setup(void **state)
{
    struct fixture *f = cg_alloc(sizeof *f);
    int pair[2];
    struct cg_err e = CG_ERR_INIT;
    now = f;
    cg_buf_init(&f->log, 1 << 20);
    cg_buf_init(&f->got, 32 << 20);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->server = cg_http_server_create(&f->loop, socket(AF_UNIX, SOCK_STREAM, 0), handle, NULL, &e);
    assert_non_null(f->server);
    uv_poll_stop(&f->server->poll);
    conn_accept(f->server, pair[1]);
    f->fd = pair[0];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->fd >= 0)
        close(f->fd);
    cg_http_server_destroy(f->server);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    cg_buf_finish(&f->log);
    cg_buf_finish(&f->got);
    free(f);
    return 0;
}

/* --- requests --- */

static const char stream[] = "GET /a/b%2Fc/?x=1&q=%41+b%3d HTTP/1.1\r\nHost: x\r\n\r\n"
                             "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
                             "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nTrailer: v\r\n\r\n"
                             "\r\nGET /last HTTP/1.1\r\nHost: x\r\n\r\n";
static const char seen[] = "GET /a/b%2Fc/(A b=)/a/b/cPOST /b()/bbody[hello]POST /b()/bbody[abcdefg]"
                           "GET /last()/last";

static void a_stream_means_the_same_however_it_is_cut(void **state)
{
    struct fixture *f = *state;
    const size_t n = sizeof stream - 1;
    const size_t steps[] = {1, 2, 3, 7, 16, 61, n};
    for (size_t i = 0; i < CG_COUNT(steps); i++) {
        cg_buf_clear(&f->log);
        for (size_t at = 0; at < n; at += CG_MIN(steps[i], n - at))
            send_bytes(f, stream + at, CG_MIN(steps[i], n - at));
        assert_string_equal(cg_buf_cstr(&f->log), seen);
    }
    assert_null(strstr(got(f), " 400 "));
}

static void requests_behind_one_that_is_not_answered_wait(void **state)
{
    struct fixture *f = *state;
    send_text(f, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(cg_buf_cstr(&f->log), "GET /keep()/keep");
    cg_http_reply(f->kept, 200, "text/plain", cg_slice_of("kept"));
    turn(f);
    assert_string_equal(cg_buf_cstr(&f->log), "GET /keep()/keepGET /next()/next");
    assert_true(strstr(got(f), "kept") < strstr(got(f), "/next"));
}

static void a_paused_body_holds_the_client_back(void **state)
{
    struct fixture *f = *state;
    static char block[1 << 20];
    memset(block, 'x', sizeof block);
    send_text(f, "PUT /p HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n");
    size_t sent = 0;
    for (int i = 0; i < 100; i++) {
        ssize_t n = send(f->fd, block, sizeof block, MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        turn(f);
    }
    assert_true(sent < sizeof block); /* the socket's own buffer, not ours */
    assert_true(f->body_bytes <= 128 * 1024);
    while (f->body_bytes < 4194304) {
        if (f->kept)
            cg_http_resume(f->kept);
        turn(f);
        ssize_t n =
            send(f->fd, block, CG_MIN(sizeof block, 4194304 - sent), MSG_NOSIGNAL | MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        turn(f);
    }
    assert_non_null(strstr(got(f), "all of it"));
}

static void drain_comes_when_all_that_was_queued_is_out(void **state)
{
    struct fixture *f = *state;
    send_text(f, "GET /d HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(f->drains, 4);
    assert_non_null(
        strstr(got(f), "5\r\nfirst\r\n4\r\nmore\r\n4\r\nmore\r\n4\r\nmore\r\n0\r\n\r\n"));
}

static void an_old_client_gets_no_chunks_but_the_end(void **state)
{
    struct fixture *f = *state;
    send_text(f, "GET /d HTTP/1.0\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(got(f), "\r\n\r\nfirstmoremoremore"));
    assert_null(strstr(got(f), "chunked"));
    assert_true(at_end(f));
}

static void a_client_that_goes_away_aborts_its_request_once(void **state)
{
    struct fixture *f = *state;
    send_text(f, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(f->kept);
    hang_up(f);
    assert_int_equal(f->aborts, 1);
    assert_int_equal(cg_http_server_conns(f->server), 0);
}

static void a_body_that_is_cut_aborts_and_never_ends(void **state)
{
    struct fixture *f = *state;
    send_text(f, "PUT /s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345");
    hang_up(f);
    assert_int_equal(f->aborts, 1);
    assert_int_equal(f->body_bytes, 5);
}

static void a_body_over_its_maximum_is_413_and_its_rest_is_dropped(void **state)
{
    struct fixture *f = *state;
    static char rest[600000];
    send_text(f, "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 600000\r\n\r\n");
    assert_non_null(strstr(got(f), " 413 "));
    send_bytes(f, rest, 100000); /* still taken: no reset may overtake the reply */
    send_bytes(f, rest, 100000);
    assert_true(at_end(f));
    assert_null(strstr(cg_buf_cstr(&f->log), "body["));
}

static void chunks_beyond_the_maximum_are_413_too(void **state)
{
    struct fixture *f = *state;
    send_text(f, "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        char chunk[512];
        memset(chunk, 'c', sizeof chunk);
        memcpy(chunk, "1f9\r\n", 5);
        memcpy(chunk + sizeof chunk - 2, "\r\n", 2);
        send_bytes(f, chunk, sizeof chunk);
    }
    assert_non_null(strstr(got(f), " 413 "));
    assert_int_equal(f->aborts, 1);
}

static void expect_is_answered_before_the_body(void **state)
{
    struct fixture *f = *state;
    send_text(f,
              "POST /b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_string_equal(got(f), "HTTP/1.1 100 Continue\r\n\r\n");
    send_text(f, "ok");
    assert_non_null(strstr(got(f), " 200 OK"));
}

static void wrong_queries_are_no_values(void **state)
{
    struct fixture *f = *state;
    static const char *const queries[] = {"q=%zz",
                                          "q=%0",
                                          "q=%",
                                          "q=a%00b",
                                          "qq=1",
                                          "x=q",
                                          "q=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < CG_COUNT(queries); i++) {
        char text[256];
        cg_buf_clear(&f->log);
        cg_snprintf(text, sizeof text, "GET /a?%s HTTP/1.1\r\nHost: x\r\n\r\n", queries[i]);
        send_text(f, text);
        assert_true(cg_has_prefix(cg_buf_cstr(&f->log), "GET /a("));
        assert_null(strstr(cg_buf_cstr(&f->log), "(1)"));
        assert_null(strstr(cg_buf_cstr(&f->log), "(a)"));
    }
}

static void quiesce_lets_a_request_finish_and_ends_the_rest(void **state)
{
    struct fixture *f = *state;
    send_text(f, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
    cg_http_server_quiesce(f->server);
    turn(f);
    cg_http_reply(f->kept, 200, "text/plain", cg_slice_of("finished"));
    turn(f);
    assert_non_null(strstr(got(f), "Connection: close"));
    assert_non_null(strstr(got(f), "finished"));
    assert_true(at_end(f));
}

/* --- WebSocket --- */

static const char upgrade[] =
    "GET /w HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mcp, terminal\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static void websocket_shakes_hands_as_rfc_6455_has_it(void **state)
{
    struct fixture *f = *state;
    send_text(f, upgrade);
    assert_non_null(strstr(got(f), "HTTP/1.1 101 "));
    assert_non_null(strstr(got(f), "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_non_null(strstr(got(f), "Sec-WebSocket-Protocol: terminal\r\n"));
}

static void websocket_messages_come_and_go_whole(void **state)
{
    struct fixture *f = *state;
    send_text(f, upgrade);
    cg_buf_clear(&f->got);
    send_bytes(f, "\x01\x82\1\2\3\4\x69\x67", 8); /* "he" of a text in two frames, masked */
    send_bytes(f, "\x89\x81\0\0\0\0p", 7);        /* a ping between them */
    send_bytes(f, "\x80\x83\0\0\0\0llo", 9);
    assert_string_equal(cg_buf_cstr(&f->log), "GET /w()/wtext[hello]");
    assert_memory_equal(f->got.p, "\x8a\x01p\x81\x05hello", 10);
    cg_buf_clear(&f->got);
    send_bytes(f, "\x88\x82\0\0\0\0\x03\xe8", 8);
    assert_memory_equal(f->got.p, "\x88\x02\x03\xe8", 4);
    assert_null(f->ws);
}

static void websocket_rubbish_closes_it(void **state)
{
    struct fixture *f = *state;
    send_text(f, upgrade);
    send_bytes(f, "\x81\x05hello", 7); /* a client must mask */
    assert_null(f->ws);
    assert_string_equal(cg_buf_cstr(&f->log), "GET /w()/wclosed");
}

static void websocket_without_its_headers_is_refused(void **state)
{
    struct fixture *f = *state;
    send_text(f,
              "GET /w HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              "Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_non_null(strstr(got(f), " 400 "));
    assert_null(f->ws);
}

static void websocket_closed_by_us_waits_for_the_client_and_then_ends(void **state)
{
    struct fixture *f = *state;
    send_text(f, upgrade);
    cg_buf_clear(&f->got);
    cg_ws_close(f->ws, 1001, "bye");
    turn(f);
    assert_memory_equal(f->got.p,
                        "\x88\x05\x03\xe9"
                        "bye",
                        7);
    assert_non_null(f->ws);
    send_bytes(f, "\x88\x82\0\0\0\0\x03\xe9", 8);
    assert_null(f->ws);
}

#define HTTP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(a_stream_means_the_same_however_it_is_cut),
        HTTP_TEST(requests_behind_one_that_is_not_answered_wait),
        HTTP_TEST(a_paused_body_holds_the_client_back),
        HTTP_TEST(drain_comes_when_all_that_was_queued_is_out),
        HTTP_TEST(an_old_client_gets_no_chunks_but_the_end),
        HTTP_TEST(a_client_that_goes_away_aborts_its_request_once),
        HTTP_TEST(a_body_that_is_cut_aborts_and_never_ends),
        HTTP_TEST(a_body_over_its_maximum_is_413_and_its_rest_is_dropped),
        HTTP_TEST(chunks_beyond_the_maximum_are_413_too),
        HTTP_TEST(expect_is_answered_before_the_body),
        HTTP_TEST(wrong_queries_are_no_values),
        HTTP_TEST(quiesce_lets_a_request_finish_and_ends_the_rest),
        HTTP_TEST(websocket_shakes_hands_as_rfc_6455_has_it),
        HTTP_TEST(websocket_messages_come_and_go_whole),
        HTTP_TEST(websocket_rubbish_closes_it),
        HTTP_TEST(websocket_without_its_headers_is_refused),
        HTTP_TEST(websocket_closed_by_us_waits_for_the_client_and_then_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
