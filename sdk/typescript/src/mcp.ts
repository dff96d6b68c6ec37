/* A client of the Model Context Protocol over an open WebSocket: JSON-RPC 2.0, one message a text frame. */
import { CagedConnectionError, CagedTimeoutError, MCPError, objectIn } from "./errors.js";
import { EXEC_TIMEOUT, VERSION } from "./wire.js";
import type { Frame, Socket } from "./socket.js";

const PROTOCOL = "2024-11-05";
const PAGES_MAX = 1000;

type Json = Record<string, unknown>;

export interface MCPTool {
  name: string;
  description?: string;
  inputSchema?: Json;
  [more: string]: unknown;
}

export interface MCPResult {
  content?: { type: string; text?: string; [more: string]: unknown }[];
  structuredContent?: Json;
  /** The tool itself failed. */
  isError?: boolean;
  [more: string]: unknown;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Calls may run side by side; each waits for its own answer, at most `timeout` milliseconds. */
export class MCPClient {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #notified: ((method: string, params: unknown) => void)[] = [];
  readonly #close: (() => void)[] = [];
  #last = 0;
  closed = false;

  constructor(
    socket: Socket,
    readonly timeout: number = EXEC_TIMEOUT,
  ) {
    this.#socket = socket;
    socket.listen(
      (frame) => this.#take(frame),
      () => this.#over(),
    );
  }

  /** Has to come first: what the server is and can do. */
  async initialize(): Promise<Json> {
    const clientInfo = { name: "@caged-dev/sdk", version: VERSION };
    const answer = await this.call("initialize", { protocolVersion: PROTOCOL, capabilities: {}, clientInfo });
    this.#send({ jsonrpc: "2.0", method: "notifications/initialized" });
    return (answer ?? {}) as Json;
  }

  async listTools(): Promise<MCPTool[]> {
    return (await this.#all("tools/list", "tools")) as MCPTool[];
  }

  /** The result as the server sent it; `isError` in it says that the tool itself failed. */
  async callTool(name: string, args: Json = {}): Promise<MCPResult> {
    return ((await this.call("tools/call", { name, arguments: args })) ?? {}) as MCPResult;
  }

  listResources(): Promise<Json[]> {
    return this.#all("resources/list", "resources");
  }

  async readResource(uri: string): Promise<Json> {
    return ((await this.call("resources/read", { uri })) ?? {}) as Json;
  }

  listPrompts(): Promise<Json[]> {
    return this.#all("prompts/list", "prompts");
  }

  async getPrompt(name: string, args: Json = {}): Promise<Json> {
    return ((await this.call("prompts/get", { name, arguments: args })) ?? {}) as Json;
  }

  async ping(): Promise<void> {
    await this.call("ping");
  }

  /** Any method by name; its result, or MCPError. */
  call(method: string, params?: Json): Promise<unknown> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new CagedTimeoutError(this.timeout, method));
      }, this.timeout);
      const ended = <T>(then: (value: T) => void) => (value: T) => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        then(value);
      };
      this.#waiting.set(id, { resolve: ended(resolve), reject: ended(reject) });
      try {
        this.#send({ jsonrpc: "2.0", id, method, ...(params ? { params } : {}) });
      } catch (error) {
        this.#waiting.get(id)?.reject(error as Error);
      }
    });
  }

  /** For every message without an id. */
  onNotification(call: (method: string, params: unknown) => void): void {
    this.#notified.push(call);
  }

  onClose(call: () => void): void {
    this.#close.push(call);
    if (this.closed) call();
  }

  close(): Promise<void> {
    return this.#socket.close();
  }

  /** All pages of a list; a server that never ends is cut. */
  async #all(method: string, member: string): Promise<Json[]> {
    const found: Json[] = [];
    let params: Json = {};
    for (let i = 0; i < PAGES_MAX; i++) {
      const page = ((await this.call(method, params)) ?? {}) as Json;
      if (Array.isArray(page[member])) found.push(...(page[member] as Json[]));
      if (!page["nextCursor"]) break;
      params = { cursor: page["nextCursor"] };
    }
    return found;
  }

  #send(message: Json): void {
    this.#socket.send(JSON.stringify(message));
  }

  #take(frame: Frame): void {
    const said = objectIn(typeof frame === "string" ? frame : new TextDecoder().decode(frame));
    if (typeof said["method"] === "string" && !("id" in said)) {
      for (const call of this.#notified) call(said["method"], said["params"]);
      return;
    }
    const waiting = typeof said["id"] === "number" ? this.#waiting.get(said["id"]) : undefined;
    const error = said["error"] as { code?: unknown; message?: unknown; data?: unknown } | null | undefined;
    if (error && typeof error === "object")
      waiting?.reject(new MCPError(typeof error.code === "number" ? error.code : 0, String(error.message ?? ""), error.data));
    else waiting?.resolve(said["result"]);
  }

  #over(): void {
    this.closed = true;
    const gone = new CagedConnectionError("the connection closed before the answer came");
    for (const waiting of [...this.#waiting.values()]) waiting.reject(gone);
    for (const call of this.#close) call();
  }
}
