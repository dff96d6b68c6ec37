/* caged replay: a terminal session played again, or written as an asciicast. What is played passes
 * the filter of inert.h, so that it can do nothing to the terminal but show. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cast.h"
#include "cli/inert.h"
#include "cli/verb.h"

enum { WORDS = 4, OUT_MAX = 1 << 20, SKIP_S = 10 };

struct player {
    const struct cast *cast;
    struct inert filter;
    size_t next;
    double now; /* in the recording */
    double speed;
    bool paused, quit;
    bool keys; /* standard input is a terminal */
};

static void put(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDOUT_FILENO, p, n);
        if (done < 0 && errno != EINTR)
            exit(1);
        p += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
}

static void show(struct player *p, const struct cast_event *e)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, OUT_MAX);
    if (e->kind != CAST_OUT)
        return;
    inert_feed(&p->filter, (struct cg_slice){e->text, e->n}, &b);
    put(b.p, b.n);
}

/* To a moment: backwards means all of it again, at once. */
static void seek(struct player *p, double to)
{
    if (to < p->now) {
        p->filter = (struct inert){.state = INERT_TEXT};
        p->next = 0;
        put(inert_reset, strlen(inert_reset));
        put("\033[H\033[2J", 7);
    }
    p->now = to < 0 ? 0 : to;
    while (p->next < p->cast->n && p->cast->events[p->next].at <= p->now)
        show(p, &p->cast->events[p->next++]);
}

/* To the next or the last mark. */
static void jump(struct player *p, bool forward)
{
    double to = forward ? -1 : 0;
    for (size_t i = 0; i < p->cast->n; i++) {
        const struct cast_event *e = &p->cast->events[i];
        if (e->kind == CAST_MARK && forward && e->at > p->now + 0.05) {
            to = e->at;
            break;
        }
        if (e->kind == CAST_MARK && !forward && e->at < p->now - 0.5)
            to = e->at;
    }
    if (to >= 0)
        seek(p, to);
}

static void on_key(struct player *p, const char *key, size_t n)
{
    if (n == 3 && key[0] == '\033' && key[1] == '[') {
        if (key[2] == 'C')
            seek(p, p->now + SKIP_S);
        else if (key[2] == 'D')
            seek(p, p->now - SKIP_S);
        return;
    }
    switch (key[0]) {
    case ' ':
        p->paused = !p->paused;
        break;
    case '+':
    case '>':
        p->speed = CG_MIN(p->speed * 2, 64.0);
        break;
    case '-':
    case '<':
        p->speed = CG_MAX(p->speed / 2, 0.125);
        break;
    case ']':
        jump(p, true);
        break;
    case '[':
        jump(p, false);
        break;
    case '0':
        seek(p, -1);
        break;
    case 'q':
    case 3:
    case 4:
        p->quit = true;
        break;
    default:
        break;
    }
}

/* Waits until the next event is due, or a key came. */
static void wait_for_next(struct player *p)
{
    double due = p->cast->events[p->next].at - p->now;
    int64_t began = cg_mono_ns();
    int ms = p->paused ? -1 : (int)CG_MIN(due / p->speed * 1000 + 1, 3600e3);
    struct pollfd fd = {.fd = p->keys ? STDIN_FILENO : -1, .events = POLLIN};
    int got = poll(&fd, 1, ms);
    double passed = (double)(cg_mono_ns() - began) / 1e9 * p->speed;
    if (!p->paused)
        p->now += CG_MIN(passed, due);
    if (got > 0) {
        char key[16];
        ssize_t n = read(STDIN_FILENO, key, sizeof key);
        if (n <= 0)
            p->quit = true;
        else
            on_key(p, key, (size_t)n);
    }
}

static int play(const struct cast *cast, double speed, double from)
{
    struct termios before;
    struct player p = {.cast = cast, .speed = speed, .filter = {.state = INERT_TEXT}};
    p.keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
    if (p.keys) {
        struct termios raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        fprintf(stderr, "%d x %d; space: pause, + -: speed, arrows: 10 s, [ ]: commands, q: end\n",
                cast->cols, cast->rows);
    }
    seek(&p, from);
    while (p.next < cast->n && !p.quit) {
        if (!p.paused && cast->events[p.next].at <= p.now)
            show(&p, &cast->events[p.next++]);
        else
            wait_for_next(&p);
    }
    put(inert_reset, strlen(inert_reset));
    put("\r\n", 2);
    if (p.keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return 0;
}

static int export_cast(const struct cast *cast, const char *to)
{
    struct cg_err e = CG_ERR_INIT;
    bool out = strcmp(to, "-") == 0;
    FILE *f = out ? stdout : fopen(to, "we");
    bool fine = f && cast_write(cast, f);
    if (!fine)
        cg_fail_sys(&e, "write %s", to);
    if (f && !out && fclose(f) != 0 && fine)
        fine = cg_fail_sys(&e, "write %s", to);
    return fine ? 0 : cli_error(&e);
}

static bool number(const char *text, double min, double max, double *out)
{
    char *end = NULL;
    if (!text)
        return true;
    *out = strtod(text, &end);
    return end != text && !*end && *out >= min && *out <= max;
}

int verb_replay(int argc, char **argv)
{
    const char *speed_text = NULL;
    const char *idle_text = NULL;
    const char *from_text = NULL;
    const char *to = NULL;
    double speed = 1;
    double idle = 2;
    double from = 0;
    char *words[WORDS];
    int n = WORDS;
    struct cg_err e = CG_ERR_INIT;
    const struct cli_flag flags[] = {{"--speed", true, &speed_text, NULL, NULL},
                                     {"--idle", true, &idle_text, NULL, NULL},
                                     {"--from", true, &from_text, NULL, NULL},
                                     {"--export", true, &to, NULL, NULL},
                                     {NULL, false, NULL, NULL, NULL}};
    if (!cli_flags(argc, argv, flags, words, &n, false, &e))
        return cli_usage("%s", e.text);
    if (n != 1)
        return cli_usage("replay needs a session: caged replay <session> [--export FILE.cast]");
    if (!number(speed_text, 0.01, 1000, &speed) || !number(idle_text, 0, 1e6, &idle) ||
        !number(from_text, 0, 1e9, &from))
        return cli_usage("--speed is 0.01 to 1000, --idle and --from are seconds");
    struct cli c = {0};
    struct cast cast;
    if (!cli_find(&c, &e))
        return cli_error(&e);
    int code = 1;
    if (!cast_load(&c, words[0], &cast, &e)) {
        code = cli_error(&e);
    } else if (to) {
        cast_squeeze(&cast, idle_text ? idle : 0);
        code = export_cast(&cast, to);
    } else {
        cast_squeeze(&cast, idle);
        code = play(&cast, speed, from);
    }
    cast_finish(&cast);
    cli_finish(&c);
    return code;
}
