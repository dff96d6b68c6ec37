/* Promises of the jail's parts that need no guest: what the warden's seccomp filter lets through,
 * that a flooded log stays bounded and keeps both ends, the rules' text, control groups. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "check.h"
#include "jail/cgroup.h"
#include "jail/rules.h"
#include "jail/seccomp.h"
#include "jail/sink.h"

/* ---- seccomp: each act runs in a child behind the filter ---- */

static int behind_filter(int (*act)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit none = {0, 0};
        struct cg_err e = CG_ERR_INIT;
        setrlimit(RLIMIT_CORE, &none);
        if (!cg_seccomp_warden(&e)) {
            fprintf(stderr, "%s\n", e.text);
            _exit(99);
        }
        _exit(act());
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void *add_one(void *p)
{
    ++*(int *)p;
    return p;
}

static int use_threads_files_sockets(void)
{
    pthread_t thread;
    int n = 0;
    if (pthread_create(&thread, NULL, add_one, &n) != 0 || pthread_join(thread, NULL) != 0 ||
        n != 1)
        return 1;
    int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    char *p = malloc(1 << 22);
    memset(p, 1, 1 << 22);
    free(p);
    return fd >= 0 && s >= 0 && socket(AF_NETLINK, SOCK_RAW, 0) < 0 && errno == EAFNOSUPPORT ? 42
                                                                                             : 2;
}

static void filter_lets_a_warden_do_its_work(void **state)
{
    (void)state;
    int status = behind_filter(use_threads_files_sockets);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static int start_a_program(void)
{
    char *const argv[] = {(char[]){"true"}, NULL};
    return execv("/bin/true", argv);
}

static int make_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
           MAP_FAILED;
}

static int open_a_raw_socket(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0);
}

static int change_uid(void)
{
    return setuid(0);
}

static int signal_another(void)
{
    return kill(getppid(), 0);
}

static int raise_a_limit(void)
{
    const struct rlimit r = {64, 64};
    return setrlimit(RLIMIT_NOFILE, &r);
}

static void filter_kills_what_no_warden_does(void **state)
{
    (void)state;
    int (*const acts[])(void) = {start_a_program, make_code,      open_a_raw_socket,
                                 change_uid,      signal_another, raise_a_limit};
    for (size_t i = 0; i < CG_COUNT(acts); i++) {
        int status = behind_filter(acts[i]);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            fail_msg("act %zu was let through, status %x", i, (unsigned)status);
    }
}

/* ---- sink ---- */

static int temporary(char *path)
{
    int fd = mkostemp(path, O_APPEND | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void flooded_log_keeps_its_beginning_and_its_end(void **state)
{
    (void)state;
    char path[] = "/tmp/cg-sink-XXXXXX", line[64];
    int fd = temporary(path);
    struct cg_sink sink;
    struct stat st;
    cg_sink_init(&sink, fd);
    enum { LINES = 200000 };
    for (int i = 0; i < LINES; i++) {
        int n = snprintf(line, sizeof line, "line %08d\n", i);
        cg_sink_write(&sink, line, (size_t)n);
        if (i % 1000 == 0) {
            assert_int_equal(fstat(fd, &st), 0);
            assert_true(st.st_size <= CG_SINK_FILE_MAX);
        }
    }
    char *text = NULL;
    size_t n = 0;
    assert_true(cg_fs_slurp(path, CG_SINK_FILE_MAX, &text, &n, NULL));
    assert_true(cg_has_prefix(text, "line 00000000\n"));
    assert_true(cg_has_suffix(text, "line 00199999\n"));
    const char *mark = strstr(text, "[caged: ");
    assert_non_null(mark);
    assert_null(strstr(mark + 1, "[caged: "));
    /* what the mark says is exactly what is missing */
    unsigned long long cut = strtoull(mark + 8, NULL, 10);
    size_t mark_size = strcspn(mark, "\n") + 2;
    assert_int_equal(cut + n - mark_size, (unsigned long long)LINES * 14);
    free(text);
    cg_sink_finish(&sink);
    close(fd);
    unlink(path);
}

static void small_log_is_kept_whole_and_large_pieces_are_cut_too(void **state)
{
    (void)state;
    char path[] = "/tmp/cg-sink-XXXXXX";
    int fd = temporary(path);
    struct cg_sink sink;
    struct stat st;
    cg_sink_init(&sink, fd);
    char *piece = cg_alloc(CG_SINK_HEAD + 1);
    cg_sink_write(&sink, piece, CG_SINK_HEAD);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, CG_SINK_HEAD);
    for (int i = 0; i < 20; i++) {
        cg_sink_write(&sink, piece, CG_SINK_HEAD + 1);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(st.st_size <= CG_SINK_FILE_MAX);
    }
    free(piece);
    cg_sink_finish(&sink);
    close(fd);
    unlink(path);
}

/* ---- rules ---- */

static void rules_name_only_what_the_operator_allows(void **state)
{
    (void)state;
    const struct cg_jail_net net[] = {
        {.address = {10, 1, 2, 3}, .prefix = 32, .port = 443},
        {.address = {192, 168, 0, 0}, .prefix = 16, .port = 0},
    };
    CG_OWN(cg_drop_buf) struct cg_buf text;
    cg_buf_init(&text, 16384);
    assert_true(cg_rules_text(net, 2, &text));
    const char *s = cg_buf_cstr(&text);
    assert_non_null(strstr(s, "ip daddr 10.1.2.3/32 tcp dport 443 accept"));
    assert_non_null(strstr(s, "ip daddr 192.168.0.0/16 meta l4proto tcp accept"));
    assert_true(strstr(s, "reject with tcp reset") > strstr(s, "192.168.0.0/16"));
    assert_non_null(strstr(s, "224.0.0.0/3 } meta l4proto tcp counter name rejected reject"));
    assert_non_null(strstr(s, "size 128;"));
    assert_non_null(strstr(s, "224.0.0.0/3 } meta l4proto tcp update @rejected_at"));
    assert_true(strstr(s, "    meta l4proto tcp accept") > strstr(s, "reject with tcp reset"));
}

/* ---- cgroup: a folder of plain files stands in for a hierarchy this machine may not have ---- */

static void put(const char *dir, const char *name, const char *text)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", dir, name);
    assert_true(cg_fs_replace(path, text, strlen(text), 0644, NULL));
}

