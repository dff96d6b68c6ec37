// The plan, what was used, and the figures to take along. Nobody is charged while no payment provider is set.
import { useState } from "preact/hooks";
import { ApiError, get, getText } from "../lib/api";
import { count, duration, local, price, tokens, usd, visible } from "../lib/format";
import { sandboxes } from "../lib/live";
import { useStore } from "../lib/store";
import { useLoad } from "../lib/use";
import { Button, Empty, Failure, Loading, toast } from "../ui/parts";
import { Table, Tiles, type Column } from "../ui/table";
import { Whose } from "../ui/whose";

interface Subscription {
  plan: string;
  status: string;
  current_period_end: string | null;
  usage: { compute_hours: number; llm_cost_usd: number; total_cost_usd: number; sandboxes_created: number };
}
interface Pricing {
  compute: { vcpu_hour: number; memory_gb_hour: number; disk_gb_hour: number };
  limits: { concurrent_sandboxes: number; requests_per_minute: number | null };
}
interface UsageRow {
  day?: string;
  sandbox_id?: string;
  agent_type?: string | null;
  model?: string | null;
  sessions?: number;
  tokens_in?: number;
  tokens_out?: number;
  running_seconds?: number;
  compute_cost_usd: number;
  llm_cost_usd: number;
  total_cost_usd: number;
}

interface Statement {
  month: string;
  plan: string | null;
  running_seconds: number;
  compute_cost_usd: number;
  llm_cost_usd: number;
  plan_price_usd: number;
  included_hours_credit_usd: number;
  total_usd: number;
}

type Grouping = "day" | "sandbox" | "sandbox_day" | "agent" | "model";
const groupings: [Grouping, string][] = [
  ["day", "By day"],
  ["sandbox", "By sandbox"],
  ["sandbox_day", "Both"],
  ["agent", "By agent"],
  ["model", "By model"],
];
const SHOWN = 400;
const DAY_MS = 86_400_000;

function dayBack(days: number): string {
  return new Date(Date.now() - days * DAY_MS).toISOString().slice(0, 10);
}

