// What the lines of a record add up to: model calls, spending, connections, files. Fed line by line,
// in order, so a live record costs no more than what is new. Pure.
import { at, num, str } from "./events";
import type { Line } from "./types";

export interface Call {
  call: number;
  seq: number;
  startMs: number;
  endMs: number | null;
  model: string;
  provider: string;
  api: string;
  status: string;
  tokens: Record<string, number>;
  tokensIn: number;
  tokensOut: number;
  nusd: number | null;
  byClass: Record<string, number>;
  estimated: boolean;
  ttftMs: number | null;
  stop: string;
  tools: string[];
  requestBlob: string;
  replyBlob: string;
  messages: number;
}

export interface Connection {
  key: string;
  host: string;
  address: string;
  port: number;
  verdict: string;
  rule: string;
  opened: number;
  open: number;
  bytesOut: number;
  bytesIn: number;
  lastMs: number;
}

export interface FileTouched {
  path: string;
  op: string;
  count: number;
  lastMs: number;
  gone: boolean;
  by: string;
}

export interface Deduction {
  seq: number;
  ms: number;
  rule: string;
  severity: string;
  points: number;
  score: number;
  what: string;
  hits: number;
  /** Numbers of the events that caused it. */
  evidence: number[];
}

export interface Lookup {
  count: number;
  verdict: string;
  rule: string;
  lastMs: number;
}

export interface Version {
  ms: number;
  /** Name of the content; empty: it was too large, or no text. */
  blob: string;
  skipped: string;
}

export interface Running {
  id: string;
  text: string;
  startMs: number;
}

const FILES_MAX = 5000;
const HOSTS_MAX = 2000;
const DEDUCTIONS_MAX = 2000;
const CHANGED_MAX = 200;
const VERSIONS_MAX = 500;
const CALLS_MAX = 20_000;
const CONNS_MAX = 20_000;

function numbers(v: unknown): Record<string, number> {
  const out: Record<string, number> = {};
  if (v && typeof v === "object") for (const [k, n] of Object.entries(v)) if (typeof n === "number" && n) out[k] = n;
  return out;
}

export class Sums {
  calls = new Map<number, Call>();
  /** Model spending after each call: ms, nano-dollars in all. */
  spending: [number, number][] = [];
  llmNusd = 0;
  /** What calls cost before these files of the work changed: each call's price, shared among what changed before the next. */
  private byFile = new Map<string, number>();
  private unshared = 0;
  private changed = new Set<string>();
  connections = new Map<string, Connection>();
  private conns = new Map<number, Connection>();
  files = new Map<string, FileTouched>();
  /** What files held, as far as the record keeps it: versions by path, oldest first. */
  contents = new Map<string, Version[]>();
  running = new Map<string, Running>();
  lookups = new Map<string, Lookup>();
  /** Machine time, in nano-dollars. */
  machineNusd = 0;
  commands = 0;
  /** How many calls began, and how much happened to files. */
  called = 0;
  fileEvents = 0;
  failed = 0;
  lost = 0;
  score: number | null = null;
  deductions: Deduction[] = [];

  add(line: Line): void {
    const d = line.data ?? {};
    switch (line.type) {
      case "command":
        this.command(line, d);
        break;
      case "llm_call":
        this.llm(line, d);
        break;
      case "network":
        this.network(line, d);
        break;
      case "dns":
        if (d["event"] === "query") {
          const name = str(d["name"]).toLowerCase();
          const have = this.lookups.get(name);
          const now = { count: (have?.count ?? 0) + 1, verdict: str(d["verdict"]), rule: str(d["rule"]), lastMs: at(line) };
          if (have || this.lookups.size < HOSTS_MAX) this.lookups.set(name, now); // the last verdict counts
        }
        break;
      case "file_op":
        this.file(line, d);
        break;
      case "content":
        this.content(line, d);
        break;
      case "cost":
        this.cost(d);
        break;
      case "gap":
        for (const n of Object.values(numbers(d["lost"]))) this.lost += n;
        break;
      case "trust":
        this.trust(line, d);
        break;
    }
  }

  private command(line: Line, d: Record<string, unknown>): void {
    const id = str(d["exec_id"]);
    if (d["phase"] === "start") {
      this.commands++;
      const text = str(d["shell"]) || (Array.isArray(d["argv"]) ? d["argv"].map(str).join(" ") : "") || "login shell";
      this.running.set(id, { id, text, startMs: at(line) });
    } else if (d["phase"] === "exit") {
      this.running.delete(id);
      if (num(d["exit_code"]) !== 0 || d["error"]) this.failed++;
    }
  }

  private llm(line: Line, d: Record<string, unknown>): void {
    const id = num(d["call"]);
    let c = this.calls.get(id);
    if (!c) {
      c = {
        call: id, seq: line.seq, startMs: at(line), endMs: null, model: "", provider: "", api: "", status: "open", tokens: {}, tokensIn: 0, tokensOut: 0,
        nusd: null, byClass: {}, estimated: false, ttftMs: null, stop: "", tools: [], requestBlob: "", replyBlob: "", messages: 0,
      };
      if (this.calls.size >= CALLS_MAX) this.calls.delete(this.calls.keys().next().value!);
      this.calls.set(id, c);
    }
    c.model = str(d["model_replied"]) || str(d["model"]) || c.model;
    c.provider = str(d["provider"]) || c.provider;
    c.api = str(d["api"]) || c.api;
    c.requestBlob = str(d["request_blob"]) || c.requestBlob;
    if (d["event"] === "open") {
      this.called++;
      if (this.share(this.byFile)) {
        this.unshared = 0;
        this.changed.clear();
      }
      c.messages = num(d["messages"]);
      return;
    }
    c.endMs = at(line);
    c.status = str(d["status"]);
    c.tokens = numbers(d["tokens"]);
    c.tokensIn = num(d["tokens_in"]);
    c.tokensOut = num(d["tokens_out"]);
    c.nusd = typeof d["cost_nusd"] === "number" ? d["cost_nusd"] : null;
    c.byClass = numbers(d["cost_by_class"]);
    c.estimated = d["estimated"] === true;
    c.ttftMs = typeof d["ttft_ms"] === "number" ? d["ttft_ms"] : null;
    c.stop = str(d["stop_reason"]);
    c.tools = Array.isArray(d["tool_calls"]) ? d["tool_calls"].map(str) : [];
    c.replyBlob = str(d["reply_blob"]);
    if (c.nusd) {
      this.llmNusd += c.nusd;
      this.unshared += c.nusd;
      this.spending.push([at(line), this.llmNusd]);
    }
  }

