/* Finds the next byte of a JSON string that means something: a quote, a backslash, a control
 * character. Texts are most of what models are sent and most of what they answer, so this is where
 * the time of reading them goes. */
#ifndef CG_BASE_SCAN_H
#define CG_BASE_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

enum { CG_SCAN_STEP = 16 };

/* One bit for each byte of the next CG_SCAN_STEP that ends a run of plain ones. */
static inline unsigned cg_scan_step(const char *p)
{
    __m128i w;
    memcpy(&w, p, sizeof w);
    const __m128i low = _mm_set1_epi8(0x1f);
    __m128i odd = _mm_cmpeq_epi8(w, _mm_set1_epi8('"'));
    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(w, _mm_set1_epi8('\\')));
    odd = _mm_or_si128(odd, _mm_cmpeq_epi8(_mm_min_epu8(w, low), w));
    return (unsigned)_mm_movemask_epi8(odd);
}
#endif

/* The first of [p, end) that is no plain byte of a string; end when all are. */
static inline const char *cg_scan_plain(const char *p, const char *end)
{
#ifdef __SSE2__
    for (; end - p >= CG_SCAN_STEP; p += CG_SCAN_STEP) {
        unsigned odd = cg_scan_step(p);
        if (odd)
            return p + __builtin_ctz(odd);
    }
#endif
    while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20)
        p++;
    return p;
}

#endif
