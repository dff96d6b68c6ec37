// The text of an event stream, taken as it comes and cut anywhere, as whole events. Pure.

export interface SseEvent {
  id?: string;
  event: string;
  data: string;
}

/** Takes text as it comes and gives whole events out. */
export class SseParser {
  private rest = "";
  private id: string | undefined;
  private event = "";
  private data: string[] = [];

  push(text: string, out: (e: SseEvent) => void): void {
    this.rest += text;
    let from = 0;
    for (;;) {
      const end = this.rest.indexOf("\n", from);
      if (end < 0) break;
      let line = this.rest.slice(from, end);
      if (line.endsWith("\r")) line = line.slice(0, -1);
      from = end + 1;
      this.line(line, out);
    }
    this.rest = this.rest.slice(from);
  }

  private line(line: string, out: (e: SseEvent) => void): void {
    if (line === "") {
      if (this.data.length) out({ id: this.id, event: this.event || "message", data: this.data.join("\n") });
      this.id = undefined;
      this.event = "";
      this.data = [];
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") this.data.push(value);
    else if (name === "event") this.event = value;
    else if (name === "id") this.id = value;
  }
}
