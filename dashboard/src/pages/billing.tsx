// The plan, what was used, and the figures to take along. Nobody is charged while no payment provider is set.
import { useState } from "preact/hooks";
import { ApiError, get, getText } from "../lib/api";
import { duration, local, price, usd, visible } from "../lib/format";
import { sandboxes } from "../lib/live";
import { useStore } from "../lib/store";
import { useLoad } from "../lib/use";
import { Button, Empty, Failure, Loading, toast } from "../ui/parts";
import { Table, Tiles } from "../ui/table";
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
  running_seconds: number;
  compute_cost_usd: number;
  llm_cost_usd: number;
  total_cost_usd: number;
}

type Grouping = "day" | "sandbox" | "sandbox_day";
const groupings: [Grouping, string][] = [
  ["day", "By day"],
  ["sandbox", "By sandbox"],
  ["sandbox_day", "Both"],
];
const SHOWN = 400;
const DAY_MS = 86_400_000;

function dayBack(days: number): string {
  return new Date(Date.now() - days * DAY_MS).toISOString().slice(0, 10);
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
      const text = await getText("/v1/billing/usage/export", { ...params, format: "csv" });
      const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      const a = Object.assign(document.createElement("a"), { href: url, download: `caged-usage-${from}-${to}.csv` });
      a.click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  const sum = (rows.data ?? []).reduce((a, r) => ({ run: a.run + r.running_seconds, machine: a.machine + r.compute_cost_usd, models: a.models + r.llm_cost_usd, all: a.all + r.total_cost_usd }), { run: 0, machine: 0, models: 0, all: 0 });
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
            keyOf={(r) => `${r.day ?? ""} ${r.sandbox_id ?? ""}`}
            columns={[
              group !== "sandbox" && { title: "Day (UTC)", cell: (r: UsageRow) => <span class="nowrap num">{r.day}</span> },
              group !== "day" && { title: "Sandbox", as: "wrap" as const, cell: (r: UsageRow) => <a href={`/sandboxes/${r.sandbox_id}/cost`}>{visible(names?.get(r.sandbox_id ?? "")?.name ?? r.sandbox_id ?? "")}</a> },
              { title: "Ran", as: "number", cell: (r) => duration(r.running_seconds * 1000) },
              { title: "Machine", as: "number", hide: "s", cell: (r) => usd(r.compute_cost_usd) },
              { title: "Models", as: "number", hide: "s", cell: (r) => usd(r.llm_cost_usd) },
              { title: "Together", as: "number", cell: (r) => usd(r.total_cost_usd) },
            ]}
          >
            <p class="pad dim small">
              {rows.data.length > SHOWN && `The last ${SHOWN} of ${rows.data.length} rows are shown, all are in the CSV. `}
              Together: {duration(sum.run * 1000)}, machine {usd(sum.machine)}, models {usd(sum.models)}, <strong>{usd(sum.all)}</strong>.
            </p>
          </Table>
        )}
      </div>
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
