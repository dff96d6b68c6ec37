/* What a machine costs, in nano-dollars an hour of running. */
#ifndef CG_CORE_RATES_H
#define CG_CORE_RATES_H

enum {
    CG_RATE_VCPU_NUSD = 10000000,
    CG_RATE_MEMORY_GB_NUSD = 5000000,
    CG_RATE_DISK_GB_NUSD = 1000000,
};

#endif
