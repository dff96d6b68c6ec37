// A model call as a conversation: what was sent and what came back, of the four APIs that the gateway speaks.
// Pure, and trusts nothing: what does not fit becomes a part of kind "other", never an error.

export type PartKind = "text" | "thinking" | "tool_use" | "tool_result" | "image" | "other";

export interface Part {
  kind: PartKind;
  text: string;
  /** Of a tool: its name. */
  name?: string;
  bad?: boolean;
}

export interface Turn {
  role: "system" | "user" | "assistant" | "tool";
  parts: Part[];
}

export interface Conversation {
  turns: Turn[];
  tools: string[];
}

type Obj = Record<string, unknown>;

function obj(v: unknown): Obj {
  return v && typeof v === "object" && !Array.isArray(v) ? (v as Obj) : {};
}
function arr(v: unknown): unknown[] {
  return Array.isArray(v) ? v : [];
}
function str(v: unknown): string {
  return typeof v === "string" ? v : "";
}
function pretty(v: unknown): string {
  return typeof v === "string" ? v : v === undefined ? "" : JSON.stringify(v, null, 2);
}
/** Arguments of a tool: JSON in a text, or a value. */
function args(v: unknown): string {
  if (typeof v !== "string") return pretty(v);
  try {
    return pretty(JSON.parse(v));
  } catch {
    return v;
  }
}

function roleOf(v: unknown): Turn["role"] {
  switch (v) {
    case "assistant":
    case "model":
      return "assistant";
    case "system":
    case "developer":
      return "system";
    case "tool":
    case "function":
      return "tool";
    default:
      return "user";
  }
}

/** One block of a content list, whichever API it is of. */
function part(v: unknown): Part {
  if (typeof v === "string") return { kind: "text", text: v };
  const b = obj(v);
  switch (b["type"]) {
    case "text":
    case "input_text":
    case "output_text":
    case "refusal":
      return { kind: "text", text: str(b["text"]) || str(b["refusal"]) };
    case "thinking":
    case "reasoning":
      return { kind: "thinking", text: str(b["thinking"]) || arr(b["summary"]).map((s) => str(obj(s)["text"])).join("\n") };
    case "redacted_thinking":
      return { kind: "thinking", text: "" };
    case "tool_use":
    case "server_tool_use":
      return { kind: "tool_use", name: str(b["name"]), text: args(b["input"]) };
    case "function_call":
    case "custom_tool_call":
      return { kind: "tool_use", name: str(b["name"]), text: args(b["arguments"] ?? b["input"]) };
    case "tool_result":
      return { kind: "tool_result", text: parts(b["content"]).map((p) => p.text).join("\n"), bad: b["is_error"] === true };
    case "function_call_output":
    case "custom_tool_call_output":
      return { kind: "tool_result", text: parts(b["output"]).map((p) => p.text).join("\n") };
    case "image":
    case "image_url":
    case "input_image":
      return { kind: "image", text: "" };
  }
  if (typeof b["text"] === "string") return { kind: b["thought"] === true ? "thinking" : "text", text: b["text"] }; // Gemini
  if (b["functionCall"]) return { kind: "tool_use", name: str(obj(b["functionCall"])["name"]), text: pretty(obj(b["functionCall"])["args"]) };
  if (b["functionResponse"]) return { kind: "tool_result", name: str(obj(b["functionResponse"])["name"]), text: pretty(obj(b["functionResponse"])["response"]) };
  if (b["inlineData"]) return { kind: "image", text: "" };
  return { kind: "other", text: pretty(v) };
}

function parts(content: unknown): Part[] {
  if (content === null || content === undefined || content === "") return [];
  return Array.isArray(content) ? content.map(part) : [part(content)];
}

function toolCalls(v: unknown): Part[] {
  return arr(v).map((c) => {
    const f = obj(obj(c)["function"]);
    return { kind: "tool_use", name: str(f["name"]), text: args(f["arguments"]) };
  });
}

function turn(v: unknown): Turn {
  const m = obj(v);
  if (m["role"] === undefined) {
    // an item of the Responses API
    const p = part(m);
    return { role: p.kind === "tool_result" ? "tool" : p.kind === "text" ? "user" : "assistant", parts: [p] };
  }
  const role = roleOf(m["role"]);
  let list = parts(m["content"] ?? m["parts"]);
  if (role === "tool") list = [{ kind: "tool_result", name: str(m["name"]) || undefined, text: list.map((p) => p.text).join("\n") }];
  list.push(...toolCalls(m["tool_calls"]));
  const results = list.length > 0 && list.every((p) => p.kind === "tool_result");
  return { role: results ? "tool" : role, parts: list };
}

function toolName(v: unknown): string[] {
  const t = obj(v);
  if (Array.isArray(t["functionDeclarations"])) return t["functionDeclarations"].map((f) => str(obj(f)["name"]));
  return [str(t["name"]) || str(obj(t["function"])["name"]) || str(t["type"])];
}

