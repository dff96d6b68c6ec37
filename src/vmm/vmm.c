/* The table of drivers, and what is the same for all of them: finding the program, judging its
 * version, holding an argument vector, measuring the TSC. */
#include "vmm/vmm.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include "base/command.h"
#include "vmm/driver.h"

static const struct cg_vmm_driver *const drivers[] = {&cg_vmm_qemu};

const char *cg_accel_name(enum cg_accel accel)
{
    return accel == CG_ACCEL_KVM ? "kvm" : "tcg";
}

bool cg_accel_parse(const char *name, enum cg_accel *out)
{
    *out = cg_streq(name, "kvm") ? CG_ACCEL_KVM : CG_ACCEL_TCG;
    return cg_streq(name, cg_accel_name(*out));
}

const struct cg_vmm_driver *cg_vmm_driver(const char *name)
{
    for (size_t i = 0; i < CG_COUNT(drivers); i++) {
        if (!name || strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    }
    return NULL;
}

const char *cg_vmm_driver_name(const struct cg_vmm_driver *d)
{
    return d->name;
}

const char *const *cg_vmm_modules(const struct cg_vmm_driver *d)
{
    return d->modules;
}

const char *const *cg_vmm_firmware(const struct cg_vmm_driver *d)
{
    return d->firmware;
}

uint32_t cg_vmm_overhead_mib(const struct cg_vmm_driver *d, uint32_t mem_mib)
{
    return d->overhead_mib(mem_mib);
}

bool cg_vmm_version_ok(const struct cg_vmm_driver *d, const char *text, struct cg_err *e)
{
    const char *at = strstr(text, d->version_mark);
    unsigned major = 0, minor = 0, micro = 0;
    if (!at || sscanf(at + strlen(d->version_mark), "%u.%u.%u", &major, &minor, &micro) < 2)
        return cg_fail(e, CG_UNSUPPORTED, "%s tells no version: %.80s", d->name, text);
    bool packaged = strchr(at, '(') != NULL;
    unsigned version = major * 10000 + minor * 100 + micro;
    for (size_t i = 0; i < d->nbad; i++) {
        const struct cg_vmm_bad_version *bad = &d->bad[i];
        if (version >= bad->from && version < bad->below && (bad->packages_too || !packaged))
            return cg_fail(e, CG_UNSUPPORTED, "%s %u.%u.%u is refused: %s; install %s again, newer",
                           d->name, major, minor, micro, bad->why, d->package);
    }
    return true;
}

bool cg_vmm_find(const struct cg_vmm_driver *d, struct cg_vmm_program *out, struct cg_err *e)
{
    const char *path = NULL;
    for (const char *const *p = d->programs; *p && !path; p++) {
        if (access(*p, X_OK) == 0)
            path = *p;
    }
    if (!path)
        return cg_fail(e, CG_NOT_FOUND, "%s is not installed: install %s", d->programs[0],
                       d->package);
    cg_snprintf(out->path, sizeof out->path, "%s", path);
    char text[256];
    if (!cg_command_output((const char *const[]){path, "--version", NULL}, NULL, 10000, text,
                           sizeof text, e))
        return cg_wrap(e, "ask %s its version", path);
    text[strcspn(text, "\n")] = '\0';
    if (!cg_vmm_version_ok(d, text, e))
        return false;
    cg_strlcpy(out->version, sizeof out->version, text);
    return true;
}

void cg_vmm_arg(struct cg_vmm_args *a, const char *fmt, ...)
{
    CG_ASSERT(a->n < CG_VMM_ARGS_MAX);
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    CG_ASSERT(vasprintf(&text, fmt, ap) >= 0);
    va_end(ap);
    a->argv[a->n++] = text;
    a->argv[a->n] = NULL;
}

bool cg_vmm_args_build(const struct cg_vmm_driver *d, const char *program,
                       const struct cg_vmm_launch *l, struct cg_vmm_args *out, struct cg_err *e)
{
    *out = (struct cg_vmm_args){.n = 0};
    if (l->vcpus < 1 || l->vcpus > 8)
        return cg_fail(e, CG_INVALID, "%u vCPUs: 1 to 8 are allowed", l->vcpus);
    if (l->mem_mib < 128 || l->mem_mib > 8192)
        return cg_fail(e, CG_INVALID, "%u MiB of memory: 128 to 8192 are allowed", l->mem_mib);
    cg_vmm_arg(out, "%s", program);
    if (d->args(l, out, e))
        return true;
    cg_vmm_args_finish(out);
    return false;
}

void cg_vmm_args_finish(struct cg_vmm_args *a)
{
    for (unsigned i = 0; i < a->n; i++)
        free(a->argv[i]);
    *a = (struct cg_vmm_args){.n = 0};
}

void cg_drop_vmm_args(struct cg_vmm_args *a)
{
    cg_vmm_args_finish(a);
}

#if defined(__x86_64__)
static int64_t raw_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Both clocks at one moment: the closest of some tries, as an interrupt may come in between. */
static void both_clocks(uint64_t *tsc, int64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        uint64_t before = __rdtsc();
        int64_t now = raw_ns();
        uint64_t after = __rdtsc();
        if (after - before < best) {
            best = after - before;
            *tsc = before + best / 2;
            *ns = now;
        }
    }
}

