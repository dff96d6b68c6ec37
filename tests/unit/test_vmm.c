/* Promises of the VMM layer that need no guest: versions, command lines, a control client that no
 * VMM can hurt (played here on the other end of a socket pair), and a probe that always comes back
 * (with small programs in the VMM's place). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "check.h"
#include "vmm/driver.h"
#include "vmm/probe.h"

/* ---- versions ---- */

static bool version(const char *text)
{
    struct cg_err e = CG_ERR_INIT;
    return cg_vmm_version_ok(cg_vmm_driver("qemu"), text, &e);
}

static void old_and_vulnerable_versions_are_refused(void **state)
{
    (void)state;
    assert_true(version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)"));
    assert_true(version("QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1.4)"));
    assert_true(version("QEMU emulator version 10.0.2"));
    assert_false(version("QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6)"));
    assert_false(version("QEMU emulator version 7.2.9"));
    assert_false(version("QEMU emulator version 8.2.2"));
    assert_false(version("something else 9.1.0"));
    assert_false(version("QEMU emulator version x"));
    assert_false(version(""));
    struct cg_err e = CG_ERR_INIT;
    assert_false(cg_vmm_version_ok(cg_vmm_driver("qemu"), "QEMU emulator version 6.2.0", &e));
    assert_int_equal(e.code, CG_UNSUPPORTED);
    assert_non_null(strstr(e.text, "qemu-system-x86"));
}

/* ---- command line ---- */

static const struct cg_vmm_launch shape = {
    .accel = CG_ACCEL_TCG,
    .vcpus = 2,
    .mem_mib = 512,
    .tsc_khz = 2600000,
    .kernel = 3,
    .initramfs = 4,
    .base = 5,
    .disk_rw = 6,
    .disk_ro = 7,
    .tap = 8,
    .link = 9,
    .control = 10,
    .console = 11,
    .ram = -1,
};

static char *line_of(const struct cg_vmm_launch *l)
{
    struct cg_vmm_args a;
    struct cg_buf b;
    assert_true(cg_vmm_args_build(cg_vmm_driver(NULL), "/usr/bin/vmm", l, &a, NULL));
    assert_null(a.argv[a.n]);
    cg_buf_init(&b, 65536);
    for (unsigned i = 0; i < a.n; i++)
        cg_buf_addf(&b, "%s ", a.argv[i]);
    cg_vmm_args_finish(&a);
    return cg_buf_take(&b);
}

static void command_line_has_what_keeps_boots_from_hanging(void **state)
{
    (void)state;
    CG_OWN(cg_drop_free) char *tcg = line_of(&shape);
    assert_true(cg_has_prefix(tcg, "/usr/bin/vmm -M microvm,rtc=on,pit=off,pic=off"));
    assert_non_null(strstr(tcg, " tsc_early_khz=2600000"));
    assert_int_equal(strstr(tcg, " tsc=reliable") != NULL, cg_vmm_tsc_is_steady());
    assert_non_null(strstr(tcg, " clearcpuid=cx16"));
    assert_non_null(strstr(tcg, shape.mem_mib <= 512 ? "tb-size=32 " : "tb-size=128 "));
    assert_non_null(strstr(tcg, "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny"));
    assert_null(strstr(tcg, "pci"));
    assert_non_null(strstr(tcg, "memory-backend-ram,id=ram,size="));
    struct cg_vmm_launch clone = shape;
    clone.ram = 12;
    clone.incoming = true;
    CG_OWN(cg_drop_free) char *copy = line_of(&clone);
    assert_non_null(strstr(copy, "mem-path=/proc/self/fd/12,share=off"));
    assert_non_null(strstr(copy, " -S -incoming defer "));
    clone.ram_shared = true;
    clone.incoming = false;
    CG_OWN(cg_drop_free) char *golden = line_of(&clone);
    assert_non_null(strstr(golden, "mem-path=/proc/self/fd/12,share=on"));
    assert_null(strstr(golden, "-incoming"));
    struct cg_vmm_launch l = shape;
    l.accel = CG_ACCEL_KVM;
    l.mem_mib = 4096;
    CG_OWN(cg_drop_free) char *kvm = line_of(&l);
    assert_non_null(strstr(kvm, "-accel kvm -cpu host "));
    assert_null(strstr(kvm, "clearcpuid"));
}

static void shapes_out_of_range_are_refused(void **state)
{
    (void)state;
    const struct {
        uint32_t vcpus, mem_mib;
    } bad[] = {{0, 512}, {9, 512}, {1, 127}, {1, 8193}};
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        struct cg_vmm_args a;
        struct cg_err e = CG_ERR_INIT;
        struct cg_vmm_launch l = shape;
        l.vcpus = bad[i].vcpus;
        l.mem_mib = bad[i].mem_mib;
        assert_false(cg_vmm_args_build(cg_vmm_driver(NULL), "vmm", &l, &a, &e));
        assert_int_equal(e.code, CG_INVALID);
        assert_int_equal(a.n, 0);
    }
}

