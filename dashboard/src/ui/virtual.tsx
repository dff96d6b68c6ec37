// A list of any length: only the rows that can be seen exist. Rows have one height.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

interface Props {
  count: number;
  rowHeight: number;
  label: string;
  /** The row that has to be seen; -1: none. */
  focus: number;
  /** Stay at the end when rows are added. */
  follow: boolean;
  onScrollAway?: () => void;
  row: (i: number) => ComponentChildren;
}

const SPARE = 8;
/** Browsers end an element at some 33 million pixels: beyond this the bar is coarser than the rows. */
const TALLEST = 12_000_000;
const SETTLE_MS = 150;

export function VirtualList(p: Props) {
  const ref = useRef<HTMLDivElement>(null);
  // where the first visible pixel is, in a list of full height, and where the bar stands for that
  const [top, setTop] = useState(0);
  const bar = useRef(0);
  const [height, setHeight] = useState(600);
  const settling = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const full = p.count * p.rowHeight;
  const shownHeight = Math.min(full, TALLEST);
  const most = Math.max(0, full - height);
  const scale = most / Math.max(1, shownHeight - height);

  useEffect(() => {
    const watch = new ResizeObserver(() => ref.current && setHeight(ref.current.clientHeight));
    watch.observe(ref.current!);
    setHeight(ref.current!.clientHeight);
    return () => {
      watch.disconnect();
      clearTimeout(settling.current);
    };
  }, []);

  const moveTo = (y: number) => {
    const to = Math.max(0, Math.min(most, y));
    ref.current!.scrollTop = scale > 1 ? to / scale : to;
    bar.current = ref.current!.scrollTop;
    setTop(to);
  };
  useLayoutEffect(() => {
    if (p.follow) moveTo(full);
  }, [p.follow, p.count, height]);
  useLayoutEffect(() => {
    if (p.follow || p.focus < 0) return;
    const y = p.focus * p.rowHeight;
    if (y < top + p.rowHeight || y > top + height - 3 * p.rowHeight) moveTo(y - height / 2);
  }, [p.focus, p.count > 0]);

  /** A turn of the wheel is rows, a pull at the bar is a part of the list. */
  const scrolled = (el: HTMLDivElement) => {
    const moved = el.scrollTop - bar.current;
    bar.current = el.scrollTop;
    if (moved === 0) return; // our own doing
    // where the bar cannot go on, the list is at its end
    const end = el.scrollTop <= 0 ? 0 : el.scrollTop >= shownHeight - height - 1 ? most : null;
    const to = end ?? (scale > 1 && Math.abs(moved) < height ? top + moved : el.scrollTop * Math.max(1, scale));
    setTop(Math.max(0, Math.min(most, to)));
    if (p.follow && to < most - 2 * p.rowHeight) p.onScrollAway?.();
    clearTimeout(settling.current);
    if (scale > 1)
      settling.current = setTimeout(() => {
        el.scrollTop = to / scale;
        bar.current = el.scrollTop;
      }, SETTLE_MS);
  };

  const at = Math.min(top, most);
  const first = Math.max(0, Math.floor(at / p.rowHeight) - SPARE);
  const last = Math.min(p.count, Math.ceil((at + height) / p.rowHeight) + SPARE);
  const rows: ComponentChildren[] = [];
  for (let i = first; i < last; i++) rows.push(p.row(i));
  const offset = scale > 1 ? bar.current + first * p.rowHeight - at : first * p.rowHeight;
  return (
    <div ref={ref} class="virtual" role="region" aria-label={p.label} tabIndex={0} onScroll={(e) => scrolled(e.currentTarget)}>
      <div style={{ height: `${shownHeight}px`, position: "relative", overflow: "hidden" }}>
        <div style={{ position: "absolute", top: "0", left: "0", right: "0", transform: `translateY(${offset}px)` }}>{rows}</div>
      </div>
    </div>
  );
}
