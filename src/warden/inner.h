/* The warden's inside: one struct, the files around it each own a part. One thread, the loop's.
 *
 *   conn.c    server connections (link acceptor), dispatch by kind
 *   pass.c    streams passed through to the guest, recorded on the way
 *   term.c    terminal bytes into the record
 *   tailing.c `events`: the record, live
 *   guest.c   the guest link (opener): hello, setup, pings, own streams
 *   observe.c what the guest saw, rewritten into the record
 *   cross.c   what host and guest both saw, compared
 *   freeze.c  the guest held still: snapshots and pauses
 *   golden.c  a guest out of a file, and into one
 *   warm.c    a guest made ready for its first command
 *   life.c    states, start, stop, failure, the end
 *   secrets.c secrets, interception, redaction of the record
 *   contents.c what files held
 *   sessions.c who acts: agents and terminals, in the record
 *   status.c  the answer to `status`
 *   trust.c   the score
 */
#ifndef CG_WARDEN_INNER_H
#define CG_WARDEN_INNER_H

#include <uv.h>

#include "egress/egress.h"
#include "jail/jail.h"
#include "link/link.h"
#include "loop/stream.h"
#include "record/record.h"
#include "vmm/vmm.h"
#include "warden/commit.h"
#include "warden/config.h"
#include "warden/contents.h"
#include "warden/cross.h"
#include "warden/fields.h"
#include "warden/sessions.h"
#include "warden/takeover.h"
#include "warden/warden.h"

enum {
    WARDEN_CONNS = 32,
    WARDEN_PORTS = 64,
    WARDEN_TICK_MS = 25, /* while something waits for time to pass */
    WARDEN_SECOND_MS = 1000,
};

struct warden;
struct conn;

/* A stream to the guest. */
struct down;
struct down_ops {
    void (*on_accept)(struct down *d, const struct cg_json *info);
    void (*on_data)(struct down *d, unsigned channel, struct cg_slice data);
    void (*on_eof)(struct down *d, unsigned channel);
    void (*on_writable)(struct down *d);
    void (*on_close)(struct down *d, const struct cg_json *result); /* d->s is NULL already */
};
struct down {
    const struct down_ops *ops;
    struct cg_link_stream *s;
};

enum warden_state { W_PENDING, W_BOOTING, W_RUNNING, W_STOPPING, W_DESTROYED, W_ERROR, W_PAUSED };

/* Streams on which the guest tells lines by itself. */
enum { TELL_OBSERVE, TELL_PORTS, TELL_METRICS, GUEST_TELLINGS };

struct guest {
    struct cg_stream *stream;
    struct cg_link *link;
    bool hello;
    bool ready;   /* setup is answered */
    bool sampled; /* its ports and metrics are read */
    bool garbled; /* it broke the link's rules */
    struct down setup;
    struct down observe;
    struct down ports;
    struct down metrics;
    struct down poweroff;
    struct down warm;
    struct down sync;
    char agent[64];
    char kernel[128];
    char observe_text[512];              /* its `observe` object, rewritten */
    struct cg_buf lines[GUEST_TELLINGS]; /* bytes that are not taken yet */
    char metrics_text[512];              /* the last sample, rewritten; empty: none */
    struct guest_port {
        uint16_t port;
        char text[256]; /* rewritten object */
    } port[WARDEN_PORTS];
    unsigned nports;
    uint64_t observed; /* observe lines taken */
    uint64_t beats;    /* of these, signs of life */
    int64_t heard;     /* when the last of them came, beats too; our clock */
    bool silent;       /* that is long ago, and told */
    int64_t wall_off;  /* seconds that its wall clock was ahead of ours, as told last */
    int64_t own_ahead; /* seconds that our wall clock was ahead of our monotonic one */
    uint64_t malformed, malformed_told;
    uint64_t lost; /* events that the guest said are lost */
    /* guest's CLOCK_MONOTONIC minus ours, by the fastest ping of late */
    int64_t clock_offset;
    int64_t clock_rtt; /* of the ping that gave it; 0: none yet */
    int64_t ping_sent;
    uint64_t ping_token;
    uint64_t hold_token;      /* of the ping behind which nothing goes out */
    struct takeover takeover; /* of a guest that was restored */
};

struct warden {
    uv_loop_t *loop;
    struct cg_warden_config config;
    struct cg_warden_fds fds;
    int record_dir;
    struct cg_record *record;
    struct sessions *sessions;
    struct contents *contents;
    struct commit commit;
    struct guest guest;
    struct cross cross;
    struct cg_vmm *vmm;
    bool vmm_gone;
    struct cg_egress *egress;
    struct llm *llm;            /* NULL: no gateway */
    struct cg_secrets *secrets; /* NULL before the first start */
    struct cg_ca *ca;           /* NULL: nothing is intercepted */
    char *guest_ca;             /* more that the guest is to trust, in PEM; or NULL */
    struct cg_intercept *intercept;
    struct trust *trust; /* NULL: no rules */

    enum warden_state state;
    struct cg_err error;
    int exit_code;
    int64_t start_mono; /* when `start` came */
    int64_t boot_ns;
    int64_t started_wall;
    int64_t activity_mono;
    int64_t activity_wall;
    int64_t deadline; /* CLOCK_MONOTONIC of the present phase; 0: none */
    char stop_reason[128];
    struct starter *starters;
    struct starter *stoppers;
    struct starter *pausers;
    struct freeze *freeze; /* NULL: the guest runs */
    int64_t stop_grace_ms;
    struct cg_err gone; /* why the guest's link or the VMM ended */
    int64_t gone_at;    /* when that is final: the VMM may yet tell more; 0: not gone */
    struct commit_wait started_wait;
    bool running;      /* handles are open */
    bool stop_killed;  /* the VMM was told to end */
    int64_t settle_at; /* what is to be recorded is; the score has until then; 0: not yet */
    bool final;        /* the last lines are on their way */
    bool over;

