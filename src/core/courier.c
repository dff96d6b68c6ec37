#include "core/courier.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "egress/judge.h"

enum { AT_ONCE = 8, WAITING_MAX = 512, TIMEOUT_S = 10, ANSWER_MAX = 4096 };

struct job {
    struct job *next;
    struct cg_courier *courier;
    struct cg_parcel p;
    CURL *easy;
    struct curl_slist *headers, *to;
    size_t at; /* of the mail's text */
    bool refused, again;
    size_t answered;
    char error[CURL_ERROR_SIZE + 64];
    bool failed;
};

struct cg_courier {
    uv_loop_t *loop;
    uv_async_t *async;
    pthread_t thread;
    pthread_mutex_t lock;
    CURLM *multi;
    const struct cg_egress_rule *allow;
    unsigned nallow;
    /* under the lock */
    struct job *waiting, *last, *finished;
    unsigned nwaiting;
    bool stop;
};

static void free_job(struct job *j)
{
    char *const texts[] = {j->p.url,     j->p.body, j->p.headers, j->p.mail_from,
                           j->p.mail_to, j->p.user, j->p.password};
    for (size_t i = 0; i < CG_COUNT(texts); i++)
        free(texts[i]);
    curl_slist_free_all(j->headers);
    curl_slist_free_all(j->to);
    free(j);
}

/* --- where it may go --- */

