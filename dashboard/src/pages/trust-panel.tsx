// The trust score of a sandbox: how it moved, what took points away, and the events that prove it.
import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, get } from "../lib/api";
import { clock, plural, visible } from "../lib/format";
import { at, headline } from "../lib/events";
import { feedOf, lineAt } from "../lib/feed";
import { useStore } from "../lib/store";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { Chart } from "../ui/chart";
import { Empty, Failure, Loading, TrustBadge, When } from "../ui/parts";

interface Deduction {
  seq: number;
  at: string;
  rule: string;
  severity: string;
  points: number;
  score: number;
  evidence: number[];
  hits: number;
  what: string;
  session?: string | null;
  reason?: string;
}
interface Trust {
  score: number | null;
  band?: string;
  actions?: { alert_below?: number; critical_below?: number; pause_below?: number };
  sessions?: { session_id: string; score: number; updated_at: string | null }[];
  trend?: { at: string; score: number }[];
  deductions?: Deduction[];
}

const bands: Record<string, string> = {
  excellent: "Excellent",
  good: "Good",
  caution: "Caution: have a look",
  warning: "Warning: somebody should look now",
  critical: "Critical",
};
const EVIDENCE_SHOWN = 20;

function Evidence({ d, id }: { d: Deduction; id: string }) {
  const seqs = d.evidence.slice(0, EVIDENCE_SHOWN);
  const lines = useLoad((signal) => Promise.all(seqs.map((seq) => lineAt(id, seq, signal))), [id, d.seq]);
  return (
    <ul class="evidence">
      {seqs.map((seq, i) => {
        const line = lines.data?.[i];
        return (
          <li key={seq}>
            <span class="dim small num">{line ? clock(at(line)) : `#${seq}`}</span>
            <a class="cut" href={`/sandboxes/${id}/timeline?seq=${seq}`}>
              <code>{line ? headline(line).text : `event ${seq}`}</code>
            </a>
            {line && <span class={`chip small ${line.src === "host" ? "info" : ""}`}>{line.src === "host" ? "proof" : "evidence"}</span>}
          </li>
        );
      })}
      {d.hits > seqs.length && <li class="dim small">{plural(d.hits, "event")} counted in all</li>}
    </ul>
  );
}

function Row({ d, id }: { d: Deduction; id: string }) {
  const [open, setOpen] = useState(false);
  return (
    <li>
      <strong class={`num points ${d.points >= 20 ? "bad-text" : "warn-text"}`}>−{Math.abs(d.points)}</strong>
      <div class="grow">
        <strong class="wrap">{visible(d.what || d.rule)}</strong>
        <span class="sub">
          <code>{visible(d.rule)}</code>
          <span>{visible(d.severity)}</span>
          <span>{d.score} left</span>
        </span>
        {d.reason && <p class="dim small reason">{visible(d.reason)}</p>}
        <button type="button" class="as-link small" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Hide the evidence" : `Evidence: ${plural(d.evidence.length, "event")}`}
        </button>
        {open && <Evidence d={d} id={id} />}
      </div>
      <a class="small nowrap" href={`/sandboxes/${id}/timeline?seq=${d.seq}`}>
        <When at={d.at} />
      </a>
    </li>
  );
}

export function SandboxTrustPanel({ s }: { s: Sandbox }) {
  const feed = useMemo(() => feedOf(s.id, "trust"), [s.id]);
  useEffect(() => feed.open(), [feed]);
  useStore(feed.version);
  const told = feed.sums.deductions.length;
  const loaded = useLoad((signal) => get<Trust>(`/v1/sandboxes/${s.id}/trust`, undefined, signal), [s.id], s.status === "running" ? 10_000 : 0);
  useEffect(() => {
    if (loaded.data && told > (loaded.data.deductions?.length ?? 0)) loaded.reload();
  }, [told]);
  const t = loaded.data;
  const data = useMemo(() => {
    const trend = t?.trend ?? [];
    const times: number[] = [];
    const scores: number[] = [];
    for (const p of trend) {
      const x = Date.parse(p.at) / 1000;
      if (scores.length) {
        times.push(x);
        scores.push(scores[scores.length - 1]!); // a step: nothing moves between
      }
      times.push(x);
      scores.push(p.score);
    }
    if (scores.length) {
      times.push((s.stopped_at ? Date.parse(s.stopped_at) : Date.now()) / 1000);
      scores.push(scores[scores.length - 1]!);
    }
    return [times, scores];
  }, [t]);
  if (loaded.error)
    return loaded.error instanceof ApiError && loaded.error.absent ? (
      <Empty icon="shield" title="This server scores no trust">
        <p>What the sandbox did stands in the timeline all the same.</p>
      </Empty>
    ) : (
      <Failure error={loaded.error} retry={loaded.reload} />
    );
  if (!t) return <Loading what="trust" />;
  const deductions = [...(t.deductions ?? [])].reverse();
  return (
    <div class="stack">
      <div class="card in row wrap-row trust-head">
        <span class="big-trust">
          <TrustBadge score={t.score} />
        </span>
        <span class="grow">
          <strong>{t.score === null ? "Not scored yet" : (bands[t.band ?? ""] ?? t.band ?? "")}</strong>
          <span class="sub">of 100; every deduction names the events that caused it</span>
        </span>
        {t.actions && (
          <span class="dim small">
            alert below {t.actions.alert_below ?? "–"}, critical below {t.actions.critical_below ?? "–"}, pause below {t.actions.pause_below ?? "–"}
          </span>
        )}
      </div>
      {data[0]!.length > 2 && (
        <div class="card in">
          <Chart title="Score over time" data={data} min={0} max={104} height={130} span={30} series={[{ label: "score", colour: "--accent", fill: true, format: (v) => String(Math.round(v)) }]} />
        </div>
      )}
      {deductions.length === 0 ? (
        <Empty icon="check" title="Nothing took points away">
          <p>Edits, tests, installs from known registries and git cost nothing. What does is listed here with the events that show it.</p>
        </Empty>
      ) : (
        <div class="card">
          <header>
            <h2>Deductions</h2>
            <span class="dim">{deductions.length}, newest first</span>
          </header>
          <ul class="plain-list deductions">
            {deductions.map((d) => (
              <Row key={d.seq} d={d} id={s.id} />
            ))}
          </ul>
        </div>
      )}
    </div>
  );
}
