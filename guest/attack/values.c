/* A secret's real value, looked for everywhere that root of a guest can look: environments and
 * arguments of processes, all memory, all disks. It is given in disguise and compared in disguise,
 * so that the search does not find itself; the placeholder, which is there, shows that the search
 * works. */
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "attack.h"

enum { MASK = 0x5a, CHUNK = 1 << 20, NEEDLE = 256, SEGMENTS = 64, SECONDS = 60 };

struct needle {
    unsigned char p[NEEDLE];
    size_t n;
};

struct search {
    struct needle value;  /* of the secret */
    struct needle marker; /* what placeholders begin with */
    unsigned char buf[CHUNK + NEEDLE];
    unsigned long long bytes;
    unsigned values, markers;
    time_t until;
};

static bool read_needle(const char *hex, struct needle *out)
{
    size_t n = strlen(hex) / 2;
    if (n < 8 || n > NEEDLE)
        return false;
    for (size_t i = 0; i < n; i++) {
        const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        char *end = NULL;
        out->p[i] = (unsigned char)strtoul(pair, &end, 16);
        if (*end)
            return false;
    }
    out->n = n;
    return true;
}

static unsigned count(const unsigned char *p, size_t n, const struct needle *what)
{
    unsigned found = 0;
    const unsigned char *at;
    while ((at = memmem(p, n, what->p, what->n)) != NULL) {
        found++;
        n -= (size_t)(at - p) + 1;
        p = at + 1;
    }
    return found;
}

/* Reads [from, to) of a file; what cannot be read is stepped over. */
static void search_range(struct search *s, int fd, off_t from, off_t to)
{
    size_t kept = 0;
    while (from < to && time(NULL) < s->until) {
        size_t want = to - from < CHUNK ? (size_t)(to - from) : (size_t)CHUNK;
        ssize_t n = pread(fd, s->buf + kept, want, from);
        if (n == 0)
            return;
        if (n < 0) {
            from += (off_t)want;
            kept = 0;
            continue;
        }
        for (ssize_t i = 0; i < n; i++)
            s->buf[kept + (size_t)i] ^= MASK;
        size_t have = kept + (size_t)n;
        s->values += count(s->buf, have, &s->value);
        s->markers += count(s->buf, have, &s->marker);
        s->bytes += (unsigned long long)n;
        kept = have < NEEDLE - 1 ? have : NEEDLE - 1;
        memmove(s->buf, s->buf + have - kept, kept);
        from += n;
    }
}

static void search_file(struct search *s, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    search_range(s, fd, 0, (off_t)1 << 40);
    close(fd);
}

static void tell(struct search *s, const char *where, bool wants_marker)
{
    if (s->values > 0)
        attack_say(ATTACK_OPEN, "the value is there", "%s", where);
    else if (time(NULL) >= s->until)
        attack_say(ATTACK_SKIP, "it took too long", "%s", where);
    else if (s->bytes == 0)
        attack_say(ATTACK_SKIP, "it cannot be read", "%s", where);
    else if (wants_marker && s->markers == 0)
        attack_say(ATTACK_SKIP, "the search found not even the placeholder", "%s", where);
    else
        attack_say(ATTACK_HELD, "", "%s, %llu MB", where, (s->bytes + 999999) / 1000000);
    s->values = s->markers = 0;
    s->bytes = 0;
    s->until = time(NULL) + SECONDS;
}

static void search_processes(struct search *s, const char *file)
{
    DIR *d = opendir("/proc");
    const struct dirent *e;
    char path[300];
    while (d && (e = readdir(d)) != NULL) {
        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/%s", e->d_name, file);
        search_file(s, path);
    }
    if (d)
        closedir(d);
}

/* The memory of the machine by /proc/kcore: a core file whose segments include all of it. Those of
 * addresses that no memory could fill are left out. */
static void search_memory(struct search *s)
{
    Elf64_Ehdr head;
    Elf64_Phdr segment[SEGMENTS];
    int fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
    const unsigned long long most = (unsigned long long)sysconf(_SC_PHYS_PAGES) *
                                        (unsigned long long)sysconf(_SC_PAGESIZE) * 2 +
                                    (1ull << 30);
    if (fd < 0)
        return;
    if (read(fd, &head, sizeof head) == (ssize_t)sizeof head &&
        memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 && head.e_phnum <= SEGMENTS &&
        pread(fd, segment, head.e_phnum * sizeof segment[0], (off_t)head.e_phoff) > 0)
        for (unsigned i = 0; i < head.e_phnum; i++)
            if (segment[i].p_type == PT_LOAD && segment[i].p_memsz <= most)
                search_range(s, fd, (off_t)segment[i].p_offset,
                             (off_t)(segment[i].p_offset + segment[i].p_filesz));
    close(fd);
}

static void search_disks(struct search *s)
{
    char path[32];
    sync();
    for (const char *c = "abcdefgh"; *c; c++) {
        snprintf(path, sizeof path, "/dev/vd%c", *c);
        search_file(s, path);
    }
}

/* WORDS: the value and the beginning of placeholders, each as hex of its bytes XOR 0x5a. */
void attack_values(int n, char **words)
{
    static struct search s;
    if (n != 2 || !read_needle(words[0], &s.value) || !read_needle(words[1], &s.marker)) {
        attack_say(ATTACK_SKIP, "no value to look for", "secrets");
        return;
    }
    s.until = time(NULL) + SECONDS;
    search_processes(&s, "environ");
    tell(&s, "environments of all processes", true);
    search_processes(&s, "cmdline");
    tell(&s, "arguments of all processes", false);
    search_memory(&s);
    tell(&s, "all memory", true);
    search_disks(&s);
    tell(&s, "all disks", false);
}
