// What the guest uses, sampled while this page is open.
import { useEffect, useState } from "preact/hooks";
import { get } from "../lib/api";
import { bytes, count, duration } from "../lib/format";
import type { Sandbox, WardenStatus } from "../lib/types";
import { useLoad } from "../lib/use";
import { Chart } from "../ui/chart";
import { Empty, Failure, Loading } from "../ui/parts";

const EVERY_MS = 2000;
const KEPT = 900;
const SPAN = 120; // seconds that a chart shows at least

interface Sample {
  at: number;
  cpu: number;
  mem: number;
  disk: number;
  procs: number;
  out: number;
  in: number;
}
// per sandbox, so that coming back finds what was seen before
const kept = new Map<string, Sample[]>();

function percent(v: number): string {
  return `${v.toFixed(0)} %`;
}
function mb(v: number): string {
  return bytes(Math.round(v * 1048576));
}

export function MetricsPanel({ s }: { s: Sandbox }) {
  const usable = s.status === "running";
  const status = useLoad((signal) => get<WardenStatus>(`/v1/sandboxes/${s.id}/status`, undefined, signal), [s.id, usable], usable ? EVERY_MS : 0);
  const [samples, setSamples] = useState<Sample[]>(kept.get(s.id) ?? []);
  const w = status.data;
  useEffect(() => {
    const m = w?.metrics;
    if (!m) return;
    const next = [
      ...(kept.get(s.id) ?? []),
      { at: Date.now() / 1000, cpu: m.cpu_percent, mem: m.memory_used_mb, disk: m.disk_used_mb, procs: m.num_processes, out: w.network?.["bytes_out"] ?? 0, in: w.network?.["bytes_in"] ?? 0 },
    ].slice(-KEPT);
    kept.set(s.id, next);
    setSamples(next);
  }, [w]);
  if (!usable && samples.length === 0)
    return (
      <Empty icon="chart" title="Only a running sandbox is measured">
        <p>Start or resume it, and its use of processor, memory and disk appears here.</p>
      </Empty>
    );
  if (status.error && !w) return <Failure error={status.error} retry={status.reload} />;
  if (!w) return <Loading what="metrics" />;
  const m = w.metrics;
  const times = samples.map((x) => x.at);
  const rate = (key: "in" | "out") => samples.map((x, i) => (i === 0 ? null : Math.max(0, (x[key] - samples[i - 1]![key]) / Math.max(0.5, x.at - samples[i - 1]!.at))));
  return (
    <div class="stack">
      <dl class="tiles card">
        <div>
          <dt>Processor</dt>
          <dd class="num">{m ? percent(m.cpu_percent) : "–"} <span class="dim small">of {s.cpus} CPU</span></dd>
        </div>
        <div>
          <dt>Memory</dt>
          <dd class="num">{m ? mb(m.memory_used_mb) : "–"} <span class="dim small">of {m ? mb(m.memory_total_mb) : `${s.memory_mb} MB`}</span></dd>
        </div>
        <div>
          <dt>Disk</dt>
          <dd class="num">{m ? mb(m.disk_used_mb) : "–"} <span class="dim small">of {m ? mb(m.disk_total_mb) : `${s.disk_gb} GB`}</span></dd>
        </div>
        <div>
          <dt>Processes</dt>
          <dd class="num">{m ? count(m.num_processes) : "–"}</dd>
        </div>
        <div>
          <dt>Idle</dt>
          <dd class="num">{duration(w.idle_ms)}</dd>
        </div>
        <div>
          <dt>Booted in</dt>
          <dd class="num">{w.boot_ms === null ? "–" : duration(w.boot_ms)}</dd>
        </div>
      </dl>
      <div class="charts">
        <div class="card in">
          <Chart span={SPAN} title="Processor" data={[times, samples.map((x) => x.cpu)]} max={100} series={[{ label: "used", colour: "--accent", fill: true, format: percent }]} />
        </div>
        <div class="card in">
          <Chart span={SPAN} title="Memory" data={[times, samples.map((x) => x.mem)]} max={m?.memory_total_mb} series={[{ label: "used", colour: "--info", fill: true, format: mb }]} />
        </div>
        <div class="card in">
          <Chart span={SPAN} title="Disk" data={[times, samples.map((x) => x.disk)]} series={[{ label: "used", colour: "--violet", fill: true, format: mb }]} />
        </div>
        <div class="card in">
          <Chart
            span={SPAN}
            title="Network"
            data={[times, rate("out"), rate("in")]}
            series={[
              { label: "out", colour: "--warn", format: (v) => `${bytes(Math.round(v))}/s` },
              { label: "in", colour: "--ok", format: (v) => `${bytes(Math.round(v))}/s` },
            ]}
          />
        </div>
      </div>
      {m && samples.length < 3 && <p class="dim small center">A sample comes every two seconds while this page is open.</p>}
    </div>
  );
}