export function readRequest(text: string): Conversation {
  let body: Obj;
  try {
    body = obj(JSON.parse(text));
  } catch {
    return { turns: text ? [{ role: "user", parts: [{ kind: "other", text }] }] : [], tools: [] };
  }
  const turns: Turn[] = [];
  const system = body["system"] ?? body["instructions"] ?? obj(body["systemInstruction"] ?? body["system_instruction"])["parts"];
  const first = parts(system);
  if (first.length) turns.push({ role: "system", parts: first });
  const list = body["messages"] ?? body["input"] ?? body["contents"];
  if (typeof list === "string") turns.push({ role: "user", parts: [{ kind: "text", text: list }] });
  else turns.push(...arr(list).map(turn));
  return { turns: turns.filter((t) => t.parts.length > 0), tools: arr(body["tools"]).flatMap(toolName).filter(Boolean) };
}

/** The data of each event of a stream that was kept as a text. */
function events(text: string): Obj[] {
  const out: Obj[] = [];
  for (const block of text.split(/\r?\n\r?\n/)) {
    const data = block
      .split(/\r?\n/)
      .filter((l) => l.startsWith("data:"))
      .map((l) => l.slice(5).trimStart())
      .join("\n");
    if (!data || data === "[DONE]") continue;
    try {
      out.push(obj(JSON.parse(data)));
    } catch {
      // cut in the middle: what came whole is shown
    }
  }
  return out;
}

class Reply {
  parts: Part[] = [];
  private at = new Map<string, Part>();
  /** The part of this place, made when it is new. */
  place(key: string, kind: PartKind, name?: string): Part {
    let p = this.at.get(key);
    if (!p) {
      this.at.set(key, (p = { kind, text: "", name }));
      this.parts.push(p);
    }
    if (name && !p.name) p.name = name;
    return p;
  }
}

function anthropic(e: Obj, r: Reply): void {
  const key = String(e["index"]);
  if (e["type"] === "content_block_start") {
    const b = part(e["content_block"]);
    const p = r.place(key, b.kind, b.name);
    p.text = b.kind === "tool_use" ? "" : b.text;
  } else if (e["type"] === "content_block_delta") {
    const d = obj(e["delta"]);
    const kind = d["type"] === "input_json_delta" ? "tool_use" : d["type"] === "thinking_delta" ? "thinking" : "text";
    r.place(key, kind).text += str(d["text"]) + str(d["partial_json"]) + str(d["thinking"]);
  }
}

function responses(e: Obj, r: Reply): boolean {
  const kind = str(e["type"]);
  const key = `o${String(e["output_index"])}`;
  if (kind === "response.output_text.delta") r.place(key, "text").text += str(e["delta"]);
  else if (kind === "response.output_item.added" && obj(e["item"])["type"] === "function_call") r.place(key, "tool_use", str(obj(e["item"])["name"]));
  else if (kind === "response.function_call_arguments.delta") r.place(key, "tool_use").text += str(e["delta"]);
  else if (kind === "response.reasoning_summary_text.delta") r.place(key, "thinking").text += str(e["delta"]);
  return kind.startsWith("response.");
}

function chat(choice: Obj, r: Reply): void {
  const d = obj(choice["delta"] ?? choice["message"]);
  if (str(d["reasoning_content"])) r.place("think", "thinking").text += str(d["reasoning_content"]);
  if (str(d["content"])) r.place("text", "text").text += str(d["content"]);
  for (const c of arr(d["tool_calls"])) {
    const f = obj(obj(c)["function"]);
    r.place(`t${String(obj(c)["index"] ?? r.parts.length)}`, "tool_use", str(f["name"])).text += str(f["arguments"]);
  }
}

function gemini(candidate: Obj, r: Reply): void {
  for (const v of arr(obj(candidate["content"])["parts"])) {
    const p = part(v);
    if (p.kind === "text" || p.kind === "thinking") r.place(p.kind, p.kind).text += p.text;
    else r.parts.push(p);
  }
}

function readEvent(e: Obj, r: Reply): void {
  if (e["type"] === "error" || (e["error"] && typeof e["error"] === "object")) {
    r.parts.push({ kind: "other", text: str(obj(e["error"])["message"]) || pretty(e), bad: true });
    return;
  }
  if (Array.isArray(e["choices"])) for (const c of e["choices"]) chat(obj(c), r);
  else if (Array.isArray(e["candidates"])) for (const c of e["candidates"]) gemini(obj(c), r);
  else if (!responses(e, r)) anthropic(e, r);
}

/** A whole reply: a stream of events, or one JSON object. */
export function readReply(text: string): Turn | null {
  if (!text.trim()) return null;
  const r = new Reply();
  let whole: Obj | null = null;
  try {
    whole = obj(JSON.parse(text));
  } catch {
    for (const e of events(text)) readEvent(e, r);
  }
  if (whole) {
    if (whole["choices"] || whole["candidates"] || whole["error"]) readEvent(whole, r);
    else if (Array.isArray(whole["content"])) r.parts.push(...parts(whole["content"]));
    else for (const item of arr(whole["output"])) r.parts.push(...(obj(item)["content"] ? parts(obj(item)["content"]) : [part(item)]));
  }
  for (const p of r.parts) if (p.kind === "tool_use") p.text = args(p.text);
  const list = r.parts.filter((p) => p.text || p.name || p.kind === "image" || p.kind === "thinking");
  return list.length ? { role: "assistant", parts: list } : null;
}
