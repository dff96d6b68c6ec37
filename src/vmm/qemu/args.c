/* QEMU's command line: the microvm machine, virtio-mmio devices only, everything by descriptor.
 * What is easy to get wrong, all of it measured:
 * - microvm routes no PIT interrupt in this set-up, so a guest that must calibrate its TSC waits
 * for ever when the host is busy: pit=off,pic=off and tsc_early_khz, always together.
 * - A microvm has no other clock than the TSC, which the kernel throws away for ticks of 4 ms when
 *   its CPU does not promise a steady one; TCG's does not, though it is the host's: tsc=reliable
 *   where that is steady gives the guest nanoseconds and rest between events.
 * - Under TCG the kernel's own cmpxchg16b returned wrong flags: clearcpuid=cx16 keeps the kernel
 *   from it, while programs in the guest may still use it (-cpu max keeps it).
 * - A writable raw image needs an O_RDWR and an O_RDONLY descriptor in its set: QEMU opens it
 *   read-only first, and picks by access mode.
 * - RAM is anonymous unless it is to be shared: a memfd mapped privately costs every page that a
 *   booting guest touches twice, and only pays when many guests start from the same one.
 * - -serial and virtio devices take the slots of microvm in the order of the command line, so the
 *   base image is the guest's vda; the serial numbers say it more clearly. */
#include "vmm/qemu/qemu.h"

#include <string.h>

/* For code that TCG has translated. It fills up to its size, privately, so a small guest gets a
 * small one: 32 MiB hold a shell's and git's work without translating it twice, what is larger runs
 * larger programs. */
static unsigned code_cache_mib(uint32_t mem_mib)
{
    if (mem_mib <= 512)
        return 32;
    return mem_mib <= 2048 ? 128 : 256;
}

