// Spending of the whole account: by day, by sandbox, by template; what it comes to at this rate.
import { useMemo, useState } from "preact/hooks";
import { get } from "../lib/api";
import { count, price, tokens, usd, visible } from "../lib/format";
import { listError, refresh, sandboxes } from "../lib/live";
import { kindOfWork } from "../lib/select";
import { accountSums } from "../lib/spend";
import { useStore } from "../lib/store";
import { useLoad, useTitle } from "../lib/use";
import { BudgetBar, Empty, Failure, Loading, StatusChip } from "../ui/parts";
import { Table, Tiles } from "../ui/table";

const SHOWN = 50;
const DAY_MS = 86_400_000;

function Bars({ rows }: { rows: { day: string; machine: number; models: number }[] }) {
  const top = Math.max(1e-9, ...rows.map((r) => r.machine + r.models));
  return (
    <div class="bars" role="img" aria-label={rows.map((r) => `${r.day}: ${usd(r.machine + r.models)}`).join(", ")}>
      {rows.map((r) => (
        <div key={r.day} class="bar-col" title={`${r.day}\nmodels ${usd(r.models)}\nmachine ${usd(r.machine)}`}>
          <span class="stackbar" style={{ height: `${((r.machine + r.models) / top) * 100}%` }}>
            <span class="models" style={{ height: `${(r.models / Math.max(1e-12, r.machine + r.models)) * 100}%` }} />
            <span class="machine" style={{ height: `${(r.machine / Math.max(1e-12, r.machine + r.models)) * 100}%` }} />
          </span>
          <span class="day small dim">{r.day.slice(5)}</span>
        </div>
      ))}
    </div>
  );
}

interface UsageRow {
  day?: string;
  model?: string | null;
  sessions?: number;
  tokens_in?: number;
  tokens_out?: number;
  compute_cost_usd: number;
  llm_cost_usd: number;
}

/** One row a day, also of days on which nothing ran. */
function daysOf(rows: UsageRow[], days: number): { day: string; machine: number; models: number }[] {
  const told = new Map(rows.map((r) => [r.day, r]));
  return Array.from({ length: days }, (_, i) => {
    const day = new Date(Date.now() - (days - 1 - i) * DAY_MS).toISOString().slice(0, 10);
    return { day, machine: told.get(day)?.compute_cost_usd ?? 0, models: told.get(day)?.llm_cost_usd ?? 0 };
  });
}

export function CostPage() {
  useTitle("Cost");
  const map = useStore(sandboxes);
  const error = useStore(listError);
  const [days, setDays] = useState(14);
  const sums = useMemo(() => accountSums([...(map?.values() ?? [])], days, Date.now()), [map, days]);
  const from = new Date(Date.now() - (days - 1) * DAY_MS).toISOString().slice(0, 10);
  const used = useLoad(
    (signal) => Promise.all([get<UsageRow[]>("/v1/billing/usage/export", { from, group_by: "day" }, signal), get<UsageRow[]>("/v1/billing/usage/export", { from, group_by: "model" }, signal)]).catch(() => null),
    [from],
    60_000,
  );
  const byDay = used.data ? daysOf(used.data[0], days) : null;
  const byModel = (used.data?.[1] ?? []).filter((r) => r.model).sort((a, b) => b.llm_cost_usd - a.llm_cost_usd);
  if (!map) return error ? <Failure error={new Error(error)} retry={() => void refresh()} /> : <Loading what="costs" />;
  if (map.size === 0)
    return (
      <Empty icon="dollar" title="Nothing was spent yet">
        <p>Machine time and model calls of your sandboxes add up here.</p>
      </Empty>
    );
  const dearest = [...map.values()].sort((a, b) => b.total_cost - a.total_cost).slice(0, SHOWN);
  return (
    <section class="page">
      <div class="page-head">
        <h1>Cost</h1>
        <span class="grow" />
        <div class="segments" role="group" aria-label="How long back">
          {[7, 14, 30].map((n) => (
            <button key={n} type="button" aria-pressed={days === n} onClick={() => setDays(n)}>
              {n} days
            </button>
          ))}
        </div>
      </div>
      <Tiles
        class="card"
        items={[
          [`These ${days} days`, <span class="big">{price(sums.total)}</span>],
          ["Models", price(sums.models)],
          ["Machine", price(sums.machine)],
          [
            "Now",
            <>
              {price(sums.hourly)}/h <span class="dim small">{sums.running} running</span>
            </>,
          ],
          ["A month of such days", price((sums.total / days) * 30)],
        ]}
      />
      <div class="card">
        <header>
          <h2 class="grow">By day</h2>
          <span class="legend small"><i class="models" /> models</span>
          <span class="legend small"><i class="machine" /> machine</span>
        </header>
        <div class="in">
          <Bars rows={byDay ?? sums.byDay} />
          <p class="dim small">{byDay ? "Days are those of UTC. Teams' sandboxes stand under Account, Plan and usage." : "Each sandbox counts on the day it was made."}</p>
        </div>
      </div>
      <div class="card">
        <header>
          <h2>By agent</h2>
        </header>
        <Table
          label="Cost by agent"
          rows={sums.byWork.slice(0, SHOWN)}
          keyOf={(w) => w.name}
          columns={[
            { title: "Agent or template", as: "wrap", cell: (w) => visible(w.name) },
            { title: "Sandboxes", as: "number", cell: (w) => w.sandboxes },
            { title: "Models", as: "number", hide: "s", cell: (w) => price(w.models) },
            { title: "Machine", as: "number", hide: "s", cell: (w) => price(w.machine) },
            { title: "Together", as: "number", cell: (w) => price(w.models + w.machine) },
          ]}
        />
      </div>
      {byModel.length > 0 && (
        <div class="card">
          <header>
            <h2>By model</h2>
            <span class="dim small">that a session called last</span>
          </header>
          <Table
            label="Cost by model"
            rows={byModel.slice(0, SHOWN)}
            keyOf={(r) => r.model ?? ""}
            columns={[
              { title: "Model", as: "wrap", cell: (r) => visible(r.model ?? "") },
              { title: "Sessions", as: "number", cell: (r) => count(r.sessions ?? 0) },
              { title: "Tokens in, out", as: "number", hide: "s", cell: (r) => `${tokens(r.tokens_in ?? 0)} / ${tokens(r.tokens_out ?? 0)}` },
              { title: "Models", as: "number", cell: (r) => price(r.llm_cost_usd) },
            ]}
          />
        </div>
      )}
      <div class="card">
        <header>
          <h2>Dearest sandboxes</h2>
        </header>
        <Table
          label="Dearest sandboxes"
          rows={dearest}
          keyOf={(s) => s.id}
          columns={[
            {
              title: "Sandbox",
              cell: (s) => (
                <>
                  <a class="row-link" href={`/sandboxes/${s.id}/cost`}>
                    {visible(s.name ?? s.id)}
                  </a>
                  <span class="sub">{visible(kindOfWork(s))}</span>
                </>
              ),
            },
            { title: "State", cell: (s) => <StatusChip status={s.status} /> },
            { title: "Models", as: "number", hide: "s", cell: (s) => price(s.llm_cost) },
            { title: "Machine", as: "number", hide: "s", cell: (s) => price(s.cost) },
            { title: "Together / budget", cell: (s) => <BudgetBar cost={s.total_cost} budget={s.budget} /> },
          ]}
        />
      </div>
    </section>
  );
}
