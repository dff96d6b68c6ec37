// A line chart over time. uPlot comes as a chunk of its own with the first chart.
import { useEffect, useRef } from "preact/hooks";
import { useStore } from "../lib/store";
import { shown } from "../lib/theme";

export interface Series {
  label: string;
  /** A custom property of the theme. */
  colour: string;
  fill?: boolean;
  dash?: boolean;
  format: (v: number) => string;
}

interface Props {
  title: string;
  /** Seconds since 1970, then one row of values a series; null: a gap. */
  data: (number | null)[][];
  series: Series[];
  height?: number;
  min?: number;
  max?: number;
  /** Show at least so many seconds. */
  span?: number;
}

const MINUTE = 60;
const DAY = 86_400;

/** The clock of the person who looks: 13:05, with seconds or a date where they matter. */
function timeLabels(_u: unknown, ticks: number[]): string[] {
  const step = ticks.length > 1 ? ticks[1]! - ticks[0]! : MINUTE;
  const options: Intl.DateTimeFormatOptions = step >= DAY ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", ...(step < MINUTE ? { second: "2-digit" } : {}), hour12: false };
  return ticks.map((t) => new Date(t * 1000).toLocaleString(undefined, options));
}

export function Chart(p: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<InstanceType<typeof import("uplot")> | null>(null);
  const mode = useStore(shown);
  const data = useRef(p.data);
  data.current = p.data;

  useEffect(() => {
    let gone = false;
    let watch: ResizeObserver | null = null;
    void Promise.all([import("uplot"), import("uplot/dist/uPlot.min.css")]).then(([{ default: UPlot }]) => {
      if (gone || !box.current) return;
      const style = getComputedStyle(document.documentElement);
      const colour = (name: string) => style.getPropertyValue(name).trim();
      const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
      plot.current = new UPlot(
        {
          width: box.current.clientWidth,
          height: p.height ?? 160,
          legend: { show: false },
          cursor: { y: false, points: { size: 6 } },
          padding: [10, 26, 0, 0],
          scales: {
            x: {
              // by the data itself: of a single point the library would make a day
              range: (u) => {
                const x = u.data[0] ?? [];
                const end = x[x.length - 1] ?? Date.now() / 1000;
                return [Math.min(x[0] ?? end, end - (p.span ?? 1)), end];
              },
            },
            y: { range: (_u, lo, hi) => [p.min ?? Math.min(0, lo ?? 0), p.max ?? Math.max(hi ?? 0, 1e-9) * 1.12] },
          },
          axes: [{ ...axis, values: timeLabels, space: 70, size: 30 }, { ...axis, size: 64, values: (_u, ticks) => ticks.map((t) => p.series[0]!.format(t)) }],
          series: [
            {},
            ...p.series.map((s) => ({
              label: s.label,
              stroke: colour(s.colour),
              width: 1.6,
              dash: s.dash ? [5, 4] : undefined,
              fill: s.fill ? `color-mix(in srgb, ${colour(s.colour)} 16%, transparent)` : undefined,
              points: { show: false },
            })),
          ],
        },
        data.current as import("uplot").AlignedData,
        box.current,
      );
      watch = new ResizeObserver(() => box.current && plot.current?.setSize({ width: box.current.clientWidth, height: p.height ?? 160 }));
      watch.observe(box.current);
    });
    return () => {
      gone = true;
      watch?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [mode, p.series.length]);
  useEffect(() => plot.current?.setData(p.data as import("uplot").AlignedData), [p.data]);

  const words = p.series
    .map((s, i) => {
      const row = p.data[i + 1] ?? [];
      const last = [...row].reverse().find((v) => v !== null && v !== undefined);
      return `${s.label} ${last === undefined || last === null ? "unknown" : s.format(last)}`;
    })
    .join(", ");
  return (
    <figure class="chart">
      <figcaption class="row">
        <span class="grow">{p.title}</span>
        {p.series.map((s, i) => {
          const row = p.data[i + 1] ?? [];
          const last = row[row.length - 1];
          return (
            <span key={s.label} class="legend small">
              <i style={{ background: `var(${s.colour})` }} />
              {s.label} <strong class="num">{last === null || last === undefined ? "–" : s.format(last)}</strong>
            </span>
          );
        })}
      </figcaption>
      <div ref={box} role="img" aria-label={`${p.title}: ${words}`} style={{ minHeight: `${p.height ?? 160}px` }} />
    </figure>
  );
}
