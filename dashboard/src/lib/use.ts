// Loading something for a page, with its states.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

export interface Loaded<T> {
  data: T | null;
  error: Error | null;
  busy: boolean;
  reload: () => void;
  set: (data: T) => void;
}

/** Calls load at first, whenever a key changes, and every everyMs while the page is looked at. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, keys: unknown[], everyMs = 0): Loaded<T> {
  const [data, set] = useState<T | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const [busy, setBusy] = useState(true);
  const [round, setRound] = useState(0);
  const current = useRef(load);
  current.current = load;
  const seen = useRef<unknown[]>(keys);
  if (seen.current.some((k, i) => k !== keys[i])) {
    seen.current = keys;
    if (data !== null) set(null);
    if (error !== null) setError(null);
  }
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const run = async () => {
      if (document.visibilityState === "visible" || round === 0) {
        setBusy(true);
        try {
          const got = await current.current(stop.signal);
          if (stop.signal.aborted) return;
          set(got);
          setError(null);
        } catch (e) {
          if (stop.signal.aborted) return;
          setError(e as Error);
        }
        setBusy(false);
      }
      if (everyMs) timer = setTimeout(() => void run(), everyMs);
    };
    void run();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [...keys, round, everyMs]);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  return { data, error, busy, reload, set };
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · Caged` : "Caged";
  }, [title]);
}
