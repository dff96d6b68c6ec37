/* An allow-list, grouped by what needs it: libuv, OpenSSL and libcurl, the record's files.
 * Everything else kills. What libraries merely probe for, and cope without, gets an error instead.
 * seccomp(2), seccomp_rule_add(3). */
#include "jail/seccomp.h"

#include <errno.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

static const int allowed[] = {
    /* memory; without mmap and mprotect, whose protection is looked at below */
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(mincore),
    SCMP_SYS(membarrier),
    /* threads of libuv's pool; clone is looked at below */
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getcpu),
    SCMP_SYS(gettid),
    /* signals; tgkill is abort(3) */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    /* time and self-knowledge */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(getrandom),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    /* files: the record, blobs, certificates; the mount namespace bounds what is there */
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(openat2),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(preadv2),
    SCMP_SYS(pwritev2),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(fstatfs),
    SCMP_SYS(statfs),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getdents64),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fadvise64),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(copy_file_range),
    SCMP_SYS(sendfile),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rmdir),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(linkat),
    SCMP_SYS(fchmod),
    SCMP_SYS(utimensat),
    SCMP_SYS(umask),
    SCMP_SYS(getcwd),
    SCMP_SYS(flock),
    SCMP_SYS(fcntl),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(pipe),
    SCMP_SYS(pipe2),
    SCMP_SYS(memfd_create),
    /* waiting */
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(signalfd4),
    /* network; socket is looked at below */
    SCMP_SYS(connect),
    SCMP_SYS(bind),
    SCMP_SYS(listen),
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(shutdown),
    SCMP_SYS(sendto),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(socketpair),
#ifdef SANITIZED
    /* the leak checker stops all threads with ptrace when the program ends */
    SCMP_SYS(clone),
    SCMP_SYS(ptrace),
    SCMP_SYS(wait4),
    SCMP_SYS(prctl),
    SCMP_SYS(getdents),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(tkill),
#endif
};

/* Not there for the warden, said politely. */
static const struct {
    int call;
    int error;
} refused[] = {
    {SCMP_SYS(clone3), ENOSYS}, /* arguments out of the filter's sight; glibc takes clone then */
    {SCMP_SYS(io_uring_setup), ENOSYS},
    {SCMP_SYS(inotify_init1), ENOSYS},
    {SCMP_SYS(sched_setscheduler), EPERM},
    {SCMP_SYS(setpriority), EPERM},
};

static int add_plain(scmp_filter_ctx filter)
{
    for (size_t i = 0; i < CG_COUNT(allowed); i++) {
        int rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
        if (rc != 0)
            return rc;
    }
    for (size_t i = 0; i < CG_COUNT(refused); i++) {
        int rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)refused[i].error),
                                  refused[i].call, 0);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int allow_first(scmp_filter_ctx filter, int call, scmp_datum_t value)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A0(SCMP_CMP_EQ, value, 0));
}

static int allow_second(scmp_filter_ctx filter, int call, scmp_datum_t value)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1, SCMP_A1(SCMP_CMP_EQ, value, 0));
}

/* Memory is never executable, threads are all that clone makes, sockets are of the internet. */
static int add_examined(scmp_filter_ctx f)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
    static const int absent[] = {AF_NETLINK, AF_ALG, AF_VSOCK};
    static const unsigned long requests[] = {FIONBIO,  FIONREAD, FIOCLEX,
                                             FIONCLEX, TCGETS,   TIOCGWINSZ};
    static const int names[] = {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, 0x53564d41 /* VMA */};
    int rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = allow_first(f, SCMP_SYS(tgkill), (scmp_datum_t)getpid());
    if (rc == 0) /* reading limits, not setting them */
        rc =
            seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0, 0));
    for (size_t i = 0; rc == 0 && i < CG_COUNT(families); i++)
        rc = allow_first(f, SCMP_SYS(socket), (scmp_datum_t)families[i]);
    for (size_t i = 0; rc == 0 && i < CG_COUNT(absent); i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)absent[i], 0));
    for (size_t i = 0; rc == 0 && i < CG_COUNT(requests); i++)
        rc = allow_second(f, SCMP_SYS(ioctl), requests[i]);
#ifndef SANITIZED
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    for (size_t i = 0; rc == 0 && i < CG_COUNT(names); i++)
        rc = allow_first(f, SCMP_SYS(prctl), (scmp_datum_t)names[i]);
#else
    (void)names;
#endif
    return rc;
}

bool cg_seccomp_warden(struct cg_err *e)
{
    if (!cg_seccomp_available(e))
        return false;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return cg_fail(e, CG_INTERNAL, "make a seccomp filter: no memory");
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc == 0)
        rc = add_plain(filter);
    if (rc == 0)
        rc = add_examined(filter);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    if (rc == 0)
        return true;
    errno = -rc;
    return cg_fail_sys(e, "load the warden's seccomp filter");
}

bool cg_seccomp_available(struct cg_err *e)
{
    const uint32_t kill_process = SECCOMP_RET_KILL_PROCESS;
    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &kill_process) == 0)
        return true;
    return cg_fail(e, CG_UNSUPPORTED, "this kernel has no seccomp filters: %s", strerror(errno));
}
