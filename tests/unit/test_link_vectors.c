/* The golden vectors of tests/vectors/link drive both ends of the link: what every frame looks like
 * in bytes, what each side says and is told in a conversation, and which broken rule ends it. Bytes
 * are hex with blanks anywhere; "." stands for any nibble. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "link/frame.h"
#include "link/link.h"

static struct cg_link_stream *current; /* the stream opened last */
static struct cg_buf calls;

static void called(const char *text)
{
    cg_buf_addf(&calls, "%s%s", calls.n ? ", " : "", text);
}

static void on_hello(void *ctx, const struct cg_json *hello)
{
    (void)ctx;
    (void)hello;
    called("hello");
}

static void on_open(void *ctx, struct cg_link_stream *s, const struct cg_json *request)
{
    (void)ctx;
    current = s;
    called("open ");
    cg_buf_adds(&calls, cg_json_str(request, "kind"));
}

static void on_accept(void *ctx, struct cg_link_stream *s, const struct cg_json *info)
{
    (void)ctx;
    (void)info;
    assert_ptr_equal(s, current);
    called("accept");
}

static void on_data(void *ctx, struct cg_link_stream *s, unsigned channel, struct cg_slice data)
{
    (void)ctx;
    (void)s;
    called("data ");
    cg_buf_addf(&calls, "%u %.*s", channel, (int)data.n, data.p);
}

static void on_eof(void *ctx, struct cg_link_stream *s, unsigned channel)
{
    (void)ctx;
    (void)s;
    called("eof ");
    cg_buf_addf(&calls, "%u", channel);
}

/* Vectors have messages of at most one member. */
static void describe(const char *what, const struct cg_json *m)
{
    called(what);
    if (m->child && m->child->type == CG_JSON_STR)
        cg_buf_addf(&calls, " {\"%s\":\"%s\"}", m->child->key.p, m->child->str.p);
    else if (m->child)
        cg_buf_addf(&calls, " {\"%s\":%lld}", m->child->key.p, (long long)m->child->integer);
    else
        cg_buf_adds(&calls, " {}");
}

static void on_control(void *ctx, struct cg_link_stream *s, const struct cg_json *message)
{
    (void)ctx;
    (void)s;
    describe("control", message);
}

static void on_close(void *ctx, struct cg_link_stream *s, const struct cg_json *result)
{
    (void)ctx;
    (void)s;
    if (result)
        describe("close", result);
    else
        called("cancel");
}

static void on_pong(void *ctx, uint64_t token, int64_t peer_mono_ns)
{
    (void)ctx;
    called("pong ");
    cg_buf_addf(&calls, "%llu %lld", (unsigned long long)token, (long long)peer_mono_ns);
}

static const struct cg_link_handlers handlers = {
    .on_hello = on_hello,
    .on_open = on_open,
    .on_accept = on_accept,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_control = on_control,
    .on_close = on_close,
    .on_pong = on_pong,
};

static struct cg_json *load(const char *name)
{
    char path[512];
    cg_snprintf(path, sizeof path, "%s/%s", VECTORS, name);
    char *text = NULL;
    size_t n;
    assert_true(cg_fs_slurp(path, 1 << 20, &text, &n, NULL));
    struct cg_json *j = cg_json_parse((struct cg_slice){text, n}, NULL, NULL);
    assert_non_null(j);
    free(text);
    return j;
}

static unsigned nibble(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static size_t from_hex(const char *hex, unsigned char *out, size_t max)
{
    size_t n = 0;
    bool high = true;
    for (; *hex; hex++) {
        if (*hex == ' ')
            continue;
        assert_true(n < max);
        out[n] = (unsigned char)(high ? nibble(*hex) << 4 : out[n] | nibble(*hex));
        n += !high;
        high = !high;
    }
    assert_true(high);
    return n;
}

static void assert_bytes(const char *where, const char *want, struct cg_slice got)
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    for (; *want; want++) {
        if (*want == ' ')
            continue;
        if (at / 2 >= got.n)
            fail_msg("%s: the output ends after %zu bytes", where, got.n);
        unsigned char b = (unsigned char)got.p[at / 2];
        char is = digits[at % 2 ? b & 15 : b >> 4];
        if (*want != '.' && *want != is)
            fail_msg("%s: byte %zu is %02x", where, at / 2, b);
        at++;
    }
    assert_int_equal(at / 2, got.n);
}

