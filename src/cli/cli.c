/* The table, dispatch, help, completion. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "cli/verb.h"
#include "cli/verb_images.h"

const struct cg_verb cg_verbs[] = {
    {"up", NULL, "[FLAGS]", "make a sandbox from .caged.yaml and this repository",
     "--config --template --cpus --memory --disk --network --allowlist --repo --repo-branch "
     "--repo-commit "
     "--repo-subdir --budget --budget-tokens --budget-action --env --secrets --timeout --name --rm "
     "--json",
     "caged up                          # this folder's .caged.yaml, this repository\n"
     "caged up --template node-22 --cpus 2 --memory 1024\n"
     "caged up --repo https://example.org/p.git --repo-branch main",
     verb_up},
    {"run", NULL, "[FLAGS] [-- COMMAND...]", "make a sandbox from flags alone, without .caged.yaml",
     "--template --cpus --memory --disk --network --allowlist --repo --budget --budget-tokens "
     "--budget-action --env --secrets "
     "--timeout --name "
     "--rm --json",
     "caged run --template minimal --json\n"
     "caged run --rm -- sh -c 'uname -a'   # make, run, destroy",
     verb_run},
    {"list", "ls", "[--all]", "sandboxes and their states", "--all --format --json",
     "caged list\ncaged list --json | jq -r '.[].id'", verb_list},
    {"status", NULL, "<id>", "one sandbox, whole", "--format --json",
     "caged status cage-k3v9q2m7xa", verb_status},
    {"exec", NULL, "[FLAGS] <id> [--] COMMAND...",
     "run a command in a sandbox; passes its exit code on",
     "-i -t --user --cwd --env --timeout --json",
     "caged exec cage-k3v9q2m7xa 'git status | head'\n"
     "echo hi | caged exec cage-k3v9q2m7xa -- wc -c\n"
     "caged exec -t cage-k3v9q2m7xa vim README.md",
     verb_exec},
    {"connect", NULL, "<id>", "a terminal in a sandbox (leave with exit, or Enter ~ .)", "",
     "caged connect cage-k3v9q2m7xa", verb_connect},
    {"logs", NULL, "[-f] [--tail N] <id>", "what happened, a line each", "-f --tail --json",
     "caged logs --tail 20 cage-k3v9q2m7xa\ncaged logs -f cage-k3v9q2m7xa", verb_logs},
    {"events", NULL, "[-f] [--after SEQ] [<id>]", "everything observed, live, out of the record",
     "-f --after --json",
     "caged events -f cage-k3v9q2m7xa\ncaged events --json cage-k3v9q2m7xa | jq .type",
     verb_events},
    {"replay", NULL, "[--speed N] [--idle S] [--from S] <session>",
     "play a terminal session again; --export writes an asciicast",
     "--speed --idle --from --export",
     "caged replay sess-k3v9q2m7xa --speed 2\n"
     "caged replay sess-k3v9q2m7xa --export session.cast",
     verb_replay},
    {"files", NULL, "[--at SEQ] <id> [PATH]",
     "files of a sandbox, now or as they stood; --cat shows one, --diff SEQ what changed",
     "--at --cat --diff --json",
     "caged files cage-k3v9q2m7xa src\n"
     "caged files --at 1200 --cat cage-k3v9q2m7xa src/main.c\n"
     "caged files --diff 1000 --at 1200 cage-k3v9q2m7xa",
     verb_files},
    {"verify", NULL, "<id|FILE|FOLDER> [--key KEY]",
     "prove that a record is what it was, or where not", "--key --state-dir --json",
     "caged verify cage-k3v9q2m7xa\ncaged verify evidence.tar   # anywhere, without a server",
     verb_verify},
    {"export", NULL, "<id> -o FILE", "a record in one file that verifies anywhere",
     "-o --output --state-dir",
     "caged export cage-k3v9q2m7xa -o evidence.tar\ncaged export cage-k3v9q2m7xa -o - | tar tv",
     verb_export},
    {"cp", NULL, "<from> <to>", "copy files: one side is <id>:PATH, - is standard input or output",
     "",
     "caged cp build.tar cage-k3v9q2m7xa:/workspace/\n"
     "caged cp cage-k3v9q2m7xa:/workspace/out ./out",
     verb_cp},
    {"ports", NULL, "<id> [protect|unprotect|share PORT]",
     "ports that something in a sandbox listens on, and who may see them",
     "--format --json --seconds", "caged ports cage-k3v9q2m7xa share 3000 --seconds 7200",
     verb_ports},
    {"forward", NULL, "[--bind ADDRESS] <id> PORT[:LOCAL]...",
     "local ports that lead into a sandbox", "--bind",
     "caged forward cage-k3v9q2m7xa 3000          # 127.0.0.1:3000 here is port 3000 there\n"
     "caged forward cage-k3v9q2m7xa 5432:15432 8080",
     verb_forward},
    {"mcp", NULL, "<id>", "a sandbox's tools for an MCP client, over standard input and output", "",
     "caged mcp cage-k3v9q2m7xa   # as the command of a server in the client's configuration",
     verb_mcp},
    {"pause", "sleep", "<id>...", "save sandboxes with their memory; nothing of them runs then", "",
     "caged pause cage-k3v9q2m7xa", verb_pause},
    {"resume", "wake", "<id>...", "let paused sandboxes go on", "", "caged resume cage-k3v9q2m7xa",
     verb_resume},
    {"snapshot", NULL, "create|list|show|restore|download|delete ...",
     "keep the files of a sandbox, and go back to them",
     "--name --description --memory --to --output --json",
     "caged snapshot create cage-k3v9q2m7xa --name before-refactor\n"
     "caged snapshot restore snap-k3v9q2m7xa\n"
     "caged snapshot download snap-k3v9q2m7xa --output files.tar.gz\n"
     "caged up --from-snapshot snap-k3v9q2m7xa",
     verb_snapshot},
    {"fork", NULL, "[-n N] [--name NAME] <id>", "live copies of a sandbox, memory and all",
     "-n --count --name --json", "caged fork cage-k3v9q2m7xa -n 3", verb_fork},
    {"destroy", "rm", "[--force] <id>...", "end sandboxes; only their records stay", "--force",
     "caged destroy cage-k3v9q2m7xa", verb_destroy},
    {"gc", NULL, "[--dry-run]", "remove files on the server that belong to nothing any more",
     "--dry-run --json", "caged gc --dry-run", verb_gc},
    {"budget", NULL, "<id>|account [set [DOLLARS|none] [--tokens N] [--action destroy|pause]]",
     "what a sandbox, or the account this month, has spent and may spend", "--tokens --action",
     "caged budget cage-k3v9q2m7xa\ncaged budget cage-k3v9q2m7xa set 8   # while it runs\n"
     "caged budget account set 100           # a month, all sandboxes together",
     verb_budget},
    {"alerts", NULL,
     "[list | resolve ID | rules | rule ID ... | notifications | channels ... | test]",
     "what to look at, the rules that raise it, and who is told", "--format --json",
     "caged alerts\ncaged alerts rule rule-k3v9q2m7xa score_threshold=80\n"
     "caged alerts channels email_address ops@example.com\n"
     "caged alerts channels enabled_channels in_app,email",
     verb_alerts},
    {"prices", NULL, "list|show MODEL|import FILE|set MODEL ...",
     "what a million tokens cost, and prices of your own",
     "--provider --input --output --cache-read --cache-write-5m --cache-write-1h --context "
     "--max-output --from --all --format --json",
     "caged prices list --provider anthropic\ncaged prices show claude-haiku-4-5\n"
     "caged prices set my-model --provider local --input 0.1 --output 0.4\n"
     "caged prices import model_prices_and_context_window.json",
     verb_prices},
    {"trust", NULL, "<id> [--explain] | recompute <id|FILE> [--rules FILE] | check [--rules FILE]",
     "the trust score of a sandbox, with every deduction and its evidence",
     "--explain --rules --format --json",
     "caged trust cage-k3v9q2m7xa --explain\ncaged trust recompute record.tar --rules mine.yaml",
     verb_trust},
    {"cost", NULL, "[--by sandbox|agent|model]", "where the money went", "--by --json",
     "caged cost\ncaged cost --by model", verb_cost},
    {"top", NULL, "[--once] [--all]", "sandboxes and what they cost, live", "--once --all",
     "caged top", verb_top},
    {"agents", NULL, "list | install NAME... [--template T]",
     "coding agents, and fetching one ahead of its first use", "--json --format --template",
     "caged agents list\ncaged agents install claude-code --template node-22", verb_agents},
    {"run-agent", NULL, "<id> [--agent NAME] [--model MODEL] [--timeout S] [--json] PROMPT",
     "one prompt for a coding agent inside a sandbox",
     "--agent --model --provider --timeout --user --json --quiet",
     "caged run-agent cage-k3v9q2m7xa --agent claude-code 'make the tests pass'", verb_run_agent},
    {"templates", NULL, "", "what sandboxes can be made of", "--format --json", "caged templates",
     cg_verb_templates},
    {"image", NULL, "build [TEMPLATE...] [--all] [--force] [--from oci:DIR:TAG --name NAME]",
     "build kernel, initramfs and templates", "--all --force --from --name",
     "caged image build minimal node-22\ncaged image build --from oci:./layout:latest --name mine",
     cg_verb_image},
    {"server", NULL,
     "start|stop|reload|status [--state-dir DIR] [--listen HOST:PORT] [--config FILE] "
     "[--foreground]",
     "the server on this machine", "--state-dir --listen --config --foreground",
     "caged server start\ncaged server start --listen 127.0.0.1:7900 --state-dir ~/caged-two\n"
     "caged server reload   # reads its configuration again",
     verb_server},
    {"backup", NULL, "-o FILE [--state-dir DIR]",
     "the state directory of this machine in one file, while the server runs",
     "-o --output --state-dir", "caged backup -o caged-2026-11-28.tar.zst", verb_backup},
    {"restore", NULL, "FILE [--state-dir DIR] [--force]",
     "put a backup back into an empty state directory, its records verified", "--state-dir --force",
     "caged restore caged-2026-11-28.tar.zst --state-dir /var/lib/caged", verb_restore},
    {"network", NULL, "<id> [show|mode MODE|allow RULE|deny RULE|remove RULE]",
     "what a sandbox may reach, also while it runs", "show mode allow deny remove --json",
     "caged network cage-k3v9q2m7xa\n"
     "caged network cage-k3v9q2m7xa mode allowlist\n"
     "caged network cage-k3v9q2m7xa allow '*.example.com'   # or example.com:8443, 203.0.113.0/24\n"
     "caged network cage-k3v9q2m7xa deny ads.example.com\n"
     "caged network cage-k3v9q2m7xa remove '*.example.com'",
     verb_network},
    {"attack", NULL, "<id> [--only CLASS]",
     "try to break out of a throw-away sandbox like this one", "--only --json",
     "caged attack cage-k3v9q2m7xa", verb_attack},
    {"secrets", NULL, "set NAME|list|delete NAME",
     "tokens that a sandbox uses without ever seeing them",
     "set list delete --host --from-env --value --json --format",
     "caged secrets set GITHUB_TOKEN < token.txt       # for GitHub's hosts\n"
     "caged secrets set API_KEY --host api.example.com --from-env API_KEY\n"
     "caged secrets list\n"
     "caged run --template minimal --secrets GITHUB_TOKEN",
     verb_secrets},
    {"login", NULL, "[--url URL] [--email ADDRESS|--key|--manual|--approve CODE|--deny CODE]",
     "get a key of a server for this user, or let somebody else in",
     "--url --email --key --manual --approve --deny",
     "caged login --url https://caged.example.org     # shows a code that a person approves\n"
     "caged login --email me@example.org              # by password, from the terminal\n"
     "caged login --key < key.txt\n"
     "caged login --approve BCDF-GHJK                 # lets the login with this code in",
     verb_login},
    {"logout", NULL, "[--keep-key]", "forget the key, and end it on the server", "--keep-key",
     "caged logout", verb_logout},
    {"whoami", NULL, "[--json]", "which account, which server, with what rights", "--json --format",
     "caged whoami", verb_whoami},
    {"keys", NULL, "list|create NAME [--scope full|sandbox|read] [--expires DAYSd|TIME]|delete ID",
     "API keys of the account", "list create delete --scope --expires --json --format",
     "caged keys create ci --scope sandbox --expires 90d\n"
     "caged keys list\n"
     "caged keys delete key-k3v9q2m7xa",
     verb_keys},
    {"team", NULL,
     "list | create NAME | show|rename|delete|leave TEAM | invite TEAM EMAIL [--role ROLE] | "
     "uninvite TEAM ID | join CODE | role TEAM MEMBER ROLE | remove TEAM MEMBER",
     "share sandboxes, secrets and a budget with others, by role",
     "list create show rename delete invite uninvite join role remove leave --role --json --format",
     "caged team create acme\n"
     "caged team invite team-k3v9q2m7xa bob@example.org --role admin\n"
     "caged team join caged_inv_...                # what Bob types\n"
     "caged --team team-k3v9q2m7xa up               # any verb, for the team",
     verb_team},
    {"billing", NULL,
     "[show | usage [--by sandbox_day|day|sandbox|agent|model] [--from DAY] [--to DAY] [--csv] | "
     "plans | statements | statement MONTH [--html]]",
     "what was used, by day, agent or model, and statements by month",
     "show usage plans statements statement --by --from --to --csv --html --json --format",
     "caged billing\ncaged billing usage --by model --from 2026-11-01\n"
     "caged billing usage --csv > usage.csv\n"
     "caged billing statement 2026-11 --html > november.html",
     verb_billing},
    {"audit", NULL, "[--limit N] [--before SEQ]", "who changed what by the API, newest first",
     "--limit --before --json --format",
     "caged audit --limit 20\ncaged --team team-k3v9q2m7xa audit", verb_audit},
    {"doctor", NULL, "[--json]", "check this machine, layer by layer", "--json --no-boot",
     "caged doctor", verb_doctor},
    {"demo", NULL, "[--quick]", "a whole sandbox life, shown; --quick leaves the coding agent out",
     "--quick", "caged demo --quick", verb_demo},
    {"sandboxes", NULL, "list|create|destroy|connect|exec|logs ...", "the same verbs, spelled long",
     "", "caged sandboxes list", verb_sandboxes},
    {"man", NULL, "[VERB] | --install DIR", "a manual page, made of the same table as this help",
     "--install", "caged man up | man -l -\ncaged man --install ~/.local/share/man/man1", verb_man},
    {"completion", NULL, "bash|zsh|fish", "completion for a shell", "",
     "source <(caged completion bash)", verb_completion},
    {"version", NULL, "", "version", "", "caged version", verb_version},
    {"help", NULL, "[VERB]", "this, or one verb in detail", "", "caged help exec", verb_help},
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

const struct cg_verb *cg_verb_find(const char *name)
{
    for (const struct cg_verb *v = cg_verbs; v->name; v++) {
        if (strcmp(v->name, name) == 0 || cg_streq(v->alias, name))
            return v;
    }
    return NULL;
}

/* Levenshtein distance of short words. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[40];
    size_t n = CG_MIN(strlen(b), (size_t)38);
    for (unsigned i = 0; i <= n; i++)
        row[i] = i;
    for (; *a; a++) {
        unsigned diagonal = row[0]++;
        for (size_t i = 1; i <= n; i++) {
            unsigned best = CG_MIN(row[i], row[i - 1]) + 1;
            best = CG_MIN(best, diagonal + (*a != b[i - 1]));
            diagonal = row[i];
            row[i] = best;
        }
    }
    return row[n];
}

const char *cg_verb_nearest(const char *name)
{
    const char *best = NULL;
    unsigned least = 3;
    for (const struct cg_verb *v = cg_verbs; v->name; v++) {
        unsigned d = distance(name, v->name);
        if (d < least) {
            least = d;
            best = v->name;
        }
    }
    return best;
}

void cg_verb_help(const struct cg_verb *v)
{
    printf("caged %s %s\n  %s\n", v->name, v->args, v->summary);
    if (v->alias)
        printf("  also: caged %s\n", v->alias);
    if (v->flags[0])
        printf("\nflags: %s\n", v->flags);
    printf("\nexamples:\n");
    for (const char *p = v->examples; *p;) {
        size_t n = strcspn(p, "\n");
        printf("  %.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
}

static void overview(FILE *out)
{
    fprintf(out, "caged runs coding agents in microVMs and records what they do.\n\n");
    fprintf(out, "Start here:   caged demo             see a whole sandbox life\n"
                 "              caged up               a sandbox with this repository\n"
                 "              caged doctor           what this machine can do\n\n");
    for (const struct cg_verb *v = cg_verbs; v->name; v++)
        fprintf(out, "  %-12s %s\n", v->name, v->summary);
    fprintf(out,
            "\ncaged help VERB shows flags and examples. caged --team ID VERB acts for a team.\n");
}

int verb_help(int argc, char **argv)
{
    const struct cg_verb *v = argc > 1 ? cg_verb_find(argv[1]) : NULL;
    if (v)
        cg_verb_help(v);
    else
        overview(stdout);
    return 0;
}

int verb_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("caged %s (%s)\n", CG_VERSION, CG_COMMIT);
    return 0;
}

int verb_sandboxes(int argc, char **argv)
{
    static const char *const allowed[] = {"list", "ls", "destroy", "rm", "connect", "exec", "logs"};
    if (argc < 2)
        return cli_usage("sandboxes needs a verb: list, create, destroy, connect, exec, logs");
    if (strcmp(argv[1], "create") == 0)
        return verb_run(argc - 1, argv + 1);
    for (size_t i = 0; i < CG_COUNT(allowed); i++) {
        const struct cg_verb *v = strcmp(argv[1], allowed[i]) == 0 ? cg_verb_find(argv[1]) : NULL;
        if (v)
            return v->run(argc - 1, argv + 1);
    }
    return cli_usage("sandboxes does not know \"%s\": list, create, destroy, connect, exec, logs",
                     argv[1]);
}

int cg_cli_main(int argc, char **argv)
{
    if (argc < 2) {
        overview(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return verb_help(1, argv);
    if (strcmp(argv[1], "--version") == 0)
        return verb_version(1, argv);
    if (strcmp(argv[1], "--team") == 0 && argc > 3) { /* as CAGED_TEAM: see cli_curl */
        setenv("CAGED_TEAM", argv[2], 1);
        return cg_cli_main(argc - 2, argv + 2);
    }
    const struct cg_verb *v = cg_verb_find(argv[1]);
    if (!v) {
        const char *near = cg_verb_nearest(argv[1]);
        fprintf(stderr, "error: caged does not know \"%s\"%s%s%s; caged help lists the verbs\n",
                argv[1], near ? ": did you mean " : "", near ? near : "", near ? "?" : "");
        return 2;
    }
    if (argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
        cg_verb_help(v);
        return 0;
    }
    return v->run(argc - 1, argv + 1);
}
