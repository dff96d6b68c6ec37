#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;
    CG_ASSERT(clock_gettime(id, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t cg_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t cg_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

void cg_time_format(int64_t wall_ns, char out[CG_TIME_TEXT])
{
    time_t s = (time_t)(wall_ns / 1000000000);
    long us = (long)(wall_ns % 1000000000 / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    size_t n = strftime(out, CG_TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
    cg_snprintf(out + n, CG_TIME_TEXT - n, ".%06ldZ", us);
}

void cg_rand_bytes(void *out, size_t n)
{
    char *p = out;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        CG_ASSERT(got > 0);
        p += got;
        n -= (size_t)got;
    }
}

static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";

void cg_id_make(const char *prefix, char out[CG_ID_TEXT])
{
    unsigned char bytes[10];
    cg_rand_bytes(bytes, sizeof bytes);
    char tail[sizeof bytes + 1];
    for (size_t i = 0; i < sizeof bytes; i++)
        tail[i] = base32[bytes[i] & 31];
    tail[sizeof bytes] = '\0';
    cg_snprintf(out, CG_ID_TEXT, "%s-%s", prefix, tail);
}

bool cg_id_valid(const char *id, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(id, prefix, n) != 0 || id[n] != '-')
        return false;
    const char *tail = id + n + 1;
    size_t len = strspn(tail, base32);
    return tail[len] == '\0' && len >= 8 && len <= 26;
}
