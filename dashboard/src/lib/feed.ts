// What some types of a record's lines add up to: their history in pages, found by the server's index, and
// then live. Lines are added up and let go, so a long record costs time and no memory. One feed a sandbox
// and choice of types, shared by the panels that look at it, closed a little after the last of them.
import { get } from "./api";
import { Store } from "./store";
import { stream, type Stream } from "./sse";
import { Sums } from "./sums";
import type { Line } from "./types";

const LINGER_MS = 30_000;
const TELL_MS = 120;
const PAGE = 1000;
const RETRY_MS = 3000;

/** An event as /replay gives it. */
export interface Told {
  session_id: string | null;
  sequence: number;
  type: string;
  timestamp: string;
  t_ms: number;
  source: string;
  data: Record<string, unknown>;
}

export interface Page {
  events: Told[];
  has_more: boolean;
  next_seq: number;
  total: number;
  rank?: number;
}

export function lineOf(sandbox: string, e: Told): Line {
  return { sandbox_id: sandbox, seq: e.sequence, t: e.t_ms * 1e6, ts: e.timestamp, type: e.type, src: e.source, session: e.session_id, data: e.data && typeof e.data === "object" ? e.data : {} };
}

/** The line with this number; null: the record does not have it. */
export async function lineAt(sandbox: string, seq: number, signal?: AbortSignal): Promise<Line | null> {
  const page = await get<Page>(`/v1/sandboxes/${sandbox}/replay`, { after_seq: seq - 1, limit: 1 }, signal);
  const e = page.events[0];
  return e && e.sequence === seq ? lineOf(sandbox, e) : null;
}

export class Feed {
  sums = new Sums();
  /** The wall time at which the record's clock was 0, in ms. */
  epoch = 0;
  /** Of the last line, in ms of the record's clock. */
  lastMs = 0;
  /** Grows with every batch of lines. */
  version = new Store(0);
  state = new Store<"connecting" | "live" | "down">("connecting");
  private lastSeq = 0;
  private stream: Stream | null = null;
  private reading: AbortController | null = null;
  private users = 0;
  private closing: ReturnType<typeof setTimeout> | undefined;
  private telling: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly id: string,
    private types: string,
  ) {}

  open(): () => void {
    this.users++;
    clearTimeout(this.closing);
    if (!this.reading) void this.read();
    return () => {
      if (--this.users > 0) return;
      this.closing = setTimeout(() => {
        this.reading?.abort();
        this.stream?.close();
        feeds.delete(this.key());
      }, LINGER_MS);
    };
  }

  key(): string {
    return `${this.id} ${this.types}`;
  }

  /** The history first; what comes later continues behind its last page. */
  private async read(): Promise<void> {
    const stop = (this.reading = new AbortController());
    while (!stop.signal.aborted) {
      try {
        const page = await get<Page>(`/v1/sandboxes/${this.id}/replay`, { type: this.types, after_seq: this.lastSeq, limit: PAGE }, stop.signal);
        for (const e of page.events) this.add(lineOf(this.id, e));
        this.lastSeq = page.next_seq;
        this.tell();
        if (!page.has_more) break;
      } catch {
        if (stop.signal.aborted) return;
        this.state.value = "down";
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    if (stop.signal.aborted) return;
    this.state.value = "live";
    this.follow();
  }

  private follow(): void {
    this.stream = stream("/v1/events/stream", {
      params: () => ({ sandbox_id: this.id, after_seq: this.lastSeq, types: streamTypes(this.types) }),
      event: (e) => {
        if (e.event !== "sandbox") this.add(JSON.parse(e.data) as Line);
      },
      flush: () => this.tell(),
      state: (up) => {
        this.state.value = up ? "live" : "down";
      },
    });
  }

  private add(line: Line): void {
    if (!(line.seq > this.lastSeq)) return; // told twice after a reconnection
    this.lastSeq = line.seq;
    this.lastMs = line.t / 1e6;
    if (!line.data || typeof line.data !== "object") line.data = {};
    if (this.epoch === 0) this.epoch = Date.parse(line.ts) - line.t / 1e6;
    this.sums.add(line);
  }

  private tell(): void {
    this.telling ??= setTimeout(() => {
      this.telling = undefined;
      this.version.value++;
    }, TELL_MS);
  }
}

/** The stream knows whole types only; "budget" is a part of "cost". */
export function streamTypes(types: string): string {
  return [...new Set(types.split(",").map((t) => (t === "budget" || t === "ledger" ? "cost" : t)))].join(",");
}

const feeds = new Map<string, Feed>();

export function feedOf(id: string, types: string): Feed {
  const made = new Feed(id, types);
  const f = feeds.get(made.key()) ?? made;
  feeds.set(f.key(), f);
  return f;
}