static void tsc_rate_is_measured_within_a_thousandth(void **state)
{
    (void)state;
    uint64_t one = cg_vmm_tsc_khz(), two = cg_vmm_tsc_khz();
    if (one == 0)
        skip();
    assert_in_range(two, one - one / 1000, one + one / 1000);
}

/* ---- control: we are the VMM ---- */

struct seen {
    uv_loop_t loop;
    struct cg_vmm *vm;
    int peer;
    int done[8]; /* how often each request was answered */
    enum cg_code code[8];
    enum cg_vmm_state state;
    int events[8];
    int gone;
    enum cg_code gone_code;
    bool destroy_in_done, destroy_in_event;
};

struct slot {
    struct seen *s;
    int n;
};

static struct slot slots[64];

static void on_event(void *ctx, enum cg_vmm_event event)
{
    struct seen *s = ctx;
    s->events[event]++;
    if (s->destroy_in_event) {
        cg_vmm_destroy(s->vm);
        s->vm = NULL;
    }
}

static void on_gone(void *ctx, const struct cg_err *why)
{
    struct seen *s = ctx;
    s->gone++;
    s->gone_code = why->code;
}

static void on_done(void *ctx, const struct cg_err *err)
{
    struct slot *slot = ctx;
    struct seen *s = slot->s;
    s->done[slot->n]++;
    s->code[slot->n] = err ? err->code : CG_OK;
    if (s->destroy_in_done) {
        s->destroy_in_done = false;
        cg_vmm_destroy(s->vm);
        s->vm = NULL;
    }
}

static void on_state(void *ctx, enum cg_vmm_state vm_state, const struct cg_err *err)
{
    struct slot *slot = ctx;
    slot->s->state = vm_state;
    on_done(ctx, err);
}

static void *slot_of(struct seen *s, int n)
{
    slots[n] = (struct slot){s, n};
    return &slots[n];
}

static void begin(struct seen *s)
{
    int ends[2];
    struct cg_err e = CG_ERR_INIT;
    *s = (struct seen){.peer = -1};
    assert_int_equal(uv_loop_init(&s->loop), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    s->peer = ends[1];
    s->vm = cg_vmm_attach(&s->loop, cg_vmm_driver("qemu"), ends[0],
                          &(struct cg_vmm_handlers){on_event, on_gone}, s, &e);
    assert_non_null(s->vm);
}

static void turn(struct seen *s)
{
    for (int i = 0; i < 20; i++)
        uv_run(&s->loop, UV_RUN_NOWAIT);
}

static void finish(struct seen *s)
{
    cg_vmm_destroy(s->vm);
    close(s->peer);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&s->loop), 0);
}

static void say(struct seen *s, const char *text)
{
    assert_true(cg_fd_write_full(s->peer, text, strlen(text), NULL));
    turn(s);
}

static void greet(struct seen *s)
{
    char line[4096];
    say(s, "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, \"capabilities\": []}}\r\n");
    ssize_t n = read(s->peer, line, sizeof line - 1);
    assert_true(n > 0);
    line[n] = '\0';
    assert_string_equal(line, "{\"execute\":\"qmp_capabilities\",\"id\":0}\n");
    say(s, "{\"return\": {}, \"id\": 0}\r\n");
}

static bool heard(struct seen *s, const char *text)
{
    static char line[65536];
    turn(s);
    ssize_t n = recv(s->peer, line, sizeof line - 1, MSG_DONTWAIT);
    line[n > 0 ? n : 0] = '\0';
    return strstr(line, text) != NULL;
}

static void requests_are_answered_once_each_in_their_own_names(void **state)
{
    (void)state;
    struct seen s;
    begin(&s);
    /* before the greeting: they wait */
    assert_true(cg_vmm_pause(s.vm, on_done, slot_of(&s, 1), NULL));
    assert_false(heard(&s, "stop"));
    greet(&s);
    assert_true(heard(&s, "{\"execute\":\"stop\",\"id\":1}\n"));
    assert_true(cg_vmm_status(s.vm, on_state, slot_of(&s, 2), NULL));
    assert_true(cg_vmm_block_resize(s.vm, 1ull << 33, on_done, slot_of(&s, 3), NULL));
    assert_true(cg_vmm_resume(s.vm, on_done, slot_of(&s, 4), NULL));
    assert_int_equal(s.done[2], 0);
    assert_true(heard(&s, "\"arguments\":{\"node-name\":\"disk\",\"size\":8589934592}"));
    say(&s, "{\"return\":{},\"id\":4}\n{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such "
            "node\"},\"id\":3}\n{\"return\":{\"status\":\"paused\",\"running\":false},\"id\":2}\n");
    say(&s, "{\"return\":{},\"id\":1}\n{\"return\":{},\"id\":1}\n{\"return\":{},\"id\":4}\n");
    for (int i = 1; i <= 4; i++)
        assert_int_equal(s.done[i], 1);
    assert_int_equal(s.code[3], CG_CONFLICT);
    assert_int_equal(s.code[4], CG_OK);
    assert_int_equal(s.state, CG_VMM_PAUSED);
    assert_int_equal(s.gone, 0);
    finish(&s);
    assert_int_equal(s.gone, 0);
}

