/* See load.h. The light skeletons need nothing but the bpf() system call; the kernel itself
 * relocates the programs against its BTF. Counters and scratch memory are frozen: no system call
 * can set them, not even root's. */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/skel_internal.h>

#include "exec.lskel.h"
#include "file.lskel.h"
#include "more.lskel.h"
#include "security.lskel.h"

#include "base/fs.h"

enum { CPUS_MAX = 512, LOG_BYTES = 1 << 20 };

static const char *const part_names[CG_PARTS] = {"exec", "file", "more", "security"};

static void add_hook(struct cg_part *p, enum cg_obs_hook hook, int prog_fd)
{
    CG_ASSERT(p->hooks < CG_PART_HOOKS);
    p->hook[p->hooks++] =
        (struct cg_part_hook){.hook = hook, .prog_fd = prog_fd, .link_fd = -1, .missed = 0};
}

/* Opens, configures and loads one skeleton; `s` is left for the list of its hooks. */
#define LOAD(type, p, config, log)                                                                 \
    struct type *s = type##__open();                                                               \
    if (!s)                                                                                        \
        return ENOMEM;                                                                             \
    s->rodata->skip_tgid = (uint32_t)(config)->skip_pid;                                           \
    memcpy(s->rodata->scopes, (config)->scope, sizeof(config)->scope);                             \
    if (log) {                                                                                     \
        s->ctx.log_level = 1;                                                                      \
        s->ctx.log_size = LOG_BYTES;                                                               \
        s->ctx.log_buf = (uint64_t)(uintptr_t)(log);                                               \
    }                                                                                              \
    int err = type##__load(s);                                                                     \
    if (err) {                                                                                     \
        type##__destroy(s);                                                                        \
        return err < 0 ? -err : err;                                                               \
    }                                                                                              \
    (p)->skeleton = s;                                                                             \
    (p)->ring_fd = s->maps.ring.map_fd;                                                            \
    (p)->scratch_fd = s->maps.scratch.map_fd;                                                      \
    (p)->counters_fd = s->maps.counters.map_fd

static int load_exec(struct cg_part *p, const struct cg_part_config *config, char *log)
{
    LOAD(cg_exec, p, config, log);
    add_hook(p, CG_HOOK_EXEC, s->progs.on_exec.prog_fd);
    add_hook(p, CG_HOOK_EXIT, s->progs.on_exit.prog_fd);
    return 0;
}

static int load_file(struct cg_part *p, const struct cg_part_config *config, char *log)
{
    LOAD(cg_file, p, config, log);
    add_hook(p, CG_HOOK_OPEN, s->progs.on_open.prog_fd);
    add_hook(p, CG_HOOK_CLOSE, s->progs.on_close.prog_fd);
    add_hook(p, CG_HOOK_UNLINK, s->progs.on_unlink.prog_fd);
    add_hook(p, CG_HOOK_RMDIR, s->progs.on_rmdir.prog_fd);
    add_hook(p, CG_HOOK_MKDIR, s->progs.on_mkdir.prog_fd);
    add_hook(p, CG_HOOK_RENAME_IN, s->progs.on_rename_in.prog_fd);
    add_hook(p, CG_HOOK_RENAME_OUT, s->progs.on_rename_out.prog_fd);
    return 0;
}

static int load_more(struct cg_part *p, const struct cg_part_config *config, char *log)
{
    LOAD(cg_more, p, config, log);
    add_hook(p, CG_HOOK_LINK, s->progs.on_link.prog_fd);
    add_hook(p, CG_HOOK_SYMLINK, s->progs.on_symlink.prog_fd);
    add_hook(p, CG_HOOK_MKNOD, s->progs.on_mknod.prog_fd);
    add_hook(p, CG_HOOK_CREATE, s->progs.on_create.prog_fd);
    add_hook(p, CG_HOOK_TRUNCATE, s->progs.on_truncate.prog_fd);
    add_hook(p, CG_HOOK_SETATTR, s->progs.on_setattr.prog_fd);
    return 0;
}

static int load_security(struct cg_part *p, const struct cg_part_config *config, char *log)
{
    LOAD(cg_security, p, config, log);
    add_hook(p, CG_HOOK_CONNECT_STREAM, s->progs.on_connect_stream.prog_fd);
    add_hook(p, CG_HOOK_CONNECT_DGRAM, s->progs.on_connect_dgram.prog_fd);
    add_hook(p, CG_HOOK_SETUID, s->progs.on_setuid.prog_fd);
    add_hook(p, CG_HOOK_PTRACE, s->progs.on_ptrace.prog_fd);
    add_hook(p, CG_HOOK_TRACEME, s->progs.on_traceme.prog_fd);
    add_hook(p, CG_HOOK_MODULE, s->progs.on_module.prog_fd);
    add_hook(p, CG_HOOK_MOUNT, s->progs.on_mount.prog_fd);
    add_hook(p, CG_HOOK_MOVE_MOUNT, s->progs.on_move_mount.prog_fd);
    add_hook(p, CG_HOOK_BPF, s->progs.on_bpf.prog_fd);
    return 0;
}

/* The verifier's log ends with the complaint, then a line of statistics. */
static const char *complaint(char *log)
{
    char *stats = strstr(log, "\nprocessed ");

    if (stats)
        *stats = '\0';
    char *last = strrchr(log, '\n');
    return last ? last + 1 : log;
}

static bool load(struct cg_part *p, unsigned which, const struct cg_part_config *config,
                 struct cg_err *e)
{
    static int (*const loaders[CG_PARTS])(struct cg_part *, const struct cg_part_config *,
                                          char *) = {load_exec, load_file, load_more,
                                                     load_security};
    int err = loaders[which](p, config, NULL);

