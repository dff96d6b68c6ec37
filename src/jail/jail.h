/* What caged-server and caged-jail say to each other, and the descriptors a warden is born with.
 *
 * caged-jail has two faces. The *broker* is started by caged-server before that gives up its rights
 * and is asked over a SOCK_SEQPACKET socketpair with one fixed struct and descriptors; it parses
 * nothing else. For each sandbox it forks a *keeper*, which outlives broker and server: it makes
 * the namespaces, tap, nft rules, cgroup and chroot, starts VMM and warden, waits for either to
 * end, ends the other, frees everything and exits. Both children die with the keeper (PDEATHSIG).
 *
 * A keeper holds a POSIX lock on `keeper.lock` in the sandbox's run directory for as long as it
 * lives, so that a restarted server (F_GETLK) knows which sandboxes live and their keepers' pids.
 */
#ifndef CG_JAIL_JAIL_H
#define CG_JAIL_JAIL_H

#include "base/clock.h"
#include "base/err.h"

enum { CG_JAIL_MAGIC = 0x434a4c31 }; /* "CJL1" */

enum cg_jail_op {
    CG_JAIL_START = 1, /* a sandbox; descriptors below; the answer comes on the reply socket */
    CG_JAIL_KILL = 2,  /* end the keeper of `id` and all it holds; idempotent; found by the lock of
                          <run directory>/<id>/keeper.lock, so that any broker can do it */
    CG_JAIL_SWEEP = 3, /* remove cgroups and other leftovers of keepers that are gone */
};

/* Order of the descriptors that come with CG_JAIL_START. */
enum cg_jail_fd {
    CG_JAIL_FD_REPLY,   /* SOCK_SEQPACKET: one cg_jail_reply, then one cg_jail_end; end of file
                           means that the keeper is gone and everything it held is free */
    CG_JAIL_FD_CONTROL, /* listening unix socket: the warden's control socket */
    CG_JAIL_FD_DIR,     /* the sandbox's directory: config.json, record/, console.log; as root it
                           must be the server's (uid base) and becomes the sandbox's uid's */
    CG_JAIL_FD_RUN,     /* the sandbox's run directory: keeper.lock; must be the server's */
    CG_JAIL_FD_KERNEL,  /* as the initramfs: readable by everyone, the VMM reopens it */
    CG_JAIL_FD_INITRAMFS,
    CG_JAIL_FD_BASE,    /* read-only base image */
    CG_JAIL_FD_DISK_RW, /* writable image, O_RDWR */
    CG_JAIL_FD_DISK_RO, /* the same, O_RDONLY: QEMU wants both in one set */
    CG_JAIL_FD_CONSOLE, /* O_WRONLY|O_APPEND: the guest's console; the keeper keeps it below 1 MiB,
                           the first and the last 256 KiB whatever comes */
    CG_JAIL_FD_LOG,     /* O_WRONLY|O_APPEND: stderr of warden and VMM, bounded the same way */
    CG_JAIL_FD_COUNT,
    CG_JAIL_FD_RAM = CG_JAIL_FD_COUNT, /* with CG_JAIL_WITH_RAM only: a memfd of mem_mib */
    CG_JAIL_FD_MAX
};

/* How the guest's memory comes to be: flags of cg_jail_request. */
enum cg_jail_flag {
    CG_JAIL_WITH_RAM = 1,   /* from a descriptor, copy-on-write */
    CG_JAIL_RAM_SHARED = 2, /* what the guest writes goes into it: a snapshot is being made */
    CG_JAIL_INCOMING = 4,   /* the VMM waits to be restored, instead of booting */
};

