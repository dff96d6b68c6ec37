/* Sends requests, repeats those that may be, turns failures into errors. */
import { CagedAPIError, CagedConnectionError, CagedError, CagedTimeoutError, apiError } from "./errors.js";
import * as wire from "./wire.js";
import { Socket, defaultWebSocket, type WebSocketConstructor } from "./socket.js";

export interface ClientOptions {
  /** `caged_sk_…`; by default the environment's CAGED_API_KEY. */
  apiKey?: string;
  /** http://HOST:PORT; by default CAGED_API_URL, then the server of this machine. */
  baseUrl?: string;
  /** Milliseconds for a whole answer (30 s); 0: none. */
  timeout?: number;
  /** In place of the global fetch. */
  fetch?: typeof globalThis.fetch;
  /** In place of the global WebSocket (Node before 22 has none and gets one of this package). */
  webSocket?: WebSocketConstructor;
  /** How often a request that may be repeated is (3). */
  retries?: number;
}

export interface RequestOptions {
  params?: Record<string, wire.Scalar>;
  json?: unknown;
  content?: BodyInit;
  headers?: Record<string, string>;
  /** Milliseconds in place of the client's. */
  timeout?: number;
  idempotent?: boolean;
  /** Ends the request from outside. */
  signal?: AbortSignal;
}

const NODE_TIMEOUT = 300_000; // Node's own fetch waits no longer for headers, or between two parts of a body

/** Drops members that are undefined or null: the server takes an absent one for its default. */
export function members<T extends object>(body: T): Partial<T> {
  return Object.fromEntries(Object.entries(body).filter(([, v]) => v !== undefined && v !== null)) as Partial<T>;
}

/** Ends after `ms`, or with the caller's signal; `touch` begins the wait anew. */
class Deadline {
  readonly #controller = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  late = false;

  constructor(
    readonly ms: number,
    readonly outer?: AbortSignal,
  ) {
    if (outer?.aborted) this.#stop();
    else outer?.addEventListener("abort", this.#stop);
    this.touch();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #stop = () => this.#controller.abort();

  touch(): void {
    clearTimeout(this.#timer);
    if (this.ms > 0)
      this.#timer = setTimeout(() => {
        this.late = true;
        this.#controller.abort();
      }, this.ms);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.outer?.removeEventListener("abort", this.#stop);
  }
}

export class Transport {
  readonly #key: string;
  readonly baseUrl: string;
  readonly timeout: number;
  readonly retries: number;
  readonly #fetch: typeof globalThis.fetch;
  readonly #webSocket: WebSocketConstructor | undefined;

  constructor(options: ClientOptions = {}) {
    this.#key = wire.checkKey(options.apiKey ?? wire.fromEnvironment("CAGED_API_KEY"));
    this.baseUrl = wire.checkUrl(options.baseUrl || wire.fromEnvironment("CAGED_API_URL") || wire.DEFAULT_URL);
    this.timeout = options.timeout ?? wire.DEFAULT_TIMEOUT;
    this.retries = Math.max(0, options.retries ?? wire.RETRIES);
    this.#fetch = options.fetch ?? ((...a) => globalThis.fetch(...a));
    this.#webSocket = options.webSocket;
  }

  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const { text } = await this.request(method, path, options);
    if (!text) return undefined as T;
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new CagedError(`${method} ${path}: the answer is not JSON`);
    }
  }

  async text(method: string, path: string, options: RequestOptions = {}): Promise<string> {
    return (await this.request(method, path, options)).text;
  }

  /** The bytes of a good answer. */
  async bytes(path: string, options: RequestOptions = {}): Promise<Uint8Array> {
    return (await this.request("GET", path, options)).bytes;
  }

  /** A good answer, whole; else CagedAPIError, CagedTimeoutError or CagedConnectionError. */
  async request(method: string, path: string, options: RequestOptions = {}): Promise<{ bytes: Uint8Array; text: string }> {
    const repeat = (options.idempotent ?? wire.mayRepeat(method)) ? this.retries : 0;
    for (let attempt = 0; ; ) {
      let wait: number | undefined;
      try {
        const response = await this.#once(method, path, options);
        const gone = response.status === 404 && method === "DELETE" && attempt > 0; // an earlier answer was lost
        if (response.ok || gone) return { bytes: response.bytes, text: new TextDecoder().decode(response.bytes) };
        const error = this.#failure(response.status, response.headers, new TextDecoder().decode(response.bytes));
        wait = error.retryAfter;
        if (attempt >= repeat || !wire.passing(response.status) || wire.tooLong(wait)) throw error;
      } catch (error) {
        if (!(error instanceof CagedConnectionError) || attempt >= repeat) throw error;
      }
      attempt++;
      await sleep(wire.pauseBefore(attempt, wait), options.signal);
    }
  }

