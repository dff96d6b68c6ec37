/* cli_exec_run: a command in a sandbox with our standard streams. The terminal is put back whatever
 * happens: at exit, on every signal that ends us, and when the server goes away. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/jsonw.h"
#include "cli/ws.h"

enum { QUEUE_MAX = 1 << 20, CHUNK = 16384, STDERR_CHANNEL = 2 };

static struct termios saved;
static volatile sig_atomic_t raw;
static volatile sig_atomic_t resized;
static volatile sig_atomic_t pending_signal;

struct session {
    struct cli_ws *ws;
    bool tty;
    bool over;
    int code;
    bool stdin_open;
    enum { AT_LINE_START, AFTER_TILDE, INSIDE } escape; /* Enter ~ . leaves */
};

static void restore_terminal(void)
{
    if (raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    raw = 0;
}

static void on_fatal(int number)
{
    restore_terminal();
    signal(number, SIG_DFL);
    raise(number);
}

static void on_winch(int number)
{
    (void)number;
    resized = 1;
}

static void on_forward(int number)
{
    pending_signal = number;
}

static bool enter_raw(void)
{
    struct termios t;
    if (tcgetattr(STDIN_FILENO, &saved) != 0)
        return false;
    t = saved;
    cfmakeraw(&t);
    atexit(restore_terminal);
    static const int fatal[] = {SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < CG_COUNT(fatal); i++)
        signal(fatal[i], on_fatal);
    raw = 1;
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0;
}

static void send_json(struct session *s, const char *text)
{
    cli_ws_send(s->ws, true, cg_slice_of(text));
}

static void send_size(struct session *s)
{
    struct winsize w;
    char text[80];
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_row == 0)
        return;
    cg_snprintf(text, sizeof text, "{\"type\":\"resize\",\"rows\":%u,\"cols\":%u}", w.ws_row,
                w.ws_col);
    send_json(s, text);
}

/* --- from the server --- */

static void write_out(int fd, struct cg_slice bytes)
{
    if (!cg_fd_write_full(fd, bytes.p, bytes.n, NULL))
        return; /* the reader of our output is gone: the command hears it by its own pipe, later */
}

static void on_text(struct session *s, struct cg_slice bytes)
{
    CG_OWN(cg_drop_json) struct cg_json *m = cg_json_parse(bytes, NULL, NULL);
    const char *type = cg_json_str(m, "type");
    if (cg_streq(type, "exit")) {
        s->code = (int)cg_json_int(m, "exit_code", 1);
        s->over = true;
    } else if (cg_streq(type, "error")) {
        const char *message = cg_json_str(m, "message");
        const char *code = cg_json_str(m, "code");
        restore_terminal();
        fprintf(stderr, "error: %s\n", message ? message : "the command could not be run");
        s->code = cg_streq(code, "not_found") ? 127 : cg_streq(code, "forbidden") ? 126 : 1;
        s->over = true;
    }
}

static void on_message(void *ctx, bool text, struct cg_slice bytes)
{
    struct session *s = ctx;
    if (text)
        on_text(s, bytes);
    else if (bytes.n > 1)
        write_out(bytes.p[0] == STDERR_CHANNEL ? STDERR_FILENO : STDOUT_FILENO,
                  (struct cg_slice){bytes.p + 1, bytes.n - 1});
}

/* --- from the user --- */

/* True when the keys say: leave. */
static bool wants_out(struct session *s, struct cg_slice keys)
{
    for (size_t i = 0; i < keys.n; i++) {
        char k = keys.p[i];
        if (s->escape == AFTER_TILDE && k == '.')
            return true;
        if (k == '\r' || k == '\n')
            s->escape = AT_LINE_START;
        else
            s->escape = s->escape == AT_LINE_START && k == '~' ? AFTER_TILDE : INSIDE;
    }
    return false;
}

static void read_stdin(struct session *s)
{
    char bytes[CHUNK + 1];
    ssize_t n = read(STDIN_FILENO, bytes + 1, CHUNK);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        s->stdin_open = false;
        send_json(s, "{\"type\":\"eof\"}");
        return;
    }
    if (s->tty && wants_out(s, (struct cg_slice){bytes + 1, (size_t)n})) {
        restore_terminal();
        fprintf(stderr, "\ndetached\n");
        s->over = true;
        return;
    }
    bytes[0] = 0;
    cli_ws_send(s->ws, false, (struct cg_slice){bytes, (size_t)n + 1});
}

static void handle_signals(struct session *s)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{SIGINT, "INT"}, {SIGTERM, "TERM"}, {SIGHUP, "HUP"}};
    if (resized) {
        resized = 0;
        send_size(s);
    }
    int number = pending_signal;
    pending_signal = 0;
    for (size_t i = 0; number && i < CG_COUNT(names); i++) {
        char text[64];
        if (names[i].number != number)
            continue;
        cg_snprintf(text, sizeof text, "{\"type\":\"signal\",\"signal\":\"%s\"}", names[i].name);
        send_json(s, text);
    }
}

