// The record of one sandbox, from its first line on and then live. One stream a sandbox, shared by
// the panels that look at it, closed a little after the last of them.
import { headline, kind, type Kind } from "./events";
import { Store } from "./store";
import { stream, type Stream } from "./sse";
import { Sums } from "./sums";
import type { Line } from "./types";

const LINES_MAX = 1_200_000;
const LINGER_MS = 30_000;
const TELL_MS = 120;

export class Feed {
  lines: Line[] = [];
  sums = new Sums();
  counts: Record<Kind, number> = { command: 0, terminal: 0, file: 0, network: 0, llm: 0, cost: 0, ledger: 0, trust: 0, process: 0, system: 0 };
  /** The wall time at which the record's clock was 0, in ms. */
  epoch = 0;
  /** Grows with every batch of lines. */
  version = new Store(0);
  state = new Store<"connecting" | "live" | "down" | "ended">("connecting");
  dropped = 0;
  /** Terminals by the command they belong to: where their lines stand. */
  terminals = new Map<string, { rows: number; cols: number; at: number[] }>();
  private lastSeq = 0;
  private stream: Stream | null = null;
  private users = 0;
  private closing: ReturnType<typeof setTimeout> | undefined;
  private telling: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly id: string) {}

  open(): () => void {
    this.users++;
    clearTimeout(this.closing);
    this.stream ??= stream("/v1/events/stream", {
      params: () => ({ sandbox_id: this.id, after_seq: this.lastSeq }),
      event: (e) => {
        if (e.event !== "sandbox") this.add(JSON.parse(e.data) as Line);
      },
      flush: () => this.tell(),
      state: (up) => {
        if (this.state.value !== "ended") this.state.value = up ? "live" : "down";
      },
      ended: () => this.state.value === "ended",
    });
    return () => {
      if (--this.users > 0) return;
      this.closing = setTimeout(() => {
        this.stream?.close();
        this.stream = null;
        feeds.delete(this.id);
      }, LINGER_MS);
    };
  }

  private add(line: Line): void {
    if (!(line.seq > this.lastSeq)) return; // told twice after a reconnection
    this.lastSeq = line.seq;
    if (!line.data || typeof line.data !== "object") line.data = {};
    if (this.epoch === 0) this.epoch = Date.parse(line.ts) - line.t / 1e6;
    if (this.lines.length >= LINES_MAX) this.dropped++;
    else this.keep(line);
    this.counts[kind(line)]++;
    this.sums.add(line);
    if (line.type === "lifecycle" && line.data["event"] === "destroyed") this.state.value = "ended";
  }

  private keep(line: Line): void {
    this.lines.push(line);
    const pty = line.type === "command" && line.data["phase"] === "start" ? (line.data["pty"] as { rows?: number; cols?: number } | undefined) : undefined;
    if (line.type !== "terminal" && !pty) return;
    const id = String(line.data["exec_id"]);
    let t = this.terminals.get(id);
    if (!t) this.terminals.set(id, (t = { rows: 24, cols: 80, at: [] }));
    if (pty && typeof pty === "object") {
      t.rows = Math.min(200, Math.max(2, Number(pty.rows) || 24));
      t.cols = Math.min(400, Math.max(10, Number(pty.cols) || 80));
    }
    if (line.type === "terminal") t.at.push(this.lines.length - 1);
  }

  private tell(): void {
    this.telling ??= setTimeout(() => {
      this.telling = undefined;
      this.version.value++;
    }, TELL_MS);
  }
}

const feeds = new Map<string, Feed>();

export function feedOf(id: string): Feed {
  let f = feeds.get(id);
  if (!f) feeds.set(id, (f = new Feed(id)));
  return f;
}

/** Does a line have all of these words, in its headline or anywhere? */
export function lineHas(line: Line, needles: string[]): boolean {
  const h = headline(line);
  const hay = `${line.type} ${h.text} ${h.more ?? ""}`.toLowerCase();
  return needles.every((n) => hay.includes(n));
}