static void add_machine(const struct cg_vmm_launch *l, struct cg_vmm_args *a)
{
    cg_vmm_arg(a, "-M");
    cg_vmm_arg(a, "microvm,rtc=on,pit=off,pic=off,memory-backend=ram");
    cg_vmm_arg(a, "-nodefaults");
    cg_vmm_arg(a, "-no-user-config");
    cg_vmm_arg(a, "-no-reboot");
    cg_vmm_arg(a, "-display");
    cg_vmm_arg(a, "none");
    cg_vmm_arg(a, "-accel");
    if (l->accel == CG_ACCEL_KVM)
        cg_vmm_arg(a, "kvm");
    else
        cg_vmm_arg(a, "tcg,thread=multi,tb-size=%u", code_cache_mib(l->mem_mib));
    cg_vmm_arg(a, "-cpu");
    cg_vmm_arg(a, "%s", l->accel == CG_ACCEL_KVM ? "host" : "max");
    cg_vmm_arg(a, "-smp");
    cg_vmm_arg(a, "%u", l->vcpus);
    cg_vmm_arg(a, "-m");
    cg_vmm_arg(a, "%u", l->mem_mib);
    cg_vmm_arg(a, "-object");
    if (l->ram >= 0)
        cg_vmm_arg(a, "memory-backend-file,id=ram,size=%uM,mem-path=/proc/self/fd/%d,share=%s",
                   l->mem_mib, l->ram, l->ram_shared ? "on" : "off");
    else
        cg_vmm_arg(a, "memory-backend-ram,id=ram,size=%uM", l->mem_mib);
    if (l->incoming) {
        cg_vmm_arg(a, "-S");
        cg_vmm_arg(a, "-incoming");
        cg_vmm_arg(a, "defer");
    }
    cg_vmm_arg(a, "-sandbox");
    cg_vmm_arg(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
}

static void add_kernel(const struct cg_vmm_launch *l, struct cg_vmm_args *a)
{
    cg_vmm_arg(a, "-kernel");
    cg_vmm_arg(a, "/proc/self/fd/%d", l->kernel);
    cg_vmm_arg(a, "-initrd");
    cg_vmm_arg(a, "/proc/self/fd/%d", l->initramfs);
    char tsc[64] = "";
    bool steady = l->accel == CG_ACCEL_TCG && cg_vmm_tsc_is_steady();
    if (l->tsc_khz > 0)
        cg_snprintf(tsc, sizeof tsc, " tsc_early_khz=%llu%s", (unsigned long long)l->tsc_khz,
                    steady ? " tsc=reliable" : "");
    cg_vmm_arg(a, "-append");
    cg_vmm_arg(
        a, "console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on preempt=voluntary%s%s%s%s",
        tsc, l->accel == CG_ACCEL_TCG ? " clearcpuid=cx16" : "", l->kernel_args ? " " : "",
        l->kernel_args ? l->kernel_args : "");
}

static void add_socket(struct cg_vmm_args *a, const char *id, int fd)
{
    cg_vmm_arg(a, "-chardev");
    cg_vmm_arg(a, "socket,id=%s,fd=%d", id, fd);
}

static void add_channels(const struct cg_vmm_launch *l, struct cg_vmm_args *a)
{
    add_socket(a, "control", l->control);
    cg_vmm_arg(a, "-mon");
    cg_vmm_arg(a, "chardev=control,mode=control");
    if (l->console >= 0) {
        add_socket(a, "console", l->console);
        cg_vmm_arg(a, "-serial");
        cg_vmm_arg(a, "chardev:console");
    }
    if (l->link >= 0) {
        add_socket(a, "link", l->link);
        cg_vmm_arg(a, "-device");
        cg_vmm_arg(a, "virtio-serial-device,max_ports=2");
        cg_vmm_arg(a, "-device");
        cg_vmm_arg(a, "virtserialport,chardev=link,name=caged.link");
    }
}

static void add_fd(struct cg_vmm_args *a, int fd, int set)
{
    cg_vmm_arg(a, "-add-fd");
    cg_vmm_arg(a, "fd=%d,set=%d", fd, set);
}

static void add_disks(const struct cg_vmm_launch *l, struct cg_vmm_args *a)
{
    if (l->base >= 0) {
        add_fd(a, l->base, 1);
        cg_vmm_arg(a, "-blockdev");
        cg_vmm_arg(a, "node-name=base,driver=raw,read-only=on,file.driver=file,file.read-only=on,"
                      "file.locking=off,file.filename=/dev/fdset/1");
        cg_vmm_arg(a, "-device");
        cg_vmm_arg(a, "virtio-blk-device,id=base,drive=base,serial=caged-base");
    }
    if (l->disk_rw >= 0) {
        add_fd(a, l->disk_rw, 2);
        add_fd(a, l->disk_ro, 2);
        cg_vmm_arg(a, "-blockdev");
        cg_vmm_arg(a, "node-name=disk,driver=raw,discard=unmap,file.driver=file,file.discard=unmap,"
                      "file.locking=off,file.filename=/dev/fdset/2");
        cg_vmm_arg(a, "-device");
        cg_vmm_arg(a, "virtio-blk-device,id=disk,drive=disk,serial=caged-disk");
    }
}

bool cg_qemu_args(const struct cg_vmm_launch *l, struct cg_vmm_args *a, struct cg_err *e)
{
    if (l->kernel < 0 || l->initramfs < 0 || l->control < 0)
        return cg_fail(e, CG_INVALID, "a launch needs kernel, initramfs and control descriptors");
    if (l->kernel_args && strlen(l->kernel_args) > 512)
        return cg_fail(e, CG_TOO_LARGE, "kernel arguments of %zu bytes: 512 are allowed",
                       strlen(l->kernel_args));
    add_machine(l, a);
    add_kernel(l, a);
    add_channels(l, a);
    add_disks(l, a);
    if (l->tap >= 0) {
        cg_vmm_arg(a, "-netdev");
        cg_vmm_arg(a, "tap,id=net,fd=%d,vhost=off", l->tap);
        cg_vmm_arg(a, "-device");
        cg_vmm_arg(a, "virtio-net-device,netdev=net,mac=02:ca:9e:00:00:02");
    }
    cg_vmm_arg(a, "-object");
    cg_vmm_arg(a, "rng-builtin,id=rng");
    cg_vmm_arg(a, "-device");
    cg_vmm_arg(a, "virtio-rng-device,rng=rng");
    return true;
}
