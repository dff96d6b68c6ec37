// The sandbox as it was at a moment: what the index adds up to by then, the last lines of each kind before it,
// and from there on line by line while time moves forward. However long the record is, a moment costs the same.
import { get } from "./api";
import { at, num, str } from "./events";
import { lineOf, type Page } from "./feed";
import type { Overview } from "./record";
import { Store } from "./store";
import { Sums } from "./sums";
import type { Line } from "./types";

const AHEAD = 1000;
const PAGES_BEHIND_MAX = 4;
const JUMP_MS = 30_000;
const SCREEN_CHARS = 2 << 20;
const LINES_MAX = 6000;
const PENDING_MAX = 5000;
const TELL_MS = 120;
/** How many lines of each kind before a moment are read to tell what went on then. */
const TAILS: [types: string, limit: number][] = [
  ["command", 200],
  ["llm_call", 40],
  ["network", 300],
  ["file_op,content", 400],
  ["terminal", 500],
];

export interface Played {
  rows: number;
  cols: number;
  lines: Line[];
}

export class Past {
  sums = new Sums();
  /** Terminals by the command they belong to, as far back as a screen needs. */
  terminals = new Map<string, Played>();
  /** Everything up to this number is in it. */
  seq = 0;
  ms = 0;
  version = new Store(0);
  error = new Store<Error | null>(null);
  private ahead: Line[] = [];
  private pending: Line[] = [];
  private want: number | null = null;
  private telling: ReturnType<typeof setTimeout> | undefined;
  private running = false;
  /** There is something to show. */
  built = false;
  private stop = new AbortController();

  constructor(readonly id: string) {}

  close(): void {
    this.stop.abort();
  }

  /** Goes to a moment, or to as much of the end as is told (null). The last wish counts. */
  go(ms: number | null): void {
    this.want = ms ?? Infinity;
    if (!this.running) void this.run();
  }

  /** A line that follows what is there, when the end is what is looked at. */
  add(line: Line): void {
    if (this.want !== Infinity) return;
    if (this.running || !this.built) {
      if (this.pending.length === PENDING_MAX) this.pending = [];
      this.pending.push(line);
    } else if (line.seq === this.seq + 1) {
      this.take(line);
      this.tellSoon();
    } else if (line.seq > this.seq) void this.run();
  }

  private async run(): Promise<void> {
    this.running = true;
    while (this.want !== null && !this.stop.signal.aborted) {
      const ms = this.want;
      try {
        const near = this.built && (ms === Infinity || (ms >= this.ms && ms - this.ms < JUMP_MS));
        if (!(near && (await this.forward(ms)))) await this.build(ms);
        this.error.value = null;
      } catch (e) {
        if (!this.stop.signal.aborted) this.error.value = e as Error;
        this.built = false;
        break;
      }
      if (this.want === ms && this.takePending()) break;
    }
    this.running = false;
    this.tell();
  }

  /** What was streamed meanwhile. False: something between is missing. */
  private takePending(): boolean {
    const lines = this.want === Infinity ? this.pending : [];
    this.pending = [];
    for (const l of lines) {
      if (l.seq > this.seq + 1) return false;
      if (l.seq === this.seq + 1) this.take(l);
    }
    return true;
  }

  private replay(params: { [k: string]: string | number | boolean }): Promise<Page> {
    return get<Page>(`/v1/sandboxes/${this.id}/replay`, params, this.stop.signal);
  }

  /** False: it is so far that building anew is faster. */
  private async forward(ms: number): Promise<boolean> {
    for (let pages = 0; ; pages++) {
      let i = 0;
      while (i < this.ahead.length && at(this.ahead[i]!) <= ms) this.take(this.ahead[i++]!);
      this.ahead = this.ahead.slice(i);
      if (this.ahead.length) break;
      if (pages === PAGES_BEHIND_MAX) return false;
      const page = await this.replay({ after_seq: this.seq, limit: AHEAD });
      if (page.events.length === 0) break;
      this.ahead = page.events.map((e) => lineOf(this.id, e));
    }
    if (ms !== Infinity) this.ms = Math.max(this.ms, ms);
    this.tell();
    return true;
  }

