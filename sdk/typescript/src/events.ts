/* Events: the live stream of the server, and claims of a client's own. */
import { CagedAPIError, CagedConnectionError, CagedTimeoutError } from "./errors.js";
import type { IngestEvent, Ingested } from "./models.js";
import { EventReader, type LiveEvent } from "./sse.js";
import { sleep, type RequestOptions, type Transport } from "./transport.js";
import { passing, pauseBefore, tooLong } from "./wire.js";

const SILENCE = 40_000; // the server says something every ten seconds
const ENDED = ["destroyed", "error"];

export interface StreamOptions {
  /** The record of this sandbox, then live, and it ends after the sandbox has; without: all of the account from now on. */
  sandboxId?: string;
  afterSeq?: number;
  lastEventId?: string;
  signal?: AbortSignal;
}

export class Events {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  /** Events as they become durable. A connection that breaks is made again and goes on after the last event that was
   * seen; an event comes once. When the server stays away, CagedConnectionError is thrown. */
  async *stream(options: StreamOptions = {}): AsyncGenerator<LiveEvent, void, undefined> {
    const { sandboxId, signal } = options;
    let last = options.lastEventId;
    let state = "";
    let failures = 0;
    for (;;) {
      const reader = new EventReader();
      let wait: number | undefined;
      const request: RequestOptions = {
        params: { sandbox_id: sandboxId, after_seq: sandboxId ? (options.afterSeq ?? 0) : undefined },
        headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) },
        timeout: SILENCE,
        ...(signal ? { signal } : {}),
      };
      try {
        for await (const bytes of this.#t.stream("/v1/events/stream", request))
          for (const event of reader.feed(bytes)) {
            failures = 0;
            last = event.id ?? last;
            if (event.type === "sandbox") state = String(event.data["status"]);
            yield event;
          }
        if (sandboxId && ENDED.includes(state)) return;
      } catch (error) {
        if (error instanceof CagedAPIError) {
          wait = error.retryAfter;
          if (!passing(error.status) || failures >= this.#t.retries || tooLong(wait)) throw error;
        } else if (!(error instanceof CagedConnectionError || error instanceof CagedTimeoutError) || failures >= this.#t.retries) {
          throw error;
        }
      }
      failures++;
      await sleep(pauseBefore(Math.min(failures, 6), wait), signal);
    }
  }

  /** Claims of the client's own, at most 1000. They never count towards cost. */
  ingest(events: IngestEvent[]): Promise<Ingested> {
    const timestamp = new Date().toISOString();
    return this.#t.json("POST", "/v1/events/ingest", { json: { events: events.map((e) => ({ timestamp, ...e })) } });
  }
}