static void every_frame_is_these_bytes_and_these_bytes_are_this_frame(void **state)
{
    (void)state;
    struct cg_json *root = load("frames.json");
    unsigned count = 0;
    for (const struct cg_json *v = cg_json_get(root, "frames")->child; v; v = v->next, count++) {
        unsigned char bytes[256];
        size_t n = from_hex(cg_json_str(v, "hex"), bytes, sizeof bytes);
        struct cg_frame f = cg_frame_get(bytes);
        assert_int_equal(f.length, cg_json_int(v, "length", -1));
        assert_int_equal(f.length, n - CG_LINK_HEADER);
        assert_int_equal(f.stream, cg_json_int(v, "stream", -1));
        assert_int_equal(f.type, cg_json_int(v, "type", -1));
        assert_int_equal(f.flags, cg_json_int(v, "flags", -1));
        unsigned char again[CG_LINK_HEADER];
        cg_frame_put(again, f);
        assert_memory_equal(again, bytes, sizeof again);
    }
    assert_true(count >= CG_FRAME_TYPES - 1);
    cg_json_destroy(root);
}

static void act(struct cg_link *l, const char *what, const struct cg_json *step)
{
    const char *text = cg_json_str(step, "text");
    struct cg_slice bytes = cg_slice_of(text ? text : "");
    unsigned channel = (unsigned)cg_json_int(step, "channel", 0);
    if (strcmp(what, "open") == 0)
        current = cg_link_open(l, bytes, NULL, NULL);
    else if (strcmp(what, "accept") == 0)
        cg_link_accept(current, bytes);
    else if (strcmp(what, "send") == 0)
        assert_int_equal(cg_link_send(current, channel, bytes.p, bytes.n), bytes.n);
    else if (strcmp(what, "eof") == 0)
        cg_link_eof(current, channel);
    else if (strcmp(what, "control") == 0)
        cg_link_control(current, bytes);
    else if (strcmp(what, "close") == 0)
        cg_link_close(current, bytes);
    else if (strcmp(what, "cancel") == 0)
        cg_link_cancel(current, false);
    else if (strcmp(what, "ping") == 0)
        cg_link_ping(l, channel);
    else
        fail_msg("unknown action %s", what);
}

/* Feeds in pieces of `cut` bytes: the result must not depend on them. */
static bool feed(struct cg_link *l, const char *hex, size_t cut, struct cg_err *e)
{
    unsigned char bytes[4096];
    size_t n = from_hex(hex, bytes, sizeof bytes);
    for (size_t at = 0; at < n; at += cut) {
        if (!cg_link_feed(l, (const char *)bytes + at, CG_MIN(cut, n - at), e))
            return false;
    }
    return true;
}

static void walk_step(struct cg_link *l, const struct cg_json *step, size_t cut, const char *where)
{
    struct cg_err e = CG_ERR_INIT;
    const char *in = cg_json_str(step, "in");
    const char *broken = cg_json_str(step, "broken");
    const char *what = cg_json_str(step, "do");
    const char *out = cg_json_str(step, "out");
    const char *told = cg_json_str(step, "calls");
    if (what)
        act(l, what, step);
    if (in && broken) {
        assert_false(feed(l, in, cut, &e));
        if (!strstr(e.text, broken))
            fail_msg("%s: \"%s\" does not say \"%s\"", where, e.text, broken);
        assert_int_equal(e.code, CG_PROTOCOL);
        assert_true(cg_link_dead(l));
    } else if (in && !feed(l, in, cut, &e)) {
        fail_msg("%s: %s", where, e.text);
    }
    if (told)
        assert_string_equal(cg_buf_cstr(&calls), told);
    cg_buf_clear(&calls);
    if (!out)
        return;
    struct cg_slice got = cg_link_output(l);
    assert_bytes(where, out, got);
    cg_link_wrote(l, got.n);
    assert_int_equal(cg_link_output(l).n, 0);
}

static void both_ends_say_and_are_told_what_the_vectors_say(void **state)
{
    (void)state;
    static const size_t cuts[] = {1, 7, 4096};
    struct cg_json *root = load("conversations.json");
    cg_buf_init(&calls, 65536);
    for (size_t i = 0; i < CG_COUNT(cuts); i++) {
        for (const struct cg_json *v = cg_json_get(root, "conversations")->child; v; v = v->next) {
            bool opener = strcmp(cg_json_str(v, "side"), "opener") == 0;
            struct cg_link *l = cg_link_create(opener, NULL, &handlers, NULL);
            current = NULL;
            for (const struct cg_json *s = cg_json_get(v, "steps")->child; s; s = s->next)
                walk_step(l, s, cuts[i], cg_json_str(v, "name"));
            cg_link_destroy(l);
        }
    }
    cg_buf_finish(&calls);
    cg_json_destroy(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_is_these_bytes_and_these_bytes_are_this_frame),
        cmocka_unit_test(both_ends_say_and_are_told_what_the_vectors_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
