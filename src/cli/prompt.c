/* Reading what must not be seen: from standard input, or from a terminal without echo. An argument
 * would stand in the shell's history and in /proc. */
#include "cli/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

static bool read_all(struct cg_buf *out, struct cg_err *e)
{
    char piece[1024];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cg_fail_sys(e, "read standard input");
        if (n == 0)
            return true;
        bool fits = cg_buf_add(out, piece, (size_t)n);
        explicit_bzero(piece, sizeof piece);
        if (!fits)
            return cg_fail(e, CG_TOO_LARGE, "standard input has over %zu bytes", out->max);
    }
}

static bool read_terminal(const char *what, struct cg_buf *out, struct cg_err *e)
{
    struct termios old;
    if (tcgetattr(STDIN_FILENO, &old) != 0)
        return cg_fail_sys(e, "read the terminal's state");
    struct termios quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    fprintf(stderr, "%s (not shown): ", what);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    char c;
    ssize_t n;
    bool fits = true;
    while ((n = read(STDIN_FILENO, &c, 1)) == 1 && c != '\n')
        fits &= cg_buf_addc(out, c);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
    fputc('\n', stderr);
    return (n >= 0 && fits) || cg_fail(e, CG_TOO_LARGE, "%s could not be read", what);
}

bool cli_read_hidden(const char *what, struct cg_buf *out, struct cg_err *e)
{
    CG_ASSERT(cg_buf_room(out, out->max)); /* it never moves: no copy of it stays behind */
    if (isatty(STDIN_FILENO))
        return read_terminal(what, out, e);
    if (!read_all(out, e))
        return false;
    while (out->n > 0 && (out->p[out->n - 1] == '\n' || out->p[out->n - 1] == '\r'))
        out->n--;
    return true;
}

void cli_wipe(struct cg_buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    cg_buf_finish(b);
}
