// Server-sent events over fetch, since EventSource cannot carry a key. Reconnects with a growing
// pause and resumes behind the last id.
import { ApiError, request, type Params } from "./api";
import { SseParser, type SseEvent } from "./sse-parser";

export interface Stream {
  close(): void;
}

interface Handlers {
  /** Called before each connection: what to ask for now. */
  params?: () => Params;
  event(e: SseEvent): void;
  /** All events of one piece from the network have been given out. */
  flush?(): void;
  state?(up: boolean): void;
  /** The server ended the stream itself; true: that was the end, do not come again. */
  ended?(): boolean;
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

export function stream(path: string, h: Handlers): Stream {
  const stop = new AbortController();
  void (async () => {
    let pause = FIRST_PAUSE_MS;
    while (!stop.signal.aborted) {
      try {
        const response = await request("GET", path, { params: h.params?.(), signal: stop.signal });
        h.state?.(true);
        const parser = new SseParser();
        const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          pause = FIRST_PAUSE_MS;
          parser.push(value, h.event);
          h.flush?.();
        }
        if (h.ended?.()) return;
      } catch (cause) {
        if (stop.signal.aborted) return;
        if (cause instanceof ApiError && cause.status >= 400 && cause.status < 500 && cause.status !== 429) return;
      }
      h.state?.(false);
      await new Promise((resolve) => setTimeout(resolve, pause));
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
  })();
  return { close: () => stop.abort() };
}