struct cg_jail_request {
    uint32_t magic;
    uint32_t size; /* sizeof(struct cg_jail_request) */
    uint32_t op;   /* enum cg_jail_op */
    uint32_t slot; /* 1..65000: the sandbox's uid is the state directory's uid base + slot */
    char id[CG_ID_TEXT];
    uint32_t vcpus;    /* 1..8 */
    uint32_t mem_mib;  /* 128..8192 */
    uint32_t accel;    /* enum cg_accel of vmm/vmm.h */
    uint32_t pids_max; /* cgroup limit for VMM and warden together */
    uint64_t tsc_khz;  /* for the kernel command line; 0: leave it out */
    uint64_t disk_bytes;
    uint32_t net_count; /* destinations that the operator lets through; all else is rejected */
    uint32_t flags;     /* enum cg_jail_flag */
    struct cg_jail_net {
        uint8_t address[4]; /* IPv4, network order */
        uint8_t prefix;     /* 0..32 */
        uint8_t zero;
        uint16_t port; /* host order; 0: every port */
    } net[32];
};

struct cg_jail_reply {
    uint32_t magic;
    uint32_t ok;       /* 1: VMM and warden run */
    uint32_t code;     /* enum cg_code when not ok */
    uint32_t warnings; /* bits of enum cg_jail_warning */
    int32_t keeper_pid;
    int32_t warden_pid;
    int32_t vmm_pid;
    char text[224];
};

/* Parts of the isolation that this machine does not give; shown in the sandbox's `isolation`. */
enum cg_jail_warning {
    CG_JAIL_NO_CGROUP = 1, /* no cgroup v2 with cpu, memory and pids controllers */
    CG_JAIL_ONE_UID = 2,   /* rootless: every sandbox has the same host uid */
    CG_JAIL_NO_USERNS = 4, /* as root, without a user namespace */
};

enum cg_jail_cause { CG_JAIL_WARDEN_ENDED = 1, CG_JAIL_VMM_ENDED, CG_JAIL_KILLED, CG_JAIL_BROKEN };

/* Sent last, just before the reply socket closes. */
struct cg_jail_end {
    uint32_t magic;
    uint32_t cause; /* enum cg_jail_cause: who ended first */
    int32_t status; /* its wait status */
    uint32_t zero;
};

/* Descriptors that caged-warden finds open when it starts; argv is {"caged-warden", id}. */
enum cg_warden_fd {
    CG_WARDEN_FD_CONTROL = 3, /* listening unix socket, CG_JAIL_FD_CONTROL */
    CG_WARDEN_FD_LINK,        /* connected stream socket: the guest link */
    CG_WARDEN_FD_VMM,         /* connected stream socket: the VMM's control (QMP) */
    CG_WARDEN_FD_TCP,         /* listening TCP socket inside the sandbox's network namespace */
    CG_WARDEN_FD_DNS,         /* UDP socket there, port 53 redirected to it */
    CG_WARDEN_FD_DNS_TCP,     /* listening TCP socket there for port 53 */
    CG_WARDEN_FD_DIR,         /* the sandbox's directory */
    CG_WARDEN_FD_KEEPER,      /* SOCK_SEQPACKET to the keeper: cg_keeper_ask */
    CG_WARDEN_FD_END
};

/* What a warden may ask its keeper: one byte, answered with one cg_keeper_counters. */
enum { CG_KEEPER_COUNTERS = 'c' };

#define CG_KEEPER_REJECTED                                                                         \
    128 /* destinations that are told apart; a number for the preprocessor                         \
         */
struct cg_keeper_rejected {
    uint32_t address; /* host order */
    uint32_t port;
    uint64_t packets; /* since the destination was last forgotten: after a minute of silence */
};
struct cg_keeper_counters {
    uint64_t rejected_packets; /* TCP to destinations that the policy rejects at SYN */
    uint64_t dropped_packets;  /* everything that is neither TCP nor DNS */
    uint64_t dropped_bytes;
    uint64_t nrejected;
    struct cg_keeper_rejected rejected[CG_KEEPER_REJECTED]; /* the first nrejected of them */
};

/* The client side, used by caged-server. Blocking, but the broker answers at once. */
CG_MUST_USE bool cg_jail_send(int broker, const struct cg_jail_request *r, const int *fds,
                              unsigned nfds, struct cg_err *e);

/* The pid that holds keeper.lock in the run directory, 0 when nobody does. */
CG_MUST_USE bool cg_jail_keeper_of(int run_dir, int *pid, struct cg_err *e);

#endif
