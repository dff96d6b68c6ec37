/* Server-sent events: bytes in, events out. Follows the HTML standard's section on event streams. */

/** One event of the stream. `id` is `<sandbox>:<sequence>` for a line of a record, absent for the state of a sandbox. */
export interface LiveEvent {
  type: string;
  data: Record<string, unknown>;
  id?: string;
  sandbox_id?: string;
  sequence?: number;
}

const LINE_MAX = 16 * 1024 * 1024;

export class EventReader {
  readonly #decoder = new TextDecoder();
  #rest = "";
  #fields: { data?: string; event?: string; id?: string } = {};

  /** The events that these bytes complete. */
  feed(bytes: Uint8Array): LiveEvent[] {
    const found: LiveEvent[] = [];
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() as string;
    if (this.#rest.length > LINE_MAX) throw new Error("a line of the event stream does not end");
    for (const line of lines) {
      const event = this.#line(line);
      if (event) found.push(event);
    }
    return found;
  }

  #line(line: string): LiveEvent | undefined {
    if (!line) {
      const fields = this.#fields;
      this.#fields = {};
      return eventOf(fields);
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#fields.data = this.#fields.data === undefined ? value : this.#fields.data + "\n" + value;
    else if (name === "event") this.#fields.event = value;
    else if (name === "id" && !value.includes("\0")) this.#fields.id = value;
    return undefined;
  }
}

function eventOf(fields: { data?: string; event?: string; id?: string }): LiveEvent | undefined {
  if (fields.data === undefined) return undefined;
  let data: unknown;
  try {
    data = JSON.parse(fields.data);
  } catch {
    return undefined;
  }
  if (typeof data !== "object" || data === null || Array.isArray(data)) return undefined;
  const members = data as Record<string, unknown>;
  const event: LiveEvent = { type: fields.event || "message", data: members };
  const sandbox = members[event.type === "sandbox" ? "id" : "sandbox_id"];
  if (fields.id) event.id = fields.id;
  if (typeof sandbox === "string") event.sandbox_id = sandbox;
  if (typeof members["seq"] === "number") event.sequence = members["seq"];
  return event;
}
