/* Promises of the link: order, credit, fairness, bounds; and two ends talking through random cuts.
 */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "link/frame.h"
#include "link/link.h"

struct end {
    struct cg_link *link;
    unsigned opened, accepted, closed, hellos, controls, eofs, writable;
    size_t bytes;
    char last[256];
    bool grant; /* give credit back at once */
    bool echo;  /* acceptor: send data back */
    struct cg_link_stream *stream;
    uint64_t pong;
    unsigned char nonce[CG_LINK_NONCE];
};

static void on_hello(void *ctx, const struct cg_json *hello)
{
    (void)hello;
    ((struct end *)ctx)->hellos++;
}

static void on_open(void *ctx, struct cg_link_stream *s, const struct cg_json *request)
{
    struct end *e = ctx;
    assert_non_null(cg_json_str(request, "kind"));
    e->opened++;
    e->stream = s;
    cg_link_accept(s, cg_slice_of("{\"pid\":1}"));
}

static void on_accept(void *ctx, struct cg_link_stream *s, const struct cg_json *info)
{
    (void)s;
    assert_int_equal(cg_json_int(info, "pid", 0), 1);
    ((struct end *)ctx)->accepted++;
}

static void on_data(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice data)
{
    struct end *e = ctx;
    e->bytes += data.n;
    if (e->echo)
        assert_int_equal(cg_link_send(s, CG_LINK_STDOUT, data.p, data.n), data.n);
    if (e->grant)
        cg_link_grant(s, data.n);
    (void)channel;
}

static void on_eof(void *ctx, struct cg_link_stream *s, unsigned channel)
{
    struct end *e = ctx;
    e->eofs++;
    (void)channel;
    if (e->echo)
        cg_link_close(s, cg_slice_of("{\"exit_code\":0}"));
}

static void on_control(void *ctx, struct cg_link_stream *s, const struct cg_json *m)
{
    (void)s;
    (void)m;
    ((struct end *)ctx)->controls++;
}

static void on_writable(void *ctx, struct cg_link_stream *s)
{
    (void)s;
    ((struct end *)ctx)->writable++;
}

static void on_close(void *ctx, struct cg_link_stream *s, const struct cg_json *result)
{
    struct end *e = ctx;
    e->closed++;
    if (result)
        cg_strlcpy(e->last, sizeof e->last,
                   cg_json_get(result, "error") ? cg_json_str(cg_json_get(result, "error"), "text")
                                                : "fine");
    else
        cg_link_close(s, cg_slice_of("{}"));
}

static void on_pong(void *ctx, uint64_t token, int64_t peer)
{
    (void)peer;
    ((struct end *)ctx)->pong = token;
}

static void on_reset(void *ctx, const unsigned char nonce[CG_LINK_NONCE])
{
    memcpy(((struct end *)ctx)->nonce, nonce, CG_LINK_NONCE);
}

static const struct cg_link_handlers handlers = {
    .on_pong = on_pong,
    .on_reset = on_reset,
    .on_hello = on_hello,
    .on_open = on_open,
    .on_accept = on_accept,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_control = on_control,
    .on_writable = on_writable,
    .on_close = on_close,
};

static void start(struct end *a, struct end *b)
{
    *a = (struct end){.grant = true};
    *b = (struct end){.grant = true};
    a->link = cg_link_create(true, NULL, &handlers, a);
    b->link = cg_link_create(false, NULL, &handlers, b);
}

static void stop(struct end *a, struct end *b)
{
    cg_link_destroy(a->link);
    cg_link_destroy(b->link);
}

static size_t move(struct end *from, struct end *to, size_t most)
{
    struct cg_slice out = cg_link_output(from->link);
    size_t n = CG_MIN(out.n, most);
    if (n == 0)
        return 0;
    char *copy = cg_alloc(n);
    memcpy(copy, out.p, n);
    cg_link_wrote(from->link, n);
    struct cg_err e = CG_ERR_INIT;
    bool ok = cg_link_feed(to->link, copy, n, &e);
    free(copy);
    if (!ok)
        fail_msg("%s", e.text);
    return n;
}

static void settle(struct end *a, struct end *b)
{
    while (move(a, b, SIZE_MAX) + move(b, a, SIZE_MAX) > 0)
        ;
}

