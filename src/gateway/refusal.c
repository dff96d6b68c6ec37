/* No, in the words that each agent understands at once: HTTP 400 and an error that no client
 * retries. */
#include "gateway/reply.h"

static const char *kind_of(enum cg_llm_api shape, enum cg_refusal why)
{
    if (shape == CG_LLM_MESSAGES)
        return why == CG_REFUSE_UPSTREAM ? "api_error" : "invalid_request_error";
    if (why == CG_REFUSE_BUDGET)
        return "insufficient_quota";
    return why == CG_REFUSE_UPSTREAM ? "upstream_error" : "invalid_request_error";
}

int cg_refusal_status(enum cg_refusal why)
{
    return why == CG_REFUSE_UPSTREAM ? 502 : 400;
}

static void error_object(struct cg_jsonw *w, enum cg_llm_api shape, enum cg_refusal why,
                         const char *message)
{
    cg_jsonw_obj(w);
    if (shape == CG_LLM_GEMINI) {
        cg_jsonw_kint(w, "code", cg_refusal_status(why));
        cg_jsonw_kstr(w, "status",
                      why == CG_REFUSE_BUDGET ? "FAILED_PRECONDITION" : "INVALID_ARGUMENT");
    } else {
        cg_jsonw_kstr(w, "type", kind_of(shape, why));
        if (shape != CG_LLM_MESSAGES)
            cg_jsonw_kstr(w, "code", kind_of(shape, why));
    }
    cg_jsonw_kstr(w, "message", message);
    cg_jsonw_obj_end(w);
}

void cg_refusal_body(enum cg_llm_api shape, enum cg_refusal why, const char *message,
                     struct cg_buf *out)
{
    struct cg_jsonw w;
    cg_jsonw_init(&w, out);
    cg_jsonw_obj(&w);
    if (shape == CG_LLM_MESSAGES)
        cg_jsonw_kstr(&w, "type", "error");
    cg_jsonw_key(&w, "error");
    error_object(&w, shape, why, message);
    cg_jsonw_obj_end(&w);
}

static void failed_response(struct cg_jsonw *w, enum cg_refusal why, const char *message,
                            const struct cg_reply *r)
{
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "type", "response.failed");
    cg_jsonw_kint(w, "sequence_number", r->sequence + 1);
    cg_jsonw_key(w, "response");
    cg_jsonw_obj(w);
    cg_jsonw_kstr(w, "id", r->id);
    cg_jsonw_kstr(w, "object", "response");
    cg_jsonw_kstr(w, "status", "failed");
    cg_jsonw_key(w, "error");
    error_object(w, CG_LLM_RESPONSES, why, message);
    cg_jsonw_key(w, "output");
    cg_jsonw_arr(w);
    cg_jsonw_arr_end(w);
    cg_jsonw_obj_end(w);
    cg_jsonw_obj_end(w);
}

void cg_refusal_event(enum cg_llm_api shape, enum cg_refusal why, const char *message,
                      const struct cg_reply *r, struct cg_buf *out)
{
    struct cg_jsonw w;
    if (shape == CG_LLM_MESSAGES)
        cg_buf_adds(out, "event: error\n");
    else if (shape == CG_LLM_RESPONSES)
        cg_buf_adds(out, "event: response.failed\n");
    cg_buf_adds(out, "data: ");
    if (shape == CG_LLM_RESPONSES) {
        cg_jsonw_init(&w, out);
        failed_response(&w, why, message, r);
    } else {
        cg_refusal_body(shape, why, message, out);
    }
    cg_buf_adds(out, "\n\n");
}
