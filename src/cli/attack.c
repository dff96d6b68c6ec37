#include "cli/attack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonw.h"
#include "cli/client.h"

static const struct {
    const char *name, *title;
} classes[CLI_ATTACK_CLASSES] = {
    [CLI_ATTACK_DNS] = {"dns",
                        "DNS as a way out: types, long labels, TCP, other resolvers, DoT, DoH"},
    [CLI_ATTACK_NAMES] = {"names",
                          "names with NUL, CR LF, escapes; addresses as names; broken questions"},
    [CLI_ATTACK_HELLO] = {"hello", "TLS and HTTP that say another name, none, two, or hide it"},
    [CLI_ATTACK_ADDRESSES] = {"addresses", "private, link-local, metadata and reserved networks"},
    [CLI_ATTACK_DOORS] = {"doors", "ports of the host, this server's among them"},
    [CLI_ATTACK_IPV6] = {"ipv6", "IPv6: link-local, global, mapped, NAT64, 6to4"},
    [CLI_ATTACK_DATAGRAMS] = {"datagrams", "QUIC, NTP, mDNS, ICMP, tunnels"},
    [CLI_ATTACK_FRAMES] = {"frames", "forged source, MAC, VLAN, ARP, made-up protocols"},
    [CLI_ATTACK_VSOCK] = {"vsock", "sockets of the hypervisor"},
    [CLI_ATTACK_GATEWAY] = {"gateway", "the LLM gateway's paths without a token"},
    [CLI_ATTACK_VALUES] = {"values", "a secret's value in environments, memory, disks"},
};

const char *cli_attack_name(enum cli_attack_class class)
{
    return classes[class].name;
}

bool cli_attack_select(struct cli_attack_report *r, const char *only)
{
    bool found = false;
    for (int i = 0; i < CLI_ATTACK_CLASSES; i++) {
        r->rows[i].unwanted = strcmp(classes[i].name, only) != 0;
        found |= !r->rows[i].unwanted;
    }
    return found;
}

/* --- reading --- */

static void tell(struct cli_attack_row *row, const char *before, const char *text, size_t n)
{
    if (row->ntold < CLI_ATTACK_TOLD)
        row->told[row->ntold++] = cg_format("%s%.*s", before, (int)CG_MIN(n, 200), text);
}

void cli_attack_open(struct cli_attack_row *row, const char *what)
{
    row->open++;
    tell(row, "", what, strlen(what));
}

static void read_line(struct cli_attack_row *row, const char *line, size_t n)
{
    const char *tab = memchr(line, '\t', n);
    struct cg_slice verdict = {line, tab ? (size_t)(tab - line) : 0};
    const char *what = tab ? tab + 1 : line;
    size_t rest = n - (size_t)(what - line);
    if (cg_slice_eq(verdict, "held")) {
        row->held++;
    } else if (cg_slice_eq(verdict, "sent")) {
        row->sent++;
    } else if (cg_slice_eq(verdict, "skip")) {
        row->skipped++;
        tell(row, "not tried: ", what, rest);
    } else {
        row->open++;
        tell(row, "", what, rest);
    }
}

void cli_attack_read(struct cli_attack_row *row, const char *output)
{
    while (*output) {
        size_t n = strcspn(output, "\n");
        read_line(row, output, n);
        output += n + (output[n] == '\n');
    }
}

void cli_attack_free(struct cli_attack_report *r)
{
    for (int i = 0; i < CLI_ATTACK_CLASSES; i++)
        for (unsigned k = 0; k < r->rows[i].ntold; k++)
            free(r->rows[i].told[k]);
}

/* --- telling --- */

void cli_attack_head(const char *id, const char *template_name, const char *mode)
{
    printf("In %s, a throw-away sandbox of template %s with network mode %s, as root:\n\n", id,
           template_name, mode);
    printf("%-10s %5s %5s %5s  %s\n", "CLASS", "TRIED", "HELD", "OPEN", "WHAT");
    fflush(stdout);
}

void cli_attack_line(const struct cli_attack_report *r, enum cli_attack_class class)
{
    const struct cli_attack_row *row = &r->rows[class];
    if (row->untried) {
        printf("%-10s %5s %5s %5s  %s: not tried, %s\n", classes[class].name, "-", "-", "-",
               classes[class].title, row->untried);
    } else {
        printf("%-10s %5u %5u %5u  %s\n", classes[class].name, row->held + row->open, row->held,
               row->open, classes[class].title);
        for (unsigned i = 0; i < row->ntold; i++) {
            fputs("           ! ", stdout);
            cli_print_text(stdout, row->told[i], strlen(row->told[i]));
            putchar('\n');
        }
    }
    fflush(stdout);
}

static void write_json(const struct cli_attack_report *r, const char *mode, unsigned held,
                       unsigned open)
{
    CG_OWN(cg_drop_buf) struct cg_buf b;
    struct cg_jsonw w;
    cg_buf_init(&b, 1 << 20);
    cg_jsonw_init(&w, &b);
    cg_jsonw_obj(&w);
    cg_jsonw_kstr(&w, "mode", mode);
    cg_jsonw_kuint(&w, "held", held);
    cg_jsonw_kuint(&w, "open", open);
    cg_jsonw_key(&w, "classes");
    cg_jsonw_arr(&w);
    for (int i = 0; i < CLI_ATTACK_CLASSES; i++) {
        const struct cli_attack_row *row = &r->rows[i];
        if (row->unwanted)
            continue;
        cg_jsonw_obj(&w);
        cg_jsonw_kstr(&w, "class", classes[i].name);
        cg_jsonw_kuint(&w, "held", row->held);
        cg_jsonw_kuint(&w, "open", row->open);
        cg_jsonw_kuint(&w, "skipped", row->skipped);
        cg_jsonw_kstr(&w, "untried", row->untried);
        cg_jsonw_key(&w, "told");
        cg_jsonw_arr(&w);
        for (unsigned k = 0; k < row->ntold; k++)
            cg_jsonw_str(&w, row->told[k]);
        cg_jsonw_arr_end(&w);
        cg_jsonw_obj_end(&w);
    }
    cg_jsonw_arr_end(&w);
    cg_jsonw_obj_end(&w);
    puts(cg_buf_cstr(&b));
}

int cli_attack_end(const struct cli_attack_report *r, const char *mode, bool json)
{
    unsigned held = 0, open = 0;
    for (int i = 0; i < CLI_ATTACK_CLASSES; i++) {
        held += r->rows[i].held;
        open += r->rows[i].open;
    }
    if (json)
        write_json(r, mode, held, open);
    else if (open == 0)
        printf("\nAll %u attempts were held.\n", held);
    else
        printf("\n%u of %u attempts got through or were not refused.\n", open, held + open);
    return open > 0 ? 1 : 0;
}
