/* Recorded terminal output, made safe to show on somebody's own terminal: text, colours, cursor
 * movement and screen clearing pass, everything that could make the terminal answer, or reach its
 * title, clipboard, links, keyboard, mouse or files, does not. A filter that lets through only what
 * it knows (ECMA-48 control functions by name); state is kept between pieces. */
#ifndef CG_CLI_INERT_H
#define CG_CLI_INERT_H

#include "base/buf.h"

enum inert_state {
    INERT_TEXT,
    INERT_ESC,
    INERT_ESC_MORE,
    INERT_CSI,
    INERT_STRING,
    INERT_STRING_ESC
};

struct inert {
    enum inert_state state;
    char held[64]; /* of a CSI sequence; longer ones are dropped */
    size_t n;
    bool too_long;
    unsigned char character[4]; /* of UTF-8, cut between pieces */
    size_t have, need;
};

/* Appends what may be shown. */
void inert_feed(struct inert *t, struct cg_slice in, struct cg_buf *out);

/* What puts a terminal back as it was: attributes, cursor, screen, modes that may pass. */
extern const char inert_reset[];

#endif
