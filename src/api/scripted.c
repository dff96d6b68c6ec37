/* A model that is no model: it plays a script over the Anthropic API, so that an agent can be shown
 * and tried at work without a provider's key. Provider `scripted` of every sandbox's gateway; its
 * key is the server's own, made at its start. It bills what it says: a token is four bytes.
 *
 * The script is a tool loop. Which one is played, the prompt says (script_of), which step it is at,
 * the results of tools in the request: it keeps nothing between calls. */
#include <stdlib.h>
#include <string.h>

#include "api/api.h"

enum { REPLY_MAX = 1 << 20, BYTES_A_TOKEN = 4, DELTA = 96, PAGES = 80 };

struct step {
    const char *text;
    const char *command; /* NULL: the end */
};

static const struct step fix_fizz[] = {
    {"Let me look at the code and run its test.", "cat fizz.sh; ./test.sh"},
    {"The loop stops before the last number. It has to go on while i is at most N.",
     "sed -i 's/-lt \"$1\"/-le \"$1\"/' fizz.sh && git --no-pager diff --stat"},
    {"Now the test again.", "./test.sh"},
    {"fizz.sh counted to N - 1: its loop said -lt where -le was meant. With that mended all five "
     "tests pass.",
     NULL},
};
static const struct step without_end[] = {{NULL, "./test.sh | tail -n 1"}};
static const struct step hello[] = {
    {"I am a script, not a model: configure a provider to talk to one.", NULL}};

struct script {
    const struct step *steps;
    size_t n;
    bool chatty; /* thinks aloud, at length */
};

/* Is the text anywhere in the messages' own texts? */
static bool says(const struct cg_json *v, const char *text)
{
    if (v->type == CG_JSON_STR)
        return strstr(v->str.p, text) != NULL;
    for (const struct cg_json *c = v->child; c; c = c->next)
        if (says(c, text))
            return true;
    return false;
}

static unsigned results(const struct cg_json *v)
{
    unsigned n = cg_streq(cg_json_str(v, "type"), "tool_result");
    for (const struct cg_json *c = v->child; c; c = c->next)
        n += results(c);
    return n;
}

static bool has_tool(const struct cg_json *body, const char *name)
{
    const struct cg_json *tools = cg_json_get(body, "tools");
    for (const struct cg_json *t = tools ? tools->child : NULL; t; t = t->next)
        if (cg_streq(cg_json_str(t, "name"), name))
            return true;
    return false;
}

static struct script script_of(const struct cg_json *body)
{
    const struct cg_json *messages = cg_json_get(body, "messages");
    if (messages && has_tool(body, "Bash") && says(messages, "without end"))
        return (struct script){without_end, CG_COUNT(without_end), true};
    if (messages && has_tool(body, "Bash") && says(messages, "fizz"))
        return (struct script){fix_fizz, CG_COUNT(fix_fizz), false};
    return (struct script){hello, CG_COUNT(hello), false};
}

/* --- the reply --- */

struct reply {
    struct cg_buf *out;
    int64_t cap, tokens_in, tokens_out;
    unsigned index;
};

static void begin(struct cg_buf *b, struct cg_jsonw *w, const char *event)
{
    cg_buf_addf(b, "event: %s\ndata: ", event);
    cg_jsonw_init(w, b);
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "type", event);
}

static void end(struct cg_buf *b, struct cg_jsonw *w)
{
    cg_jsonw_obj_end(w);
    cg_buf_adds(b, "\n\n");
}

static void write_usage(const struct reply *r, struct cg_jsonw *w)
{
    cg_jsonw_key(w, "usage");
    cg_jsonw_obj(w);
    cg_jsonw_kint(w, "input_tokens", r->tokens_in);
    cg_jsonw_kint(w, "output_tokens", CG_MAX(r->tokens_out, 1));
    cg_jsonw_obj_end(w);
}

static void write_start(const struct reply *r, const char *model)
{
    struct cg_jsonw w;
    begin(r->out, &w, "message_start");
    cg_jsonw_key(&w, "message");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "id", "msg_scripted");
    cg_jsonw_kstr(&w, "type", "message");
    cg_jsonw_kstr(&w, "role", "assistant");
    cg_jsonw_kstr(&w, "model", model);
    cg_jsonw_key(&w, "content");
    cg_jsonw_arr(&w);
    cg_jsonw_arr_end(&w);
    cg_jsonw_kstr(&w, "stop_reason", NULL);
    write_usage(r, &w);
    cg_jsonw_obj_end(&w);
    end(r->out, &w);
}