static void a_stream_opens_carries_bytes_and_closes(void **state)
{
    (void)state;
    struct end a, b;
    start(&a, &b);
    b.echo = true;
    struct cg_err e = CG_ERR_INIT;
    struct cg_link_stream *s = cg_link_open(a.link, cg_slice_of("{\"kind\":\"exec\"}"), NULL, &e);
    assert_non_null(s);
    assert_int_equal(cg_link_send(s, CG_LINK_STDIN, "hello", 5), 5);
    assert_int_equal(cg_link_send(s, CG_LINK_STDIN, " you", 4), 4);
    cg_link_eof(s, CG_LINK_STDIN);
    settle(&a, &b);
    assert_int_equal(a.hellos + b.hellos, 2);
    assert_int_equal(b.opened, 1);
    assert_int_equal(a.accepted, 1);
    assert_int_equal(a.bytes, 9);
    assert_int_equal(a.closed, 1);
    assert_string_equal(a.last, "fine");
    assert_int_equal(cg_link_stream_count(a.link), 0);
    assert_int_equal(cg_link_stream_count(b.link), 0);
    stop(&a, &b);
}

static void a_receiver_that_does_not_grant_stops_the_sender_at_one_window(void **state)
{
    (void)state;
    struct end a, b;
    start(&a, &b);
    b.grant = false;
    struct cg_err e = CG_ERR_INIT;
    struct cg_link_stream *s = cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e);
    static char block[100000];
    size_t sent = 0;
    for (int i = 0; i < 20; i++) {
        sent += cg_link_send(s, 0, block, sizeof block);
        settle(&a, &b);
    }
    assert_int_equal(sent, CG_LINK_WINDOW);
    assert_int_equal(b.bytes, CG_LINK_WINDOW);
    assert_int_equal(cg_link_room(s), 0);
    cg_link_grant(b.stream, CG_LINK_WINDOW);
    settle(&a, &b);
    assert_int_equal(a.writable, 1);
    assert_int_equal(cg_link_room(s), CG_LINK_WINDOW);
    stop(&a, &b);
}

static void a_flood_on_one_stream_does_not_delay_another(void **state)
{
    (void)state;
    struct end a, b;
    start(&a, &b);
    struct cg_err e = CG_ERR_INIT;
    struct cg_link_stream *flood = cg_link_open(a.link, cg_slice_of("{\"kind\":\"f\"}"), NULL, &e);
    struct cg_link_stream *quick = cg_link_open(a.link, cg_slice_of("{\"kind\":\"q\"}"), NULL, &e);
    settle(&a, &b);
    static char block[CG_LINK_WINDOW];
    assert_int_equal(cg_link_send(flood, 0, block, sizeof block), sizeof block);
    assert_int_equal(cg_link_send(quick, 0, "x", 1), 1);
    cg_link_eof(quick, 0);
    /* the two small frames are out within the first turns: one frame of the flood before each */
    size_t moved = 0;
    while (b.eofs == 0)
        moved += move(&a, &b, 1000);
    assert_true(moved < 4 * (CG_LINK_MAX_DATA + CG_LINK_HEADER));
    stop(&a, &b);
}

/* The queue of a stream whose reader is slow is never empty, yet must not grow by what went out. */
static void a_stream_that_is_never_drained_carries_any_number_of_bytes(void **state)
{
    (void)state;
    struct end a;
    struct end b;
    start(&a, &b);
    struct cg_err e = CG_ERR_INIT;
    struct cg_link_stream *s = cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e);
    assert_non_null(s);
    settle(&a, &b);
    static char bytes[64 * 1024];
    size_t sent = 0;
    while (sent < (size_t)32 << 20) {
        sent += cg_link_send(s, 0, bytes, sizeof bytes);
        while (cg_link_pending(s) > 100000 && move(&a, &b, SIZE_MAX) > 0)
            move(&b, &a, SIZE_MAX);
        assert_false(cg_link_dead(a.link));
    }
    stop(&a, &b);
}

static void cancel_is_answered_and_the_number_is_free_again(void **state)
{
    (void)state;
    struct end a, b;
    start(&a, &b);
    struct cg_err e = CG_ERR_INIT;
    struct cg_link_stream *s = cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e);
    settle(&a, &b);
    cg_link_cancel(s, false);
    settle(&a, &b);
    assert_int_equal(b.closed, 1);
    assert_int_equal(a.closed, 1);
    assert_int_equal(cg_link_stream_count(a.link) + cg_link_stream_count(b.link), 0);
    stop(&a, &b);
}

