// A record of any length, seen through a window: an overview of the whole, made by the server's index, and
// lines by the page, fetched where somebody looks. What is kept here is bounded, whatever the record holds.
import { get } from "./api";
import { at, kind, kinds, type Kind } from "./events";
import { lineOf, type Page } from "./feed";
import { stream, type Stream } from "./sse";
import { Store } from "./store";
import type { Line } from "./types";

export const SLOTS = 640;
export const PAGE = 200;
const PAGES_MAX = 60;
const FOUND_MAX = 5000;
const FRESH_MS = 4000;
const TELL_MS = 120;
const RETRY_MS = 3000;

export interface Overview {
  event_count: number;
  last_seq: number;
  start_time: string;
  end_time: string;
  duration_ms: number;
  types: Record<string, number>;
  slots?: Record<string, number[]>;
  sum: { llm_nusd: number; compute_nusd: number; commands: number; failed: number; calls: number; deductions: number; lost: number; trust_score: number | null };
}

/** What /replay calls the lines of a kind. */
export const typesOf: Record<Kind, string[]> = {
  command: ["command"],
  terminal: ["terminal"],
  file: ["file_op", "content"],
  network: ["network", "dns", "port"],
  llm: ["llm_call"],
  cost: ["budget"],
  ledger: ["ledger"],
  trust: ["trust"],
  process: ["process"],
  system: ["lifecycle", "gap", "error", "claim", "session"],
};

/** An overview's name of the budget's lines is "cost": rows of the ledger are counted apart. */
function columnsOf(k: Kind): string[] {
  return k === "cost" ? ["cost"] : typesOf[k];
}

export type Counts = Record<Kind, number>;

export function countsOf(types: Record<string, number>): Counts {
  return Object.fromEntries(kinds.map((k) => [k.kind, columnsOf(k.kind).reduce((n, t) => n + (types[t] ?? 0), 0)])) as Counts;
}

/** Counts by slot of the time, for each kind. */
export function densityOf(o: Overview | null): Map<Kind, number[]> {
  const out = new Map<Kind, number[]>();
  for (const { kind: k } of kinds) {
    const rows = columnsOf(k).flatMap((t) => (o?.slots?.[t] ? [o.slots[t]] : []));
    if (rows.length) out.set(k, rows[0]!.map((_, i) => rows.reduce((n, r) => n + r[i]!, 0)));
  }
  return out;
}

/** What of a density falls into each column, when the density covers a part of the track. */
export function columnsFor(slots: number[], covered: number, columns: number): Float64Array {
  const out = new Float64Array(columns);
  const used = Math.max(1, Math.min(columns, Math.round(columns * covered)));
  if (slots.length >= used)
    slots.forEach((n, i) => {
      out[Math.floor((i * used) / slots.length)]! += n;
    });
  else for (let c = 0; c < used; c++) out[c] = slots[Math.floor((c * slots.length) / used)]!;
  return out;
}

/** A list of lines by their place in it. Lines that are not there yet are fetched and told of. */
export interface Rows {
  readonly total: number;
  /** More may follow behind the last. */
  readonly open: boolean;
  get(row: number): Line | undefined;
  /** The last row that is not later than a moment; -1: none. */
  rowAt(ms: number, signal?: AbortSignal): Promise<number>;
  add(line: Line): void;
  close(): void;
}

/** The pages of a list that were looked at last. */
export class Pages {
  private pages = new Map<number, (Line | undefined)[]>();

  get(row: number): Line | undefined {
    const n = Math.floor(row / PAGE);
    const page = this.pages.get(n);
    if (!page) return undefined;
    this.pages.delete(n); // the last looked at is the last to go
    this.pages.set(n, page);
    return page[row % PAGE];
  }
  put(row: number, line: Line): void {
    const n = Math.floor(row / PAGE);
    let page = this.pages.get(n);
    if (!page) {
      this.pages.set(n, (page = []));
      if (this.pages.size > PAGES_MAX) this.pages.delete(this.pages.keys().next().value!);
    }
    page[row % PAGE] = line;
  }
  get size(): number {
    return this.pages.size;
  }
}

/** Lines of some kinds, by their number among these. */
class KindRows implements Rows {
  readonly open = false;
  private pages = new Pages();
  private loading = new Set<number>();
  private stop = new AbortController();
  private types: string;

  constructor(
    private record: SandboxRecord,
    private show: Set<Kind>,
    public total: number,
    private tell: () => void,
  ) {
    this.types = [...show].flatMap((k) => typesOf[k]).join(",");
  }

  get(row: number): Line | undefined {
    const line = this.pages.get(row);
    if (!line && row >= 0 && row < this.total) void this.load(Math.floor(row / PAGE));
    return line;
  }

  private async load(n: number): Promise<void> {
    if (this.loading.has(n)) return;
    this.loading.add(n);
    try {
      // a page may be short of what was asked for: its work is bounded
      for (let row = n * PAGE; row < Math.min((n + 1) * PAGE, this.total); ) {
        const page = await this.record.page({ type: this.types, skip: row, limit: (n + 1) * PAGE - row }, this.stop.signal);
        page.events.forEach((e, i) => this.pages.put(row + i, lineOf(this.record.id, e)));
        if (page.events.length === 0) break;
        row += page.events.length;
        this.tell();
      }
      this.loading.delete(n);
    } catch {
      setTimeout(() => this.loading.delete(n), RETRY_MS);
    }
  }

  async rowAt(ms: number, signal?: AbortSignal): Promise<number> {
    if (this.total === 0) return -1;
    const page = await this.record.page({ type: this.types, from: ((ms + 0.001) / 1000).toFixed(9), limit: 1, rank: true }, signal);
    return Math.min(page.rank ?? 0, this.total) - 1;
  }