  private content(line: Line, d: Record<string, unknown>): void {
    const path = str(d["path"]);
    let list = this.contents.get(path);
    if (!list) {
      if (this.contents.size >= FILES_MAX) return;
      this.contents.set(path, (list = []));
    }
    const blob = str(d["blob"]);
    if (list.length < VERSIONS_MAX && (!blob || blob !== list[list.length - 1]?.blob)) list.push({ ms: at(line), blob, skipped: str(d["skipped"]) });
  }

  private trust(line: Line, d: Record<string, unknown>): void {
    if (typeof d["score"] === "number") this.score = d["score"];
    else if (this.score === null) this.score = 100; // the line that names the rules
    if (d["event"] !== "deduction" || this.deductions.length >= DEDUCTIONS_MAX) return;
    const evidence = Array.isArray(d["evidence"]) ? d["evidence"].filter((n): n is number => typeof n === "number") : [];
    this.deductions.push({ seq: line.seq, ms: at(line), rule: str(d["rule"]), severity: str(d["severity"]), points: num(d["points"]), score: num(d["score"]), what: str(d["what"]), hits: num(d["hits"]), evidence });
  }

  private cost(d: Record<string, unknown>): void {
    if (d["event"] !== "ledger") return;
    const rows = [d["row"], ...(Array.isArray(d["rows"]) ? d["rows"] : [])] as (Record<string, unknown> | undefined)[];
    for (const r of rows) if (r && typeof r === "object" && r["row"] === "compute") this.machineNusd += num(r["nusd"]);
  }

  private network(line: Line, d: Record<string, unknown>): void {
    const conn = num(d["conn"]);
    if (d["event"] === "open") {
      const host = str(d["name"]) || str(d["to"]) || str(d["address"]);
      const verdict = str(d["verdict"]);
      const key = `${verdict} ${host}:${num(d["port"])}`;
      let c = this.connections.get(key);
      if (!c) {
        if (this.connections.size >= HOSTS_MAX) return;
        c = { key, host, address: str(d["address"]), port: num(d["port"]), verdict, rule: str(d["rule"]), opened: 0, open: 0, bytesOut: 0, bytesIn: 0, lastMs: 0 };
        this.connections.set(key, c);
      }
      c.opened++;
      c.lastMs = at(line);
      if (verdict !== "deny") {
        c.open++;
        if (this.conns.size < CONNS_MAX) this.conns.set(conn, c);
      }
    } else if (d["event"] === "close") {
      const c = this.conns.get(conn);
      this.conns.delete(conn);
      if (!c) return;
      c.open--;
      c.bytesOut += num(d["bytes_out"]);
      c.bytesIn += num(d["bytes_in"]);
      c.lastMs = at(line);
    }
  }

  /** Gives what was spent since the last changes to the files that changed now; nothing changed: it waits. */
  private share(to: Map<string, number>): boolean {
    if (!this.changed.size || !this.unshared) return false;
    const each = this.unshared / this.changed.size;
    for (const path of this.changed) to.set(path, (to.get(path) ?? 0) + each);
    return true;
  }

  /** Nano-dollars by file, as if the next call began now. */
  fileCosts(): Map<string, number> {
    const costs = new Map(this.byFile);
    this.share(costs);
    return costs;
  }

  private file(line: Line, d: Record<string, unknown>): void {
    const op = str(d["op"]);
    this.fileEvents++;
    if (op === "read" || op === "pack") return;
    const touch = (path: string, gone: boolean) => {
      const f = this.files.get(path);
      if (f) {
        f.count++;
        f.op = op;
        f.lastMs = at(line);
        f.gone = gone;
      } else if (this.files.size < FILES_MAX) this.files.set(path, { path, op, count: 1, lastMs: at(line), gone, by: str(d["comm"]) });
    };
    const target = op === "rename" ? str(d["to"]) : str(d["path"]);
    if (this.unshared && /^\/workspace\/(?!\.git\/)/.test(target) && op !== "mkdir" && op !== "chmod" && this.changed.size < CHANGED_MAX) this.changed.add(target);
    touch(str(d["path"]), op === "delete" || op === "rmdir" || op === "rename");
    if (d["to"] && op !== "symlink") touch(str(d["to"]), false);
  }
}

/** Dollars an hour over the last `windowMs` of what was spent, and when the budget is used up (ms from now). */
export function burn(points: [number, number][], nowMs: number, windowMs: number): number {
  if (nowMs <= 0) return 0;
  const from = Math.max(0, nowMs - windowMs);
  let before = 0;
  let last = 0;
  for (const [t, sum] of points) {
    if (t <= from) before = sum;
    last = sum;
  }
  const hours = (nowMs - from) / 3_600_000;
  return hours > 0 ? (last - before) / 1e9 / hours : 0;
}
