/* The answer to `status`; its words stand in docs/record-format.md. */
#include <string.h>

#include "warden/trust.h"
#include "warden/up.h"

enum { STATUS_MAX = 128 * 1024 };

static void put_text(struct cg_jsonw *j, const char *key, const char *text)
{
    cg_jsonw_kstr(j, key, text[0] ? text : NULL);
}

static void put_json(struct cg_jsonw *j, const char *key, const char *json)
{
    cg_jsonw_key(j, key);
    if (json[0])
        cg_jsonw_raw(j, json, strlen(json));
    else
        cg_jsonw_null(j);
}

static void put_wall(struct cg_jsonw *j, const char *key, int64_t wall_ns)
{
    char text[CG_TIME_TEXT] = "";
    if (wall_ns)
        cg_time_format(wall_ns, text);
    put_text(j, key, text);
}

void status_guest(const struct warden *w, struct cg_jsonw *j)
{
    if (w->boot_ns)
        cg_jsonw_kint(j, "boot_ms", w->boot_ns / 1000000);
    put_text(j, "kernel", w->guest.kernel);
    put_text(j, "agent", w->guest.agent);
    put_json(j, "observe", w->guest.observe_text);
}

static void put_record(const struct warden *w, struct cg_jsonw *j)
{
    struct cg_record_stats stats;
    cg_record_get_stats(w->record, &stats);
    cg_jsonw_kuint(j, "seq", stats.seq);
    cg_jsonw_kuint(j, "durable_seq", stats.durable_seq);
    cg_jsonw_key(j, "record");
    cg_jsonw_obj(j);
    cg_jsonw_kuint(j, "bytes", stats.bytes);
    cg_jsonw_kuint(j, "quota_bytes", stats.quota_bytes);
    cg_jsonw_kbool(j, "degraded", stats.degraded);
    cg_jsonw_key(j, "lost");
    cg_jsonw_obj(j);
    for (unsigned i = 0; i < CG_REC_TYPE_COUNT; i++)
        if (stats.lost[i])
            cg_jsonw_kuint(j, cg_record_type_name((enum cg_record_type)i), stats.lost[i]);
    cg_jsonw_obj_end(j);
    cg_jsonw_obj_end(j);
}

static void put_network(const struct warden *w, struct cg_jsonw *j)
{
    struct cg_egress_stats s = {.connections = 0};
    if (w->egress)
        cg_egress_get_stats(w->egress, &s);
    cg_jsonw_key(j, "network");
    cg_jsonw_obj(j);
    cg_jsonw_kuint(j, "connections", s.connections);
    cg_jsonw_kuint(j, "opened", s.opened);
    cg_jsonw_kuint(j, "denied", s.denied);
    cg_jsonw_kuint(j, "failed", s.failed);
    cg_jsonw_kuint(j, "bytes_out", s.bytes_out);
    cg_jsonw_kuint(j, "bytes_in", s.bytes_in);
    cg_jsonw_kuint(j, "dns_queries", s.dns_queries);
    cg_jsonw_kuint(j, "rejected_packets", w->counted.rejected_packets);
    cg_jsonw_kuint(j, "dropped_packets", w->counted.dropped_packets);
    cg_jsonw_kuint(j, "dropped_bytes", w->counted.dropped_bytes);
    cg_jsonw_obj_end(j);
}

static void put_ports(const struct warden *w, struct cg_jsonw *j)
{
    cg_jsonw_key(j, "ports");
    cg_jsonw_arr(j);
    for (unsigned i = 0; i < w->guest.nports; i++)
        cg_jsonw_raw(j, w->guest.port[i].text, strlen(w->guest.port[i].text));
    cg_jsonw_arr_end(j);
}

static void put_error(const struct warden *w, struct cg_jsonw *j)
{
    cg_jsonw_key(j, "error");
    if (w->state != W_ERROR) {
        cg_jsonw_null(j);
        return;
    }
    cg_jsonw_obj(j);
    cg_jsonw_kstr(j, "code", cg_code_name(w->error.code));
    cg_jsonw_kstr(j, "text", w->error.text);
    cg_jsonw_obj_end(j);
}

static void status_write(const struct warden *w, struct cg_jsonw *j)
{
    cg_jsonw_obj(j);
    cg_jsonw_kstr(j, "id", w->config.id);
    cg_jsonw_kstr(j, "state", life_state_name(w));
    put_error(w, j);
    status_guest(w, j);
    put_record(w, j);
    cg_jsonw_kuint(j, "execs", w->execs);
    cg_jsonw_kuint(j, "exec_count", w->exec_count);
    cg_jsonw_kuint(j, "exec_failed", w->exec_failed);
    cg_jsonw_kuint(j, "output_bytes", w->output_bytes);
    cg_jsonw_kbool(j, "busy", pass_busy(w));
    put_wall(j, "started_at", w->started_wall);
    put_wall(j, "last_activity_at", w->activity_wall);
    cg_jsonw_kint(j, "idle_ms", (cg_mono_ns() - w->activity_mono) / 1000000);
    put_json(j, "metrics", w->guest.metrics_text);
    put_ports(w, j);
    llm_status(w, j);
    trust_status(w, j);
    put_network(w, j);
    cg_jsonw_key(j, "observed");
    cg_jsonw_obj(j);
    cg_jsonw_kuint(j, "told", w->guest.observed);
    cg_jsonw_kuint(j, "beats", w->guest.beats);
    cg_jsonw_kuint(j, "lost", w->guest.lost);
    cg_jsonw_obj_end(j);
    cg_jsonw_key(j, "isolation");
    if (w->config.isolation)
        cg_jsonw_value(j, w->config.isolation);
    else
        cg_jsonw_null(j);
    cg_jsonw_obj_end(j);
}

void status_open(struct warden *w, struct conn *c, struct cg_link_stream *s)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    struct up u;
    cg_buf_init(&b, STATUS_MAX);
    cg_jsonw_init(&j, &b);
    status_write(w, &j);
    up_init(&u, NULL, c, s);
    if (b.full)
        up_close_error(&u, CG_INTERNAL, "the status is too large");
    else
        up_close(&u, cg_buf_slice(&b));
}
