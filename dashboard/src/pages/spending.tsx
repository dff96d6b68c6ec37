// What a sandbox costs: machine and models against the budget, call by call.
import { useEffect, useMemo, useState } from "preact/hooks";
import { get, send } from "../lib/api";
import { feedOf } from "../lib/feed";
import { clock, count, duration, nusd, price, span, tokens, usd, visible } from "../lib/format";
import { putSandbox } from "../lib/live";
import type { Overview } from "../lib/record";
import { useStore } from "../lib/store";
import { burn, type Call } from "../lib/sums";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { Chart } from "../ui/chart";
import { BudgetBar, Button, Dialog, Empty, Field, Loading, toast } from "../ui/parts";
import { FormDialog, Table, Tiles } from "../ui/table";
import { Conversation } from "./conversation";
import { CallTable } from "./event-detail";

const BURN_WINDOW_MS = 600_000;
const CALLS_SHOWN = 200;
const FILES_SHOWN = 12;
const FILE_EVENTS_UNASKED = 20_000;

function BudgetDialog({ s, close }: { s: Sandbox; close: () => void }) {
  const [value, setValue] = useState(s.budget ? String(s.budget) : "");
  const [busy, setBusy] = useState(false);
  const amount = value.trim() === "" ? 0 : Number(value);
  const wrong = Number.isNaN(amount) || amount < 0 || amount > 1e6 ? "Dollars, from 0 to a million" : null;
  const save = async () => {
    setBusy(true);
    try {
      putSandbox(await send<Sandbox>("PATCH", `/v1/sandboxes/${s.id}`, { budget: amount }));
      toast(amount ? `The budget is ${usd(amount)} now` : "There is no budget now");
      close();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(false);
  };
  return (
    <FormDialog title="Budget" submit="Set" busy={busy} disabled={!!wrong} onSubmit={() => void save()} onClose={close}>
        <Field label="Dollars for models and machine together" hint="Empty or 0: no budget. Calls that were refused for want of money pass again when it is raised." error={wrong}>
          {(id) => <input id={id} inputMode="decimal" value={value} onInput={(e) => setValue(e.currentTarget.value)} />}
        </Field>
    </FormDialog>
  );
}

function Calls({ calls, id }: { calls: Call[]; id: string }) {
  const [open, setOpen] = useState<Call | null>(null);
  const sorted = [...calls].sort((a, b) => (b.nusd ?? -1) - (a.nusd ?? -1)).slice(0, CALLS_SHOWN);
  return (
    <div class="card">
      <header>
        <h2>Calls, dearest first</h2>
        <span class="dim">{count(calls.length)}</span>
      </header>
      <Table
        label="Calls"
        rows={sorted}
        keyOf={(c) => c.call}
        columns={[
          { title: "At", cell: (c) => <a class="num" href={`/sandboxes/${id}/timeline?t=${(c.startMs / 1000).toFixed(1)}`}>{clock(c.startMs)}</a> },
          {
            title: "Model",
            cell: (c) => (
              <button type="button" class="as-link" onClick={() => setOpen(c)}>
                {visible(c.model || c.api)}
              </button>
            ),
          },
          { title: "Outcome", cell: (c) => <span class={`chip ${c.status === "ok" || c.status === "drained" ? "ok" : c.status === "open" ? "info" : "bad"}`}>{visible(c.status)}</span> },
          { title: "In", as: "number", hide: "s", cell: (c) => tokens(c.tokensIn) },
          { title: "Out", as: "number", hide: "s", cell: (c) => tokens(c.tokensOut) },
          { title: "Took", as: "number", hide: "s", cell: (c) => (c.endMs === null ? "–" : duration(c.endMs - c.startMs)) },
          { title: "Cost", as: "number", cell: (c) => (c.nusd === null ? (c.status === "open" ? "…" : "not priced") : nusd(c.nusd)) },
        ]}
      />
      {open && (
        <Dialog wide title={`Call ${open.call}: ${visible(open.model)}`} onClose={() => setOpen(null)}>
          <CallTable call={open} />
          <Conversation sandbox={id} call={open} />
          <p class="dim small">
            {visible(open.provider)} {visible(open.api)}
            {open.stop && `, stopped by ${visible(open.stop)}`}
            {open.tools.length > 0 && `, called ${open.tools.map(visible).join(", ")}`}
          </p>
        </Dialog>
      )}
    </div>
  );
}

/** Whole histories of files are read for this: of a long one only when somebody asks. */
function FileCosts({ id }: { id: string }) {
  const [wanted, setWanted] = useState(false);
  const overview = useLoad((signal) => get<Overview>(`/v1/sandboxes/${id}/replay/summary`, undefined, signal), [id]);
  const events = overview.data?.types["file_op"] ?? 0;
  if (!overview.data) return null;
  if (events > FILE_EVENTS_UNASKED && !wanted)
    return (
      <div class="card in">
        <h3>By file changed</h3>
        <p class="dim small">{count(events)} events of files are read for this.</p>
        <Button class="small" onClick={() => setWanted(true)}>
          Work it out
        </Button>
      </div>
    );
  return <FileCostsTable id={id} />;
}

function FileCostsTable({ id }: { id: string }) {
  const feed = useMemo(() => feedOf(id, "llm_call,file_op"), [id]);
  useEffect(() => feed.open(), [feed]);
  useStore(feed.version);
  const state = useStore(feed.state);
  const byFile = [...feed.sums.fileCosts()].sort((a, b) => b[1] - a[1]).slice(0, FILES_SHOWN);
  if (byFile.length === 0 && state !== "connecting") return null;
  return (
    <div class="card in">
      <h3>By file changed</h3>
      <table class="table tight">
        <tbody>
          {byFile.map(([path, n]) => (
            <tr key={path}>
              <td class="wrap">
                <code>{visible(path.replace(/^\/workspace\//, ""))}</code>
              </td>
              <td class="right num">{nusd(n)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="dim small">What calls cost before these files changed, in equal parts.{state === "connecting" && ` ${count(feed.sums.fileEvents)} events read so far…`}</p>
    </div>
  );
}

export function SpendingPanel({ s }: { s: Sandbox }) {
  const feed = useMemo(() => feedOf(s.id, "llm_call"), [s.id]);
  useEffect(() => feed.open(), [feed]);
  const version = useStore(feed.version);
  const [editing, setEditing] = useState(false);
  const sums = feed.sums;
  const calls = [...sums.calls.values()];
  const nowMs = s.status === "running" && feed.epoch ? Date.now() - feed.epoch : feed.lastMs;
  const ranHours = s.started_at ? ((s.stopped_at ? Date.parse(s.stopped_at) : Date.now()) - Date.parse(s.started_at)) / 3_600_000 : 0;
  const machineHourly = ranHours > 0 ? s.cost / ranHours : 0;
  const hourly = s.status === "running" ? burn(sums.spending, nowMs, BURN_WINDOW_MS) + machineHourly : 0;
  const left = s.budget ? Math.max(0, s.budget - s.total_cost) : null;
  const data = useMemo(() => {
    // steps: a call costs at one moment, nothing between
    const at = [feed.epoch / 1000];
    const v = [0];
    for (const [t, n] of sums.spending) {
      at.push((feed.epoch + t) / 1000, (feed.epoch + t) / 1000);
      v.push(v[v.length - 1]!, n / 1e9);
    }
    if (nowMs && sums.spending.length) {
      at.push((feed.epoch + nowMs) / 1000);
      v.push(sums.llmNusd / 1e9);
    }
    return s.budget ? [at, v, at.map(() => s.budget!)] : [at, v];
  }, [version, s.budget, Math.floor(nowMs / 5000)]);
  const byModel = new Map<string, { calls: number; nusd: number; tokens: number }>();
  for (const c of calls) {
    const m = byModel.get(c.model || c.api) ?? { calls: 0, nusd: 0, tokens: 0 };
    m.calls++;
    m.nusd += c.nusd ?? 0;
    m.tokens += c.tokensIn + c.tokensOut;
    byModel.set(c.model || c.api, m);
  }
  return (
    <div class="stack">
      <div class="card tiles-card">
        <Tiles
          items={[
            ["Spent", <BudgetBar cost={s.total_cost} budget={s.budget} />],
            ["Models", price(s.llm_cost)],
            ["Machine", price(s.cost)],
            ["Burn rate", hourly ? `${price(hourly)}/h` : "–"],
            ["Budget lasts", left !== null && hourly > 0 ? span((left / hourly) * 3600) : "–"],
          ]}
        />
        {s.status !== "destroyed" && <Button onClick={() => setEditing(true)}>{s.budget ? "Change the budget" : "Set a budget"}</Button>}
      </div>
      {feed.state.value === "connecting" ? (
        <Loading what="the record" />
      ) : calls.length === 0 ? (
        <Empty icon="bot" title="No model was called yet">
          <p>Calls pass the gateway of the sandbox: it prices them before they leave and holds them to the budget. Programs inside find it in ANTHROPIC_BASE_URL, OPENAI_BASE_URL and GOOGLE_GEMINI_BASE_URL.</p>
        </Empty>
      ) : (
        <>
          <div class="charts">
            <div class="card in">
              <Chart
                title="Models, over time"
                data={data}
                series={[
                  { label: "spent", colour: "--accent", fill: true, format: price },
                  ...(s.budget ? [{ label: "budget", colour: "--bad", dash: true, format: price }] : []),
                ]}
              />
            </div>
            <div class="card in">
              <h3>By model</h3>
              <table class="table tight">
                <tbody>
                  {[...byModel].sort((a, b) => b[1].nusd - a[1].nusd).map(([m, v]) => (
                    <tr key={m}>
                      <td>{visible(m)}</td>
                      <td class="right num dim">{count(v.calls)} calls</td>
                      <td class="right num dim">{tokens(v.tokens)}</td>
                      <td class="right num">{nusd(v.nusd)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            <FileCosts id={s.id} />
          </div>
          <Calls calls={calls} id={s.id} />
        </>
      )}
      {editing && <BudgetDialog s={s} close={() => setEditing(false)} />}
    </div>
  );
}
