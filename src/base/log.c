#include "base/log.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/jsonw.h"

static enum cg_log_level least_level = CG_LOG_INFO;
static char context_key[32];
static char context_value[64];

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void cg_log_set_level(enum cg_log_level least)
{
    least_level = least;
}

bool cg_log_level_parse(const char *name, enum cg_log_level *out)
{
    for (size_t i = 0; i < CG_COUNT(level_names); i++) {
        if (cg_streq(name, level_names[i])) {
            *out = (enum cg_log_level)i;
            return true;
        }
    }
    return false;
}

void cg_log_set_context(const char *key, const char *value)
{
    cg_strlcpy(context_key, sizeof context_key, key);
    cg_strlcpy(context_value, sizeof context_value, value);
}

/* Plain words stay bare; anything else is quoted and escaped as a JSON string. */
static void add_text(struct cg_buf *b, const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_./:@+,%";
    size_t n = strlen(s);
    if (n > 0 && strspn(s, plain) == n) {
        cg_buf_adds(b, s);
        return;
    }
    struct cg_jsonw w;
    cg_jsonw_init(&w, b);
    cg_jsonw_str(&w, s);
}

static void add_field(struct cg_buf *b, const struct cg_log_field *f)
{
    cg_buf_addf(b, " %s=", f->key);
    if (f->type == CG_LOG_INT)
        cg_buf_addf(b, "%" PRId64, f->integer);
    else if (f->type == CG_LOG_ERR)
        add_text(b, f->err ? f->err->text : "");
    else
        add_text(b, f->str ? f->str : "");
}

void cg_log_fields(enum cg_log_level level, const struct cg_log_field *fields)
{
    if (level < least_level)
        return;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    cg_buf_init(&b, 8192);
    char now[CG_TIME_TEXT];
    cg_time_format(cg_wall_ns(), now);
    cg_buf_addf(&b, "%s %s %s", now, level_names[level], fields->str);
    if (context_key[0])
        add_field(&b, &CG_S(context_key, context_value));
    for (fields++; fields->key; fields++)
        add_field(&b, fields);
    b.max++;
    cg_buf_addc(&b, '\n');
    if (!cg_fd_write_full(STDERR_FILENO, b.p, b.n, NULL))
        return; /* nowhere left to say it */
}
