/* Runs a fuzz body without a fuzzer: over every file of the corpus folder that is named, then over
 * inputs made from a seed, by mutating the corpus and from nothing. The same seed gives the same
 * inputs, so a failure repeats; it and the input's number are printed before they run.
 * Usage: prop_<name> CORPUS [RUNS [SEED]] */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { INPUT_MAX = 4096, CORPUS_MAX = 256, RUNS = 4000 };

struct input {
    char *p;
    size_t n;
};

static struct input corpus[CORPUS_MAX];
static size_t corpus_n;
static char doing[300]; /* what runs now, for the handler */

static uint64_t next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void say_what(int sig)
{
    ssize_t ignored = write(STDERR_FILENO, doing, strlen(doing));
    (void)ignored;
    signal(sig, SIG_DFL);
    raise(sig);
}

/* A copy of exactly n bytes on the heap, so that a sanitizer sees every step beyond. */
static void run(const void *bytes, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    if (!exact)
        abort();
    if (n)
        memcpy(exact, bytes, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

static void load(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;

    while (d && corpus_n < CORPUS_MAX && (entry = readdir(d))) {
        char path[512];
        size_t n = 0;
        struct cg_err e = CG_ERR_INIT;
        if (entry->d_name[0] == '.')
            continue;
        cg_snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        char *text = NULL;
        if (!cg_fs_slurp(path, INPUT_MAX * 64, &text, &n, &e)) {
            fprintf(stderr, "%s\n", e.text);
            exit(2);
        }
        corpus[corpus_n++] = (struct input){text, n};
        cg_snprintf(doing, sizeof doing, "failed at %s\n", path);
        run(text, n);
    }
    if (d)
        closedir(d);
}

static size_t make(uint8_t *out, uint64_t *state)
{
    size_t n = next(state) % (next(state) % 8 ? 64 : INPUT_MAX);

    if (corpus_n && next(state) % 4) {
        const struct input *from = &corpus[next(state) % corpus_n];
        n = from->n < INPUT_MAX ? from->n : INPUT_MAX;
        memcpy(out, from->p, n);
        for (uint64_t changes = next(state) % 8; changes > 0 && n > 0; changes--)
            out[next(state) % n] = (uint8_t)next(state);
        return next(state) % 4 ? n : next(state) % (n + 1);
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)next(state);
    return n;
}

int main(int argc, char **argv)
{
    uint64_t runs = argc > 2 ? strtoull(argv[2], NULL, 10) : RUNS;
    uint64_t state = argc > 3 ? strtoull(argv[3], NULL, 10) : 1, seed = state;
    uint8_t bytes[INPUT_MAX];

    signal(SIGABRT, say_what);
    signal(SIGSEGV, say_what);
    if (argc > 1)
        load(argv[1]);
    for (uint64_t i = 0; i < runs; i++) {
        size_t n = make(bytes, &state);
        cg_snprintf(doing, sizeof doing, "failed at input %" PRIu64 " of seed %" PRIu64 "\n", i,
                    seed);
        run(bytes, n);
    }
    printf("%zu files, %" PRIu64 " inputs of seed %" PRIu64 "\n", corpus_n, runs, seed);
    for (size_t i = 0; i < corpus_n; i++)
        free(corpus[i].p);
    return 0;
}