static void expect(const char *dir, const char *name, const char *text)
{
    CG_OWN(cg_drop_free) char *path = cg_format("%s/%s", dir, name);
    CG_OWN(cg_drop_free) char *got = NULL;
    size_t n = 0;
    assert_true(cg_fs_slurp(path, 4096, &got, &n, NULL));
    assert_string_equal(got, text);
}

static void hierarchy_without_controllers_is_refused_by_name(void **state)
{
    (void)state;
    char root[] = "/tmp/cg-cgroup-XXXXXX", base[CG_CGROUP_PATH];
    struct cg_err e = CG_ERR_INIT;
    assert_non_null(mkdtemp(root));
    assert_false(cg_cgroup_base(root, base, &e));
    assert_int_equal(e.code, CG_UNSUPPORTED);
    put(root, "cgroup.controllers", "cpuset cpu pids hugetlb\n");
    assert_false(cg_cgroup_base(root, base, &e));
    assert_non_null(strstr(e.text, "memory"));
    assert_true(cg_fs_remove_tree(root, NULL));
}

static void limits_are_written_as_the_kernel_reads_them(void **state)
{
    (void)state;
    char root[] = "/tmp/cg-cgroup-XXXXXX", base[CG_CGROUP_PATH];
    static const char *const files[] = {"cpu.max", "memory.max", "memory.oom.group", "pids.max",
                                        "cgroup.procs"};
    const struct cg_cgroup_limits limits = {250, 512ull << 20, 64};
    assert_non_null(mkdtemp(root));
    put(root, "cgroup.controllers", "cpuset cpu io memory pids\n");
    put(root, "cgroup.subtree_control", "");
    CG_OWN(cg_drop_free) char *caged = cg_format("%s/caged", root);
    CG_OWN(cg_drop_free) char *one = cg_format("%s/one", caged);
    assert_true(cg_fs_mkdirs(one, 0755, NULL));
    put(caged, "cgroup.subtree_control", "");
    for (size_t i = 0; i < CG_COUNT(files); i++)
        put(one, files[i], "");
    assert_true(cg_cgroup_base(root, base, NULL));
    assert_string_equal(base, caged);
    expect(root, "cgroup.subtree_control", "+cpu +memory +pids");
    assert_true(cg_cgroup_create(base, "one", &limits, NULL));
    assert_true(cg_cgroup_add(base, "one", 4711, NULL));
    expect(one, "cpu.max", "250000 100000");
    expect(one, "memory.max", "536870912");
    expect(one, "pids.max", "64");
    expect(one, "cgroup.procs", "4711");
    assert_true(cg_fs_remove_tree(root, NULL));
}

/* A real hierarchy, with or without controllers, shows what plain files cannot: that a group with
 * living processes is emptied and goes. */
static void group_goes_with_the_processes_in_it(void **state)
{
    (void)state;
    const char *root = access("/sys/fs/cgroup/unified/cgroup.procs", W_OK) == 0
                           ? "/sys/fs/cgroup/unified"
                           : "/sys/fs/cgroup";
    CG_OWN(cg_drop_free) char *name = cg_format("caged-test-%d", (int)getpid());
    CG_OWN(cg_drop_free) char *dir = cg_format("%s/%s", root, name);
    if (mkdir(dir, 0755) != 0)
        skip();
    CG_OWN(cg_drop_free) char *killer = cg_format("%s/cgroup.kill", dir);
    if (access(killer, W_OK) != 0) {
        rmdir(dir);
        skip();
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    assert_true(cg_cgroup_add(root, name, pid, NULL));
    signal(SIGCHLD, SIG_IGN); /* reaped by the kernel, as a keeper's orphans are by init */
    assert_true(cg_cgroup_remove(root, name, NULL));
    signal(SIGCHLD, SIG_DFL);
    assert_int_not_equal(access(dir, F_OK), 0);
    assert_int_not_equal(kill(pid, 0), 0);
    assert_true(cg_cgroup_remove(root, name, NULL)); /* gone already: fine */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filter_lets_a_warden_do_its_work),
        cmocka_unit_test(filter_kills_what_no_warden_does),
        cmocka_unit_test(flooded_log_keeps_its_beginning_and_its_end),
        cmocka_unit_test(small_log_is_kept_whole_and_large_pieces_are_cut_too),
        cmocka_unit_test(rules_name_only_what_the_operator_allows),
        cmocka_unit_test(hierarchy_without_controllers_is_refused_by_name),
        cmocka_unit_test(limits_are_written_as_the_kernel_reads_them),
        cmocka_unit_test(group_goes_with_the_processes_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
