/* Fuzz body of the guest's observation: whatever stands in a ring, the reader stays inside of it,
 * and what comes out is nothing or one line of valid JSON. Also run with seeded bytes by the unit
 * tests. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "guest/bpf/format.h"
#include "guest/bpf/ring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { HEAD = offsetof(struct cg_obs_rec, text), RING = 4096 };

static const char mountinfo[] = "21 1 0:20 / / rw - overlay overlay rw\n"
                                "22 21 254:0 /workspace /workspace rw - ext4 /dev/vda rw\n"
                                "23 21 0:25 / /mnt/with\\040space rw shared:1 - tmpfs tmpfs rw\n";

/* A copy of exactly n bytes on the heap, so that the sanitizer sees every step beyond. */
static void format_exactly(const uint8_t *data, size_t n)
{
    struct cg_mounts mounts;
    struct cg_buf line;
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_free) uint8_t *record = malloc(n ? n : 1);

    memcpy(record, data, n);
    cg_mounts_init(&mounts);
    cg_mounts_parse(&mounts, cg_strdup(mountinfo));
    cg_buf_init(&line, 65536);
    const struct cg_obs_places places = {.mounts = &mounts, .scope = {"/workspace"}};
    if (cg_obs_format(&line, &places, record, n)) {
        for (size_t i = 0; i < line.n; i++)
            CG_ASSERT((unsigned char)line.p[i] >= 0x20);
        struct cg_json *json = cg_json_parse(cg_buf_slice(&line), NULL, &e);
        CG_ASSERT(json && cg_json_str(json, "e"));
        cg_json_destroy(json);
    } else {
        CG_ASSERT(line.n == 0);
    }
    cg_buf_finish(&line);
    cg_mounts_finish(&mounts);
}

/* The same with lengths that nearly make sense, to get past the first checks. */
static void format_plausible(const uint8_t *data, size_t n)
{
    if (n < HEAD)
        return;
    struct cg_obs_rec *r = malloc(sizeof *r);
    size_t text = CG_MIN(n - HEAD, (size_t)CG_OBS_TEXT);
    memcpy(r, data, HEAD + text);
    r->kind = (uint8_t)(r->kind % (CG_OBS_KINDS + 1));
    r->op = (uint8_t)(r->op % (CG_OBS_OPS + 1));
    r->text_n = (uint32_t)text;
    r->argv_n = (uint32_t)(r->argv_n % (text + 2));
    r->path[0].n = (uint16_t)(r->path[0].n % (text - CG_MIN(r->argv_n, text) + 2));
    r->path[1].n = (uint16_t)(r->path[1].n % (text / 2 + 1));
    format_exactly((const uint8_t *)r, HEAD + text);
    free(r);
}

static void read_ring(const uint8_t *data, size_t n)
{
    uint64_t reader, writer;
    /* twice in a row, as it is mapped */
    CG_OWN(cg_drop_free) uint8_t *memory = calloc(2, RING);

    if (n < 16)
        return;
    memcpy(&reader, data, 8);
    memcpy(&writer, data + 8, 8);
    reader &= 0xfff8;
    writer = reader + (writer & 0x1ff8);
    n = CG_MIN(n - 16, (size_t)RING);
    memcpy(memory, data + 16, n);
    memcpy(memory + RING, memory, RING);
    struct cg_ring ring = {
        .at = reader, .reader = &reader, .writer = &writer, .data = memory, .size = RING};
    uint64_t end = cg_ring_end(&ring);
    size_t got;
    for (const uint8_t *p; (p = cg_ring_peek(&ring, end, &got)); cg_ring_next(&ring)) {
        CG_ASSERT(p >= memory && got <= RING && p + got <= memory + (size_t)2 * RING);
        format_exactly(p, got);
    }
    CG_ASSERT(ring.at == reader && reader <= end);
}

static void read_mounts(const uint8_t *data, size_t n)
{
    struct cg_mounts mounts;
    const char *point;
    size_t skip;
    uint32_t dev;

    cg_mounts_init(&mounts);
    cg_mounts_parse(&mounts, cg_strndup((const char *)data, n));
    if (cg_mounts_find(&mounts, 1, "/a/b", &point, &skip))
        CG_ASSERT(skip <= 4 && strlen(point) <= CG_MOUNTS_PATH);
    (void)cg_mounts_dev(&mounts, "/", &dev);
    cg_mounts_finish(&mounts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static void (*const bodies[])(const uint8_t *, size_t) = {format_exactly, format_plausible,
                                                              read_ring, read_mounts};

    if (n > 0)
        bodies[data[0] % CG_COUNT(bodies)](data + 1, n - 1);
    return 0;
}
