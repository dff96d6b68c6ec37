// What a line of the record means to a person: its kind, a headline, a tone; and what many lines add
// up to: costs, calls, files, connections. Pure. Members come from guests: nothing is taken on trust.
import { bytes, duration, nusd, tokens, visible } from "./format";
import type { Line } from "./types";

export type Kind = "command" | "terminal" | "file" | "network" | "llm" | "cost" | "ledger" | "trust" | "process" | "system";

export const kinds: { kind: Kind; title: string; icon: string }[] = [
  { kind: "command", title: "Commands", icon: "play" },
  { kind: "terminal", title: "Terminal", icon: "term" },
  { kind: "file", title: "Files", icon: "file" },
  { kind: "network", title: "Network", icon: "net" },
  { kind: "llm", title: "Models", icon: "bot" },
  { kind: "cost", title: "Cost", icon: "dollar" },
  { kind: "trust", title: "Trust", icon: "shield" },
  { kind: "ledger", title: "Ledger", icon: "dollar" },
  { kind: "process", title: "Processes", icon: "gear" },
  { kind: "system", title: "Sandbox", icon: "box" },
];

const kindOf: Record<string, Kind> = {
  command: "command",
  terminal: "terminal",
  file_op: "file",
  content: "file",
  network: "network",
  dns: "network",
  port: "network",
  llm_call: "llm",
  cost: "cost",
  trust: "trust",
  alert: "trust",
  process: "process",
};

export function kind(line: Line): Kind {
  if (line.type === "cost" && line.data?.["event"] === "ledger") return "ledger"; // a row a second: the alerts must not drown
  return kindOf[line.type] ?? "system";
}

export function str(v: unknown): string {
  return typeof v === "string" ? v : typeof v === "number" || typeof v === "boolean" ? String(v) : "";
}

export function num(v: unknown): number {
  return typeof v === "number" && Number.isFinite(v) ? v : 0;
}

function words(v: unknown): string {
  return Array.isArray(v) ? v.map((w) => quote(str(w))).join(" ") : "";
}