    if (err == 0)
        return true;
    CG_OWN(cg_drop_free) char *log = cg_alloc(LOG_BYTES);
    if (loaders[which](p, config, log) == 0)
        return true;
    errno = err;
    return cg_fail_sys(e, "load programs: %.100s", complaint(log));
}

static long ask(enum bpf_cmd cmd, union bpf_attr *attr)
{
    return skel_sys_bpf(cmd, attr, sizeof *attr);
}

static bool freeze(int fd, struct cg_err *e)
{
    union bpf_attr attr = {.map_fd = (uint32_t)fd};

    return ask(BPF_MAP_FREEZE, &attr) == 0 || cg_fail_sys(e, "freeze map");
}

static bool map_ring(struct cg_part *p, struct cg_err *e)
{
    struct bpf_map_info info = {.type = 0};
    union bpf_attr attr = {.info = {.bpf_fd = (uint32_t)p->ring_fd,
                                    .info_len = sizeof info,
                                    .info = (uint64_t)(uintptr_t)&info}};

    if (ask(BPF_OBJ_GET_INFO_BY_FD, &attr) != 0)
        return cg_fail_sys(e, "size of ring");
    return cg_ring_map(&p->ring, p->ring_fd, info.max_entries, e);
}

static bool attach(struct cg_part *p, struct cg_err *e)
{
    for (unsigned i = 0; i < p->hooks; i++) {
        p->hook[i].link_fd = skel_raw_tracepoint_open(NULL, p->hook[i].prog_fd);
        if (p->hook[i].link_fd < 0)
            return cg_fail_sys(e, "attach program %u of %u", i + 1, p->hooks);
        fcntl(p->hook[i].link_fd, F_SETFD, FD_CLOEXEC);
    }
    return true;
}

bool cg_part_load(struct cg_part *p, unsigned which, const struct cg_part_config *config,
                  struct cg_err *e)
{
    CG_ASSERT(which < CG_PARTS);
    *p = (struct cg_part){.name = part_names[which], .ring_fd = -1, .counters_fd = -1};
    if (load(p, which, config, e) && freeze(p->counters_fd, e) && freeze(p->scratch_fd, e) &&
        map_ring(p, e) && attach(p, e))
        return true;
    cg_part_unload(p);
    return cg_wrap(e, "%s", part_names[which]);
}

void cg_part_unload(struct cg_part *p)
{
    if (!p->skeleton)
        return;
    for (unsigned i = 0; i < p->hooks; i++)
        cg_drop_fd(&p->hook[i].link_fd);
    cg_ring_unmap(&p->ring);
    if (p->name == part_names[0])
        cg_exec__destroy(p->skeleton);
    else if (p->name == part_names[1])
        cg_file__destroy(p->skeleton);
    else if (p->name == part_names[2])
        cg_more__destroy(p->skeleton);
    else
        cg_security__destroy(p->skeleton);
    p->skeleton = NULL;
    p->hooks = 0;
}

/* The kernel hands out one value for each CPU that could ever be there: "0-3" makes 4. */
static unsigned possible_cpus(void)
{
    static unsigned cpus;
    char *text = NULL;
    struct cg_err e = CG_ERR_INIT;

    if (cpus == 0) {
        cpus = CPUS_MAX;
        if (cg_fs_slurp("/sys/devices/system/cpu/possible", 4096, &text, NULL, &e)) {
            const char *last = strrchr(text, '-');
            unsigned long top = strtoul(last ? last + 1 : text, NULL, 10);
            cpus = top < CPUS_MAX ? (unsigned)top + 1 : CPUS_MAX;
        }
        free(text);
    }
    return cpus;
}

bool cg_part_counters(const struct cg_part *p, struct cg_obs_counters *sum)
{
    enum { WORDS = sizeof *sum / sizeof(uint64_t) };
    _Static_assert(sizeof *sum % sizeof(uint64_t) == 0, "counters are words only");
    static uint64_t all[CPUS_MAX * WORDS];
    uint64_t *to = (uint64_t *)(void *)sum;
    uint32_t key = 0;
    union bpf_attr attr = {.map_fd = (uint32_t)p->counters_fd,
                           .key = (uint64_t)(uintptr_t)&key,
                           .value = (uint64_t)(uintptr_t)all};

    if (ask(BPF_MAP_LOOKUP_ELEM, &attr) != 0)
        return false;
    memset(sum, 0, sizeof *sum);
    for (unsigned cpu = 0; cpu < possible_cpus(); cpu++)
        for (unsigned i = 0; i < WORDS; i++)
            to[i] += all[cpu * WORDS + i];
    return true;
}

bool cg_part_attached(const struct cg_part_hook *h)
{
    struct bpf_link_info info = {.type = 0};
    union bpf_attr attr = {.info = {.bpf_fd = (uint32_t)h->link_fd,
                                    .info_len = sizeof info,
                                    .info = (uint64_t)(uintptr_t)&info}};

    return ask(BPF_OBJ_GET_INFO_BY_FD, &attr) == 0 && info.prog_id != 0;
}

uint64_t cg_part_missed(struct cg_part_hook *h)
{
    struct bpf_prog_info info = {.type = 0};
    union bpf_attr attr = {.info = {.bpf_fd = (uint32_t)h->prog_fd,
                                    .info_len = sizeof info,
                                    .info = (uint64_t)(uintptr_t)&info}};

    if (ask(BPF_OBJ_GET_INFO_BY_FD, &attr) != 0 || info.recursion_misses <= h->missed)
        return 0;
    uint64_t more = info.recursion_misses - h->missed;
    h->missed = info.recursion_misses;
    return more;
}
