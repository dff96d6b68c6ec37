/* What runs over WebSockets in a sandbox: a terminal, and a command whose output comes as it is written. A handshake
 * takes a ticket that was got just before; the key itself goes into an address only with servers that know no tickets.
 * Bytes of a guest are data: a message that is not understood is ignored. */
import { CagedConnectionError, CagedError, objectIn } from "./errors.js";
import { Queue, type Ended, type Frame, type Socket } from "./socket.js";

/** `await using` where the platform has it. */
export const asyncDispose: typeof Symbol.asyncDispose = (Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")) as typeof Symbol.asyncDispose;

export interface AsyncDisposableLike {
  [Symbol.asyncDispose](): Promise<void>;
}

/** A text frame as a message; one that is no JSON object is raw output, as contracts of old have it. */
function message(frame: Frame): Record<string, unknown> {
  const text = typeof frame === "string" ? frame : new TextDecoder().decode(frame);
  const value = objectIn(text);
  return Object.keys(value).length > 0 || text.trim() === "{}" ? value : { type: "output", data: text };
}

function codeIn(said: Record<string, unknown>): number | null {
  const code = said["exit_code"] ?? said["code"];
  return typeof code === "number" && Number.isInteger(code) ? code : null;
}

/** An open terminal. Iterate over it for the output, or set callbacks: output goes to the callbacks once there is one. */
export class TerminalSession implements AsyncIterable<string>, AsyncDisposableLike {
  readonly #socket: Socket;
  readonly #queue = new Queue<string>();
  readonly #output: ((text: string) => void)[] = [];
  readonly #close: (() => void)[] = [];
  readonly #error: ((error: Error) => void)[] = [];
  readonly #ended: Promise<void>;
  /** Known once the shell has ended; null until then and when the server did not say it. */
  exitCode: number | null = null;
  closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#ended = new Promise((resolve) => {
      socket.listen(
        (frame) => this.#take(message(frame)),
        (ended) => {
          this.#over(ended);
          resolve();
        },
      );
    });
  }

  /** Keystrokes. */
  send(data: string): void {
    this.#socket.send(JSON.stringify({ type: "input", data }));
  }

  resize(rows: number, cols: number): void {
    this.#socket.send(JSON.stringify({ type: "resize", rows, cols }));
  }

  onOutput(call: (text: string) => void): void {
    this.#output.push(call);
    for (const said of this.#queue.drain()) call(said);
  }

  onClose(call: () => void): void {
    this.#close.push(call);
    if (this.closed) call();
  }

  onError(call: (error: Error) => void): void {
    this.#error.push(call);
  }

  /** Ends the shell. */
  async close(): Promise<void> {
    await this.#socket.close();
    await this.#ended;
  }

  /** Until the shell ends; its exit code. */
  async wait(): Promise<number | null> {
    await this.#ended;
    return this.exitCode;
  }

  [Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    return this.#queue[Symbol.asyncIterator]();
  }

  [asyncDispose](): Promise<void> {
    return this.close();
  }

  #take(said: Record<string, unknown>): void {
    if (said["type"] === "output" && typeof said["data"] === "string") {
      for (const call of this.#output) call(said["data"]);
      if (this.#output.length === 0) this.#queue.push(said["data"]);
    } else if (said["type"] === "exit") {
      this.exitCode = codeIn(said);
    } else if (said["type"] === "error") {
      for (const call of this.#error) call(new CagedError(String(said["message"] ?? "error")));
    }
  }

  #over(ended: Ended): void {
    this.closed = true;
    if (!ended.clean)
      for (const call of this.#error) call(new CagedConnectionError(`the terminal's connection broke (${ended.code}) ${ended.reason}`));
    this.#queue.end();
    for (const call of this.#close) call();
  }
}

/** A piece of output: channel 1 is standard output, 2 is standard error. */
export type OutputPart = [channel: 1 | 2, text: string];

/** A command that runs. Iterating gives its output as text, both outputs in the order in which they come.
 *
 * Read it to the end, or close it: closing ends the command. */
export class ExecStream implements AsyncIterable<string>, AsyncDisposableLike {
  readonly #socket: Socket;
  readonly #queue = new Queue<OutputPart>();
  readonly #parts = { 1: "", 2: "" };
  readonly #decoders = { 1: new TextDecoder(), 2: new TextDecoder() };
  /** null until the command has ended, and when that is not known. */
  exitCode: number | null = null;
  signal: string | null = null;
  timedOut = false;
  closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.listen(
      (frame) => this.#take(frame),
      (ended) => this.#over(ended),
    );
  }

  /** Standard output as far as it has come. */
  get stdout(): string {
    return this.#parts[1];
  }

  /** Standard error as far as it has come. */
  get stderr(): string {
    return this.#parts[2];
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    for await (const [, text] of this.channels()) yield text;
  }

  /** The same with the channel in front. */
  channels(): AsyncGenerator<OutputPart, void, undefined> {
    return this.#queue[Symbol.asyncIterator]();
  }

  /** All of its output; afterwards `exitCode` is known. */
  async text(): Promise<string> {
    let all = "";
    for await (const part of this) all += part;
    return all;
  }

  /** For its standard input, if it was started with `stdin: true`. */
  send(data: string | Uint8Array): void {
    const raw = typeof data === "string" ? new TextEncoder().encode(data) : data;
    const framed = new Uint8Array(raw.length + 1); // channel 0
    framed.set(raw, 1);
    this.#socket.send(framed);
  }

  /** No more input. */
  eof(): void {
    this.#socket.send(JSON.stringify({ type: "eof" }));
  }

  /** Sends the signal to the command. */
  kill(signal = "KILL"): void {
    this.#socket.send(JSON.stringify({ type: "signal", signal }));
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.#socket.close();
  }

  [asyncDispose](): Promise<void> {
    return this.close();
  }

  #take(frame: Frame): void {
    if (typeof frame !== "string") {
      const channel = frame[0];
      if (channel === 1 || channel === 2) this.#said(channel, this.#decoders[channel].decode(frame.subarray(1), { stream: true }));
      return;
    }
    const said = message(frame);
    if (said["type"] === "exit") {
      this.exitCode = codeIn(said);
      this.signal = typeof said["signal"] === "string" ? said["signal"] : null;
      this.timedOut = Boolean(said["timed_out"]);
    } else if (said["type"] === "error") {
      this.#queue.end(new CagedError(String(said["message"] ?? "the command could not be run")));
    }
  }

  #said(channel: 1 | 2, text: string): void {
    if (!text) return;
    this.#parts[channel] += text;
    this.#queue.push([channel, text]);
  }

  #over(ended: Ended): void {
    for (const channel of [1, 2] as const) this.#said(channel, this.#decoders[channel].decode());
    const known = this.exitCode !== null || this.signal !== null || this.closed;
    this.closed = true;
    this.#queue.end(known ? undefined : new CagedConnectionError(`the command's connection broke (${ended.code}) ${ended.reason}`));
  }
}
