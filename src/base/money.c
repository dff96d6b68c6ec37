/* See money.h. Products are taken in 128 bits, so that no order of operations can overflow. */
#include "base/money.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

__extension__ typedef __int128 wide;

static int64_t clamp(wide v)
{
    return v > CG_MONEY_MAX ? CG_MONEY_MAX : v < -CG_MONEY_MAX ? -CG_MONEY_MAX : (int64_t)v;
}

int64_t cg_money_add(int64_t a, int64_t b)
{
    return clamp((wide)a + b);
}

int64_t cg_money_muldiv(int64_t a, int64_t b, int64_t d)
{
    uint64_t small;
    CG_ASSERT(a >= 0 && b >= 0 && d > 0);
    if (!__builtin_mul_overflow((uint64_t)a, (uint64_t)b, &small) && small <= INT64_MAX) {
        const uint64_t quotient = small / (uint64_t)d + (small % (uint64_t)d != 0);
        return clamp((wide)quotient);
    }
    return clamp(((wide)a * b + d - 1) / d);
}

int64_t cg_money_tokens(int64_t tokens, int64_t npm)
{
    return cg_money_muldiv(tokens, npm, CG_TOKENS_MILLION);
}

int64_t cg_money_buys(int64_t nusd, int64_t npm)
{
    if (nusd <= 0)
        return 0;
    if (npm <= 0)
        return INT64_MAX;
    wide n = (wide)nusd * CG_TOKENS_MILLION / npm;
    return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

void cg_money_format(int64_t nusd, char out[CG_MONEY_TEXT])
{
    uint64_t v = nusd < 0 ? (uint64_t)0 - (uint64_t)nusd : (uint64_t)nusd;
    const uint64_t unit = (uint64_t)CG_USD;
    cg_snprintf(out, CG_MONEY_TEXT, "%s%" PRIu64 ".%09" PRIu64, nusd < 0 ? "-" : "", v / unit,
                v % unit);
    size_t n = strlen(out);
    for (int spare = 7; spare > 0 && out[n - 1] == '0'; spare--)
        out[--n] = '\0';
}

struct decimal {
    int64_t digits; /* all digits as one integer, 18 at most */
    int power;      /* of ten */
    bool more;      /* something not zero was cut behind them */
};

/* -?digits[.digits][e[+-]digits]; the minus is accepted before zero only. */
static bool read_digits(struct cg_slice s, size_t *at, struct decimal *d)
{
    bool any = false, point = false;
    for (; *at < s.n; (*at)++) {
        char c = s.p[*at];
        if (c == '.' && !point && any) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9')
            break;
        any = true;
        if (d->digits < INT64_C(100000000000000000)) {
            d->digits = d->digits * 10 + (c - '0');
            d->power -= point ? 1 : 0;
        } else {
            d->more |= c != '0';
            d->power += point ? 0 : 1;
        }
    }
    return any && s.p[*at - 1] != '.';
}

static bool read_power(struct cg_slice s, size_t *at, struct decimal *d)
{
    if (*at == s.n)
        return true;
    if (s.p[*at] != 'e' && s.p[*at] != 'E')
        return false;
    size_t i = *at + 1;
    bool minus = i < s.n && s.p[i] == '-';
    if (i < s.n && (s.p[i] == '-' || s.p[i] == '+'))
        i++;
    int power = 0;
    size_t from = i;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        power = power < 10000 ? power * 10 + (s.p[i] - '0') : power;
    d->power += minus ? -power : power;
    *at = i;
    return i > from && i == s.n;
}

/* digits * 10^power, rounded up; false beyond 9e15. */
static bool scale(const struct decimal *d, int power, int64_t *out)
{
    wide v = d->digits;
    bool more = d->more;
    if (v == 0) {
        *out = more ? 1 : 0;
        return true;
    }
    for (; power > 0; power--) {
        v *= 10;
        if (v > CG_MONEY_MAX)
            return false;
    }
    for (; power < 0 && v > 0; power++) {
        more |= v % 10 != 0;
        v /= 10;
    }
    *out = (int64_t)(v + (more ? 1 : 0));
    return v <= CG_MONEY_MAX - 1;
}

bool cg_money_parse_scaled(struct cg_slice text, int exponent, int64_t *out, struct cg_err *e)
{
    struct decimal d = {0};
    size_t at = 0;
    bool minus = text.n > 0 && text.p[0] == '-';
    if (minus)
        at++;
    if (!read_digits(text, &at, &d) || !read_power(text, &at, &d))
        return cg_fail(e, CG_INVALID, "%.*s is not a number", (int)CG_MIN(text.n, 40), text.p);
    if (minus && d.digits != 0)
        return cg_fail(e, CG_INVALID, "%.*s is negative", (int)CG_MIN(text.n, 40), text.p);
    if (!scale(&d, d.power + exponent, out))
        return cg_fail(e, CG_INVALID, "%.*s is too large", (int)CG_MIN(text.n, 40), text.p);
    return true;
}

bool cg_money_parse(struct cg_slice text, int64_t *nusd, struct cg_err *e)
{
    struct cg_slice number = text;
    if (number.n > 0 && number.p[0] == '$')
        number = (struct cg_slice){number.p + 1, number.n - 1};
    if (!cg_money_parse_scaled(number, 9, nusd, e))
        return cg_wrap(e, "amount of dollars");
    return true;
}

double cg_money_usd(int64_t nusd)
{
    return (double)nusd / 1e9;
}

int64_t cg_money_from_usd(double usd)
{
    if (!isfinite(usd) || usd < 0)
        return -1;
    double v = usd * 1e9;
    return v >= (double)CG_MONEY_MAX ? CG_MONEY_MAX : (int64_t)llround(v);
}
