// The difference of two texts by lines, as the hunks that a unified diff would have. Pure and bounded: two texts that
// have too little in common are told as one taken away and one put in its place.
import type { DiffLine, FileDiff, Hunk } from "./diff";

const EDITS_MAX = 1500;
const CONTEXT = 3;

type Op = { kind: "same" | "add" | "del"; text: string };

function lines(text: string): string[] {
  const list = text.split("\n");
  if (list[list.length - 1] === "") list.pop();
  return list;
}

/** Myers' greedy algorithm over a, b; null when more than EDITS_MAX edits are needed. */
function myers(a: string[], b: string[]): Op[] | null {
  const n = a.length;
  const m = b.length;
  const max = Math.min(n + m, EDITS_MAX);
  const v = new Map<number, number>([[1, 0]]);
  const trace: Map<number, number>[] = [];
  for (let d = 0; d <= max; d++) {
    trace.push(new Map(v));
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && (v.get(k - 1) ?? -1) < (v.get(k + 1) ?? -1)) ? (v.get(k + 1) ?? 0) : (v.get(k - 1) ?? 0) + 1;
      let y = x - k;
      while (x < n && y < m && a[x] === b[y]) {
        x++;
        y++;
      }
      v.set(k, x);
      if (x >= n && y >= m) return backtrack(a, b, trace, d);
    }
  }
  return null;
}

function backtrack(a: string[], b: string[], trace: Map<number, number>[], depth: number): Op[] {
  const ops: Op[] = [];
  let x = a.length;
  let y = b.length;
  for (let d = depth; d > 0; d--) {
    const v = trace[d]!;
    const k = x - y;
    const down = k === -d || (k !== d && (v.get(k - 1) ?? -1) < (v.get(k + 1) ?? -1));
    const from = down ? k + 1 : k - 1;
    const fx = v.get(from) ?? 0;
    const fy = fx - from;
    while (x > fx && y > fy && x > 0 && y > 0 && a[x - 1] === b[y - 1]) {
      ops.push({ kind: "same", text: a[--x]! });
      y--;
    }
    if (down) ops.push({ kind: "add", text: b[--y]! });
    else ops.push({ kind: "del", text: a[--x]! });
  }
  while (x > 0) {
    ops.push({ kind: "same", text: a[--x]! });
    y--;
  }
  return ops.reverse();
}

function script(a: string[], b: string[]): Op[] {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const x = a.slice(head, a.length - tail);
  const y = b.slice(head, b.length - tail);
  const middle = myers(x, y) ?? [...x.map((text): Op => ({ kind: "del", text })), ...y.map((text): Op => ({ kind: "add", text }))];
  const same = (text: string): Op => ({ kind: "same", text });
  return [...a.slice(0, head).map(same), ...middle, ...a.slice(a.length - tail).map(same)];
}

export function diffTexts(path: string, before: string, now: string): FileDiff {
  const ops = script(lines(before), lines(now));
  const keep = new Uint8Array(ops.length);
  ops.forEach((o, i) => {
    if (o.kind !== "same") keep.fill(1, Math.max(0, i - CONTEXT), i + CONTEXT + 1);
  });
  const hunks: Hunk[] = [];
  let old = 1;
  let fresh = 1;
  let open: { from: number; to: number; lines: DiffLine[] } | null = null;
  const close = () => {
    if (open) hunks.push({ head: `@@ -${open.from} +${open.to} @@`, lines: open.lines });
    open = null;
  };
  ops.forEach((o, i) => {
    if (keep[i]) {
      open ??= { from: old, to: fresh, lines: [] };
      open.lines.push({ kind: o.kind, text: o.text, old: o.kind === "add" ? null : old, now: o.kind === "del" ? null : fresh });
    } else close();
    if (o.kind !== "add") old++;
    if (o.kind !== "del") fresh++;
  });
  close();
  const count = (kind: Op["kind"]) => ops.filter((o) => o.kind === kind).length;
  return { path, from: null, status: before === "" ? "added" : now === "" ? "deleted" : "modified", binary: false, added: count("add"), removed: count("del"), hunks };
}