static void write_block(const struct reply *r, const char *tool, const char *id)
{
    struct cg_jsonw w;
    begin(r->out, &w, "content_block_start");
    cg_jsonw_kint(&w, "index", r->index);
    cg_jsonw_key(&w, "content_block");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", tool ? "tool_use" : "text");
    if (tool) {
        cg_jsonw_kstr(&w, "id", id);
        cg_jsonw_kstr(&w, "name", tool);
        cg_jsonw_key(&w, "input");
        cg_jsonw_obj(&w);
        cg_jsonw_obj_end(&w);
    } else {
        cg_jsonw_kstr(&w, "text", "");
    }
    cg_jsonw_obj_end(&w);
    end(r->out, &w);
}

/* False once the cap on output is reached. */
static bool write_delta(struct reply *r, const char *type, const char *key, const char *p, size_t n)
{
    struct cg_jsonw w;
    int64_t tokens = (int64_t)(n + BYTES_A_TOKEN - 1) / BYTES_A_TOKEN;
    if (r->tokens_out + tokens > r->cap)
        return false;
    r->tokens_out += tokens;
    begin(r->out, &w, "content_block_delta");
    cg_jsonw_kint(&w, "index", r->index);
    cg_jsonw_key(&w, "delta");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "type", type);
    cg_jsonw_kstrn(&w, key, p, n);
    cg_jsonw_obj_end(&w);
    end(r->out, &w);
    return true;
}

static void end_block(struct reply *r)
{
    struct cg_jsonw w;
    begin(r->out, &w, "content_block_stop");
    cg_jsonw_kint(&w, "index", r->index++);
    end(r->out, &w);
}

static bool write_text(struct reply *r, const char *text)
{
    size_t n = strlen(text);
    bool fits = true;
    write_block(r, NULL, NULL);
    for (size_t at = 0; fits && at < n; at += DELTA)
        fits = write_delta(r, "text_delta", "text", text + at, CG_MIN(n - at, (size_t)DELTA));
    end_block(r);
    return fits;
}

static bool write_thoughts(struct reply *r)
{
    static const char thought[] =
        "Perhaps the test says something else if it is run once more; I shall run it once more. ";
    bool fits = true;
    write_block(r, NULL, NULL);
    for (unsigned i = 0; fits && i < PAGES; i++)
        fits = write_delta(r, "text_delta", "text", thought, sizeof thought - 1);
    end_block(r);
    return fits;
}

static bool write_tool(struct reply *r, const char *command, unsigned step)
{
    char id[32];
    CG_OWN(cg_drop_buf) struct cg_buf input;
    struct cg_jsonw w;
    cg_buf_init(&input, 4096);
    cg_jsonw_init(&w, &input);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "command", command);
    cg_jsonw_kstr(&w, "description", "scripted");
    cg_jsonw_obj_end(&w);
    cg_snprintf(id, sizeof id, "toolu_scripted%u", step);
    write_block(r, "Bash", id);
    bool fits = write_delta(r, "input_json_delta", "partial_json", input.p, input.n);
    end_block(r);
    return fits;
}

static void write_end(const struct reply *r, const char *reason)
{
    struct cg_jsonw w;
    begin(r->out, &w, "message_delta");
    cg_jsonw_key(&w, "delta");
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "stop_reason", reason);
    cg_jsonw_obj_end(&w);
    write_usage(r, &w);
    end(r->out, &w);
    begin(r->out, &w, "message_stop");
    end(r->out, &w);
}

static void play(struct reply *r, const struct cg_json *body)
{
    const struct cg_json *messages = cg_json_get(body, "messages");
    const char *model = cg_json_str(body, "model");
    struct script s = script_of(body);
    unsigned done = messages ? results(messages) : 0;
    const struct step *at = &s.steps[CG_MIN(done, s.n - 1)];
    write_start(r, model ? model : "scripted");
    bool fits = s.chatty ? write_thoughts(r) : write_text(r, at->text);
    if (fits && at->command)
        fits = write_tool(r, at->command, done);
    write_end(r, !fits ? "max_tokens" : at->command ? "tool_use" : "end_turn");
}

static void answer(struct op *op, const struct cg_json *body)
{
    cg_buf_init(&op->a, REPLY_MAX);
    struct reply r = {.out = &op->a,
                      .cap = cg_json_int(body, "max_tokens", 4096),
                      .tokens_in = (int64_t)op->r->body.n / BYTES_A_TOKEN + 1};
    if (!cg_json_bool(body, "stream", false)) {
        op_problem(op, 400, "invalid", "the script is played with stream: true only");
        return;
    }
    play(&r, body);
    op->r->abort = NULL;
    cg_http_reply(op->r, 200, "text/event-stream", cg_buf_slice(&op->a));
    op->r = NULL;
    op_end(op);
}

void api_scripted(struct op *op)
{
    const char *key = cg_http_header(op->r, "x-api-key");
    if (!key || !cg_streq(key, op->api->core->scripted_key)) {
        op_problem(op, 401, "unauthorized",
                   "this is the provider `scripted` of sandboxes, and for them alone");
        return;
    }
    op_read_json(op, answer);
}
