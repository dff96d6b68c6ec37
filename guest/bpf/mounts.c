/* See mounts.h. The kernel flags a changed table with POLLPRI on an open mountinfo, so that device
 * numbers which are used again never give the paths of their last owner. */
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cg_mounts_entry {
    const char *root;  /* "" when the mount shows the whole file system */
    const char *point; /* "" for / */
    uint32_t dev;
};

void cg_mounts_init(struct cg_mounts *m)
{
    *m = (struct cg_mounts){.fd = -1};
}

static void forget(struct cg_mounts *m)
{
    free(m->text);
    free(m->entry);
    m->text = NULL;
    m->entry = NULL;
    m->count = 0;
}

void cg_mounts_finish(struct cg_mounts *m)
{
    forget(m);
    cg_drop_fd(&m->fd);
    m->fd = -1;
}

/* Undoes \ooo in place. */
static void unescape(char *s)
{
    char *to = s;

    while (*s) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
            s[3] >= '0' && s[3] <= '7') {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 4;
        } else {
            *to++ = *s++;
        }
    }
    *to = '\0';
}

static const char *trim_root(char *s)
{
    unescape(s);
    return strcmp(s, "/") == 0 ? "" : s;
}

static char *word(char **at)
{
    char *s = *at;
    char *end = strchr(s, ' ');

    if (!end)
        return NULL;
    *end = '\0';
    *at = end + 1;
    return s;
}

/* "36 35 98:0 /root /point options ..." */
static bool parse_line(char *line, struct cg_mounts_entry *e)
{
    char *at = line;
    char *id = word(&at), *parent = id ? word(&at) : NULL, *dev = parent ? word(&at) : NULL;
    char *root = dev ? word(&at) : NULL, *point = root ? word(&at) : NULL;
    char *rest;

    if (!point || root[0] != '/' || point[0] != '/' || strlen(point) > CG_MOUNTS_PATH)
        return false;
    unsigned long major = strtoul(dev, &rest, 10);
    if (*rest != ':' || major > 0xfff)
        return false;
    unsigned long minor = strtoul(rest + 1, &rest, 10);
    if (*rest || minor > 0xfffff)
        return false;
    e->dev = (uint32_t)(major << 20 | minor);
    e->root = trim_root(root);
    e->point = trim_root(point);
    return true;
}

void cg_mounts_parse(struct cg_mounts *m, char *text)
{
    forget(m);
    m->text = text;
    m->entry = cg_alloc_array(CG_MOUNTS_MAX, sizeof *m->entry);
    for (char *line = text, *next; line && *line && m->count < CG_MOUNTS_MAX; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (parse_line(line, &m->entry[m->count]))
            m->count++;
    }
}

static char *read_all(int fd)
{
    char *text = cg_alloc(CG_MOUNTS_TEXT + 1);
    size_t n = 0;

    while (n < CG_MOUNTS_TEXT) {
        ssize_t got = pread(fd, text + n, CG_MOUNTS_TEXT - n, (off_t)n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    text[n] = '\0';
    return cg_realloc(text, n + 1);
}

void cg_mounts_refresh(struct cg_mounts *m)
{
    if (m->fd < 0) {
        m->fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        if (m->fd < 0)
            return;
    } else {
        struct pollfd changed = {.fd = m->fd, .events = POLLPRI};
        if (poll(&changed, 1, 0) <= 0)
            return;
    }
    cg_mounts_parse(m, read_all(m->fd));
}

static bool shows(const struct cg_mounts_entry *e, const char *path)
{
    size_t n = strlen(e->root);

    return strncmp(path, e->root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

bool cg_mounts_find(const struct cg_mounts *m, uint32_t dev, const char *path, const char **point,
                    size_t *skip)
{
    const struct cg_mounts_entry *best = NULL;

    for (size_t i = 0; i < m->count; i++) {
        const struct cg_mounts_entry *e = &m->entry[i];
        if (e->dev == dev && shows(e, path) && (!best || strlen(e->root) < strlen(best->root)))
            best = e;
    }
    if (!best)
        return false;
    *point = best->point;
    *skip = strlen(best->root);
    return true;
}

bool cg_mounts_dev(const struct cg_mounts *m, const char *point, uint32_t *dev)
{
    for (size_t i = m->count; i-- > 0;) {
        if (strcmp(m->entry[i].point, strcmp(point, "/") == 0 ? "" : point) == 0) {
            *dev = m->entry[i].dev;
            return true;
        }
    }
    return false;
}
