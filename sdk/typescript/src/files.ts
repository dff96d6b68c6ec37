/* Files in a sandbox: texts, bytes of any size, folders, and what git says of a tree. */
import type { Answer, Entry } from "./api.js";
import { sandboxPath } from "./sandboxes.js";
import type { Transport } from "./transport.js";
import { EXEC_TIMEOUT } from "./wire.js";

/** Bytes that can be sent: whole ones may be sent again after a failure, a stream never. */
export type Upload = Uint8Array | ArrayBuffer | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

export class Files {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  list(sandbox: string, path = "/workspace"): Promise<Entry[]> {
    return this.#t.json("GET", sandboxPath(sandbox, "/files"), { params: { path } });
  }

  /** A text of at most 1 MB; `download` takes any file. */
  read(sandbox: string, path: string): Promise<string> {
    return this.#t.text("GET", sandboxPath(sandbox, "/files/content"), { params: { path } });
  }

  /** Replaces a text file; folders above it are made. */
  async write(sandbox: string, path: string, content: string): Promise<void> {
    await this.#t.request("PUT", sandboxPath(sandbox, "/files/content"), { params: { path }, json: { content } });
  }

  /** The bytes of a file, in memory; `streamDownload` for large ones. */
  download(sandbox: string, path: string): Promise<Uint8Array> {
    return this.#t.bytes(sandboxPath(sandbox, "/files/raw"), { params: { path }, timeout: EXEC_TIMEOUT });
  }

  /** The bytes of a file as they come. */
  streamDownload(sandbox: string, path: string): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#t.stream(sandboxPath(sandbox, "/files/raw"), { params: { path } });
  }

  /** Replaces a file; it is there whole or not at all. */
  upload(sandbox: string, path: string, data: Upload): Promise<void> {
    return this.#put(sandbox, "/files/raw", path, data);
  }

  /** A folder as a tar stream. */
  archive(sandbox: string, path = "/workspace"): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#t.stream(sandboxPath(sandbox, "/files/archive"), { params: { path } });
  }

  /** Unpacks a tar stream below a folder, never outside of it. */
  unpack(sandbox: string, data: Upload, path = "/workspace"): Promise<void> {
    return this.#put(sandbox, "/files/archive", path, data);
  }

  async delete(sandbox: string, path: string, options: { recursive?: boolean } = {}): Promise<void> {
    await this.#t.request("DELETE", sandboxPath(sandbox, "/files"), { params: { path, recursive: options.recursive || undefined } });
  }

  /** A folder and those above it. */
  async mkdir(sandbox: string, path: string): Promise<void> {
    await this.#t.request("POST", sandboxPath(sandbox, "/files/mkdir"), { json: { path }, idempotent: true });
  }

  async rename(sandbox: string, from: string, to: string): Promise<void> {
    await this.#t.request("POST", sandboxPath(sandbox, "/files/rename"), { json: { from, to } });
  }

  /** What git says of a working tree, by default that in /workspace. */
  gitDiff(sandbox: string, path?: string): Promise<Answer<"gitDiff">> {
    return this.#t.json("GET", sandboxPath(sandbox, "/git/diff"), { params: { path } });
  }

  async #put(sandbox: string, rest: string, path: string, data: Upload): Promise<void> {
    const whole = data instanceof Uint8Array || data instanceof ArrayBuffer || data instanceof Blob;
    const content = whole || data instanceof ReadableStream ? data : streamOf(data);
    await this.#t.request("PUT", sandboxPath(sandbox, rest), {
      params: { path },
      content: content as BodyInit,
      timeout: EXEC_TIMEOUT,
      idempotent: whole,
    });
  }
}

/** ReadableStream.from, which not all platforms have. */
function streamOf(data: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const parts = data[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await parts.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await parts.return?.();
    },
  });
}
