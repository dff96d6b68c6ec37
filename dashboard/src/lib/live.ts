// The account's sandboxes, live: the list once, then one stream for all of them. The stream also
// tells how busy each is (events a second, for the sparkline) and feeds whoever listens to lines.
import { get, onToken, signedIn } from "./api";
import { stream, type Stream } from "./sse";
import { Store } from "./store";
import type { Sandbox } from "./types";

export const sandboxes = new Store<Map<string, Sandbox> | null>(null);
/** null: not connected yet. */
export const connected = new Store<boolean | null>(null);
export const listError = new Store<string | null>(null);

const BUCKETS = 40;
const BUCKET_MS = 2000;
const REFRESH_MS = 15_000;

/** Events of the last 80 seconds by sandbox, newest last. */
export const activity = new Store<Map<string, number[]>>(new Map());
const counting = new Map<string, number>();
const typeListeners = new Set<(type: string) => void>();

/** Tells the type of every line of the account as it comes; they are not parsed, for there may be very many. Of costs, which come each second, what is about a budget is told apart. */
export function onLine(tell: (type: string) => void): () => void {
  typeListeners.add(tell);
  return () => typeListeners.delete(tell);
}

export function putSandbox(s: Sandbox): void {
  const next = new Map(sandboxes.value ?? []);
  next.set(s.id, s);
  sandboxes.value = next;
}

export async function refresh(): Promise<void> {
  try {
    const list = await get<Sandbox[]>("/v1/sandboxes", { all: true });
    sandboxes.value = new Map(list.map((s) => [s.id, s]));
    listError.value = null;
  } catch (e) {
    listError.value = (e as Error).message;
  }
}

let live: Stream | null = null;
let timers: ReturnType<typeof setInterval>[] = [];

function tick(): void {
  const next = new Map<string, number[]>();
  for (const id of new Set([...activity.value.keys(), ...counting.keys()])) {
    const row = [...(activity.value.get(id) ?? new Array<number>(BUCKETS).fill(0)).slice(1), counting.get(id) ?? 0];
    if (row.some((n) => n > 0)) next.set(id, row);
  }
  counting.clear();
  if (next.size || activity.value.size) activity.value = next;
}

function start(): void {
  if (live) return;
  void refresh();
  let wasDown = false;
  live = stream("/v1/events/stream", {
    event(e) {
      if (e.event === "sandbox") {
        putSandbox(JSON.parse(e.data) as Sandbox);
        return;
      }
      const id = e.id?.slice(0, e.id.indexOf(":"));
      if (id) counting.set(id, (counting.get(id) ?? 0) + 1);
      const type = e.event === "cost" && e.data.includes('"event":"budget_') ? "budget" : e.event;
      for (const tell of typeListeners) tell(type);
    },
    state(up) {
      connected.value = up;
      if (up && wasDown) void refresh();
      wasDown = !up;
    },
  });
  timers = [
    setInterval(tick, BUCKET_MS),
    setInterval(() => {
      if (document.visibilityState === "visible") void refresh();
    }, REFRESH_MS),
  ];
}

function stop(): void {
  live?.close();
  live = null;
  for (const t of timers) clearInterval(t);
  sandboxes.value = null;
  connected.value = null;
  activity.value = new Map();
}

export function followAccount(): void {
  const turn = () => (signedIn() ? start() : stop());
  onToken(turn);
  turn();
}