uint64_t cg_vmm_tsc_khz(void)
{
    uint64_t tsc0 = 0, tsc1 = 0;
    int64_t ns0 = 0, ns1 = 0;
    both_clocks(&tsc0, &ns0);
    const struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL);
    both_clocks(&tsc1, &ns1);
    if (ns1 <= ns0 || tsc1 <= tsc0)
        return 0;
    return (uint64_t)((double)(tsc1 - tsc0) * 1e6 / (double)(ns1 - ns0));
}
bool cg_vmm_tsc_is_steady(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1U << 8));
}
#else
uint64_t cg_vmm_tsc_khz(void)
{
    return 0;
}

bool cg_vmm_tsc_is_steady(void)
{
    return false;
}
#endif

struct cg_vmm *cg_vmm_attach(uv_loop_t *loop, const struct cg_vmm_driver *d, int control,
                             const struct cg_vmm_handlers *h, void *ctx, struct cg_err *e)
{
    struct cg_vmm *vm = d->attach(loop, control, h, ctx, e);
    if (vm)
        vm->driver = d;
    return vm;
}

void cg_vmm_hand_over(struct cg_vmm *vm, const struct cg_vmm_handlers *h, void *ctx)
{
    vm->driver->hand_over(vm, h, ctx);
}

void cg_vmm_destroy(struct cg_vmm *vm)
{
    if (vm)
        vm->driver->destroy(vm);
}

bool cg_vmm_status(struct cg_vmm *vm, cg_vmm_state_done *done, void *ctx, struct cg_err *e)
{
    return vm->driver->status(vm, done, ctx, e);
}

bool cg_vmm_pause(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e)
{
    return vm->driver->pause(vm, done, ctx, e);
}

bool cg_vmm_resume(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e)
{
    return vm->driver->resume(vm, done, ctx, e);
}

bool cg_vmm_stop(struct cg_vmm *vm, cg_vmm_done *done, void *ctx, struct cg_err *e)
{
    return vm->driver->stop(vm, done, ctx, e);
}

bool cg_vmm_save(struct cg_vmm *vm, int fd, bool without_ram, cg_vmm_done *done, void *ctx,
                 struct cg_err *e)
{
    return vm->driver->move(vm, fd, true, without_ram, done, ctx, e);
}

bool cg_vmm_restore(struct cg_vmm *vm, int fd, bool without_ram, cg_vmm_done *done, void *ctx,
                    struct cg_err *e)
{
    return vm->driver->move(vm, fd, false, without_ram, done, ctx, e);
}

bool cg_vmm_block_resize(struct cg_vmm *vm, uint64_t bytes, cg_vmm_done *done, void *ctx,
                         struct cg_err *e)
{
    return vm->driver->block_resize(vm, bytes, done, ctx, e);
}
