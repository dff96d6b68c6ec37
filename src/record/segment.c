/* A segment is a header line and lines of events. The header is JSON as any, written and read by
 * the means of base; it is the only part of a record that a reader parses whole. */
#include "record/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/jsonw.h"

void cg_segment_name(uint32_t number, char out[CG_SEGMENT_NAME])
{
    CG_ASSERT(number > 0 && number <= 999999);
    cg_snprintf(out, CG_SEGMENT_NAME, "%06u.jsonl", (unsigned)number);
}

static uint32_t number_of(const char *name)
{
    if (strlen(name) < 12 ||
        (strcmp(name + 6, ".jsonl") != 0 && strcmp(name + 6, ".jsonl.zst") != 0))
        return 0;
    uint32_t n = 0;
    for (int i = 0; i < 6; i++) {
        if (name[i] < '0' || name[i] > '9')
            return 0;
        n = n * 10 + (uint32_t)(name[i] - '0');
    }
    return n;
}

bool cg_segment_last(int dir_fd, uint32_t *number, struct cg_err *e)
{
    *number = 0;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CG_OWN(cg_drop_dir) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        cg_drop_fd(&fd);
        return cg_fail_sys(e, "open the record's folder");
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL)
        *number = CG_MAX(*number, number_of(entry->d_name));
    return true;
}

void cg_segment_header_write(const struct cg_segment_header *h, struct cg_buf *out)
{
    struct cg_jsonw w;
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", "segment");
    cg_jsonw_kint(&w, "format", CG_RECORD_FORMAT);
    cg_jsonw_kint(&w, "segment", h->number);
    cg_jsonw_kstr(&w, "sandbox", h->sandbox);
    cg_jsonw_kuint(&w, "first_seq", h->first_seq);
    cg_jsonw_kstr(&w, "epoch", h->epoch);
    cg_jsonw_kstr(&w, "boot_id", h->boot_id);
    cg_jsonw_kint(&w, "epoch_mono", h->epoch_mono);
    cg_jsonw_kstr(&w, "prev", h->prev[0] ? h->prev : NULL);
    cg_jsonw_obj_end(&w);
    cg_buf_addc(out, '\n');
}

static bool copy(const struct cg_json *o, const char *key, char *out, size_t size)
{
    const char *s = cg_json_str(o, key);
    return s && cg_strlcpy(out, size, s);
}

bool cg_segment_header_parse(struct cg_slice text, struct cg_segment_header *out, struct cg_err *e)
{
    *out = (struct cg_segment_header){.number = 0};
    static const struct cg_json_limits limits = {CG_SEGMENT_HEADER_MAX, 4, 32};
    CG_OWN(cg_drop_json) struct cg_json *o = cg_json_parse(text, &limits, e);
    if (!o)
        return cg_wrap(e, "segment header");
    if (!cg_streq(cg_json_str(o, "type"), "segment"))
        return cg_fail(e, CG_INVALID, "the first line is not a segment header");
    int64_t format = cg_json_int(o, "format", 0);
    if (format != CG_RECORD_FORMAT)
        return cg_fail(e, CG_UNSUPPORTED, "record format %lld; this build reads %d",
                       (long long)format, CG_RECORD_FORMAT);
    int64_t number = cg_json_int(o, "segment", 0);
    int64_t first = cg_json_int(o, "first_seq", 0);
    const struct cg_json *prev = cg_json_get(o, "prev");
    bool fine = number > 0 && number <= 999999 && first > 0 &&
                copy(o, "sandbox", out->sandbox, sizeof out->sandbox) &&
                copy(o, "epoch", out->epoch, sizeof out->epoch) &&
                copy(o, "boot_id", out->boot_id, sizeof out->boot_id) && prev &&
                (prev->type == CG_JSON_NULL || copy(o, "prev", out->prev, sizeof out->prev));
    if (!fine)
        return cg_fail(e, CG_INVALID, "a segment header with missing or wrong members");
    out->number = (uint32_t)number;
    out->first_seq = (uint64_t)first;
    out->epoch_mono = cg_json_int(o, "epoch_mono", 0);
    return true;
}

bool cg_segment_open(int dir_fd, uint32_t number, int flags, int *fd, struct cg_segment_header *h,
                     size_t *length, struct cg_err *e)
{
    char name[CG_SEGMENT_NAME];
    cg_segment_name(number, name);
    /* a warden may be broken: its reader must neither follow a link nor wait on a pipe */
    CG_OWN(cg_drop_fd) int f = openat(dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (f < 0 || fstat(f, &st) != 0)
        return cg_fail_sys(e, "open %s", name);
    if (!S_ISREG(st.st_mode))
        return cg_fail(e, CG_INVALID, "%s is not a regular file", name);
    char text[CG_SEGMENT_HEADER_MAX];
    ssize_t n = pread(f, text, sizeof text, 0);
    if (n < 0)
        return cg_fail_sys(e, "read %s", name);
    const char *end = memchr(text, '\n', (size_t)n);
    if (!end)
        return cg_fail(e, CG_INVALID, "%s: no complete header", name);
    *length = (size_t)(end - text) + 1;
    if (!cg_segment_header_parse((struct cg_slice){text, *length - 1}, h, e))
        return cg_wrap(e, "%s", name);
    if (h->number != number)
        return cg_fail(e, CG_INVALID, "%s: its header says segment %u", name, (unsigned)h->number);
    *fd = CG_MOVE_FD(f);
    return true;
}