  add(line: Line): void {
    if (this.show.has(kind(line))) this.pages.put(this.total++, line);
  }
  close(): void {
    this.stop.abort();
  }
}

/** Lines with a text in them, in the order they are found. */
class FoundRows implements Rows {
  private lines: Line[] = [];
  private after = 0;
  private more = true;
  private busy = false;
  private stop = new AbortController();

  constructor(
    private record: SandboxRecord,
    private types: string,
    private text: string,
    private tell: () => void,
  ) {
    void this.load();
  }
  get total(): number {
    return this.lines.length;
  }
  get open(): boolean {
    return this.more && this.lines.length < FOUND_MAX;
  }
  get(row: number): Line | undefined {
    if (row > this.lines.length - PAGE) void this.load();
    return this.lines[row];
  }

  private async load(): Promise<void> {
    if (this.busy || !this.open) return;
    this.busy = true;
    try {
      const before = this.lines.length;
      while (this.open && this.lines.length < before + PAGE) {
        const page = await this.record.page({ type: this.types, q: this.text, after_seq: this.after, limit: PAGE }, this.stop.signal);
        for (const e of page.events) this.lines.push(lineOf(this.record.id, e));
        this.after = page.next_seq;
        this.more = page.has_more;
        this.tell();
      }
    } catch {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    this.busy = false;
    this.tell();
  }

  rowAt(ms: number): Promise<number> {
    let lo = 0;
    let hi = this.lines.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (at(this.lines[mid]!) <= ms) lo = mid + 1;
      else hi = mid;
    }
    return Promise.resolve(lo - 1);
  }
  add(): void {
    this.more = true;
  }
  close(): void {
    this.stop.abort();
  }
}

/** The record of a sandbox, or what of it belongs to a session. */
export class SandboxRecord {
  overview = new Store<Overview | null>(null);
  error = new Store<Error | null>(null);
  state = new Store<"connecting" | "live" | "down" | "ended">("connecting");
  version = new Store(0);
  counts: Counts = countsOf({});
  /** The wall time at which the record's clock was 0, in ms. */
  epoch = 0;
  endMs = 0;
  lastSeq = 0;
  private rows: Rows | null = null;
  private listeners = new Set<(line: Line) => void>();
  private stream: Stream | null = null;
  private stop = new AbortController();
  private telling: ReturnType<typeof setTimeout> | undefined;
  private refreshing: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly id: string,
    readonly session: string | null,
    private over: boolean,
  ) {}

  async open(): Promise<void> {
    while (!this.stop.signal.aborted && !this.overview.value) {
      await this.refresh();
      if (this.overview.value || this.stop.signal.aborted) break;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    if (this.stop.signal.aborted) return;
    if (this.over) this.state.value = "ended";
    else this.follow();
  }

  close(): void {
    this.stop.abort();
    this.stream?.close();
    this.rows?.close();
    clearTimeout(this.refreshing);
    clearTimeout(this.telling);
  }

  page(params: { [k: string]: string | number | boolean }, signal?: AbortSignal): Promise<Page> {
    return get<Page>(`/v1/sandboxes/${this.id}/replay`, { ...params, session: this.session ?? undefined }, signal ?? this.stop.signal);
  }

  /** Lines of these kinds, with this text if there is one. The list before is closed. */
  choose(show: Set<Kind>, text: string): Rows {
    this.rows?.close();
    const total = [...show].reduce((n, k) => n + this.counts[k], 0);
    const words = text.trim();
    const tell = () => this.tell();
    if (words && show.size) this.rows = new FoundRows(this, [...show].flatMap((k) => typesOf[k]).join(","), words, tell);
    else this.rows = new KindRows(this, show, total, tell);
    return this.rows;
  }

  onLine(tell: (line: Line) => void): () => void {
    this.listeners.add(tell);
    return () => this.listeners.delete(tell);
  }

  private async refresh(): Promise<void> {
    try {
      const o = await get<Overview>(`/v1/sandboxes/${this.id}/replay/summary`, { slots: SLOTS, session: this.session ?? undefined }, this.stop.signal);
      if (!this.overview.value) {
        this.counts = countsOf(o.types);
        this.lastSeq = o.last_seq;
        this.epoch = Date.parse(o.start_time);
      }
      this.endMs = Math.max(this.endMs, o.duration_ms);
      this.overview.value = o;
      this.error.value = null;
    } catch (e) {
      if (!this.stop.signal.aborted) this.error.value = e as Error;
    }
  }

  private follow(): void {
    this.stream = stream("/v1/events/stream", {
      params: () => ({ sandbox_id: this.id, after_seq: this.lastSeq }),
      event: (e) => {
        if (e.event !== "sandbox") this.add(JSON.parse(e.data) as Line);
      },
      state: (up) => {
        if (this.state.value !== "ended") this.state.value = up ? "live" : "down";
      },
      ended: () => this.state.value === "ended",
    });
  }

  private add(line: Line): void {
    if (!(line.seq > this.lastSeq)) return; // told twice after a reconnection
    this.lastSeq = line.seq;
    if (!line.data || typeof line.data !== "object") line.data = {};
    for (const tell of this.listeners) tell(line);
    if (this.session === null || line.session === this.session) {
      this.counts[kind(line)]++;
      this.rows?.add(line);
      this.refreshing ??= setTimeout(() => {
        this.refreshing = undefined;
        void this.refresh();
      }, FRESH_MS);
    }
    this.endMs = Math.max(this.endMs, at(line));
    if (line.type === "lifecycle" && line.data["event"] === "destroyed") this.state.value = "ended";
    this.tell();
  }

  private tell(): void {
    this.telling ??= setTimeout(() => {
      this.telling = undefined;
      this.version.value++;
    }, TELL_MS);
  }
}

