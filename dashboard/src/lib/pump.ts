// Between what a shell prints and what a terminal draws: a flood is given to it in pieces that leave time for a
// picture, and never more than a bound waits. What would be scrolled out of reach anyway is passed over, and that is said.

const BUDGET_MS = 7;
const PIECE_MIN = 4 << 10;
const PIECE_MAX = 256 << 10;
const WAITING_MAX = 4 << 20;
const KEPT = 2 << 20;

interface Sink {
  write(data: Uint8Array | string, done: () => void): void;
  /** Runs something before the next picture. */
  next(run: () => void): void;
  now(): number;
}

export class Pump {
  private queue: Uint8Array[] = [];
  private waiting = 0;
  private passed = 0;
  private running = false;
  private piece = 32 << 10;

  constructor(private sink: Sink) {}

  push(bytes: Uint8Array): void {
    this.queue.push(bytes);
    this.waiting += bytes.length;
    if (this.waiting > WAITING_MAX) this.passOver();
    if (this.running) return;
    this.running = true;
    this.step(); // nothing was waiting: what was typed is echoed at once
  }

  private passOver(): void {
    while (this.waiting > KEPT && this.queue.length > 1) {
      const gone = this.queue.shift()!.length;
      this.waiting -= gone;
      this.passed += gone;
    }
    // begin again with a whole line, so that no letter and no sequence is cut
    const first = this.queue[0]!;
    const cut = first.indexOf(10) + 1;
    this.queue[0] = first.subarray(cut);
    this.waiting -= cut;
    this.passed += cut;
  }

  private take(): Uint8Array {
    const parts: Uint8Array[] = [];
    let size = 0;
    while (this.queue.length && size < this.piece) {
      const first = this.queue[0]!;
      const n = Math.min(first.length, this.piece - size);
      parts.push(first.subarray(0, n));
      size += n;
      if (n === first.length) this.queue.shift();
      else this.queue[0] = first.subarray(n);
    }
    this.waiting -= size;
    if (parts.length === 1) return parts[0]!;
    const all = new Uint8Array(size);
    let at = 0;
    for (const p of parts) {
      all.set(p, at);
      at += p.length;
    }
    return all;
  }

  private step(): void {
    if (this.passed) {
      const text = `\x1b[0m\r\n[${this.passed} bytes came faster than they can be drawn; they are in the record]\r\n`;
      this.passed = 0;
      this.sink.write(text, () => undefined);
    }
    const bytes = this.take();
    const begin = this.sink.now();
    this.sink.write(bytes, () => {
      const took = this.sink.now() - begin;
      if (bytes.length >= this.piece / 2) {
        const fit = took > 0.5 ? (this.piece * BUDGET_MS) / took : this.piece * 2;
        this.piece = Math.round(Math.min(PIECE_MAX, Math.max(PIECE_MIN, (this.piece + fit) / 2)));
      }
      if (this.queue.length) this.sink.next(() => this.step());
      else this.running = false;
    });
  }
}
