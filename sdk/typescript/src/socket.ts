/* One open WebSocket as the rest of this package uses it: frames and an end, each told once. */
import { CagedConnectionError, CagedTimeoutError } from "./errors.js";
import { isNode } from "./wire.js";

/** What is used of the WebSocket of browsers; `ws` of npm fits, too. */
export interface WebSocketLike {
  binaryType: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketConstructor = new (url: string, protocols?: string[]) => WebSocketLike;

/** The WebSocket of the platform; Node before 22 has none, so there the one of this package. */
export async function defaultWebSocket(): Promise<WebSocketConstructor> {
  const own = (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
  if (own) return own;
  if (!isNode()) throw new CagedConnectionError("this platform has no WebSocket: give one as the option webSocket");
  return (await import("./nodesocket.js")).NodeWebSocket;
}

export type Frame = string | Uint8Array;

export interface Ended {
  code: number;
  reason: string;
  /** It ended by a closing handshake with a good status. */
  clean: boolean;
}

export class Socket {
  readonly #ws: WebSocketLike;
  #frames: Frame[] = []; // until somebody listens
  #take: ((frame: Frame) => void) | undefined;
  #end: ((ended: Ended) => void)[] = [];
  ended: Ended | undefined;

  private constructor(ws: WebSocketLike) {
    this.#ws = ws;
    ws.onmessage = ({ data }: { data: unknown }) => {
      const frame = typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer);
      if (this.#take) this.#take(frame);
      else this.#frames.push(frame);
    };
    ws.onerror = () => undefined; // the close that follows says it
    ws.onclose = ({ code = 1006, reason = "" }: { code?: number; reason?: string }) => {
      if (this.ended) return;
      this.ended = { code, reason: String(reason), clean: code === 1000 || code === 1001 || code === 1005 };
      for (const call of this.#end) call(this.ended);
    };
  }

  static open(ws: WebSocketLike, what: string, timeout: number): Promise<Socket> {
    return new Promise((resolve, reject) => {
      ws.binaryType = "arraybuffer";
      const timer = setTimeout(() => {
        ws.onclose = ws.onerror = null;
        ws.close();
        reject(new CagedTimeoutError(timeout, what));
      }, timeout);
      ws.onopen = () => {
        clearTimeout(timer);
        resolve(new Socket(ws));
      };
      ws.onerror = ws.onclose = (event: { message?: string }) => {
        clearTimeout(timer);
        reject(new Error(event.message || "the handshake was refused"));
      };
    });
  }

  /** Frames that came before go to `take` at once. */
  listen(take: (frame: Frame) => void, end: (ended: Ended) => void): void {
    this.#take = take;
    for (const frame of this.#frames) take(frame);
    this.#frames = [];
    this.#end.push(end);
    if (this.ended) end(this.ended);
  }

  send(data: string | Uint8Array): void {
    if (this.ended) throw new CagedConnectionError("the connection is closed");
    this.#ws.send(data as string | Uint8Array<ArrayBuffer>);
  }

  /** Resolves when it is closed. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.ended) return resolve();
      this.#end.push(() => resolve());
      this.#ws.close(1000);
    });
  }
}

/** What comes, in its order, for `for await`; ends once, with or without an error. */
export class Queue<T> implements AsyncIterable<T> {
  #items: T[] = [];
  #wake: (() => void)[] = [];
  #over = false;
  #error: unknown;

  push(item: T): void {
    if (this.#over) return;
    this.#items.push(item);
    this.#stir();
  }

  end(error?: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#stir();
  }

  /** What has come and has not been read. */
  drain(): T[] {
    return this.#items.splice(0);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      while (this.#items.length > 0) yield this.#items.shift() as T;
      if (this.#over) {
        if (this.#error !== undefined) throw this.#error;
        return;
      }
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  #stir(): void {
    for (const call of this.#wake.splice(0)) call();
  }
}
