// Spending of the whole account: by day, by sandbox, by template; what it comes to at this rate.
import { useMemo, useState } from "preact/hooks";
import { price, usd, visible } from "../lib/format";
import { listError, refresh, sandboxes } from "../lib/live";
import { kindOfWork } from "../lib/select";
import { accountSums } from "../lib/spend";
import { useStore } from "../lib/store";
import { useTitle } from "../lib/use";
import { BudgetBar, Empty, Failure, Loading, StatusChip } from "../ui/parts";

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
      <dl class="tiles card">
        <div>
          <dt>These {days} days</dt>
          <dd class="num big">{price(sums.total)}</dd>
        </div>
        <div>
          <dt>Models</dt>
          <dd class="num">{price(sums.models)}</dd>
        </div>
        <div>
          <dt>Machine</dt>
          <dd class="num">{price(sums.machine)}</dd>
        </div>
        <div>
          <dt>Now</dt>
          <dd class="num">
            {price(sums.hourly)}/h <span class="dim small">{sums.running} running</span>
          </dd>
        </div>
        <div>
          <dt>A month of such days</dt>
          <dd class="num">{price((sums.total / days) * 30)}</dd>
        </div>
      </dl>
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
        <div class="table-wrap" tabIndex={0} role="group" aria-label="Cost by agent">
          <table class="table">
            <thead>
              <tr>
                <th>Agent or template</th>
                <th class="right">Sandboxes</th>
                <th class="right hide-s">Models</th>
                <th class="right hide-s">Machine</th>
                <th class="right">Together</th>
              </tr>
            </thead>
            <tbody>
              {sums.byWork.slice(0, SHOWN).map((w) => (
                <tr key={w.name}>
                  <td class="wrap">{visible(w.name)}</td>
                  <td class="right num">{w.sandboxes}</td>
                  <td class="right num hide-s">{price(w.models)}</td>
                  <td class="right num hide-s">{price(w.machine)}</td>
                  <td class="right num">{price(w.models + w.machine)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </div>
      <div class="card">
        <header>
          <h2>Dearest sandboxes</h2>
        </header>
        <div class="table-wrap">
          <table class="table">
            <thead>
              <tr>
                <th>Sandbox</th>
                <th>State</th>
                <th class="right hide-s">Models</th>
                <th class="right hide-s">Machine</th>
                <th>Together / budget</th>
              </tr>
            </thead>
            <tbody>
              {dearest.map((s) => (
                <tr key={s.id}>
                  <td>
                    <a class="row-link" href={`/sandboxes/${s.id}/cost`}>
                      {visible(s.name ?? s.id)}
                    </a>
                    <span class="sub">{visible(kindOfWork(s))}</span>
                  </td>
                  <td>
                    <StatusChip status={s.status} />
                  </td>
                  <td class="right num hide-s">{price(s.llm_cost)}</td>
                  <td class="right num hide-s">{price(s.cost)}</td>
                  <td>
                    <BudgetBar cost={s.total_cost} budget={s.budget} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </div>
    </section>
  );
}
