/* Sandboxes: making and ending them, running commands in them, what is known of them. */
import type { Answer, CreateSandbox, Exec, ExecResult, Port, Sandbox } from "./api.js";
import { MCPClient } from "./mcp.js";
import type { TrustScore } from "./models.js";
import { ExecStream, TerminalSession } from "./streams.js";
import { members, type Transport } from "./transport.js";
import { CREATE_TIMEOUT, EXEC_TIMEOUT, segment } from "./wire.js";

/** Members of the request beside the template. */
export type CreateOptions = Partial<Omit<CreateSandbox, "template">> & {
  /** false: answers at once, in state pending. */
  wait?: boolean;
  /** Milliseconds (360 s). */
  requestTimeout?: number;
  [more: string]: unknown;
};

export interface ExecOptions extends Omit<Exec, "command"> {
  /** Milliseconds that the client waits (300 s); giving up ends the command. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface ExecStreamOptions extends Pick<Exec, "argv" | "cwd" | "env" | "user" | "timeout_ms"> {
  /** Its standard input is what `send` gives, until `eof`. */
  stdin?: boolean;
}

export const sandboxPath = (id: string, rest = "") => `/v1/sandboxes/${segment(id)}${rest}`;

export class Sandboxes {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  /** A new sandbox, running, with its repository cloned and its init script done. Never sent twice, so a broken
   * connection leaves the question to `list`. */
  create(template: string, options: CreateOptions = {}): Promise<Sandbox> {
    const { wait, requestTimeout = CREATE_TIMEOUT, ...rest } = options;
    const params = { wait: wait === false ? false : undefined };
    return this.#t.json("POST", "/v1/sandboxes", { params, json: members({ template, ...rest }), timeout: requestTimeout });
  }

  /** Oldest first; with `all` those that are destroyed, too. */
  list(options: { all?: boolean } = {}): Promise<Sandbox[]> {
    return this.#t.json("GET", "/v1/sandboxes", { params: { all: options.all || undefined } });
  }

  get(id: string): Promise<Sandbox> {
    return this.#t.json("GET", sandboxPath(id));
  }

  /** Changes its budget in US dollars while it runs; 0 takes it away. */
  update(id: string, changes: { budget?: number }): Promise<Sandbox> {
    return this.#t.json("PATCH", sandboxPath(id), { json: members(changes) });
  }

  /** Runs a shell command (or `argv`) and answers when it has ended; another exit code is no error. */
  exec(id: string, command?: string | null, options: ExecOptions = {}): Promise<ExecResult> {
    const { timeout = EXEC_TIMEOUT, signal, ...wish } = options;
    const json = members({ command, ...wish });
    return this.#t.json("POST", sandboxPath(id, "/exec"), { json, timeout, ...(signal ? { signal } : {}) });
  }

  /** Runs a command; its output comes by iterating over what this gives. */
  async execStream(id: string, command?: string | null, options: ExecStreamOptions = {}): Promise<ExecStream> {
    const socket = await this.#t.socket(sandboxPath(id, "/exec"), "exec");
    socket.send(JSON.stringify({ type: "start", ...members({ command, stdin: false, ...options }) }));
    return new ExecStream(socket);
  }

  /** A login shell; closing the session ends it. */
  async terminal(id: string, options: { rows?: number; cols?: number } = {}): Promise<TerminalSession> {
    const { rows = 24, cols = 80 } = options;
    return new TerminalSession(await this.#t.socket(sandboxPath(id, "/terminal"), "terminal", { rows, cols }));
  }

  /** The tools of a running sandbox; call `initialize` first. */
  async mcp(id: string, options: { timeout?: number } = {}): Promise<MCPClient> {
    return new MCPClient(await this.#t.socket(sandboxPath(id, "/mcp"), "mcp"), options.timeout);
  }

  async pause(id: string): Promise<void> {
    await this.#t.request("POST", sandboxPath(id, "/pause"), { timeout: CREATE_TIMEOUT });
  }

  async resume(id: string): Promise<void> {
    await this.#t.request("POST", sandboxPath(id, "/resume"), { timeout: CREATE_TIMEOUT });
  }

  /** Ends it in any state; nothing is left but its record. */
  async destroy(id: string): Promise<void> {
    await this.#t.request("DELETE", sandboxPath(id), { timeout: CREATE_TIMEOUT });
  }

  /** Live copies of a running or paused sandbox. */
  fork(id: string, count = 1, options: { name?: string } = {}): Promise<Answer<"forkSandbox">> {
    return this.#t.json("POST", sandboxPath(id, "/fork"), { json: members({ count, ...options }), timeout: CREATE_TIMEOUT });
  }

  /** Runs the init script of a sandbox that was made with defer_init. */
  runInit(id: string): Promise<Sandbox> {
    return this.#t.json("POST", sandboxPath(id, "/init"), { timeout: CREATE_TIMEOUT });
  }

  /** The last lines of its story for people. */
  logs(id: string, options: { tail?: number } = {}): Promise<Answer<"getLogs">> {
    return this.#t.json("GET", sandboxPath(id, "/logs"), { params: { tail: options.tail } });
  }

  ports(id: string): Promise<Port[]> {
    return this.#t.json("GET", sandboxPath(id, "/ports"));
  }

  /** Visitors of its preview are asked for the password from now on. */
  protectPort(id: string, port: number, password: string): Promise<Port> {
    return this.#t.json("POST", sandboxPath(id, `/ports/${segment(port)}/protect`), { json: { password } });
  }

  /** Nobody needs a password any more. */
  async unprotectPort(id: string, port: number): Promise<void> {
    await this.#t.request("DELETE", sandboxPath(id, `/ports/${segment(port)}/protect`));
  }

  /** A link to the port's preview that needs no password for so many seconds (an hour). */
  sharePort(id: string, port: number, options: { expires_in?: number } = {}): Promise<Answer<"sharePort">> {
    return this.#t.json("POST", sandboxPath(id, `/ports/${segment(port)}/share`), { json: members(options) });
  }

  /** One row for each of its sessions. */
  trustScores(id: string): Promise<TrustScore[]> {
    return this.#t.json("GET", `/v1/trust/sandboxes/${segment(id)}`);
  }

  /** @deprecated `trustScores` */
  trustScore(id: string): Promise<TrustScore[]> {
    return this.trustScores(id);
  }

  /** What its warden says, with its costs as they are this moment. */
  status(id: string): Promise<Record<string, unknown>> {
    return this.#t.json("GET", sandboxPath(id, "/status"));
  }

  /** The last sample of the guest's use, null before the first. */
  metrics(id: string): Promise<Record<string, unknown> | null> {
    return this.#t.json("GET", sandboxPath(id, "/metrics"));
  }

  /** Terminals that are open. */
  terminals(id: string): Promise<Answer<"listTerminals">> {
    return this.#t.json("GET", sandboxPath(id, "/terminal/sessions"));
  }

  /** What it may reach. */
  network(id: string): Promise<Answer<"network">> {
    return this.#t.json("GET", sandboxPath(id, "/network"));
  }
}
