// The track of a timeline: how much of each kind happened when, and a handle to move in time.
import { useEffect, useRef } from "preact/hooks";
import type { Kind } from "../lib/events";
import { clock } from "../lib/format";
import { columnsFor, densityOf, type Overview } from "../lib/record";
import { useStore } from "../lib/store";
import { shown } from "../lib/theme";

const colours: Record<Kind, [string, string]> = {
  command: ["#1f5fae", "#86b8f7"],
  terminal: ["#7b8794", "#8593a1"],
  file: ["#0b6e66", "#3fc9b8"],
  network: ["#a35a00", "#f0b45a"],
  llm: ["#6d3fb0", "#c3a2f5"],
  cost: ["#7a6a00", "#d9c94a"],
  ledger: ["#b8ae6a", "#6b6530"],
  trust: ["#b3261e", "#ff8b82"],
  process: ["#aab4bd", "#46515b"],
  system: ["#44505b", "#b9c4ce"],
};

export function colourOf(k: Kind): string {
  return colours[k][shown.value === "dark" ? 1 : 0];
}

interface Props {
  overview: Overview | null;
  endMs: number;
  nowMs: number;
  shownKinds: Set<Kind>;
  seek: (ms: number) => void;
}

export function Scrubber(p: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const mode = useStore(shown);
  const dragging = useRef(false);

  useEffect(() => {
    const draw = () => {
      const c = canvas.current;
      if (!c) return;
      const ratio = devicePixelRatio || 1;
      const w = c.clientWidth;
      const h = c.clientHeight;
      c.width = w * ratio;
      c.height = h * ratio;
      const g = c.getContext("2d")!;
      g.scale(ratio, ratio);
      const columns = Math.max(1, Math.floor(w / 3));
      const shown = [...densityOf(p.overview)].filter(([k]) => p.shownKinds.has(k));
      const rows = shown.map(([k, slots]) => ({ kind: k, counts: columnsFor(slots, (p.overview?.duration_ms ?? 0) / Math.max(1, p.endMs), columns) }));
      const sums = new Float64Array(columns);
      for (const r of rows) r.counts.forEach((n, c) => (sums[c]! += n));
      const top = Math.max(1, sums.reduce((a, n) => Math.max(a, n), 0));
      // a square root, so that one storm does not flatten everything else
      for (let c = 0; c < columns; c++) {
        if (!sums[c]) continue;
        const full = Math.sqrt(sums[c]! / top) * (h - 4);
        let y = h;
        for (const r of rows) {
          if (!r.counts[c]) continue;
          const part = Math.max(1, (r.counts[c]! / sums[c]!) * full);
          g.fillStyle = colourOf(r.kind);
          g.fillRect(c * 3, y - part, 2, part);
          y -= part;
        }
      }
    };
    draw();
    const watch = new ResizeObserver(draw);
    watch.observe(canvas.current!);
    return () => watch.disconnect();
  }, [p.overview, Math.floor(p.endMs / 2000), p.shownKinds, mode]);

  const seekTo = (e: PointerEvent) => {
    const r = canvas.current!.getBoundingClientRect();
    p.seek(Math.min(1, Math.max(0, (e.clientX - r.left) / r.width)) * p.endMs);
  };
  const part = Math.min(1, p.nowMs / Math.max(1, p.endMs));
  return (
    <div
      class="scrubber"
      role="slider"
      tabIndex={0}
      aria-label="Moment"
      aria-valuemin={0}
      aria-valuemax={Math.round(p.endMs)}
      aria-valuenow={Math.round(p.nowMs)}
      aria-valuetext={clock(p.nowMs)}
      onPointerDown={(e) => {
        dragging.current = true;
        e.currentTarget.setPointerCapture(e.pointerId);
        seekTo(e);
      }}
      onPointerMove={(e) => dragging.current && seekTo(e)}
      onPointerUp={() => (dragging.current = false)}
      onKeyDown={(e) => {
        const step = e.shiftKey ? 30_000 : 5_000;
        if (e.key === "Home") p.seek(0);
        else if (e.key === "End") p.seek(p.endMs);
        else if (e.key === "PageUp") p.seek(Math.max(0, p.nowMs - 60_000));
        else if (e.key === "PageDown") p.seek(Math.min(p.endMs, p.nowMs + 60_000));
        else if (e.key === "ArrowLeft") p.seek(Math.max(0, p.nowMs - step));
        else if (e.key === "ArrowRight") p.seek(Math.min(p.endMs, p.nowMs + step));
        else return;
        e.preventDefault();
        e.stopPropagation();
      }}
    >
      <canvas ref={canvas} />
      <span class="hand" style={{ left: `${part * 100}%` }} />
    </div>
  );
}