static void events_of_the_guest_are_told_apart(void **state)
{
    (void)state;
    struct seen s;
    begin(&s);
    greet(&s);
    say(&s, "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}}\n"
            "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\n"
            "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":false,\"reason\":\"host-qmp-quit\"}}\n"
            "{\"event\":\"STOP\"}\n{\"event\":\"WHATEVER\",\"data\":[]}\n{\"event\":\"RESUME\"}\n"
            "{\"event\":\"BLOCK_IO_ERROR\",\"data\":{}}\n");
    assert_int_equal(s.events[CG_VMM_EVENT_GUEST_OFF], 1);
    assert_int_equal(s.events[CG_VMM_EVENT_GUEST_RESET], 1);
    assert_int_equal(s.events[CG_VMM_EVENT_PAUSED], 1);
    assert_int_equal(s.events[CG_VMM_EVENT_RESUMED], 1);
    assert_int_equal(s.events[CG_VMM_EVENT_DISK_ERROR], 1);
    finish(&s);
}

static void vmm_that_breaks_the_protocol_is_gone_once(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"return\":{},\"id\":99}\n",
        "{\"return\":{},\"id\":-1}\n",
        "{\"return\":{}}\n",
        "{\"id\":1}\n",
        "[1,2]\n",
        "not json\n",
        "{\"event\":\"STOP\",\"event\":\"STOP\"}\n",
        "{\"return\":{},\"id\":0}\n",
        "\x00\x01\n{}\n",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
    };
    for (size_t i = 0; i < CG_COUNT(bad); i++) {
        struct seen s;
        begin(&s);
        greet(&s);
        assert_true(cg_vmm_pause(s.vm, on_done, slot_of(&s, 1), NULL));
        if (bad[i][0] == '\0')
            assert_int_equal(write(s.peer, "\0x\n", 3), 3);
        say(&s, bad[i]);
        if (s.gone != 1 || s.done[1] != 1 || s.code[1] != CG_CLOSED)
            fail_msg("bad message %zu: gone %d, answered %d", i, s.gone, s.done[1]);
        assert_int_equal(s.gone_code, CG_PROTOCOL);
        struct cg_err e = CG_ERR_INIT;
        assert_false(cg_vmm_pause(s.vm, on_done, slot_of(&s, 2), &e));
        assert_int_equal(e.code, CG_CLOSED);
        finish(&s);
        assert_int_equal(s.gone + s.done[1], 2);
        assert_int_equal(s.done[2], 0);
    }
}

