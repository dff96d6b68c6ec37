#include "cli/watch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cli/event.h"

struct cli_watch {
    struct cli c; /* its texts are ours */
    char *path;
    enum cli_watch_what what;
    FILE *f;
    pthread_t thread;
    atomic_bool quiet;
    atomic_ullong seen, shown;
};

static bool has(struct cg_slice data, const char *text)
{
    return memmem(data.p, data.n, text, strlen(text)) != NULL;
}

static bool interesting(const struct cli_watch *w, const char *event, struct cg_slice data)
{
    bool project = w->what == CLI_WATCH_PROJECT;
    if (strcmp(event, "lifecycle") == 0 || strcmp(event, "gap") == 0 || strcmp(event, "error") == 0)
        return project || has(data, "budget");
    if (strcmp(event, "file_op") == 0)
        return has(data, "\"/workspace/") && !has(data, "/.git/");
    if (strcmp(event, "process") == 0)
        return has(data, "\"event\":\"exec\"");
    if (strcmp(event, "llm_call") == 0) /* not what was no call to a model */
        return has(data, "\"event\":\"close\"") && !has(data, "\"model\":\"\"") &&
               !has(data, "\"model\":null");
    return strcmp(event, "cost") == 0 && has(data, "\"budget_");
}

static bool on_event(void *ctx, const char *id, const char *event, struct cg_slice data)
{
    struct cli_watch *w = ctx;
    (void)id;
    if (strcmp(event, "sandbox") == 0)
        return !atomic_load(&w->quiet);
    atomic_fetch_add(&w->seen, 1);
    if (!atomic_load(&w->quiet) && interesting(w, event, data)) {
        atomic_fetch_add(&w->shown, 1);
        flockfile(w->f);
        fputs("   | ", w->f);
        event_print(w->f, data);
        funlockfile(w->f);
        fflush(w->f);
    }
    return !atomic_load(&w->quiet);
}

static void *follow(void *arg)
{
    struct cli_watch *w = arg;
    struct cg_err e = CG_ERR_INIT;
    bool ended = false;
    if (!cli_events(&w->c, w->path, on_event, w, &ended, &e) && !atomic_load(&w->quiet))
        fprintf(stderr, "warning: the events ended: %s\n", e.text);
    return NULL;
}

static void drop(struct cli_watch *w)
{
    cli_finish(&w->c);
    free(w->path);
    free(w);
}

struct cli_watch *cli_watch_start(const struct cli *c, const char *id, enum cli_watch_what what,
                                  bool from_start, FILE *f)
{
    struct cli_watch *w = cg_alloc(sizeof *w);
    w->c = (struct cli){.state_dir = c->state_dir ? cg_strdup(c->state_dir) : NULL,
                        .url = cg_strdup(c->url),
                        .key = c->key ? cg_strdup(c->key) : NULL};
    w->path = cg_format("/v1/events/stream?sandbox_id=%s%s", id, from_start ? "&after_seq=0" : "");
    w->what = what;
    w->f = f;
    if (pthread_create(&w->thread, NULL, follow, w) == 0)
        return w;
    drop(w);
    return NULL;
}

void cli_watch_counts(const struct cli_watch *w, unsigned long long *seen,
                      unsigned long long *shown)
{
    *seen = w ? atomic_load(&w->seen) : 0;
    *shown = w ? atomic_load(&w->shown) : 0;
}

void cli_watch_finish(struct cli_watch *w)
{
    if (!w)
        return;
    pthread_join(w->thread, NULL);
    drop(w);
}

void cli_watch_leave(struct cli_watch *w)
{
    if (!w)
        return;
    atomic_store(&w->quiet, true);
    pthread_detach(w->thread);
}