/** Gives a text to the browser as a file: it is opened by the person, not by this page. */
function save(text: string, type: string, name: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

function Statements({ team }: { team: string }) {
  const of = { team: team || undefined };
  const list = useLoad((signal) => get<Statement[]>("/v1/billing/invoices", of, signal), [team]);
  if (list.error || !list.data?.length) return null;
  const print = async (month: string) => {
    try {
      save(await getText(`/v1/billing/invoices/${month}`, { ...of, format: "html" }), "text/html", `caged-statement-${month}.html`);
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  return (
    <div class="card">
      <header>
        <h2>Statements</h2>
        <span class="dim small">nobody is charged by this server</span>
      </header>
      <Table
        label="Statements"
        rows={list.data}
        keyOf={(x) => x.month}
        columns={[
          { title: "Month", cell: (x) => <strong class="num">{x.month}</strong> },
          { title: "Ran", as: "number", hide: "s", cell: (x) => duration(x.running_seconds * 1000) },
          { title: "Machine", as: "number", hide: "s", cell: (x) => usd(x.compute_cost_usd) },
          { title: "Models", as: "number", hide: "s", cell: (x) => usd(x.llm_cost_usd) },
          { title: "Plan", as: "number", hide: "m", cell: (x) => (x.plan ? `${visible(x.plan)}, ${usd(x.plan_price_usd)}` : "–") },
          { title: "Hours of the plan", as: "number", hide: "m", cell: (x) => (x.included_hours_credit_usd ? `−${usd(x.included_hours_credit_usd)}` : "–") },
          { title: "Total", as: "number", cell: (x) => <strong>{usd(x.total_usd)}</strong> },
          {
            title: "Actions",
            as: "acts",
            cell: (x) => (
              <Button kind="quiet" class="small" onClick={() => void print(x.month)}>
                To print
              </Button>
            ),
          },
        ]}
      />
    </div>
  );
}

function usageColumns(group: Grouping, nameOf: (id: string) => string): (Column<UsageRow> | false)[] {
  const byWork = group === "agent" || group === "model";
  return [
    (group === "day" || group === "sandbox_day") && { title: "Day (UTC)", cell: (r) => <span class="nowrap num">{r.day}</span> },
    (group === "sandbox" || group === "sandbox_day") && { title: "Sandbox", as: "wrap", cell: (r) => <a href={`/sandboxes/${r.sandbox_id}/cost`}>{visible(nameOf(r.sandbox_id ?? ""))}</a> },
    group === "agent" && { title: "Agent", as: "wrap", cell: (r) => visible(r.agent_type ?? "none that is known") },
    group === "model" && { title: "Model", as: "wrap", cell: (r) => visible(r.model ?? "none") },
    byWork && { title: "Sessions", as: "number", hide: "s", cell: (r) => count(r.sessions ?? 0) },
    byWork && { title: "Tokens", as: "number", hide: "s", cell: (r) => `${tokens(r.tokens_in ?? 0)} / ${tokens(r.tokens_out ?? 0)}` },
    !byWork && { title: "Ran", as: "number", cell: (r) => duration((r.running_seconds ?? 0) * 1000) },
    { title: "Machine", as: "number", hide: "s", cell: (r) => usd(r.compute_cost_usd) },
    { title: "Models", as: "number", hide: "s", cell: (r) => usd(r.llm_cost_usd) },
    { title: "Together", as: "number", cell: (r) => usd(r.total_cost_usd) },
  ];
}

export function BillingTab() {
  const [team, setTeam] = useState("");
  const of = { team: team || undefined };
  const plan = useLoad((signal) => Promise.all([get<Subscription>("/v1/billing/subscription", of, signal), get<Pricing>("/v1/pricing", undefined, signal)]), [team], 60_000);
  const [group, setGroup] = useState<Grouping>("day");
  const [from, setFrom] = useState(dayBack(29));
  const [to, setTo] = useState(dayBack(0));
  const wrong = from && to && from > to;
  const params = { from: from || undefined, to: to || undefined, group_by: group, ...of };
  const rows = useLoad((signal) => (wrong ? Promise.resolve([]) : get<UsageRow[]>("/v1/billing/usage/export", params, signal)), [from, to, group, team]);
  const names = useStore(sandboxes);
  if (plan.error) return plan.error instanceof ApiError && plan.error.absent ? <Empty icon="dollar" title="This server keeps no accounts of usage" /> : <Failure error={plan.error} retry={plan.reload} />;
  if (!plan.data) return <Loading what="usage" />;
  const [s, prices] = plan.data;
  const download = async () => {
    try {
      save(await getText("/v1/billing/usage/export", { ...params, format: "csv" }), "text/csv", `caged-usage-${from}-${to}.csv`);
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  const sum = (rows.data ?? []).reduce((a, r) => ({ run: a.run + (r.running_seconds ?? 0), machine: a.machine + r.compute_cost_usd, models: a.models + r.llm_cost_usd, all: a.all + r.total_cost_usd }), { run: 0, machine: 0, models: 0, all: 0 });
  return (
    <div class="stack">
      <Tiles
        class="card"
        items={[
          ["Plan", visible(s.plan)],
          ["Machine time, this month", `${s.usage.compute_hours.toFixed(2)} h`],
          ["Models, this month", price(s.usage.llm_cost_usd)],
          ["Together, this month", <strong>{price(s.usage.total_cost_usd)}</strong>],
          ["Sandboxes made", s.usage.sandboxes_created],
          ["The month ends", <span title={s.current_period_end ?? ""}>{local(s.current_period_end)}</span>],
        ]}
      />
      <div class="card">
        <header class="wrap-row">
          <h2 class="grow">Usage</h2>
          <Whose team={team} least="viewer" set={setTeam} />
          <div class="segments" role="group" aria-label="How usage is grouped">
            {groupings.map(([id, title]) => (
              <button key={id} type="button" aria-pressed={group === id} onClick={() => setGroup(id)}>
                {title}
              </button>
            ))}
          </div>
          <label class="row small">
            <span class="dim">from</span>
            <input type="date" class="day-input" value={from} max={to} onInput={(e) => setFrom(e.currentTarget.value)} />
          </label>
          <label class="row small">
            <span class="dim">to</span>
            <input type="date" class="day-input" value={to} min={from} onInput={(e) => setTo(e.currentTarget.value)} />
          </label>
          <Button icon="down" disabled={!rows.data?.length} onClick={() => void download()}>
            CSV
          </Button>
        </header>
        {wrong ? (
          <p class="pad bad-text">The first day is after the last.</p>
        ) : rows.error ? (
          <Failure error={rows.error} retry={rows.reload} />
        ) : !rows.data ? (
          <Loading what="usage" />
        ) : rows.data.length === 0 ? (
          <Empty icon="dollar" title="Nothing was used in these days">
            <p>Machine time counts while a sandbox runs, not while it is paused or gone; calls of models count by their price. Days are those of UTC.</p>
          </Empty>
        ) : (
          <Table
            label="Usage"
            rows={[...rows.data].reverse().slice(0, SHOWN)}
            keyOf={(r) => `${r.day ?? ""} ${r.sandbox_id ?? ""} ${r.agent_type ?? ""} ${r.model ?? ""}`}
            columns={usageColumns(group, (id) => names?.get(id)?.name ?? id)}
          >
            <p class="pad dim small">
              {rows.data.length > SHOWN && `The last ${SHOWN} of ${rows.data.length} rows are shown, all are in the CSV. `}
              Together: {sum.run > 0 && `${duration(sum.run * 1000)}, `}machine {usd(sum.machine)}, models {usd(sum.models)}, <strong>{usd(sum.all)}</strong>.
            </p>
          </Table>
        )}
      </div>
      <Statements team={team} />
      <div class="card in stack">
        <h2>Prices and limits of this server</h2>
        <Tiles
          items={[
            ["A CPU", `${usd(prices.compute.vcpu_hour)}/h`],
            ["A GB of memory", `${usd(prices.compute.memory_gb_hour)}/h`],
            ["A GB of disk", `${usd(prices.compute.disk_gb_hour)}/h`],
            ["Sandboxes at once", prices.limits.concurrent_sandboxes],
            ["Requests a minute", prices.limits.requests_per_minute ?? "no limit"],
          ]}
        />
        <p class="dim small">Machine time is counted by the second while a sandbox runs. These are accounts, not invoices: nobody is charged by this server.</p>
      </div>
    </div>
  );
}
