/* Group commit: what was appended to the record reaches the disk in batches, one at a time, on the
 * loop's thread pool. A batch begins when the loop is about to wait and somebody wants it, or some
 * milliseconds after the first line, so that a storm of events costs few syncs. */
#ifndef CG_WARDEN_COMMIT_H
#define CG_WARDEN_COMMIT_H

#include <uv.h>

#include "record/record.h"

struct commit_wait {
    struct commit_wait *next;
    uint64_t seq;
    void (*done)(struct commit_wait *wait); /* the line is on disk, or was lost and counted */
    bool waiting;
};

struct commit {
    struct cg_record *record; /* borrowed */
    uv_loop_t *loop;
    uv_work_t work;
    uv_prepare_t prepare;
    uv_timer_t delay;
    bool busy;
    bool delay_on;
    bool urgent;
    bool failing; /* said in the log */
    struct commit_wait *first;
    struct commit_wait *last;
    void (*on_progress)(void *ctx); /* after each batch, good or bad */
    void *ctx;
};

void commit_init(struct commit *c, uv_loop_t *loop, struct cg_record *record,
                 void (*on_progress)(void *ctx), void *ctx);
void commit_close(struct commit *c); /* its handles; no batch may be under way */

/* Calls wait->done from the loop once `seq` is durable (0, a lost line: soon). The wait is the
 * caller's and stays where it is. Numbers come in rising order. */
void commit_wait(struct commit *c, struct commit_wait *wait, uint64_t seq);
void commit_forget(struct commit *c, struct commit_wait *wait);

void commit_now(struct commit *c); /* begin the next batch without delay */
bool commit_idle(const struct commit *c);

#endif
