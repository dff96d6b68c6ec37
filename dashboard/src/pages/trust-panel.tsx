// The trust score of a sandbox: what took points away, with the evidence for it.
import { ApiError, get } from "../lib/api";
import { clock, visible } from "../lib/format";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { Empty, Failure, Loading, Spark, TrustBadge, When } from "../ui/parts";

interface Deduction {
  id?: string;
  rule?: string;
  title?: string;
  reason?: string;
  points?: number;
  severity?: string;
  t?: number;
  ts?: string;
  at?: string;
  seq?: number;
  evidence?: unknown;
}
interface Trust {
  score: number | null;
  trend?: number[] | { score: number }[];
  deductions?: Deduction[];
}

const bands: [number, string][] = [
  [90, "Excellent"],
  [70, "Good"],
  [50, "Caution: have a look"],
  [0, "Alert: somebody should look now"],
];

export function SandboxTrustPanel({ s }: { s: Sandbox }) {
  const loaded = useLoad((signal) => get<Trust>(`/v1/sandboxes/${s.id}/trust`, undefined, signal), [s.id, s.status], s.status === "running" ? 10_000 : 0);
  if (loaded.error)
    return loaded.error instanceof ApiError && loaded.error.absent ? (
      <Empty icon="shield" title="This server scores no trust">
        <p>What the sandbox did stands in the timeline all the same.</p>
      </Empty>
    ) : (
      <Failure error={loaded.error} retry={loaded.reload} />
    );
  const t = loaded.data;
  if (!t) return <Loading what="trust" />;
  const trend = (t.trend ?? []).map((p) => (typeof p === "number" ? p : p.score));
  const deductions = t.deductions ?? [];
  return (
    <div class="stack">
      <div class="card in row wrap-row trust-head">
        <span class="big-trust">
          <TrustBadge score={t.score} />
        </span>
        <span>
          <strong>{t.score === null ? "Not scored yet" : bands.find(([from]) => t.score! >= from)![1]}</strong>
          <span class="sub">of 100; every deduction has its evidence in the record</span>
        </span>
        <span class="grow" />
        {trend.length > 1 && <Spark values={trend} label="Score over time" width={160} height={36} />}
      </div>
      {deductions.length === 0 ? (
        <Empty icon="check" title="Nothing took points away" />
      ) : (
        <div class="card">
          <header>
            <h2>Deductions</h2>
          </header>
          <ul class="plain-list deductions">
            {deductions.map((d, i) => (
              <li key={d.id ?? i}>
                <strong class="num bad-text">−{Math.abs(d.points ?? 0)}</strong>
                <span class="grow">
                  <strong>{visible(d.title ?? d.rule ?? "deduction")}</strong>
                  {d.reason && <span class="sub">{visible(d.reason)}</span>}
                  {d.evidence !== undefined && (
                    <details>
                      <summary class="dim small">Evidence</summary>
                      <pre class="value" tabIndex={0}>{JSON.stringify(d.evidence, (_k, x: unknown) => (typeof x === "string" ? visible(x) : x), 2)}</pre>
                    </details>
                  )}
                </span>
                {typeof d.t === "number" ? <a href={`/sandboxes/${s.id}/timeline?t=${(d.t / 1e9).toFixed(1)}`}>{clock(d.t / 1e6)}</a> : <When at={d.at ?? d.ts} />}
              </li>
            ))}
          </ul>
        </div>
      )}
    </div>
  );
}
