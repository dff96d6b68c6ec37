#include "intercept/wsscan.h"

#include <string.h>

void ws_scan_init(struct ws_scan *s, const struct cg_match *m)
{
    *s = (struct ws_scan){.m = m, .need = 2};
}

/* Two bytes tell how long the head is: 7, 16 or 64 bits of length, a mask or none. */
static void head_byte(struct ws_scan *s, unsigned char byte)
{
    s->head[s->at++] = byte;
    if (s->at == 2) {
        unsigned length = s->head[1] & 0x7f;
        s->need = 2 +
                  (length == 126   ? 2u
                   : length == 127 ? 8u
                                   : 0u) +
                  (s->head[1] & 0x80 ? 4u : 0u);
    }
    if (s->at < s->need)
        return;
    unsigned length = s->head[1] & 0x7f;
    unsigned more = length == 126 ? 2u : length == 127 ? 8u : 0u;
    s->left = more ? 0 : length;
    for (unsigned i = 0; i < more; i++)
        s->left = s->left << 8 | s->head[2 + i];
    s->pos = 0;
    s->at = s->left > 0 ? s->need : 0;
    if (s->left == 0)
        s->need = 2;
}

int ws_scan_feed(struct ws_scan *s, struct cg_slice in)
{
    for (size_t i = 0; i < in.n; i++) {
        unsigned char byte = (unsigned char)in.p[i];
        if (s->left == 0) {
            head_byte(s, byte);
            continue;
        }
        if (s->head[1] & 0x80)
            byte ^= s->head[s->need - 4 + s->pos++ % 4];
        int tag = cg_match_step(s->m, &s->node, byte);
        if (tag >= 0)
            return tag;
        if (--s->left == 0) {
            s->at = 0;
            s->need = 2;
        }
    }
    return -1;
}
