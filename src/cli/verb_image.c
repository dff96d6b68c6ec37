/* caged image build: kernel, initramfs and templates, with a bar that moves on a terminal and a
 * line a phase elsewhere. Ctrl-C stops the build and leaves nothing half made. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/verb_images.h"
#include "image/image.h"

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    stop_signal = number;
}

static int usage(void)
{
    fputs("usage: caged image build [TEMPLATE...] [--all] [--force]\n"
          "       caged image build --from oci:DIR[:TAG] --name NAME [--force]\n",
          stderr);
    return 2;
}

struct screen {
    bool terminal;
    const char *item; /* of the last line; items and phases are told apart by their text */
    const char *phase;
};

static void draw_bar(const struct cg_image_progress *p)
{
    static const char full[] = "##############################";
    static const char empty[] = "..............................";
    int width = (int)sizeof(full) - 1;
    int done = p->percent * width / 100;
    fprintf(stderr, "\r%-14.24s [%.*s%.*s] %3d %%  %s, %.1f s\033[K", p->item, done, full,
            width - done, empty, p->percent, p->phase, (double)p->elapsed_ms / 1000);
    if (p->percent == 100)
        fputc('\n', stderr);
}

static bool show(void *ctx, const struct cg_image_progress *p)
{
    struct screen *s = ctx;
    bool news = !cg_streq(s->item, p->item) || !cg_streq(s->phase, p->phase);
    if (p->percent == 100 && p->cached)
        fprintf(stderr, "%s%-14.24s is up to date%s\n", s->terminal ? "\r" : "", p->item,
                s->terminal ? "\033[K" : "");
    else if (s->terminal)
        draw_bar(p);
    else if (news)
        fprintf(stderr, "%-14.24s %3d %%  %s\n", p->item, p->percent, p->phase);
    s->item = p->item;
    s->phase = p->phase;
    return stop_signal == 0;
}

struct request {
    bool all;
    bool force;
    const char *from;
    const char *name;
    struct cg_strv templates;
};

static bool parse(int argc, char **argv, struct request *r)
{
    static const struct option options[] = {{"all", no_argument, NULL, 'a'},
                                            {"force", no_argument, NULL, 'f'},
                                            {"from", required_argument, NULL, 'o'},
                                            {"name", required_argument, NULL, 'n'},
                                            {0}};
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'a')
            r->all = true;
        else if (c == 'f')
            r->force = true;
        else if (c == 'o')
            r->from = optarg;
        else if (c == 'n')
            r->name = optarg;
        else
            return false;
    }
    for (int i = optind; i < argc; i++)
        cg_strv_add(&r->templates, argv[i]);
    if (r->from || r->name)
        return r->from && r->name && !r->all && r->templates.n == 0;
    return !(r->all && r->templates.n > 0);
}

/* --all: every recipe that this machine can build. */
static bool add_all(const struct cg_image_config *c, struct cg_strv *out, struct cg_err *e)
{
    struct cg_template_list list;
    bool ok = cg_image_list(c, &list, e);
    for (size_t i = 0; i < list.n; i++)
        if (list.v[i].state != CG_TEMPLATE_UNAVAILABLE && cg_streq(list.v[i].source, "recipe"))
            cg_strv_add(out, list.v[i].name);
    cg_template_list_finish(&list);
    return ok;
}

static bool build(const struct cg_image_config *c, struct request *r, struct cg_err *e)
{
    struct screen screen = {.terminal = isatty(STDERR_FILENO)};
    if (r->all && !add_all(c, &r->templates, e))
        return false;
    if (!r->from && r->templates.n == 0)
        cg_strv_add(&r->templates, "minimal");
    struct cg_image_build b = {.templates = (const char *const *)r->templates.v,
                               .force = r->force,
                               .progress = show,
                               .ctx = &screen};
    bool ok = r->from ? cg_image_import(c, r->from, r->name, &b, e) : cg_image_build(c, &b, e);
    if (!ok && screen.terminal && screen.item)
        fputc('\n', stderr);
    return ok;
}

int cg_verb_image(int argc, char **argv)
{
    struct request r = {.all = false};
    struct cg_image_config config;
    struct cg_err e = CG_ERR_INIT;
    if (argc < 2 || !cg_streq(argv[1], "build") || !parse(argc - 1, argv + 1, &r)) {
        cg_strv_finish(&r.templates);
        return usage();
    }
    umask(022); /* the server, another user, reads what is built */
    struct sigaction on = {.sa_handler = on_signal};
    sigaction(SIGINT, &on, NULL);
    sigaction(SIGTERM, &on, NULL);
    sigaction(SIGHUP, &on, NULL);
    cg_image_config_init(&config, NULL);
    bool ok = build(&config, &r, &e);
    if (!ok)
        fprintf(stderr, "caged: %s\n", e.text);
    cg_image_config_finish(&config);
    cg_strv_finish(&r.templates);
    return stop_signal && !ok ? 128 + stop_signal : ok ? 0 : cg_code_exit(e.code);
}