bool cg_courier_may(const struct cg_egress_rule *allow, unsigned nallow, uint32_t address,
                    uint16_t port, bool tls)
{
    for (unsigned i = 0; i < nallow; i++)
        if (cg_egress_rule_fits(&allow[i], address, port))
            return true;
    return tls && !cg_egress_special(address);
}

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct job *j = ctx;
    struct sockaddr_in in;
    (void)purpose;
    if (a->family != AF_INET || a->addrlen < sizeof in)
        return CURL_SOCKET_BAD;
    memcpy(&in, &a->addr, sizeof in);
    bool tls = cg_has_prefix(j->p.url, "https://");
    if (!j->p.mail_to && !cg_courier_may(j->courier->allow, j->courier->nallow,
                                         ntohl(in.sin_addr.s_addr), ntohs(in.sin_port), tls)) {
        j->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(AF_INET, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* --- the thread --- */

static size_t on_answer(char *p, size_t size, size_t n, void *ctx)
{
    struct job *j = ctx;
    (void)p;
    j->answered += size * n;
    return j->answered > ANSWER_MAX ? 0 : size * n; /* nobody reads it */
}

static size_t read_mail(char *out, size_t size, size_t n, void *ctx)
{
    struct job *j = ctx;
    size_t left = strlen(j->p.body) - j->at;
    size_t take = CG_MIN(left, size * n);
    memcpy(out, j->p.body + j->at, take);
    j->at += take;
    return take;
}

static void set_http(struct job *j)
{
    CG_OWN(cg_drop_free) char *lines = cg_strdup(j->p.headers ? j->p.headers : "");
    char *save = NULL;
    j->headers = curl_slist_append(j->headers, "Content-Type: application/json");
    for (char *l = strtok_r(lines, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
        j->headers = curl_slist_append(j->headers, l);
    curl_easy_setopt(j->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(j->easy, CURLOPT_POSTFIELDS, j->p.body);
    curl_easy_setopt(j->easy, CURLOPT_HTTPHEADER, j->headers);
    curl_easy_setopt(j->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(j->easy, CURLOPT_USERAGENT, "caged/" CG_VERSION);
}

static void set_mail(struct job *j)
{
    j->to = curl_slist_append(NULL, j->p.mail_to);
    curl_easy_setopt(j->easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(j->easy, CURLOPT_MAIL_FROM, j->p.mail_from);
    curl_easy_setopt(j->easy, CURLOPT_MAIL_RCPT, j->to);
    curl_easy_setopt(j->easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(j->easy, CURLOPT_READFUNCTION, read_mail);
    curl_easy_setopt(j->easy, CURLOPT_READDATA, j);
    if (j->p.user) {
        curl_easy_setopt(j->easy, CURLOPT_USERNAME, j->p.user);
        curl_easy_setopt(j->easy, CURLOPT_PASSWORD, j->p.password ? j->p.password : "");
        curl_easy_setopt(j->easy, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL); /* never in the clear */
    } else {
        curl_easy_setopt(j->easy, CURLOPT_USE_SSL, (long)CURLUSESSL_TRY);
    }
}

static bool begin(struct cg_courier *c, struct job *j)
{
    j->easy = curl_easy_init();
    if (!j->easy)
        return false;
    curl_easy_setopt(j->easy, CURLOPT_URL, j->p.url);
    curl_easy_setopt(j->easy, CURLOPT_PRIVATE, j);
    curl_easy_setopt(j->easy, CURLOPT_ERRORBUFFER, j->error);
    curl_easy_setopt(j->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(j->easy, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    curl_easy_setopt(j->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(j->easy, CURLOPT_PROXY, ""); /* the address is checked: nobody in between */
    curl_easy_setopt(j->easy, CURLOPT_IPRESOLVE, (long)CURL_IPRESOLVE_V4);
    curl_easy_setopt(j->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(j->easy, CURLOPT_OPENSOCKETDATA, j);
    curl_easy_setopt(j->easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(j->easy, CURLOPT_WRITEDATA, j);
    curl_easy_setopt(j->easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(j->easy, CURLOPT_FORBID_REUSE, 1L);
    if (j->p.mail_to)
        set_mail(j);
    else
        set_http(j);
    return curl_multi_add_handle(c->multi, j->easy) == CURLM_OK;
}

static void judge(struct job *j, CURLcode code)
{
    long status = 0;
    curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
    bool cut = code == CURLE_WRITE_ERROR && status / 100 == 2; /* only its answer was too long */
    j->failed = (code != CURLE_OK && !cut) || (!j->p.mail_to && status / 100 != 2);
    if (!j->failed)
        return;
    if (j->refused) {
        (void)cg_strlcpy(j->error, sizeof j->error,
                         "the address is not one that messages may go to: the operator's "
                         "notify.allow can open it");
    } else if (code == CURLE_OK) {
        cg_snprintf(j->error, sizeof j->error, "answered %ld", status);
        j->again = status / 100 == 5 || status == 408 || status == 429;
    } else {
        j->again = code != CURLE_URL_MALFORMAT && code != CURLE_UNSUPPORTED_PROTOCOL &&
                   code != CURLE_LOGIN_DENIED && status / 100 != 5;
        if (!j->error[0])
            (void)cg_strlcpy(j->error, sizeof j->error, curl_easy_strerror(code));
    }
}

static void finish(struct cg_courier *c, struct job *j)
{
    if (j->easy) {
        curl_multi_remove_handle(c->multi, j->easy);
        curl_easy_cleanup(j->easy);
        j->easy = NULL;
    }
    pthread_mutex_lock(&c->lock);
    j->next = c->finished;
    c->finished = j;
    pthread_mutex_unlock(&c->lock);
    uv_async_send(c->async);
}

static unsigned reap(struct cg_courier *c)
{
    unsigned n = 0;
    int left = 0;
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left)) != NULL;) {
        char *ctx = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &ctx);
        struct job *j = (struct job *)(void *)ctx;
        judge(j, code);
        finish(c, j);
        n++;
    }
    return n;
}

static struct job *take(struct cg_courier *c, bool *stop)
{
    pthread_mutex_lock(&c->lock);
    struct job *j = c->waiting;
    *stop = c->stop;
    if (j && !*stop) {
        c->waiting = j->next;
        if (!c->waiting)
            c->last = NULL;
        c->nwaiting--;
    }
    pthread_mutex_unlock(&c->lock);
    return *stop ? NULL : j;
}

static void *run(void *ctx)
{
    struct cg_courier *c = ctx;
    unsigned going = 0;
    bool stop = false;
    while (!stop) {
        int running = 0;
        struct job *j;
        while (going < AT_ONCE && (j = take(c, &stop)) != NULL) {
            if (begin(c, j)) {
                going++;
            } else {
                j->failed = true;
                (void)cg_strlcpy(j->error, sizeof j->error, "it could not be begun");
                finish(c, j);
            }
        }
        if (going == AT_ONCE) {
            pthread_mutex_lock(&c->lock);
            stop = c->stop;
            pthread_mutex_unlock(&c->lock);
        }
        curl_multi_perform(c->multi, &running);
        going -= reap(c);
        if (!stop)
            curl_multi_poll(c->multi, NULL, 0, 1000, NULL);
    }
    return NULL;
}

/* --- the loop's side --- */

static void on_async(uv_async_t *async)
{
    struct cg_courier *c = async->data;
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    struct job *j = CG_MOVE(c->finished);
    pthread_mutex_unlock(&c->lock);
    while (j) {
        struct job *next = j->next;
        j->p.done(j->p.ctx, j->failed ? j->error : NULL, j->again);
        free_job(j);
        j = next;
    }
}

struct cg_courier *cg_courier_create(uv_loop_t *loop, const struct cg_egress_rule *allow,
                                     unsigned nallow)
{
    struct cg_courier *c = cg_alloc(sizeof *c);
    c->loop = loop;
    c->allow = allow;
    c->nallow = nallow;
    c->async = cg_alloc(sizeof *c->async);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    c->multi = curl_multi_init();
    CG_ASSERT(c->multi && uv_async_init(loop, c->async, on_async) == 0);
    c->async->data = c;
    uv_unref((uv_handle_t *)c->async);
    pthread_mutex_init(&c->lock, NULL);
    CG_ASSERT(pthread_create(&c->thread, NULL, run, c) == 0);
    return c;
}

static void free_async(uv_handle_t *h)
{
    free(h);
}

void cg_courier_destroy(struct cg_courier *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_mutex_unlock(&c->lock);
    curl_multi_wakeup(c->multi);
    pthread_join(c->thread, NULL);
    c->async->data = NULL;
    uv_close((uv_handle_t *)c->async, free_async);
    struct job *const lists[] = {c->waiting, c->finished};
    for (size_t i = 0; i < CG_COUNT(lists); i++) {
        for (struct job *j = lists[i], *next; j; j = next) {
            next = j->next;
            free_job(j);
        }
    }
    curl_multi_cleanup(c->multi);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

bool cg_courier_send(struct cg_courier *c, const struct cg_parcel *p)
{
    struct job *j = cg_alloc(sizeof *j);
    j->courier = c;
    j->p = *p;
    pthread_mutex_lock(&c->lock);
    bool room = c->nwaiting < WAITING_MAX;
    if (room) {
        if (c->last)
            c->last->next = j;
        else
            c->waiting = j;
        c->last = j;
        c->nwaiting++;
    }
    pthread_mutex_unlock(&c->lock);
    if (!room) {
        free_job(j);
        return false;
    }
    curl_multi_wakeup(c->multi);
    return true;
}