  private async build(ms: number): Promise<void> {
    const o = await get<Overview>(`/v1/sandboxes/${this.id}/replay/summary`, { to: ms === Infinity ? undefined : (ms / 1000).toFixed(6) }, this.stop.signal);
    const tails = await Promise.all(TAILS.map(([type, limit]) => this.tail(type, limit, o.last_seq + 1)));
    const lines = tails.flat().sort((a, b) => a.seq - b.seq);
    this.sums = new Sums();
    this.terminals.clear();
    this.ahead = [];
    for (const l of lines) this.take(l);
    const s = this.sums;
    s.llmNusd = o.sum.llm_nusd;
    s.machineNusd = o.sum.compute_nusd;
    s.commands = o.sum.commands;
    s.failed = o.sum.failed;
    s.called = o.sum.calls;
    s.lost = o.sum.lost;
    s.score = o.sum.trust_score;
    s.fileEvents = o.types["file_op"] ?? 0;
    this.seq = o.last_seq;
    this.ms = ms === Infinity ? o.duration_ms : ms;
    this.built = true;
    await this.sizes();
    this.tell();
  }

  private async tail(type: string, limit: number, before: number): Promise<Line[]> {
    const out: Line[] = [];
    let page = await this.replay({ type, limit, before_seq: before, last: true });
    for (;;) {
      for (const e of page.events) out.push(lineOf(this.id, e));
      if (!page.has_more || page.next_seq + 1 >= before) return out;
      page = await this.replay({ type, limit, before_seq: before, after_seq: page.next_seq });
    }
  }

  /** The first size of a terminal stands where it was started, which may be far before. */
  private async sizes(): Promise<void> {
    for (const [exec, t] of this.terminals) {
      const session = t.lines[0]?.session;
      if (t.rows || !session) continue;
      const page = await this.replay({ session, type: "command", limit: 5 });
      for (const e of page.events) if (e.data["phase"] === "start" && e.data["exec_id"] === exec) this.size(exec, e.data["pty"]);
    }
  }

  private size(exec: string, pty: unknown): void {
    const p = (pty && typeof pty === "object" ? pty : {}) as { rows?: number; cols?: number };
    const t = this.terminals.get(exec);
    const rows = Math.min(200, Math.max(2, num(p.rows) || 24));
    const cols = Math.min(400, Math.max(10, num(p.cols) || 80));
    if (!t) this.terminals.set(exec, { rows, cols, lines: [] });
    else {
      t.rows = rows;
      t.cols = cols;
    }
  }

  private take(line: Line): void {
    this.seq = line.seq;
    this.ms = Math.max(this.ms, at(line));
    this.sums.add(line);
    const exec = str(line.data["exec_id"]);
    if (line.type === "command" && line.data["phase"] === "start" && line.data["pty"]) this.size(exec, line.data["pty"]);
    if (line.type !== "terminal") return;
    let t = this.terminals.get(exec);
    if (!t) this.terminals.set(exec, (t = { rows: 0, cols: 0, lines: [] }));
    t.lines.push(line);
    if (t.lines.length > LINES_MAX) t.lines = t.lines.slice(-LINES_MAX / 2);
  }

  private tell(): void {
    this.version.value++;
  }

  private tellSoon(): void {
    this.telling ??= setTimeout(() => {
      this.telling = undefined;
      this.tell();
    }, TELL_MS);
  }
}

/** The lines that a screen is made of: the last so many characters. */
export function screenLines(t: Played): Line[] {
  let chars = 0;
  for (let i = t.lines.length - 1; i >= 0; i--) {
    chars += str(t.lines[i]!.data["text"]).length;
    if (chars > SCREEN_CHARS) return t.lines.slice(i + 1);
  }
  return t.lines;
}
