// What the guest uses: the samples that were taken since a page of this sandbox was opened.
import { useMemo } from "preact/hooks";
import { get } from "../lib/api";
import { bytes, count, duration } from "../lib/format";
import type { Overview } from "../lib/record";
import { sampledOf } from "../lib/samples";
import { useStore } from "../lib/store";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { Chart } from "../ui/chart";
import { Empty, Failure, Loading } from "../ui/parts";
import { Tiles } from "../ui/table";

const SPAN = 120; // seconds that a chart shows at least

function percent(v: number): string {
  return `${v.toFixed(0)} %`;
}
function mb(v: number): string {
  return bytes(Math.round(v * 1048576));
}

const SLOTS = 240;
const lifeSeries = [
  { label: "files", colour: "--accent", types: ["file_op"] },
  { label: "programs", colour: "--info", types: ["process", "command"] },
  { label: "network", colour: "--warn", types: ["network", "dns"] },
  { label: "terminal", colour: "--violet", types: ["terminal"] },
];

/** What the record tells of the whole life: how much went on. Use of processor and memory is not in it. */
function Life({ s }: { s: Sandbox }) {
  const loaded = useLoad((signal) => get<Overview>(`/v1/sandboxes/${s.id}/replay/summary`, { slots: SLOTS }, signal), [s.id], s.status === "running" ? 10_000 : 0);
  const o = loaded.data;
  const data = useMemo(() => {
    if (!o?.slots) return null;
    const begin = Date.parse(o.start_time) / 1000;
    const step = o.duration_ms / 1000 / SLOTS;
    const rows = lifeSeries.map((l) => Array.from({ length: SLOTS }, (_, i) => l.types.reduce((n, t) => n + (o.slots![t]?.[i] ?? 0), 0) / Math.max(step, 0.001)));
    return [Array.from({ length: SLOTS }, (_, i) => begin + (i + 0.5) * step), ...rows];
  }, [o]);
  if (!data) return null;
  return (
    <div class="card in">
      <Chart title="Events a second, since it began" data={data} series={lifeSeries.map((l) => ({ label: l.label, colour: l.colour, format: (v: number) => (v >= 10 || v === 0 ? v.toFixed(0) : v.toFixed(1)) }))} />
    </div>
  );
}

export function MetricsPanel({ s }: { s: Sandbox }) {
  const { status: w, samples, error } = useStore(sampledOf(s.id));
  if (s.status !== "running" && samples.length === 0)
    return (
      <div class="stack">
        <Life s={s} />
        <Empty icon="chart" title="Only a running sandbox is measured">
          <p>Its use of processor, memory and disk is looked at while it runs and a page of it is open; the record does not keep it.</p>
        </Empty>
      </div>
    );
  if (!w) return error ? <Failure error={error} /> : <Loading what="metrics" />;
  const m = w.metrics;
  const times = samples.map((x) => x.at);
  const rate = (key: "in" | "out") => samples.map((x, i) => (i === 0 ? null : Math.max(0, (x[key] - samples[i - 1]![key]) / Math.max(0.5, x.at - samples[i - 1]!.at))));
  return (
    <div class="stack">
      <Tiles
        class="card"
        items={[
          ["Processor", <>{m ? percent(m.cpu_percent) : "–"} <span class="dim small">of {s.cpus} CPU</span></>],
          ["Memory", <>{m ? mb(m.memory_used_mb) : "–"} <span class="dim small">of {m ? mb(m.memory_total_mb) : `${s.memory_mb} MB`}</span></>],
          ["Disk", <>{m ? mb(m.disk_used_mb) : "–"} <span class="dim small">of {m ? mb(m.disk_total_mb) : `${s.disk_gb} GB`}</span></>],
          ["Processes", m ? count(m.num_processes) : "–"],
          ["Idle", duration(w.idle_ms)],
          ["Booted in", w.boot_ms === null ? "–" : duration(w.boot_ms)],
        ]}
      />
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
      <p class="dim small">These four are measured every few seconds while a page of this sandbox is open, and kept by this page alone: they begin when it was opened. What the record has of the whole life is below.</p>
      <Life s={s} />
    </div>
  );
}
