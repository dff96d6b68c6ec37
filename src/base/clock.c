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

static bool read_digits(const char **p, unsigned n, int *out)
{
    *out = 0;
    for (unsigned i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

static bool read_char(const char **p, const char *allowed)
{
    bool fine = **p && strchr(allowed, **p);
    *p += fine;
    return fine;
}

static bool read_offset(const char **p, int64_t *seconds)
{
    int hours, minutes;
    int sign = **p == '-' ? -1 : 1;
    *seconds = 0;
    if (read_char(p, "Zz"))
        return true;
    if (!read_char(p, "+-") || !read_digits(p, 2, &hours) || !read_char(p, ":") ||
        !read_digits(p, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

bool cg_time_parse(const char *text, int64_t *wall_ns)
{
    const char *p = text;
    struct tm tm = {0};
    int64_t fraction = 0;
    int64_t offset;
    if (!read_digits(&p, 4, &tm.tm_year) || !read_char(&p, "-") ||
        !read_digits(&p, 2, &tm.tm_mon) || !read_char(&p, "-") ||
        !read_digits(&p, 2, &tm.tm_mday) || !read_char(&p, "Tt ") ||
        !read_digits(&p, 2, &tm.tm_hour) || !read_char(&p, ":") ||
        !read_digits(&p, 2, &tm.tm_min) || !read_char(&p, ":") || !read_digits(&p, 2, &tm.tm_sec))
        return false;
    if (read_char(&p, ".")) {
        const char *begin = p;
        for (int64_t unit = 100000000; *p >= '0' && *p <= '9'; p++, unit /= 10)
            fraction += (*p - '0') * unit;
        if (p == begin)
            return false;
    }
    if (!read_offset(&p, &offset) || *p || tm.tm_year < 1970 || tm.tm_year > 2200 ||
        tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    struct tm given = tm;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    time_t s = timegm(&tm);
    if (tm.tm_mon != given.tm_mon - 1 || tm.tm_mday != given.tm_mday)
        return false; /* timegm made another day of it */
    *wall_ns = ((int64_t)s - offset) * 1000000000 + fraction;
    return true;
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