static void streams_are_limited_in_number(void **state)
{
    (void)state;
    struct end a, b;
    start(&a, &b);
    struct cg_err e = CG_ERR_INIT;
    for (int i = 0; i < CG_LINK_MAX_STREAMS; i++)
        assert_non_null(cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e));
    assert_null(cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e));
    assert_int_equal(e.code, CG_LIMIT);
    settle(&a, &b);
    assert_int_equal(b.opened, CG_LINK_MAX_STREAMS);
    stop(&a, &b);
}

static size_t frame(char *out, unsigned stream, unsigned type, unsigned flags, const char *payload)
{
    size_t n = strlen(payload);
    cg_frame_put((unsigned char *)out,
                 (struct cg_frame){(uint32_t)n, (uint16_t)stream, (uint8_t)type, (uint8_t)flags});
    memcpy(out + CG_LINK_HEADER, payload, n);
    return n + CG_LINK_HEADER;
}

static void broken_rules_end_the_link_and_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *says;
        unsigned stream, type, flags;
        const char *payload;
        bool hello_first;
    } cases[] = {
        {"HELLO must come first", 1, CG_FRAME_OPEN, 0, "{\"kind\":\"x\"}", false},
        {"HELLO twice", 0, CG_FRAME_HELLO, 0, "{\"v\":1}", true},
        {"another version", 0, CG_FRAME_HELLO, 0, "{\"v\":2}", false},
        {"unknown frame", 1, 99, 0, "", true},
        {"JSON", 1, CG_FRAME_OPEN, 0, "{\"kind\":", true},
        {"not a JSON object", 1, CG_FRAME_OPEN, 0, "[]", true},
        {"wrong side", 7, CG_FRAME_CLOSE, 0, "{}", true},
        {"flags", 7, CG_FRAME_CREDIT, 1, "abcd", true},
        {"bad CREDIT", 7, CG_FRAME_CREDIT, 0, "\1\0\0\0", true},
        {"empty DATA", 7, CG_FRAME_DATA, 0, "", true},
        {"channel", 7, CG_FRAME_DATA, 3, "x", true},
        {"stream in use", 7, CG_FRAME_OPEN, 0, "{\"kind\":\"x\"}", true},
        {"PING must", 0, CG_FRAME_PING, 0, "short", true},
    };
    for (size_t i = 0; i < CG_COUNT(cases); i++) {
        struct end b = {.grant = true};
        b.link = cg_link_create(false, NULL, &handlers, &b);
        char bytes[256];
        struct cg_err e = CG_ERR_INIT;
        if (cases[i].hello_first) {
            size_t n = frame(bytes, 0, CG_FRAME_HELLO, 0, "{\"v\":1}");
            n += frame(bytes + n, 7, CG_FRAME_OPEN, 0, "{\"kind\":\"x\"}");
            assert_true(cg_link_feed(b.link, bytes, n, &e));
        }
        size_t n = frame(bytes, cases[i].stream, cases[i].type, cases[i].flags, cases[i].payload);
        if (cg_link_feed(b.link, bytes, n, &e))
            fail_msg("accepted: %s", cases[i].says);
        assert_int_equal(e.code, CG_PROTOCOL);
        if (!strstr(e.text, cases[i].says))
            fail_msg("expected \"%s\" in \"%s\"", cases[i].says, e.text);
        assert_true(cg_link_dead(b.link));
        cg_link_destroy(b.link);
    }
}

static void an_oversized_frame_is_refused_by_its_header_alone(void **state)
{
    (void)state;
    struct end b = {.grant = true};
    b.link = cg_link_create(false, NULL, &handlers, &b);
    char bytes[64];
    struct cg_err e = CG_ERR_INIT;
    size_t n = frame(bytes, 0, CG_FRAME_HELLO, 0, "{\"v\":1}");
    assert_true(cg_link_feed(b.link, bytes, n, &e));
    cg_frame_put((unsigned char *)bytes,
                 (struct cg_frame){CG_LINK_MAX_DATA + 1, 1, CG_FRAME_DATA, 0});
    assert_false(cg_link_feed(b.link, bytes, CG_LINK_HEADER, &e));
    assert_non_null(strstr(e.text, "over its maximum"));
    cg_link_destroy(b.link);
}