    uv_poll_t listen_poll;
    bool listening;
    struct conn *conns;
    unsigned nconns;
    struct tailing *tails;
    struct pass *passes;
    int64_t golden_at; /* when the guest has seen that the host is away, and is saved; 0: no */
    uint64_t exec_seq; /* names of execs */
    unsigned execs;    /* running */
    uint64_t exec_count;
    uint64_t exec_failed;  /* ended with another code than 0, or could not be started */
    uint64_t output_bytes; /* of commands that have ended */

    uv_timer_t tick; /* fast, while `tick_wanted` */
    bool ticking;
    uv_timer_t second;
    unsigned seconds;
    uv_signal_t sigterm;
    struct keeper_counts {
        uint64_t rejected_packets, dropped_packets, dropped_bytes;
    } counted, counted_told;
    struct rejected {
        uint32_t address, port;
        uint64_t packets, told;
    } rejected[CG_KEEPER_REJECTED];
    unsigned nrejected;
};

/* rejected.c: where packets were going that the packet filter rejects, as the keeper reads it. */
void rejected_take(struct warden *w, const struct cg_keeper_counters *c);
void rejected_tell(struct warden *w);

/* conn.c; streams of servers: up.h */
void conns_listen(struct warden *w);
bool conns_drained(const struct warden *w);
void conns_close(struct warden *w);

/* pass.c, term.c, tailing.c, append.c: kinds; the request is valid during the call only */
bool pass_open(struct warden *w, struct conn *c, struct cg_link_stream *s, const char *kind,
               const struct cg_json *request);
void pass_tick(struct warden *w, int64_t now); /* waits and terminals whose time has come */
bool pass_wants_tick(const struct warden *w);
bool pass_busy(const struct warden *w); /* a command runs that is no terminal */
void pass_progress(struct warden *w);   /* the record moved on */
void pass_observed(struct warden *w);   /* the guest told more of what it saw */
void tailing_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                  const struct cg_json *request);
void tailing_progress(struct warden *w);
void append_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                 const struct cg_json *request);

/* network.c */
void network_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                  const struct cg_json *request);

/* guest.c */
CG_MUST_USE bool guest_start(struct warden *w, struct cg_err *e);
void guest_second(struct warden *w);
void guest_poweroff(struct warden *w, int64_t grace_ms);
void guest_kick(struct warden *w);
/* Held, nothing of a stream goes out; freeze_quiet is called when the guest has read all there is.
 */
void guest_hold(struct warden *w, bool held);
void guest_close(struct warden *w);
CG_MUST_USE bool guest_open(struct warden *w, struct down *d, const struct down_ops *ops,
                            struct cg_slice request, struct cg_err *e);
int64_t guest_clock(const struct warden *w, int64_t t); /* guest's time on the record's clock */

/* observe.c */
extern const struct down_ops observe_ops, ports_ops, metrics_ops;
extern const struct field guest_metrics_fields[], guest_port_fields[];
void observe_progress(struct warden *w);
void observe_second(struct warden *w);

/* life.c */
void life_start(struct warden *w, struct conn *c, struct cg_link_stream *s,
                const struct cg_json *request);
void life_stop(struct warden *w, struct conn *c, struct cg_link_stream *s,
               const struct cg_json *request);
void life_stop_now(struct warden *w, const char *reason);
void life_pause(struct warden *w, struct conn *c, struct cg_link_stream *s,
                const struct cg_json *request);
/* What counts as activity: a command that runs, input of a terminal, files moved by the API, model
 * calls, changes by the server. Output of terminals, connections and polls do not. */
void life_second(struct warden *w);
void life_pause_failed(struct warden *w, const struct cg_err *why);
void life_paused(struct warden *w); /* its state is in vm.state, durably */
void life_up(struct warden *w);     /* the guest answered setup */
void life_golden(struct warden *w); /* its state is in vm.state */
/* The sandbox ends as `error`; safe to call from any callback, once counts. */
void life_fail(struct warden *w, int exit_code, const struct cg_err *why);
void life_guest_gone(struct warden *w, const struct cg_err *why); /* its link ended */
void life_tick(struct warden *w, int64_t now);
bool life_wants_tick(const struct warden *w);
const char *life_state_name(const struct warden *w);
void warden_active(struct warden *w);
void warden_want_tick(struct warden *w);

/* pass.c: what is left of streams when the loop has ended */
void warden_drop_waiters(struct warden *w);

/* freeze.c: the guest stands still, for a snapshot or a pause */
void freeze_open(struct warden *w, struct conn *c, struct cg_link_stream *s,
                 const struct cg_json *request);
CG_MUST_USE bool freeze_pause(struct warden *w, struct cg_err *e);
void freeze_quiet(struct warden *w);
void freeze_tick(struct warden *w, int64_t now);
void freeze_end(struct warden *w);
void freeze_over(struct warden *w);     /* the guest runs again: what was saved is of the past */
int64_t freeze_taken(struct warden *w); /* observe lines that came before the pause; -1: no pause */

/* golden.c: a guest out of a file, and into one */
extern const char state_name[];
CG_MUST_USE bool golden_restore(struct warden *w, struct cg_err *e);
void golden_hello(struct warden *w); /* the guest of make_golden has answered */
void golden_tick(struct warden *w, int64_t now);

/* status.c */
void status_open(struct warden *w, struct conn *c, struct cg_link_stream *s);
void status_guest(const struct warden *w, struct cg_jsonw *j); /* kernel, agent, observe */

/* console.c: the last lines of console.log, escaped, as an array */
void console_write(struct warden *w, struct cg_jsonw *j);

#endif
