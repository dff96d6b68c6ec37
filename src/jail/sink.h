/* A file that grows to a bound and no further: it keeps the beginning and the end of what was
 * written. For output that a guest can make as much of as it likes. */
#ifndef CG_JAIL_SINK_H
#define CG_JAIL_SINK_H

#include "base/defs.h"

enum {
    CG_SINK_HEAD = 256 * 1024, /* first bytes, always kept */
    CG_SINK_TAIL = 256 * 1024, /* last bytes kept at least */
    CG_SINK_FILE_MAX = CG_SINK_HEAD + 2 * CG_SINK_TAIL + 128,
};

struct cg_sink {
    int fd;        /* O_WRONLY | O_APPEND; the owner's */
    size_t size;   /* of the file */
    uint64_t cut;  /* bytes that were cut out, so far */
    char *ring;    /* the last CG_SINK_TAIL bytes, once the head is full */
    size_t at;     /* where the next byte goes */
    uint64_t seen; /* bytes that went into the ring */
};

void cg_sink_init(struct cg_sink *s, int fd);
void cg_sink_finish(struct cg_sink *s);

/* Errors of the disk are swallowed: losing console text must not end a sandbox. */
void cg_sink_write(struct cg_sink *s, const char *p, size_t n);

#endif
