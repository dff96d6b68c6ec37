/* Previews: what a sandbox serves, shown to browsers on an origin of its own. preview.c decides who
 * may see it, visit.c carries one request to the guest and its answer back. docs/ports.md has the
 * rules. */
#ifndef CG_API_PREVIEW_H
#define CG_API_PREVIEW_H

#include "api/api.h"
#include "core/previews.h"

enum { PREVIEW_TOKEN_PREFIX = '~' };
#define PREVIEW_COOKIE "caged_preview"

struct api_visit;

struct preview {
    char scheme[8];               /* of previews by name */
    char domain[256];             /* "preview.example.org"; empty: none by name */
    char authority[264];          /* the same with its port, if it is not the scheme's */
    char path_base[300];          /* "http://127.0.0.1:7879"; empty: none by path */
    struct cg_http_server *paths; /* their listener */
    struct api_visit *visits;
};

/* Where a request wants to go. */
struct place {
    struct cg_api *api;
    struct cg_sandbox *sb;
    int port;
    char label[CG_PREVIEW_LABEL];
    bool by_path;
    char prefix[CG_PREVIEW_LABEL + CG_PREVIEW_TOKEN + 4]; /* of paths: "/<label>/~<token>" */
    char *target;                                         /* behind the prefix; owned */
};

/* Reads the options and listens for previews by path, if the operator wants them. fd: the server's
 * socket. */
CG_MUST_USE bool api_previews_start(struct cg_api *a, int fd, struct cg_err *e);
/* True when the request was for a preview by name, and is dealt with. */
bool api_preview_serve(struct cg_api *a, struct cg_http_req *r);
void api_previews_end(struct cg_api *a);
void api_previews_finish(struct cg_api *a);

/* The address of a port's preview; false when there is none on this server. */
bool api_preview_url(const struct cg_api *a, const char *sandbox, int port, char out[400]);
/* That by path; false when there is none. */
bool api_preview_path_url(const struct cg_api *a, const char *sandbox, int port, char out[400]);
/* Adds a token to one of the two, so that it lets in. */
void api_preview_let_in(const struct cg_api *a, const char *token, char url[480]);
bool api_host_fine(const struct cg_api *a, const struct cg_http_req *r);
bool op_port(const struct op *op, int *port, struct cg_err *e);

/* A small page for people; the request is over. */
void preview_page(struct cg_http_req *r, int status, const char *title, const char *text,
                  const char *form_action);

/* Takes the request and the place's target over. */
void visit_begin(struct cg_http_req *r, struct place *p);

#endif