  async #once(method: string, path: string, options: RequestOptions) {
    const deadline = new Deadline(options.timeout ?? this.timeout, options.signal);
    try {
      const response = await this.#send(method, path, options, deadline.signal);
      const bytes = new Uint8Array(await response.arrayBuffer());
      return { status: response.status, ok: response.ok, headers: response.headers, bytes };
    } catch (broken) {
      throw this.#explain(broken, deadline, `${method} ${path}`);
    } finally {
      deadline.end();
    }
  }

  /** A GET whose body is read as it comes; `timeout` holds for each wait. Not repeated: the caller knows how far it came. */
  async *stream(path: string, options: RequestOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const deadline = new Deadline(options.timeout ?? this.timeout, options.signal);
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    try {
      const response = await this.#send("GET", path, options, deadline.signal);
      if (!response.ok) throw this.#failure(response.status, response.headers, await response.text());
      reader = response.body?.getReader() as typeof reader;
      while (reader) {
        deadline.touch();
        const { done, value } = await reader.read();
        if (done) return;
        deadline.end(); // the consumer's own time does not count
        yield value;
      }
    } catch (broken) {
      throw this.#explain(broken, deadline, `GET ${path}`);
    } finally {
      deadline.end();
      await reader?.cancel().catch(() => undefined);
    }
  }

  #send(method: string, path: string, options: RequestOptions, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#key}`, ...options.headers };
    if (wire.isNode()) headers["User-Agent"] = wire.USER_AGENT; // a browser has a name of its own
    const init: RequestInit & { duplex?: string } = { method, headers, signal, redirect: "error" };
    if (options.json !== undefined) {
      headers["Content-Type"] = "application/json";
      init.body = JSON.stringify(options.json);
    } else if (options.content !== undefined) {
      headers["Content-Type"] = "application/octet-stream";
      init.body = options.content;
      init.duplex = "half";
    }
    return this.#fetch(this.baseUrl + path + wire.query(options.params ?? {}), init);
  }

  #failure(status: number, headers: Headers, text: string): CagedAPIError {
    const after = wire.retryAfter(headers.get("retry-after"));
    const id = headers.get("x-request-id");
    return apiError({ status, text, ...(after === undefined ? {} : { retryAfter: after }), ...(id ? { requestId: id } : {}) });
  }

  #explain(broken: unknown, deadline: Deadline, what: string): unknown {
    if (broken instanceof CagedError) return broken;
    if (deadline.late) return new CagedTimeoutError(deadline.ms, what);
    if (deadline.outer?.aborted) return deadline.outer.reason;
    const { code } = ((broken as Error).cause ?? {}) as { code?: string };
    if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT") return new CagedTimeoutError(NODE_TIMEOUT, what);
    const why = broken instanceof Error ? ((broken.cause as Error | undefined)?.message ?? broken.message) : String(broken);
    return new CagedConnectionError(`${what} at ${this.baseUrl}: ${why}`, { cause: broken });
  }

  /** What goes into `?token=`: a ticket, or the key with servers that know no tickets. */
  async ticket(): Promise<string> {
    try {
      return (await this.json<{ ticket: string }>("POST", "/v1/auth/socket-ticket", { idempotent: true })).ticket;
    } catch (error) {
      if (error instanceof CagedAPIError && error.status === 404) return this.#key;
      throw error;
    }
  }

  /** An open WebSocket of this subprotocol. A refused handshake carries no body, so a plain GET asks for the reason. */
  async socket(path: string, protocol: string, params: Record<string, wire.Scalar> = {}): Promise<Socket> {
    const token = await this.ticket();
    const make = this.#webSocket ?? (await defaultWebSocket());
    const url = "ws" + this.baseUrl.slice("http".length) + path + wire.query({ token, ...params });
    try {
      return await Socket.open(new make(url, [protocol]), protocol, wire.DEFAULT_TIMEOUT);
    } catch (broken) {
      if (broken instanceof CagedTimeoutError) throw broken;
      const reason = await this.request("GET", path, { idempotent: false }).catch((e: unknown) => e);
      if (reason instanceof CagedAPIError && reason.status !== 426) throw reason;
      throw new CagedConnectionError(`${protocol}: ${broken instanceof Error ? broken.message : String(broken)}`, { cause: broken });
    }
  }
}

export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}