static void endless_message_is_cut_off(void **state)
{
    (void)state;
    struct seen s;
    begin(&s);
    greet(&s);
    assert_true(cg_fd_set_nonblock(s.peer, true, NULL));
    static char a[4096];
    memset(a, 'a', sizeof a);
    size_t sent = 0;
    while (s.gone == 0 && sent < (1u << 22)) {
        ssize_t n = send(s.peer, a, sizeof a, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        uv_run(&s.loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(s.gone, 1);
    assert_int_equal(s.gone_code, CG_PROTOCOL);
    finish(&s);
}

static void vmm_that_does_not_greet_first_is_gone(void **state)
{
    (void)state;
    struct seen s;
    begin(&s);
    say(&s, "{\"return\":{},\"id\":0}\n");
    assert_int_equal(s.gone, 1);
    finish(&s);
    begin(&s);
    close(s.peer);
    s.peer = -1;
    turn(&s);
    assert_int_equal(s.gone, 1);
    assert_int_equal(s.gone_code, CG_CLOSED);
    finish(&s);
}

static void silent_vmm_fills_no_queue(void **state)
{
    (void)state;
    struct seen s;
    struct cg_err e = CG_ERR_INIT;
    int taken = 0;
    begin(&s);
    while (taken < 60 && cg_vmm_pause(s.vm, on_done, slot_of(&s, 1), &e))
        taken++;
    assert_int_equal(e.code, CG_LIMIT);
    assert_in_range(taken, 4, 32);
    finish(&s);
    assert_int_equal(s.done[1], taken);
    assert_int_equal(s.code[1], CG_CLOSED);
    assert_int_equal(s.gone, 0);
}

static void client_may_be_destroyed_inside_its_callbacks(void **state)
{
    (void)state;
    struct seen s;
    begin(&s);
    greet(&s);
    s.destroy_in_done = true;
    assert_true(cg_vmm_pause(s.vm, on_done, slot_of(&s, 1), NULL));
    assert_true(cg_vmm_resume(s.vm, on_done, slot_of(&s, 2), NULL));
    say(&s, "{\"return\":{},\"id\":1}\n{\"return\":{},\"id\":2}\n{\"event\":\"STOP\"}\n");
    assert_int_equal(s.done[1], 1);
    assert_int_equal(s.code[1], CG_OK);
    assert_int_equal(s.done[2], 1);
    assert_int_equal(s.code[2], CG_CLOSED);
    assert_int_equal(s.events[CG_VMM_EVENT_PAUSED], 0);
    finish(&s);
    begin(&s);
    greet(&s);
    s.destroy_in_event = true;
    say(&s, "{\"event\":\"STOP\"}\n{\"event\":\"STOP\"}\n");
    assert_int_equal(s.events[CG_VMM_EVENT_PAUSED], 1);
    finish(&s);
}

/* ---- probe: a shell script is the VMM, its console is descriptor 3 ---- */

static char script[64];

static bool fake_args(const struct cg_vmm_launch *l, struct cg_vmm_args *a, struct cg_err *e)
{
    (void)e;
    cg_vmm_arg(a, "%d", l->console);
    return true;
}

/* What the script does decides what the probe says. */
static bool probe(const char *body, struct cg_err *e)
{
    static struct cg_vmm_driver fake;
    fake = (struct cg_vmm_driver){.name = "fake", .args = fake_args};
    struct cg_vmm_program program = {.version = "1"};
    cg_snprintf(script, sizeof script, "/tmp/cg-probe-%d.sh", (int)getpid());
    CG_OWN(cg_drop_free) char *text = cg_format("#!/bin/bash\neval \"exec 3>&$1\"\n%s\n", body);
    assert_true(cg_fs_replace(script, text, strlen(text), 0755, NULL));
    assert_int_equal(chmod(script, 0755), 0);
    cg_strlcpy(program.path, sizeof program.path, script);
    *e = (struct cg_err)CG_ERR_INIT;
    bool ok = cg_vmm_probe_guest(&fake, &program, CG_ACCEL_KVM, "/dev/null", "/dev/null", 1, e);
    unlink(script);
    return ok;
}

static void probe_comes_back_whatever_the_vmm_does(void **state)
{
    (void)state;
    struct cg_err e;
    assert_true(probe("printf 'noise\\ncaged-probe ok\\n' >&3; sleep 100", &e));
    assert_true(
        probe("printf 'caged-pro' >&3; sleep 0.1; printf 'be ok\\r\\n' >&3; sleep 100", &e));
    assert_false(probe("sleep 100", &e));
    assert_int_equal(e.code, CG_TIMEOUT);
    assert_false(probe("while :; do echo flood flood flood; done >&3", &e));
    assert_int_equal(e.code, CG_TIMEOUT);
    assert_false(probe("while :; do echo flood; done", &e));
    assert_int_equal(e.code, CG_TIMEOUT);
    assert_false(probe("trap '' TERM INT HUP; sleep 100 & sleep 100", &e));
    assert_int_equal(e.code, CG_TIMEOUT);
    assert_false(probe("echo 'no such device' >&2; exit 1", &e));
    assert_non_null(strstr(e.text, "no such device"));
    assert_false(probe("echo 'caged-probe failed memory' >&3; sleep 100", &e));
    assert_non_null(strstr(e.text, "failed memory"));
    assert_false(probe("exec 3>&-; eval \"exec $1>&-\"; sleep 100", &e));
    assert_false(probe("printf 'xcaged-probe okay' >&3; exit 0", &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_and_vulnerable_versions_are_refused),
        cmocka_unit_test(command_line_has_what_keeps_boots_from_hanging),
        cmocka_unit_test(shapes_out_of_range_are_refused),
        cmocka_unit_test(tsc_rate_is_measured_within_a_thousandth),
        cmocka_unit_test(requests_are_answered_once_each_in_their_own_names),
        cmocka_unit_test(events_of_the_guest_are_told_apart),
        cmocka_unit_test(vmm_that_breaks_the_protocol_is_gone_once),
        cmocka_unit_test(endless_message_is_cut_off),
        cmocka_unit_test(vmm_that_does_not_greet_first_is_gone),
        cmocka_unit_test(silent_vmm_fills_no_queue),
        cmocka_unit_test(client_may_be_destroyed_inside_its_callbacks),
        cmocka_unit_test(probe_comes_back_whatever_the_vmm_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
