/* The QEMU driver's entry in the table: where the program and its parts are, and which versions
 * must not run. */
#include "vmm/qemu/qemu.h"

/* Translated code, device state, thread stacks and page tables. */
static uint32_t overhead_mib(uint32_t mem_mib)
{
    return 256 + 256 + mem_mib / 64;
}

static const char *const programs[] = {"/usr/bin/qemu-system-x86_64",
                                       "/usr/local/bin/qemu-system-x86_64", NULL};

/* Distributions ship QEMU in modules: without the accelerator's it ends at once. */
static const char *const modules[] = {"/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so",
                                      "/usr/lib/qemu/accel-tcg-x86_64.so", NULL};

static const char *const firmware[] = {
    "/usr/share/qemu/bios-microvm.bin",  "/usr/share/seabios/bios-microvm.bin",
    "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/pvh.bin",
    "/usr/share/qemu/qboot.rom",         "/usr/share/qemu-efi/bios-microvm.bin",
    "/usr/share/qemu/kvmvapic.bin",      NULL};

/* QEMU's own numbering; distributions' packages of a listed version carry the fixes with the old
 * number, so only builds from source are refused for those. */
static const struct cg_vmm_bad_version bad[] = {
    {0, 70000, true, "older than 7.0, which is no longer maintained anywhere"},
    {70000, 70200, false, "no maintained branch, CVE-2023-0330 and others are not fixed in it"},
    {70200, 70211, false, "CVE-2024-3446: a guest can free memory of virtio-serial twice"},
    {80000, 80203, false, "CVE-2024-3446: a guest can free memory of virtio-serial twice"},
};

const struct cg_vmm_driver cg_vmm_qemu = {
    .name = "qemu",
    .programs = programs,
    .package = "qemu-system-x86",
    .modules = modules,
    .firmware = firmware,
    .version_mark = "QEMU emulator version ",
    .bad = bad,
    .nbad = CG_COUNT(bad),
    .overhead_mib = overhead_mib,
    .args = cg_qemu_args,
    .attach = cg_qemu_attach,
    .hand_over = cg_qemu_hand_over,
    .destroy = cg_qemu_destroy,
    .status = cg_qemu_status,
    .pause = cg_qemu_pause,
    .resume = cg_qemu_resume,
    .stop = cg_qemu_stop,
    .block_resize = cg_qemu_block_resize,
    .move = cg_qemu_move,
};
