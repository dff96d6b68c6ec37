/* capabilities(7): bounding set first, as dropping from it takes CAP_SETPCAP; then ambient; then
 * the three sets of the process. The kernel's answer is read back. */
#include "jail/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool keep_in(uint64_t keep, unsigned cap)
{
    return cap < 64 && (keep >> cap & 1);
}

bool cg_caps_keep(uint64_t keep, struct cg_err *e)
{
    for (unsigned cap = 0; cap < 64; cap++) {
        if (keep_in(keep, cap) || prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 1)
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
            return cg_fail_sys(e, "give up capability %u", cap);
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return cg_fail_sys(e, "give up ambient capabilities");
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const uint32_t low = (uint32_t)keep, high = (uint32_t)(keep >> 32);
    const struct __user_cap_data_struct want[2] = {{low, low, 0}, {high, high, 0}};
    struct __user_cap_data_struct got[2];
    if (syscall(SYS_capset, &head, want) != 0 || syscall(SYS_capget, &head, got) != 0)
        return cg_fail_sys(e, "give up capabilities");
    for (int i = 0; i < 2; i++) {
        if (got[i].permitted != want[i].permitted || got[i].effective != want[i].effective ||
            got[i].inheritable != 0)
            return cg_fail(e, CG_INTERNAL, "give up capabilities: some are still there");
    }
    return true;
}

bool cg_caps_raise(struct cg_err *e)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];
    if (syscall(SYS_capget, &head, sets) != 0)
        return cg_fail_sys(e, "read capabilities");
    for (int i = 0; i < 2; i++)
        sets[i].effective = sets[i].permitted;
    return syscall(SYS_capset, &head, sets) == 0 || cg_fail_sys(e, "use capabilities");
}
