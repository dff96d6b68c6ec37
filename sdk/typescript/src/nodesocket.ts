/* A WebSocket client for Node before 22, which has none: RFC 6455 over node:http, as much of it as Socket uses.
 * Extensions are not offered. Messages are bounded, texts must be UTF-8, frames of a server must not be masked. */
import { createHash, randomBytes } from "node:crypto";
import { request as plain } from "node:http";
import { request as secure } from "node:https";
import type { Duplex } from "node:stream";

const MESSAGE_MAX = 16 * 1024 * 1024;
const CLOSE_WAIT = 5000;
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const enum Op { CONTINUE = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 }

class Broken extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

export class NodeWebSocket {
  binaryType = "arraybuffer";
  onopen: ((event: object) => void) | null = null;
  onmessage: ((event: { data: string | ArrayBuffer }) => void) | null = null;
  onerror: ((event: { message: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string; message: string }) => void) | null = null;

  #stream: Duplex | undefined;
  #input: Buffer = Buffer.alloc(0);
  #parts: Buffer[] = []; // of a message in fragments
  #partsOp = 0;
  #closing = false;
  #over = false;
  #code = 1006;
  #reason = "";
  readonly #abort: () => void;

  constructor(url: string, protocols: string[] = []) {
    const at = new URL(url);
    const key = randomBytes(16).toString("base64");
    const secured = at.protocol === "wss:";
    at.protocol = secured ? "https:" : "http:";
    const headers: Record<string, string> = {
      Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key,
    };
    if (protocols.length > 0) headers["Sec-WebSocket-Protocol"] = protocols.join(", ");
    const request = (secured ? secure : plain)(at, { headers, agent: false });
    this.#abort = () => request.destroy();
    request.on("error", (e) => this.#end(e.message));
    request.on("response", (answer) => {
      request.destroy();
      this.#end(`the handshake was answered with ${answer.statusCode}`);
    });
    request.on("upgrade", (answer, stream, head) => {
      const accept = createHash("sha1").update(key + GUID).digest("base64");
      const spoken = answer.headers["sec-websocket-protocol"];
      if (answer.headers["sec-websocket-accept"] !== accept || (spoken && !protocols.includes(spoken))) {
        stream.destroy();
        this.#end("the answer to the handshake is none of a WebSocket");
        return;
      }
      this.#begin(stream, head);
    });
    request.end();
  }

  send(data: string | Uint8Array): void {
    if (typeof data === "string") this.#frame(Op.TEXT, Buffer.from(data));
    else this.#frame(Op.BINARY, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  }

  close(code = 1000, reason = ""): void {
    if (!this.#stream) {
      this.#abort();
      return;
    }
    this.#sendClose(code, reason);
    const stream = this.#stream;
    setTimeout(() => stream.destroy(), CLOSE_WAIT).unref(); // for a server that does not answer
  }

  #begin(stream: Duplex, head: Buffer): void {
    this.#stream = stream;
    stream.on("error", () => undefined); // the close that follows ends it
    stream.on("close", () => this.#end("the connection broke"));
    stream.on("end", () => stream.end());
    this.onopen?.({});
    const take = (bytes: Buffer) => {
      this.#input = this.#input.length > 0 ? Buffer.concat([this.#input, bytes]) : bytes;
      try {
        while (this.#readFrame());
      } catch (e) {
        this.#sendClose(e instanceof Broken ? e.code : 1011, e instanceof Error ? e.message : "");
        stream.destroy();
      }
    };
    stream.on("data", take);
    if (head.length > 0) take(head);
  }

  #end(message: string): void {
    if (this.#over) return;
    this.#over = true;
    if (!this.#stream) this.onerror?.({ message });
    this.onclose?.({ code: this.#code, reason: this.#reason, message });
  }

  #frame(op: Op, data: Buffer): void {
    if (!this.#stream || this.#closing) return;
    const n = data.length;
    const long = n > 0xffff ? 8 : n > 125 ? 2 : 0;
    const out = Buffer.allocUnsafe(2 + long + 4 + n);
    out[0] = 0x80 | op;
    out[1] = 0x80 | (long === 8 ? 127 : long === 2 ? 126 : n);
    if (long === 2) out.writeUInt16BE(n, 2);
    if (long === 8) out.writeBigUInt64BE(BigInt(n), 2);
    const mask = randomBytes(4);
    mask.copy(out, 2 + long);
    const body = 2 + long + 4;
    for (let i = 0; i < n; i++) out[body + i] = (data[i] as number) ^ (mask[i & 3] as number);
    this.#stream.write(out);
  }

  #sendClose(code: number, reason: string): void {
    if (this.#closing) return;
    const data = Buffer.alloc(2 + Buffer.byteLength(reason.slice(0, 40)));
    data.writeUInt16BE(code, 0);
    data.write(reason.slice(0, 40), 2);
    this.#frame(Op.CLOSE, data.subarray(0, 125));
    this.#closing = true;
  }

  /** Takes one frame from the input; false when it is not there whole. */
  #readFrame(): boolean {
    const input = this.#input;
    if (input.length < 2) return false;
    const first = input[0] as number;
    const short = (input[1] as number) & 0x7f;
    const op = first & 0x0f;
    if (first & 0x70 || (input[1] as number) & 0x80) throw new Broken(1002, "a frame with reserved bits or a mask");
    let at = 2;
    let n = short;
    if (short === 126) {
      if (input.length < 4) return false;
      n = input.readUInt16BE(2);
      at = 4;
    } else if (short === 127) {
      if (input.length < 10) return false;
      const large = input.readBigUInt64BE(2);
      if (large > BigInt(MESSAGE_MAX)) throw new Broken(1009, "the message is too large");
      n = Number(large);
      at = 10;
    }
    const control = op >= Op.CLOSE;
    if (control && (n > 125 || !(first & 0x80))) throw new Broken(1002, "a control frame that is none");
    if (input.length < at + n) return false;
    this.#input = input.subarray(at + n);
    const data = input.subarray(at, at + n);
    if (control) this.#takeControl(op, data);
    else this.#takeData(op, data, Boolean(first & 0x80));
    return !this.#over;
  }

  #takeControl(op: number, data: Buffer): void {
    if (op === Op.PING) this.#frame(Op.PONG, data);
    else if (op === Op.CLOSE) {
      this.#code = data.length >= 2 ? data.readUInt16BE(0) : 1005;
      this.#reason = data.subarray(2).toString();
      this.#sendClose(this.#code === 1005 ? 1000 : this.#code, "");
      this.#stream?.end();
    } else if (op !== Op.PONG) throw new Broken(1002, "an unknown frame");
  }

  #takeData(op: number, data: Buffer, last: boolean): void {
    const begun = this.#partsOp !== 0;
    if (op > Op.BINARY || (op === Op.CONTINUE) !== begun) throw new Broken(1002, "a fragment out of place");
    if (!begun) this.#partsOp = op;
    this.#parts.push(data);
    if (this.#parts.reduce((n, p) => n + p.length, 0) > MESSAGE_MAX) throw new Broken(1009, "the message is too large");
    if (!last) return;
    const whole = Buffer.concat(this.#parts);
    const text = this.#partsOp === Op.TEXT;
    this.#parts = [];
    this.#partsOp = 0;
    this.onmessage?.({ data: text ? decode(whole) : new Uint8Array(whole).buffer });
  }
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Broken(1007, "a text that is no UTF-8");
  }
}
