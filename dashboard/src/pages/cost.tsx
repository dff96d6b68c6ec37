// Spending of the whole account: by day, by sandbox, by template; what it comes to at this rate.
import { useMemo, useState } from "preact/hooks";
import { price, usd, visible } from "../lib/format";
import { listError, refresh, sandboxes } from "../lib/live";
import { kindOfWork } from "../lib/select";
import { accountSums } from "../lib/spend";
import { useStore } from "../lib/store";
import { useTitle } from "../lib/use";
import { BudgetBar, Empty, Failure, Loading, StatusChip } from "../ui/parts";
import { Table, Tiles } from "../ui/table";

const SHOWN = 50;

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

export function CostPage() {
  useTitle("Cost");
  const map = useStore(sandboxes);
  const error = useStore(listError);
  const [days, setDays] = useState(14);
  const sums = useMemo(() => accountSums([...(map?.values() ?? [])], days, Date.now()), [map, days]);
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
          <Bars rows={sums.byDay} />
          <p class="dim small">Each sandbox counts on the day it was made.</p>
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
