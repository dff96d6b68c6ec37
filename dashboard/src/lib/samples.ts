// What a sandbox's guest uses, sampled while a page of that sandbox is open, so that the charts have a past.
import { useEffect } from "preact/hooks";
import { get } from "./api";
import { Store } from "./store";
import type { Sandbox, WardenStatus } from "./types";

export interface Sample {
  at: number;
  cpu: number;
  mem: number;
  disk: number;
  procs: number;
  out: number;
  in: number;
}

export interface Sampled {
  status: WardenStatus | null;
  samples: Sample[];
  error: Error | null;
}

const EVERY_MS = 2500;
const KEPT = 1200;
const all = new Map<string, Store<Sampled>>();

export function sampledOf(id: string): Store<Sampled> {
  let s = all.get(id);
  if (!s) all.set(id, (s = new Store<Sampled>({ status: null, samples: [], error: null })));
  return s;
}

async function take(id: string, signal: AbortSignal): Promise<void> {
  const store = sampledOf(id);
  try {
    const w = await get<WardenStatus>(`/v1/sandboxes/${id}/status`, undefined, signal);
    const m = w.metrics;
    const next = m
      ? { at: Date.now() / 1000, cpu: m.cpu_percent, mem: m.memory_used_mb, disk: m.disk_used_mb, procs: m.num_processes, out: w.network?.["bytes_out"] ?? 0, in: w.network?.["bytes_in"] ?? 0 }
      : null;
    store.value = { status: w, samples: next ? [...store.value.samples, next].slice(-KEPT) : store.value.samples, error: null };
  } catch (e) {
    if (!signal.aborted) store.value = { ...store.value, error: e as Error };
  }
}

/** Samples while the component is there and the sandbox runs. */
export function useSampling(s: Sandbox | undefined): void {
  const id = s?.status === "running" ? s.id : null;
  useEffect(() => {
    if (!id) return;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const run = async () => {
      if (document.visibilityState === "visible") await take(id, stop.signal);
      if (!stop.signal.aborted) timer = setTimeout(() => void run(), EVERY_MS);
    };
    void run();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [id]);
}
