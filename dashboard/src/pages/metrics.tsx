// What the guest uses: the samples that were taken since a page of this sandbox was opened.
import { bytes, count, duration } from "../lib/format";
import { sampledOf } from "../lib/samples";
import { useStore } from "../lib/store";
import type { Sandbox } from "../lib/types";
import { Chart } from "../ui/chart";
import { Empty, Failure, Loading } from "../ui/parts";

const SPAN = 120; // seconds that a chart shows at least

function percent(v: number): string {
  return `${v.toFixed(0)} %`;
}
function mb(v: number): string {
  return bytes(Math.round(v * 1048576));
}

export function MetricsPanel({ s }: { s: Sandbox }) {
  const { status: w, samples, error } = useStore(sampledOf(s.id));
  if (s.status !== "running" && samples.length === 0)
    return (
      <Empty icon="chart" title="Only a running sandbox is measured">
        <p>Start or resume it, and its use of processor, memory and disk appears here.</p>
      </Empty>
    );
  if (!w) return error ? <Failure error={error} /> : <Loading what="metrics" />;
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
      {m && samples.length < 3 && <p class="dim small center">A sample comes every few seconds while a page of this sandbox is open.</p>}
    </div>
  );
}