function quote(s: string): string {
  return s === "" || /[\s"'\\$`]/.test(s) ? `'${s}'` : s;
}

const CUT = 400;
function cut(s: string): string {
  const v = visible(s.slice(0, CUT));
  return s.length > CUT ? `${v}…` : v;
}

export type Tone = "plain" | "good" | "warn" | "bad";

export interface Headline {
  text: string;
  more?: string;
  tone: Tone;
}

type Data = Record<string, unknown>;

export function commandText(d: Data): string {
  return str(d["shell"]) || words(d["argv"]) || (d["login"] ? "login shell" : "");
}

function command(d: Data): Headline {
  const id = str(d["exec_id"]);
  switch (d["phase"]) {
    case "start":
      return { text: `$ ${cut(commandText(d))}`, more: cut([str(d["user"]), str(d["cwd"])].filter(Boolean).join(" in ")), tone: "plain" };
    case "exit": {
      const error = d["error"] as Data | undefined;
      if (error && typeof error === "object") return { text: `command not run: ${cut(str(error["text"]))}`, more: id, tone: "bad" };
      const code = num(d["exit_code"]);
      const how = d["timed_out"] ? "timed out" : d["signal"] ? `ended by ${cut(str(d["signal"]))}` : `exit ${code}`;
      return { text: how, more: `${duration(num(d["duration_ns"]) / 1e6)}, ${bytes(num(d["bytes_out"]) + num(d["bytes_err"]))} out`, tone: code === 0 && !d["timed_out"] ? "good" : "bad" };
    }
    default:
      return { text: `command ${cut(str(d["phase"]))}`, more: cut(str(d["signal"])) || id, tone: "plain" };
  }
}

function fileOp(d: Data): Headline {
  const to = str(d["to"]);
  const size = typeof d["size"] === "number" ? bytes(d["size"]) : typeof d["bytes"] === "number" ? bytes(d["bytes"]) : "";
  const by = [cut(str(d["comm"])), size].filter(Boolean).join(", ");
  const op = str(d["op"]);
  return { text: `${op} ${cut(str(d["path"]))}${to ? ` → ${cut(to)}` : ""}`, more: by || str(d["origin"]), tone: d["error"] ? "bad" : op === "delete" || op === "rmdir" ? "warn" : "plain" };
}

function network(type: string, d: Data): Headline {
  if (type === "dns") {
    if (d["event"] === "summary") return { text: `${num(d["queries"])} more name lookups`, tone: "plain" };
    return { text: `look up ${cut(str(d["name"]))}`, more: `${str(d["qtype"])} ${str(d["verdict"])}`, tone: d["verdict"] === "deny" ? "bad" : "plain" };
  }
  if (type === "port") return { text: `port ${num(d["port"])} ${d["event"] === "close" ? "closed" : "open"}`, more: cut(str(d["process"])), tone: "plain" };
  const where = `${cut(str(d["name"]) || str(d["to"]) || str(d["address"]))}${d["port"] ? `:${num(d["port"])}` : ""}`;
  switch (d["event"]) {
    case "open":
      return { text: `${d["verdict"] === "deny" ? "refused" : "connect"} ${where}`, more: cut(str(d["rule"])), tone: d["verdict"] === "deny" ? "bad" : "plain" };
    case "close":
      return { text: `closed ${where}`, more: `${bytes(num(d["bytes_out"]))} out, ${bytes(num(d["bytes_in"]))} in`, tone: "plain" };
    case "secret":
      return { text: `${d["verdict"] === "refuse" ? "secret refused for" : "secret used for"} ${where}`, more: cut([str(d["secret"]), str(d["method"]), str(d["path"])].filter(Boolean).join(" ")), tone: d["verdict"] === "refuse" ? "bad" : "warn" };
    case "connect":
      return { text: `connect ${where}`, more: cut(str(d["comm"])), tone: "plain" };
    case "dropped":
      return { text: `${num(d["dropped_packets"]) + num(d["rejected_packets"])} packets dropped`, tone: "warn" };
    default:
      return { text: `network ${cut(str(d["event"]))} ${where}`, tone: "plain" };
  }
}

function llm(d: Data): Headline {
  const model = cut(str(d["model_replied"]) || str(d["model"]) || str(d["api"]));
  if (d["event"] === "open") return { text: `call ${model}`, more: `${num(d["messages"])} messages, ${num(d["tools"])} tools`, tone: "plain" };
  const status = str(d["status"]);
  const cost = d["cost_nusd"] === null || d["cost_nusd"] === undefined ? "not priced" : nusd(num(d["cost_nusd"]));
  return {
    text: `${model} ${status === "ok" ? "answered" : cut(status)}`,
    more: `${tokens(num(d["tokens_in"]))} in, ${tokens(num(d["tokens_out"]))} out, ${cost}`,
    tone: status === "ok" || status === "drained" ? "good" : "bad",
  };
}

const ledgerRows: Record<string, string> = { compute: "machine time", limit: "budget set", reserve: "held for a call", settle: "call settled", release: "hold released" };

function cost(d: Data): Headline {
  const event = str(d["event"]);
  if (event === "ledger") {
    const rows = (Array.isArray(d["rows"]) ? d["rows"] : [d["row"]]) as unknown[];
    const row = (rows[0] && typeof rows[0] === "object" ? rows[0] : {}) as Data;
    const name = ledgerRows[str(row["row"])] ?? cut(str(row["row"]));
    return { text: rows.length > 1 ? `${name}, and ${rows.length - 1} more` : name || "ledger", more: row["nusd"] !== undefined ? nusd(num(row["nusd"])) : "", tone: "plain" };
  }
  return { text: event.startsWith("budget_") ? `budget ${event.slice(7)}` : cut(event), more: d["spent_nusd"] !== undefined ? nusd(num(d["spent_nusd"])) : "", tone: event.startsWith("budget_") ? (event === "budget_warning" ? "warn" : "bad") : "plain" };
}

function process(d: Data): Headline {
  if (d["event"] === "exec") return { text: `exec ${cut(words(d["argv"]) || str(d["exe"]))}`, more: `pid ${num(d["pid"])}${d["uid"] === 0 ? ", root" : ""}`, tone: "plain" };
  if (d["event"] === "exit") return { text: `${cut(str(d["comm"]))} ended ${d["signal"] ? `by signal ${str(d["signal"])}` : str(d["code"])}`, more: `pid ${num(d["pid"])}`, tone: "plain" };
  return { text: `${cut(str(d["event"]))} ${cut(str(d["comm"]))}`, more: `pid ${num(d["pid"])}`, tone: "warn" };
}

function trust(d: Data): Headline {
  if (d["event"] === "pack") return { text: `scored by ${cut(str(d["pack"])) || "rules"}`, more: cut(str(d["hash"])).slice(0, 20), tone: "plain" };
  const points = Math.abs(num(d["points"] ?? d["delta"]));
  const what = cut(str(d["what"]) || str(d["title"]) || str(d["rule"]) || str(d["event"]) || "trust");
  return { text: points ? `−${points} ${what}` : what, more: d["score"] !== undefined ? `${num(d["score"])} left` : cut(str(d["message"])), tone: points >= 20 || d["severity"] === "critical" ? "bad" : "warn" };
}

/** Is this what "the next one" of a kind means: a call that begins, a deduction, a file that changes? */
export function landmark(line: Line, k: Kind): boolean {
  if (kind(line) !== k) return false;
  const d = line.data;
  if (k === "trust") return d["event"] === "deduction";
  if (k === "llm") return d["event"] === "open";
  if (k === "command") return d["phase"] === "start";
  if (k === "file") return line.type === "file_op" && d["op"] !== "read" && d["op"] !== "pack";
  return true;
}

function system(type: string, d: Data): Headline {
  if (type === "lifecycle") return { text: `sandbox ${cut(str(d["event"])).replace(/_/g, " ")}`, more: cut(str(d["reason"])) || (d["boot_ms"] ? `${num(d["boot_ms"])} ms` : ""), tone: "plain" };
  if (type === "session") return { text: `session ${cut(str(d["event"]))}: ${cut(str(d["agent_type"]) || str(d["kind"]) || "agent")}`, more: cut(str(d["reason"]) || str(d["how"])), tone: "plain" };
  if (type === "content") return { text: `kept ${cut(str(d["path"]))}`, more: d["skipped"] ? `not its text: ${cut(str(d["skipped"]))}` : bytes(num(d["size"])), tone: "plain" };
  if (type === "gap") return { text: `something is missing here: ${cut(str(d["reason"])).replace(/_/g, " ")}`, more: cut(JSON.stringify(d["lost"] ?? "")), tone: "warn" };
  if (type === "error") return { text: cut(str(d["text"])) || "error", more: cut(str(d["code"])), tone: "bad" };
  const own = str(d["event"]) || str(d["tool"]) || str(d["title"]) || str(d["text"]);
  return { text: `${cut(type)} ${cut(own)}`.trim(), tone: "plain" };
}

export function headline(line: Line): Headline {
  const d = line.data ?? {};
  switch (line.type) {
    case "command":
      return command(d);
    case "terminal":
      if (d["dir"] === "resize") return { text: `resized to ${num(d["cols"])}×${num(d["rows"])}`, tone: "plain" };
      return { text: `${d["dir"] === "in" ? "typed" : "shown"} ${JSON.stringify(cut(str(d["text"]) || `${str(d["base64"]).length} bytes`))}`, tone: "plain" };
    case "file_op":
      return fileOp(d);
    case "network":
    case "dns":
    case "port":
      return network(line.type, d);
    case "llm_call":
      return llm(d);
    case "cost":
      return cost(d);
    case "process":
      return process(d);
    case "trust":
    case "alert":
      return trust(d);
    default:
      return system(line.type, d);
  }
}

/** Milliseconds since the record began. */
export function at(line: Line): number {
  return line.t / 1e6;
}