static void a_dead_transport_is_told_to_every_stream_once(void **state)
{
    (void)state;
    struct end a, b;
    start(&a, &b);
    struct cg_err e = CG_ERR_INIT;
    for (int i = 0; i < 3; i++)
        assert_non_null(cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e));
    settle(&a, &b);
    cg_fail(&e, CG_CLOSED, "the guest is gone");
    cg_link_fail(a.link, &e);
    cg_link_fail(b.link, &e);
    assert_int_equal(a.closed, 3);
    assert_string_equal(a.last, "the guest is gone");
    assert_int_equal(b.closed, 3);
    assert_int_equal(cg_link_stream_count(a.link) + cg_link_stream_count(b.link), 0);
    assert_null(cg_link_open(a.link, cg_slice_of("{}"), NULL, &e));
    stop(&a, &b);
}

static void held_streams_wait_and_a_ping_finds_the_other_side_at_the_end_of_a_frame(void **state)
{
    (void)state;
    struct end a, b;
    start(&a, &b);
    struct cg_err e = CG_ERR_INIT;
    struct cg_link_stream *s = cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e);
    settle(&a, &b);
    assert_int_equal(cg_link_send(s, CG_LINK_STDIN, "before", 6), 6);
    move(&a, &b, 3); /* in the middle of a frame */
    cg_link_hold(a.link, true);
    assert_int_equal(cg_link_send(s, CG_LINK_STDIN, "later", 5), 5);
    cg_link_ping(a.link, 7);
    settle(&a, &b);
    assert_int_equal(a.pong, 7);
    assert_int_equal(b.bytes, 6);
    cg_link_hold(a.link, false);
    settle(&a, &b);
    assert_int_equal(b.bytes, 11);
    stop(&a, &b);
}

static void a_reset_ends_every_stream_and_takes_nothing_more(void **state)
{
    (void)state;
    struct end a, b;
    start(&a, &b);
    struct cg_err e = CG_ERR_INIT;
    assert_non_null(cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e));
    settle(&a, &b);
    unsigned char nonce[CG_LINK_NONCE], frame[CG_LINK_RESET];
    memset(nonce, 0x5a, sizeof nonce);
    cg_link_reset_frame(nonce, frame);
    for (size_t i = 0; i < sizeof frame; i++)
        assert_true(cg_link_feed(b.link, (const char *)frame + i, 1, &e));
    assert_memory_equal(b.nonce, nonce, sizeof nonce);
    assert_int_equal(b.closed, 1);
    assert_true(cg_link_dead(b.link));
    assert_false(cg_link_feed(b.link, "x", 1, &e));
    assert_false(cg_link_feed(a.link, (const char *)frame, sizeof frame, &e)); /* to an opener */
    assert_int_equal(e.code, CG_PROTOCOL);
    stop(&a, &b);
}

static void random_traffic_in_random_cuts_arrives_whole(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 30; seed++) {
        unsigned r = seed * 2654435761U;
        struct end a, b;
        start(&a, &b);
        struct cg_link_stream *s[8] = {NULL};
        struct cg_err e = CG_ERR_INIT;
        size_t sent = 0;
        static char block[70000];
        for (int step = 0; step < 3000; step++) {
            r = r * 1664525 + 1013904223;
            unsigned k = r >> 8 & 7;
            if (!s[k])
                s[k] = cg_link_open(a.link, cg_slice_of("{\"kind\":\"x\"}"), NULL, &e);
            else if (r >> 28 < 8)
                sent += cg_link_send(s[k], 0, block, r >> 12 & 0xffff);
            if (r >> 20 & 1)
                move(&a, &b, (r >> 4 & 0xfff) + 1);
            if (r >> 21 & 1)
                move(&b, &a, (r >> 5 & 0xff) + 1);
        }
        settle(&a, &b);
        assert_int_equal(b.bytes, sent);
        stop(&a, &b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_opens_carries_bytes_and_closes),
        cmocka_unit_test(a_receiver_that_does_not_grant_stops_the_sender_at_one_window),
        cmocka_unit_test(a_flood_on_one_stream_does_not_delay_another),
        cmocka_unit_test(a_stream_that_is_never_drained_carries_any_number_of_bytes),
        cmocka_unit_test(cancel_is_answered_and_the_number_is_free_again),
        cmocka_unit_test(streams_are_limited_in_number),
        cmocka_unit_test(broken_rules_end_the_link_and_are_named),
        cmocka_unit_test(an_oversized_frame_is_refused_by_its_header_alone),
        cmocka_unit_test(a_dead_transport_is_told_to_every_stream_once),
        cmocka_unit_test(held_streams_wait_and_a_ping_finds_the_other_side_at_the_end_of_a_frame),
        cmocka_unit_test(a_reset_ends_every_stream_and_takes_nothing_more),
        cmocka_unit_test(random_traffic_in_random_cuts_arrives_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
