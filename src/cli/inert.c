/* Sequences: ECMA-48 (5th edition) 5.4 and 8.3; private modes: xterm's ctlseqs. */
#include "cli/inert.h"

#include <string.h>

const char inert_reset[] = "\033[0m\033[?25h\033[?7h\033[?1049l\033[r\033(B\017";

/* Private modes that only change what is shown: application cursor keys (1), mouse (1000 …),
 * bracketed paste (2004) and focus reports (1004) would change what the keyboard sends. */
static bool mode_passes(const char *params)
{
    static const char *const modes[] = {"?7",    "?12",   "?25", "?47",  "?1047",
                                        "?1048", "?1049", "4",   "?2026"};
    for (size_t i = 0; i < CG_COUNT(modes); i++)
        if (strcmp(params, modes[i]) == 0)
            return true;
    return false;
}

/* held: parameters, intermediates, final byte. */
static bool csi_passes(const char *held, size_t n)
{
    char final = held[n - 1];
    char params[64];
    memcpy(params, held, n - 1);
    params[n - 1] = '\0';
    if (strspn(params, "0123456789;:?") != n - 1)
        return false; /* intermediates and other private marks: reports, keyboards, resources */
    if (final == 'h' || final == 'l')
        return mode_passes(params);
    if (params[0] == '?')
        return final == 'J' || final == 'K';
    /* positions, erasing, scrolling, inserting, deleting, colours, tabs, saved cursor, margins */
    return strchr("@ABCDEFGHIJKLMPSTXZ`abdefgmrsu", final) != NULL;
}

static void end_csi(struct inert *t, struct cg_buf *out)
{
    if (!t->too_long && csi_passes(t->held, t->n)) {
        cg_buf_adds(out, "\033[");
        cg_buf_add(out, t->held, t->n);
    }
    t->state = INERT_TEXT;
}

static void csi_byte(struct inert *t, unsigned char c, struct cg_buf *out)
{
    if (c == 0x18 || c == 0x1a || c >= 0x7f) {
        t->state = INERT_TEXT;
    } else if (c == 0x1b) {
        t->state = INERT_ESC;
    } else if (c >= 0x20) {
        if (t->n == sizeof t->held)
            t->too_long = true;
        else
            t->held[t->n++] = (char)c;
        if (c >= 0x40)
            end_csi(t, out);
    } /* controls inside of a sequence are dropped */
}

static void esc_byte(struct inert *t, unsigned char c, struct cg_buf *out)
{
    t->state = INERT_TEXT;
    switch (c) {
    case '[':
        t->state = INERT_CSI;
        t->n = 0;
        t->too_long = false;
        break;
    case 'P': /* DCS, OSC, SOS, PM, APC: strings to the terminal itself */
    case ']':
    case 'X':
    case '^':
    case '_':
        t->state = INERT_STRING;
        break;
    case '7': /* cursor saved and restored, lines up and down, tab stops */
    case '8':
    case 'D':
    case 'E':
    case 'H':
    case 'M':
        cg_buf_addf(out, "\033%c", c);
        break;
    case 0x1b:
        t->state = INERT_ESC;
        break;
    default:
        if (c >= 0x20 && c <= 0x2f) { /* with intermediates: character sets and the like */
            t->state = INERT_ESC_MORE;
            t->n = 0;
            t->held[t->n++] = (char)c;
        }
    }
}

/* Of character sets only those of lines and ASCII pass. */
static void esc_more_byte(struct inert *t, unsigned char c, struct cg_buf *out)
{
    if (c >= 0x20 && c <= 0x2f) {
        t->n = 2; /* more than one: nothing that is wanted */
        return;
    }
    if (t->n == 1 && (t->held[0] == '(' || t->held[0] == ')') && (c == '0' || c == 'B'))
        cg_buf_addf(out, "\033%c%c", t->held[0], c);
    t->state = c == 0x1b ? INERT_ESC : INERT_TEXT;
}

static void begin_string(struct inert *t, unsigned char c1)
{
    bool string = c1 == 0x90 || c1 == 0x98 || c1 >= 0x9d; /* DCS, SOS, OSC, PM, APC */
    t->state = c1 == 0x9b ? INERT_CSI : string ? INERT_STRING : INERT_TEXT;
    t->n = 0;
    t->too_long = false;
}

static size_t length_of(unsigned char c)
{
    return c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
}

/* Only whole and shortest forms pass: terminals differ in what they make of others, and some take
 * stray bytes of 80 to 9F for C1 controls. */
static void character_byte(struct inert *t, unsigned char c, struct cg_buf *out)
{
    t->character[t->have++] = c;
    if (t->have < t->need)
        return;
    const unsigned char *s = t->character;
    bool longer = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    if (s[0] == 0xc2 && s[1] < 0xa0) /* C1 controls */
        begin_string(t, s[1]);
    else if (!longer)
        cg_buf_add(out, s, t->need);
    t->need = 0;
}

static void text_byte(struct inert *t, unsigned char c, struct cg_buf *out)
{
    if (t->need > 0 && (c & 0xc0) == 0x80) {
        character_byte(t, c, out);
        return;
    }
    t->need = 0;
    if (c == 0x1b) {
        t->state = INERT_ESC;
    } else if (c >= 0x80) {
        t->need = length_of(c);
        t->have = 0;
        if (t->need > 0)
            character_byte(t, c, out);
    } else if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\r' || c == '\t' || c == '\b' ||
               c == 0x0e || c == 0x0f) {
        cg_buf_addc(out, (char)c);
    }
}

void inert_feed(struct inert *t, struct cg_slice in, struct cg_buf *out)
{
    for (size_t i = 0; i < in.n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        switch (t->state) {
        case INERT_TEXT:
            text_byte(t, c, out);
            break;
        case INERT_ESC:
            esc_byte(t, c, out);
            break;
        case INERT_ESC_MORE:
            esc_more_byte(t, c, out);
            break;
        case INERT_CSI:
            csi_byte(t, c, out);
            break;
        case INERT_STRING:
            t->state = c == 0x1b                             ? INERT_STRING_ESC
                       : c == 0x07 || c == 0x18 || c == 0x1a ? INERT_TEXT
                                                             : INERT_STRING;
            break;
        case INERT_STRING_ESC:
            t->state = INERT_TEXT;
            if (c != '\\')
                esc_byte(t, c, out); /* ESC ends a string whatever follows */
            break;
        }
    }
}
