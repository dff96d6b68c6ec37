/* Fuzz body of the record's files: whatever stands in them, a reader ends, gives lines in order
 * that parse, and a writer either refuses the record or goes on so that the next reader finds no
 * damage. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "record/reader.h"
#include "record/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char header[] =
    "{\"type\":\"segment\",\"format\":1,\"segment\":1,\"sandbox\":\"cage-aaaaaaaaaa\",\"first_"
    "seq\":1,"
    "\"epoch\":\"2026-01-02T03:04:05.678901Z\",\"boot_id\":\"x\",\"epoch_mono\":5,\"prev\":null}\n";

static char folder[64];
static int dir = -1;

static void clean_up(void)
{
    close(dir);
    if (!cg_fs_remove_tree(folder, NULL))
        abort();
}

static void set_up(void)
{
    cg_snprintf(folder, sizeof folder, "/dev/shm/cg-fuzz-XXXXXX");
    CG_ASSERT(mkdtemp(folder));
    dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CG_ASSERT(dir >= 0);
    atexit(clean_up);
}

static uint64_t read_all(uint64_t after, uint64_t *damaged)
{
    struct cg_err e = CG_ERR_INIT;
    struct cg_record_reader *r = cg_record_reader_open(dir, after, &e);
    struct cg_slice text;
    struct cg_record_line line;
    uint64_t last = after;

    if (!r)
        return 0;
    while (cg_record_read(r, UINT64_MAX, &text, &line, &e) == CG_RECORD_LINE) {
        CG_ASSERT(line.seq > last && line.t >= 0);
        CG_ASSERT(text.p[text.n] == '\n' && !memchr(text.p, '\n', text.n));
        CG_ASSERT(line.data.p[0] == '{' && line.data.p + line.data.n < text.p + text.n);
        last = line.seq;
    }
    *damaged = cg_record_reader_damaged(r);
    cg_record_reader_close(r);
    return last;
}

static void write_segment(const uint8_t *data, size_t n)
{
    for (int i = 1; i <= 2; i++)
        (void)unlinkat(dir, i == 1 ? "000001.jsonl" : "000002.jsonl", 0);
    int fd = openat(dir, "000001.jsonl", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool with_header = n > 0 && data[0] != '!';
    CG_ASSERT(fd >= 0);
    if (with_header)
        CG_ASSERT(write(fd, header, sizeof header - 1) == (ssize_t)sizeof header - 1);
    size_t skip = n > 0 && !with_header;
    CG_ASSERT(write(fd, data + skip, n - skip) == (ssize_t)(n - skip));
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct cg_record_options o = {.sandbox = "cage-aaaaaaaaaa"};
    struct cg_err e = CG_ERR_INIT;
    uint64_t damaged = 0;

    if (dir < 0)
        set_up();
    write_segment(data, n);
    uint64_t last = read_all(0, &damaged);
    read_all(last / 2, &damaged);
    struct cg_record *r = cg_record_open(dir, &o, &e);
    if (!r) {
        CG_ASSERT(e.text[0]);
        return 0;
    }
    struct cg_jsonw *w = cg_record_begin(r, CG_REC_LIFECYCLE, CG_SRC_SERVER, NULL);
    cg_jsonw_kstrn(w, "event", (const char *)data, n > 8 ? 8 : n);
    uint64_t seq = cg_record_end(r);
    CG_ASSERT(seq > 0 && cg_record_sync(r, &e) && cg_record_durable(r) == seq);
    cg_record_close(r);
    CG_ASSERT(read_all(0, &damaged) == seq && damaged == 0);
    CG_ASSERT(cg_record_last_seq(dir, &last, &e) && last == seq);
    return 0;
}
