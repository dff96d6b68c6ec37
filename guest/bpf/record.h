/* The records that the eBPF programs put into the rings, and their counters. Shared by the programs
 * (clang -target bpf) and the reader, so: fixed-width types only, no padding left to chance.
 * A record is `struct cg_obs_rec` cut off behind its used text. */
#ifndef CG_BPF_RECORD_H
#define CG_BPF_RECORD_H

#ifdef __bpf__
typedef __u8 uint8_t;
typedef __u16 uint16_t;
typedef __u32 uint32_t;
typedef __u64 uint64_t;
typedef __s32 int32_t;
#else
#include <stdint.h>
#endif

enum cg_obs_kind {
    CG_OBS_EXEC,
    CG_OBS_EXIT,
    CG_OBS_FILE,
    CG_OBS_CONN,
    CG_OBS_SETUID,
    CG_OBS_PTRACE,
    CG_OBS_MODULE,
    CG_OBS_MOUNT,
    CG_OBS_BPF,
    CG_OBS_KINDS
};

enum cg_obs_op {
    CG_OBS_CREATE,
    CG_OBS_WRITE,
    CG_OBS_DELETE,
    CG_OBS_RENAME,
    CG_OBS_MKDIR,
    CG_OBS_RMDIR,
    CG_OBS_LINK,
    CG_OBS_SYMLINK,
    CG_OBS_MKNOD,
    CG_OBS_TRUNCATE,
    CG_OBS_CHMOD,
    CG_OBS_CHOWN,
    CG_OBS_OPS
};

/* One per program; the order is that of the names in hooks.c. */
enum cg_obs_hook {
    CG_HOOK_EXEC,
    CG_HOOK_EXIT,
    CG_HOOK_OPEN,
    CG_HOOK_CLOSE,
    CG_HOOK_UNLINK,
    CG_HOOK_RMDIR,
    CG_HOOK_MKDIR,
    CG_HOOK_RENAME_IN,
    CG_HOOK_RENAME_OUT,
    CG_HOOK_LINK,
    CG_HOOK_SYMLINK,
    CG_HOOK_MKNOD,
    CG_HOOK_CREATE,
    CG_HOOK_TRUNCATE,
    CG_HOOK_SETATTR,
    CG_HOOK_CONNECT_STREAM,
    CG_HOOK_CONNECT_DGRAM,
    CG_HOOK_SETUID,
    CG_HOOK_PTRACE,
    CG_HOOK_TRACEME,
    CG_HOOK_MODULE,
    CG_HOOK_MOUNT,
    CG_HOOK_MOVE_MOUNT,
    CG_HOOK_BPF,
    CG_HOOKS
};

enum { CG_OBS_SCOPE_MAX = 4 };

/* Where a scope (observe.h) starts: the folder's inode in its file system. */
struct cg_obs_scope {
    uint64_t ino;
    uint32_t dev;
    uint32_t used;
};

enum {
    CG_OBS_PATH_CUT =
        1, /* deeper or longer than what is kept: the part next to the root is missing */
    CG_OBS_PATH_LOOSE = 2, /* not connected to the root of its file system */
    CG_OBS_PATH_INNER = 4, /* on a file system that only the kernel mounts (memfd) */
};

/* Text of a path: its names from leaf to root, each with its NUL. */
struct cg_obs_path {
    uint32_t dev; /* as the kernel has it: major << 20 | minor */
    uint16_t n;
    uint8_t scope; /* 0: names reach the file system's root; else scope - 1 is where they end */
    uint8_t flags;
};

enum {
    CG_OBS_TEXT = 12288,      /* argv and two paths, or two paths */
    CG_OBS_ARGV = 4096,       /* bytes of argv kept */
    CG_OBS_PATH_LONG = 4096,  /* bytes of a path kept: file events */
    CG_OBS_PATH_SHORT = 2048, /* exe and cwd */
    CG_OBS_NAME = 256,
};

enum {
    CG_OBS_F_ARGV_CUT = 1,
    CG_OBS_F_EXCHANGE = 2, /* rename: both names changed places */
    CG_OBS_F_TRACEME = 4,
    CG_OBS_F_PENDING = 8, /* conn: asked for, and not answered yet */
};

/* Texts stand one behind the other: argv, path[0], path[1]. Meaning of num[] by kind:
 * exit: 0 status as in wait(2), 1 life time ns; file: 0 size, 1 mode, 2 owner, 3 group (2^32-1: as
 * it was); conn: 0 port and, 16 bits up, the local
 * port, 1 result (0 or errno), 2 protocol, 3 family; setuid: 0 from, 1 to;
 * ptrace: 0 pid of the traced; mount: 0 flags; bpf: 0 command. */
struct cg_obs_rec {
    uint8_t kind;
    uint8_t op;
    uint16_t flags;
    uint32_t text_n;
    uint64_t t_ns;
    uint32_t pid;
    uint32_t ppid;
    uint32_t uid;
    uint32_t argv_n;
    char comm[16];
    uint64_t num[4];
    struct cg_obs_path path[2];
    uint8_t addr[16]; /* conn: network order; ptrace: comm of the traced */
    char text[CG_OBS_TEXT + CG_OBS_NAME];
};

/* One per CPU and object; only ever counts up. seen == told + lost + still in the ring. */
struct cg_obs_counters {
    uint64_t hits[CG_HOOKS]; /* runs for others */
    uint64_t own[CG_HOOKS];  /* runs for the process that is skipped */
    uint64_t seen[CG_OBS_KINDS];
    uint64_t lost[CG_OBS_KINDS];
};

#endif