static int pump(struct session *s)
{
    bool alive = cli_ws_serve(s->ws, POLLIN); /* what came with the handshake shows in no poll */
    while (!s->over) {
        bool reads = s->stdin_open && cli_ws_queued(s->ws) < QUEUE_MAX;
        struct pollfd fds[2] = {{cli_ws_fd(s->ws), cli_ws_events(s->ws), 0},
                                {reads ? STDIN_FILENO : -1, POLLIN, 0}};
        int n = poll(fds, 2, alive ? -1 : 0);
        handle_signals(s);
        if (n < 0)
            continue;
        if (fds[1].revents)
            read_stdin(s);
        alive = alive && cli_ws_serve(s->ws, fds[0].revents);
        if (!alive && !s->over) {
            restore_terminal();
            fprintf(stderr, "\nerror: the connection to the server ended\n");
            return 1;
        }
    }
    return s->code;
}

/* --- the beginning --- */

static void write_start(const struct cli_exec *x, struct cg_buf *b)
{
    struct cg_jsonw w;
    cg_jsonw_init(&w, b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", "start");
    if (x->login) {
        cg_jsonw_kbool(&w, "login", true);
    } else if (x->argc == 1) {
        cg_jsonw_kstr(&w, "command", x->argv[0]); /* one word is a shell command line */
    } else {
        cg_jsonw_key(&w, "argv");
        cg_jsonw_arr(&w);
        for (int i = 0; i < x->argc; i++)
            cg_jsonw_str(&w, x->argv[i]);
        cg_jsonw_arr_end(&w);
    }
    cg_jsonw_kbool(&w, "stdin", !x->no_stdin);
    if (x->user)
        cg_jsonw_kstr(&w, "user", x->user);
    if (x->cwd)
        cg_jsonw_kstr(&w, "cwd", x->cwd);
    if (x->timeout_ms)
        cg_jsonw_kint(&w, "timeout_ms", x->timeout_ms);
    if (x->tty) {
        struct winsize size = {.ws_row = 24, .ws_col = 80};
        ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
        const char *term = getenv("TERM");
        cg_jsonw_key(&w, "pty");
        cg_jsonw_obj(&w);
        cg_jsonw_kint(&w, "rows", size.ws_row ? size.ws_row : 24);
        cg_jsonw_kint(&w, "cols", size.ws_col ? size.ws_col : 80);
        cg_jsonw_obj_end(&w);
        cg_jsonw_kbool(&w, "echo", true);
        cg_jsonw_kstr(&w, "term", term ? term : "xterm-256color");
    }
    if (x->env && x->env->n > 0) {
        cg_jsonw_key(&w, "env");
        cg_jsonw_obj(&w);
        for (size_t at = 0; at < x->env->n; at += strlen(x->env->p + at) + 1) {
            const char *pair = x->env->p + at;
            CG_OWN(cg_drop_free) char *name = cg_strndup(pair, strcspn(pair, "="));
            cg_jsonw_kstr(&w, name, pair[strlen(name)] ? pair + strlen(name) + 1 : "");
        }
        cg_jsonw_obj_end(&w);
    }
    cg_jsonw_obj_end(&w);
}

int cli_exec_run(struct cli *c, const char *id, const struct cli_exec *x)
{
    static const struct cli_ws_ops ops = {on_message};
    struct session s = {.tty = x->tty, .code = 1, .stdin_open = !x->no_stdin};
    struct cg_err e = CG_ERR_INIT;
    CG_OWN(cg_drop_buf) struct cg_buf start;
    cg_buf_init(&start, 512 * 1024);
    write_start(x, &start);
    if (start.full)
        return cli_usage("the command is over 512 KiB");
    CG_OWN(cg_drop_free) char *escaped = cli_escape(id);
    CG_OWN(cg_drop_free) char *path = cg_format("/v1/sandboxes/%s/exec", escaped);
    s.ws = cli_ws_connect(c, path, "", "exec", &ops, &s, &e);
    if (!s.ws)
        return cli_error(&e);
    signal(SIGPIPE, SIG_IGN);
    struct sigaction winch = {.sa_handler = on_winch};
    struct sigaction forward = {.sa_handler = on_forward};
    cli_ws_send(s.ws, true, cg_buf_slice(&start));
    if (x->tty) {
        enter_raw();
        sigaction(SIGWINCH, &winch, NULL);
    } else {
        sigaction(SIGINT, &forward, NULL);
        sigaction(SIGTERM, &forward, NULL);
    }
    int code = pump(&s);
    restore_terminal();
    cli_ws_destroy(s.ws);
    return code;
}
