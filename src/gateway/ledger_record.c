/* The ledger's rows as lines of a record: type `cost`, from the host, event `ledger`. */
#include "base/json.h"
#include "gateway/ledger.h"
#include "record/reader.h"
#include "record/record.h"

uint64_t cg_ledger_row_append(struct cg_record *record, const struct cg_ledger_row *row)
{
    struct cg_jsonw *j = cg_record_begin(record, CG_REC_COST, CG_SRC_HOST, NULL);
    cg_jsonw_kstr(j, "event", "ledger");
    cg_jsonw_key(j, "row");
    cg_ledger_row_write(row, j);
    return cg_record_end(record);
}

static bool replay_line(struct cg_ledger *l, const struct cg_record_line *line, uint64_t *last_call,
                        struct cg_err *e)
{
    struct cg_ledger_row row;
    if (!cg_slice_eq(line->type, "cost") || !cg_slice_eq(line->src, "host"))
        return true;
    CG_OWN(cg_drop_json) struct cg_json *data = cg_json_parse(line->data, NULL, NULL);
    if (!cg_streq(cg_json_str(data, "event"), "ledger"))
        return true;
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw j;
    cg_buf_init(&b, 4096);
    cg_jsonw_init(&j, &b);
    cg_jsonw_value(&j, cg_json_get(data, "row"));
    if (!cg_ledger_row_parse(cg_buf_slice(&b), &row, e) || !cg_ledger_replay(l, &row, e))
        return cg_wrap(e, "line %llu of the record", (unsigned long long)line->seq);
    *last_call = CG_MAX(*last_call, row.call);
    return true;
}

bool cg_ledger_replay_record(struct cg_ledger *l, int dir, uint64_t *last_call, struct cg_err *e)
{
    struct cg_record_reader *r = cg_record_reader_open(dir, 0, e);
    struct cg_record_line line;
    struct cg_slice text;
    bool ok = r != NULL;
    enum cg_record_got got = CG_RECORD_LINE;
    *last_call = 0;
    while (ok && got == CG_RECORD_LINE) {
        got = cg_record_read(r, UINT64_MAX, &text, &line, e);
        ok =
            got != CG_RECORD_ERROR && (got == CG_RECORD_END || replay_line(l, &line, last_call, e));
    }
    cg_record_reader_close(r);
    return ok || cg_wrap(e, "read the ledger of the record");
}
