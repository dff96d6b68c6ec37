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

export function VirtualList(p: Props) {
  const ref = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const own = useRef(false);

  useEffect(() => {
    const watch = new ResizeObserver(() => ref.current && setHeight(ref.current.clientHeight));
    watch.observe(ref.current!);
    return () => watch.disconnect();
  }, []);

  const moveTo = (y: number) => {
    own.current = true;
    ref.current!.scrollTop = y;
    setTop(ref.current!.scrollTop);
  };
  useLayoutEffect(() => {
    if (p.follow) moveTo(p.count * p.rowHeight);
  }, [p.follow, p.count, height]);
  useLayoutEffect(() => {
    if (p.follow || p.focus < 0) return;
    const y = p.focus * p.rowHeight;
    const now = ref.current!.scrollTop;
    if (y < now + p.rowHeight || y > now + height - 3 * p.rowHeight) moveTo(y - height / 2);
  }, [p.focus]);

  const first = Math.max(0, Math.floor(top / p.rowHeight) - SPARE);
  const last = Math.min(p.count, Math.ceil((top + height) / p.rowHeight) + SPARE);
  const rows: ComponentChildren[] = [];
  for (let i = first; i < last; i++) rows.push(p.row(i));
  return (
    <div
      ref={ref}
      class="virtual"
      role="region"
      aria-label={p.label}
      tabIndex={0}
      onScroll={(e) => {
        setTop(e.currentTarget.scrollTop);
        if (!own.current && p.follow && e.currentTarget.scrollTop + height < p.count * p.rowHeight - 2 * p.rowHeight) p.onScrollAway?.();
        own.current = false;
      }}
    >
      <div style={{ height: `${p.count * p.rowHeight}px`, position: "relative" }}>
        <div style={{ position: "absolute", top: `${first * p.rowHeight}px`, left: "0", right: "0" }}>{rows}</div>
      </div>
    </div>
  );
}
